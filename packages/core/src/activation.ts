import { SojournError, type AttachBody, type CallBody, type QueryBody } from "@sojourn/protocol"
import { ActorState } from "./actor-state.ts"
import type { DeactivateReason, ErasedDefinition } from "./actor.ts"
import { sessionIds, type Attached, type SessionFrame } from "./attach.ts"
import { Commits, couldNotGoOn, type CommitPorts, type CommitsOwner } from "./commits.ts"
import { AuthorErrors, type AuthorErrorPorts } from "./author-errors.ts"
import { OutputGate } from "./gate.ts"
import { JournalWriter, type JournalOwner, type JournalPorts, type Ownership } from "./journal-writer.ts"
import { encodeEntry, storedNeeds, type Loaded } from "./journal.ts"
import { Mailbox } from "./mailbox.ts"
import { versionOf } from "./migrate.ts"
import { Outputs, type OutputPorts } from "./outputs.ts"
import type { Undo } from "./ports.ts"
import { Queries, type QueriesOwner } from "./queries.ts"
import { Reader, type ReaderPorts } from "./reader.ts"
import type { Cut } from "./record.ts"
import type { Needs } from "./residency.ts"
import { Resumptions, type ResumptionPorts } from "./resumptions.ts"
import { SessionTable } from "./sessions.ts"
import { Snapshots, type Snapshot, type SnapshotPorts } from "./snapshots.ts"
import type { Compacted } from "./store.ts"
import { Tail } from "./tail.ts"
import { Turns, type TurnPorts, type TurnsOwner } from "./turns.ts"
import { Work } from "./work.ts"

/**
 * One in-memory incarnation of an actor: what comes in from its sessions and its host, and when it is over.
 *
 *   frame ─▶ mailbox ─▶ turn (draft) ─▶ entry ─▶ pending ─▶ one store write at a time ─▶ gate ─▶ frames
 *
 * The mailbox (`mailbox.ts`) runs one exclusive turn at a time (`turns.ts`); a turn ends with its entry pending (`commits.ts`), and the next may
 * run while the entry is being written: entries that gather meanwhile share the next write (`journal-writer.ts`). What a turn sends waits in the
 * output gate for its own revision (`outputs.ts`, `gate.ts`). The first write of an activation is its claim, or, where it came by a hand-off,
 * the install: it takes the first turns' entries along that have ended by then.
 *
 * When a write is fenced, or its outcome is unknown, the activation is dropped: what the gate holds is never sent, and the next
 * activation claims anew and starts from what is durable.
 */
export interface ActivationPorts
  extends
    JournalPorts,
    SnapshotPorts,
    TurnPorts,
    CommitPorts,
    OutputPorts,
    ReaderPorts,
    ResumptionPorts,
    AuthorErrorPorts {
  /** What its turns left to `waitUntil` is over. */
  workEnded(): void
  /** The activation is over because of `error`; memory may be dropped. `told`: what whoever is attached is to hear. Called at most once. */
  dropped(error: SojournError, told: SojournError): void
}

export class Activation {
  readonly #id: string
  readonly #ports: ActivationPorts
  readonly #mailbox = new Mailbox()
  readonly #gate: OutputGate
  readonly #sessions: SessionTable
  readonly #tail: Tail
  readonly #state: ActorState
  readonly #snapshots: Snapshots
  readonly #journal: JournalWriter
  readonly #outputs: Outputs
  readonly #resumptions: Resumptions
  readonly #queries: Queries
  readonly #turns: Turns
  readonly #work: Work
  /** The first write may begin: until then whoever waited for this activation is let in. */
  #begun = false
  #dropped = false
  #drained = false
  #drainWaiters: (() => void)[] = []
  #workWaiters: (() => void)[] = []
  /** What the stored state asks of whoever is to hold it. */
  readonly needs: Needs
  lastUsed: number

