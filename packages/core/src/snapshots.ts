import { SojournError } from "@sojourn/protocol"
import type { ActorState } from "./actor-state.ts"
import { sessionIds, type Attached } from "./attach.ts"
import { encodeSnapshot, type Loaded } from "./journal.ts"
import type { Limits } from "./limits.ts"
import type { Clock, Primitives } from "./ports.ts"
import type { Needs } from "./residency.ts"
import type { SessionTable } from "./sessions.ts"
import type { Tail } from "./tail.ts"

export interface Snapshot {
  readonly bytes: Uint8Array
  readonly revision: number
}

export interface SnapshotPorts {
  readonly clock: Clock
  readonly primitives: Primitives
  readonly limits: Limits
  /** Every open attach of this actor at this node. */
  attached(): Iterable<Attached>
}

/**
 * The snapshots of one activation: what goes into one, when the journal is to be replaced by one, and who waits for the next. Writing them
 * is the journal writer's.
 *
 * A snapshot is of what is in memory when it is made, so it is of the revision that was appended last, and may be written only when that is
 * durable. What has been changed in place (a Date) is in memory as well, although it was by a query, or by a turn that will be refused for it: no
 * snapshot is made of that.
 */
export class Snapshots {
  readonly #needs: Needs
  readonly #state: ActorState
  readonly #sessions: SessionTable
  readonly #tail: Tail
  readonly #ports: SnapshotPorts
  /** The last one that there will be, if `onDeactivate` was given up: it may still reach into the state in memory, which is not used again. */
  #frozen: Uint8Array | undefined
  #revision: number
  #snapshotBytes: number
  #journalBytes: number
  #journalEntries: number
  /** Whoever waits for the next one, whatever the journal's size. */
  #waiters: PromiseWithResolvers<Snapshot>[] = []
  #stopped = false

  constructor(
    loaded: Loaded,
    needs: Needs,
    parts: {
      readonly state: ActorState
      readonly sessions: SessionTable
      readonly tail: Tail
    },
    ports: SnapshotPorts,
  ) {
    this.#needs = needs
    this.#state = parts.state
    this.#sessions = parts.sessions
    this.#tail = parts.tail
    this.#ports = ports
    this.#revision = loaded.revision - loaded.journalEntries
    this.#snapshotBytes = loaded.snapshotBytes
    this.#journalBytes = loaded.journalBytes
    this.#journalEntries = loaded.journalEntries
  }

  /** Revision of the stored one. */
  get revision(): number {
    return this.#revision
  }

  /** Bytes of the stored body, about. */
  get bodyBytes(): number {
    return this.#snapshotBytes + this.#journalBytes
  }

  /** Somebody waits for one, and it can be made. */
  get wanted(): boolean {
    return this.wanting && this.sound
  }

  /** Somebody waits for one. */
  get wanting(): boolean {
    return this.#waiters.length > 0
  }

  /** What one would be of was committed. */
  get sound(): boolean {
    return this.#frozen !== undefined || this.#state.leavesIntact()
  }

  /** One is to follow the write that begins. */
  get due(): boolean {
    const { journalEntriesMax, journalBytesMax } = this.#ports.limits
    const large = this.#journalEntries >= journalEntriesMax || this.#journalBytes >= journalBytesMax
    return (large && !this.#stopped && this.#state.leavesIntact()) || this.wanted
  }

  /** What is in memory is more than the stored one says, and can be stored. Where it cannot, the journal has all that counts. */
  get behind(): boolean {
    return (this.#journalEntries > 0 || this.#sessions.dirty || this.#frozen !== undefined) && this.sound
  }

  /** From now on only a copy of what is committed is used. */
  get frozen(): boolean {
    return this.#frozen !== undefined
  }

  /** An entry was appended to the journal. */
  grow(bytes: number): void {
    this.#journalBytes += bytes
    this.#journalEntries += 1
  }

  /** Rejects with SLEPT where there will be none. */
  next(): Promise<Snapshot> {
    if (this.#stopped) return Promise.reject(new SojournError("SLEPT"))
    const waiter = Promise.withResolvers<Snapshot>()
    this.#waiters.push(waiter)
    return waiter.promise
  }

  /** `revision`: what memory is at. */
  encode(revision: number): Uint8Array {
    if (this.#frozen) return this.#frozen
    const { clock, primitives } = this.#ports
    this.#state.pruneLeaves()
    this.#sessions.expire(clock.now())
    return encodeSnapshot(
      {
        revision,
        needs: this.#needs,
        state: this.#state.value,
        sessions: this.#sessions.records(),
        alarms: this.#state.alarms,
        ...this.#tail.unacknowledged(sessionIds(this.#ports.attached()), clock.now()),
      },
      primitives,
    )
  }

  freeze(revision: number): void {
    this.#frozen = this.encode(revision)
  }

  /** This one is about to take the journal's place, but for the entries `after` its revision. Answers whoever waited for it. */
  replaces(
    bytes: Uint8Array,
    revision: number,
    after: readonly Uint8Array[],
  ): readonly PromiseWithResolvers<Snapshot>[] {
    this.#snapshotBytes = bytes.length
    this.#revision = revision
    this.#journalBytes = after.reduce((sum, entry) => sum + entry.length, 0)
    this.#journalEntries = after.length
    return this.#waiters.splice(0)
  }

  /** There will be none: the activation is over, or is as soon as what it has appended is durable. */
  stop(): void {
    this.#stopped = true
    for (const { reject } of this.#waiters.splice(0)) reject(new SojournError("SLEPT"))
  }
}
