import { SojournError, type CallBody } from "@sojourn/protocol"
import type { ErasedDefinition } from "./actor.ts"
import { changesOf, heldNothing, isRead, type ActorState, type Held } from "./actor-state.ts"
import { alarmBytes, applyAlarmChanges, postponed, type Alarms, type StoredAlarm } from "./alarms.ts"
import type { Attached } from "./attach.ts"
import type { AuthorErrors } from "./author-errors.ts"
import { encodeText, utf8Bytes } from "./encoded-text.ts"
import type { OutputGate } from "./gate.ts"
import type { JournalWriter } from "./journal-writer.ts"
import { encodeEntry, type Entry, type StoredReply } from "./journal.ts"
import type { Limits } from "./limits.ts"
import type { Outputs } from "./outputs.ts"
import type { Chance, Clock, Primitives } from "./ports.ts"
import type { Session, SessionTable } from "./sessions.ts"
import type { Snapshots } from "./snapshots.ts"
import { own, type Turn } from "./turn.ts"

/** How the author's code came out. */
export interface Outcome {
  readonly value: unknown
  readonly error: unknown
  readonly failed: boolean
}

export interface CommitPorts {
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  /** A turn that is durable asked for this. */
  moveTo(pop: string): void
}

/** What is asked of the activation. `told`: what its clients hear. */
export interface CommitsOwner {
  drop(error: SojournError, told: SojournError): void
  /** It ends when what is appended is durable. */
  retire(error: SojournError, told: SojournError): void
}

/** What a turn's end takes in, and where it puts what it makes of it. */
export interface CommitParts {
  readonly state: ActorState
  readonly sessions: SessionTable
  readonly journal: JournalWriter
  readonly snapshots: Snapshots
  readonly gate: OutputGate
  readonly outputs: Outputs
  readonly authorErrors: AuthorErrors
}

/**
 * The end of a turn: all of what it did becomes one entry of the journal, or none of it does.
 *
 * An entry has a call's effect together with its number and its reply, also where that is a refusal, and an alarm's effect together with its
 * removal. It is measured before anything in memory is changed, and what may leave for it is held only after it was appended.
 */
export class Commits {
  readonly #id: string
  readonly #def: ErasedDefinition
  readonly #state: ActorState
  readonly #sessions: SessionTable
  readonly #journal: JournalWriter
  readonly #snapshots: Snapshots
  readonly #gate: OutputGate
  readonly #outputs: Outputs
  readonly #authorErrors: AuthorErrors
  readonly #ports: CommitPorts
  readonly #owner: CommitsOwner

  constructor(id: string, def: ErasedDefinition, parts: CommitParts, ports: CommitPorts, owner: CommitsOwner) {
    this.#id = id
    this.#def = def
    this.#state = parts.state
    this.#sessions = parts.sessions
    this.#journal = parts.journal
    this.#snapshots = parts.snapshots
    this.#gate = parts.gate
    this.#outputs = parts.outputs
    this.#authorErrors = parts.authorErrors
    this.#ports = ports
    this.#owner = owner
  }

