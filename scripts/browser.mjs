// The browser that `npm test` drives: Debian's own Chromium, since a download of one would be a second way to get software
// onto the machine. As root on a Debian or Ubuntu machine it is installed; elsewhere the message says what to install.
// `npm start` and the rest of the tests do without it.

import { accessSync, constants, existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import { SetupError } from "./bootstrap.mjs"
import { exitCodeOf, runChild } from "./child.mjs"

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
const elsewhere = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
]
const updateMsMax = 3 * 60_000
const installMsMax = 8 * 60_000

/** @returns {Promise<string>} the path of a Chromium; rejects with a SetupError that says what to install */
export async function findBrowser() {
  const named = process.env.SOJOURN_CHROMIUM
  if (named !== undefined && named !== "") {
    if (isProgram(named)) return named
    throw new SetupError(`SOJOURN_CHROMIUM names ${named}, which is no program.`)
  }
  const found = present()
  if (found !== undefined) return found
  const apt = onPath("apt-get")
  if (apt === undefined || process.getuid?.() !== 0) throw missing("")
  console.log("Sojourn: installing Debian's package chromium, which the browser tests drive …")
  await aptGet(apt, ["update"], updateMsMax)
  await aptGet(apt, ["install", "--yes", "--no-install-recommends", "chromium"], installMsMax)
  const installed = present()
  if (installed === undefined) throw missing("apt-get installed the package chromium, and there is still none. ")
  return installed
}

function present() {
  return names.map(onPath).find((path) => path !== undefined) ?? elsewhere.find(isProgram)
}

function onPath(name) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/bin"].filter((folder) => folder !== "")
  return folders.map((folder) => join(folder, name)).find(isProgram)
}

function isProgram(path) {
  if (!existsSync(path)) return false
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function missing(why) {
  return new SetupError(
    `${why}The browser tests need Chromium, and none was found on the PATH. Install it (Debian: ` +
      "`sudo apt-get update && sudo apt-get install chromium`; elsewhere Chromium or Chrome), or name one: " +
      "SOJOURN_CHROMIUM=/path/to/chromium npm test. Everything but the browser tests runs without it.",
  )
}

async function aptGet(command, args, boundMs) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  const result = await runChild(command, args, { env, boundMs, quiet: true })
  if (result.interruptedBy !== undefined)
    throw new SetupError(`apt-get ${args[0]} was interrupted.`, exitCodeOf(result.interruptedBy))
  if (result.timedOut) throw missing(`apt-get ${args[0]} did not end within ${boundMs / 60_000} minutes. `)
  if (result.code !== 0)
    throw missing(`apt-get ${args.join(" ")} failed with exit code ${result.code}:\n${result.output.trim()}\n`)
}
