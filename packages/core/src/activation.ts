import {
  ActorError,
  SojournError,
  applyPatches,
  capture,
  codec,
  type AttachBody,
  type CallBody,
  type Encoded,
  type MoveReport,
  type QueryBody,
  type Resumed,
  type ServerFrame,
  type WireError,
} from "@sojourn/protocol"
import type { DeactivateReason, ErasedDefinition } from "./actor.ts"
import { parseAddress } from "./address.ts"
import { sessionIds, type Attached, type SessionFrame } from "./attach.ts"
import {
  alarmChars,
  applyAlarmChanges,
  nextAlarm,
  postponed,
  type AlarmChange,
  type Alarms,
  type StoredAlarm,
} from "./alarms.ts"
import { OutputGate } from "./gate.ts"
import type { ActorPorts } from "./handles.ts"
import {
  encodeEntry,
  encodeSnapshot,
  outputOf,
  storedNeeds,
  type Entry,
  type Loaded,
  type Output,
  type StoredReply,
} from "./journal.ts"
import { decodeChecked } from "./checked-value.ts"
import type { Limits } from "./limits.ts"
import { climb, versionOf } from "./migrate.ts"
import { isServer, serverPrefix, type Principal } from "./mesh-messages.ts"
import type { Chance, Clock, EventSink, Primitives, Undo } from "./ports.ts"
import { isCutOff, type Cut, type HomeRole, type OwnershipRecord } from "./record.ts"
import type { Needs } from "./residency.ts"
import { SessionTable, type Session } from "./sessions.ts"
import type { Compacted, Grant, Store } from "./store.ts"
import { Tail } from "./tail.ts"
import {
  assertLeavesUntouched,
  checkPatches,
  pruneLeaves,
  rememberChanges,
  rememberTree,
  type TreeMemory,
} from "./tree.ts"
import { Turn, own, refusalOf } from "./turn.ts"
import { Work } from "./work.ts"

export type { Attached } from "./attach.ts"

/**
 * One in-memory incarnation of an actor.
 *
 *   frame ─▶ mailbox ─▶ turn (draft) ─▶ entry ─▶ pending ─▶ one store write at a time ─▶ gate ─▶ frames
 *
 * The mailbox runs one exclusive turn at a time; a turn ends with its entry pending, and the next may run while the entry is being
 * written: entries that gather meanwhile share the next write (group commit). What a turn sends waits in the output gate for its own
 * revision. The first write of an activation is its claim, or, where it came by a hand-off, the install: it takes the first turns' entries
 * along that have ended by then.
 *
 * One thing may leave before its write: the reply of an action that its class declares `relaxed`, marked as such. Nothing else of that turn does, and a
 * write that fails drops the activation like any other.
 *
 * When a write is fenced, or its outcome is unknown, the activation is dropped: what the gate holds is never sent, and the next
 * activation claims anew and starts from what is durable. Nothing here ever sends a write again.
 *
 * A file over 400 lines on purpose: mailbox, write and gate share one state, and their order is the guarantee. What stands alone is in
 * `turn.ts`, `gate.ts`, `sessions.ts` and `tail.ts`.
 */

export interface ActivationPorts {
  readonly store: Store
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  readonly events: EventSink
  readonly pop: string
  readonly pops: ReadonlySet<string>
  readonly actors: ActorPorts
  /** A turn that is durable asked for this. */
  moveTo(pop: string): void
  /** What its turns left to `waitUntil` is over. */
  workEnded(): void
  /** Every open attach of this actor at this node. */
  attached(): Iterable<Attached>
  ticket(attached: Attached, epoch: number, revision: number): string
  /** The move that brought the actor here, for the first client that attaches after it. */
  takeMoveReport(): MoveReport | undefined
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
  /** The activation is over because of `error`; memory may be dropped. Called at most once. */
  dropped(error: SojournError): void
}

type Item =
  | { readonly kind: "call"; readonly att: Attached; readonly session: Session; readonly call: CallBody }
  | { readonly kind: "query"; readonly att: Attached; readonly session: Session; readonly query: QueryBody }
  /** Whichever alarm is due when its turn comes; at most one waits, so that alarms and calls take turns. */
  | { readonly kind: "alarm" }

interface Snapshot {
  readonly bytes: Uint8Array
  readonly revision: number
}

interface Outcome {
  readonly value: unknown
  readonly error: unknown
  readonly failed: boolean
}

/** What a turn that held leaves. */
interface Held {
  readonly next: unknown
  readonly patches: Encoded | undefined
  readonly events: readonly (readonly [string, Encoded])[]
  readonly alarms: readonly AlarmChange[]
  readonly moveTo: string | undefined
}

/** Its part of the entry; empty: it changed nothing. */
function changesOf({ patches, events, alarms }: Held): Pick<Entry, "p" | "ev" | "al"> {
  return {
    ...(patches === undefined ? {} : { p: patches }),
    ...(events.length === 0 ? {} : { ev: events }),
    ...(alarms.length === 0 ? {} : { al: alarms }),
  }
}

