// `npm run travel` with real processes: POPs that are killed, hints that are wrong, a recording, and the account in the end.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { after, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

const program = fileURLToPath(new URL("../examples/notebook/src/travel.ts", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "sojourn-travel-test-"))
after(() => rmSync(folder, { recursive: true, force: true }))

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function travel(...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // What a failing run leaves goes with the folder.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, TMPDIR: folder },
  })
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: await ended, out, err }
}

type Spread = { readonly p50: number; readonly p99: number }
interface Summary {
  readonly legs: number
  readonly callsAcked: number
  readonly callsApplied: number
  readonly lost: number
  readonly duplicated: number
  readonly textMatches: boolean
  readonly moves: number
  readonly moveMs: Spread
  readonly firstReplyMs: Spread
  readonly floorMs: { readonly p50: number }
  readonly overFloor: number
  readonly liveMoves: number
  readonly pauseMs: Spread
  readonly gaps: number
  readonly resyncs: number
  readonly devices: readonly {
    readonly device: number
    readonly callsAcked: number
    readonly callsApplied: number
    readonly lost: number
    readonly duplicated: number
    readonly gaps: number
    readonly resyncs: number
    readonly textMatches: boolean
  }[]
  readonly kills: Readonly<Record<string, number>>
  readonly stepsMissed: number
  readonly residency: {
    readonly outside: readonly string[]
    readonly leaks: readonly string[]
    readonly bytes: number
    readonly foundInside: boolean
    readonly callsOutside: number
  }
}

function summaryOf({ out, err, code }: Ended): Summary {
  const line = out.trimEnd().split("\n").at(-1) ?? ""
  assert.ok(line.startsWith("{"), `travel ended with ${code} and no JSON line: ${out}\n${err}`)
  return JSON.parse(line) as Summary
}

/** A short recording of the form of the real one: 600 keystrokes of a word game with corrections. */
function recording(): {
  readonly startContent: string
  readonly endContent: string
  readonly txns: readonly unknown[]
} {
  const startContent = "draft\n"
  let content = startContent
  const txns = Array.from({ length: 600 }, (_, i) => {
    const at = (i * 7919) % (content.length + 1)
    const del = i % 5 === 4 ? Math.min(2, content.length - at) : 0
    const ins = i % 5 === 4 ? "" : "abcdefghij"[i % 10]!.repeat(1 + (i % 3))
    content = content.slice(0, at) + ins + content.slice(at + del)
    return { time: "2020-01-01T00:00:00.000Z", patches: [[at, del, ins]] }
  })
  return { startContent, endContent: content, txns }
}

