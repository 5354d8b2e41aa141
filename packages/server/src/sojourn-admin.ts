#!/usr/bin/env node
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import type { ForgetReport } from "@sojourn/core"
import { adminTokens } from "./admin.ts"
import { FORGET_PATH } from "./front.ts"
import { primitives } from "./primitives.ts"

// `sojourn-admin forget <pop> --heir <pop> --url <url of any running POP>`: gives up a POP whose store is destroyed for good. Prints what was done at
// which POP and what is missing; ends with 0 only if all was done. Run it again until it does: it begins again without harm.

const usage = `usage: sojourn-admin forget <pop> --heir <pop> --url http://host:port [--secret-file <path>]

Gives up POP <pop>, which you know to be destroyed: its store will never come back. What only it had is lost, and clients are told so.
--heir         takes its place as the home of its actors; the same at every run
--url          any running POP that was started with admin: true
--secret-file  holds the mesh secret; without it the environment variable SOJOURN_MESH_SECRET does`

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { heir: { type: "string" }, url: { type: "string" }, "secret-file": { type: "string" } },
  })
  const [command, pop, ...rest] = positionals
  const { heir, url, "secret-file": file } = values
  const secret = file === undefined ? process.env["SOJOURN_MESH_SECRET"] : readFileSync(file, "utf8").trim()
  if (command !== "forget" || !pop || rest.length > 0 || !heir || !url || !secret) {
    console.error(usage)
    return 2
  }
  const [token] = adminTokens([secret], primitives)
  const response = await fetch(new URL(FORGET_PATH, url), {
    method: "POST",
    headers: { authorization: `Bearer ${token ?? ""}`, "content-type": "application/json" },
    body: JSON.stringify({ pop, heir }),
  })
  const text = await response.text()
  if (response.status !== 200) {
    console.error(`sojourn-admin: ${url} answered ${response.status}: ${text}`)
    return 1
  }
  const report = JSON.parse(text) as ForgetReport
  for (const one of report.pops)
    console.log(`${one.pop}: ${one.refuses ? `refuses ${pop}` : `NOT REACHED: ${one.reason ?? "unknown"}`}`)
  console.log(
    `actors revived: ${report.revived}, homes told: ${report.told}, ${heir} is home for ${pop}: ${report.inherited ? "yes" : "not yet"}`,
  )
  if (!report.complete) console.error(`incomplete: ${report.reason ?? "unknown"}. Run this again.`)
  return report.complete ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  // That a fetch has failed is its message; why, its cause.
  const { cause } = error as { cause?: unknown }
  const said = [error, cause].filter((one) => one instanceof Error).map(({ message }) => message)
  console.error(`sojourn-admin: ${said.join(": ") || String(error)}`)
  process.exitCode = 1
}