  /** Throws what the author's `state()` or a migration throws, and SNAPSHOT_TOO_LARGE for what they make: nothing was begun then. */
  constructor(
    id: string,
    def: ErasedDefinition,
    loaded: Loaded,
    owner: Ownership & { readonly cuts?: readonly Cut[] | undefined },
    ports: ActivationPorts,
  ) {
    const { clock, limits } = ports
    this.#id = id
    this.#ports = ports
    this.needs = { residency: loaded.residency, version: versionOf(def) }
    this.lastUsed = clock.mono()
    const asked = this.#asked()
    const authorErrors = new AuthorErrors(id, ports)
    this.#work = this.#newWork(authorErrors)
    const sessions = new SessionTable(loaded.sessions.values(), limits, () => sessionIds(ports.attached()))
    const tail = new Tail(loaded.tail, loaded.positions, limits)
    // What was loaded is durable, except in a grant: its first write makes it so, and the gate waits for that.
    const gate = new OutputGate(owner.grant ? loaded.revision - 1 : loaded.revision)
    const state = new ActorState(id, def, loaded)
    const snapshots = new Snapshots(loaded, this.needs, { state, sessions, tail }, ports)
    const journal = new JournalWriter(id, loaded.revision, owner, { gate, tail, state, snapshots }, ports, asked)
    const reader = new Reader(id, def, state, journal, authorErrors, ports)
    const outputs = new Outputs(def, gate, sessions, reader, ports)
    const commitParts = { state, sessions, journal, snapshots, gate, outputs, authorErrors }
    const commits = new Commits(id, def, commitParts, ports, asked)
    this.#turns = new Turns(id, def, { state, reader, commits, work: this.#work, authorErrors }, ports, asked)
    this.#queries = new Queries(def, { journal, reader, outputs, authorErrors }, asked)
    const sound = (): boolean => this.#sound()
    const resumptionParts = { gate, sessions, tail, state, journal, reader, outputs, sound }
    this.#resumptions = new Resumptions(id, owner.cuts, resumptionParts, ports)
    this.#sessions = sessions
    this.#tail = tail
    this.#gate = gate
    this.#state = state
    this.#snapshots = snapshots
    this.#journal = journal
    this.#outputs = outputs
    if (loaded.fresh) this.#appendWhole()
    else if (loaded.version !== this.needs.version) {
      this.#appendWhole()
      // Whoever comes back from before the migration needs the new state: no patch leads there.
      tail.clear()
    }
    tail.trim(clock.now())
  }

