import assert from "node:assert/strict"

import { emptyBody, type Body, type Store } from "@sojourn/core"

import { a, body, bytes, grant, hasCode, owned, write, type OnStore } from "./store-samples.ts"

/** The storage suite: values, keys, order, what survives, closing. */
export function bodies(it: OnStore): void {
  it("C39 empty, binary and huge values come back as they were", async (store, fixture) => {
    const huge = new Uint8Array(8 * 1024 * 1024).map((_, i) => (i * 31 + (i >> 8)) & 0xff)
    const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i)
    const empty = new Uint8Array(0)
    const fence = await owned(store, a)
    await store.commit(a, fence, { entries: [empty, everyByte, huge], h: "h3" })
    assert.ok(same((await store.load(a))?.body, { snapshot: undefined, entries: [empty, everyByte, huge] }))
    assert.equal(await store.compact(a, fence, huge, 1), true)
    const now = await fixture.reopen()
    const pulled = await now.pull(a, true, "fra")
    assert.ok(pulled.kind === "grant")
    assert.ok(same(pulled.body, { snapshot: huge, entries: [everyByte, huge] }))
    await now.install("notebook/empty", false, grant(1, 1, "h", { snapshot: empty, entries: [] }), undefined)
    assert.deepEqual((await now.load("notebook/empty"))?.body, { snapshot: empty, entries: [] })
  })

  it("bytes are copied in and out: changing them later changes nothing stored", async (store) => {
    const fence = await owned(store, a)
    const entry = bytes("entry")
    const snapshot = bytes("snapshot")
    const committing = store.commit(a, fence, { entries: [entry], h: "h1" })
    entry.fill(0)
    await committing
    const installing = store.install("notebook/b", false, grant(1, 0, "", { snapshot, entries: [] }), undefined)
    snapshot.fill(0)
    await installing
    for (let i = 0; i < 2; i++) {
      const first = await store.load(a)
      assert.deepEqual(first?.body, body(undefined, "entry"))
      first?.body.entries[0]?.fill(0)
      const second = await store.load("notebook/b")
      assert.deepEqual(second?.body, body("snapshot"))
      second?.body.snapshot?.fill(0)
    }
    const claimed = await store.claim(a, true)
    claimed.body.entries[0]?.fill(0)
    assert.deepEqual((await store.claim(a, true)).body, body(undefined, "entry"))
    const compacted = bytes("compacted")
    const compacting = store.compact(a, { e: 0, f: 3 }, compacted, 1)
    compacted.fill(0)
    assert.equal(await compacting, true)
    assert.deepEqual((await store.load(a))?.body, body("compacted"))
  })

  it("C39 keys of every script, with separators and control characters, and of the greatest length are kept apart", async (store) => {
    const keys = [
      "алиса",
      "алис",
      "a",
      "a/b",
      "a/b/",
      "a\u0001",
      "a\u0001b",
      "a b",
      "a:b",
      "a~bos",
      "{a}",
      "*",
      "%00",
      "👩‍🚀",
      "\uffff",
      "\u{10000}",
      "\u{1f600}",
      "ｚ",
      "é",
      "e\u0301",
      "\u007f",
      "x".repeat(512),
      "x".repeat(511),
      "ж".repeat(256),
    ]
    const ids = [...keys.map((key) => `notebook/${key}`), `${"n".repeat(64)}/${"k".repeat(512)}`]
    await Promise.all(ids.map((id) => owned(store, id, id)))
    for (const id of ids) {
      assert.deepEqual((await store.load(id))?.body, body(undefined, id))
      const fence = { e: 0, f: 1 }
      assert.equal(await store.compact(id, fence, bytes(`s${id}`), 1), true)
    }
    const sorted = ids.toSorted((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)))
    assert.deepEqual(
      (await store.list({ limit: 100 })).map(({ actor }) => actor),
      sorted,
    )
    for (const [i, id] of sorted.entries()) {
      const [next] = await store.list({ after: id, limit: 1, k: "OWNED" })
      assert.equal(next?.actor, sorted[i + 1])
      assert.deepEqual((await store.load(id))?.body, body(`s${id}`), "compacting a neighbour removed nothing here")
    }
  })

  it("an id that no address has is refused by every operation", async (store) => {
    for (const id of ["", "a\0b", "x".repeat(600), "\ud800"])
      for (const refused of [
        store.claim(id, true),
        store.commit(id, { e: 0, f: 0, v: 0 }, write("h", "1")),
        store.check(id, { e: 0, f: 0 }),
        store.pull(id, true, "fra"),
        store.install(id, false, grant(1, 0, "", emptyBody), undefined),
        store.confirm(id, "fra", 1),
        store.learn(id, "fra", 1),
        store.load(id),
        store.peek(id),
        store.compact(id, { e: 0, f: 0 }, bytes("s"), 0),
      ])
        await assert.rejects(refused, hasCode("BAD_KEY", "not-executed"))
    assert.deepEqual(await store.list({ limit: 10 }), [])
  })
}

