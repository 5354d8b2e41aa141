import { SojournError } from "@sojourn/protocol"

import { actorKey } from "./address.ts"
import type { OwnershipRecord } from "./record.ts"
import {
  checkIn,
  claimIn,
  commitIn,
  compactIn,
  confirmIn,
  installIn,
  learnIn,
  loadIn,
  ownershipRules,
  pullIn,
  stageIn,
  reviveIn,
  type ActorRows,
  type OwnershipRules,
} from "./store-ops.ts"
import {
  listLimitMax,
  mergeForgotten,
  type Body,
  type Due,
  type Forgotten,
  type Listed,
  type PeerMemory,
  type Store,
  type StoreOpener,
} from "./store.ts"

/**
 * A store for tests and the simulator. Every operation takes effect while it is being called and resolves in a microtask, so the order
 * of calls is the order of effects. What a real store would have on disk is the `MemoryDisk`: a crash of the process is a new store on
 * the same disk, and a store left over from before the crash is a paused process that the fences must hold off.
 */
export interface MemoryDisk {
  readonly id: string
  watermark: number
  readonly actors: Map<string, MemoryActor>
  readonly peers: Map<string, PeerMemory>
  /** Snapshots that were sent ahead of a grant. */
  readonly staged: Map<string, { readonly snapshot: Uint8Array; readonly revision: number }>
  readonly forgotten: Map<string, Forgotten>
}

export interface MemoryActor {
  record: OwnershipRecord
  snapshot: Uint8Array | undefined
  entries: Uint8Array[]
}

export interface MemoryStoreOptions {
  /** The store's id where `disk` brings none. Default: `memory`. */
  readonly id?: string
  /** This POP: granting to it is then refused. */
  readonly pop?: string
  /** Wrong rules, planted to see them caught. */
  readonly rules?: Partial<OwnershipRules>
  readonly disk?: MemoryDisk
}

export function memoryDisk(id = "memory"): MemoryDisk {
  return { id, watermark: 0, actors: new Map(), peers: new Map(), forgotten: new Map(), staged: new Map() }
}

export function memoryStore(options: MemoryStoreOptions = {}): Store {
  const rules: OwnershipRules = { ...ownershipRules, ...options.rules }
  const disk = options.disk ?? memoryDisk(options.id)
  disk.staged.clear()
  let closed = false

  // Async, so that what `work` throws is a rejection; it runs before the first await, so effects keep the order of the calls.
  const inStep = async <T>(work: () => T): Promise<T> => {
    if (closed) throw new SojournError("STORE_UNAVAILABLE", "the memory store is closed")
    return work()
  }
  const onActor = <T>(actor: string, work: (rows: ActorRows) => T): Promise<T> =>
    inStep(() => {
      actorKey(actor)
      const rows = new MemoryRows(disk, actor)
      const answer = work(rows)
      if (rows.wrote) disk.watermark++
      return answer
    })

  return {
    id: disk.id,
    durability: "volatile",
    watermark: () => disk.watermark,
    claim: (actor, home, first) => onActor(actor, (rows) => claimIn(rows, rules, home, first)),
    commit: (actor, fence, write) => onActor(actor, (rows) => commitIn(rows, rules, fence, write)),
    check: (actor, fence) => onActor(actor, (rows) => checkIn(rows, rules, fence)),
    pull: (actor, home, to, compacted, bytesMax, ahead) =>
      onActor(actor, (rows) => {
        if (to === options.pop) throw new RangeError(`a POP does not grant to itself: ${to}`)
        return pullIn(rows, rules, home, to, compacted, bytesMax, ahead)
      }),
    install: (actor, home, grant, first) => onActor(actor, (rows) => installIn(rows, rules, home, grant, first)),
    stage: (actor, snapshot, revision) => onActor(actor, (rows) => stageIn(rows, snapshot, revision)),
    confirm: (actor, from, e) => onActor(actor, (rows) => confirmIn(rows, rules, from, e)),
    learn: (actor, to, e, told) => onActor(actor, (rows) => learnIn(rows, rules, to, e, told)),
    revive: (actor, seen, e) => onActor(actor, (rows) => reviveIn(rows, rules, seen, e)),
    load: (actor) => onActor(actor, loadIn),
    peek: (actor) => onActor(actor, (rows) => rows.record()),
    compact: (actor, fence, snapshot, upTo) => onActor(actor, (rows) => compactIn(rows, rules, fence, snapshot, upTo)),
    list: ({ after, limit, k }) =>
      inStep(() => {
        if (!(Number.isInteger(limit) && limit >= 1 && limit <= listLimitMax))
          throw new RangeError(`limit must be an integer from 1 to ${listLimitMax}, got ${limit}`)
        const listed: Listed[] = []
        for (const [actor, { record }] of disk.actors)
          if ((k === undefined || record.k === k) && (after === undefined || byKey(after, actor) < 0))
            listed.push({ actor, record })
        return listed.sort((a, b) => byKey(a.actor, b.actor)).slice(0, limit)
      }),
    due: ({ before, limit, after }) =>
      inStep(() => {
        if (!(Number.isInteger(limit) && limit >= 1 && limit <= listLimitMax))
          throw new RangeError(`limit must be an integer from 1 to ${listLimitMax}, got ${limit}`)
        const found: Due[] = []
        for (const [actor, { record }] of disk.actors)
          if (record.k === "OWNED" && record.due !== undefined && record.due <= before) {
            const one = { actor, due: record.due }
            if (after === undefined || byTime(after, one) < 0) found.push(one)
          }
        return found.sort(byTime).slice(0, limit)
      }),
    peers: () => inStep(() => new Map(disk.peers)),
    rememberPeer: (pop, { store, watermark }) =>
      inStep(() => {
        const known = disk.peers.get(pop)
        if (known?.store === store && known.watermark === watermark) return
        disk.peers.set(pop, { store, watermark })
      }),
    forgotten: () => inStep(() => new Map(disk.forgotten)),
    forget: (pop, told) =>
      inStep(() => {
        const merged = mergeForgotten(disk.forgotten.get(pop), told)
        disk.forgotten.set(pop, merged)
        return merged
      }),
    async close() {
      closed = true
    },
  }
}

