import type {
  ClaimAnswer,
  CommitAnswer,
  Fence,
  Granted,
  GrantHead,
  HomeRole,
  InstallDecision,
  OwnershipRecord,
  SeenRecord,
} from "./record.ts"

/**
 * The storage contract. Each ownership operation is one atomic step of the engine that decides by the functions of `record.ts`, and its
 * promise resolves only when everything it wrote, and everything it saw, is durable. A promise that rejects leaves the outcome
 * unknown unless the error says `outcome: "not-executed"`; the caller then claims anew before anything else.
 *
 * Operations on one actor may be called concurrently; they take effect, and settle, in the order of their calls. Those on different
 * actors are independent. The engine never looks into `snapshot` and `entries`: they are bytes, copied on the way in and out.
 * An id that `addressId` could not have made rejects with BAD_KEY, a `due` that is no whole number from 0 on with a RangeError.
 *
 * The conformance suite in `testkit` is the definition; this text is its summary.
 */
export interface Store {
  /** Which history this is: a random id, made with the store. A wiped or swapped folder has another. */
  readonly id: string
  /** `flushed`: an acknowledged write survives a power cut. `volatile`: it does not survive the process; for tests. */
  readonly durability: "flushed" | "volatile"
  /**
   * A number that grows with every write of an actor and never shrinks in one history; peers remember it to notice a restored backup.
   * What is remembered of peers does not count: two idle POPs would otherwise tell each other of their remembering for ever.
   */
  watermark(): number

  /**
   * Takes the actor for a new activation and fences every earlier one. `home`: this POP is the actor's home. `first`: the activation was built
   * from what was read before (`load`); it is claimed if the record still is what was seen, together with its first commit, else answered
   * `changed`. No body is answered then.
   */
  claim(actor: string, home: HomeRole, first?: FirstClaim): Promise<ClaimAnswer & { readonly body: Body }>
  commit(actor: string, fence: Fence, write: Write): Promise<CommitAnswer>
  check(actor: string, fence: Omit<Fence, "v">): Promise<boolean>
  /**
   * Seals the actor and grants it to `to`, or repeats the grant. `to` is never this POP. `compacted`: a snapshot of the whole body, which
   * replaces it in the same step if its fence and revision are the record's, so that what travels is the state and not its journal.
   * `bytesMax`: a body that is larger is not sealed, and the actor stays as it is; a grant made before is repeated whatever its size.
   * `ahead`: a snapshot of that revision is not read, nor answered, nor counted: `to` has it. What is stored is the same.
   */
  pull(
    actor: string,
    home: HomeRole,
    to: string,
    compacted?: Compacted,
    bytesMax?: number,
    ahead?: number,
  ): Promise<PullAnswer>
  install(actor: string, home: HomeRole, grant: Grant, first: FirstWrite | undefined): Promise<InstallDecision>
  /**
   * Keeps a snapshot that was sent ahead of a grant, so that an install need not write it again (`Grant.staged`); undefined: drops it. It is
   * no body: nothing but an install reads it, whatever writes or drops the body drops it, and so does opening the store. False, and nothing
   * is done, where a body lies here already.
   */
  stage(actor: string, snapshot: Uint8Array | undefined, revision: number): Promise<boolean>
  confirm(actor: string, from: string, e: number): Promise<{ readonly acked: boolean }>
  learn(actor: string, to: string, e: number, told?: boolean): Promise<{ readonly e: number }>
  /** Goes on from what is here after a POP was forgotten, if the record still is the one that was seen (`decideRevive`). */
  revive(actor: string, seen: SeenRecord | undefined, e: number): Promise<{ readonly revived: boolean }>

  /** Reads without claiming: for routing and tools. */
  load(actor: string): Promise<{ readonly record: OwnershipRecord; readonly body: Body } | undefined>
  /** Only the record. Must be cheap: every attach reads it. */
  peek(actor: string): Promise<OwnershipRecord | undefined>
  /**
   * Replaces snapshot and the entries up to revision `upTo` (the snapshot's own) in one step; fenced like a commit, by e and f. Rejects
   * with a RangeError where `upTo` is past the record's revision or before the stored snapshot's.
   */
  compact(actor: string, fence: Omit<Fence, "v">, snapshot: Uint8Array, upTo: number): Promise<boolean>
  /**
   * Actors in the byte order of their UTF-8 ids after `after`, at most `limit` (1 to 1,000); `k` narrows to one kind of record. An actor
   * whose record is corrupt is left out: only its own operations reject.
   */
  list(options: {
    readonly after?: string
    readonly limit: number
    readonly k?: OwnershipRecord["k"]
  }): Promise<Listed[]>

