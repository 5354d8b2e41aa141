import type { Encoded, ServerFrame } from "@sojourn/protocol"
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { OutTexts } from "./out-texts.ts"

type OutFrame = Extract<ServerFrame, { t: "out" }>

/** Counts how often it is made text. */
function counted(): { readonly value: Encoded; made(): number } {
  let made = 0
  const value = {
    v: {
      toJSON() {
        made++
        return [made]
      },
    },
  }
  return { value, made: () => made }
}

void describe("the texts of frames", () => {
  const frames: readonly ServerFrame[] = [
    { t: "pong" },
    { t: "reply", ch: 1, c: 2, r: 3, ok: { v: "x" } },
    { t: "out", ch: 1, r: 5, prev: 4, ev: [["said", { v: 'a "quoted" word\u2028' }]] },
    { t: "out", ch: 2, r: 5, prev: 3, pt: { v: [{ op: "replace", path: ["n"], value: 1 }] } },
    { t: "out", ch: 3, r: 5, prev: 0, ev: [["said", { v: 1 }]], pt: { v: [] } },
  ]

  test("are what JSON makes of them, to the order of keys", () => {
    const texts = new OutTexts()
    for (const frame of [...frames, ...frames.toReversed()]) assert.equal(texts.text(frame), JSON.stringify(frame))
  })

  test("what one output carries is made text once for all who get it, and is then let go of", async () => {
    const texts = new OutTexts()
    const [event, patches] = [counted(), counted()]
    const ev: OutFrame["ev"] = [["said", event.value]]
    const to = (ch: number): string => texts.text({ t: "out", ch, r: 2, prev: ch, ev, pt: patches.value })
    assert.equal(to(1), '{"t":"out","ch":1,"r":2,"prev":1,"ev":[["said",{"v":[1]}]],"pt":{"v":[1]}}')
    assert.equal(to(9), '{"t":"out","ch":9,"r":2,"prev":9,"ev":[["said",{"v":[1]}]],"pt":{"v":[1]}}')
    // Somebody is told of the events only.
    assert.equal(
      texts.text({ t: "out", ch: 3, r: 2, prev: 1, ev }),
      '{"t":"out","ch":3,"r":2,"prev":1,"ev":[["said",{"v":[1]}]]}',
    )
    assert.deepEqual([event.made(), patches.made()], [1, 1])
    const next = counted()
    assert.equal(
      texts.text({ t: "out", ch: 1, r: 3, prev: 2, pt: next.value }),
      '{"t":"out","ch":1,"r":3,"prev":2,"pt":{"v":[1]}}',
    )
    await Promise.resolve()
    to(1)
    assert.deepEqual([event.made(), patches.made(), next.made()], [2, 2, 1])
  })
})
