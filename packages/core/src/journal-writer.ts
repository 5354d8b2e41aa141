import { SojournError } from "@sojourn/protocol"
import type { ActorState } from "./actor-state.ts"
import type { OutputGate } from "./gate.ts"
import { encodeEntry, outputOf, sealOf, type Entry, type Output } from "./journal.ts"
import type { Limits } from "./limits.ts"
import type { Clock, Primitives } from "./ports.ts"
import type { Fence, HomeRole, OwnershipRecord } from "./record.ts"
import type { Snapshots } from "./snapshots.ts"
import type { Grant, Store, Write } from "./store.ts"
import type { Tail } from "./tail.ts"

/** How an activation came by its actor. */
export interface Ownership {
  readonly epoch: number
  readonly fence: number
  readonly hash: string
  readonly home: HomeRole
  /** It came by a hand-off, which is to be installed. */
  readonly grant?: Grant
  /** Not claimed yet: the record that it was built from, undefined where there is none. */
  readonly seen?: { readonly record: OwnershipRecord | undefined }
}

export interface JournalPorts {
  readonly store: Store
  readonly clock: Clock
  readonly primitives: Primitives
  readonly limits: Limits
  /** The claim is durable. Called once, before anything of this activation leaves. */
  claimed(fence: number): void
  /** The same of the install. */
  installed(bytes: number, ms: number): void
  /** The grant was a repetition: this POP had installed that epoch before. */
  installIgnored(): void
  /** Durable: the next alarm is due at `due`; undefined: none is set. */
  alarmsChanged(due: number | undefined): void
  /** A write is durable; the first turn in it ended `waitedMs` before. */
  wrote(waitedMs: number): void
}

/** What the writer asks of its activation. */
export interface JournalOwner {
  /** A store operation has succeeded and what waited for it has left: there is room for more turns, and for the next operation. */
  run(): void
  drop(error: SojournError): void
}

/**
 * The journal of one activation, from the end of a turn to the store: the only one that writes, and that numbers what is written.
 *
 *   append ─▶ pending ─▶ one write at a time (install, claim or commit) ─▶ gate ─▶ snapshot, if one is due
 *
 * Entries that gather while one write is under way share the next (group commit). The first write is the claim or, where the actor came by a
 * hand-off, the install; it takes the entries along that there are by then, or none. Where nothing is to be written but the gate waits for a
 * proof, the ownership is checked instead. One store operation at a time, snapshots aside: proofs succeed in the order in which they began.
 *
 * A snapshot is encoded as its write begins, when memory is at that write's revision, and sent behind it. Encoded later, it would hold turns
 * that are not durable, at the revision of others.
 *
 * A write that is fenced, or fails, or whose outcome is unknown, drops the activation. Nothing here ever sends a write again.
 */
export class JournalWriter {
  readonly #id: string
  readonly #gate: OutputGate
  readonly #tail: Tail
  readonly #state: ActorState
  readonly #snapshots: Snapshots
  readonly #ports: JournalPorts
  readonly #owner: JournalOwner
  /** Of what was appended last, durable or not. */
  #revision: number
  /** Of the journal up to what the last write took. */
  #hash: string
  #epoch: number
  #fence: number
  /** The install is still to be made. */
  #grant: { readonly grant: Grant; readonly home: HomeRole } | undefined
  /** The claim is still to be made. */
  #claim: { readonly seen: OwnershipRecord | undefined; readonly home: HomeRole } | undefined
  /** Entries that no write has begun for. */
  #pending: Uint8Array[] = []
  /** When the first of these was added. */
  #pendingSince = 0
  #writing = false
  #stopped = false
  #compacting: Promise<void> | undefined