/** What `createPop` takes as `storage` in tests: a store of its own at each opening, or the one on `disk` again. */
export function memory(options: MemoryStoreOptions = {}): StoreOpener {
  return { kind: "memory", open: async () => memoryStore(options) }
}

const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)

/** UTF-8 byte order, which is that of code points; `<` on strings is that of UTF-16 units and differs past U+FFFF. */
function byKey(a: string, b: string): number {
  const left = actorKey(a)
  const right = actorKey(b)
  for (let i = 0; i < left.length && i < right.length; i++) {
    const difference = (left[i] as number) - (right[i] as number)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

function byTime(a: Due, b: Due): number {
  return a.due - b.due || byKey(a.actor, b.actor)
}

class MemoryRows implements ActorRows {
  readonly #disk: MemoryDisk
  readonly #actor: string
  wrote = false

  constructor(disk: MemoryDisk, actor: string) {
    this.#disk = disk
    this.#actor = actor
  }

  get #row(): MemoryActor | undefined {
    return this.#disk.actors.get(this.#actor)
  }

  record(): OwnershipRecord | undefined {
    return this.#row?.record
  }

  body(ahead?: number): Body {
    const row = this.#row
    const snapshot = this.snapshotRevision() === ahead ? undefined : row?.snapshot
    return {
      snapshot: snapshot && copy(snapshot),
      entries: (row?.entries ?? []).map(copy),
    }
  }

  snapshotRevision(): number {
    const row = this.#row
    return row === undefined || row.record.k === "PTR" ? 0 : row.record.v - row.entries.length
  }

  putRecord(record: OwnershipRecord): void {
    this.wrote = true
    const { snapshot, entries = [] } = this.#row ?? { snapshot: undefined }
    this.#disk.actors.set(this.#actor, { record, snapshot, entries })
  }

  putBody(body: Body): void {
    this.#disk.staged.delete(this.#actor)
    this.#put(body.snapshot === undefined ? undefined : copy(body.snapshot), body.entries.map(copy))
  }

  append(_after: number, entries: readonly Uint8Array[]): void {
    const row = this.#row
    this.#put(row?.snapshot, [...(row?.entries ?? []), ...entries.map(copy)])
  }

  putSnapshot(snapshot: Uint8Array, revision: number): void {
    const entries = this.#row?.entries ?? []
    this.#disk.staged.delete(this.#actor)
    this.#put(copy(snapshot), entries.slice(revision - this.snapshotRevision()))
  }

  refuses(pop: string): boolean {
    return this.#disk.forgotten.has(pop)
  }

  dropBody(): void {
    this.#disk.staged.delete(this.#actor)
    this.#put(undefined, [])
  }

  stagedRevision(): number | undefined {
    return this.#disk.staged.get(this.#actor)?.revision
  }

  putStaged(snapshot: Uint8Array | undefined, revision: number): void {
    this.wrote = true
    if (snapshot === undefined) this.#disk.staged.delete(this.#actor)
    else this.#disk.staged.set(this.#actor, { snapshot: copy(snapshot), revision })
  }

  adoptStaged(entries: readonly Uint8Array[]): void {
    const staged = this.#disk.staged.get(this.#actor)
    this.#disk.staged.delete(this.#actor)
    this.#put(staged?.snapshot, entries.map(copy))
  }

  #put(snapshot: Uint8Array | undefined, entries: Uint8Array[]): void {
    this.wrote = true
    const row = this.#row
    if (row !== undefined) this.#disk.actors.set(this.#actor, { record: row.record, snapshot, entries })
  }
}
