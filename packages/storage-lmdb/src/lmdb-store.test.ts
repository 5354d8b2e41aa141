import type { Store } from "@sojourn/core"
import { open } from "lmdb"
import assert from "node:assert/strict"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { endianness, tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import { lmdb, type LmdbOptions } from "./index.ts"
import { entriesOf, readChunks, rowKey } from "./journal-row.ts"
import { decodeValue, encodeValue } from "./stored-value.ts"

const a = "notebook/alice"
const b = "notebook/bob"

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

async function opened(t: TestContext, folder: string, options?: LmdbOptions): Promise<Store> {
  const store = await lmdb(folder, options).open()
  t.after(() => store.close())
  return store
}

const code =
  (expected: string, said = /./) =>
  (error: unknown) => {
    const { code: got, message } = error as { code?: string; message: string }
    assert.equal(got, expected, message)
    assert.match(message, said)
    return true
  }

const entry = (text: string): Uint8Array => new TextEncoder().encode(text)

async function written(store: Store, actor: string, ...entries: string[]): Promise<void> {
  const { record } = await store.claim(actor, true)
  assert.ok(record?.k === "OWNED")
  const { e, f, v } = record
  const answer = await store.commit(actor, { e, f, v }, { entries: entries.map(entry), h: `h${v + entries.length}` })
  assert.equal(answer.kind, "committed")
}

type Table = "records" | "kinds" | "snapshots" | "journal" | "meta"

/** Another hand in the data of a closed store: `change` may return other bytes for the value under `key`, or null to remove it; `besides` is put. */
async function tamper(
  folder: string,
  table: Table,
  key: Uint8Array,
  change: (bytes: Buffer) => Buffer | null,
  besides?: readonly [Uint8Array, Uint8Array],
): Promise<void> {
  const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, overlappingSync: false })
  const db = root.openDB<Uint8Array, Uint8Array>(table, { encoding: "binary", keyEncoding: "binary" })
  const before = db.get(key)
  assert.ok(before !== undefined, `there is no such key in ${table}`)
  const after = change(Buffer.from(before))
  await (after === null ? db.remove(key) : db.put(key, after))
  if (besides) await db.put(...besides)
  await root.close()
}

async function stored(folder: string, table: Table, key: Uint8Array): Promise<Buffer | undefined> {
  const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, overlappingSync: false })
  const bytes = root.openDB<Uint8Array, Uint8Array>(table, { encoding: "binary", keyEncoding: "binary" }).get(key)
  await root.close()
  return bytes && Buffer.from(bytes)
}

function allOperations(store: Store, actor: string): Promise<unknown>[] {
  return [
    store.claim(actor, true),
    store.commit(actor, { e: 0, f: 1, v: 1 }, { entries: [entry("x")], h: "x" }),
    store.check(actor, { e: 0, f: 1 }),
    store.pull(actor, true, "fra"),
    store.install(actor, false, { e: 9, v: 0, h: "", body: { snapshot: undefined, entries: [] } }, undefined),
    store.confirm(actor, "fra", 1),
    store.learn(actor, "fra", 9),
    store.load(actor),
    store.peek(actor),
    store.compact(actor, { e: 0, f: 1 }, entry("s"), 1),
  ]
}