  constructor(
    id: string,
    revision: number,
    ownership: Ownership,
    parts: {
      readonly gate: OutputGate
      readonly tail: Tail
      readonly state: ActorState
      readonly snapshots: Snapshots
    },
    ports: JournalPorts,
    owner: JournalOwner,
  ) {
    const { epoch, fence, hash, home, grant, seen } = ownership
    this.#id = id
    this.#revision = revision
    this.#epoch = epoch
    this.#fence = fence
    this.#hash = hash
    this.#grant = grant && { grant, home }
    this.#claim = seen && { seen: seen.record, home }
    this.#gate = parts.gate
    this.#tail = parts.tail
    this.#state = parts.state
    this.#snapshots = parts.snapshots
    this.#ports = ports
    this.#owner = owner
  }

  get epoch(): number {
    return this.#epoch
  }

  get revision(): number {
    return this.#revision
  }

  /** The actor is here for certain: its install, or this activation's claim, is durable. */
  get certain(): boolean {
    return !this.#grant && !this.#claim
  }

  /** Entries that no write has begun for. */
  get pending(): number {
    return this.#pending.length
  }

  /** Nothing is being written or waits for it, snapshots aside. */
  get quiet(): boolean {
    return !this.#writing && this.#pending.length === 0
  }

  /** `entry` is of the revision behind the last. Written when `pump` comes to it. */
  append(entry: Entry, bytes = encodeEntry(entry, this.#ports.primitives)): Output {
    const { clock } = this.#ports
    this.#revision = entry.r
    if (this.#pending.length === 0) this.#pendingSince = clock.mono()
    this.#pending.push(bytes)
    const output = outputOf(entry)
    this.#tail.push(output, bytes.length, entry.t)
    this.#snapshots.grow(bytes.length)
    return output
  }

  /** Begins the next store operation, if one is needed and none is under way. */
  pump(): void {
    if (this.#writing) return
    if (this.#grant || this.#claim || this.#pending.length > 0) {
      this.#startWrite()
      return
    }
    // Everything is durable: a snapshot that somebody waits for needs no write before it.
    if (this.#snapshots.wanted) this.#compact(this.#snapshots.encode(this.#revision), this.#revision)
    if (this.#gate.needsProof) this.#startCheck()
  }

  /** The activation is over: what no write has begun for is never written. */
  stop(): void {
    this.#stopped = true
    this.#pending = []
  }

  #startCheck(): void {
    this.#writing = true
    const proof = this.#gate.begin()
    this.#ports.store.check(this.#id, { e: this.#epoch, f: this.#fence }).then(
      (ours) => {
        this.#writing = false
        if (this.#stopped) return
        if (!ours) {
          this.#taken()
          return
        }
        this.#gate.proved(proof, this.#gate.durable)
        this.#owner.run()
      },
      (cause: unknown) => {
        this.#writeFailed(cause)
      },
    )
  }

  #startWrite(): void {
    this.#writing = true
    const entries = this.#pending
    const since = this.#pendingSince
    this.#pending = []
    const revision = this.#revision
    const fence = { e: this.#epoch, f: this.#fence, v: revision - entries.length }
    const { store, clock } = this.#ports
    const h = entries.length === 0 ? this.#hash : this.#hashAfter(entries, revision)
    this.#hash = h
    // Told with every install as well: a grant from a peer that keeps no such time has none.
    const due = this.#state.takeDue(this.#grant !== undefined)
    const write = { entries, h, ...(due === undefined ? {} : { due }) }
    const proof = this.#gate.begin()
    const compactTo = this.#snapshots.due ? this.#snapshots.encode(revision) : undefined
    const done = (): void => {
      this.#writing = false
      if (this.#stopped) return
      if (entries.length > 0) this.#ports.wrote(clock.mono() - since)
      if (compactTo) this.#compact(compactTo, revision)
      this.#gate.proved(proof, revision)
      if (due !== undefined) this.#ports.alarmsChanged(due ?? undefined)
      this.#owner.run()
    }
    const failed = (cause: unknown): void => {
      this.#writeFailed(cause)
    }
    if (this.#grant || this.#claim) {
      this.#writeFirst(write, done, failed)
      return
    }
    store.commit(this.#id, fence, write).then((answer) => {
      if (answer.kind !== "fenced") {
        done()
        return
      }
      this.#writing = false
      this.#fenced(answer.record)
    }, failed)
  }

  #hashAfter(entries: readonly Uint8Array[], revision: number): string {
    let text = `${this.#hash} ${revision}`
    for (const bytes of entries) text += ` ${bytes.length}:${sealOf(bytes)}`
    return this.#ports.primitives.digest(text)
  }

  /** The install or the claim, and what it takes along. */
  #writeFirst(write: Write, done: () => void, failed: (cause: unknown) => void): void {
    const { store, clock } = this.#ports
    if (this.#grant) {
      const { grant, home } = this.#grant
      const from = clock.mono()
      store.install(this.#id, home, grant, write).then((answer) => {
        if (this.#stopped) return
        if (answer.kind === "ignored") {
          this.#ports.installIgnored()
          return
        }
        this.#grant = undefined
        this.#epoch = answer.record.e
        this.#fence = answer.record.f
        this.#ports.installed(
          grant.body.entries.reduce((sum, bytes) => sum + bytes.length, grant.body.snapshot?.length ?? 0),
          clock.mono() - from,
        )
        done()
      }, failed)
      return
    }
    if (!this.#claim) return
    const { seen, home } = this.#claim
    store.claim(this.#id, home, { seen, ...write }).then((answer) => {
      if (this.#stopped) return
      if (answer.kind !== "claimed") {
        this.#writing = false
        this.#fenced(answer.record)
        return
      }
      this.#claim = undefined
      this.#epoch = answer.record.e
      this.#fence = answer.record.f
      this.#ports.claimed(this.#fence)
      done()
    }, failed)
  }

  #fenced(record: OwnershipRecord | undefined): void {
    this.#owner.drop(
      // What the record says goes to the log, as the cause: the message goes to clients.
      new SojournError("FENCED", `${this.#id} is owned by another activation`, {
        cause: new Error(`the record is ${JSON.stringify(record ?? null)}`),
      }),
    )
  }