  /** Commits a call's turn, or its refusal: either way the call's number is used up in the same write as its effect. */
  endCall(att: Attached, session: Session, call: CallBody, turn: Turn, outcome: Outcome): void {
    const r = this.#journal.revision + 1
    const now = this.#ports.clock.now()
    let reply: StoredReply
    let held = heldNothing(this.#state.value)
    let spoiled: SojournError | undefined
    try {
      if (outcome.failed) throw outcome.error
      const ok = encodeText(outcome.value)
      this.#outputs.assertFits("the action's reply", ok)
      held = this.#state.take(turn)
      reply = { r, ok }
    } catch (error) {
      spoiled = this.#spoiled(error)
      reply = { r, err: this.#authorErrors.wireError(error, call.a) }
    }
    if (reply.err === undefined && isRead(held)) {
      this.#endRead(att, session, call.c, { ...reply, r: this.#journal.revision }, now, held.moveTo)
      return
    }
    this.#sessions.applied(session, call.c, reply, now)
    const entry: Entry = {
      r,
      t: now,
      ...changesOf(held),
      s: [this.#sessions.update(session)],
    }
    const bytes = encodeEntry(entry, this.#ports.primitives)
    const alarms = applyAlarmChanges(this.#state.alarms, held.alarms)
    const refused = this.#refusal(this.#ownBytes(entry, bytes, call.c), held.next, alarms)
    if (refused) this.#refuse(att, session, call.c, entry, refused)
    else {
      const early = reply.err === undefined && own(this.#def.durability, call.a) === "relaxed" && this.#mayLeaveNow(att)
      this.#commit(entry, bytes, held, alarms)
      if (early) this.#outputs.sendReply(att, call.c, reply, true)
      else this.#outputs.holdReply(att, call.c, reply)
      this.#holdMove(r, held.moveTo)
    }
    // Whatever was appended before is written, and answered: nobody hears of his call what is true of another.
    if (spoiled) this.#owner.retire(spoiled, couldNotGoOn(this.#id))
  }

  /** Nothing changed: no write. The reply is a read; its number rides in the session's next entry. */
  #endRead(
    att: Attached,
    session: Session,
    c: number,
    read: StoredReply,
    now: number,
    moveTo: string | undefined,
  ): void {
    this.#sessions.applied(session, c, read, now)
    this.#outputs.holdRead(att, this.#journal.revision, () => {
      this.#outputs.sendReply(att, c, read)
      if (moveTo !== undefined) this.#ports.moveTo(moveTo)
    })
  }

  /** Commits, in the place of the entry that is too large, the refusal and all else that it said of the session. */
  #refuse(att: Attached, session: Session, c: number, entry: Entry, refused: SojournError): void {
    const replaced: StoredReply = { r: entry.r, err: refused.toWire() }
    session.replies.set(c, replaced)
    const { p: _p, ev: _ev, al: _al, ...rest } = entry
    const s = entry.s?.map((record) => ({
      ...record,
      y: record.y.map(([n, reply]): [number, StoredReply] => [n, n === c ? replaced : reply]),
    }))
    this.#journal.append({ ...rest, ...(s && { s }) })
    this.#outputs.holdReply(att, c, replaced)
  }

  /** A relaxed reply of this attach. */
  #mayLeaveNow(att: Attached): boolean {
    return this.#journal.certain && this.#outputs.nothingWaits(att)
  }

  /** Commits what the handler did together with the alarm's removal, or, where it failed, the alarm's next time. */
  endAlarm(alarm: StoredAlarm, turn: Turn, outcome: Outcome): void {
    const head = { r: this.#journal.revision + 1, t: this.#ports.clock.now() }
    try {
      if (outcome.failed) throw outcome.error
      const held = this.#state.take(turn)
      this.#commitOrThrow({ ...head, ...changesOf(held) }, held)
      this.#holdMove(head.r, held.moveTo)
    } catch (error) {
      this.alarmFailed(alarm, error)
      // First of all: the next activation would run it at once, before it could serve anybody.
      this.putOff(alarm)
      const spoiled = this.#spoiled(error)
      if (spoiled) this.#owner.retire(spoiled, couldNotGoOn(this.#id))
    }
  }

  alarmFailed(alarm: StoredAlarm, error: unknown): void {
    this.#authorErrors.report("alarm.failed", error, { alarm: alarm.n, id: alarm.i ?? "", attempt: (alarm.k ?? 0) + 1 })
  }

  /** The alarm's next time, as an entry of its own. */
  putOff(alarm: StoredAlarm): void {
    const { clock, chance, limits } = this.#ports
    const now = clock.now()
    const al = [postponed(alarm, now, limits, chance.random())]
    this.#state.setAlarms(applyAlarmChanges(this.#state.alarms, al))
    this.#journal.append({ r: this.#journal.revision + 1, t: now, al })
  }

  /** Commits what `onDeactivate` did; that it failed concerns nobody but the log. */
  endDeactivation(turn: Turn, outcome: Outcome, failed: (error: unknown) => void): void {
    try {
      if (outcome.failed) throw outcome.error
      const held = this.#state.take(turn)
      if (isRead(held)) return
      this.#commitOrThrow({ r: this.#journal.revision + 1, t: this.#ports.clock.now(), ...changesOf(held) }, held)
    } catch (error) {
      failed(error)
      const spoiled = this.#spoiled(error)
      if (spoiled) this.#owner.drop(spoiled, couldNotGoOn(this.#id))
    }
  }

  /** Why the activation has to go, and with it the change: a leaf changed in place cannot be rolled back in memory. */
  #spoiled(error: unknown): SojournError | undefined {
    if (this.#state.leavesIntact()) return undefined
    return error instanceof SojournError ? error : new SojournError("BAD_STATE", undefined, { cause: error })
  }

  #commitOrThrow(entry: Entry, held: Held): void {
    const bytes = encodeEntry(entry, this.#ports.primitives)
    const alarms = applyAlarmChanges(this.#state.alarms, held.alarms)
    const refused = this.#refusal(bytes.length, held.next, alarms)
    if (refused) throw refused
    this.#commit(entry, bytes, held, alarms)
  }

  #commit(entry: Entry, bytes: Uint8Array, held: Held, alarms: Alarms): void {
    this.#state.become(held, alarms)
    const output = this.#journal.append(entry, bytes)
    if (entry.ev || entry.p) this.#outputs.holdEntry(output)
  }

  #holdMove(r: number, to: string | undefined): void {
    if (to !== undefined)
      this.#gate.holdWrite(r, () => {
        this.#ports.moveTo(to)
      })
  }

  /** Of the entry, what call `c` has made: replies of calls before it, that changed nothing, ride along. */
  #ownBytes(entry: Entry, bytes: Uint8Array, c: number): number {
    if (bytes.length <= this.#ports.limits.outputCharsMax) return bytes.length
    const s = entry.s?.map((record) => ({ ...record, y: record.y.filter(([n]) => n === c) }))
    return encodeEntry({ ...entry, ...(s && { s }) }, this.#ports.primitives).length
  }

  /** Why a turn whose entry is this large cannot commit. Cheap until the journal could matter; then the next state is measured. */
  #refusal(bytes: number, next: unknown, alarms: Alarms): SojournError | undefined {
    const { snapshotBytesMax, outputCharsMax } = this.#ports.limits
    if (bytes > outputCharsMax)
      return new SojournError(
        "REPLY_TOO_LARGE",
        `the turn wrote ${bytes} bytes of patches, events and reply; limits.outputCharsMax is ${outputCharsMax}`,
      )
    if (this.#snapshots.bodyBytes + bytes <= snapshotBytesMax) return undefined
    const measured = utf8Bytes(encodeText(next).text) + alarmBytes(alarms)
    if (measured <= snapshotBytesMax) return undefined
    return new SojournError(
      "SNAPSHOT_TOO_LARGE",
      `the state of ${this.#id} would be ${measured} bytes; limits.snapshotBytesMax is ${snapshotBytesMax}`,
    )
  }
}

/** Whoever is attached has only to attach again: what had run of theirs is known, and the rest is run then. */
export function couldNotGoOn(id: string): SojournError {
  return new SojournError("SLEPT", `the activation of ${id} could not go on; attach again`)
}
