import {
  CLOSE_CODES,
  SojournError,
  frameLimits,
  parseClientFrame,
  type AttachBody,
  type ClientFrame,
  type CloseName,
  type ServerFrame,
  type TicketPayload,
} from "@sojourn/protocol"
import { addressId } from "./address.ts"
import type { Admission } from "./admission.ts"
import { weigh, type AttachRequest, type HostAttach, type SessionFrame } from "./attach.ts"
import { Channel } from "./channel.ts"
import { frameText } from "./frame-text.ts"
import type { Host } from "./host.ts"
import type { Limits } from "./limits.ts"
import { isServer, type Principal } from "./mesh-messages.ts"
import { relayable } from "./mesh-parse.ts"
import type { Clock, EventSink, Pipe, PipeReader, Undo } from "./ports.ts"
import type { SessionIds } from "./session-ids.ts"
import type { Tickets } from "./tickets.ts"

/** What is known of a client before its first frame. */
export interface Upgrade {
  readonly url: string
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly ip: string
  /** The ticket that came as a second subprotocol. */
  readonly ticket?: string
  /** Advisory POP id of the query string: chooses whom to ask, never more. */
  readonly at?: string
}

/** Who this is, or null: refused. The token is never logged. */
export type Authenticate = (
  request: {
    readonly url: string
    readonly headers: Readonly<Record<string, string | undefined>>
    readonly ip: string
  },
  token: string | undefined,
  client: string,
) => Principal | null | Promise<Principal | null>

export interface GatewayOptions {
  readonly pop: string
  readonly node: string
  readonly host: Host
  readonly admission: Admission
  /** Of all connections. */
  readonly clock: Clock
  readonly limits: Limits
  readonly events: EventSink
  readonly tickets: Tickets
  readonly sessionIds: SessionIds
  readonly authenticate: Authenticate
  serving(): boolean
}

/** Session ids handed out with `welcome`; to a client that comes back with sessions, in a storm of such, fewer: each is signed. */
const spareSessions = 8
const spareSessionsOfReturning = 2

/**
 * The gateway role: it holds clients' sockets and passes frames between them and the host. It keeps nothing that matters: a client whose
 * gateway dies attaches anywhere else with its session, its position and its unacknowledged calls.
 *
 * Before `welcome` a connection may send one frame of 4 KiB within `helloMsMax`, and nothing of any actor is released. A valid ticket that
 * came with the upgrade has by then started the one PULL it is good for (rate-limited); what it brings waits for the authentication.
 */
export class Gateway {
  readonly #o: GatewayOptions
  readonly #connections = new Set<Connection>()
  #earlyTokens: number
  #earlyAt = 0
  #left: (() => void) | undefined

  constructor(options: GatewayOptions) {
    this.#o = options
    this.#earlyTokens = options.limits.earlyPullsPerSecondMax
  }

  get connections(): number {
    return this.#connections.size
  }

  /** As early as the upgrade request is read: starts the PULL that a valid ticket is good for. */
  early(text: string): void {
    const { tickets, host, limits, clock, events, pop } = this.#o
    if (!this.#o.serving()) return
    const now = clock.mono()
    this.#earlyTokens = Math.min(
      limits.earlyPullsPerSecondMax,
      this.#earlyTokens + ((now - this.#earlyAt) / 1_000) * limits.earlyPullsPerSecondMax,
    )
    this.#earlyAt = now
    if (this.#earlyTokens < 1) return
    const ticket = tickets.verify(text)
    if (!ticket || ticket.pop === pop) return
    this.#earlyTokens -= 1
    try {
      host.early(ticket.actor, ticket)
    } catch (error) {
      events({ type: "ticket.ignored", error })
    }
  }

  accept(pipe: Pipe<string>, upgrade: Upgrade): PipeReader<string> {
    const connection = new Connection(pipe, upgrade, this.#o, () => {
      this.#connections.delete(connection)
      this.#look()
    })
    if (!this.#o.serving() || this.#connections.size >= this.#o.limits.connectionsMax) {
      connection.close("NOT_SERVING")
      return connection
    }
    this.#connections.add(connection)
    return connection
  }