  #taken(): void {
    this.#owner.drop(new SojournError("FENCED", `another activation has taken ${this.#id}`))
  }

  #writeFailed(cause: unknown): void {
    this.#writing = false
    // What the engine said goes to the log, as the cause: the message goes to clients.
    this.#owner.drop(
      cause instanceof SojournError && cause.outcome === "not-executed"
        ? cause
        : new SojournError("UNKNOWN_OUTCOME", `a write of ${this.#id} has an unknown outcome`, { cause }),
    )
  }

  #compact(bytes: Uint8Array, revision: number): void {
    // Nothing is being written now: what came after the snapshot was made is all pending.
    const waiters = this.#snapshots.replaces(bytes, revision, this.#pending)
    this.#compacting = this.#ports.store.compact(this.#id, { e: this.#epoch, f: this.#fence }, bytes, revision).then(
      (done) => {
        if (!done) this.#taken()
        for (const { resolve, reject } of waiters)
          if (done) resolve({ bytes, revision })
          else reject(new SojournError("FENCED"))
      },
      (cause: unknown) => {
        for (const { reject } of waiters) reject(cause)
        this.#writeFailed(cause)
      },
    )
  }

  /** Writes a snapshot if anything is newer than the last one. Everything appended is durable. */
  async compactForSleep(): Promise<void> {
    await this.#compacting
    if (this.#stopped || !this.#snapshots.behind) return
    const bytes = this.#snapshots.encode(this.#revision)
    const fence = { e: this.#epoch, f: this.#fence }
    if (!(await this.#ports.store.compact(this.#id, fence, bytes, this.#gate.durable))) this.#taken()
  }

  /** Epoch, fence and revision, to seal by. */
  get fence(): Fence {
    return { e: this.#epoch, f: this.#fence, v: this.#revision }
  }
}
