import { open } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import type { Table } from "./actor-rows.ts"
import { Records } from "./records.ts"
import { encodeRecord, type StoredRecord } from "./stored-value.ts"
import { WriteBatch } from "./write-batch.ts"

const [a, b] = ["a", "b"].map((key) => Buffer.from(key)) as [Buffer, Buffer]
const of = (v: number): StoredRecord => ({ record: { k: "OWNED", e: 1, f: 1, v, h: "" }, from: 0, row: 0 })

interface Fixture {
  readonly records: Records
  readonly table: Table
  readonly batch: WriteBatch<"records">
  readonly awake: Set<string>
  write(): Promise<void>
}

function fixture(t: TestContext): Fixture {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  const encodings = { encoding: "binary", keyEncoding: "binary" } as const
  const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, overlappingSync: false, ...encodings })
  const table = root.openDB<Uint8Array, Uint8Array>("records", encodings)
  t.after(async () => {
    await root.close()
    rmSync(folder, { recursive: true })
  })
  const batch = new WriteBatch(root, { records: table })
  const awake = new Set(["a"])
  const records = new Records(batch.tables.records, (actor) => awake.has(actor))
  const write = async (): Promise<void> => {
    records.seal()
    await batch.write()
    records.kept()
    batch.clear()
  }
  return { records, table, batch, awake, write }
}

void describe("the ownership records of an LMDB store", () => {
  test("one that a batch writes several times is on the disk as it was last, and frozen for all who ask", async (t) => {
    const { records, table, write } = fixture(t)
    records.put("a", a, of(1))
    records.put("a", a, of(2))
    assert.deepEqual(records.get("a", a), of(2))
    assert.ok(Object.isFrozen(records.get("a", a)?.record))
    await write()
    assert.deepEqual(table.get(a), encodeRecord(a, of(2)))
  })

  test("only of an actor that is awake it is known without reading it", async (t) => {
    const { records, table, awake, write } = fixture(t)
    records.put("a", a, of(1))
    records.put("b", b, of(1))
    await write()
    for (const key of [a, b]) await table.put(key, encodeRecord(key, of(7)))
    assert.deepEqual([records.get("a", a), records.get("b", b)], [of(1), of(7)])
    awake.clear()
    records.put("a", a, of(2))
    await write()
    await table.put(a, encodeRecord(a, of(7)))
    assert.deepEqual(records.get("a", a), of(7))
  })

  test("C32 after a batch that was given up it is what it was; after one that nobody knows of it is read", async (t) => {
    const { records, table, batch, write } = fixture(t)
    records.put("a", a, of(1))
    await write()
    records.put("a", a, of(2))
    records.undo()
    batch.clear()
    assert.deepEqual(records.get("a", a), of(1))
    records.put("a", a, of(2))
    records.seal()
    await batch.write()
    batch.clear()
    records.lost()
    assert.deepEqual(records.get("a", a), of(2))
    await table.put(a, encodeRecord(a, of(3)))
    records.put("a", a, of(4))
    records.lost()
    assert.deepEqual(records.get("a", a), of(3))
  })
})