void describe("corrupt data in an LMDB store", () => {
  const damages: Record<string, (bytes: Buffer) => Buffer> = {
    "one bit of it is flipped": (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 3) ^ 1, bytes.length - 3)
      return bytes
    },
    "its checksum is flipped": (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(2) ^ 0x80, 2)
      return bytes
    },
    "it is cut short": (bytes) => bytes.subarray(0, bytes.length - 1),
    "it is empty": () => Buffer.alloc(0),
    "it is of a later format": (bytes) => {
      bytes.writeUInt8(2, 0)
      return bytes
    },
    "it is another program's": () => Buffer.from('{"k":"OWNED","e":0,"f":1,"v":1,"h":""}'),
  }
  for (const [damage, change] of Object.entries(damages))
    test(`C37 where a record is damaged so that ${damage}, every operation on the actor is refused and changes nothing, and others are served`, async (t) => {
      const folder = folderFor(t)
      const before = await lmdb(folder).open()
      for (const actor of [a, b]) await written(before, actor, "1")
      await before.close()
      await tamper(folder, "records", Buffer.from(a), change)
      const bytes = await stored(folder, "records", Buffer.from(a))
      const store = await lmdb(folder).open()
      const alsoRunning = written(store, b, "2")
      for (const refused of allOperations(store, a))
        await assert.rejects(refused, code("CORRUPT_RECORD", /notebook\/alice/))
      await alsoRunning
      for (const k of ["OWNED", undefined] as const)
        assert.deepEqual(
          (await store.list({ limit: 10, ...(k && { k }) })).map(({ actor }) => actor),
          [b],
        )
      assert.equal((await store.load(b))?.body.entries.length, 2)
      await store.close()
      assert.deepEqual(await stored(folder, "records", Buffer.from(a)), bytes)
      assert.ok(await stored(folder, "journal", rowKey(1)), "nor is its journal touched")
    })

  test("C37 a record under another actor's key is corrupt there", async (t) => {
    const folder = folderFor(t)
    const before = await lmdb(folder).open()
    for (const actor of [a, b]) await written(before, actor, "1")
    await before.close()
    const other = await stored(folder, "records", Buffer.from(b))
    await tamper(folder, "records", Buffer.from(a), () => other ?? assert.fail())
    const store = await opened(t, folder)
    await assert.rejects(store.peek(a), code("CORRUPT_RECORD"))
    assert.equal((await store.peek(b))?.k, "OWNED")
  })

  const journalDamages: Record<string, (bytes: Buffer) => Buffer | null> = {
    "is gone": () => null,
    "has a bit of its head flipped": (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(12) ^ 1, 12)
      return bytes
    },
    "is cut short": (bytes) => bytes.subarray(0, bytes.length - 1),
    "is of a later format": (bytes) => {
      bytes.writeUInt8(2, 0)
      return bytes
    },
  }
  for (const [damage, change] of Object.entries(journalDamages))
    for (const [which, row] of [
      ["first", 1],
      ["middle", 2],
      ["last", 3],
    ] as const)
      test(`C37 where the ${which} row of an actor's journal ${damage}, its body is refused, its record left, and others are served`, async (t) => {
        const folder = folderFor(t)
        const before = await lmdb(folder).open()
        await written(before, a, "1")
        for (const v of [1, 2])
          await before.commit(a, { e: 0, f: 1, v }, { entries: [entry(`${v + 1}`)], h: `h${v + 1}` })
        await written(before, b, "1", "2")
        await before.close()
        await tamper(folder, "journal", rowKey(row), change)
        const damaged = await stored(folder, "journal", rowKey(row))
        const store = await lmdb(folder).open()
        for (const refused of [store.load(a), store.claim(a, true), store.pull(a, true, "fra")])
          await assert.rejects(refused, code("CORRUPT_RECORD", /revision/))
        assert.deepEqual(await store.peek(a), { k: "OWNED", e: 0, f: 1, v: 3, h: "h3" })
        await written(store, b, "3")
        assert.equal((await store.load(b))?.body.entries.length, 3)
        await store.close()
        assert.deepEqual(await stored(folder, "journal", rowKey(row)), damaged)
      })

  for (const [damage, change] of Object.entries(journalDamages))
    test(`C37 where the only row of an actor's journal ${damage}, nothing takes its place and it is not granted`, async (t) => {
      const folder = folderFor(t)
      const before = await lmdb(folder).open()
      await written(before, a, "1", "2")
      await before.close()
      await tamper(folder, "journal", rowKey(1), change)
      const store = await opened(t, folder)
      for (const refused of [store.load(a), store.claim(a, true), store.pull(a, true, "fra")])
        await assert.rejects(refused, code("CORRUPT_RECORD", /nothing where revision 1/))
      assert.equal((await store.peek(a))?.k, "OWNED")
    })

  for (const [damage, change] of Object.entries(journalDamages))
    test(`C29, C37 where a row of a body that began anew ${damage}, what the body before left in a row that it shared is not taken for it`, async (t) => {
      const folder = folderFor(t)
      const before = await lmdb(folder).open()
      await Promise.all([before.claim(a, true), before.claim(b, true)])
      await Promise.all([
        before.commit(a, { e: 0, f: 1, v: 0 }, { entries: ["old 1", "old 2"].map(entry), h: "o2" }),
        before.commit(b, { e: 0, f: 1, v: 0 }, { entries: [entry("b 1")], h: "b1" }),
      ])
      await before.pull(a, true, "fra")
      await before.confirm(a, "fra", 1)
      await before.forget("fra", { heir: "x", inherited: true })
      await before.revive(a, { k: "PTR", e: 1 }, 5)
      await before.claim(a, true)
      await before.commit(a, { e: 5, f: 1, v: 0 }, { entries: ["new 1", "new 2"].map(entry), h: "n2" })
      await before.close()
      await tamper(folder, "journal", rowKey(2), change)
      const store = await opened(t, folder)
      await assert.rejects(store.load(a), code("CORRUPT_RECORD", /nothing where revision 1/))
      assert.equal((await store.load(b))?.body.entries.length, 1)
    })

  test("C37 where the revision of a snapshot is damaged, its actor is refused and no row of the journal is given up for it", async (t) => {
    const folder = folderFor(t)
    const before = await lmdb(folder).open()
    await written(before, a, "1", "2")
    await before.compact(a, { e: 0, f: 1 }, entry("snapshot"), 2)
    await before.commit(a, { e: 0, f: 1, v: 2 }, { entries: ["3", "4", "5", "6"].map(entry), h: "h6" })
    await before.close()
    await tamper(folder, "snapshots", Buffer.from(a), (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(7) ^ 4, 7)
      return bytes
    })
    const store = await lmdb(folder).open()
    await assert.rejects(store.load(a), code("CORRUPT_RECORD", /revision 6 where 2 belongs/))
    await written(store, b, "1")
    await store.close()
    assert.equal(await rows(folder, "journal"), 2)
  })

  for (const [damage, key] of [
    ["is past every other", Buffer.from([0x80, 0, 0, 0, 0, 0, 0, 5])],
    ["is past what a number can be", Buffer.from([0, 0x40, 0, 0, 0, 0, 0, 5])],
    ["is a number too large for a key", Buffer.from([0, 1, 0, 0, 0, 0, 0, 5])],
    ["is short", Buffer.from([0, 0, 5])],
  ] as const)
    test(`C37 where the key of a journal's row ${damage}, whose entries it has is refused, and others are served and lose nothing`, async (t) => {
      const folder = folderFor(t)
      const actors = ["n/a", "n/b", "n/c", "n/d", "n/e"]
      const before = await lmdb(folder).open()
      for (const actor of actors) await written(before, actor, actor)
      await before.close()
      let row: Buffer | undefined
      await tamper(folder, "journal", rowKey(5), (bytes) => {
        row = bytes
        return null
      })
      await tamper(folder, "journal", rowKey(1), (bytes) => bytes, [key, row ?? assert.fail()])
      const store = await opened(t, folder)
      await assert.rejects(store.load("n/e"), code("CORRUPT_RECORD"))
      for (const actor of actors.slice(0, 4)) await written(store, actor, "more")
      for (const actor of actors.slice(0, 4)) {
        const entries = (await store.load(actor))?.body.entries.map((bytes) => Buffer.from(bytes).toString())
        assert.deepEqual(entries, [actor, "more"])
      }
    })

  test("C37 a record changed on the disk is read from there, whatever was written last", async (t) => {
    const folder = folderFor(t)
    const before = await lmdb(folder).open()
    await written(before, a, "1")
    const first = await before.peek(a)
    await before.close()
    const bytes = (await stored(folder, "records", Buffer.from(a))) ?? assert.fail()
    const store = await lmdb(folder).open()
    await written(store, a, "2")
    assert.notDeepEqual(await store.peek(a), first)
    await store.close()
    await tamper(folder, "records", Buffer.from(a), () => bytes)
    assert.deepEqual(await (await opened(t, folder)).peek(a), first)
  })
})

