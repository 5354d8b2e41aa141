import type { ServerFrame } from "@sojourn/protocol"
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { EncodedText, encodeText } from "./encoded-text.ts"
import { frameText } from "./frame-text.ts"

const patches = [{ op: "replace", path: ["n"], value: 1 }]
const err = { code: "OVERLOADED", message: "later", retry: "later", outcome: "not-executed", retryable: true } as const

void describe("the text of a frame", () => {
  const frames: readonly ServerFrame[] = [
    { t: "pong" },
    { t: "reply", ch: 1, c: 2, r: 3, ok: { v: "x" } },
    { t: "reply", ch: 1, c: 2, r: 3, ok: { v: null, m: { values: ["undefined"], v: 1 } } },
    { t: "reply", ch: 1, c: 2, r: 3, ok: { v: 1 }, relaxed: true },
    { t: "reply", ch: 1, c: 2, r: 3, err },
    { t: "answer", ch: 1, q: 2, r: 3, ok: { v: [1] } },
    { t: "out", ch: 1, r: 5, prev: 4, ev: [["said", { v: 'a "quoted" word\u2028' }]] },
    { t: "out", ch: 2, r: 5, prev: 3, pt: { v: patches } },
    {
      t: "out",
      ch: 3,
      r: 5,
      prev: 0,
      ev: [
        ["said", { v: 1 }],
        ["left", { v: {} }],
      ],
      pt: { v: [] },
    },
  ]

  test("is what JSON makes of it, to the order of keys", () => {
    for (const frame of frames) assert.equal(frameText(frame), JSON.stringify(frame))
  })

  test("of a peer's frame is all that is in it", () => {
    for (const frame of frames) {
      const newer = { ...frame, more: 1 } as unknown as ServerFrame
      assert.equal(frameText(newer), JSON.stringify(newer))
    }
  })

  test("is the same where what it carries is text already", () => {
    const ev = [["said", encodeText(new Map([["a", new Date(0)]]))]] as const
    const out: ServerFrame = { t: "out", ch: 3, r: 5, prev: 0, ev, pt: encodeText(patches) }
    const reply: ServerFrame = { t: "reply", ch: 1, c: 2, r: 3, ok: encodeText(undefined) }
    const relaxed: ServerFrame = { ...reply, relaxed: true }
    const answer: ServerFrame = { t: "answer", ch: 1, q: 2, r: 3, ok: encodeText([1]) }
    const events: ServerFrame = { t: "out", ch: 3, r: 5, prev: 0, ev }
    for (const frame of [out, reply, relaxed, answer, events]) assert.equal(frameText(frame), JSON.stringify(frame))
    assert.match(frameText(out), /\["said",\{"v":\[\["a","1970-01-01T00:00:00.000Z"\]\],"m":/)
  })
})

void describe("an encoded value as text", () => {
  test("shares nothing with what it was made of, nor with who reads it", () => {
    const given = { list: [1] }
    const text = encodeText(given)
    given.list.push(2)
    const read = text.v as { list: number[] }
    read.list.push(3)
    assert.deepEqual(text.v, { list: [1] })
    assert.equal(text.m, undefined)
  })

  test("is part of another text as it is", () => {
    const encoded = { v: ["a"], m: { values: { 0: ["Date"] }, v: 1 } }
    assert.equal(JSON.stringify({ p: new EncodedText(encoded) }), JSON.stringify({ p: encoded }))
  })

  test("a value that the codec does not carry is refused", () => {
    const self: unknown[] = []
    self.push(self)
    assert.throws(() => encodeText(self), RangeError)
  })
})