  /**
   * Asks every client to go elsewhere, each at its own moment of `spreadMs`. They are served until they have gone. Resolves when nobody is left;
   * who stays is the caller's to close.
   */
  goAway(spreadMs: number): Promise<void> {
    const { size } = this.#connections
    let i = 0
    for (const connection of [...this.#connections]) connection.goAway(Math.round((spreadMs * i++) / Math.max(1, size)))
    return new Promise((resolve) => {
      this.#left = resolve
      this.#look()
    })
  }

  #look(): void {
    if (this.#connections.size === 0) this.#left?.()
  }

  closeAll(name: CloseName): void {
    for (const connection of [...this.#connections]) connection.close(name)
  }
}

class Connection implements PipeReader<string> {
  readonly #pipe: Pipe<string>
  readonly #upgrade: Upgrade
  readonly #o: GatewayOptions
  readonly #gone: () => void
  readonly #channels = new Map<number, Channel>()
  /** `new`: nothing heard; `proving`: authenticate runs; `open`: welcomed; `closed`. */
  #state: "new" | "proving" | "open" | "closed" = "new"
  #who: Principal | undefined
  #client = ""
  /** The last one that came while one is being looked at. */
  #token: string | undefined
  #heardAt: number
  #timer: Undo | undefined
  #tokens: number
  #tokensAt: number

  constructor(pipe: Pipe<string>, upgrade: Upgrade, options: GatewayOptions, gone: () => void) {
    this.#pipe = pipe
    this.#upgrade = upgrade
    this.#o = options
    this.#gone = gone
    const now = options.clock.mono()
    this.#heardAt = now
    this.#tokens = options.limits.framesBurstMax
    this.#tokensAt = now
    this.#timer = options.clock.after(options.limits.helloMsMax, () => {
      if (this.#state !== "open") this.close("HANDSHAKE_TIMEOUT")
    })
  }

  message(data: string): void {
    if (this.#state === "closed") return
    this.#heardAt = this.#o.clock.mono()
    const max = this.#state === "open" ? this.#o.limits.frameCharsMax : frameLimits.helloCharsMax
    if (data.length > max) {
      this.close("FRAME_TOO_LARGE")
      return
    }
    if (!this.#takeTokens()) {
      this.close("RATE_LIMITED")
      return
    }
    try {
      const frame = parseClientFrame(data)
      if (!frame) return
      weigh(frame, data.length)
      this.#frame(frame)
    } catch (error) {
      const named = error instanceof SojournError ? error : new SojournError("INTERNAL", undefined, { cause: error })
      this.#o.events({ type: "connection.refused", error: named, client: this.#client })
      if (named.code === "BAD_FRAME") {
        this.#send({ t: "error", err: named.toWire() })
        this.close("BAD_FRAME")
      } else this.#send({ t: "error", err: named.toWire() })
    }
  }

  closed(): void {
    this.#end()
  }

  close(name: CloseName): void {
    if (this.#state === "closed") return
    this.#end()
    this.#pipe.close(CLOSE_CODES[name][0], name)
  }

  goAway(retryAfterMs: number): void {
    this.#send({ t: "goaway", retryAfterMs })
  }

  #end(): void {
    if (this.#state === "closed") return
    this.#state = "closed"
    this.#timer?.()
    const channels = [...this.#channels.values()]
    this.#channels.clear()
    for (const channel of channels) this.#leave(channel)
    this.#gone()
  }

  #takeTokens(n = 1): boolean {
    const { framesPerSecondMax, framesBurstMax } = this.#o.limits
    const now = this.#heardAt
    this.#tokens = Math.min(framesBurstMax, this.#tokens + ((now - this.#tokensAt) / 1_000) * framesPerSecondMax)
    this.#tokensAt = now
    this.#tokens -= n
    return this.#tokens >= 0
  }

  #send(frame: ServerFrame): void {
    if (this.#state === "closed") return
    if (this.#pipe.buffered() > this.#o.limits.connectionBufferMax) {
      this.close("SLOW_READER")
      return
    }
    this.#pipe.send(frameText(frame))
  }

  #frame(frame: ClientFrame): void {
    if (this.#state === "new") {
      if (frame.t !== "hello") throw new SojournError("BAD_FRAME", `the first frame must be hello, got ${frame.t}`)
      this.#state = "proving"
      this.#hello(frame)
      return
    }
    if (this.#state === "proving") throw new SojournError("BAD_FRAME", `a frame came before welcome: ${frame.t}`)
    switch (frame.t) {
      case "hello":
        throw new SojournError("BAD_FRAME", "hello comes once")
      case "attach":
        this.#attach(frame)
        return
      case "call":
      case "query":
      case "ack": {
        const channel = this.#channels.get(frame.ch)
        // None: it ended while this frame was on its way; the client attaches again and sends what is unacknowledged.
        if (channel?.attach) this.#receive(channel, channel.attach, frame)
        return
      }
      case "detach": {
        const channel = this.#channels.get(frame.ch)
        this.#channels.delete(frame.ch)
        if (channel) this.#leave(channel)
        return
      }
      case "token":
        void this.#renew(frame.token)
        return
      case "sessions":
        // Each is signed, which costs about what a frame does.
        if (!this.#takeTokens(frame.n - 1)) this.close("RATE_LIMITED")
        else this.#send({ t: "sessions", sessions: this.#mint(frame.n) })
        return
      case "ping":
        this.#send(frame.n === undefined ? { t: "pong" } : { t: "pong", n: frame.n })
        return
      case "pong":
        return
    }
  }

  /** Never rejects: an `authenticate` that throws, or returns what is no principal, refuses. */
  async #authenticate(token: string | undefined): Promise<Principal | null> {
    const { url, headers, ip } = this.#upgrade
    try {
      const who = await this.#o.authenticate({ url, headers, ip }, token, this.#client)
      return who ? relayable(who) : null
    } catch (error) {
      this.#o.events({ type: "authenticate.failed", error })
      return null
    }
  }

  /** One at a time, and of those that come meanwhile the last: each may cost a call to somewhere else, and could end before the one it follows. */
  async #renew(token: string): Promise<void> {
    const { clock, limits } = this.#o
    const waits = this.#token !== undefined
    this.#token = token
    if (waits) return
    for (let asked; asked !== this.#token && this.#state === "open";) {
      asked = this.#token
      // Those that wait would wait for ever for one that is never answered.
      const answered = clock.after(limits.helloMsMax, () => {
        this.close("HANDSHAKE_TIMEOUT")
      })
      const who = await this.#authenticate(asked)
      answered()
      if (!who || who.id !== this.#who?.id) this.close("UNAUTHORIZED")
      else this.#renewed(who)
    }
    this.#token = undefined
  }

  #renewed(who: Principal): void {
    if (JSON.stringify(who) === JSON.stringify(this.#who)) return
    this.#who = who
    for (const { attach } of [...this.#channels.values()]) if (attach) this.#o.host.renew(attach, who)
  }

  #mint(n: number): string[] {
    const who = this.#who
    return who ? Array.from({ length: n }, () => this.#o.sessionIds.mint(who.id)) : []
  }

  #hello(frame: Extract<ClientFrame, { t: "hello" }>): void {
    this.#client = frame.client
    if (frame.batch !== undefined) this.#pipe.batch?.(frame.batch)
    void this.#authenticate(frame.token).then((who) => {
      if (this.#state !== "proving") return
      if (!who || isServer(who)) {
        this.close("UNAUTHORIZED")
        return
      }
      if (!this.#o.serving()) {
        this.close("NOT_SERVING")
        return
      }
      this.#who = who
      this.#state = "open"
      this.#timer?.()
      this.#watch()
      this.#send({
        t: "welcome",
        pop: this.#o.pop,
        node: this.#o.node,
        sessions: this.#mint((frame.attach ?? []).length === 0 ? spareSessions : spareSessionsOfReturning),
        heartbeatMs: this.#o.limits.heartbeatMs,
        principal: who.id,
        batch: Math.min(frameLimits.batchCharsMax, this.#o.limits.frameCharsMax),
      })
      const tickets = new Map<string, TicketPayload>()
      for (const text of frame.at ?? []) {
        const ticket = this.#o.tickets.verify(text)
        if (ticket) tickets.set(ticket.actor, ticket)
      }
      for (const body of frame.attach ?? []) this.#attach(body, tickets)
    })
  }

  /** Any inbound frame counts as life; a client silent for two heartbeats is asked, for three is gone. */
  #watch(): void {
    const { clock, limits } = this.#o
    this.#timer = clock.after(limits.heartbeatMs, () => {
      const silent = clock.mono() - this.#heardAt
      if (silent >= limits.heartbeatMs * 3) {
        this.close("HEARTBEAT")
        return
      }
      if (silent >= limits.heartbeatMs * 2) this.#send({ t: "ping" })
      this.#watch()
    })
  }

  /** Silently: who asked for it knows. */
  #leave(channel: Channel): void {
    channel.end()
    if (channel.attach) this.#o.host.leave(channel.attach)
  }

  #receive(channel: Channel, attach: HostAttach, frame: SessionFrame): void {
    const { admission, clock, host } = this.#o
    if (frame.t !== "ack") {
      if (!channel.open) return
      const refusal = admission.refusal(channel, this.#heardAt)
      if (refusal) {
        channel.refuse(
          refusal,
          (ms, fn) => clock.after(ms, fn),
          () => {
            this.#send({ t: "detached", ch: attach.ch, err: refusal.toWire() })
            host.leave(attach)
          },
        )
        return
      }
      channel.handOn(frame)
    }
    host.receive(attach, frame)
  }

  #attach(body: AttachBody, tickets?: ReadonlyMap<string, TicketPayload>): void {
    const { admission, host, limits } = this.#o
    const who = this.#who
    if (!who || this.#state !== "open") return
    const before = this.#channels.get(body.ch)
    if (before) {
      this.#channels.delete(body.ch)
      this.#leave(before)
    }
    const refuse = (error: SojournError): void => {
      this.#send({ t: "detached", ch: body.ch, err: error.toWire() })
    }
    // Before anything that costs more than to say so.
    const channel = new Channel(body)
    const refusal = admission.refusal(channel)
    if (refusal) {
      refuse(refusal)
      return
    }
    try {
      const actor = addressId(body.actor[0], body.actor[1])
      const session = this.#o.sessionIds.verify(body.sid, who.id)
      if (!session) throw new SojournError("SESSION_UNKNOWN", "the session id was not minted for this principal")
      if (this.#channels.size >= limits.attachesPerConnectionMax)
        throw new SojournError(
          "RATE_LIMITED",
          `this connection has ${this.#channels.size} attaches (limits.attachesPerConnectionMax)`,
        )
      const request: AttachRequest = {
        actor,
        who,
        mintedAt: session.mintedAt,
        body,
        ticket: this.#ticket(body.ticket, tickets?.get(actor), actor, who),
        hint: this.#upgrade.at,
        stay: body.stay === true,
        localOnly: false,
        out: (frame) => {
          this.#send(frame)
          channel.told(frame)
        },
        ended: () => {
          channel.end()
          if (this.#channels.get(body.ch) === channel) this.#channels.delete(body.ch)
        },
      }
      channel.attach = host.attach(request)
      // It may have ended while it was being made (refused at once).
      if (!channel.closed) this.#channels.set(body.ch, channel)
    } catch (error) {
      refuse(error instanceof SojournError ? error : new SojournError("INTERNAL", undefined, { cause: error }))
    }
  }

  /** A ticket counts only for its own actor and principal; anything else is no hint at all. */
  #ticket(
    text: string | undefined,
    verified: TicketPayload | undefined,
    actor: string,
    who: Principal,
  ): { pop: string; epoch: number; revision: number } | undefined {
    if (text === undefined && verified === undefined) return undefined
    const ticket = text === undefined ? verified : this.#o.tickets.verify(text)
    if (ticket && ticket.actor === actor && ticket.principal === who.id) return ticket
    this.#o.events({ type: "ticket.ignored", actor, principal: who.id, forged: !ticket })
    return undefined
  }
}
