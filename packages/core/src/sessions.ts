import { SojournError } from "@sojourn/protocol"
import { sessionHead, type SessionRecord, type StoredReply } from "./journal.ts"
import type { Limits } from "./limits.ts"
import { expired } from "./session-ids.ts"

/**
 * The dedupe table of one actor: for each session that has acted, the last applied call and the replies that its client has not
 * acknowledged. It is part of the actor's committed state: each change commits in the entry of the turn that caused it and moves with
 * the actor, so a call sent again anywhere is answered and never run.
 *
 * In memory a session may be ahead of what is stored: acknowledgements, and calls that changed nothing (their turn is no write). Both
 * ride in the session's next entry, or in the next snapshot. Losing them is harmless: a client that attaches says which replies it
 * has, and a call that changed nothing may run again as long as nobody saw its reply. So it is with a relaxed call whose write was lost.
 */
export interface Session {
  readonly id: string
  readonly principal: string
  readonly mintedAt: number
  /** `sessionHead` of its records, once one was written. */
  head?: string
  /** Last applied call. Advanced by `applied` alone, by one, or by an attach that acknowledges more. */
  last: number
  /** Highest call whose reply, with all before it, the client has. */
  acked: number
  /** Wall clock, ms. */
  seen: number
  /** Monotonic time of its latest call at this activation. */
  calledAt: number
  readonly replies: Map<number, StoredReply>
  /** Replies not yet in any entry. */
  unwritten: readonly number[]
  /** Whether any entry or snapshot may have this session: if none does, and it never applied a call, it goes with its client. */
  stored: boolean
}

export type CallVerdict = "next" | "repeat" | "acknowledged" | "hole" | "too-many"

export class SessionTable {
  readonly #sessions = new Map<string, Session>()
  readonly #limits: Limits
  readonly #attached: () => ReadonlySet<string>
  #dirty = false

