import type { OwnershipRecord } from "@sojourn/core"
import { open } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import type { Table } from "./actor-rows.ts"
import { entriesOf, readChunks, rowKey, RowWriter } from "./journal-row.ts"
import { Journal } from "./journal.ts"
import { WriteBatch } from "./write-batch.ts"

/** What an actor should have: entries of the revisions after `from`, in no row before `row`. */
interface Kept {
  readonly here: boolean
  readonly from: number
  readonly row?: number
  readonly entries: readonly string[]
}

type Outcome = "durable" | "rolled back" | "unknown, and done" | "unknown, and not done"

const gone: Kept = { here: false, from: 0, entries: [] }
const nextKey = Buffer.from("next")
const endOf = ({ from, entries }: Kept): number => from + entries.length

/** A journal in a real environment, what it should hold, and what the store would have beside it: records and snapshots. */
class Fixture {
  readonly #root
  readonly #table: Table
  readonly #batch: WriteBatch<"journal" | "meta">
  journal: Journal
  readonly actors = new Map<string, Kept>()

  constructor(t: TestContext) {
    const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
    this.#root = open<Uint8Array, Uint8Array>(folder, {
      noSubdir: false,
      overlappingSync: false,
      eventTurnBatching: false,
      encoding: "binary",
      keyEncoding: "binary",
    })
    this.#table = this.#root.openDB<Uint8Array, Uint8Array>("journal", { encoding: "binary", keyEncoding: "binary" })
    const meta = this.#root.openDB<Uint8Array, Uint8Array>("meta", { encoding: "binary", keyEncoding: "binary" })
    this.#batch = new WriteBatch(this.#root, { journal: this.#table, meta })
    t.after(async () => {
      await this.#root.close()
      rmSync(folder, { recursive: true })
    })
    this.journal = this.reopened()
  }

  get table(): Table {
    return this.#table
  }

  reopened(): Journal {
    const { journal: table, meta } = this.#batch.tables
    this.journal = new Journal({
      table,
      stored: (actor) => {
        const kept = this.actors.get(actor)
        if (kept === undefined) return undefined
        const { from, row = 0 } = kept
        const record: OwnershipRecord = kept.here
          ? { k: "OWNED", e: 1, f: 1, v: endOf(kept), h: "" }
          : { k: "PTR", e: 1, to: "fra" }
        return { record, from, row }
      },
      next: () => Number(Buffer.from(meta.get(nextKey) ?? Buffer.from("1")).toString()),
      putNext: (row) => meta.put(nextKey, Buffer.from(String(row))),
    })
    this.journal.ready()
    return this.journal
  }

  append(actor: string, ...entries: readonly string[]): void {
    const kept = this.actors.get(actor) ?? gone
    this.journal.append(
      actor,
      Buffer.from(actor),
      endOf(kept),
      entries.map((text) => Buffer.from(text)),
    )
    this.actors.set(actor, { ...kept, here: true, entries: [...kept.entries, ...entries] })
  }

  compact(actor: string, upTo: number): void {
    const kept = this.actors.get(actor) ?? gone
    this.journal.remove(actor, upTo)
    const entries = kept.entries.slice(upTo - kept.from)
    this.actors.set(actor, { ...kept, from: upTo, row: this.journal.row(actor), entries })
  }

  /** Its body is given up; where it comes back, another one takes its place. */
  replace(actor: string, body: Kept): void {
    this.journal.remove(actor, Number.MAX_SAFE_INTEGER)
    this.actors.set(actor, { ...body, row: this.journal.row(actor), entries: [] })
    if (body.entries.length > 0) this.append(actor, ...body.entries)
  }

  async transaction(run: () => void, outcome: Outcome = "durable"): Promise<void> {
    const before = new Map(this.actors)
    const done = outcome === "durable" || outcome === "unknown, and done"
    this.journal.ready()
    run()
    this.journal.seal()
    if (done) await this.#batch.write()
    this.#batch.clear()
    if (!done) {
      this.actors.clear()
      for (const [actor, kept] of before) this.actors.set(actor, kept)
    }
    if (outcome === "durable") this.journal.kept()
    else if (outcome === "rolled back") this.journal.undo()
    else this.journal.lost()
  }

  seen(actor: string): string[] {
    this.journal.ready()
    const kept = this.actors.get(actor) ?? gone
    return this.journal.entries(actor, kept.from, endOf(kept)).map((bytes) => Buffer.from(bytes).toString())
  }

  check(said: string): void {
    for (const [actor, { entries }] of this.actors) assert.deepEqual(this.seen(actor), entries, `${said}: ${actor}`)
  }

  get rowsOnDisk(): number {
    return this.#table.getKeysCount()
  }
}

