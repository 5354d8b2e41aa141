import { SojournError } from "@sojourn/protocol"
import type { Activation } from "./activation.ts"
import {
  HostAttach,
  placesOf,
  waitingFramesMax,
  type Attached,
  type AttachRequest,
  type SessionFrame,
} from "./attach.ts"
import type { Borders } from "./borders.ts"
import type { Failures } from "./failures.ts"
import type { HandInput, Pull } from "./handoff.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage, Principal } from "./mesh-messages.ts"
import type { Clock, EventSink } from "./ports.ts"
import type { Granted } from "./record.ts"
import { Relays } from "./relays.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import type { Tickets } from "./tickets.ts"

/**
 * The sessions that are attached at this node, each to its actor's slot, and where their frames go: to the activation, through a relay to
 * the owner's POP, or into a bounded queue while the actor is reached. `HostAttach.status` says which.
 *
 * Whatever changes where the actor is passes here, so that each session hears of it, if at all, in one way: it is let in (`admit`), relayed
 * from now on (`relay`, `handOver`), or told to attach again (`end`, `endLocal`). Which of them is decided by `handoff.ts`.
 */
export interface AttachPorts {
  readonly pop: string
  readonly clock: Clock
  readonly limits: Limits
  readonly events: EventSink
  readonly tickets: Tickets
  readonly slots: Slots
  readonly borders: Borders
  readonly failures: Failures
  send(pop: string, message: MeshMessage): boolean
  linked(pop: string): boolean
  input(slot: Slot, input: HandInput): void
}

export class Attaches {
  readonly #o: AttachPorts
  readonly relays: Relays

  constructor(ports: AttachPorts) {
    this.#o = ports
    this.relays = new Relays({
      limits: ports.limits,
      tickets: ports.tickets,
      send: (pop, message) => ports.send(pop, message),
      attach: (request) => this.attach(request),
      receive: (att, frame) => {
        this.receive(att, frame)
      },
      leave: (att) => {
        this.leave(att)
      },
      end: (att, error) => {
        const slot = ports.slots.get(att.request.actor)
        if (slot) this.end(slot, att, error)
      },
    })
  }

  // ── what a session does ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Throws UNKNOWN_ACTOR, BAD_KEY or RESIDENCY_DENIED; everything later comes as a frame. */
  attach(request: AttachRequest): HostAttach {
    const { slots, borders, pop } = this.#o
    const slot = slots.open(request.actor)
    const { residency } = slot.def
    // Known here without asking the owner, who would refuse it all the same.
    if (typeof residency === "object") {
      try {
        borders.assertMayRelay(slot, residency, pop)
      } catch (error) {
        slots.giveBack(slot)
        throw error
      }
    }
    // What the activation itself ends (`Outputs`) ends with nobody there to take it away: the slot, and its session, would be kept for it.
    const att = new HostAttach(request, (one, local) => {
      if (local) slot.activation?.detach(one)
      if (slot.attached.get(one.sid) === one) slot.attached.delete(one.sid)
    })
    const before = slot.attached.get(att.sid)
    // Not silently: a relay that was opened late may be the older of the two, and then it is the living client that is told to
    // attach again. Whoever has really left hears nothing.
    if (before) {
      before.end(new SojournError("SLEPT", "another attach has taken the session over; attach again"))
      this.#leave(slot, before, true)
    }
    slot.attached.set(att.sid, att)
    this.#need(slot, att)
    return att
  }

  receive(att: HostAttach, frame: SessionFrame): void {
    const slot = this.#o.slots.get(att.request.actor)
    if (!slot || att.status === "ended" || att.status === "refused") return
    // Also where no activation hears it: the client counts on having said it, and says it once.
    if (frame.t === "ack") att.acked = Math.max(att.acked, frame.c)
    if (att.status === "relayed") {
      this.relays.forward(att, frame)
      return
    }
    if (att.status === "local" && isOpen(slot)) {
      this.#feed(slot, att, frame)
      return
    }
    if (frame.t === "ack") return
    if (att.queue.length === 0) att.places = 0
    if (att.places >= waitingFramesMax) {
      this.end(
        slot,
        att,
        new SojournError("MAILBOX_FULL", `${att.queue.length} frames wait for ${slot.id}`, { retryAfterMs: 200 }),
      )
      return
    }
    att.queue.push(frame)
    att.places += placesOf(frame)
    if (att.status === "local") this.#need(slot, att)
  }