void describe("opening an LMDB store", () => {
  test("a folder is made where there is none, with parents and a dot in its name, and keeps its identity", async (t) => {
    const folder = join(folderFor(t), "deep", "store.v1")
    const store = await lmdb(folder).open()
    const { id } = store
    await store.close()
    assert.ok(existsSync(join(folder, "data.mdb")))
    assert.equal((await opened(t, folder)).id, id)
    assert.notEqual((await opened(t, join(folderFor(t), "other"))).id, id)
  })

  test("C39 a path longer than a socket's name may be", { skip: process.platform !== "linux" }, async (t) => {
    const folder = join(folderFor(t), ...Array.from({ length: 6 }, () => "d".repeat(40)))
    const store = await opened(t, folder)
    await assert.rejects(lmdb(folder).open(), code("STORE_IN_USE", /this process/))
    await written(store, a, "1")
    await store.close()
    assert.equal((await (await opened(t, folder)).peek(a))?.k, "OWNED")
    assert.ok(!readdirSync(process.cwd()).some((name) => name.startsWith("lock.")))
  })

  test("a second open in the same process is refused, by whichever path, until the first is closed", async (t) => {
    const folder = folderFor(t)
    const store = await opened(t, join(folder, "s"))
    for (const path of [join(folder, "s"), join(folder, "x", "..", "s")])
      await assert.rejects(lmdb(path).open(), code("STORE_IN_USE", /this process/))
    await written(store, a, "1")
    await store.close()
    await (await lmdb(join(folder, "s")).open()).close()
  })

  test("a file, a folder with other things in it and a file that is no LMDB data are refused and left alone", async (t) => {
    const folder = folderFor(t)
    const file = join(folder, "file")
    writeFileSync(file, "text")
    await assert.rejects(lmdb(file).open(), code("CORRUPT_RECORD", /is a file/))
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /holds "file"/))
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.endsWith(".mdb")),
      [],
    )
    const garbage = join(folder, "garbage")
    mkdirSync(garbage)
    writeFileSync(join(garbage, "data.mdb"), Buffer.alloc(8192, "not a database "))
    await assert.rejects(lmdb(garbage).open(), code("CORRUPT_RECORD", /no LMDB file/))
    await assert.rejects(lmdb(garbage).open(), code("CORRUPT_RECORD", /no LMDB file/), "the lock was given back")
  })

  test("the LMDB data of another program is refused", async (t) => {
    const folder = folderFor(t)
    const foreign = open(folder, { noSubdir: false })
    const theirs = foreign.openDB("theirs", {})
    await theirs.put("key", "value")
    await foreign.close()
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /another program/))
  })

  test("a store of a later layout is refused, and so is one whose identity is damaged or gone", async (t) => {
    const folder = folderFor(t)
    const store = await lmdb(folder).open()
    await written(store, a, "1")
    await store.close()
    const key = Buffer.from("store")
    const good = (await stored(folder, "meta", key)) ?? assert.fail()
    const later = Buffer.from(good)
    later.writeUInt8(9, 0)
    await tamper(folder, "meta", key, () => later)
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /later version/))
    await tamper(folder, "meta", key, () => Buffer.concat([good, Buffer.from(" ")]))
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /checksum/))
    await tamper(folder, "meta", key, () => encodeValue(key, { layout: 3, id: "x" }))
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /is of layout 3; this version reads layout 2/))
    await tamper(folder, "meta", key, () => null)
    await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /no identity/))
  })

  /** Another hand makes it a store of layout 1, which had a row of the journal for each entry. Returns how many. */
  async function toLayout1(folder: string, besides?: Uint8Array): Promise<number> {
    const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, overlappingSync: false })
    const table = (name: string): ReturnType<typeof root.openDB<Uint8Array, Uint8Array>> =>
      root.openDB<Uint8Array, Uint8Array>(name, { encoding: "binary", keyEncoding: "binary" })
    const [journal, snapshots, meta] = [table("journal"), table("snapshots"), table("meta")]
    const rows = [...journal.getRange({})].map(({ key, value }) => [Buffer.from(key), Buffer.from(value)] as const)
    let entries = 0
    for (const [key, row] of rows) {
      await journal.remove(key)
      for (const chunk of readChunks(key, row) ?? assert.fail()) {
        const actor = Buffer.from(chunk.actor)
        const snapshot = snapshots.get(actor)
        // It kept nothing that a snapshot covers.
        const from = Math.max(chunk.first, snapshot ? Number(Buffer.from(snapshot).readBigUInt64BE()) + 1 : 1)
        for (const [i, bytes] of entriesOf(row, chunk, from, Infinity).entries()) {
          const at = Buffer.alloc(9)
          at.writeBigUInt64BE(BigInt(from + i), 1)
          await journal.put(Buffer.concat([actor, at]), bytes)
          entries++
        }
      }
    }
    if (besides) await journal.put(besides, Buffer.from("x"))
    const key = Buffer.from("store")
    const { id } = decodeValue(key, meta.get(key) ?? assert.fail(), "store") as { id: string }
    await meta.put(key, encodeValue(key, { layout: 1, id }))
    await root.close()
    return entries
  }

  test("C71 a store of the first layout is opened with everything it holds, and is of this one from then on", async (t) => {
    const folder = folderFor(t)
    const before = await lmdb(folder).open()
    const actors = [a, b, "nötebook/ål", `${a}s`]
    for (const [i, actor] of actors.entries())
      await written(
        before,
        actor,
        ...Array.from({ length: 2 + 10 * i }, (_, n) => `${actor} ${n} ${"x".repeat(n * 40)}`),
      )
    await before.compact(b, { e: 0, f: 1 }, entry("snapshot"), 5)
    await before.compact(`${a}s`, { e: 0, f: 1 }, entry("all of it"), 32)
    await before.pull(a, true, "fra")
    const held = await Promise.all(actors.map((actor) => before.load(actor)))
    const { id } = before
    await before.close()
    assert.equal(await toLayout1(folder), 2 + 7 + 22)
    for (const layout of [1, 2]) {
      const store = await lmdb(folder).open()
      assert.equal(store.id, id)
      assert.deepEqual(await Promise.all(actors.map((actor) => store.load(actor))), held, `of layout ${layout}`)
      await store.close()
    }
    const store = await opened(t, folder)
    await written(store, b, "more")
    assert.equal((await store.load(b))?.body.entries.length, 8)
  })

  test("C71 a store of the first layout with a key that it never had is refused and stays as it is", async (t) => {
    const folder = folderFor(t)
    const before = await lmdb(folder).open()
    await written(before, a, "1", "2")
    await before.close()
    const strange = Buffer.from("no key")
    await toLayout1(folder, strange)
    for (let i = 0; i < 2; i++)
      await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /layout 1 has the key 6e6f206b6579/))
    await tamper(folder, "journal", strange, () => null)
    assert.equal((await (await opened(t, folder)).load(a))?.body.entries.length, 2)
  })

  test("C71 a record lies on disk as the first version wrote it", async (t) => {
    const folder = folderFor(t)
    const store = await lmdb(folder).open()
    await written(store, a, "1")
    await store.close()
    const bytes = (await stored(folder, "records", Buffer.from(a))) ?? assert.fail()
    assert.equal(
      bytes.toString("latin1"),
      `\x01${bytes.toString("latin1", 1, 5)}{"k":"OWNED","e":0,"f":1,"v":1,"h":"h1"}`,
    )
    assert.equal(bytes.toString("hex", 1, 5), "696958a3")
  })

  test("options out of range are refused where they are given", () => {
    for (const wrong of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => lmdb("x", { commitMsMax: wrong }), RangeError)
      assert.throws(() => lmdb("x", { queueBytesMax: wrong }), RangeError)
    }
  })
})

