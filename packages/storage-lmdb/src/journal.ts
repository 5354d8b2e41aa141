import { entriesOf, readChunks, rowKey, rowOf, RowWriter, type Chunk } from "./journal-row.ts"
import { corrupt, type StoredRecord } from "./stored-value.ts"
import type { BatchTable } from "./write-batch.ts"

/**
 * The journals of all actors, as one log: what a batch appends lies in a few rows at its end, whichever actors it is of. With a place
 * for each actor, a flush would write a page for each, all over the file; so it writes one for about a dozen entries.
 *
 * Which rows an actor's entries are in is known in memory, since only actors that are awake have any to speak of (falling asleep compacts). It
 * is read off the rows when the store is opened. Entries that compaction or a hand-off made meaningless stay in their row until none
 * of it means anything, then the row is removed.
 *
 * So a row proves nothing by itself. The actor's record, which has a checksum and is written whenever any of this changes, says which
 * revisions the journal has (`from`, `v`) and from which row on (`row`): rows before are of what was compacted, or of a body that was
 * given up, maybe with the same revisions. Hence an entry that is missing or cannot be read is missed by whoever needs it, and
 * nothing else takes its place.
 *
 * What is in memory follows the batch that is made. Where that is given up, so is this (`undo`); where nobody knows, it is read again.
 */
export interface JournalParts {
  readonly table: BatchTable
  /** undefined: there is none, or it cannot be read. */
  stored(actor: string): StoredRecord | undefined
  /** The number of the next row; every row there is has a lower one. */
  next(): number
  putNext(row: number): void
}

/** Where an actor's entries are. */
class Chunks {
  /** In the order of revisions; those before `head` are gone. */
  readonly rows: number[] = []
  readonly firsts: number[] = []
  head = 0
  /** Revision of the last entry. */
  end = 0

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

/** As it was before the batch. */
interface Before {
  readonly chunks: Chunks
  readonly head: number
  readonly length: number
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
  /** Rows found of which nothing is needed: there are none, unless a removal was forgotten once. */
  #dead: number[] = []
  #stale = true

  #before = new Map<string, Before | undefined>()
  #released: number[] = []
  #firstNew = 1
  #sealed = false

  constructor(parts: JournalParts) {
    this.#parts = parts
  }

