import assert from "node:assert/strict"

import { emptyBody } from "@sojourn/core"

import { a, body, grant, hasCode, owned, write, type OnStore } from "./store-samples.ts"

/** The storage suite: what a store does about a POP that was given up as destroyed. */
export function forgets(it: OnStore): void {
  it("a forgotten POP stays forgotten after reopening, with its first heir, and with its role once that is inherited (C29)", async (store, fixture) => {
    assert.equal((await store.forgotten()).size, 0)
    assert.deepEqual(await store.forget("fra", { heir: "bos", inherited: false }), { heir: "bos", inherited: false })
    assert.deepEqual(await store.forget("fra", { heir: "nrt", inherited: true }), { heir: "bos", inherited: false })
    assert.deepEqual(await store.forget("fra", { heir: "bos", inherited: true }), { heir: "bos", inherited: true })
    assert.deepEqual(await store.forget("fra", { heir: "bos", inherited: false }), { heir: "bos", inherited: true })
    const again = await fixture.reopen()
    assert.deepEqual([...(await again.forgotten())], [["fra", { heir: "bos", inherited: true }]])
    assert.equal((await again.peers()).size, 0)
  })

  it("nothing is granted to a forgotten POP, and its grants, confirms and pointers do nothing, also those under way (C29)", async (store) => {
    await owned(store, "notebook/granted", "1")
    await store.pull("notebook/granted", true, "fra")
    await store.install(a, false, grant(1, 0, "", emptyBody), undefined)
    await store.pull(a, false, "nrt")
    const before = await store.list({ limit: 10 })
    // Together: the operations were called after it, and take effect after it.
    const forgotten = store.forget("fra", { heir: "bos", inherited: false })
    const late = [
      assert.rejects(store.pull("notebook/new", true, "fra"), hasCode("POP_FORGOTTEN", "not-executed")),
      assert.rejects(
        store.install(a, false, { ...grant(3, 1, "h", body("s")), from: "fra" }, undefined),
        hasCode("POP_FORGOTTEN", "not-executed"),
      ),
      store.confirm("notebook/granted", "fra", 1).then((answer) => assert.deepEqual(answer, { acked: false })),
      store.learn(a, "fra", 9).then((answer) => assert.deepEqual(answer, { e: 0 })),
    ]
    await Promise.all([forgotten, ...late])
    assert.deepEqual(await store.list({ limit: 10 }), before)
    const other = await store.install(a, false, { ...grant(3, 1, "h", body("s")), from: "nrt" }, undefined)
    assert.equal(other.kind, "installed")
  })

  it("an actor is revived from its sealed body, with a cut, once, and only where the record is the one that was seen (C29)", async (store, fixture) => {
    await owned(store, a, "1", "2")
    const pulled = await store.pull(a, true, "fra")
    assert.ok(pulled.kind === "grant")
    for (const seen of [undefined, { k: "PTR" as const, e: 1 }, { k: "GRANTED" as const, e: 2 }])
      assert.deepEqual(await store.revive(a, seen, 3), { revived: false })
    assert.deepEqual(await store.revive(a, { k: "GRANTED", e: 1 }, 1), { revived: false })
    assert.deepEqual(await store.peek(a), pulled.record)
    assert.deepEqual(await store.revive(a, { k: "GRANTED", e: 1 }, 3), { revived: true })
    const cuts = [{ e: 3, v: 2 }]
    const record = { k: "OWNED", e: 3, f: 0, v: 2, h: "h2", cuts } as const
    const again = await fixture.reopen()
    assert.deepEqual(await again.load(a), { record, body: body(undefined, "1", "2") })
    assert.deepEqual(await again.revive(a, { k: "GRANTED", e: 1 }, 3), { revived: true })
    assert.deepEqual((await again.load(a))?.record, record)
    assert.deepEqual(await again.revive(a, { k: "OWNED", e: 3 }, 5), { revived: false })
    const claim = await again.claim(a, false)
    assert.ok(claim.kind === "claimed")
    assert.deepEqual(claim.record.cuts, cuts)
    assert.deepEqual(await again.commit(a, { e: 3, f: 1, v: 2 }, write("h3", "3")), { kind: "committed", v: 3 })
    const moved = await again.pull(a, false, "nrt")
    assert.ok(moved.kind === "grant")
    assert.deepEqual(moved.record, { k: "GRANTED", e: 4, to: "nrt", v: 3, h: "h3", cuts })
  })

  it("an actor without a copy is revived empty, over a tombstone or over nothing (C29)", async (store) => {
    await owned(store, a, "1")
    await store.pull(a, true, "fra")
    await store.confirm(a, "fra", 1)
    for (const [id, seen] of [
      [a, { k: "PTR", e: 1 }],
      ["notebook/none", undefined],
    ] as const) {
      assert.deepEqual(await store.revive(id, seen, 3), { revived: true })
      const record = { k: "OWNED", e: 3, f: 0, v: 0, h: "", cuts: [{ e: 3, v: 0 }] }
      assert.deepEqual(await store.load(id), { record, body: emptyBody })
    }
  })

  it("cuts travel in a grant; an heir creates at its epoch with a cut, and learns what it is told where it has nothing (C29)", async (store) => {
    const cuts = [{ e: 3, v: 2 }]
    const installed = await store.install(a, false, { ...grant(4, 2, "h", body("s")), cuts }, undefined)
    assert.deepEqual(installed.record, { k: "OWNED", e: 4, f: 0, v: 2, h: "h", cuts })
    const created = await store.claim("notebook/new", 2)
    assert.deepEqual(created.record, { k: "OWNED", e: 2, f: 1, v: 0, h: "", cuts: [{ e: 2, v: 0 }] })
    assert.deepEqual(await store.learn("notebook/told", "nrt", 5), { e: 0 })
    assert.deepEqual(await store.learn("notebook/told", "nrt", 5, true), { e: 5 })
    assert.deepEqual(await store.learn("notebook/told", "sin", 4, true), { e: 5 })
    assert.deepEqual(await store.peek("notebook/told"), { k: "PTR", e: 5, to: "nrt" })
  })
}