function same(got: Body | undefined, expected: Body): boolean {
  const equal = (x: Uint8Array | undefined, y: Uint8Array | undefined): boolean =>
    x === undefined || y === undefined ? x === y : Buffer.compare(x, y) === 0
  return (
    got !== undefined &&
    equal(got.snapshot, expected.snapshot) &&
    got.entries.length === expected.entries.length &&
    got.entries.every((entry, i) => equal(entry, expected.entries[i]))
  )
}

export function orders(it: OnStore): void {
  it("C39 five hundred actors at once do not mix", async (store) => {
    const ids = Array.from({ length: 500 }, (_, i) => `notebook/p${i}`)
    await Promise.all(ids.map((id) => owned(store, id, `${id}1`, `${id}2`, `${id}3`)))
    const loaded = await Promise.all(ids.map((id) => store.load(id)))
    for (const [i, id] of ids.entries())
      assert.deepEqual(loaded[i], {
        record: { k: "OWNED", e: 0, f: 1, v: 3, h: "h3" },
        body: body(undefined, `${id}1`, `${id}2`, `${id}3`),
      })
  })

  it("operations on one actor take effect in the order of their calls, reads included", async (store) => {
    const settled: string[] = []
    const inOrder = async <T>(label: string, operation: Promise<T>): Promise<T> => {
      const answer = await operation
      settled.push(label)
      return answer
    }
    const claim = inOrder("claim", store.claim(a, true))
    const commits = Array.from({ length: 100 }, (_, v) =>
      inOrder(`commit${v}`, store.commit(a, { e: 0, f: 1, v }, write(`h${v + 1}`, `${v}`))),
    )
    const owner = store.check(a, { e: 0, f: 1 })
    const seen = store.peek(a)
    const pulled = inOrder("pull", store.pull(a, true, "fra"))
    const late = inOrder("late", store.commit(a, { e: 0, f: 1, v: 100 }, write("h101", "late")))
    const sealed = store.peek(a)
    const stale = store.check(a, { e: 0, f: 1 })
    const confirmed = inOrder("confirm", store.confirm(a, "fra", 1))
    const loaded = store.load(a)
    assert.equal((await claim).kind, "claimed")
    for (const [v, committed] of (await Promise.all(commits)).entries())
      assert.deepEqual(committed, { kind: "committed", v: v + 1 })
    assert.equal(await owner, true)
    assert.deepEqual(await seen, { k: "OWNED", e: 0, f: 1, v: 100, h: "h100" })
    const granted = await pulled
    assert.ok(granted.kind === "grant" && granted.body.entries.length === 100)
    assert.equal((await late).kind, "fenced")
    assert.equal((await sealed)?.k, "GRANTED")
    assert.equal(await stale, false)
    assert.deepEqual(await confirmed, { acked: true })
    assert.deepEqual(await loaded, { record: { k: "PTR", e: 1, to: "fra" }, body: emptyBody })
    assert.deepEqual(settled, ["claim", ...commits.map((_, v) => `commit${v}`), "pull", "late", "confirm"])
  })

  it("of two activations that write at once only the later claim's write counts", async (store) => {
    const [first, second] = await Promise.all([store.claim(a, true), store.claim(a, true)])
    assert.deepEqual(
      [first.record, second.record].map((record) => (record?.k === "OWNED" ? record.f : 0)),
      [1, 2],
    )
    const [lost, won] = await Promise.all([
      store.commit(a, { e: 0, f: 1, v: 0 }, write("lost", "lost")),
      store.commit(a, { e: 0, f: 2, v: 0 }, write("won", "won")),
    ])
    assert.deepEqual([lost.kind, won.kind], ["fenced", "committed"])
    assert.deepEqual((await store.load(a))?.body, body(undefined, "won"))
  })
}

