import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { across, caretAfter, caretIn, difference, rebase } from "./changes.ts"
import { patchText, type TextPatch } from "./pieces.ts"

const apply = (text: string, patches: readonly TextPatch[]): string => patches.reduce(patchText, text)

describe("difference", () => {
  test("leads from any text to any other", () => {
    const text = fc.string({ maxLength: 30, unit: fc.constantFrom("a", "b", "\n") })
    fc.assert(
      fc.property(text, text, fc.nat(30), (before, after, caret) => {
        const patch = difference(before, after, caret)
        assert.equal(patch === undefined ? before : patchText(before, patch), after)
      }),
    )
  })

  test("puts a repeated letter where it was typed", () => {
    assert.deepEqual(difference("aaa", "aaaa", 2), [1, 0, "a"])
    assert.deepEqual(difference("aaa", "aaaa", 4), [3, 0, "a"])
  })
})

describe("rebase", () => {
  const base = "0123456789"
  test("moves what comes after an insertion or deletion, and leaves what comes before", () => {
    assert.deepEqual(rebase([[5, 0, "x"]], [[2, 0, "ab"]]), [[7, 0, "x"]])
    assert.deepEqual(rebase([[5, 0, "x"]], [[2, 2, ""]]), [[3, 0, "x"]])
    assert.deepEqual(rebase([[2, 1, "x"]], [[5, 0, "ab"]]), [[2, 1, "x"]])
  })

  test("what was there first stays left on a tie", () => {
    assert.equal(
      apply(patchText(base, [3, 0, "first"]), rebase([[3, 0, "second"]], [[3, 0, "first"]])).slice(3, 14),
      "firstsecond",
    )
  })

  test("both orders lead to the same text, and what was inserted arrives whole", () => {
    const patches = (mark: string): fc.Arbitrary<TextPatch[]> =>
      fc
        .array(fc.tuple(fc.nat(1000), fc.nat(4), fc.constantFrom("", mark, mark.repeat(3))), { maxLength: 4 })
        .map((raw) => {
          let text = base
          return raw.map(([where, del, ins]): TextPatch => {
            const at = where % (text.length + 1)
            const patch: TextPatch = [at, Math.min(del, text.length - at), ins]
            text = patchText(text, patch)
            return patch
          })
        })
    fc.assert(
      fc.property(patches("m"), patches("t"), (mine, theirs) => {
        const [mineAfter, theirsAfter] = across(mine, theirs)
        const result = apply(apply(base, theirs), mineAfter)
        assert.equal(result, apply(apply(base, mine), theirsAfter))
        for (const [mark, own] of [
          ["m", mine],
          ["t", theirs],
        ] as const)
          assert.equal(result.split(mark).length, apply(base, own).split(mark).length)
      }),
      { numRuns: 3000 },
    )
  })
})

describe("caretAfter", () => {
  test("a caret moves with what is before it, and stays before what is typed at it", () => {
    assert.equal(caretAfter(5, [2, 0, "abc"]), 8)
    assert.equal(caretAfter(5, [2, 1, ""]), 4)
    assert.equal(caretAfter(5, [5, 0, "abc"]), 5)
    assert.equal(caretAfter(5, [7, 1, "abc"]), 5)
    assert.equal(caretAfter(5, [3, 4, ""]), 3)
  })
})

describe("caretIn", () => {
  test("a caret stays after its words when the text around them changed, and at the end if it was there", () => {
    const before = "one two three"
    assert.equal(caretIn("zero one two three four", before, 7), 12)
    assert.equal(caretIn("two three", before, 7), 3)
    assert.equal(caretIn("something else", before, 7), 7)
    assert.equal(caretIn("x", before, 7), 1)
    assert.equal(caretIn("one two three four", before, before.length), 18)
    assert.equal(caretIn("zero one", before, 0), 0)
  })
})
