import type { OwnershipRecord } from "@sojourn/core"

import type { Table } from "./actor-rows.ts"
import { entriesOf, readChunks, rowKey, rowOf, RowWriter, type Chunk } from "./journal-row.ts"
import { corrupt } from "./stored-value.ts"

/**
 * The journals of all actors, as one log: what a transaction appends lies in a few rows at its end, whichever actors it is of. With a place
 * for each actor, a flush would write a page for each, all over the file; so it writes one for about a dozen entries.
 *
 * Which rows an actor's entries are in is known in memory, since only actors that are awake have any to speak of (falling asleep compacts). It
 * is read off the rows when the store is opened. Entries that compaction or a hand-off made meaningless stay in their row until none
 * of it means anything, then the row is removed. So what a row says is true only where nothing contradicts it:
 *
 * - A later row that has the same revision of the actor is right: an entry is appended after everything that it replaces was given up.
 * - What the snapshot covers, what is past the record's revision, and everything of an actor that is not here (PTR), means nothing.
 *
 * The record says which revision is the last one, so an entry that is missing is found, whether or not its row can be read.
 *
 * What is in memory follows the transaction that runs. Where that is rolled back, so is this (`undo`); where nobody knows, it is read again.
 */
export interface JournalParts {
  readonly table: Table
  /** undefined: there is none, or it cannot be read. */
  record(actor: string): OwnershipRecord | undefined
  /** Revision of the stored snapshot; undefined: there is none. */
  snapshotRevision(actor: string): number | undefined
}

/** Where an actor's entries are. */
class Chunks {
  /** In the order of revisions; those before `head` are gone. */
  readonly rows: number[] = []
  readonly firsts: number[] = []
  head = 0
  /** The last revision before them: the snapshot's. */
  from: number
  /** Revision of the last entry. */
  end: number
  /** The actor's record as it was written last, and its bytes as text: as bytes they would keep the memory that they share with others. */
  record: { readonly text: string; readonly value: OwnershipRecord } | undefined

  constructor(from: number) {
    this.from = from
    this.end = from
  }

  get length(): number {
    return this.rows.length
  }

  /** Lets go of what is gone. */
  shorten(): void {
    if (this.head < goneMax || this.head * 2 < this.length) return
    this.rows.splice(0, this.head)
    this.firsts.splice(0, this.head)
    this.head = 0
  }

  /** Revision of the last entry of the chunk at `i`. */
  last(i: number): number {
    return (this.firsts[i + 1] ?? this.end + 1) - 1
  }
}

/** As it was before the transaction. */
interface Before {
  readonly chunks: Chunks
  readonly head: number
  readonly length: number
  readonly from: number
  readonly end: number
}

/** So many chunks that are gone are kept in an actor's list before it is made short. */
const goneMax = 64

export class Journal {
  readonly #parts: JournalParts
  readonly #actors = new Map<string, Chunks>()
  /** How many chunks of each row mean something. */
  readonly #live = new Map<number, number>()
  #next = 1
  #writer = new RowWriter()
  /** Rows found of which nothing means anything. */
  #dead: number[] = []
  #stale = true

  readonly #before = new Map<string, Before | undefined>()
  #released: number[] = []
  #firstNew = 1
  #sealed = false

  constructor(parts: JournalParts) {
    this.#parts = parts
  }

  /** The rows that are known to hold something, for a test. */
  get rows(): number {
    return this.#live.size
  }