describe("npm run travel", () => {
  test("POPs are killed on the way and hints are wrong: no call is lost, none applied twice, the text is the same (C12 C14 C19 C21 C22 C36 C50 C61)", async () => {
    const ended = await travel("--legs", "6", "--kill", "--hint", "mixed", "--rate", "40", "--seed", "7", "--json")
    const summary = summaryOf(ended)
    assert.equal(ended.out.trim().split("\n").length, 1, "--json prints one line")
    assert.deepEqual(Object.keys(summary), [
      ...["legs", "callsAcked", "callsApplied", "lost", "duplicated", "textMatches", "moves"],
      ...["moveMs", "firstReplyMs", "floorMs", "overFloor", "kills", "stepsMissed"],
    ])
    assert.equal(ended.code, 0, ended.err)
    assert.deepEqual([summary.legs, summary.lost, summary.duplicated, summary.textMatches], [6, 0, 0, true])
    assert.equal(summary.callsAcked, summary.callsApplied)
    assert.ok(summary.callsAcked >= 6 * 40)
    assert.ok(summary.moves >= 6)
  })

  test("three devices, moves under open sockets, and processes killed at steps of moves: one text, every device's calls once (C12 C14 C19 C24 C61)", async () => {
    const ended = await travel(
      ...["--legs", "8", "--live", "--devices", "3", "--kill", "--hint", "mixed", "--rate", "40", "--rtt", "10"],
      ...["--seed", "5", "--json"],
    )
    const summary = summaryOf(ended)
    assert.equal(ended.code, 0, ended.err)
    assert.deepEqual([summary.legs, summary.lost, summary.duplicated, summary.textMatches], [8, 0, 0, true])
    assert.equal(summary.callsAcked, summary.callsApplied)
    assert.ok(summary.liveMoves >= 1)
    assert.deepEqual(
      summary.devices.map(({ device, lost, duplicated, textMatches }) => [device, lost, duplicated, textMatches]),
      [
        [2, 0, 0, true],
        [3, 0, 0, true],
      ],
    )
    for (const { callsAcked, callsApplied } of summary.devices) assert.equal(callsAcked, callsApplied)
    const kills = Object.keys(summary.kills)
    assert.ok(
      kills.some((name) => /^(source|target|home|gateway) (before|after) [a-z]+$/.test(name)),
      kills.join(),
    )
  })

  test("a POP outside of the residency serves by relay, two devices call there, and no file of it has a byte of the state (C25)", async () => {
    const ended = await travel("--residency", "--devices", "2", "--rate", "40", "--seed", "4", "--json")
    const { residency, ...summary } = summaryOf(ended)
    assert.equal(ended.code, 0, ended.err)
    assert.deepEqual([summary.lost, summary.duplicated, summary.textMatches], [0, 0, true])
    assert.deepEqual([residency.outside, residency.leaks, residency.foundInside], [["nrt"], [], true])
    assert.ok(residency.callsOutside > 0 && residency.bytes > 0)
  })

  test("--pause puts the pauses of live moves at two sizes of state side by side", async () => {
    const ended = await travel("--pause", "--legs", "2", "--rtt", "20", "--rate", "200", "--seed", "2")
    assert.equal(ended.code, 0, ended.err)
    assert.match(
      ended.out,
      /median pause of a live move: [\d.]+ ms at 1024 bytes, [\d.]+ ms at 1048576 bytes of state; 20 ms between POPs, a call each 5 ms/,
    )
    const sizes = summaryOf(ended) as unknown as Readonly<Record<string, Summary>>
    assert.deepEqual(Object.keys(sizes), ["1024", "1048576"])
    for (const { lost, duplicated, liveMoves, pauseMs } of Object.values(sizes)) {
      assert.deepEqual([lost, duplicated, liveMoves], [0, 0, 2])
      // The seal's way to the target and the answer's way back are in it, however fast the machine is.
      assert.ok(pauseMs.p50 > 15, String(pauseMs.p50))
    }
  })

  test("a recording is replayed keystroke by keystroke over the grand tour and ends in its text", async () => {
    const file = join(folder, "recording.json.gz")
    writeFileSync(file, gzipSync(JSON.stringify(recording())))
    const ended = await travel("--trace", file, "--speed", "300", "--seed", "1")
    const summary = summaryOf(ended)
    assert.equal(ended.code, 0, ended.err)
    assert.deepEqual([summary.legs, summary.textMatches, summary.lost, summary.duplicated], [8, true, 0, 0])
    assert.equal(summary.callsApplied, 601, "the start of the text is one call more")
    assert.match(ended.out, /nyc→nrt/)
  })

  test("a text that differs from the recording's ends in exit code 1", async () => {
    const file = join(folder, "differs.json")
    const { endContent, ...rest } = recording()
    writeFileSync(file, JSON.stringify({ ...rest, endContent: `${endContent.slice(0, -1)}!` }))
    const ended = await travel("--trace", file, "--speed", "600", "--legs", "1", "--rtt", "5", "--json")
    assert.equal(ended.code, 1)
    assert.equal(summaryOf(ended).textMatches, false)
  })

  test("an option that is wrong is named, and nothing is started", async () => {
    for (const [args, message] of [
      [["--hint", "sideways"], /--hint must be right, stale, missing, forged or mixed, not sideways/],
      [["--legs", "0"], /--legs must be a number from 1 to/],
      [["--trace", join(folder, "missing.json")], /--trace: .*missing\.json cannot be read/],
      [["--devices", "0"], /--devices must be a number from 1 to/],
      [["--tempo", "3"], /--tempo/],
    ] as const) {
      const ended = await travel(...args)
      assert.equal(ended.code, 1)
      assert.match(ended.err, message)
      assert.equal(ended.out, "")
    }
  })
})
