import { SojournError, type AttachBody, type MoveReport, type Resumed } from "@sojourn/protocol"
import type { ActorState } from "./actor-state.ts"
import type { Attached } from "./attach.ts"
import type { OutputGate } from "./gate.ts"
import type { JournalWriter } from "./journal-writer.ts"
import type { Outputs } from "./outputs.ts"
import type { Clock } from "./ports.ts"
import type { Reader } from "./reader.ts"
import { isCutOff, type Cut } from "./record.ts"
import type { SessionTable } from "./sessions.ts"
import type { Tail } from "./tail.ts"

export interface ResumptionPorts {
  readonly clock: Clock
  readonly pop: string
  ticket(attached: Attached, epoch: number, revision: number): string
  /** The move that brought the actor here, for the first client that attaches after it. */
  takeMoveReport(): MoveReport | undefined
}

export interface ResumptionParts {
  readonly gate: OutputGate
  readonly sessions: SessionTable
  readonly tail: Tail
  readonly state: ActorState
  readonly journal: JournalWriter
  readonly reader: Reader
  readonly outputs: Outputs
  /** Whether the state in memory is what was committed. */
  sound(): boolean
}

/**
 * How a session goes on at one activation: from the tail where its client's position is within it (`replay`), else from the state
 * (`snapshot`). What it is sent is of the moment at which it attached, and leaves as any read does; from then on it gets every entry.
 */
export class Resumptions {
  readonly #id: string
  readonly #cuts: readonly Cut[] | undefined
  readonly #gate: OutputGate
  readonly #sessions: SessionTable
  readonly #tail: Tail
  readonly #state: ActorState
  readonly #journal: JournalWriter
  readonly #reader: Reader
  readonly #outputs: Outputs
  readonly #sound: () => boolean
  readonly #ports: ResumptionPorts

  /** `cuts`: the history that was lost with a POP. */
  constructor(id: string, cuts: readonly Cut[] | undefined, parts: ResumptionParts, ports: ResumptionPorts) {
    this.#id = id
    this.#cuts = cuts
    this.#gate = parts.gate
    this.#sessions = parts.sessions
    this.#tail = parts.tail
    this.#state = parts.state
    this.#journal = parts.journal
    this.#reader = parts.reader
    this.#outputs = parts.outputs
    this.#sound = parts.sound
    this.#ports = ports
  }

  /** `seen`: it has missed nothing up to that revision, whatever its position. Throws before anything of it is left behind. */
  begin(
    att: Attached,
    body: AttachBody,
    ticket: { readonly epoch: number; readonly revision: number } | undefined,
    seen: number | undefined,
  ): void {
    const { clock } = this.#ports
    const { revision } = this.#journal
    if (ticket && (ticket.revision > revision || isCutOff(this.#cuts, ticket.epoch, ticket.revision)))
      throw new SojournError(
        "HISTORY_LOST",
        `the client's ticket knows revision ${ticket.revision} of ${this.#id}, of epoch ${ticket.epoch}; this POP's copy, at ${revision}, is without it. A store was lost with acknowledged writes`,
        { details: { actor: this.#id, ticket: ticket.revision, revision } },
      )
    if (body.live && !this.#reader.allowedNow(att.who, "state"))
      throw new SojournError("FORBIDDEN", "this principal may not see the actor's state")
    const missed = body.pos === undefined ? undefined : this.#tail.since(Math.max(body.pos, seen ?? 0), revision)
    if (body.live && !missed && !this.#sound())
      throw new SojournError("SLEPT", `${this.#id} has been changed in place; attach again`, {
        retry: "later",
        retryAfterMs: 250,
      })
    const session = this.#sessions.open(att.sid, att.who.id, att.mintedAt, clock.now())
    this.#sessions.acknowledge(session, body.acked)
    const resumed: Resumed = body.pos === undefined ? "new" : missed ? "replay" : "snapshot"
    const state = body.live && !missed ? this.#state.encoded() : undefined
    att.sent = missed ? (body.pos ?? 0) : revision
    // What it was sent elsewhere (`seen`) it need not have got: only what it said itself takes anything away.
    if (seen === undefined) this.#tail.seen(att.sid, att.sent, clock.now())
    else this.#tail.stays(att.sid, att.sent, clock.now())
    const last = session.last
    this.#gate.holdRead(revision, () => {
      if (!att.open) return
      att.ready = true
      const move = this.#ports.takeMoveReport()
      const { epoch } = this.#journal
      att.out({
        t: "attached",
        ch: att.ch,
        sid: att.sid,
        pop: this.#ports.pop,
        e: epoch,
        r: revision,
        resumed,
        last,
        ...(state === undefined ? {} : { state }),
        ticket: this.#ports.ticket(att, epoch, this.#gate.durable),
        ...(move === undefined ? {} : { move }),
      })
      for (const entry of missed ?? []) this.#outputs.sendEntry(att, entry)
    })
  }
}