  /** Before anything else, outside of a transaction or as the first thing in one. */
  ready(): void {
    if (this.#stale) this.#read()
  }

  /** Where nobody knows what became of the transaction. */
  lost(): void {
    this.#stale = true
  }

  /** The transaction was rolled back. */
  undo(): void {
    if (this.#stale) return
    for (const row of this.#released) this.#live.set(row, (this.#live.get(row) ?? 0) + 1)
    for (let row = this.#firstNew; row <= this.#next; row++) this.#live.delete(row)
    for (const [actor, before] of this.#before) {
      if (before === undefined) {
        this.#actors.delete(actor)
        continue
      }
      const { chunks, head, length, from, end } = before
      chunks.rows.length = chunks.firsts.length = length
      Object.assign(chunks, { head, from, end })
      this.#actors.set(actor, chunks)
    }
    this.#next = this.#firstNew
    this.#writer = new RowWriter()
    this.#forgetBefore()
  }

  /** The transaction is durable. */
  kept(): void {
    for (const before of this.#before.values()) before?.chunks.shorten()
    if (this.#sealed) this.#dead = []
    this.#forgetBefore()
  }

  /** The last thing in a transaction that wrote. */
  seal(): void {
    this.#sealed = true
    this.#writeRow()
    for (const row of this.#dead) void this.#parts.table.remove(rowKey(row))
  }

  /** The revision before the actor's first entry; undefined: it has none. */
  from(actor: string): number | undefined {
    return this.#actors.get(actor)?.from
  }

  /** What these bytes of the actor's record mean, if they are the ones that were written last: whoever writes often need not decode each. */
  written(actor: string, bytes: Uint8Array): OwnershipRecord | undefined {
    const record = this.#actors.get(actor)?.record
    return record && textOf(bytes) === record.text ? record.value : undefined
  }

  /** Remembered as long as the actor has entries here, so only while it is awake. */
  wrote(actor: string, bytes: Uint8Array, value: OwnershipRecord): void {
    const chunks = this.#actors.get(actor)
    if (chunks) chunks.record = { text: textOf(bytes), value }
  }

  /** Adds the entries of revisions `after + 1`, `after + 2`, … */
  append(actor: string, key: Uint8Array, after: number, entries: readonly Uint8Array[]): void {
    let at = after
    for (const entry of entries) {
      at++
      if (!this.#writer.fits(key, entry)) this.#writeRow()
      if (this.#writer.add(key, at, entry)) this.#add(actor, this.#next, at)
    }
    const chunks = this.#actors.get(actor)
    if (chunks) chunks.end = at
  }

  /** What the actor has, and the revision before the first; undefined: nothing. Throws CORRUPT_RECORD where one is missing or cannot be read. */
  entries(actor: string): { readonly from: number; readonly entries: readonly Uint8Array[] } | undefined {
    const chunks = this.#actors.get(actor)
    if (chunks === undefined) return undefined
    this.#settle(chunks)
    const entries: Uint8Array[] = []
    for (let i = chunks.head; i < chunks.length; i++) {
      const row = chunks.rows[i] as number
      const first = chunks.firsts[i] as number
      const expected = chunks.from + entries.length + 1
      if (first > expected) throw gap(actor, expected, first)
      const { bytes, chunk } = this.#chunk(actor, row, first)
      entries.push(...entriesOf(bytes, chunk, expected, chunks.last(i)))
    }
    const last = chunks.from + entries.length
    if (last !== chunks.end) throw gap(actor, last + 1, undefined)
    return { from: chunks.from, entries }
  }

  /** Gives up those up to that revision. */
  remove(actor: string, upTo: number): void {
    const chunks = this.#actors.get(actor)
    if (chunks === undefined) return
    this.#settle(chunks)
    this.#remember(actor, chunks)
    while (chunks.head < chunks.length && chunks.last(chunks.head) <= upTo)
      this.#release(chunks.rows[chunks.head++] as number)
    chunks.from = Math.max(chunks.from, Math.min(upTo, chunks.end))
    if (chunks.head === chunks.length) this.#actors.delete(actor)
  }

  #chunk(actor: string, row: number, first: number): { readonly bytes: Uint8Array; readonly chunk: Chunk } {
    const key = rowKey(row)
    const bytes = this.#parts.table.get(key)
    const chunk = bytes && readChunks(key, bytes)?.find((one) => one.actor === actor && one.first === first)
    if (chunk === undefined) throw corrupt(`the journal of ${actor}`, `cannot be read from revision ${first} on`)
    return { bytes: bytes as Uint8Array, chunk }
  }

  /** Writes the row that is being filled, if it is one of these. */
  #settle(chunks: Chunks): void {
    if (chunks.rows.at(-1) === this.#next) this.#writeRow()
  }

  #writeRow(): void {
    if (!this.#live.has(this.#next)) return
    const key = rowKey(this.#next)
    void this.#parts.table.put(key, this.#writer.bytes(key))
    this.#writer = new RowWriter()
    this.#next++
  }

  #add(actor: string, row: number, first: number): void {
    let chunks = this.#actors.get(actor)
    this.#remember(actor, chunks)
    if (chunks === undefined) this.#actors.set(actor, (chunks = new Chunks(first - 1)))
    chunks.rows.push(row)
    chunks.firsts.push(first)
    this.#live.set(row, (this.#live.get(row) ?? 0) + 1)
  }

  #release(row: number): void {
    this.#released.push(row)
    if (this.#drop(row)) void this.#parts.table.remove(rowKey(row))
  }

  /** Whether that was the last of its row that meant something. */
  #drop(row: number): boolean {
    const left = (this.#live.get(row) ?? 1) - 1
    if (left > 0) this.#live.set(row, left)
    else this.#live.delete(row)
    return left <= 0
  }

  #remember(actor: string, chunks: Chunks | undefined): void {
    if (this.#before.has(actor)) return
    this.#before.set(
      actor,
      chunks && { chunks, head: chunks.head, length: chunks.length, from: chunks.from, end: chunks.end },
    )
  }

  #forgetBefore(): void {
    this.#before.clear()
    this.#released = []
    this.#firstNew = this.#next
    this.#sealed = false
  }

  #read(): void {
    this.#actors.clear()
    this.#live.clear()
    this.#writer = new RowWriter()
    this.#next = 1
    const rows: number[] = []
    for (const { key, value } of this.#parts.table.getRange({})) {
      const row = rowOf(key)
      this.#next = row + 1
      const chunks = readChunks(key, value)
      // Left as it is: whoever's entries it has will miss them.
      if (chunks === undefined) continue
      rows.push(row)
      for (const chunk of chunks) this.#found(row, chunk)
    }
    for (const [actor, chunks] of this.#actors) this.#judge(actor, chunks)
    this.#dead = rows.filter((row) => !this.#live.has(row))
    this.#forgetBefore()
    this.#stale = false
  }

  /** What of the actor came before and has a revision of these was given up then. */
  #found(row: number, { actor, first, count }: Chunk): void {
    const known = this.#actors.get(actor)
    if (known) this.#cut(known, first)
    this.#add(actor, row, first)
    const chunks = this.#actors.get(actor) as Chunks
    chunks.end = first + count - 1
  }

  /** Without chunks that begin at `first` or later. */
  #cut(chunks: Chunks, first: number): void {
    while (chunks.length > chunks.head && (chunks.firsts.at(-1) as number) >= first) {
      this.#drop(chunks.rows.pop() as number)
      chunks.firsts.pop()
    }
  }

  #judge(actor: string, chunks: Chunks): void {
    const record = this.#parts.record(actor)
    if (record?.k === "PTR") this.#cut(chunks, 0)
    else if (record) {
      this.#cut(chunks, record.v + 1)
      chunks.end = Math.min(chunks.end, record.v)
    }
    const from = this.#parts.snapshotRevision(actor)
    if (from !== undefined)
      while (chunks.head < chunks.length && chunks.last(chunks.head) <= from)
        this.#drop(chunks.rows[chunks.head++] as number)
    if (chunks.head === chunks.length) this.#actors.delete(actor)
    else chunks.from = from ?? (chunks.firsts[chunks.head] as number) - 1
  }
}

/** A character for each byte. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")
}

export function gap(actor: string, expected: number, found: number | undefined): Error {
  return corrupt(`the journal of ${actor}`, `has ${found ?? "nothing"} where revision ${expected} belongs`)
}
