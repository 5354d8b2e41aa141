import { open } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import type { Table } from "./actor-rows.ts"
import { WriteBatch } from "./write-batch.ts"

interface Fixture {
  readonly batch: WriteBatch<"one" | "other">
  readonly one: Table
  readonly other: Table
}

function fixture(t: TestContext): Fixture {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  const encodings = { encoding: "binary", keyEncoding: "binary" } as const
  const options = { noSubdir: false, overlappingSync: false, eventTurnBatching: false, ...encodings }
  const root = open<Uint8Array, Uint8Array>(folder, options)
  const table = (name: string): Table => root.openDB<Uint8Array, Uint8Array>(name, encodings)
  t.after(async () => {
    await root.close()
    rmSync(folder, { recursive: true })
  })
  const [one, other] = [table("one"), table("other")]
  return { batch: new WriteBatch(root, { one, other }), one, other }
}

const bytes = (text: string): Buffer => Buffer.from(text)
const read = (value: Uint8Array | undefined): string | undefined => value && Buffer.from(value).toString()

void describe("what a batch writes", () => {
  test("is seen by its steps at once, and on the disk once it was written, in all tables", async (t) => {
    const { batch, one, other } = fixture(t)
    await one.put(bytes("old"), bytes("0"))
    const { one: first, other: second } = batch.tables
    first.put(bytes("new"), bytes("1"))
    first.put(bytes("new"), bytes("2"))
    first.remove(bytes("old"))
    second.put(bytes("old"), bytes("3"))
    assert.deepEqual([first.get(bytes("new")), first.get(bytes("old")), second.get(bytes("old"))].map(read), [
      "2",
      undefined,
      "3",
    ])
    assert.deepEqual(
      [first.has(bytes("new")), first.has(bytes("old")), second.has(bytes("old")), second.has(bytes("new"))],
      [true, false, true, false],
    )
    assert.deepEqual([one.get(bytes("new")), one.get(bytes("old"))].map(read), [undefined, "0"])
    await batch.write()
    assert.deepEqual([one.get(bytes("new")), one.get(bytes("old")), other.get(bytes("old"))].map(read), [
      "2",
      undefined,
      "3",
    ])
    batch.clear()
    first.put(bytes("new"), bytes("given up"))
    batch.clear()
    assert.equal(read(first.get(bytes("new"))), "2")
    await batch.write()
    assert.equal(read(one.get(bytes("new"))), "2")
  })

  test("C33 goes to the disk as a whole, though it is more than the engine takes at once", async (t) => {
    const { batch, one } = fixture(t)
    const seen = new Set<number>()
    const count = 20_000
    for (let i = 0; i < count; i++) batch.tables.one.put(bytes(`${"key ".repeat(10)}${i}`), bytes(`value ${i}`))
    const look = setInterval(() => seen.add(one.getKeysCount()), 0)
    await batch.write()
    clearInterval(look)
    assert.equal(one.getKeysCount(), count)
    assert.equal(read(one.get(bytes(`${"key ".repeat(10)}12345`))), "value 12345")
    assert.deepEqual(
      [...seen].filter((keys) => keys !== 0 && keys !== count),
      [],
    )
  })

  test("C32 is not there in part where the engine refuses one of the writes, and the next batch is written", async (t) => {
    const { batch, one, other } = fixture(t)
    t.mock.method(console, "error", () => undefined)
    batch.tables.one.put(bytes("a"), bytes("before"))
    batch.tables.other.put(bytes("b"), bytes("refused: its table is gone"))
    await other.drop()
    await assert.rejects(batch.write(), { code: 22 })
    batch.clear()
    assert.equal(one.get(bytes("a")), undefined)
    batch.tables.one.put(bytes("c"), bytes("after"))
    await batch.write()
    assert.deepEqual([one.get(bytes("a")), one.get(bytes("c"))].map(read), [undefined, "after"])
  })

  test("a key that the engine would not take is refused where it is written", (t) => {
    const { batch } = fixture(t)
    for (const length of [0, 1_979])
      assert.throws(
        () => batch.tables.one.put(Buffer.alloc(length, 1), bytes("x")),
        new RangeError(`a key has 1 to 1978 bytes, got ${length}`),
      )
    batch.tables.one.put(Buffer.alloc(1_978, 1), bytes("x"))
  })
})
