import {
  actorKey,
  checkIn,
  claimIn,
  commitIn,
  compactIn,
  confirmIn,
  installIn,
  learnIn,
  listLimitMax,
  loadIn,
  ownershipRules,
  mergeForgotten,
  pullIn,
  stageIn,
  reviveIn,
  type Body,
  type Due,
  type FirstClaim,
  type Forgotten,
  type HomeRole,
  type Listed,
  type OwnershipRecord,
  type PeerMemory,
  type Store,
} from "@sojourn/core"

import {
  LmdbRows,
  after,
  dueBytes,
  dueKey,
  dueOf,
  forgottenKey,
  kindKey,
  type RowsParts,
  type TableName,
  type Tables,
} from "./actor-rows.ts"
import { GroupCommit, type FlushGate } from "./group-commit.ts"
import { Journal } from "./journal.ts"
import { Records } from "./records.ts"
import { decodeValue, encodeValue, readableRecord } from "./stored-value.ts"
import { WriteBatch } from "./write-batch.ts"

/**
 * The store of one POP in one LMDB environment.
 *
 * **The flush rule: no operation settles before everything that it wrote and everything that it saw is on the disk.** It holds by these:
 *
 * 1. The environment is opened with `overlappingSync: false`. Then a transaction becomes visible to readers only by the last write of its
 *    commit, after its pages were flushed (LMDB's `mdb_txn_commit`: page flush, fdatasync, then the meta page through a descriptor opened
 *    with O_DSYNC). So what can be read has been flushed, and lmdb's commit promise is the flush. With overlapping sync (lmdb's default) a
 *    commit is visible before it is flushed, its promise resolves at that moment, a failed fdatasync is reported to nobody (`flushed`
 *    never settles), the next one may then succeed over pages that the kernel has dropped, and a process that opens the folder after a
 *    kill -9 reads what a power cut would still take back. Measured here, batching makes up for what overlapping would gain.
 * 2. Operations run in batches (`group-commit.ts`), one at a time, a transaction each: an operation may see what an earlier one of its batch
 *    wrote (`write-batch.ts`), and both settle after that batch's flush, also those that only read or were fenced.
 * 3. A read (`check`, `peek`, `load`, `list`) that finds nothing under way for its actor is answered at once from the last durable state;
 *    else it takes its place behind, in a batch. So calls on one actor take effect in the order in which they were made.
 * 4. A flush that fails rejects its batch with UNKNOWN_OUTCOME; a claim, which bumps the fence, then shows what is true.
 *
 * `flushGate` sits around every flush, so that a test holds flushes back or fails them and sees that nothing left before.
 *
 * A crash leaves LMDB's last published transaction; there is no recovery. What an ownership operation means is in core's `record.ts` and
 * `store-ops.ts`; nothing is decided here.
 */
export interface LmdbStoreParts {
  readonly id: string
  readonly tables: Tables
  readonly gate: FlushGate
  readonly commitMsMax: number
  readonly queueBytesMax: number
  readonly room: () => number
  /** Gives the environment and the folder back; while a commit hangs it is not called. */
  readonly release: () => Promise<void>
  /** Is told of the close as it begins, so that an open of the same folder can wait for it. */
  readonly closing: (work: Promise<void>) => Promise<void>
}

export const metaKeys = {
  store: Buffer.from("store"),
  watermark: Buffer.from("watermark"),
  row: Buffer.from("row"),
  peer: (pop: string): Buffer => Buffer.from(`peer:${pop}`),
}

export class LmdbStore implements Store {
  readonly id: string
  readonly durability = "flushed"
  readonly #tables: Tables
  readonly #batch: WriteBatch<TableName>
  readonly #rows: RowsParts
  readonly #commits: GroupCommit
  readonly #parts: LmdbStoreParts
  /** The last flushed one. */
  #watermark: number
  /** What is on the disk may be another: a commit of unknown outcome may have been applied. */
  #watermarkStale = false
  #sealed = 0
  #closing: Promise<void> | undefined

