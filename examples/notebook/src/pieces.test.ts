import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, test } from "node:test"
import { gunzipSync } from "node:zlib"
import fc from "fast-check"
import { patchPieces, patchText, pieceCharsMax, textOf, type TextPatch } from "./pieces.ts"
import { readTrace } from "./trace.ts"

function assertInvariants(pieces: readonly string[]): void {
  assert.ok(pieces.length > 0)
  for (const [i, piece] of pieces.entries()) {
    assert.ok(piece.length <= pieceCharsMax, `piece ${i} has ${piece.length} characters`)
    if (i > 0) {
      const together = piece.length + pieces[i - 1]!.length
      assert.ok(together >= pieceCharsMax / 4, `pieces ${i - 1} and ${i} have ${together} characters`)
    }
  }
}

describe("patchPieces", () => {
  test("agrees with a plain string over any edits, and keeps the pieces' sizes", () => {
    const size = fc.oneof({ weight: 6, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(1500) })
    const edit = fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), size, size)
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 150 }), (edits) => {
        let text = ""
        const pieces = [""]
        for (const [where, del, ins] of edits) {
          const at = Math.round(where * text.length)
          const patch: TextPatch = [at, Math.min(del, text.length - at), "abcdefghij\n".repeat(150).slice(0, ins)]
          text = patchText(text, patch)
          patchPieces(pieces, patch)
          assertInvariants(pieces)
        }
        assert.equal(textOf(pieces), text)
      }),
    )
  })

  test("a keystroke inside a piece changes that piece alone", () => {
    const pieces = [""]
    patchPieces(pieces, [0, 0, "word ".repeat(4000)])
    const before = [...pieces]
    patchPieces(pieces, [9_876, 0, "x"])
    assert.equal(pieces.length, before.length)
    assert.equal(pieces.filter((piece, i) => piece !== before[i]).length, 1)
  })

  test("does not cut a surrogate pair", () => {
    const pieces = [""]
    patchPieces(pieces, [0, 0, "a" + "\u{1F600}".repeat(3000)])
    for (const piece of pieces) assert.ok(piece.isWellFormed())
  })

  test("refuses a patch outside of the text and leaves it as it was", () => {
    for (const patch of [
      [4, 0, "x"],
      [-1, 0, "x"],
      [2, 2, ""],
      [0.5, 0, ""],
      [0, -1, ""],
    ] as const) {
      const pieces = ["abc"]
      assert.throws(() => patchPieces(pieces, patch), RangeError)
      assert.deepEqual(pieces, ["abc"])
    }
  })

  const recording = process.env["SOJOURN_TRACE"]
  test(
    "a recorded editing session ends in its recorded text",
    { skip: recording === undefined && "SOJOURN_TRACE names no recording" },
    () => {
      const file = readFileSync(recording ?? "")
      const trace = readTrace(file[0] === 0x1f ? gunzipSync(file) : file)
      const pieces = [...trace.start]
      for (const patches of trace.keystrokes) for (const patch of patches) patchPieces(pieces, patch)
      assertInvariants(pieces)
      assert.equal(textOf(pieces), trace.end)
    },
  )
})
