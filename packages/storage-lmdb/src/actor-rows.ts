import { actorKey, type ActorRows, type Body, type OwnershipRecord } from "@sojourn/core"
import type { Database, RootDatabase } from "lmdb"

import { corrupt, decodeRecord, encodeValue } from "./stored-value.ts"

/**
 * Where an actor lies in the environment. Keys are bytes, so every order is byte order; an actor's key has no zero byte.
 *
 * | database  | key                                | value |
 * | records   | actor                              | ownership record (`stored-value.ts`) |
 * | kinds     | first letter of the record's kind, actor | one byte: the index behind `list({ k })` |
 * | snapshots | actor                              | the snapshot's revision (8 bytes, big-endian), then its bytes; with the highest bit set: it lies in `staged` |
 * | staged    | actor                              | a snapshot that came ahead of its grant: revision, then its bytes |
 * | journal   | actor, a zero byte, revision (8 bytes, big-endian) | the entry's bytes |
 * | due       | when the next alarm is due (8 bytes, big-endian), actor | one byte: the index behind `due` |
 * | meta      | `store`, `watermark`, `peer:` POP, `forgotten:` POP | settings (`stored-value.ts`) |
 */
export interface Tables {
  readonly root: RootDatabase<Uint8Array, Uint8Array>
  readonly records: Table
  readonly kinds: Table
  readonly snapshots: Table
  readonly journal: Table
  readonly staged: Table
  readonly due: Table
  readonly meta: Table
}

export type Table = Database<Uint8Array, Uint8Array>

export const tableNames = ["records", "kinds", "snapshots", "journal", "staged", "due", "meta"] as const

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

function revision(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64BE(at))
}

/** Of a snapshot's row. */
function revisionOf(row: Uint8Array): number {
  return Number(new DataView(row.buffer, row.byteOffset).getBigUint64(0))
}

function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
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

/** One actor inside one step. Reads outside a write transaction see the last durable state; inside, also the step's own writes. */
export class LmdbRows implements ActorRows {
  readonly #tables: Tables
  readonly #actor: string
  readonly #key: Uint8Array
  /** Once read: a step reads the record several times. */
  #record: { readonly value: OwnershipRecord | undefined } | undefined
  wrote = false

  constructor(tables: Tables, actor: string, key = actorKey(actor)) {
    this.#tables = tables
    this.#actor = actor
    this.#key = key
  }

  record(): OwnershipRecord | undefined {
    if (this.#record === undefined) {
      const bytes = this.#tables.records.get(this.#key)
      this.#record = { value: bytes === undefined ? undefined : decodeRecord(this.#key, bytes, this.#actor) }
    }
    return this.#record.value
  }

  body(ahead?: number): Body {
    const entries: Uint8Array[] = []
    let first: number | undefined
    let expected: number | undefined
    for (const { key, value } of this.#tables.journal.getRange(this.#journal())) {
      const at = revision(key as Buffer, key.length - revisionBytes)
      first ??= at
      if (expected !== undefined && at !== expected + 1) this.#gap(expected + 1, at)
      expected = at
      entries.push(plain(value))
    }
    const record = this.record()
    const end = record === undefined || record.k === "PTR" ? undefined : record.v
    if (expected !== undefined && expected !== end) this.#gap(expected + 1, end)
    const from = first === undefined ? end : first - 1
    if (ahead !== undefined && ahead === from) return { snapshot: undefined, entries }
    const stored = this.#snapshot()
    if (stored !== undefined && stored.revision !== from) this.#gap(stored.revision + 1, first ?? end)
    return { snapshot: stored?.bytes, entries }
  }