/** mulberry32: a small generator whose course a seed repeats. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % below
  }
}

void describe("the journal of an LMDB store", () => {
  test("entries of several actors share a row, and a row is removed once none of it means anything", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1", "2")
      at.append("b", "1")
      at.append("a", "3")
    })
    assert.equal(at.rowsOnDisk, 1)
    at.check("together")
    await at.transaction(() => {
      at.compact("a", 3)
    })
    assert.equal(at.rowsOnDisk, 1)
    at.check("of b it means something")
    await at.transaction(() => {
      at.compact("b", 1)
    })
    assert.deepEqual([at.rowsOnDisk, at.journal.rows], [0, { live: 0, dead: 0 }])
  })

  test("a row ends where it is full, and an entry that is larger than a row has one of its own", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", ...Array.from({ length: 25 }, () => "x".repeat(300)))
    })
    assert.equal(at.rowsOnDisk, 5)
    await at.transaction(() => {
      at.append("b", "y".repeat(100_000))
      at.append("a", "x")
    })
    assert.equal(at.rowsOnDisk, 7)
    at.reopened()
    at.check("opened again")
  })

  test("C29 what a body that is gone left in a row it shared is not taken for the body that came after, of lower revisions", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1", "2", "3", "4")
      at.append("b", "1")
    })
    for (const [from, entries] of [
      [2, []],
      [1, ["new 2"]],
      [0, ["new 1"]],
      [2, ["new 3", "new 4", "new 5"]],
      [4, []],
    ] as const) {
      await at.transaction(() => {
        at.replace("a", gone)
      })
      at.reopened()
      at.check("gone")
      await at.transaction(() => {
        at.replace("a", { here: true, from, entries })
        at.append("b", "also")
      })
      at.reopened()
      at.check(`from ${from}`)
    }
  })

  test("a body that is replaced in the transaction that made it leaves nothing that is taken for the other", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1", "2")
      at.replace("a", { here: true, from: 0, entries: ["other 1"] })
      at.append("b", "1")
    })
    at.check("after it")
    at.reopened()
    at.check("opened again")
    assert.deepEqual(at.journal.rows, { live: 1, dead: 0 })
  })

  test("of a long journal that is compacted again and again the rest is there each time", async (t) => {
    const at = new Fixture(t)
    for (let i = 1; i <= 300; i++) {
      await at.transaction(() => {
        at.append("a", `${i}`)
        if (i % 100 === 0) at.compact("a", i - 10)
      })
      at.check(`after ${i}`)
    }
    assert.equal(at.rowsOnDisk, 10)
  })

  test("a row of which nothing is needed, found when the store is opened, is removed by the next write that is durable", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1")
      at.append("b", "1")
    })
    await at.transaction(() => {
      at.append("b", "2")
    })
    for (const [actor, kept] of at.actors)
      at.actors.set(actor, { ...kept, row: 2, from: 1, entries: kept.entries.slice(1) })
    assert.deepEqual(at.reopened().rows, { live: 1, dead: 1 })
    await at.transaction(() => undefined, "rolled back")
    assert.deepEqual([at.rowsOnDisk, at.journal.rows.dead], [2, 1])
    // A transaction in which nobody wrote.
    at.journal.kept()
    assert.equal(at.journal.rows.dead, 1)
    await at.transaction(() => {
      at.append("a", "2")
    })
    assert.deepEqual([at.rowsOnDisk, at.journal.rows], [2, { live: 2, dead: 0 }])
    at.check("after it")
  })

  test("within a transaction its own entries are read, and what they replace is not", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1", "2")
      at.check("in the same transaction")
      at.replace("a", { here: true, from: 1, entries: ["other 2"] })
      at.check("replaced in the same transaction")
      at.compact("a", 2)
      at.append("a", "3")
    })
    at.check("after it")
    assert.equal(at.rowsOnDisk, 1)
  })

  test("C37 a row whose head is damaged stays, the actors in it miss its entries, and others are served", async (t) => {
    const at = new Fixture(t)
    for (const actors of ["a", "ab", "a", "c"])
      await at.transaction(() => {
        for (const actor of actors) at.append(actor, "x")
      })
    const damaged = Buffer.from(at.table.get(rowKey(2)) ?? assert.fail())
    damaged.writeUInt8(damaged.readUInt8(12) ^ 1, 12)
    await at.table.put(rowKey(2), damaged)
    at.reopened()
    assert.throws(() => at.seen("a"), { code: "CORRUPT_RECORD", message: /has 3 where revision 2 belongs/ })
    assert.throws(() => at.seen("b"), { code: "CORRUPT_RECORD", message: /has nothing where revision 1 belongs/ })
    assert.deepEqual(at.seen("c"), ["x"])
    await at.transaction(() => {
      at.append("c", "y")
    })
    assert.deepEqual(Buffer.from(at.table.get(rowKey(2)) ?? assert.fail()), damaged)
  })

  test("C37 a row that cannot be read when it is needed is an error, of whoever has entries in it", async (t) => {
    const at = new Fixture(t)
    await at.transaction(() => {
      at.append("a", "1", "2")
    })
    await at.table.remove(rowKey(1))
    assert.throws(() => at.seen("a"), {
      code: "CORRUPT_RECORD",
      message: /the journal of a cannot be read from revision 1/,
    })
  })

  for (const seed of [1, 2, 3, 4, 5, 6])
    test(`C6, C29 whatever becomes of transactions, it holds what the durable ones left (seed ${seed})`, async (t) => {
      const at = new Fixture(t)
      const below = generator(seed)
      const names = ["a", "b", "c", "d"]
      const outcomes: readonly Outcome[] = [
        "durable",
        "durable",
        "rolled back",
        "unknown, and done",
        "unknown, and not done",
      ]
      const counts = new Map<string, number>()
      let texts = 0
      const text = (): string => `${texts++}${"x".repeat(below(10) === 0 ? 3_000 : below(500))}`
      const step = (): void => {
        const actor = names[below(names.length)] as string
        const kept = at.actors.get(actor) ?? gone
        const chosen = below(10)
        if (chosen < 6 || !kept.here) {
          if (!kept.here && at.actors.has(actor))
            at.replace(actor, { here: true, from: below(20), entries: Array.from({ length: below(5) }, text) })
          else at.append(actor, ...Array.from({ length: 1 + below(6) }, text))
        } else if (chosen < 8) at.compact(actor, kept.from + below(kept.entries.length + 1))
        else if (chosen < 9) at.replace(actor, gone)
        else at.check(`seed ${seed}, inside`)
      }
      for (let i = 0; i < 150; i++) {
        const outcome = outcomes[below(outcomes.length)] as Outcome
        counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
        await at.transaction(() => {
          for (let n = 1 + below(6); n > 0; n--) step()
        }, outcome)
        if (below(10) === 0) {
          const { live } = at.journal.rows
          assert.deepEqual(at.reopened().rows, {
            live: outcome.startsWith("unknown") ? at.journal.rows.live : live,
            dead: 0,
          })
        }
        at.check(`seed ${seed}, after ${i}, ${outcome}`)
      }
      assert.equal(counts.size, 4)
      at.reopened()
      for (const actor of names)
        await at.transaction(() => {
          at.replace(actor, gone)
        })
      assert.deepEqual([at.rowsOnDisk, at.journal.rows], [0, { live: 0, dead: 0 }], "nothing is left behind")
    })
})

void describe("a row of the journal", () => {
  const key = rowKey(7)
  const row = (): Buffer => {
    const writer = new RowWriter()
    const [a, b] = [Buffer.from("a"), Buffer.from("b")]
    assert.deepEqual(
      [writer.add(a, 2 ** 40, Buffer.from("first")), writer.add(a, 2 ** 40 + 1, Buffer.from("")), writer.add(b, 1, a)],
      [true, false, true],
    )
    return writer.bytes(key)
  }

  test("is read as it was written", () => {
    const bytes = row()
    const chunks = readChunks(key, bytes) ?? assert.fail()
    assert.deepEqual(
      chunks.map(({ actor, first, count }) => [actor, first, count]),
      [
        ["a", 2 ** 40, 2],
        ["b", 1, 1],
      ],
    )
    const texts = chunks.map((chunk) => entriesOf(bytes, chunk, 0, Infinity).map((one) => Buffer.from(one).toString()))
    assert.deepEqual(texts, [["first", ""], ["a"]])
    assert.equal(entriesOf(bytes, chunks[0] ?? assert.fail(), 2 ** 40 + 1, Infinity).length, 1)
    assert.equal(entriesOf(bytes, chunks[0] ?? assert.fail(), 0, 2 ** 40).length, 1)
  })

  test("C37 is not read where a bit of its head is flipped, where it is cut short, or under another key", () => {
    const bytes = row()
    const head = 9 + bytes.readUInt32BE(5)
    for (let bit = 0; bit < head * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      assert.equal(readChunks(key, flipped), undefined, `bit ${bit}`)
    }
    for (let length = 0; length < bytes.length; length++)
      assert.equal(readChunks(key, bytes.subarray(0, length)), undefined, `${length} bytes`)
    assert.equal(readChunks(rowKey(8), bytes), undefined)
  })
})