  /** Rows of which something is needed, and rows that were found though nothing of them is: for a test. */
  get rows(): { readonly live: number; readonly dead: number } {
    return { live: this.#live.size, dead: this.#dead.length }
  }

  /** Before anything else, outside of a batch or as the first thing in one. */
  ready(): void {
    if (this.#stale) this.#read()
  }

  /** Where nobody knows what became of the batch. */
  lost(): void {
    this.#stale = true
  }

  /** The batch was given up. */
  undo(): void {
    if (this.#stale) return
    for (const row of this.#released) this.#live.set(row, (this.#live.get(row) ?? 0) + 1)
    for (let row = this.#firstNew; row <= this.#next; row++) this.#live.delete(row)
    for (const [actor, before] of this.#before) {
      if (before === undefined) {
        this.#actors.delete(actor)
        continue
      }
      const { chunks, head, length, end } = before
      chunks.rows.length = chunks.firsts.length = length
      Object.assign(chunks, { head, end })
      this.#actors.set(actor, chunks)
    }
    this.#next = this.#firstNew
    this.#writer = new RowWriter()
    this.#forgetBefore()
  }

  /** The batch is durable. */
  kept(): void {
    for (const before of this.#before.values()) before?.chunks.shorten()
    if (this.#sealed) this.#dead = []
    this.#forgetBefore()
  }

  /** The last thing in a batch that wrote. */
  seal(): void {
    this.#sealed = true
    this.#writeRow()
    if (this.#next !== this.#firstNew) this.#parts.putNext(this.#next)
    for (const row of this.#dead) this.#parts.table.remove(rowKey(row))
  }

  /** The first row that has anything of the actor, now that the rest is given up; where it has nothing, the first that it may get. */
  row(actor: string): number {
    const chunks = this.#actors.get(actor)
    return chunks?.rows[chunks.head] ?? this.#next
  }

  /** Whether it has entries of the actor: only while that is awake. */
  has(actor: string): boolean {
    return this.#actors.has(actor)
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

  /** Those of the revisions after `from`, up to `end`. Throws CORRUPT_RECORD where one is missing or cannot be read. */
  entries(actor: string, from: number, end: number): readonly Uint8Array[] {
    const chunks = this.#actors.get(actor)
    const entries: Uint8Array[] = []
    if (chunks) this.#settle(chunks)
    for (let i = chunks?.head ?? 0; chunks && i < chunks.length; i++) {
      const row = chunks.rows[i] as number
      const first = chunks.firsts[i] as number
      const expected = from + entries.length + 1
      if (first > expected) throw gap(actor, expected, first)
      const { bytes, chunk } = this.#chunk(actor, row, first)
      entries.push(...entriesOf(bytes, chunk, expected, chunks.last(i)))
    }
    const last = from + entries.length
    if (last !== end) throw gap(actor, last + 1, undefined)
    return entries
  }

  /** Gives up those up to that revision. */
  remove(actor: string, upTo: number): void {
    const chunks = this.#actors.get(actor)
    if (chunks === undefined) return
    this.#settle(chunks)
    this.#remember(actor, chunks)
    while (chunks.head < chunks.length && chunks.last(chunks.head) <= upTo)
      this.#release(chunks.rows[chunks.head++] as number)
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
    this.#parts.table.put(key, this.#writer.bytes(key))
    this.#writer = new RowWriter()
    this.#next++
  }

  #add(actor: string, row: number, first: number): void {
    let chunks = this.#actors.get(actor)
    this.#remember(actor, chunks)
    if (chunks === undefined) this.#actors.set(actor, (chunks = new Chunks()))
    chunks.rows.push(row)
    chunks.firsts.push(first)
    this.#live.set(row, (this.#live.get(row) ?? 0) + 1)
  }

  #release(row: number): void {
    this.#released.push(row)
    if (this.#drop(row)) this.#parts.table.remove(rowKey(row))
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
    this.#before.set(actor, chunks && { chunks, head: chunks.head, length: chunks.length, end: chunks.end })
  }

  #forgetBefore(): void {
    this.#before = new Map()
    this.#released = []
    this.#firstNew = this.#next
    this.#sealed = false
  }

  #read(): void {
    this.#actors.clear()
    this.#live.clear()
    this.#writer = new RowWriter()
    this.#next = this.#parts.next()
    this.#dead = []
    const known = new Map<string, StoredRecord | undefined>()
    for (const { key, value } of this.#parts.table.stored()) {
      const row = rowOf(key)
      const chunks = row === undefined ? undefined : readChunks(key, value)
      // Left as it is: whoever's entries it has will miss them.
      if (row === undefined || chunks === undefined) continue
      for (const chunk of chunks) {
        const { actor } = chunk
        if (!known.has(actor)) known.set(actor, this.#parts.stored(actor))
        // Where there is no record that can be read nobody can tell, and it stays.
        if (row >= (known.get(actor)?.row ?? 0)) this.#found(row, chunk)
      }
      if (!this.#live.has(row)) this.#dead.push(row)
    }
    this.#forgetBefore()
    this.#stale = false
  }

  #found(row: number, { actor, first, count }: Chunk): void {
    this.#add(actor, row, first)
    const chunks = this.#actors.get(actor)
    if (chunks) chunks.end = first + count - 1
  }
}

export function gap(actor: string, expected: number, found: number | undefined): Error {
  return corrupt(`the journal of ${actor}`, `has ${found ?? "nothing"} where revision ${expected} belongs`)
}
