import assert from "node:assert/strict"
import type { TestContext } from "node:test"
import { faultKinds } from "./faults.ts"
import { run } from "./run.ts"

export const steps = 2_000

/** What must have happened somewhere in the seeds: what never occurs proves nothing. */
const messages = [
  "PULL",
  "GRANT",
  "MOVED",
  "NONE",
  "RELAY_ME",
  "REFUSED",
  "OFFER",
  "PRECOPY",
  "CHUNK",
  "FETCH",
  "CONFIRM",
  "CONFIRM_ACK",
  "HOMEUPD",
  "HOMEUPD_ACK",
  "RELAY_OPEN",
  "FRAME",
  "RELAY_CLOSE",
]
const diskFaults = [
  "disk: fails before taking effect",
  "disk: fails after taking effect",
  "disk: unknown outcome, takes effect late",
  "disk: unknown outcome, never takes effect",
  "disk: slow operation",
  "disk: slow flush",
  "disk: full",
  "disk: unflushed writes lost",
  "disk: torn last write dropped",
  "disk: operation of a dead process lands",
]
const tickets = ["right", "stale or stolen", "missing", "of another actor", "forged"]
const calls = ["add", "slow", "idle", "shout", "refuse", "fail", "look", "later", "cancel", "pass", "ask"]

/** Runs so many seeds. Each must end with nothing found; together they must have met every fault and every message. */
export async function survive(t: TestContext, from: number, seeds: number): Promise<void> {
  const counts = new Map<string, number>()
  const sum = { steps: 0, calls: 0, acknowledged: 0, moves: 0 }
  for (let seed = from; seed < from + seeds; seed++) {
    const result = await run({ seed, steps })
    assert.equal(
      result.finding,
      undefined,
      `seed ${seed}: ${result.finding?.message ?? ""}\nreplay: npm run simulate -- --seed ${seed} --steps ${steps} --story`,
    )
    assert.ok(result.steps >= steps)
    for (const [what, n] of result.counts) counts.set(what, (counts.get(what) ?? 0) + n)
    sum.steps += result.steps
    sum.calls += result.calls
    sum.acknowledged += result.acknowledged
    sum.moves += result.moves
  }
  t.diagnostic(JSON.stringify({ seeds, ...sum }))
  const wanted = [
    ...calls.map((call) => `call: ${call}`),
    ...faultKinds.map((kind) => `fault: ${kind}`),
    ...diskFaults,
    ...messages.map((message) => `mesh message: ${message}`),
    ...tickets.map((kind) => `ticket: ${kind}`),
    "operator: moves done",
    "operator: last moves done",
    "event: alarm.failed",
    "call chains that came back",
    "operator: drains",
    "sessions that kept their attach",
    ...["new", "replay", "snapshot"].map((how) => `resumed: ${how}`),
  ]
  for (const what of wanted) {
    t.diagnostic(`${String(counts.get(what) ?? 0).padStart(7)} ${what}`)
    assert.ok((counts.get(what) ?? 0) > 0, `${what} never occurred`)
  }
  assert.ok(sum.acknowledged > seeds * 20 && sum.moves > seeds, "too little happened for the rest to mean much")
}