async function rows(folder: string, table: Table): Promise<number> {
  const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, overlappingSync: false })
  const count = root.openDB<Uint8Array, Uint8Array>(table, { encoding: "binary", keyEncoding: "binary" }).getKeysCount()
  await root.close()
  return count
}

void describe("what an LMDB store lets go of", () => {
  for (const ends of ["confirm", "learn"] as const)
    test(`C28 after the ${ends} no row of the body is left, and of others every one`, async (t) => {
      const folder = folderFor(t)
      const store = await lmdb(folder).open()
      for (const actor of [a, `${a}s`]) {
        await written(store, actor, "1", "2", "3")
        await store.compact(actor, { e: 0, f: 1 }, entry("snapshot"), 1)
      }
      await store.pull(a, true, "fra")
      await store.close()
      assert.deepEqual([await rows(folder, "snapshots"), await rows(folder, "journal")], [2, 2], "kept while granted")
      const again = await lmdb(folder).open()
      await again[ends](a, "fra", 1)
      await again.close()
      assert.deepEqual([await rows(folder, "snapshots"), await rows(folder, "journal")], [1, 1])
      assert.deepEqual([await rows(folder, "records"), await rows(folder, "kinds")], [2, 2])
    })
})

/** Whether the last transactions were published before they were flushed: a flag in both pages of meta data (mdb.c, md_flags). */
function publishesUnflushed(folder: string): boolean {
  const file = readFileSync(join(folder, "data.mdb"))
  return [52, 4096 + 52].some((at) => (file.readUInt16LE(at) & 0x1000) !== 0)
}