export class Activation {
  readonly #id: string
  readonly #key: string
  readonly #def: ErasedDefinition
  readonly #ports: ActivationPorts
  readonly #gate: OutputGate
  readonly #sessions: SessionTable
  #tail: Tail
  #tree: TreeMemory
  #state: unknown
  #revision: number
  #hash: string
  #epoch: number
  #fence: number
  readonly #cuts: readonly Cut[] | undefined
  #grant: { readonly grant: Grant; readonly home: HomeRole } | undefined
  /** The claim is still to be made. */
  #claim: { readonly seen: OwnershipRecord | undefined; readonly home: HomeRole } | undefined
  /** The first write may begin: until then whoever waited for this activation is let in. */
  #begun = false
  /** Entries that no write has begun for. */
  #pending: Uint8Array[] = []
  /** When the first of these was added. */
  #pendingSince = 0
  #writing = false
  #mailbox: Item[] = []
  /** What waited in the mailbox when the input closed. */
  #unrun: Item[] = []
  #alarms: Alarms
  /** The alarms have changed since the last write began. */
  #alarmsChanged = false
  #running: Turn | undefined
  #runningCall: { readonly sid: string; readonly c: number } | undefined
  #dropped = false
  #closed = false
  #drainWaiters: (() => void)[] = []
  /** Of each session, the number of its last frame in the gate. Not of an attach: a reply goes to whichever holds the session by then. */
  readonly #waits = new WeakMap<Session, number>()
  readonly #work: Work
  #workWaiters: (() => void)[] = []
  /** `onDeactivate` has been entered since the input was last open. */
  #deactivated = false
  /** The snapshot of what is committed, if `onDeactivate` was given up: it may still reach into the state in memory, which is not used again. */
  #frozen: Uint8Array | undefined
  #snapshotBytes: number
  #journalBytes: number
  #journalEntries: number
  #compacting: Promise<void> | undefined
  /** Whoever waits for the next snapshot, whatever the journal's size. */
  #snapshotWaiters: PromiseWithResolvers<Snapshot>[] = []
  #snapshotRevision: number
  /** Monotonic time of each session's latest call, for the owner's decision whether to let the actor go. */
  readonly #calledAt = new Map<string, number>()
  /** What the stored state asks of whoever is to hold it. */
  readonly needs: Needs
  lastUsed: number

