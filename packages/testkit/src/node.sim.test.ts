import assert from "node:assert/strict"
import { test } from "node:test"
import { faultKinds } from "./sim/faults.ts"
import { mutants } from "./sim/mutants.ts"
import { run } from "./sim/run.ts"

const seeds = 100
const steps = 2_000

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

test("C19, C20, C24: G1–G5, G8 and G10 hold after every step of 100 seeds under every kind of fault, and all completes when they stop", async (t) => {
  const counts = new Map<string, number>()
  const sum = { steps: 0, calls: 0, acknowledged: 0, moves: 0 }
  for (let seed = 1; seed <= seeds; seed++) {
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
    ...faultKinds.map((kind) => `fault: ${kind}`),
    ...diskFaults,
    ...messages.map((message) => `mesh message: ${message}`),
    ...tickets.map((kind) => `ticket: ${kind}`),
    "operator: moves done",
    "operator: drains",
    "sessions that kept their attach",
    ...["new", "replay", "snapshot"].map((how) => `resumed: ${how}`),
  ]
  for (const what of wanted) {
    t.diagnostic(`${String(counts.get(what) ?? 0).padStart(7)} ${what}`)
    assert.ok((counts.get(what) ?? 0) > 0, `${what} never occurred`)
  }
  assert.ok(sum.acknowledged > seeds * 20 && sum.moves > seeds, "too little happened for the rest to mean much")
})

test("a seed replays: the same events at the same times, with the same contents", async () => {
  for (const seed of [3, 14]) {
    const first = await run({ seed, steps, verbose: true })
    const second = await run({ seed, steps, verbose: true })
    assert.equal(second.digest, first.digest)
    assert.deepEqual(second.story, first.story)
    assert.equal(second.steps, first.steps)
    const told = await run({ seed, steps })
    assert.equal(told.steps, first.steps, "telling the story changes what happens")
    assert.notEqual((await run({ seed: seed + 1, steps, verbose: true })).digest, first.digest)
  }
})

for (const mutant of mutants)
  test(`the planted defect "${mutant.name}" is caught within ${mutant.seedsMax} seeds`, async (t) => {
    for (let seed = 1; seed <= mutant.seedsMax; seed++) {
      const { finding } = await run({ seed, steps, mutant })
      if (finding === undefined) continue
      t.diagnostic(`seed ${seed}: ${finding.message.slice(0, 200)}`)
      return
    }
    assert.fail(`${mutant.breaks}: not caught; the oracle has a hole`)
  })
