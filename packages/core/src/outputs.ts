import { SojournError, type ServerFrame } from "@sojourn/protocol"
import type { ErasedDefinition } from "./actor.ts"
import type { Attached } from "./attach.ts"
import type { EncodedText } from "./encoded-text.ts"
import type { OutputGate } from "./gate.ts"
import type { Output, StoredReply } from "./journal.ts"
import type { Limits } from "./limits.ts"
import type { Reader } from "./reader.ts"
import type { Session, SessionTable } from "./sessions.ts"

/**
 * What one activation sends to the sessions attached to it. Everything passes the gate (`gate.ts`), in the order in which turns and queries
 * made it: a turn's outputs before its reply.
 *
 * One thing may leave before its write: the reply of an action that its class declares `relaxed`, marked as such, and that only where
 * nothing in the gate is meant for its session. Nothing else of that turn does, so none of its session's frames is overtaken.
 */
export interface OutputPorts {
  /** Every open attach of this actor at this node. */
  attached(): Iterable<Attached>
  readonly limits: Limits
}

export class Outputs {
  readonly #def: ErasedDefinition
  readonly #gate: OutputGate
  readonly #sessions: SessionTable
  readonly #reader: Reader
  readonly #ports: OutputPorts
  /** Of each session, the number of its last frame in the gate. Not of an attach: a reply goes to whichever holds the session by then. */
  readonly #waits = new WeakMap<Session, number>()

  constructor(def: ErasedDefinition, gate: OutputGate, sessions: SessionTable, reader: Reader, ports: OutputPorts) {
    this.#def = def
    this.#gate = gate
    this.#sessions = sessions
    this.#reader = reader
    this.#ports = ports
  }

  /** The turn of this entry changed the state or emitted events. Who attaches from now on begins behind it, or has it replayed. */
  holdEntry(entry: Output): void {
    const to: Attached[] = []
    for (const one of this.#ports.attached()) if (entry.ev || one.live) to.push(one)
    if (to.length === 0) return
    const number = this.#gate.holdWrite(entry.r, () => {
      for (const one of to) this.sendEntry(one, entry)
    })
    if (this.#def.durability) for (const one of to) this.#waitsFor(one, number)
  }

  /** Throws REPLY_TOO_LARGE. */
  assertFits(what: string, { text }: EncodedText): void {
    const { outputCharsMax } = this.#ports.limits
    if (text.length > outputCharsMax)
      throw new SojournError(
        "REPLY_TOO_LARGE",
        `${what} has ${text.length} characters; limits.outputCharsMax is ${outputCharsMax}`,
      )
  }

  holdReply(att: Attached, c: number, reply: StoredReply): void {
    const number = this.#gate.holdWrite(reply.r, () => {
      this.sendReply(att, c, reply)
    })
    this.#waitsFor(att, number)
  }

  holdRead(att: Attached, revision: number, send: () => void): void {
    this.#waitsFor(att, this.#gate.holdRead(revision, send))
  }

  /** This session has all that was meant for it: a relaxed reply may leave without passing a frame of its own. */
  nothingWaits(att: Attached): boolean {
    const session = this.#sessions.get(att.sid)
    return att.open && att.ready && session !== undefined && (this.#waits.get(session) ?? 0) <= this.#gate.left
  }

  #waitsFor({ sid }: Attached, number: number): void {
    if (!this.#def.durability) return
    const session = this.#sessions.get(sid)
    if (session) this.#waits.set(session, number)
  }

  send(att: Attached, frame: ServerFrame): void {
    if (att.open) att.out(frame)
  }

  /** To whoever holds the session now: the attach that made the call may have been replaced by a newer one. */
  sendReply(att: Attached, c: number, reply: StoredReply, relaxed = false): void {
    let to: Attached | undefined = att.open ? att : undefined
    if (!to) for (const one of this.#ports.attached()) if (one.sid === att.sid && one.open) to = one
    // Not ready: this reply was computed before that attach, which asks for it again itself.
    if (!to?.ready) return
    const { ch } = to
    const { r, ok, err } = reply
    if (ok !== undefined && !relaxed) to.out({ t: "reply", ch, c, r, ok })
    else
      to.out({
        t: "reply",
        ch,
        c,
        r,
        ...(ok === undefined ? {} : { ok }),
        ...(err === undefined ? {} : { err }),
        ...(relaxed ? { relaxed } : {}),
      })
  }

  /** What this session may see of an entry, unless it has had it. */
  sendEntry(att: Attached, entry: Output): void {
    if (!att.open || !att.ready || att.ending || att.sent >= entry.r) return
    const pt = att.live ? entry.p : undefined
    if (pt !== undefined && !this.#reader.allowedNow(att.who, "state")) {
      this.#endBlinded(att)
      return
    }
    const ev = this.#def.authorize ? entry.ev?.filter(([name]) => this.#reader.allowedNow(att.who, name)) : entry.ev
    const { ch, sent: prev } = att
    const { r } = entry
    if (ev !== undefined && ev.length > 0) att.out({ t: "out", ch, r, prev, ev, ...(pt === undefined ? {} : { pt }) })
    else if (pt !== undefined) att.out({ t: "out", ch, r, prev, pt })
    else return
    att.sent = r
  }

  /** It may see the state no more. After the replies that there are, since one of them may be to the call by which it gave that up. */
  #endBlinded(att: Attached): void {
    att.ending = true
    this.#gate.holdWrite(this.#gate.durable, () => {
      att.end(new SojournError("SLEPT", "who may see the actor's state has changed; attach again"))
    })
  }
}
