import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { Batch, framesIn } from "./batch.ts"
import { SojournError } from "./errors.ts"
import { frameLimits } from "./frames.ts"

const { batchCharsMax, batchFramesMax } = frameLimits

function gathered() {
  const messages: string[] = []
  let begun = 0
  const batch = new Batch(
    (message) => void messages.push(message),
    () => void begun++,
  )
  return { batch, messages, begun: () => begun }
}

void describe("frames in one message", () => {
  test("each is a message of its own for as long as the other side takes no others", () => {
    for (const said of [undefined, 0, -1, NaN]) {
      const { batch, messages, begun } = gathered()
      batch.takes(said)
      batch.add("a")
      batch.add("b")
      assert.deepEqual(messages, ["a", "b"], String(said))
      assert.equal(batch.chars, 0)
      assert.equal(begun(), 0)
    }
  })

  test("leave together when they are flushed, and nothing leaves without a frame", () => {
    const { batch, messages, begun } = gathered()
    batch.takes(100)
    batch.flush()
    batch.add("a")
    batch.add("b")
    assert.deepEqual(messages, [])
    assert.equal(begun(), 1)
    assert.ok(batch.chars >= 2)
    batch.flush()
    batch.flush()
    assert.deepEqual(messages, ["a\nb"])
    assert.equal(batch.chars, 0)
    batch.add("c")
    assert.equal(begun(), 2)
    batch.flush()
    assert.deepEqual(messages, ["a\nb", "c"])
  })

  test("arrive all, in order, in messages that the other side takes, whatever their lengths", () => {
    const frame = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ minLength: 40, maxLength: 300 }))
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.array(frame), (charsMax, values) => {
        const frames = values.map((value) => JSON.stringify(value))
        const { batch, messages } = gathered()
        batch.takes(charsMax)
        for (const one of frames) batch.add(one)
        batch.flush()
        for (const message of messages)
          assert.ok(message.length <= charsMax || framesIn(message).length === 1, `${message.length} of ${charsMax}`)
        assert.deepEqual(messages.flatMap(framesIn), frames)
      }),
    )
  })

  test("are at most as many as everybody takes", () => {
    const { batch, messages } = gathered()
    batch.takes(Infinity)
    for (let i = 0; i < 3 * batchFramesMax; i++) batch.add("{}")
    for (let i = 0; i < 300; i++) batch.add(`{"x":"${"x".repeat(1_000)}"}`)
    batch.flush()
    assert.ok(messages.every((message) => message.length <= batchCharsMax))
    assert.equal(messages.flatMap(framesIn).length, 3 * batchFramesMax + 300)
  })

  test("more than that are refused before they are taken apart; a long frame by itself is not", () => {
    const bad = (error: unknown): boolean => error instanceof SojournError && error.code === "BAD_FRAME"
    assert.equal(framesIn(Array.from({ length: batchFramesMax }, () => "{}").join("\n")).length, batchFramesMax)
    assert.throws(() => framesIn("\n".repeat(batchFramesMax)), bad)
    assert.throws(() => framesIn(`${"x".repeat(batchCharsMax)}\n`), bad)
    assert.deepEqual(framesIn("x".repeat(2 * batchCharsMax)), ["x".repeat(2 * batchCharsMax)])
  })
})
