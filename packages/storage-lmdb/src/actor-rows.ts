import { actorKey, type ActorRows, type Body, type OwnershipRecord } from "@sojourn/core"
import type { Database, RootDatabase } from "lmdb"

import type { Journal } from "./journal.ts"
import type { Records } from "./records.ts"
import { corrupt, type StoredRecord } from "./stored-value.ts"
import type { WriteBatch } from "./write-batch.ts"

/**
 * Where an actor lies in the environment. Keys are bytes, so every order is byte order; an actor's key has no zero byte.
 *
 * | database  | key                                | value |
 * | records   | actor                              | ownership record, and where its journal begins (`stored-value.ts`) |
 * | kinds     | first letter of the record's kind, actor | one byte: the index behind `list({ k })` |
 * | snapshots | actor                              | the snapshot's revision (8 bytes, big-endian), then its bytes; with the highest bit set: it lies in `staged` |
 * | staged    | actor                              | a snapshot that came ahead of its grant: revision, then its bytes |
 * | journal   | a number (8 bytes, big-endian), higher for each row | entries of one or several actors (`journal-row.ts`) |
 * | due       | when the next alarm is due (8 bytes, big-endian), actor | one byte: the index behind `due` |
 * | meta      | `store`, `watermark`, `row`, `peer:` POP, `forgotten:` POP | settings (`stored-value.ts`) |
 */
export interface Tables extends Readonly<Record<TableName, Table>> {
  readonly root: RootDatabase<Uint8Array, Uint8Array>
}

export type Table = Database<Uint8Array, Uint8Array>

export const tableNames = ["records", "kinds", "snapshots", "journal", "staged", "due", "meta"] as const

export type TableName = (typeof tableNames)[number]

const revisionBytes = 8
export const dueBytes = 8
const present = Uint8Array.of(1)
/** In a snapshot's revision: it is the staged one, so an install writes no byte of it. */
const adopted = 1n << 63n

/** Whether this row of `snapshots` says that the staged one is the body's. */
export function isAdopted(row: Uint8Array | undefined): boolean {
  return row !== undefined && row.length === revisionBytes && ((row[0] ?? 0) & 0x80) !== 0
}

export function kindKey(k: OwnershipRecord["k"], actor: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(k.slice(0, 1)), actor])
}

/** Ms since 1970 and the actor: byte order is the order of time. */
export function dueKey(due: number, actor: Uint8Array): Buffer {
  const key = Buffer.alloc(dueBytes + actor.length)
  key.writeBigUInt64BE(BigInt(due), 0)
  key.set(actor, dueBytes)
  return key
}

export function forgottenKey(pop: string): Buffer {
  return Buffer.from(`forgotten:${pop}`)
}

/** The least key that follows `key` in a database whose keys have no zero byte. */
export function after(key: Uint8Array): Buffer {
  return Buffer.concat([key, Uint8Array.of(0)])
}

/** Of a snapshot's row. */
function revisionOf(row: Uint8Array): number {
  return Number(new DataView(row.buffer, row.byteOffset).getBigUint64(0))
}

function row(snapshot: Uint8Array, at: number): Buffer {
  const bytes = Buffer.allocUnsafe(revisionBytes + snapshot.length)
  bytes.writeBigUInt64BE(BigInt(at), 0)
  bytes.set(snapshot, revisionBytes)
  return bytes
}

/** What the index must say of this record: alarms are due at the owner alone. */
export function dueOf(record: OwnershipRecord | undefined): number | undefined {
  return record?.k === "OWNED" ? record.due : undefined
}

/** What the rows of all actors of a store share. */
export interface RowsParts {
  readonly batch: WriteBatch<TableName>
  readonly records: Records
  readonly journal: Journal
}

/** One actor inside one step, which sees also what the steps before it in its batch wrote. */
export class LmdbRows implements ActorRows {
  readonly #tables: WriteBatch<TableName>["tables"]
  readonly #records: Records
  readonly #journal: Journal
  readonly #actor: string
  readonly #key: Uint8Array
  wrote = false

  constructor({ batch, records, journal }: RowsParts, actor: string) {
    this.#tables = batch.tables
    this.#records = records
    this.#journal = journal
    this.#actor = actor
    this.#key = actorKey(actor)
  }

  record(): OwnershipRecord | undefined {
    return this.#read()?.record
  }