  snapshotRevision(): number {
    const stored = this.#snapshot()
    if (stored !== undefined) return stored.revision
    for (const key of this.#tables.journal.getKeys({ ...this.#journal(), limit: 1 }))
      return revision(key as Buffer, key.length - revisionBytes) - 1
    const record = this.record()
    return record === undefined || record.k === "PTR" ? 0 : record.v
  }

  putRecord(record: OwnershipRecord): void {
    this.wrote = true
    const { records, kinds } = this.#tables
    const held = this.record()
    const before = held?.k
    void records.put(this.#key, encodeValue(this.#key, record))
    this.#record = { value: record }
    this.#index(dueOf(held), dueOf(record))
    if (before === record.k) return
    if (before !== undefined) void kinds.remove(kindKey(before, this.#key))
    void kinds.put(kindKey(record.k, this.#key), present)
  }

  #index(before: number | undefined, now: number | undefined): void {
    if (before === now) return
    const { due } = this.#tables
    if (before !== undefined) void due.remove(dueKey(before, this.#key))
    if (now !== undefined) void due.put(dueKey(now, this.#key), present)
  }

  putBody(body: Body, v: number): void {
    this.dropBody()
    const from = v - body.entries.length
    if (body.snapshot !== undefined) this.#storeSnapshot(body.snapshot, from)
    this.append(from, body.entries)
  }

  append(after: number, entries: readonly Uint8Array[]): void {
    this.wrote = true
    let at = after
    for (const entry of entries) void this.#tables.journal.put(this.#journalKey(++at), entry)
  }

  putSnapshot(snapshot: Uint8Array, upTo: number): void {
    this.#storeSnapshot(snapshot, upTo)
    this.#removeEntries(upTo)
  }

  refuses(pop: string): boolean {
    return this.#tables.meta.get(forgottenKey(pop)) !== undefined
  }

  dropBody(): void {
    this.wrote = true
    void this.#tables.snapshots.remove(this.#key)
    this.#dropStaged()
    this.#removeEntries(Number.MAX_SAFE_INTEGER)
  }

  stagedRevision(): number | undefined {
    const row = this.#tables.staged.get(this.#key)
    return row === undefined ? undefined : revisionOf(row)
  }

  putStaged(snapshot: Uint8Array | undefined, at: number): void {
    this.wrote = true
    if (snapshot === undefined) this.#dropStaged()
    else void this.#tables.staged.put(this.#key, row(snapshot, at))
  }

  adoptStaged(entries: readonly Uint8Array[], v: number): void {
    this.wrote = true
    this.#removeEntries(Number.MAX_SAFE_INTEGER)
    const from = v - entries.length
    const bytes = Buffer.allocUnsafe(revisionBytes)
    bytes.writeBigUInt64BE(BigInt(from) | adopted, 0)
    void this.#tables.snapshots.put(this.#key, bytes)
    this.append(from, entries)
  }

  #dropStaged(): void {
    if (this.#tables.staged.doesExist(this.#key)) void this.#tables.staged.remove(this.#key)
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
    void this.#tables.snapshots.put(this.#key, row(snapshot, at))
    this.#dropStaged()
  }

  /** Keys first: a cursor does not outlive a write below it. */
  #removeEntries(upTo: number): void {
    const { journal } = this.#tables
    const keys = [...journal.getKeys({ start: this.#journalKey(0), end: this.#journalKey(upTo + 1) })]
    for (const key of keys) void journal.remove(key)
  }

  #journal(): { start: Buffer; end: Buffer } {
    return { start: this.#journalKey(0), end: this.#journalKey(Number.MAX_SAFE_INTEGER) }
  }

  #journalKey(at: number): Buffer {
    const key = Buffer.alloc(this.#key.length + 1 + revisionBytes)
    key.set(this.#key)
    const end = this.#key.length + 1
    key.writeUInt32BE(Math.floor(at / 2 ** 32), end)
    key.writeUInt32BE(at % 2 ** 32, end + 4)
    return key
  }

  #gap(expected: number, found: number | undefined): never {
    throw corrupt(`the journal of ${this.#actor}`, `has ${found ?? "nothing"} where revision ${expected} belongs`)
  }
}