export function keeps(it: OnStore): void {
  it("reopening finds everything as it was", async (store, fixture) => {
    const fence = await owned(store, "notebook/owned", "1", "2", "3")
    await store.compact("notebook/owned", fence, bytes("s2"), 2)
    await owned(store, "notebook/granted", "1")
    await store.pull("notebook/granted", true, "fra")
    await owned(store, "notebook/moved", "1")
    await store.pull("notebook/moved", true, "nrt")
    await store.confirm("notebook/moved", "nrt", 1)
    await store.rememberPeer("fra", { store: "x", watermark: 12 })
    const seen = async (now: Store): Promise<unknown> => ({
      id: now.id,
      watermark: now.watermark(),
      actors: await Promise.all((await now.list({ limit: 10 })).map(({ actor }) => now.load(actor))),
      peers: await now.peers(),
    })
    const before = await seen(store)
    assert.deepEqual(await seen(await fixture.reopen()), before)
    const last = await fixture.reopen()
    assert.equal((await last.commit("notebook/owned", fence, write("h4", "4"))).kind, "committed", "fences survive")
  })

  it("lists are in key order, in pages, by kind", async (store) => {
    const ids = Array.from({ length: 25 }, (_, i) => `notebook/l${String(i).padStart(2, "0")}`)
    await Promise.all(ids.map((id) => owned(store, id)))
    for (const [i, id] of ids.entries()) {
      if (i % 5 < 2) await store.pull(id, true, "fra")
      if (i % 5 === 0) await store.confirm(id, "fra", 1)
    }
    const kindOf = (i: number): string => (i % 5 === 0 ? "PTR" : i % 5 === 1 ? "GRANTED" : "OWNED")
    for (const k of ["OWNED", "GRANTED", "PTR", undefined] as const) {
      const found: string[] = []
      for (let after: string | undefined; ;) {
        const page = await store.list({ limit: 4, ...(k && { k }), ...(after !== undefined && { after }) })
        assert.ok(page.length <= 4)
        for (const { actor, record } of page) {
          assert.deepEqual(record, await store.peek(actor))
          found.push(actor)
        }
        after = page.at(-1)?.actor
        if (after === undefined) break
      }
      assert.deepEqual(
        found,
        ids.filter((_, i) => k === undefined || kindOf(i) === k),
        String(k),
      )
    }
    assert.deepEqual(await store.list({ after: "notebook/zzz", limit: 5 }), [])
    assert.equal((await store.list({ after: "notebook/", limit: 1_000 })).length, 25)
    for (const limit of [0, -1, 1.5, 1_001, Number.NaN]) await assert.rejects(store.list({ limit }), RangeError)
  })

  it("what is remembered of peers is replaced by what is newer, and does not move the watermark", async (store, fixture) => {
    await store.rememberPeer("fra", { store: "f", watermark: 5 })
    await store.rememberPeer("nrt", { store: "n", watermark: 1 })
    await store.rememberPeer("fra", { store: "f", watermark: 9 })
    assert.equal(store.watermark(), 0, "what is remembered of peers is no write of an actor")
    const expected = new Map([
      ["fra", { store: "f", watermark: 9 }],
      ["nrt", { store: "n", watermark: 1 }],
    ])
    assert.deepEqual(await store.peers(), expected)
    assert.deepEqual(await (await fixture.reopen()).peers(), expected)
  })

  it("the watermark grows by one a write, by nothing else, and never shrinks", async (store, fixture) => {
    const fence = await owned(store, a, "1", "2")
    assert.equal(store.watermark(), 3)
    await store.compact(a, fence, bytes("s"), 2)
    await store.pull(a, true, "fra")
    assert.equal(store.watermark(), 5)
    await store.commit(a, fence, write("x", "x"))
    await store.pull(a, true, "fra")
    await store.claim(a, true)
    await store.confirm(a, "nrt", 9)
    await store.learn(a, "nrt", 0)
    await store.install(a, true, grant(1, 0, "", emptyBody), undefined)
    await store.load(a)
    assert.equal(store.watermark(), 5)
    await store.learn(a, "fra", 1)
    await store.install(a, true, grant(2, 0, "", emptyBody), undefined)
    assert.equal(store.watermark(), 7)
    const reopened = await fixture.reopen()
    assert.equal(reopened.watermark(), 7)
    await reopened.claim(a, true)
    assert.equal(reopened.watermark(), 8)
  })
}

export function closes(it: OnStore): void {
  it("closing waits for what is under way and refuses what comes after", async (store, fixture) => {
    const ids = Array.from({ length: 50 }, (_, i) => `notebook/c${i}`)
    const under = ids.map((id) => store.claim(id, true))
    const closing = store.close()
    const again = store.close()
    const refused = hasCode("STORE_UNAVAILABLE", "not-executed")
    const late = store.claim("notebook/late", true)
    await assert.rejects(late, refused)
    assert.ok((await Promise.all(under)).every(({ kind }) => kind === "claimed"))
    await Promise.all([closing, again, store.close()])
    for (const operation of [
      store.commit(a, { e: 0, f: 1, v: 0 }, write("h", "1")),
      store.check(a, { e: 0, f: 1 }),
      store.pull(a, true, "fra"),
      store.install(a, false, grant(1, 0, "", emptyBody), undefined),
      store.confirm(a, "fra", 1),
      store.learn(a, "fra", 1),
      store.load(a),
      store.peek(a),
      store.compact(a, { e: 0, f: 1 }, bytes("s"), 0),
      store.list({ limit: 1 }),
      store.peers(),
      store.rememberPeer("fra", { store: "x", watermark: 1 }),
    ])
      await assert.rejects(operation, refused)
    const reopened = await fixture.reopen()
    assert.equal((await reopened.list({ limit: 100 })).length, 50)
    assert.equal(await reopened.peek("notebook/late"), undefined)
  })

  it("C39 a store is opened again while it is still closing", async (store, fixture) => {
    const writing = Array.from({ length: 20 }, (_, i) => store.claim(`notebook/c${i}`, true))
    const closing = store.close()
    const reopened = await fixture.open()
    assert.equal((await reopened.list({ limit: 100 })).length, 20)
    await Promise.all([closing, ...writing])
    assert.equal((await reopened.claim(a, true)).kind, "claimed")
  })
}