  constructor(parts: LmdbStoreParts) {
    this.id = parts.id
    this.#tables = parts.tables
    this.#parts = parts
    this.#watermark = this.#storedWatermark()
    const { root, ...tables } = parts.tables
    this.#batch = new WriteBatch(root, tables)
    const journal = journalOf(parts.tables, this.#batch)
    const records = new Records(this.#batch.tables.records, (actor) => journal.has(actor))
    journal.ready()
    this.#rows = { batch: this.#batch, records, journal }
    this.#commits = new GroupCommit({
      gate: parts.gate,
      commitMsMax: parts.commitMsMax,
      queueBytesMax: parts.queueBytesMax,
      room: parts.room,
      begin: () => journal.ready(),
      seal: (writes) => {
        records.seal()
        journal.seal()
        this.#sealed = (this.#watermarkStale ? this.#storedWatermark() : this.#watermark) + writes
        this.#put(metaKeys.watermark, this.#sealed)
      },
      write: () => this.#batch.write(),
      flushed: (writes) => {
        records.kept()
        journal.kept()
        this.#batch.clear()
        if (writes === 0) return
        this.#watermark = this.#sealed
        this.#watermarkStale = false
      },
      failed: (outcome) => {
        this.#batch.clear()
        if (outcome === "unknown") {
          this.#watermarkStale = true
          records.lost()
          journal.lost()
        } else {
          records.undo()
          journal.undo()
        }
      },
    })
  }

  watermark(): number {
    return this.#watermark
  }

  claim(actor: string, home: HomeRole, first?: FirstClaim): ReturnType<Store["claim"]> {
    const joined = first && { ...first, entries: first.entries.map(copyEntry) }
    const step = (rows: LmdbRows): ReturnType<typeof claimIn> => claimIn(rows, ownershipRules, home, joined)
    return this.#write(actor, bytesOf(joined?.entries ?? []), step, joined?.entries.length)
  }

  commit(...[actor, fence, write]: Parameters<Store["commit"]>): ReturnType<Store["commit"]> {
    const entries = write.entries.map(copyEntry)
    const step = (rows: LmdbRows): ReturnType<typeof commitIn> =>
      commitIn(rows, ownershipRules, fence, { ...write, entries })
    return this.#write(actor, bytesOf(entries), step, entries.length)
  }

  check(...[actor, fence]: Parameters<Store["check"]>): Promise<boolean> {
    return this.#read(actor, (rows) => checkIn(rows, ownershipRules, fence))
  }