  body(ahead?: number): Body {
    const stored = this.#read()
    if (stored === undefined || stored.record.k === "PTR") return { snapshot: undefined, entries: [] }
    const { record, from } = stored
    const entries = this.#journal.entries(this.#actor, from, record.v)
    if (ahead === from) return { snapshot: undefined, entries }
    const snapshot = this.#snapshot()
    if (snapshot !== undefined && snapshot.revision !== from)
      throw corrupt(`the snapshot of ${this.#actor}`, `is of revision ${snapshot.revision} where ${from} belongs`)
    return { snapshot: snapshot?.bytes, entries }
  }

  snapshotRevision(): number {
    return this.#read()?.from ?? 0
  }

  putRecord(record: OwnershipRecord): void {
    const { kinds } = this.#tables
    const { from = 0, row = 0, record: held } = this.#read() ?? {}
    this.#write({ record, from, row })
    this.#index(dueOf(held), dueOf(record))
    if (held?.k === record.k) return
    if (held !== undefined) kinds.remove(kindKey(held.k, this.#key))
    kinds.put(kindKey(record.k, this.#key), present)
  }

  #read(): StoredRecord | undefined {
    return this.#records.get(this.#actor, this.#key)
  }

  #write(stored: StoredRecord): void {
    this.wrote = true
    this.#records.put(this.#actor, this.#key, stored)
  }

  /** Gives up the entries up to that revision, and lets the record say that the journal begins after `from`. */
  #cut(upTo: number, from: number): void {
    this.#journal.remove(this.#actor, upTo)
    const stored = this.#read()
    if (stored !== undefined) this.#write({ ...stored, from, row: this.#journal.row(this.#actor) })
  }

  #index(before: number | undefined, now: number | undefined): void {
    if (before === now) return
    const { due } = this.#tables
    if (before !== undefined) due.remove(dueKey(before, this.#key))
    if (now !== undefined) due.put(dueKey(now, this.#key), present)
  }

  putBody(body: Body, v: number): void {
    const from = v - body.entries.length
    this.#drop(from)
    if (body.snapshot !== undefined) this.#storeSnapshot(body.snapshot, from)
    this.append(from, body.entries)
  }

  append(after: number, entries: readonly Uint8Array[]): void {
    this.wrote = true
    this.#journal.append(this.#actor, this.#key, after, entries)
  }

  putSnapshot(snapshot: Uint8Array, upTo: number): void {
    this.#storeSnapshot(snapshot, upTo)
    this.#cut(upTo, upTo)
  }

  refuses(pop: string): boolean {
    return this.#tables.meta.get(forgottenKey(pop)) !== undefined
  }

  dropBody(): void {
    this.#drop(0)
  }

  #drop(from: number): void {
    this.wrote = true
    this.#tables.snapshots.remove(this.#key)
    this.#dropStaged()
    this.#cut(Number.MAX_SAFE_INTEGER, from)
  }

  stagedRevision(): number | undefined {
    const row = this.#tables.staged.get(this.#key)
    return row === undefined || isAdopted(this.#tables.snapshots.get(this.#key)) ? undefined : revisionOf(row)
  }

  putStaged(snapshot: Uint8Array | undefined, at: number): void {
    this.wrote = true
    if (snapshot === undefined) this.#dropStaged()
    else this.#tables.staged.put(this.#key, row(snapshot, at))
  }

  adoptStaged(entries: readonly Uint8Array[], v: number): void {
    const from = v - entries.length
    this.#cut(Number.MAX_SAFE_INTEGER, from)
    const bytes = Buffer.allocUnsafe(revisionBytes)
    bytes.writeBigUInt64BE(BigInt(from) | adopted, 0)
    this.#tables.snapshots.put(this.#key, bytes)
    this.append(from, entries)
  }

  #dropStaged(): void {
    if (this.#tables.staged.has(this.#key)) this.#tables.staged.remove(this.#key)
  }

  #snapshot(): { revision: number; bytes: Uint8Array } | undefined {
    const own = this.#tables.snapshots.get(this.#key)
    const stored = isAdopted(own) ? this.#tables.staged.get(this.#key) : own
    if (own !== undefined && stored === undefined)
      throw corrupt(`the snapshot of ${this.#actor}`, "is said to be the staged one, which is not there")
    if (stored === undefined) return undefined
    if (stored.length < revisionBytes) throw corrupt(`the snapshot of ${this.#actor}`, "is cut short")
    // The row is this caller's own, and may be large: no copy of it is made.
    return {
      revision: revisionOf(stored),
      bytes: new Uint8Array(stored.buffer, stored.byteOffset + revisionBytes, stored.length - revisionBytes),
    }
  }

  #storeSnapshot(snapshot: Uint8Array, at: number): void {
    this.wrote = true
    this.#tables.snapshots.put(this.#key, row(snapshot, at))
    this.#dropStaged()
  }
}
