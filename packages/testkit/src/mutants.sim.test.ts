import assert from "node:assert/strict"
import { test } from "node:test"
import { hunt } from "./sim/hunt.ts"
import { mutants } from "./sim/mutants.ts"
import { steps } from "./sim/survive.ts"

test("there are the twenty defects that are planted, and more", () => {
  assert.ok(mutants.length >= 20)
  assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length)
})

for (const mutant of mutants)
  test(`the planted defect "${mutant.name}" is caught within ${mutant.seedsMax} seeds`, async (t) => {
    const { tried, message } = await hunt(mutant, steps)
    assert.ok(message !== undefined, `${mutant.breaks}: not caught; the oracle has a hole`)
    t.diagnostic(`seed ${tried}: ${message.slice(0, 200)}`)
  })