  /** What its parts may ask of it. */
  #asked(): JournalOwner & TurnsOwner & CommitsOwner & QueriesOwner {
    return {
      run: () => {
        this.#run()
      },
      pump: () => {
        this.#pump()
      },
      ring: () => {
        this.ring()
      },
      retire: (error: SojournError, told?: SojournError) => {
        this.#retire(error, told)
      },
      freeze: (error) => {
        this.#freeze(error)
      },
      drop: (error: SojournError, told?: SojournError) => {
        this.drop(error, told)
      },
    }
  }

  #newWork(authorErrors: AuthorErrors): Work {
    const ports = this.#ports
    const { clock, limits, chance } = ports
    return new Work({
      clock,
      limits,
      failed: (what, error) => {
        authorErrors.report("work.failed", error, { what, ref: chance.id() })
      },
      ended: () => {
        this.#workEnded()
        ports.workEnded()
      },
    })
  }

  #appendWhole(): void {
    const { clock, limits, primitives } = this.#ports
    const entry = {
      r: this.#journal.revision + 1,
      t: clock.now(),
      i: this.#state.encoded(),
      ...storedNeeds(this.needs),
    }
    const bytes = encodeEntry(entry, primitives)
    if (bytes.length > limits.snapshotBytesMax)
      throw new SojournError(
        "SNAPSHOT_TOO_LARGE",
        `the state of ${this.#id} would be ${bytes.length} bytes; limits.snapshotBytesMax is ${limits.snapshotBytesMax}`,
      )
    this.#journal.append(entry, bytes)
  }

  get epoch(): number {
    return this.#journal.epoch
  }

  /** Revision that is durable. */
  get revision(): number {
    return this.#gate.durable
  }

  /** Nothing runs, waits, is being written or waits to leave. */
  get quiet(): boolean {
    return this.#mailbox.size === 0 && !this.#turns.running && this.#journal.quiet && this.#gate.size === 0
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

  /** Whether another session than `session` has called within `ms`, for the owner's decision whether to let the actor go. */
  busyBesides(session: string | undefined, ms: number): boolean {
    return this.#sessions.calledSince(this.#ports.clock.mono() - ms, session)
  }

  /** Starts the first write: the claim or the install. What has run by then, and a new actor's initial state, goes along with it. */
  begin(): void {
    this.#begun = true
    this.ring()
    this.#pump()
  }

  /** Runs what is due of its alarms, each in a turn of its own. */
  ring(): void {
    const { clock } = this.#ports
    if (this.#mailbox.closed || this.#state.dueAlarm(clock.now()) === undefined) return
    this.lastUsed = clock.mono()
    this.#mailbox.addAlarm()
    this.#run()
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
    this.lastUsed = this.#ports.clock.mono()
    const queued = this.#queuedOf(att.sid)
    // Nobody has a reply to what still waits: such a word would put the session past its own calls.
    const acked = queued === 0 ? body.acked : Math.min(body.acked, this.#sessions.get(att.sid)?.last ?? 0)
    this.#resumptions.begin(att, { ...body, acked }, ticket, seen)
    att.queued = queued
    for (const call of body.calls ?? []) this.call(att, call)
    for (const query of body.queries ?? []) this.query(att, query)
    this.#pump()
  }

  /** What comes from a session that was attached before this activation began, or drained, follows what still waits of it. */
  goOn(att: Attached): void {
    att.queued = this.#queuedOf(att.sid)
  }

  /** A call of an attached session. Seen before: answered, not run. Out of order: the attach ends, the client resumes properly. */
  call(att: Attached, call: CallBody): void {
    if (!att.open || att.ending || this.#mailbox.closed) return
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, this.#ports.clock.now(), true)
    this.lastUsed = this.#ports.clock.mono()
    session.calledAt = this.lastUsed
    switch (this.#sessions.judge(session, call.c, att.queued)) {
      case "repeat": {
        const reply = session.replies.get(call.c)
        if (reply)
          this.#outputs.holdRead(att, reply.r, () => {
            this.#outputs.sendReply(att, call.c, reply)
          })
        this.#pump()
        return
      }
      case "acknowledged": {
        const { revision } = this.#journal
        this.#outputs.holdRead(att, revision, () => {
          this.#outputs.send(att, {
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
        // After the replies that there are: a client that never heard them would come back with the same calls for ever.
        att.ending = true
        this.#outputs.holdRead(att, this.#journal.revision, () => {
          att.end(
            new SojournError(
              "CALL_ORDER",
              `${this.#ports.limits.repliesPerSessionMax} replies are unacknowledged (limits.repliesPerSessionMax)`,
              { retry: "later" },
            ),
          )
        })
        this.#pump()
        return
      case "next":
        if (this.#full(att)) return
        att.queued = call.c
        this.#mailbox.add({ kind: "call", att, session, call })
        this.#run()
    }
  }

  query(att: Attached, query: QueryBody): void {
    if (!att.open || this.#mailbox.closed) return
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, this.#ports.clock.now(), true)
    this.lastUsed = this.#ports.clock.mono()
    if (this.#full(att)) return
    this.#mailbox.add({ kind: "query", att, session, query })
    this.#run()
  }

  /** Whether the mailbox has no room; the attach is then ended. */
  #full(att: Attached): boolean {
    const { size } = this.#mailbox
    if (size < this.#ports.limits.mailboxMax) return false
    att.end(
      new SojournError(
        "MAILBOX_FULL",
        `the calls that wait count for ${size} (limits.mailboxMax; one for each 16 KiB of a call)`,
        { retryAfterMs: 100 },
      ),
    )
    return true
  }

  /** The client has every reply up to call `c` and every output up to revision `r`. */
  acknowledge(att: Attached, c: number, r: number): void {
    this.#tail.seen(att.sid, Math.min(r, this.#journal.revision), this.#ports.clock.now())
    const session = this.#sessions.get(att.sid)
    if (session && c <= session.last) this.#sessions.acknowledge(session, c)
  }

  /** `send` refuses an attach that threw: it leaves when what it was judged by is proved to be the owner's, as any read does. */
  refuse(send: () => void): void {
    this.#gate.holdRead(this.#journal.revision, send)
    this.#pump()
  }

  detach(att: Attached): void {
    this.#sessions.left(att.sid, this.#ports.clock.now(), this.#queuedOf(att.sid) > 0)
  }

  /** Highest call of this session that waits or runs. */
  #queuedOf(sid: string): number {
    return Math.max(this.#turns.runningCall(sid), this.#mailbox.highestCall(sid))
  }

  /**
   * Closes the input and waits until the running turn has ended, its write is durable and all output has left; then `onDeactivate` runs, and
   * what it did is waited for as well. What waits in the mailbox is not run: `unrun` has it, for the next activation. Resolves also if the
   * activation is dropped meanwhile, and before `onDeactivate` where the running turn has left work: then it is not to be moved yet.
   */
  async drain(why: DeactivateReason): Promise<void> {
    this.#mailbox.close()
    this.#mailbox.setAside()
    await this.#allLeft()
    if (why === "stopping") this.#work.abandon()
    if (this.#dropped || this.working) return
    this.#turns.deactivate(why)
    await this.#allLeft()
    this.#drained = true
  }

  /** It has been drained to the end, `onDeactivate` included. */
  get drained(): boolean {
    return this.#drained
  }

  /** Resolves when it is quiet; if that takes longer than `drainMsMax`, the activation is dropped. */
  #allLeft(): Promise<void> {
    if (this.#dropped) return Promise.resolve()
    const { clock, limits } = this.#ports
    return new Promise((resolve) => {
      const undo: Undo = clock.after(limits.drainMsMax, () => {
        this.#turns.abort(
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
    return this.#mailbox.unrun(att)
  }

  /** Writes a snapshot if anything is newer than the last one. For a drained activation that goes to sleep. */
  compactForSleep(): Promise<void> {
    return this.#journal.compactForSleep()
  }

  /** Opens the input of a drained activation again: it was not sealed after all. */
  reopen(): void {
    if (this.#dropped) return
    if (this.#snapshots.frozen) {
      this.drop(new SojournError("SLEPT"))
      return
    }
    this.#drained = false
    this.#turns.reopened()
    this.#mailbox.reopen()
    this.ring()
    this.#run()
  }

  /** Bytes of the stored body, about. */
  get bodyBytes(): number {
    return this.#snapshots.bodyBytes
  }

  /** Revision of the stored snapshot. */
  get snapshotRevision(): number {
    return this.#snapshots.revision
  }

  /** Writes a snapshot of what is committed, while turns go on. Rejects with SLEPT where the activation ends before. */
  snapshot(): Promise<Snapshot> {
    const next = this.#snapshots.next()
    this.#pump()
    return next
  }

  /** The whole of a drained activation, to be sealed as it is: what then travels is the state and not its journal. Undefined: what is stored travels. */
  compacted(): Compacted | undefined {
    if (this.#dropped || !this.quiet || !this.#journal.certain || !this.#snapshots.sound) return undefined
    const { fence } = this.#journal
    return { fence, snapshot: this.#snapshots.encode(fence.v) }
  }

  /** `onDeactivate` still runs and holds what it was given: from now on only a copy of what is committed is used. */
  #freeze(error: SojournError): void {
    try {
      this.#state.assertLeavesUntouched()
      this.#snapshots.freeze(this.#journal.revision)
    } catch {
      this.drop(error)
    }
    this.#pump()
  }

  /** Nothing comes in any more; when what it appended is durable, and what waits for that has left, it ends. */
  #retire(error: SojournError, told = error): void {
    this.#mailbox.close()
    // Whatever still runs may be changing the state in place.
    this.#snapshots.stop()
    this.#gate.holdWrite(this.#journal.revision, () => {
      this.drop(error, told)
    })
    this.#pump()
  }

  /** Whether the state in memory is what was committed. If not, and nothing is under way that ends with it, the activation ends: another is to begin. */
  #sound(): boolean {
    if (this.#snapshots.sound) return true
    if (!this.#turns.running && !this.#mailbox.closed)
      this.drop(
        new SojournError("BAD_STATE", `a query of ${this.#id} changed the state in place`),
        couldNotGoOn(this.#id),
      )
    return false
  }

  /** Ends the activation at once: what it holds back is never sent. `told`: what its clients hear of it. */
  drop(error: SojournError, told = error): void {
    if (this.#dropped) return
    this.#dropped = true
    this.#mailbox.close()
    this.#turns.stop(error)
    this.#mailbox.clear()
    this.#journal.stop()
    this.#gate.discard()
    this.#snapshots.stop()
    for (const resolve of this.#drainWaiters.splice(0)) resolve()
    this.#work.stop()
    this.#workEnded()
    this.#ports.dropped(error, told)
  }

  /** Runs what waits, until a turn awaits or too many entries wait to be written: each is memory that a write has not yet justified. */
  #run(): void {
    const { pendingTurnsMax } = this.#ports.limits
    while (!this.#turns.running && !this.#mailbox.closed && this.#journal.pending < pendingTurnsMax) {
      const item = this.#mailbox.take()
      if (item === undefined) break
      if (item.kind === "alarm") this.#turns.alarm()
      else if (item.kind === "call") this.#turns.call(item.att, item.session, item.call)
      else this.#queries.answer(item.att, item.session, item.query)
    }
    this.#pump()
  }

  #pump(): void {
    if (this.#dropped || !this.#begun) return
    if (this.#snapshots.wanting && !this.#sound() && this.#dropped) return
    this.#journal.pump()
    if (this.#drainWaiters.length > 0 && this.quiet) for (const resolve of this.#drainWaiters.splice(0)) resolve()
  }
}