  pull(...[actor, home, to, compacted, bytesMax, ahead]: Parameters<Store["pull"]>): ReturnType<Store["pull"]> {
    const whole = compacted && { ...compacted, snapshot: copy(compacted.snapshot) }
    return this.#write(actor, whole?.snapshot.length ?? 0, (rows) =>
      pullIn(rows, ownershipRules, home, to, whole, bytesMax, ahead),
    )
  }

  install(...[actor, home, grant, first]: Parameters<Store["install"]>): ReturnType<Store["install"]> {
    const body = copyBody(grant.staged === undefined ? grant.body : { ...grant.body, snapshot: undefined })
    const joined = first && { ...first, entries: first.entries.map(copyEntry) }
    const bytes = bytesOf([...body.entries, ...(joined?.entries ?? [])]) + (body.snapshot?.length ?? 0)
    return this.#write(actor, bytes, (rows) => installIn(rows, ownershipRules, home, { ...grant, body }, joined))
  }

  stage(...[actor, snapshot, revision]: Parameters<Store["stage"]>): ReturnType<Store["stage"]> {
    const bytes = snapshot && copy(snapshot)
    return this.#write(actor, bytes?.length ?? 0, (rows) => stageIn(rows, bytes, revision))
  }

  confirm(actor: string, from: string, e: number): ReturnType<Store["confirm"]> {
    return this.#write(actor, 0, (rows) => confirmIn(rows, ownershipRules, from, e))
  }

  learn(actor: string, to: string, e: number, told?: boolean): ReturnType<Store["learn"]> {
    return this.#write(actor, 0, (rows) => learnIn(rows, ownershipRules, to, e, told))
  }

  revive(...[actor, seen, e]: Parameters<Store["revive"]>): ReturnType<Store["revive"]> {
    return this.#write(actor, 0, (rows) => reviveIn(rows, ownershipRules, seen, e))
  }

  compact(...[actor, fence, snapshot, upTo]: Parameters<Store["compact"]>): Promise<boolean> {
    const bytes = copy(snapshot)
    return this.#write(actor, bytes.length, (rows) => compactIn(rows, ownershipRules, fence, bytes, upTo))
  }

  load(actor: string): ReturnType<Store["load"]> {
    return this.#read(actor, loadIn)
  }

  peek(actor: string): Promise<OwnershipRecord | undefined> {
    return this.#read(actor, (rows) => rows.record())
  }

  async list(options: Parameters<Store["list"]>[0]): Promise<Listed[]> {
    const { limit } = options
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= listLimitMax))
      throw new RangeError(`limit must be an integer from 1 to ${listLimitMax}, got ${limit}`)
    return this.#scan(() => this.#page(options))
  }

  async due(options: Parameters<Store["due"]>[0]): Promise<Due[]> {
    const { limit } = options
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= listLimitMax))
      throw new RangeError(`limit must be an integer from 1 to ${listLimitMax}, got ${limit}`)
    return this.#scan(() => this.#dueBy(options))
  }

  async peers(): Promise<ReadonlyMap<string, PeerMemory>> {
    return this.#scan(() => this.#named<PeerMemory>("peer"))
  }

  /** What is under `kind:` and a POP's id. */
  #named<T>(kind: string): ReadonlyMap<string, T> {
    const found = new Map<string, T>()
    // ";" follows ":", so it ends the keys that begin with the kind.
    for (const { key, value } of this.#tables.meta.getRange({
      start: Buffer.from(`${kind}:`),
      end: Buffer.from(`${kind};`),
    })) {
      const pop = Buffer.from(key)
        .toString()
        .slice(kind.length + 1)
      found.set(pop, decodeValue(key, value, `what is remembered of ${pop}`) as T)
    }
    return found
  }

  async forgotten(): Promise<ReadonlyMap<string, Forgotten>> {
    return this.#scan(() => this.#named<Forgotten>("forgotten"))
  }

  async forget(pop: string, told: Forgotten): Promise<Forgotten> {
    const key = forgottenKey(pop)
    let wrote = false
    const step = (): Forgotten => {
      const bytes = this.#batch.tables.meta.get(key)
      const known = bytes && (decodeValue(key, bytes, `what is remembered of ${pop}`) as Forgotten)
      const merged = mergeForgotten(known, told)
      this.#put(key, merged)
      wrote = true
      return merged
    }
    return this.#commits.submit("", 0, step, () => wrote, { counts: false })
  }

  async rememberPeer(pop: string, { store, watermark }: PeerMemory): Promise<void> {
    const key = metaKeys.peer(pop)
    let wrote = false
    const remember = (): void => {
      const bytes = this.#batch.tables.meta.get(key)
      const known = bytes && (decodeValue(key, bytes, `what is remembered of ${pop}`) as PeerMemory)
      if (known?.store === store && known.watermark === watermark) return
      wrote = true
      this.#put(key, { store, watermark })
    }
    await this.#commits.submit("", 0, remember, () => wrote, { counts: false })
  }

  close(): Promise<void> {
    this.#closing ??= this.#parts.closing(this.#close())
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#commits.close()
    const { stalled } = this.#commits
    if (stalled === undefined) await this.#parts.release()
    // A hanging commit still uses the environment: freeing it before that has ended would crash the process. Nobody waits for it.
    else stalled.then(this.#parts.release).catch(() => undefined)
  }

  async #write<T>(actor: string, bytes: number, step: (rows: LmdbRows) => T, entries = 0): Promise<T> {
    const rows = new LmdbRows(this.#rows, actor)
    return this.#commits.submit(
      actor,
      bytes,
      () => step(rows),
      () => rows.wrote,
      { rows: 1 + entries },
    )
  }

  async #read<T>(actor: string, step: (rows: LmdbRows) => T): Promise<T> {
    const rows = new LmdbRows(this.#rows, actor)
    this.#commits.assertServing()
    if (this.#commits.busy(actor))
      return this.#commits.submit(
        actor,
        0,
        () => step(rows),
        () => false,
        { writes: false },
      )
    this.#rows.journal.ready()
    return step(rows)
  }

  /** Reads many, once what is under way is on the disk. */
  async #scan<T>(read: () => T): Promise<T> {
    this.#commits.assertServing()
    if (this.#commits.busy(undefined))
      await this.#commits.submit(
        "",
        0,
        () => undefined,
        () => false,
        { writes: false },
      )
    return read()
  }

  #page({ after: last, limit, k }: Parameters<Store["list"]>[0]): Listed[] {
    const { records, kinds } = this.#tables
    const listed: Listed[] = []
    const add = (key: Uint8Array, value: Uint8Array | undefined): boolean => {
      const actor = Buffer.from(key).toString()
      const record = value && readableRecord(key, value)?.record
      if (record !== undefined) listed.push({ actor, record })
      return listed.length === limit
    }
    if (k === undefined) {
      const start = last === undefined ? {} : { start: after(actorKey(last)) }
      for (const { key, value } of records.getRange(start)) if (add(key, value)) break
    } else {
      const kind = kindKey(k, Buffer.alloc(0))
      const start = last === undefined ? kind : after(kindKey(k, actorKey(last)))
      const end = Buffer.from([(kind[0] as number) + 1])
      for (const key of kinds.getKeys({ start, end })) {
        const actor = Buffer.from(key).subarray(1)
        if (add(actor, records.get(actor))) break
      }
    }
    return listed
  }

  #dueBy({ before, limit, after: last }: Parameters<Store["due"]>[0]): Due[] {
    const { records, due } = this.#tables
    const found: Due[] = []
    const none = Buffer.alloc(0)
    const start = last === undefined ? none : after(dueKey(last.due, actorKey(last.actor)))
    const end = dueKey(Math.min(Math.max(0, Math.floor(before) + 1), Number.MAX_SAFE_INTEGER), none)
    for (const found0 of due.getKeys({ start, end })) {
      const key = Buffer.from(found0)
      const at = Number(key.readBigUInt64BE(0))
      const id = key.subarray(dueBytes)
      const actor = id.toString()
      const value = records.get(id)
      // The record is the truth. The index is advice: an earlier version of this code may have written the record and not the index.
      if (value === undefined || dueOf(readableRecord(id, value)?.record) !== at) continue
      found.push({ actor, due: at })
      if (found.length === limit) break
    }
    return found
  }

  #storedWatermark(): number {
    const bytes = this.#tables.meta.get(metaKeys.watermark)
    return bytes === undefined ? 0 : (decodeValue(metaKeys.watermark, bytes, "the store's watermark") as number)
  }

  #put(key: Buffer, value: unknown): void {
    this.#batch.tables.meta.put(key, encodeValue(key, value))
  }
}

function journalOf({ records, meta }: Tables, { tables }: WriteBatch<TableName>): Journal {
  const key = metaKeys.row
  return new Journal({
    table: tables.journal,
    stored(actor) {
      const id = Buffer.from(actor)
      const value = records.get(id)
      return value && readableRecord(id, value)
    },
    next() {
      const bytes = meta.get(key)
      return bytes === undefined ? 1 : (decodeValue(key, bytes, "the store's number of journal rows") as number)
    },
    putNext(row) {
      tables.meta.put(key, encodeValue(key, row))
    },
  })
}

function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}

/** Many and small, and never given back: they share memory, as Node's buffers do. */
function copyEntry(bytes: Uint8Array): Uint8Array {
  return Buffer.from(bytes)
}

function copyBody({ snapshot, entries }: Body): Body {
  return { snapshot: snapshot && copy(snapshot), entries: entries.map(copyEntry) }
}

function bytesOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}
