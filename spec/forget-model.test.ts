import assert from "node:assert/strict"
import { test } from "node:test"
import { explore } from "./explore.ts"
import { forgetModel, mutants } from "./forget-model.ts"
import { quick } from "./bounds.ts"

for (const bounds of quick)
  test(`a POP is forgotten with one owner, exact answers to tickets and no dead end, home ${bounds.home === 2 ? "destroyed" : "alive"} (C29)`, () => {
    const { states, wrong } = explore(forgetModel(bounds))
    assert.equal(wrong, undefined)
    assert.ok(states > 2_000, `the search ended after ${states} states: something is not explored`)
  })

for (const mutant of mutants)
  test(`forgetting without one of its rules goes wrong: ${mutant} (C29)`, () => {
    assert.ok(
      quick.some((bounds) => explore(forgetModel(bounds, mutant)).wrong),
      "no counterexample: the rule is not needed, or the model does not see what it guards",
    )
  })
