import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { applyEdit, emptyDocument, recentMax, writersMax } from "./document.ts"
import { Ledger } from "./ledger.ts"
import { textOf } from "./pieces.ts"

/** What a framework made of five acknowledged calls: the order in which it applied their numbers. */
function settled(applied: readonly number[]): ReturnType<Ledger["settle"]> {
  const ledger = new Ledger()
  for (let i = 0; i < 5; i++) ledger.ack(ledger.make())
  const document = emptyDocument()
  for (const n of applied) applyEdit(document, { writer: "w", n, base: document.seq, patches: [[0, 0, "x"]] })
  return ledger.settle(document.tallies["w"])
}

describe("Ledger", () => {
  const well = { made: 5, acked: 5, applied: 5, lost: 0, duplicated: 0, inOrder: true }

  test("finds nothing where each call was applied once and in order", () => {
    assert.deepEqual(settled([1, 2, 3, 4, 5]), well)
  })

  test("finds a lost call, at the end and in between", () => {
    assert.deepEqual(settled([1, 2, 3, 4]), { ...well, applied: 4, lost: 1 })
    assert.deepEqual(settled([1, 2, 4, 5]), { ...well, applied: 4, lost: 1 })
    assert.deepEqual(settled([]), { ...well, applied: 0, lost: 5 })
  })

  test("finds a call applied twice, at once and later", () => {
    assert.deepEqual(settled([1, 2, 2, 3, 4, 5]), { ...well, duplicated: 1, inOrder: false })
    assert.deepEqual(settled([1, 2, 3, 4, 5, 3, 4]), { ...well, duplicated: 2, inOrder: false })
  })

  test("finds calls out of order", () => {
    assert.deepEqual(settled([2, 1, 3, 4, 5]), { ...well, inOrder: false })
  })

  test("a loss and a repetition do not hide each other", () => {
    assert.deepEqual(settled([1, 2, 2, 4, 5]), { ...well, applied: 4, lost: 1, duplicated: 1, inOrder: false })
  })

  test("calls that nobody acknowledged are open, not lost", () => {
    const ledger = new Ledger()
    ledger.ack(ledger.make())
    ledger.make()
    ledger.make()
    ledger.refuse()
    assert.equal(ledger.open, 1)
    assert.equal(ledger.settle({ runs: [[1, 2]], applied: 2, at: 2 }).lost, 0)
  })
})

describe("applyEdit", () => {
  test("an edit made on an older text finds its place past what others did, its own writer's aside", () => {
    const document = emptyDocument()
    applyEdit(document, { writer: "a", n: 1, base: 0, patches: [[0, 0, "one two"]] })
    applyEdit(document, { writer: "b", n: 1, base: 1, patches: [[0, 0, "zero "]] })
    applyEdit(document, { writer: "a", n: 2, base: 1, patches: [[7, 0, " three"]] })
    applyEdit(document, { writer: "a", n: 3, base: 1, patches: [[13, 0, " four"]] })
    assert.equal(textOf(document.pieces), "zero one two three four")
  })

  test("keeps a bounded number of changes and writers, the latest ones", () => {
    const document = emptyDocument()
    for (let i = 1; i <= 3 * recentMax; i++)
      applyEdit(document, { writer: `w${i}`, n: 1, base: document.seq, patches: [[0, 0, "x"]] })
    assert.equal(Object.keys(document.recent).length, recentMax)
    assert.equal(Object.keys(document.tallies).length, writersMax)
    assert.ok(document.tallies[`w${3 * recentMax}`] !== undefined)
  })

  test("refuses what does not lie in the text", () => {
    assert.throws(() => applyEdit(emptyDocument(), { writer: "a", n: 1, base: 0, patches: [[1, 0, "x"]] }), RangeError)
  })
})