  constructor(
    id: string,
    def: ErasedDefinition,
    loaded: Loaded,
    owner: {
      epoch: number
      fence: number
      hash: string
      grant?: Grant
      home: HomeRole
      cuts?: readonly Cut[] | undefined
      /** Not claimed yet: the record that it was built from, undefined where there is none. */
      seen?: { readonly record: OwnershipRecord | undefined }
    },
    ports: ActivationPorts,
  ) {
    this.#id = id
    this.#key = parseAddress(id).key
    this.#def = def
    this.#ports = ports
    this.#revision = loaded.revision
    this.#hash = owner.hash
    this.#epoch = owner.epoch
    this.#fence = owner.fence
    this.needs = { residency: loaded.residency, version: versionOf(def) }
    this.#cuts = owner.cuts
    this.#grant = owner.grant ? { grant: owner.grant, home: owner.home } : undefined
    this.#claim = owner.seen ? { seen: owner.seen.record, home: owner.home } : undefined
    this.#sessions = new SessionTable(loaded.sessions.values(), ports.limits, () => sessionIds(this.#ports.attached()))
    this.#tail = new Tail(loaded.tail, loaded.positions, ports.limits)
    this.#alarms = loaded.alarms
    this.#snapshotBytes = loaded.snapshotBytes
    this.#snapshotRevision = loaded.revision - loaded.journalEntries
    this.#journalBytes = loaded.journalBytes
    this.#journalEntries = loaded.journalEntries
    this.lastUsed = ports.clock.mono()
    this.#work = new Work({
      clock: ports.clock,
      limits: ports.limits,
      failed: (what, error) => {
        this.#report("work.failed", error, { what, ref: ports.chance.id() })
      },
      ended: () => {
        this.#workEnded()
        ports.workEnded()
      },
    })
    // What was loaded is durable, except in a grant: its first write makes it so, and the gate waits for that.
    this.#gate = new OutputGate(owner.grant ? loaded.revision - 1 : loaded.revision)
    if (loaded.fresh) {
      this.#state = def.state()
      if (typeof this.#state !== "object" || this.#state === null)
        throw new SojournError("BAD_STATE", `state() of ${id} must return an object, got ${String(this.#state)}`)
      this.#tree = rememberTree(this.#state)
      this.#appendWhole()
    } else {
      this.#state = climb(id, def, loaded.version, loaded.state)
      this.#tree = loaded.tree && this.#state === loaded.state ? loaded.tree : rememberTree(this.#state)
      if (loaded.version !== this.needs.version) {
        this.#appendWhole()
        // Whoever comes back from before the migration needs the new state: no patch leads there.
        this.#tail = new Tail([], loaded.positions, ports.limits)
      }
    }
    this.#tail.trim(ports.clock.now())
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Revision that is durable. */
  get revision(): number {
    return this.#gate.durable
  }

  /** Nothing runs, waits, is being written or waits to leave. */
  get quiet(): boolean {
    return (
      this.#mailbox.length === 0 &&
      !this.#running &&
      !this.#writing &&
      this.#pending.length === 0 &&
      this.#gate.size === 0
    )
  }

  /** What its turns left to `waitUntil` is under way: it is neither put to sleep nor moved. */
  get working(): boolean {
    return this.#work.size > 0
  }

  /** It may be put to sleep. */
  get idle(): boolean {
    return this.quiet && !this.working
  }

  /** Resolves when it is not working, or is over. */
  async worked(): Promise<void> {
    if (!this.working || this.#dropped) return
    await new Promise<void>((resolve) => {
      this.#workWaiters.push(resolve)
    })
  }

  #workEnded(): void {
    for (const resolve of this.#workWaiters.splice(0)) resolve()
  }

  /** Whether another session than `session` has called within `ms`. */
  busyBesides(session: string | undefined, ms: number): boolean {
    const since = this.#ports.clock.mono() - ms
    for (const [sid, at] of this.#calledAt) if (sid !== session && at >= since) return true
    return false
  }

  /** Starts the first write: the claim or the install. What has run by then, and a new actor's initial state, goes along with it. */
  begin(): void {
    this.#begun = true
    this.ring()
    this.#pump()
  }

  /** Runs what is due of its alarms, each in a turn of its own. */
  ring(): void {
    if (this.#closed || this.#dueAlarm() === undefined) return
    this.lastUsed = this.#ports.clock.mono()
    if (!this.#mailbox.some(({ kind }) => kind === "alarm")) this.#mailbox.push({ kind: "alarm" })
    this.#run()
  }

  #dueAlarm(): StoredAlarm | undefined {
    const next = nextAlarm(this.#alarms)
    return next && next.at <= this.#ports.clock.now() ? next : undefined
  }

  /**
   * Attaches a session and continues it: `replay` from the tail where the client's position is within it, else a snapshot. `seen`: it has
   * missed nothing up to that revision, whatever its position. Throws
   * SESSION_UNKNOWN, SESSIONS_FULL or HISTORY_LOST and leaves nothing behind. The calls that it carries are queued in their order.
   */
  attach(
    att: Attached,
    body: AttachBody,
    ticket: { readonly epoch: number; readonly revision: number } | undefined,
    seen?: number,
  ): void {
    const { clock } = this.#ports
    this.lastUsed = clock.mono()
    if (ticket && (ticket.revision > this.#revision || isCutOff(this.#cuts, ticket.epoch, ticket.revision)))
      throw new SojournError(
        "HISTORY_LOST",
        `the client's ticket knows revision ${ticket.revision} of ${this.#id}, of epoch ${ticket.epoch}; this POP's copy, at ${this.#revision}, is without it. A store was lost with acknowledged writes`,
        { details: { actor: this.#id, ticket: ticket.revision, revision: this.#revision } },
      )
    if (body.live && !this.#allowedNow(att.who, "state"))
      throw new SojournError("FORBIDDEN", "this principal may not see the actor's state")
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, clock.now())
    this.#sessions.acknowledge(session, body.acked)
    att.queued = this.#queuedOf(att.sid)
    const revision = this.#revision
    const missed = body.pos === undefined ? undefined : this.#tail.since(Math.max(body.pos, seen ?? 0), revision)
    const resumed: Resumed = body.pos === undefined ? "new" : missed ? "replay" : "snapshot"
    const state = body.live && !missed ? codec.encode(this.#state) : undefined
    att.sent = missed ? (body.pos ?? 0) : revision
    // What it was sent elsewhere (`seen`) it need not have got: only what it said itself takes anything away.
    if (seen === undefined) this.#tail.seen(att.sid, att.sent, clock.now())
    else this.#tail.stays(att.sid, att.sent, clock.now())
    const last = session.last
    this.#gate.holdRead(revision, () => {
      if (!att.open) return
      att.ready = true
      const move = this.#ports.takeMoveReport()
      att.out({
        t: "attached",
        ch: att.ch,
        sid: att.sid,
        pop: this.#ports.pop,
        e: this.#epoch,
        r: revision,
        resumed,
        last,
        ...(state === undefined ? {} : { state }),
        ticket: this.#ports.ticket(att, this.#epoch, this.#gate.durable),
        ...(move === undefined ? {} : { move }),
      })
      for (const entry of missed ?? []) this.#sendEntry(att, entry)
    })
    for (const call of body.calls ?? []) this.call(att, call)
    for (const query of body.queries ?? []) this.query(att, query)
    this.#pump()
  }

  /** A call of an attached session. Seen before: answered, not run. Out of order: the attach ends, the client resumes properly. */
  call(att: Attached, call: CallBody): void {
    if (!att.open || this.#closed) return
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, this.#ports.clock.now())
    this.lastUsed = this.#ports.clock.mono()
    this.#calledAt.set(att.sid, this.lastUsed)
    switch (this.#sessions.judge(session, call.c, att.queued)) {
      case "repeat": {
        const reply = session.replies.get(call.c)
        if (reply)
          this.#holdRead(att, reply.r, () => {
            this.#sendReply(att, call.c, reply)
          })
        this.#pump()
        return
      }
      case "acknowledged": {
        const revision = this.#revision
        this.#holdRead(att, revision, () => {
          this.#out(att, {
            t: "reply",
            ch: att.ch,
            c: call.c,
            r: revision,
            err: new SojournError("REPLY_GONE").toWire(),
          })
        })
        this.#pump()
        return
      }
      case "hole":
        att.end(new SojournError("CALL_ORDER", `call ${call.c} came after call ${Math.max(session.last, att.queued)}`))
        return
      case "too-many":
        att.end(
          new SojournError(
            "CALL_ORDER",
            `${this.#ports.limits.repliesPerSessionMax} replies are unacknowledged (limits.repliesPerSessionMax)`,
            {
              retry: "later",
            },
          ),
        )
        return
      case "next":
        if (this.#mailbox.length >= this.#ports.limits.mailboxMax) {
          att.end(
            new SojournError("MAILBOX_FULL", `${this.#mailbox.length} calls wait (limits.mailboxMax)`, {
              retryAfterMs: 100,
            }),
          )
          return
        }
        att.queued = call.c
        this.#mailbox.push({ kind: "call", att, session, call })
        this.#run()
    }
  }

  query(att: Attached, query: QueryBody): void {
    if (!att.open || this.#closed) return
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, this.#ports.clock.now())
    this.lastUsed = this.#ports.clock.mono()
    if (this.#mailbox.length >= this.#ports.limits.mailboxMax) {
      att.end(
        new SojournError("MAILBOX_FULL", `${this.#mailbox.length} calls wait (limits.mailboxMax)`, {
          retryAfterMs: 100,
        }),
      )
      return
    }
    this.#mailbox.push({ kind: "query", att, session, query })
    this.#run()
  }

  /** The client has every reply up to call `c` and every output up to revision `r`. */
  acknowledge(att: Attached, c: number, r: number): void {
    this.#tail.seen(att.sid, Math.min(r, this.#revision), this.#ports.clock.now())
    const session = this.#sessions.get(att.sid)
    if (session && c <= session.last) this.#sessions.acknowledge(session, c)
  }

  /** `send` refuses an attach that threw: it leaves when what it was judged by is proved to be the owner's, as any read does. */
  refuse(send: () => void): void {
    this.#gate.holdRead(this.#revision, send)
    this.#pump()
  }

  detach(att: Attached): void {
    if (this.#queuedOf(att.sid) === 0) this.#sessions.forgetUnused(att.sid)
  }

  /**
   * Closes the input and waits until the running turn has ended, its write is durable and all output has left; then `onDeactivate` runs, and
   * what it did is waited for as well. What waits in the mailbox is not run: `unrun` has it, for the next activation. Resolves also if the
   * activation is dropped meanwhile, and before `onDeactivate` where the running turn has left work: then it is not to be moved yet.
   */
  async drain(why: DeactivateReason): Promise<void> {
    this.#closed = true
    this.#unrun.push(...this.#mailbox.splice(0))
    await this.#allLeft()
    if (why === "stopping") this.#work.abandon()
    if (this.#dropped || this.working) return
    this.#deactivate(why)
    await this.#allLeft()
  }

  /** Resolves when it is quiet; if that takes longer than `drainMsMax`, the activation is dropped. */
  #allLeft(): Promise<void> {
    if (this.#dropped) return Promise.resolve()
    const { clock, limits } = this.#ports
    return new Promise((resolve) => {
      const undo: Undo = clock.after(limits.drainMsMax, () => {
        this.#running?.abort(
          new SojournError("MOVED", `the turn did not end within limits.drainMsMax (${limits.drainMsMax} ms)`),
        )
        this.drop(
          new SojournError(
            "UNKNOWN_OUTCOME",
            `a turn of ${this.#id} did not end within limits.drainMsMax (${limits.drainMsMax} ms)`,
          ),
        )
      })
      this.#drainWaiters.push(() => {
        undo()
        resolve()
      })
      this.#pump()
    })
  }

  /** What this session had in the mailbox of a drained activation, in its order. */
  unrun(att: Attached): SessionFrame[] {
    return this.#unrun.flatMap((item): SessionFrame[] => {
      if (item.kind === "alarm" || item.att !== att) return []
      const { ch } = att
      return [item.kind === "call" ? { t: "call", ch, ...item.call } : { t: "query", ch, ...item.query }]
    })
  }

  /** Writes a snapshot if anything is newer than the last one. For a drained activation that goes to sleep. */
  async compactForSleep(): Promise<void> {
    await this.#compacting
    if (this.#dropped || (this.#journalEntries === 0 && !this.#sessions.dirty && !this.#frozen)) return
    const bytes = this.#encodeSnapshot()
    const fence = { e: this.#epoch, f: this.#fence }
    if (!(await this.#ports.store.compact(this.#id, fence, bytes, this.#gate.durable)))
      this.drop(new SojournError("FENCED", `another activation has taken ${this.#id}`))
  }

  /** Opens the input of a drained activation again: it was not sealed after all. */
  reopen(): void {
    if (this.#dropped) return
    if (this.#frozen) {
      this.drop(new SojournError("SLEPT"))
      return
    }
    this.#closed = false
    this.#deactivated = false
    this.#mailbox.unshift(...this.#unrun.splice(0))
    this.ring()
    this.#run()
  }

  /** Bytes of the stored body, about. */
  get bodyBytes(): number {
    return this.#snapshotBytes + this.#journalBytes
  }

  /** Revision of the stored snapshot. */
  get snapshotRevision(): number {
    return this.#snapshotRevision
  }

  /** Writes a snapshot of what is committed, while turns go on. Rejects with SLEPT where the activation ends before. */
  snapshot(): Promise<Snapshot> {
    const waiter = Promise.withResolvers<Snapshot>()
    if (this.#dropped) waiter.reject(new SojournError("SLEPT"))
    else {
      this.#snapshotWaiters.push(waiter)
      this.#pump()
    }
    return waiter.promise
  }

  /** The whole of a drained activation, to be sealed as it is: what then travels is the state and not its journal. */
  compacted(): Compacted | undefined {
    if (this.#dropped || !this.quiet || this.#grant || this.#claim) return undefined
    return { fence: { e: this.#epoch, f: this.#fence, v: this.#revision }, snapshot: this.#encodeSnapshot() }
  }

  /** Ends the activation at once: what it holds back is never sent. */
  drop(error: SojournError): void {
    if (this.#dropped) return
    this.#dropped = true
    this.#closed = true
    this.#running?.abort(error)
    this.#mailbox = []
    this.#pending = []
    this.#gate.discard()
    for (const { reject } of this.#snapshotWaiters.splice(0)) reject(new SojournError("SLEPT"))
    for (const resolve of this.#drainWaiters.splice(0)) resolve()
    this.#work.stop()
    this.#workEnded()
    this.#ports.dropped(error)
  }

  // ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #run(): void {
    while (!this.#running && !this.#closed && this.#pending.length < this.#ports.limits.pendingTurnsMax) {
      const item = this.#mailbox.shift()
      if (item === undefined) break
      if (item.kind === "alarm") this.#alarmTurn()
      else if (item.kind === "call") this.#turn(item.att, item.session, item.call)
      else this.#answer(item.att, item.session, item.query)
    }
    this.#pump()
  }

  #readContext(who: Principal): object {
    const { clock, chance, pop } = this.#ports
    const now = clock.now()
    return {
      state: this.#state,
      key: this.#key,
      pop,
      epoch: this.#epoch,
      who,
      now: () => now,
      random: () => chance.random(),
    }
  }

  #allowedNow(who: Principal, what: string): boolean {
    if (!this.#def.authorize || isServer(who)) return true
    try {
      return this.#def.authorize(this.#readContext(who), who, what) === true
    } catch (cause) {
      this.#report("authorize.failed", cause)
      return false
    }
  }

  #turn(att: Attached, session: Session, call: CallBody): void {
    if (call.c !== session.last + 1) {
      this.drop(new SojournError("INVARIANT", `call ${call.c} of ${session.id} would run after call ${session.last}`))
      return
    }
    const turn = this.#newTurn(call.a)
    this.#runningCall = { sid: session.id, c: call.c }
    this.#runTurn(
      turn,
      call.a,
      () => turn.run(call, att.who, this.#readContext(att.who)),
      (outcome) => {
        this.#runningCall = undefined
        this.#endTurn(att, session, call, turn, outcome)
      },
    )
  }

  /** The alarm that is due, if it still is: an action may have taken it away or set it to another time meanwhile. */
  #alarmTurn(): void {
    const alarm = this.#dueAlarm()
    if (!alarm) return
    const turn = this.#newTurn(alarm.n, alarm)
    this.#runTurn(
      turn,
      alarm.n,
      () => turn.ring(alarm, this.#readContext({ id: `${serverPrefix}${this.#ports.pop}` })),
      (outcome) => {
        this.#endAlarmTurn(alarm, turn, outcome)
        this.ring()
      },
      (error) => {
        this.#alarmGivenUp(alarm, error)
      },
    )
  }

  /** The last turn of an activation that is given back in an orderly way. Nothing else can run: its input is closed, all it wrote is durable. */
  #deactivate(why: DeactivateReason): void {
    const { onDeactivate } = this.#def
    if (!onDeactivate || this.#deactivated) return
    this.#deactivated = true
    const { limits } = this.#ports
    const turn = this.#newTurn("onDeactivate")
    const failed = (error: unknown): void => {
      this.#report("deactivate.failed", error, { reason: why, ref: this.#ports.chance.id() })
    }
    this.#runTurn(
      turn,
      "onDeactivate",
      () => turn.deactivate(onDeactivate, why, this.#readContext({ id: `${serverPrefix}${this.#ports.pop}` })),
      (outcome) => {
        this.#endDeactivateTurn(turn, outcome, failed)
      },
      (error) => {
        failed(error)
        turn.abort(error)
        this.#running = undefined
        this.#freeze(error)
        this.#pump()
      },
      limits.deactivateMsMax <= limits.drainMsMax ? "deactivateMsMax" : "drainMsMax",
    )
  }

  /** `onDeactivate` still runs and holds what it was given: from now on only a copy of what is committed is used. */
  #freeze(error: SojournError): void {
    try {
      assertLeavesUntouched(this.#tree)
      this.#frozen = this.#encodeSnapshot()
    } catch {
      this.drop(error)
    }
  }

  #endDeactivateTurn(turn: Turn, outcome: Outcome, failed: (error: unknown) => void): void {
    try {
      if (outcome.failed) throw outcome.error
      const held = this.#take(turn)
      const made = changesOf(held)
      if (Object.keys(made).length === 0) return
      const entry: Entry = { r: this.#revision + 1, t: this.#ports.clock.now(), ...made }
      const bytes = encodeEntry(entry, this.#ports.primitives)
      const alarms = applyAlarmChanges(this.#alarms, held.alarms)
      const refused = this.#refusal(bytes.length, held.next, alarms)
      if (refused) throw refused
      this.#commit(entry, bytes, held, alarms)
    } catch (error) {
      failed(error)
      if (!this.#leavesIntact())
        this.drop(error instanceof SojournError ? error : new SojournError("BAD_STATE", undefined, { cause: error }))
    }
  }

  /** `what` runs in it: the name under which its work is reported. */
  #newTurn(what: string, fired?: StoredAlarm): Turn {
    const { pops, clock, limits, actors } = this.#ports
    return new Turn(
      this.#id,
      this.#def,
      this.#state,
      pops,
      actors,
      { set: this.#alarms, now: clock.now(), limits, ...(fired && { fired }) },
      (promise) => {
        this.#work.add(promise, what)
      },
    )
  }

  /** `ended` is told how the turn came out, `late` instead that it did not end in its time; the activation is to be dropped then. */
  #runTurn(
    turn: Turn,
    what: string,
    run: () => unknown,
    ended: (outcome: Outcome) => void,
    late: (error: SojournError) => void = (error) => {
      this.drop(error)
    },
    bound: "turnMsMax" | "deactivateMsMax" | "drainMsMax" = "turnMsMax",
  ): void {
    this.#running = turn
    const finish = (outcome: Outcome): void => {
      if (this.#dropped || this.#running !== turn) return
      this.#running = undefined
      ended(outcome)
    }
    let result: unknown
    try {
      result = run()
    } catch (error) {
      finish({ failed: true, error, value: undefined })
      return
    }
    if (!(result instanceof Promise)) {
      finish({ failed: false, value: result, error: undefined })
      return
    }
    const { clock, limits } = this.#ports
    const undo = clock.after(limits[bound], () => {
      late(
        new SojournError(
          "UNKNOWN_OUTCOME",
          `the turn ${what} of ${this.#id} did not end within limits.${bound} (${limits[bound]} ms)`,
        ),
      )
    })
    const settled = (outcome: Outcome): void => {
      undo()
      finish(outcome)
      this.#run()
    }
    result.then(
      (value: unknown) => {
        settled({ failed: false, value, error: undefined })
      },
      (error: unknown) => {
        settled({ failed: true, value: undefined, error })
      },
    )
  }

  /** Commits the turn, or its refusal: either way the call's number is used up in the same write as its effect. */
  #endTurn(att: Attached, session: Session, call: CallBody, turn: Turn, outcome: Outcome): void {
    const { clock } = this.#ports
    const r = this.#revision + 1
    const now = clock.now()
    let reply: StoredReply
    let held: Held = { next: this.#state, events: [], alarms: [], patches: undefined, moveTo: undefined }
    try {
      if (outcome.failed) throw outcome.error
      const ok = capture(outcome.value)
      held = this.#take(turn)
      reply = { r, ok }
    } catch (error) {
      // A leaf changed in place cannot be rolled back in memory: the activation goes, and with it the change.
      if (!this.#leavesIntact()) {
        this.drop(error instanceof SojournError ? error : new SojournError("BAD_STATE", undefined, { cause: error }))
        return
      }
      reply = { r, err: this.#wireError(error, call.a) }
    }
    const { moveTo } = held
    const made = changesOf(held)
    if (reply.err === undefined && Object.keys(made).length === 0) {
      // Nothing changed: no write. The reply is a read; its number rides in the session's next entry.
      const read: StoredReply = { ...reply, r: this.#revision }
      this.#sessions.applied(session, call.c, read, now)
      this.#holdRead(att, this.#revision, () => {
        this.#sendReply(att, call.c, read)
        if (moveTo !== undefined) this.#ports.moveTo(moveTo)
      })
      return
    }
    this.#sessions.applied(session, call.c, reply, now)
    const entry: Entry = {
      r,
      t: now,
      ...made,
      s: [this.#sessions.update(session)],
    }
    const bytes = encodeEntry(entry, this.#ports.primitives)
    const alarms = applyAlarmChanges(this.#alarms, held.alarms)
    const refused = this.#refusal(bytes.length, held.next, alarms)
    if (refused) {
      const replaced: StoredReply = { r, err: refused.toWire() }
      session.replies.set(call.c, replaced)
      const { p: _p, ev: _ev, al: _al, ...rest } = entry
      this.#append({ ...rest, s: [{ ...(entry.s?.[0] ?? this.#sessions.update(session)), y: [[call.c, replaced]] }] })
      this.#holdReply(att, call.c, replaced)
      return
    }
    const early = reply.err === undefined && own(this.#def.durability, call.a) === "relaxed" && this.#nothingWaits(att)
    this.#commit(entry, bytes, held, alarms)
    if (early) this.#sendReply(att, call.c, reply, true)
    else this.#holdReply(att, call.c, reply)
    this.#holdMove(r, moveTo)
  }

  /** Commits what the handler did together with the alarm's removal, or, where it failed, the alarm's next time. */
  #endAlarmTurn(alarm: StoredAlarm, turn: Turn, outcome: Outcome): void {
    const head = { r: this.#revision + 1, t: this.#ports.clock.now() }
    try {
      if (outcome.failed) throw outcome.error
      const held = this.#take(turn)
      const entry: Entry = { ...head, ...changesOf(held) }
      const bytes = encodeEntry(entry, this.#ports.primitives)
      const alarms = applyAlarmChanges(this.#alarms, held.alarms)
      const refused = this.#refusal(bytes.length, held.next, alarms)
      if (refused) throw refused
      this.#commit(entry, bytes, held, alarms)
      this.#holdMove(head.r, held.moveTo)
    } catch (error) {
      this.#alarmFailed(alarm, error)
      if (!this.#leavesIntact()) {
        this.drop(error instanceof SojournError ? error : new SojournError("BAD_STATE", undefined, { cause: error }))
        return
      }
      this.#putOff(alarm)
    }
  }

  /**
   * A handler that does not end is put off like one that fails: run again at once, it would keep every call from its turn for ever. Then the
   * activation goes, for it does not know what the handler still does.
   */
  #alarmGivenUp(alarm: StoredAlarm, error: SojournError): void {
    this.#alarmFailed(alarm, error)
    this.#running?.abort(error)
    this.#running = undefined
    this.#closed = true
    this.#putOff(alarm)
    this.#gate.holdWrite(this.#revision, () => {
      this.drop(error)
    })
    this.#pump()
  }

  #putOff(alarm: StoredAlarm): void {
    const { clock, chance, limits } = this.#ports
    const now = clock.now()
    const al = [postponed(alarm, now, limits, chance.random())]
    this.#setAlarms(applyAlarmChanges(this.#alarms, al))
    this.#append({ r: this.#revision + 1, t: now, al })
  }

  #alarmFailed(alarm: StoredAlarm, error: unknown): void {
    this.#report("alarm.failed", error, { alarm: alarm.n, id: alarm.i ?? "", attempt: (alarm.k ?? 0) + 1 })
  }

  /** What a turn that held leaves. Throws where it may not commit; memory is then as before, but for the leaves (`#leavesIntact`). */
  #take(turn: Turn): Held {
    const taken = turn.take()
    assertLeavesUntouched(this.#tree)
    let next = this.#state
    let patches: Encoded | undefined
    if (taken.patches.length > 0) {
      checkPatches(taken.next, taken.patches, this.#tree)
      patches = codec.encode(taken.patches)
      // Not the draft's own result: what is in memory is what the journal and every client make of these patches, to the order of keys.
      const made = new Set<object>()
      next = applyPatches(this.#state, taken.patches, made)
      rememberChanges(made, [taken.patches], this.#tree)
    }
    return { next, patches, events: taken.emitted, alarms: taken.alarms, moveTo: taken.moveTo }
  }

  #commit(entry: Entry, bytes: Uint8Array, { next }: Held, alarms: Alarms): void {
    this.#state = next
    this.#setAlarms(alarms)
    const output = this.#append(entry, bytes)
    if (!entry.ev && !entry.p) return
    const number = this.#gate.holdWrite(entry.r, () => {
      for (const one of this.#ports.attached()) this.#sendEntry(one, output)
    })
    if (this.#def.durability)
      for (const one of this.#ports.attached()) if (entry.ev || one.live) this.#waitsFor(one, number)
  }

  #setAlarms(alarms: Alarms): void {
    if (alarms === this.#alarms) return
    this.#alarms = alarms
    this.#alarmsChanged = true
  }

  #holdMove(r: number, to: string | undefined): void {
    if (to !== undefined)
      this.#gate.holdWrite(r, () => {
        this.#ports.moveTo(to)
      })
  }

  #leavesIntact(): boolean {
    try {
      assertLeavesUntouched(this.#tree)
      return true
    } catch {
      return false
    }
  }

  /** Why a turn whose entry is this large cannot commit. Cheap until the journal could matter; then the next state is measured. */
  #refusal(bytes: number, next: unknown, alarms: Alarms): SojournError | undefined {
    const { snapshotBytesMax, outputCharsMax } = this.#ports.limits
    if (bytes > outputCharsMax)
      return new SojournError(
        "REPLY_TOO_LARGE",
        `the turn wrote ${bytes} bytes of patches, events and reply; limits.outputCharsMax is ${outputCharsMax}`,
      )
    if (this.#snapshotBytes + this.#journalBytes + bytes <= snapshotBytesMax) return undefined
    const measured = JSON.stringify(codec.encode(next)).length + alarmChars(alarms)
    if (measured <= snapshotBytesMax) return undefined
    return new SojournError(
      "SNAPSHOT_TOO_LARGE",
      `the state of ${this.#id} would be ${measured} bytes; limits.snapshotBytesMax is ${snapshotBytesMax}`,
    )
  }

  #answer(att: Attached, session: Session, query: QueryBody): void {
    if (query.after > session.last) {
      att.end(
        new SojournError("CALL_ORDER", `a query that follows call ${query.after} came after call ${session.last}`),
      )
      return
    }
    const revision = this.#revision
    const give = (part: { ok: Encoded } | { err: WireError }): void => {
      this.#holdRead(att, revision, () => {
        this.#out(att, { t: "answer", ch: att.ch, q: query.q, r: revision, ...part })
      })
    }
    const fail = (error: unknown): void => {
      give({ err: this.#wireError(error, query.n) })
    }
    const done = (value: unknown): void => {
      try {
        give({ ok: capture(value) })
      } catch (error) {
        fail(error)
      }
    }
    try {
      const run = own(this.#def.queries, query.n)
      if (!run) throw new SojournError("UNKNOWN_ACTION", `there is no query ${JSON.stringify(query.n)}`)
      const context = this.#readContext(att.who)
      const ask = (allowed: boolean): unknown => {
        if (!allowed) throw new SojournError("FORBIDDEN", `${att.who.id} may not ask ${query.n}`)
        const args = decodeChecked(query.p)
        if (!Array.isArray(args)) throw new SojournError("BAD_INPUT", "a query's arguments must be an array")
        return run(context, ...(args as unknown[]))
      }
      const allowed = this.#def.authorize && !isServer(att.who) ? this.#def.authorize(context, att.who, query.n) : true
      const result = allowed instanceof Promise ? allowed.then(ask) : ask(allowed)
      if (result instanceof Promise)
        result.then(done, fail).finally(() => {
          this.#pump()
        })
      else done(result)
    } catch (error) {
      fail(error)
    }
  }

  /** The author's own refusals cross as they are; the framework's too; anything else is masked, with an id that finds it in the log. */
  #wireError(error: unknown, what: string): WireError {
    let cause = error
    if (error instanceof ActorError)
      try {
        return refusalOf(error)
      } catch (unsaid) {
        cause = unsaid
      }
    if (cause instanceof SojournError) return cause.toWire()
    const ref = this.#ports.chance.id()
    this.#report("turn.threw", cause, { what, ref })
    return new SojournError("INTERNAL", `${what} failed; the server's log has it under ${ref}`, { ref }).toWire()
  }

  #report(type: string, cause: unknown, more: Record<string, unknown> = {}): void {
    this.#ports.events({ type, actor: this.#id, error: cause, ...more })
  }

  // ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #out(att: Attached, frame: ServerFrame): void {
    if (att.open) att.out(frame)
  }

  #holdReply(att: Attached, c: number, reply: StoredReply): void {
    const number = this.#gate.holdWrite(reply.r, () => {
      this.#sendReply(att, c, reply)
    })
    this.#waitsFor(att, number)
  }

  #holdRead(att: Attached, revision: number, send: () => void): void {
    this.#waitsFor(att, this.#gate.holdRead(revision, send))
  }

  /** The actor is here for certain, and this session has all that was meant for it: a relaxed reply may leave without passing a frame of its own. */
  #nothingWaits(att: Attached): boolean {
    const session = this.#sessions.get(att.sid)
    return (
      !this.#grant &&
      !this.#claim &&
      att.open &&
      att.ready &&
      session !== undefined &&
      (this.#waits.get(session) ?? 0) <= this.#gate.left
    )
  }

  #waitsFor({ sid }: Attached, number: number): void {
    const session = this.#sessions.get(sid)
    if (session) this.#waits.set(session, number)
  }

  /** To whoever holds the session now: the attach that made the call may have been replaced by a newer one. */
  #sendReply(att: Attached, c: number, reply: StoredReply, relaxed = false): void {
    let to: Attached | undefined = att.open ? att : undefined
    if (!to) for (const one of this.#ports.attached()) if (one.sid === att.sid && one.open) to = one
    // Not ready: this reply was computed before that attach, which asks for it again itself.
    if (!to?.ready) return
    const { r, ok, err } = reply
    to.out({
      t: "reply",
      ch: to.ch,
      c,
      r,
      ...(ok === undefined ? {} : { ok }),
      ...(err === undefined ? {} : { err }),
      ...(relaxed ? { relaxed } : {}),
    })
  }

  #sendEntry(att: Attached, entry: Output): void {
    if (!att.open || !att.ready || att.sent >= entry.r) return
    const ev = this.#def.authorize ? entry.ev?.filter(([name]) => this.#allowedNow(att.who, name)) : entry.ev
    const pt = att.live ? entry.p : undefined
    if ((ev === undefined || ev.length === 0) && pt === undefined) return
    att.out({
      t: "out",
      ch: att.ch,
      r: entry.r,
      prev: att.sent,
      ...(ev === undefined || ev.length === 0 ? {} : { ev }),
      ...(pt === undefined ? {} : { pt }),
    })
    att.sent = entry.r
  }

  /** Highest call of this session that waits or runs. */
  #queuedOf(sid: string): number {
    let highest = this.#runningCall?.sid === sid ? this.#runningCall.c : 0
    for (const item of this.#mailbox)
      if (item.kind === "call" && item.session.id === sid) highest = Math.max(highest, item.call.c)
    return highest
  }

  // ── writes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #appendWhole(): void {
    const i = codec.encode(this.#state)
    this.#append({ r: this.#revision + 1, t: this.#ports.clock.now(), i, ...storedNeeds(this.needs) })
  }

  #append(entry: Entry, bytes = encodeEntry(entry, this.#ports.primitives)): Output {
    this.#revision = entry.r
    if (this.#pending.length === 0) this.#pendingSince = this.#ports.clock.mono()
    this.#pending.push(bytes)
    const output = outputOf(entry)
    this.#tail.push(output, bytes.length, this.#ports.clock.now())
    this.#journalBytes += bytes.length
    this.#journalEntries += 1
    return output
  }

  #pump(): void {
    if (this.#dropped || !this.#begun) return
    if (!this.#writing) {
      if (this.#grant || this.#claim || this.#pending.length > 0) this.#startWrite()
      else {
        // Everything is durable: a snapshot that somebody waits for needs no write before it.
        if (this.#snapshotWaiters.length > 0) this.#compact(this.#encodeSnapshot(), this.#revision)
        if (this.#gate.needsProof) this.#startCheck()
      }
    }
    if (this.#drainWaiters.length > 0 && this.quiet) for (const resolve of this.#drainWaiters.splice(0)) resolve()
  }

  #startCheck(): void {
    this.#writing = true
    const proof = this.#gate.begin()
    this.#ports.store.check(this.#id, { e: this.#epoch, f: this.#fence }).then(
      (ours) => {
        this.#writing = false
        if (this.#dropped) return
        if (!ours) {
          this.drop(new SojournError("FENCED", `another activation has taken ${this.#id}`))
          return
        }
        this.#gate.proved(proof, this.#gate.durable)
        this.#run()
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
    const { primitives, store, limits, clock } = this.#ports
    const h =
      entries.length === 0
        ? this.#hash
        : primitives.digest(
            `${this.#hash} ${revision} ${entries.map((bytes) => `${bytes.length}:${primitives.checksum(bytes)}`).join(" ")}`,
          )
    this.#hash = h
    // Told with every install as well: a grant from a peer that keeps no such time has none.
    const due = this.#alarmsChanged || this.#grant ? (nextAlarm(this.#alarms)?.at ?? null) : undefined
    this.#alarmsChanged = false
    const write = { entries, h, ...(due === undefined ? {} : { due }) }
    const proof = this.#gate.begin()
    const compactTo =
      this.#journalEntries >= limits.journalEntriesMax ||
      this.#journalBytes >= limits.journalBytesMax ||
      this.#snapshotWaiters.length > 0
        ? this.#encodeSnapshot()
        : undefined
    const done = (): void => {
      this.#writing = false
      if (this.#dropped) return
      if (entries.length > 0) this.#ports.wrote(clock.mono() - since)
      if (compactTo) this.#compact(compactTo, revision)
      this.#gate.proved(proof, revision)
      if (due !== undefined) this.#ports.alarmsChanged(due ?? undefined)
      this.#run()
    }
    const failed = (cause: unknown): void => {
      this.#writeFailed(cause)
    }
    if (this.#grant) {
      const { grant, home } = this.#grant
      const from = clock.mono()
      store.install(this.#id, home, grant, write).then((answer) => {
        if (this.#dropped) return
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
    if (this.#claim) {
      const { seen, home } = this.#claim
      store.claim(this.#id, home, { seen, ...write }).then((answer) => {
        if (this.#dropped) return
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

  #fenced(record: OwnershipRecord | undefined): void {
    this.drop(
      new SojournError("FENCED", `${this.#id} is owned by another activation: ${JSON.stringify(record ?? null)}`),
    )
  }

  #writeFailed(cause: unknown): void {
    this.#writing = false
    // What the engine said goes to the log, as the cause: the message goes to clients.
    this.drop(
      cause instanceof SojournError && cause.outcome === "not-executed"
        ? cause
        : new SojournError("UNKNOWN_OUTCOME", `a write of ${this.#id} has an unknown outcome`, { cause }),
    )
  }

  #encodeSnapshot(): Uint8Array {
    if (this.#frozen) return this.#frozen
    pruneLeaves(this.#state, this.#tree)
    this.#sessions.expire(this.#ports.clock.now())
    return encodeSnapshot(
      {
        revision: this.#revision,
        needs: this.needs,
        state: this.#state,
        sessions: this.#sessions.records(),
        alarms: this.#alarms,
        ...this.#tail.unacknowledged(sessionIds(this.#ports.attached()), this.#ports.clock.now()),
      },
      this.#ports.primitives,
    )
  }

  #compact(bytes: Uint8Array, revision: number): void {
    this.#snapshotBytes = bytes.length
    this.#snapshotRevision = revision
    this.#journalBytes = 0
    this.#journalEntries = 0
    const waiters = this.#snapshotWaiters.splice(0)
    this.#compacting = this.#ports.store.compact(this.#id, { e: this.#epoch, f: this.#fence }, bytes, revision).then(
      (done) => {
        if (!done) this.drop(new SojournError("FENCED", `another activation has taken ${this.#id}`))
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
}