  /**
   * Actors whose record is `OWNED` here with a `due` up to `before`, in the order of their time, then of their ids, at most `limit` (1 to
   * 1,000), behind `after`. An actor whose record is corrupt is left out.
   */
  due(options: { readonly before: number; readonly limit: number; readonly after?: Due }): Promise<Due[]>

  /** What this POP durably remembers of its peers' stores. */
  peers(): Promise<ReadonlyMap<string, PeerMemory>>
  rememberPeer(pop: string, memory: PeerMemory): Promise<void>

  /** POPs that were given up as destroyed. For ever: such a POP never comes back under its id. */
  forgotten(): Promise<ReadonlyMap<string, Forgotten>>
  /**
   * From when this resolves, and in every operation that takes effect later, nothing is granted to that POP, and its grants (`Grant.from`),
   * confirms and pointers are refused. The first heir stays; `inherited`, once true, stays. Answers what is now remembered.
   */
  forget(pop: string, forgotten: Forgotten): Promise<Forgotten>

  /** Waits for what is under way, then releases everything. Operations called later reject with STORE_UNAVAILABLE. */
  close(): Promise<void>
}

/** An actor's stored state: the whole state at some revision, and the journal entries since. Opaque bytes to a store. */
export interface Body {
  readonly snapshot: Uint8Array | undefined
  readonly entries: readonly Uint8Array[]
}

export const emptyBody: Body = { snapshot: undefined, entries: [] }

/** Entries of one page of `list`. */
export const listLimitMax = 1_000

/**
 * `entries[i]` is the journal entry of revision `fence.v + 1 + i`; at least one. `h` is the hash after the last. `due`: when the next alarm
 * is due then, null for none; absent: as before.
 */
export interface Write {
  readonly entries: readonly Uint8Array[]
  readonly h: string
  readonly due?: number | null
}

export interface Grant extends GrantHead {
  /** The POP that gave it: refused if that one was forgotten. */
  readonly from?: string
  readonly body: Body
  /** Revision of the staged snapshot that stands in the body's place; `body.snapshot` is then not looked at. */
  readonly staged?: number
}

/** A snapshot of the revision in `fence`. */
export interface Compacted {
  readonly fence: Fence
  readonly snapshot: Uint8Array
}

/** The installing activation's claim, and its first commit where that turn has already ended (`entries` may be empty). */
export type FirstWrite = Write

/** `seen`: the record as it was read, undefined where there was none. `entries` may be empty. */
export interface FirstClaim extends FirstWrite {
  readonly seen: OwnershipRecord | undefined
}

export type PullAnswer =
  | { readonly kind: "grant"; readonly record: Granted; readonly body: Body }
  | { readonly kind: "moved"; readonly to: string; readonly e: number; readonly inTransit: boolean }
  | { readonly kind: "none" }
  | { readonly kind: "too-large"; readonly bytes: number }

/** When an actor's next alarm is due, ms since 1970. */
export interface Due {
  readonly actor: string
  readonly due: number
}

export interface Listed {
  readonly actor: string
  readonly record: OwnershipRecord
}

/** What an author passes as `storage`: opening is the node's to do, at start. */
export interface StoreOpener {
  /** For messages: `memory`, `lmdb`, … */
  readonly kind: string
  /** Rejects with STORE_IN_USE where another process has it open, CORRUPT_RECORD where it is not a store of a known format. */
  open(): Promise<Store>
}

export interface PeerMemory {
  readonly store: string
  readonly watermark: number
}

export interface Forgotten {
  /** Takes its place as a home. */
  readonly heir: string
  /** The heir has a record of every actor of that home that has one anywhere: it may create. */
  readonly inherited: boolean
}

/** What stays of two: the first heir, and that it has inherited. */
export function mergeForgotten(known: Forgotten | undefined, told: Forgotten): Forgotten {
  if (known === undefined || known.heir !== told.heir) return known ?? told
  return { heir: known.heir, inherited: known.inherited || told.inherited }
}
