import assert from "node:assert/strict"
import { describe, test } from "node:test"

import { memory, memoryDisk, memoryStore } from "./memory-store.ts"
import { decideClaim } from "./record.ts"
import type { Store } from "./store.ts"

const a = "notebook/alice"
const one = { entries: [new Uint8Array([1])], h: "h1" }

/** What the suite in testkit does not see of the memory store: it runs there. */
describe("the memory store", () => {
  test("says that it keeps nothing, and whose store it is", async () => {
    assert.equal(memoryStore().durability, "volatile")
    assert.equal(memoryStore({ id: "x" }).id, "x")
    assert.equal(memoryStore({ disk: memoryDisk("y") }).id, "y")
    const opener = memory({ disk: memoryDisk("z") })
    assert.equal(opener.kind, "memory")
    assert.equal((await opener.open()).id, "z")
  })

  test("two stores share nothing, two on one disk share all", async () => {
    const disk = memoryDisk()
    await memoryStore({ disk }).claim(a, true)
    assert.equal(await memoryStore().peek(a), undefined)
    const again = memoryStore({ disk })
    assert.equal((await again.peek(a))?.e, 0)
    assert.equal(again.watermark(), 1)
  })

  test("an operation takes effect while it is called, so a simulator decides the order of effects", () => {
    const disk = memoryDisk()
    const store = memoryStore({ disk })
    void store.claim(a, true)
    assert.equal(disk.actors.get(a)?.record.k, "OWNED")
    void store.commit(a, { e: 0, f: 1, v: 0 }, one)
    assert.equal(disk.actors.get(a)?.entries.length, 1)
  })

  test("C5 a store left over from before a crash is a zombie that the next claim fences", async () => {
    const disk = memoryDisk()
    const zombie = memoryStore({ disk })
    await zombie.claim(a, true)
    const next: Store = memoryStore({ disk })
    await next.claim(a, true)
    assert.equal((await zombie.commit(a, { e: 0, f: 1, v: 0 }, one)).kind, "fenced")
    assert.equal((await next.commit(a, { e: 0, f: 2, v: 0 }, one)).kind, "committed")
  })

  test("a disk is plain data: a copy of it is a backup that a store can be opened on", async () => {
    const disk = memoryDisk("original")
    const store = memoryStore({ disk })
    await store.claim(a, true)
    const backup = structuredClone(disk)
    await store.commit(a, { e: 0, f: 1, v: 0 }, one)
    const restored = memoryStore({ disk: backup })
    assert.equal((await restored.load(a))?.body.entries.length, 0)
    assert.ok(restored.watermark() < store.watermark())
    assert.equal(restored.id, store.id)
  })

  test("C28 after the confirm, or what stands for it, the disk holds nothing of the body", async () => {
    for (const ends of ["confirm", "learn"] as const) {
      const disk = memoryDisk()
      const store = memoryStore({ disk })
      await store.claim(a, true)
      await store.commit(a, { e: 0, f: 1, v: 0 }, one)
      await store.compact(a, { e: 0, f: 1 }, new Uint8Array([2]), 0)
      await store.pull(a, true, "fra")
      assert.equal(disk.actors.get(a)?.entries.length, 1)
      await store[ends](a, "fra", 1)
      assert.deepEqual(disk.actors.get(a), { record: { k: "PTR", e: 1, to: "fra" }, snapshot: undefined, entries: [] })
    }
  })

  test("a planted rule replaces the real one, and only that one", async () => {
    const everybodyCreates = memoryStore({ rules: { claim: (record) => decideClaim(record, true) } })
    assert.equal((await everybodyCreates.claim(a, false)).kind, "claimed")
    assert.equal((await everybodyCreates.pull("notebook/b", false, "fra")).kind, "none")
    const dropsAtSeal = memoryStore({ rules: { keepsBody: (record) => record.k === "OWNED" } })
    await dropsAtSeal.claim(a, true)
    await dropsAtSeal.commit(a, { e: 0, f: 1, v: 0 }, one)
    await dropsAtSeal.pull(a, true, "fra")
    const again = await dropsAtSeal.pull(a, true, "fra")
    assert.ok(again.kind === "grant" && again.body.entries.length === 0)
  })

  test("a POP that is known does not grant to itself", async () => {
    const store = memoryStore({ pop: "bos" })
    await assert.rejects(store.pull(a, true, "bos"), RangeError)
    assert.equal(await store.peek(a), undefined)
  })
})