void describe("an LMDB store's flushes", () => {
  test(
    "C31 no transaction is published before it is flushed, as lmdb does by default",
    { skip: endianness() !== "LE" },
    async (t) => {
      const folder = folderFor(t)
      const store = await opened(t, join(folder, "ours"))
      for (const text of ["1", "2", "3"]) await written(store, a, text)
      assert.equal(publishesUnflushed(join(folder, "ours")), false)
      const byDefault = open(join(folder, "theirs"), { noSubdir: false })
      await byDefault.put("key", "value")
      await byDefault.put("key", "other")
      assert.equal(publishesUnflushed(join(folder, "theirs")), true, "else this test sees nothing")
      await byDefault.close()
    },
  )
})

void describe("an LMDB store whose disk hangs or is overwhelmed", () => {
  test("C6 a commit past its time is of unknown outcome, nothing is served until it ends, and then everything", async (t) => {
    const hung = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    let hangs = false
    const store = await opened(t, folderFor(t), {
      // Longer than a flush takes on a machine that has no time.
      commitMsMax: 1_000,
      flushGate: async (flush) => {
        await flush()
        if (!hangs) return
        reached.resolve()
        await hung.promise
      },
    })
    await written(store, a, "1")
    hangs = true
    const stuck = store.commit(a, { e: 0, f: 1, v: 1 }, { entries: [entry("2")], h: "h2" })
    await reached.promise
    const behind = store.claim(b, true)
    behind.catch(() => undefined)
    await assert.rejects(stuck, code("UNKNOWN_OUTCOME", /1000 ms/))
    await assert.rejects(behind, code("STORE_UNAVAILABLE", /not begun/))
    for (const refused of [...allOperations(store, a), store.list({ limit: 1 }), store.peers()])
      await assert.rejects(refused, code("STORE_UNAVAILABLE", /1000 ms/))
    hangs = false
    hung.resolve()
    await new Promise((resolve) => setImmediate(resolve))
    const claim = await store.claim(a, true)
    assert.deepEqual(claim.record, { k: "OWNED", e: 0, f: 2, v: 2, h: "h2" })
    assert.equal(await store.peek(b), undefined)
    assert.equal(store.watermark(), 4)
  })

  test("C6 a store that is closed while a commit hangs gives its folder back when that has ended", async (t) => {
    const hung = Promise.withResolvers<void>()
    const folder = folderFor(t)
    const store = await lmdb(folder, {
      commitMsMax: 50,
      flushGate: async (flush) => {
        await hung.promise
        await flush()
      },
    }).open()
    await assert.rejects(store.claim(a, true), code("STORE_UNAVAILABLE", /not begun/))
    await store.close()
    await assert.rejects(lmdb(folder).open(), code("STORE_IN_USE"))
    hung.resolve()
    let next: Store | undefined
    while (next === undefined)
      next = await opened(t, folder).catch((error: unknown) => {
        code("STORE_IN_USE")(error)
        return undefined
      })
    assert.equal(await next.peek(a), undefined)
  })

  test("what waits for the disk is bounded in bytes, and the bound is a named error that executes nothing", async (t) => {
    const held = Promise.withResolvers<void>()
    let hold = false
    const store = await opened(t, folderFor(t), {
      queueBytesMax: 10_000,
      flushGate: async (flush) => {
        if (hold) await held.promise
        await flush()
      },
    })
    await written(store, a, "1")
    hold = true
    const first = store.claim(b, true)
    await new Promise((resolve) => setImmediate(resolve))
    const commits = [1, 2, 3].map((v) =>
      store.commit(a, { e: 0, f: 1, v }, { entries: [new Uint8Array(4_000)], h: `h${v + 1}` }),
    )
    await assert.rejects(commits[2] ?? assert.fail(), code("STORE_UNAVAILABLE", /8000 bytes wait/))
    held.resolve()
    await first
    assert.deepEqual(
      (await Promise.all(commits.slice(0, 2))).map(({ kind }) => kind),
      ["committed", "committed"],
    )
    assert.equal((await store.peek(a))?.e, 0)
  })

  test("what is read in the batch that wrote it is the reader's own", async (t) => {
    const store = await opened(t, folderFor(t))
    await written(store, a, "1")
    const [, one, two] = await Promise.all([
      store.compact(a, { e: 0, f: 1 }, entry("snapshot"), 1),
      store.load(a),
      store.load(a),
    ])
    one?.body.snapshot?.fill(0)
    assert.deepEqual(Buffer.from(two?.body.snapshot ?? []).toString(), "snapshot")
    assert.equal(two?.body.snapshot?.buffer.byteLength, 8 + "snapshot".length, "and holds no memory of others")
  })

  test("C29 a POP that cannot be forgotten, for its name is too long, fails alone", async (t) => {
    const store = await opened(t, folderFor(t))
    const forgotten = store.forget("x".repeat(3_000), { e: 1 } as never)
    const claimed = store.claim(a, true)
    await assert.rejects(forgotten, RangeError)
    assert.equal((await claimed).kind, "claimed")
  })

  test("an operation that fails on its own does not touch those in its batch", async (t) => {
    const store = await opened(t, folderFor(t))
    await written(store, a, "1", "2")
    const running = [
      store.commit(a, { e: 0, f: 1, v: 2 }, { entries: [entry("3")], h: "h3" }),
      store.compact(a, { e: 0, f: 1 }, entry("s"), 99),
      store.install(b, true, { e: 3, v: 0, h: "", body: { snapshot: undefined, entries: [] } }, undefined),
      store.commit(a, { e: 0, f: 1, v: 3 }, { entries: [entry("4")], h: "h4" }),
    ] as const
    const [third, compacted, installed, fourth] = await Promise.allSettled(running)
    assert.deepEqual(
      [third.status, compacted.status, installed.status, fourth.status],
      ["fulfilled", "rejected", "rejected", "fulfilled"],
    )
    assert.equal((await store.load(a))?.body.entries.length, 4)
  })
})