  /** `attached`: ids of the sessions that are attached now; those never expire. */
  constructor(records: Iterable<SessionRecord>, limits: Limits, attached: () => ReadonlySet<string>) {
    this.#limits = limits
    this.#attached = attached
    for (const record of records)
      this.#sessions.set(record.id, {
        id: record.id,
        principal: record.w,
        mintedAt: record.m,
        last: record.l,
        acked: record.a,
        seen: record.n,
        calledAt: -Infinity,
        replies: new Map(record.y),
        unwritten: [],
        stored: true,
      })
  }

  get size(): number {
    return this.#sessions.size
  }

  /** Something here is newer than any entry: a deactivation must write a snapshot. */
  get dirty(): boolean {
    return this.#dirty
  }

  get(id: string): Session | undefined {
    return this.#sessions.get(id)
  }

  /**
   * The session of an attaching client, opened if it is new. Another principal's is SESSION_UNKNOWN; a full table SESSIONS_FULL. `attached`: it
   * was opened when its client attached, and has had no call while the actor slept: nothing of it can have been forgotten.
   */
  open(id: string, principal: string, mintedAt: number, now: number, attached = false): Session {
    const known = this.#sessions.get(id)
    if (known) {
      if (known.principal !== principal)
        throw new SojournError("SESSION_UNKNOWN", "the session belongs to another principal")
      known.seen = Math.max(known.seen, now)
      return known
    }
    if (!attached && expired(mintedAt, now, this.#limits.sessionTtlMs, this.#limits.clockSkewMsMax))
      throw new SojournError("SESSION_UNKNOWN", "the session's record has expired; start a new session")
    // A refusal stores nothing, so no snapshot would ever come of it: room is made here.
    if (this.#sessions.size >= this.#limits.sessionsPerActorMax) this.expire(now)
    if (this.#sessions.size >= this.#limits.sessionsPerActorMax)
      throw new SojournError(
        "SESSIONS_FULL",
        `the actor has ${this.#sessions.size} sessions (limits.sessionsPerActorMax)`,
      )
    const fresh: Session = {
      id,
      principal,
      mintedAt,
      last: 0,
      acked: 0,
      seen: now,
      calledAt: -Infinity,
      replies: new Map(),
      unwritten: [],
      stored: false,
    }
    this.#sessions.set(id, fresh)
    return fresh
  }

  /** Whether another session than `except` has called since then (monotonic). */
  calledSince(mono: number, except: string | undefined): boolean {
    for (const { id, calledAt } of this.#sessions.values()) if (id !== except && calledAt >= mono) return true
    return false
  }

  /** The client has every reply up to `acked`. Calls it has replies of were applied, also those whose turn was no write, or a relaxed one that was lost. */
  acknowledge(session: Session, acked: number): void {
    if (acked > session.last) {
      session.last = acked
      this.#dirty = true
    }
    if (acked <= session.acked) return
    session.acked = acked
    for (const c of session.replies.keys()) if (c <= acked) session.replies.delete(c)
    session.unwritten = session.unwritten.filter((c) => c > acked)
    this.#dirty = true
  }

  /** `queued`: the highest call of this session that waits in the mailbox. */
  judge(session: Session, c: number, queued: number): CallVerdict {
    if (c <= session.last) return session.replies.has(c) ? "repeat" : "acknowledged"
    if (c <= queued) return "repeat"
    if (c !== Math.max(session.last, queued) + 1) return "hole"
    return c > session.acked + this.#limits.repliesPerSessionMax ? "too-many" : "next"
  }

  applied(session: Session, c: number, reply: StoredReply, now: number): void {
    session.last = c
    session.seen = Math.max(session.seen, now)
    session.replies.set(c, reply)
    // Nearly always the only one; a list that grows has room for many.
    session.unwritten = session.unwritten.length === 0 ? [c] : [...session.unwritten, c]
    this.#dirty = true
  }

  /** What an entry must say of this session; takes its unwritten replies. */
  update(session: Session): SessionRecord {
    const y: [number, StoredReply][] = []
    for (const c of session.unwritten) {
      const reply = session.replies.get(c)
      if (reply) y.push([c, reply])
    }
    session.unwritten = []
    session.stored = true
    return this.#record(session, y)
  }

  /**
   * Removes the sessions that were minted, and last seen, longer ago than their life; attached ones never. Called when a snapshot is
   * about to be written, which is then without them, and where the table is full: expiry is no entry of its own, and a stored record may
   * outlive its session until the next snapshot.
   */
  expire(now: number): void {
    const { sessionTtlMs, clockSkewMsMax } = this.#limits
    const attached = this.#attached()
    for (const s of this.#sessions.values())
      if (attached.has(s.id)) s.seen = Math.max(s.seen, now)
      else if (Math.max(s.mintedAt, s.seen) + sessionTtlMs + 2 * clockSkewMsMax < now) this.#sessions.delete(s.id)
  }

  /** Its client is attached no more. `queued`: it has calls that wait or run. A session that never applied a call leaves no trace. */
  left(id: string, now: number, queued: boolean): void {
    const session = this.#sessions.get(id)
    if (!session) return
    session.seen = Math.max(session.seen, now)
    if (!queued && !session.stored && session.last === 0) this.#sessions.delete(id)
  }

  /**
   * Every session, for a snapshot, after which nothing is dirty. What is unwritten stays so: the next entry, which may hold where the snapshot's
   * own write fails, says it again.
   */
  *records(): Generator<SessionRecord> {
    for (const session of this.#sessions.values()) {
      if (session.last === 0) continue
      session.stored = true
      yield this.#record(session, [...session.replies])
    }
    this.#dirty = false
  }

  #record(s: Session, y: readonly (readonly [number, StoredReply])[]): SessionRecord {
    const { id, principal: w, mintedAt: m, seen: n, last: l, acked: a } = s
    s.head ??= sessionHead({ id, w, m })
    return { id, w, m, n, l, a, y, head: s.head }
  }
}
