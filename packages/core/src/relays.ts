import { SojournError, type ServerFrame } from "@sojourn/protocol"
import type { AttachRequest, HostAttach, SessionFrame } from "./attach.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Tickets } from "./tickets.ts"

/**
 * Relays: serving a session through its gateway without moving the actor. The same frames go over the mesh that go over a socket; the
 * owner's host serves a relayed session like one of its own, except that it never relays it on.
 *
 * A relay keeps nothing that matters. Whatever breaks it (the link, either node) ends the attach; the client attaches again, and its
 * session's calls are recognised wherever they arrive.
 */
export interface RelayPorts {
  readonly limits: Limits
  readonly tickets: Tickets
  send(pop: string, message: MeshMessage): boolean
  attach(request: AttachRequest): HostAttach
  receive(attach: HostAttach, frame: SessionFrame): void
  leave(attach: HostAttach): void
  /** Ends it with this error; the client is told. */
  end(attach: HostAttach, error: SojournError): void
}

type Of<T extends MeshMessage["t"]> = Extract<MeshMessage, { t: T }>

export class Relays {
  readonly #o: RelayPorts
  /** Sessions of clients here, served elsewhere; sessions of clients elsewhere, served here. */
  readonly #out = new Map<string, HostAttach>()
  readonly #in = new Map<string, HostAttach>()
  /** How many of `#out` go to each POP. */
  readonly #links = new Map<string, number>()
  #count = 0

  constructor(ports: RelayPorts) {
    this.#o = ports
  }

  /** `seen`: the actor leaves while `att` is served here; the relay goes on where the last frame left off, and its client keeps the attach. */
  open(att: HostAttach, to: string, seen?: number): void {
    const id = ++this.#count
    const { relaysPerLinkMax } = this.#o.limits
    const known = this.#links.get(to) ?? 0
    if (known >= relaysPerLinkMax) {
      const why = `this node relays ${known} sessions to POP ${to} (limits.relaysPerLinkMax)`
      this.#o.end(att, new SojournError("RATE_LIMITED", why))
      return
    }
    att.status = "relayed"
    att.relay = { pop: to, id }
    this.#out.set(keyOf(to, id), att)
    this.#links.set(to, known + 1)
    att.handedOver = seen !== undefined
    const { actor } = att.request
    const attach = seen === undefined ? { ...att.request.body, acked: att.acked } : att.resumption()
    const more = seen === undefined ? {} : { seen }
    if (!this.#o.send(to, { t: "RELAY_OPEN", relay: id, actor, principal: att.who, attach, ...more })) {
      this.#o.end(att, new SojournError("POP_UNREACHABLE", `the link to POP ${to} is down`, { retryAfterMs: 200 }))
      return
    }
    const queue = att.queue
    att.queue = []
    for (const frame of queue) this.forward(att, frame)
  }

  /** A frame of a client here, towards the owner. Lost with the link, whose end ends the relay. */
  forward(att: HostAttach, frame: SessionFrame): void {
    if (att.relay) this.#o.send(att.relay.pop, { t: "FRAME", relay: att.relay.id, dir: "in", frame })
  }

  /** The client here left. */
  close(att: HostAttach): void {
    if (!att.relay) return
    this.#goesNoMore(keyOf(att.relay.pop, att.relay.id))
    this.#o.send(att.relay.pop, { t: "RELAY_CLOSE", relay: att.relay.id, dir: "in" })
    att.relay = undefined
  }

