// `npm run chaos`, briefly: real POPs that are killed under clients, and a run that must fail because a defect is planted.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { after, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { popLimits, commitMsMax, clientLimits, pauseMs } from "./chaos/limits.ts"
import { chaosOptions } from "./chaos/options.ts"

const program = fileURLToPath(new URL("./chaos/chaos.ts", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "sojourn-chaos-test-"))
after(() => rmSync(folder, { recursive: true, force: true }))

interface Ended {
  readonly code: number | null
  readonly last: string
  readonly err: string
  /** What it left where temporary folders are made. */
  readonly left: readonly string[]
}

async function chaos(...args: string[]): Promise<Ended> {
  const own = mkdtempSync(join(folder, "run-"))
  const child = spawn(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, TMPDIR: own },
  })
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  return {
    code: await ended,
    last: out.trimEnd().split("\n").at(-1) ?? "",
    err,
    left: readdirSync(own).map((name) => join(own, name)),
  }
}

interface Summary {
  readonly lost: number
  readonly duplicated: number
  readonly disordered: number
  readonly untrue: number
  readonly stale: number
  readonly unserved: number
  readonly owners: number
  readonly kills: number
  readonly faults: number
  readonly calls: number
  readonly acknowledged: number
}

const few = ["--clients", "8", "--pops", "3", "--rate", "20", "--json"]

describe("npm run chaos", { concurrency: true }, () => {
  test(
    "kills POPs under clients, and finds nothing lost, repeated, reordered or untrue and nobody left",
    { timeout: 120_000 },
    async () => {
      const { code, last, err, left } = await chaos(
        ...few,
        "--minutes",
        "0.15",
        "--kills-per-minute",
        "20",
        "--seed",
        "7",
      )
      assert.equal(code, 0, err)
      const { kills, faults, calls, acknowledged, ...wrong } = JSON.parse(last) as Summary
      for (const name of ["lost", "duplicated", "disordered", "untrue", "stale", "unserved", "owners"] as const)
        assert.equal(wrong[name], 0, name)
      assert.ok(kills >= 2, `${kills} kills`)
      assert.ok(faults > kills, `${faults} faults`)
      assert.ok(acknowledged > 50 && calls > acknowledged, `${acknowledged} of ${calls} calls`)
      assert.deepEqual(left, [])
    },
  )

  test("fails where calls are applied twice, and leaves what is needed to see why", { timeout: 120_000 }, async () => {
    const { code, last, left, err } = await chaos(...few, "--minutes", "0.05", "--plant", "duplicated", "--rate", "100")
    assert.equal(code, 1)
    assert.ok((JSON.parse(last) as Summary).duplicated > 0, last)
    assert.equal(left.length, 1)
    const [kept = ""] = left
    assert.ok(err.includes(`left in ${kept}`), err)
    const files = readdirSync(kept)
    for (const file of ["bos.log", "bos", "ledger.jsonl", "story.txt"]) assert.ok(files.includes(file), file)
  })
})

test("a POP that is paused stands still for longer than anybody waits", () => {
  const { idleMs: _, followQuietMs: __, ...waits } = popLimits
  for (const ms of [...Object.values(waits), commitMsMax, ...Object.values(clientLimits)]) assert.ok(ms < pauseMs)
})

test("an option of npm run chaos that is wrong is named, with what it takes", () => {
  const refused = (why: RegExp, ...args: string[]): void => {
    assert.throws(() => chaosOptions(args), why)
  }
  refused(/--minutes must be a number from 0.05 to 1440, not "soon"/, "--minutes", "soon")
  refused(/--clients must be a number from 2 to 2000, not "1"/, "--clients", "1")
  refused(/--pops must be a number from 3 to 8, not "2"/, "--pops", "2")
  refused(/--pops must be a whole number/, "--pops", "3.5")
  refused(/--kills-per-minute must be a number from 0 to 60, not "-1"/, "--kills-per-minute=-1")
  refused(/--rate must be a number/, "--rate", "0")
  refused(/--seed must be a whole number/, "--seed", "1.5")
  refused(/--plant must be lost, duplicated, disordered, not "rain"/, "--plant", "rain")
  refused(/Unknown option '--pop'/, "--pop", "3")
  assert.equal(chaosOptions(["--help"]), undefined)
  assert.equal(chaosOptions(["--seed", "4711"])?.seed, 4711)
})
