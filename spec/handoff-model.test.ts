import assert from "node:assert/strict"
import { test } from "node:test"
import { handoffMutants, handoffQuick } from "./bounds.ts"
import { explorePacked } from "./explore-packed.ts"
import { handoffModel, mutants, type HandoffBounds, type HandoffMutant } from "./handoff-model.ts"

for (const bounds of handoffQuick)
  test(`the hand-off keeps one owner and every acknowledged call, and can always finish: ${JSON.stringify(bounds)} (C20)`, (t) => {
    const { states, transitions, wrong } = explorePacked(handoffModel(bounds))
    assert.equal(wrong, undefined)
    t.diagnostic(`${states} states, ${transitions} transitions`)
    assert.ok(states > 500, `the search ended after ${states} states: something is not explored`)
  })

for (const [mutant, without] of Object.entries(mutants))
  test(`the hand-off goes wrong where ${without} (${mutant})`, () => {
    assert.ok(
      handoffMutants.some((bounds) => explorePacked(handoffModel(bounds, mutant as HandoffMutant)).wrong),
      "no counterexample: the rule is not needed, or the model does not see what it guards",
    )
  })

for (const processes of [
  [1, 1, 1],
  [2, 2],
])
  test(`the states that stand for others are those of the whole search, and no more: ${processes.join(" ")} processes`, () => {
    const lossy = processes.length < 3
    const bounds = { processes, epochMax: 2, fenceMax: 1, calls: [1, 1], lossy, tickets: true, reduced: true }
    const reduced = reachable(bounds)
    const whole = reachable({ ...bounds, reduced: false })
    const model = handoffModel(bounds)
    const represented = new Set<string>()
    for (const key of whole) {
      const state = Buffer.from(key, "latin1")
      model.canonical(state)
      represented.add(state.toString("latin1"))
    }
    assert.ok(whole.size > 2 * reduced.size, `${whole.size} states are represented by ${reduced.size}`)
    assert.deepEqual([...represented].sort(), [...reduced].sort())
  })

function reachable(bounds: HandoffBounds): Set<string> {
  const model = handoffModel(bounds)
  const t = new Uint8Array(model.bytes)
  const keyOf = (): string => {
    model.canonical(t)
    return Buffer.from(t).toString("latin1")
  }
  t.set(model.initial)
  const seen = new Set([keyOf()])
  for (const key of seen)
    model.next(Buffer.from(key, "latin1"), t, () => {
      seen.add(keyOf())
    })
  return seen
}