  opened(from: string, m: Of<"RELAY_OPEN">): void {
    const key = keyOf(from, m.relay)
    const ticket = m.attach.ticket === undefined ? undefined : this.#o.tickets.verify(m.attach.ticket)
    const known = ticket && ticket.actor === m.actor && ticket.principal === m.principal.id ? ticket : undefined
    // The peer has given the number to another session: nothing else would ever end the one before.
    const before = this.#in.get(key)
    if (before && (before.request.actor !== m.actor || before.sid !== m.attach.sid)) this.#o.leave(before)
    try {
      const att = this.#o.attach({
        actor: m.actor,
        who: m.principal,
        mintedAt: mintedAtOf(m.attach.sid),
        body: m.attach,
        ticket: known,
        hint: undefined,
        stay: true,
        ...(m.seen === undefined ? {} : { seen: m.seen }),
        relayedBy: from,
        localOnly: true,
        out: (frame) => {
          this.#o.send(from, { t: "FRAME", relay: m.relay, dir: "out", frame })
        },
        ended: () => {
          this.#in.delete(key)
        },
      })
      if (att.open) this.#in.set(key, att)
    } catch (error) {
      const err = (
        error instanceof SojournError ? error : new SojournError("INTERNAL", undefined, { cause: error })
      ).toWire()
      this.#o.send(from, { t: "FRAME", relay: m.relay, dir: "out", frame: { t: "detached", ch: m.attach.ch, err } })
    }
  }

  frame(from: string, m: Of<"FRAME">): void {
    const key = keyOf(from, m.relay)
    if (m.dir === "in") {
      const att = this.#in.get(key)
      if (!att) this.#o.send(from, { t: "RELAY_CLOSE", relay: m.relay, dir: "out" })
      else if (m.frame.t === "call" || m.frame.t === "query" || m.frame.t === "ack") this.#o.receive(att, m.frame)
      return
    }
    const att = this.#out.get(key)
    if (!att) this.#o.send(from, { t: "RELAY_CLOSE", relay: m.relay, dir: "in" })
    else if (m.frame.t === "detached" || m.frame.t === "moved") {
      this.#goesNoMore(key)
      att.relay = undefined
      att.endWith(m.frame)
      this.#o.leave(att)
    } else if (m.frame.t === "attached" && att.handedOver) this.#goesOn(key, att, m.frame)
    else att.out(m.frame)
  }

  /** The new owner has taken the session over: its client learns where the actor is, and keeps its attach. */
  #goesOn(key: string, att: HostAttach, frame: Extract<ServerFrame, { t: "attached" }>): void {
    // It may come again: relayed frames are repeated, and a repeated RELAY_OPEN is answered again.
    const { pop, e, ticket, resumed } = frame
    if (resumed === "replay") att.out({ t: "moved", ch: att.ch, to: pop, e, ticket, stays: true })
    else {
      // What it missed is past the tail: only an attach of its own can tell it so.
      this.#goesNoMore(key)
      this.#o.send(pop, { t: "RELAY_CLOSE", relay: att.relay?.id ?? 0, dir: "in" })
      att.relay = undefined
      this.#o.end(att, new SojournError("SLEPT", "the actor moved further than its outbox reaches; attach again"))
    }
  }

  closed(from: string, m: Of<"RELAY_CLOSE">): void {
    const key = keyOf(from, m.relay)
    const att = (m.dir === "in" ? this.#in : this.#out).get(key)
    if (!att) return
    if (m.dir === "in") this.#o.leave(att)
    else this.#lose(key, att)
  }

  linkDown(pop: string): void {
    for (const [key, att] of [...this.#out]) if (att.relay?.pop === pop) this.#lose(key, att)
    for (const [key, att] of [...this.#in]) if (key.startsWith(`${pop} `)) this.#o.leave(att)
  }

  #goesNoMore(key: string): void {
    const pop = this.#out.get(key)?.relay?.pop
    if (pop === undefined) return
    this.#out.delete(key)
    const left = (this.#links.get(pop) ?? 1) - 1
    if (left === 0) this.#links.delete(pop)
    else this.#links.set(pop, left)
  }

  #lose(key: string, att: HostAttach): void {
    this.#goesNoMore(key)
    const pop = att.relay?.pop ?? ""
    att.relay = undefined
    const why = `the relay to POP ${pop} broke`
    this.#o.end(att, new SojournError("POP_UNREACHABLE", why, { retryAfterMs: 100, outcome: "unknown" }))
  }
}

function keyOf(pop: string, relay: number): string {
  return `${pop} ${relay}`
}

/** Of an id that its gateway has verified: the mesh is trusted for that. */
function mintedAtOf(sid: string): number {
  return parseInt(sid.split(".")[1] ?? "0", 36)
}
