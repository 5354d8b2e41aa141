import assert from "node:assert/strict"
import { test } from "node:test"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { ErasedDefinition } from "./actor.ts"
import { OutputGate } from "./gate.ts"
import { defaultLimits } from "./limits.ts"
import { Turn } from "./turn.ts"

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as () => void
setFlagsFromString("--no-expose_gc")

// With accessors of its own each turn's context has a hidden class of its own, and the collector keeps that, and by it the turn and its draft,
// until the next full collection: 2 KB a call that count as long-lived.
test("what an action is given has no accessor of its own, and can be taken apart", () => {
  let own: string[] | undefined
  let taken: unknown[] | undefined
  const def: ErasedDefinition = {
    state: () => ({ n: 0 }),
    actions: {
      add(c) {
        const accessors = Object.entries(Object.getOwnPropertyDescriptors(c)).filter(([, { get }]) => get)
        own = accessors.map(([name]) => name)
        const { actors, signal, broadcast, state, key } = c as Record<string, unknown>
        taken = [typeof actors, (signal as AbortSignal).aborted, typeof broadcast, state, key]
      },
    },
  }
  const others = { knows: () => true, newKey: () => "", call: () => Promise.resolve(undefined) }
  const alarms = { set: new Map(), now: 0, limits: defaultLimits }
  const turn = new Turn("counter/k", def, { n: 0 }, new Set(["bos"]), others, alarms, () => undefined)
  const who = { id: "ada" }
  const reader = { state: turn, key: "k", pop: "bos", epoch: 1, who, now: () => 0, random: () => 0 }
  turn.run({ c: 1, a: "add", p: { v: [] } }, who, reader)
  assert.deepEqual(own, [])
  assert.deepEqual(taken, ["object", false, "function", { n: 0 }, "k"])
})

test("what has left the gate is given back while something else waits in it", () => {
  const gate = new OutputGate(0)
  const sent: number[] = []
  collect()
  const before = process.memoryUsage().heapUsed
  for (let r = 1; r <= 1_000; r++) {
    const output = new Array<number>(1_000).fill(r)
    gate.holdWrite(r, () => sent.push(output.length))
  }
  gate.proved(1, 999)
  assert.equal(sent.length, 999)
  assert.equal(gate.size, 1)
  collect()
  const kept = process.memoryUsage().heapUsed - before
  assert.ok(kept < 1_048_576, `${kept} bytes`)
})
