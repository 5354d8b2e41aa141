import assert from "node:assert/strict"

import type { Due, Store } from "@sojourn/core"

import { a, body, bytes, grant, owned, write, type OnStore } from "./store-samples.ts"

const ever = { before: Number.MAX_SAFE_INTEGER, limit: 1_000 }

/** The storage suite: when an actor's next alarm is due is kept with its record, and the due ones are found in the order of time. */
export function alarms(it: OnStore): void {
  it("C41 what a commit says is due is found, by its time, until another commit says otherwise", async (store, fixture) => {
    const fence = await owned(store, a)
    await store.commit(a, fence, { ...write("h1", "1"), due: 500 })
    assert.deepEqual(await store.peek(a), { k: "OWNED", e: 0, f: 1, v: 1, h: "h1", due: 500 })
    assert.deepEqual(await store.due({ before: 499, limit: 10 }), [])
    assert.deepEqual(await store.due({ before: 500, limit: 10 }), [{ actor: a, due: 500 }])
    await store.commit(a, { ...fence, v: 1 }, write("h2", "2"))
    await store.compact(a, fence, bytes("whole"), 2)
    assert.deepEqual(await store.due(ever), [{ actor: a, due: 500 }], "a commit that says nothing leaves it")
    const claim = await store.claim(a, true)
    assert.equal(claim.record?.k === "OWNED" && claim.record.due, 500, "whoever claims the actor hears it")
    const next = await fixture.reopen()
    assert.deepEqual(await next.due(ever), [{ actor: a, due: 500 }], "it survives")
    await next.commit(a, { e: 0, f: 2, v: 2 }, { ...write("h3", "3"), due: 9_000 })
    assert.deepEqual(await next.due(ever), [{ actor: a, due: 9_000 }])
    await next.commit(a, { e: 0, f: 2, v: 3 }, { ...write("h4", "4"), due: null })
    assert.deepEqual(await next.due(ever), [])
    assert.deepEqual(await next.peek(a), { k: "OWNED", e: 0, f: 2, v: 4, h: "h4" })
  })

  it("C42 a commit that is fenced changes nothing of what is due", async (store) => {
    const fence = await owned(store, a)
    await store.commit(a, fence, { ...write("h1", "1"), due: 500 })
    await store.claim(a, true)
    assert.equal((await store.commit(a, { ...fence, v: 1 }, { ...write("x", "x"), due: null })).kind, "fenced")
    assert.deepEqual(await store.due(ever), [{ actor: a, due: 500 }])
  })

  it("a time that is none is refused by itself: what is done at the same time is done", async (store) => {
    const fence = await owned(store, a)
    for (const due of [-1, 1.5, Number.NaN, Infinity, 2 ** 53]) {
      const seen = await store.peek(a)
      const others = store.claim(`notebook/${due}`, true)
      const granted = { ...grant(1, 1, "h1", body(undefined, "1")), due }
      const wrong = [
        store.commit(a, fence, { ...write("h1", "1"), due }),
        store.claim(a, true, { seen, ...write("h1", "1"), due }),
        store.install("notebook/bob", false, granted, undefined),
        store.install("notebook/bob", false, { ...granted, due: 5 }, { ...write("h2", "2"), due }),
      ]
      for (const one of wrong) await assert.rejects(one, RangeError)
      assert.equal((await others).kind, "claimed")
      assert.deepEqual(await store.peek(a), seen)
      assert.equal(await store.peek("notebook/bob"), undefined)
    }
  })

  it("C30 a sealed actor is due nowhere, and due at the grantee from the install on", async (store) => {
    const fence = await owned(store, a)
    await store.commit(a, fence, { ...write("h1", "1"), due: 500 })
    const answer = await store.pull(a, true, "fra")
    assert.deepEqual(answer.kind === "grant" && answer.record, {
      k: "GRANTED",
      e: 1,
      to: "fra",
      v: 1,
      h: "h1",
      due: 500,
    })
    assert.deepEqual(await store.due(ever), [])
    assert.deepEqual(await store.pull(a, true, "fra"), answer, "the grant that is repeated says it again")
    await store.confirm(a, "fra", 1)
    assert.deepEqual(await store.due(ever), [])

    const moved = { ...grant(2, 3, "h3", body("whole")), due: 700 }
    await store.install(a, true, moved, undefined)
    assert.deepEqual(await store.due(ever), [{ actor: a, due: 700 }], "back, without an activation")
    const other = "notebook/other"
    await store.install(other, false, moved, { ...write("h4", "4"), due: null })
    await store.install("notebook/third", false, moved, { ...write("h4", "4"), due: 300 })
    assert.deepEqual(
      await store.due(ever),
      [
        { actor: "notebook/third", due: 300 },
        { actor: a, due: 700 },
      ],
      "the first turn's entry, which is in the same write, has the last word",
    )
  })

  it("C41 the due actors come in the order of time, then of their ids, in pages", async (store) => {
    const times = [0, 1, 255, 256, 65_536, 1_800_000_000_000, 8_640_000_000_000_000, 5, 5, 5]
    const expected: Due[] = times.map((due, i) => ({
      actor: `notebook/${String.fromCodePoint(0x10fffe - i)}${i}`,
      due,
    }))
    for (const { actor, due } of expected)
      await store.commit(actor, await owned(store, actor), { ...write("h", "1"), due })
    expected.sort((x, y) => x.due - y.due || Buffer.compare(Buffer.from(x.actor), Buffer.from(y.actor)))
    assert.deepEqual(await store.due(ever), expected)
    const paged: Due[] = []
    for (let after: Due | undefined; ;) {
      const page = await store.due({ ...ever, limit: 3, ...(after && { after }) })
      paged.push(...page)
      after = page.at(-1)
      if (page.length < 3) break
    }
    assert.deepEqual(paged, expected)
    await refuses(store)
  })
}

async function refuses(store: Store): Promise<void> {
  for (const limit of [0, -1, 1.5, 1_001, Number.NaN]) await assert.rejects(store.due({ before: 5, limit }), RangeError)
}