  /** The same client, of which more or less is said now: what it asks from now on is judged by that. */
  renew(att: HostAttach, who: Principal): void {
    const slot = this.#o.slots.get(att.request.actor)
    if (!slot || att.status === "ended") return
    att.who = who
    if (att.status === "relayed")
      this.end(slot, att, new SojournError("SLEPT", "its principal has changed; attach again"))
  }

  /** The client detached or its socket is gone. */
  leave(att: HostAttach): void {
    const slot = this.#o.slots.get(att.request.actor)
    if (slot) this.#leave(slot, att, false)
  }

  #need(slot: Slot, att: HostAttach): void {
    const { ticket, hint, stay, localOnly } = att.request
    this.#o.input(slot, {
      type: "need",
      want: {
        relay: stay || localOnly,
        session: att.sid,
        ticket: ticket && { pop: ticket.pop, epoch: ticket.epoch },
        hint,
      },
    })
  }

  #feed(slot: Slot, att: HostAttach, frame: SessionFrame): void {
    const { activation } = slot
    if (!activation) return
    try {
      if (frame.t === "call") activation.call(att, frame)
      else if (frame.t === "query") activation.query(att, frame)
      else activation.acknowledge(att, frame.c, frame.r)
    } catch (error) {
      this.end(slot, att, this.#o.failures.masked(slot.id, error))
    }
    if (!att.open) this.#leave(slot, att, true)
  }

  /** `replaced`: the slot is needed on. */
  #leave(slot: Slot, att: HostAttach, replaced: boolean): void {
    this.relays.close(att)
    att.endWith(undefined)
    if (slot.attached.get(att.sid) === att) slot.attached.delete(att.sid)
    if (!replaced) this.#o.slots.giveBack(slot)
  }

  // ── what becomes of the sessions of an actor ─────────────────────────────────────────────────────────────────────────────────

  /** Lets everyone who waits into the activation. */
  admit(slot: Slot): void {
    const { borders, events, failures, pop } = this.#o
    const { activation } = slot
    if (!activation) return
    // Of a thousand who are attached nearly all are in already.
    const some: HostAttach[] = []
    for (const att of slot.attached.values()) if (att.status === "waiting" || att.queue.length > 0) some.push(att)
    for (const att of some) {
      if (slot.activation !== activation) {
        // What one of them had to run has ended it, and whoever was let in was told. The others were not: they need another.
        if (att.status === "waiting") this.#need(slot, att)
        continue
      }
      if (att.status === "waiting") {
        att.status = "local"
        try {
          borders.assertMayRelay(slot, activation.needs.residency, att.request.relayedBy ?? pop)
          activation.attach(att, { ...att.request.body, acked: att.acked }, att.request.ticket, att.request.seen)
        } catch (error) {
          // The activation has ended with it, and said so.
          if (!att.open) continue
          // A refusal is a read: until the activation is proved to hold the owner's state, it may be the activation that is wrong
          // (a grant that came late, another process's actor).
          const named = failures.masked(slot.id, error)
          att.status = "refused"
          activation.refuse(() => {
            if (named.code === "HISTORY_LOST") events({ type: "history.lost", actor: slot.id, error: named })
            this.end(slot, att, named)
          })
          continue
        }
        if (!att.open) this.#leave(slot, att, true)
      } else if (att.status !== "local" || att.queue.length === 0) continue
      else activation.goOn(att)
      const queue = att.queue
      att.queue = []
      for (const frame of queue) this.#feed(slot, att, frame)
    }
  }

  /** The actor is owned by `to`, and stays there. `asked`: whether the search was for a relay, or the owner declined a move. */
  relay(slot: Slot, to: string, asked: boolean): void {
    let again: HostAttach | undefined
    for (const att of [...slot.attached.values()]) {
      // It was served here until the actor slept, and nobody knew that it has gone since (a seal that landed late).
      if (att.status === "local") this.end(slot, att, hasGone(slot.id))
      if (att.status !== "waiting") continue
      if (att.request.localOnly) {
        this.end(slot, att, new SojournError("MOVED", `${slot.id} is owned by POP ${to}`))
        continue
      }
      // The search was for a relay; this client wants the actor here, and the owner has not been asked that yet.
      if (asked && !att.request.stay) {
        again = att
        continue
      }
      this.relays.open(att, to)
    }
    if (again) this.#need(slot, again)
  }

  /** The actor goes to another POP by this grant. `activation`: the one that has ended by it. */
  handOver(slot: Slot, activation: Activation | undefined, pull: Pull, record: Omit<Granted, "k">): void {
    for (const att of [...slot.attached.values()]) this.#handOver(slot, att, activation, pull, record)
  }

  /**
   * The actor goes to another POP while this session is attached here. This gateway stays the client's and relays from now on, from the
   * last frame sent and with the calls that were not run; the client keeps its attach. Who cannot be served so is told to attach again:
   * the traveller itself, whose old socket this is, and a session that another gateway relays to here (relays form no chains).
   */
  #handOver(
    slot: Slot,
    att: HostAttach,
    activation: Activation | undefined,
    pull: Pull,
    { to, e, v }: { to: string; e: number; v: number },
  ): void {
    const here = !att.request.localOnly && att.sid !== pull.session && this.#o.linked(to)
    if (here && att.status === "waiting") {
      this.relays.open(att, to)
      return
    }
    // Where another process of this POP has committed since, this session has not seen all that the grant holds, and says so itself.
    if (here && att.status === "local" && activation?.revision === v && att.ready) {
      att.queue.unshift(...activation.unrun(att))
      this.relays.open(att, to, v)
      return
    }
    att.endWith({ t: "moved", ch: att.ch, to, e, ticket: this.ticket(slot.id, att, to, e, v) })
    this.#leave(slot, att, true)
  }

  ticket(actor: string, att: Attached, pop: string, epoch: number, revision: number): string {
    const { tickets, clock, limits } = this.#o
    const exp = clock.now() + limits.ticketTtlMs
    return tickets.sign({ actor, pop, epoch, revision, principal: att.who.id, session: att.sid, exp })
  }

  end(slot: Slot, att: HostAttach, error: SojournError): void {
    att.end(error)
    this.#leave(slot, att, false)
  }

  endAll(slot: Slot, error: SojournError): void {
    for (const att of [...slot.attached.values()]) this.end(slot, att, error)
  }

  /** Everyone whose frames went to the activation must attach again: calls in its mailbox were not run. */
  endLocal(slot: Slot, error: SojournError): void {
    for (const att of [...slot.attached.values()])
      if (att.status === "local" || att.status === "refused") this.end(slot, att, error)
  }

  /** The actor was not reached: whoever has something waiting for it hears so. */
  endWaiting(slot: Slot, error: SojournError): void {
    for (const att of [...slot.attached.values()])
      if (att.status === "waiting" || (att.status === "local" && att.queue.length > 0)) this.end(slot, att, error)
  }
}

/** The activation takes frames, also while its install is being written: what it answers waits in its gate. */
function isOpen(slot: Slot): boolean {
  const { phase } = slot.state
  return slot.activation !== undefined && (phase.at === "resident" || (phase.at === "installing" && phase.activate))
}

export function hasGone(actor: string): SojournError {
  return new SojournError("SLEPT", `${actor} has been elsewhere; attach again`)
}
