import {
  CLOSE_CODES,
  SojournError,
  closeCodeOf,
  reconnects,
  type Chance,
  type Clock,
  type ServerFrame,
  type Undo,
} from "@sojourn/protocol"
import type { Alarm } from "./alarm.ts"
import { retryDelayMs } from "./backoff.ts"
import type { ClientLimits } from "./limits.ts"
import type { Page, SocketFactory, SocketPort, Status, StatusChange } from "./types.ts"

/**
 * One socket at a time, and the status. An attempt is: token function, socket, `hello`, `welcome`, within `connectMsMax`. Whatever a
 * superseded socket still says is ignored. Nothing but `hello` is sent before `welcome`.
 *
 * Life is any inbound frame. Silence is measured on both clocks: the monotonic one may stand still while the machine sleeps, the wall
 * clock does not, so the first timer after an hour's sleep finds the connection dead.
 */
const mayFollow: Readonly<Record<Status, readonly Status[]>> = {
  idle: ["connecting", "closed"],
  connecting: ["connected", "reconnecting", "moving", "suspended", "failed", "closed"],
  connected: ["reconnecting", "moving", "suspended", "failed", "closed"],
  reconnecting: ["connected", "moving", "suspended", "failed", "closed"],
  moving: ["connected", "reconnecting", "suspended", "failed", "closed"],
  suspended: ["reconnecting", "moving", "closed"],
  failed: ["connecting", "moving", "closed"],
  closed: [],
}

export interface ConnectionOwner {
  /** The ticket for the upgrade, and the first frame, made at the moment when it is sent. */
  upgradeTicket(): string | undefined
  hello(token: string | undefined): string
  welcome(frame: Extract<ServerFrame, { t: "welcome" }>): void
  frame(frame: ServerFrame): void
  /** The socket is gone, welcomed or not. */
  lost(): void
  failed(error: SojournError): void
  status(change: StatusChange): void
  error(error: SojournError): void
}

export interface ConnectionParts {
  readonly url: string
  readonly token: string | (() => string | Promise<string>) | undefined
  readonly limits: ClientLimits
  readonly clock: Clock
  readonly chance: Chance
  readonly socket: SocketFactory
  readonly page: Page
  readonly alarm: Alarm
  readonly protocol: string
  readonly ticketPrefix: string
}

interface Wire {
  socket: SocketPort | undefined
  welcomed: boolean
  /** Monotonic ms of `hello`. */
  helloAt: number
}

export class Connection {
  url: string
  pop: string | undefined
  connects = 0
  readonly #parts: ConnectionParts
  readonly #owner: ConnectionOwner
  #status: Status = "idle"
  #wire: Wire | undefined
  /** The one that `close` waits for. */
  #last: Wire | undefined
  /** Frames made between `hello` and `welcome`: each ends an attach of `hello`. */
  #held: string[] = []
  #attempt = 0
  #retryAt = Infinity
  /** The server asked not to be called before (goaway). */
  #notBefore = 0
  /** The server is going away: leave it then, if it has not closed by itself. */
  #leaveAt = Infinity
  #connectBy = Infinity
  #welcomedAt = 0
  #heartbeatMs: number
  #heardAt = 0
  #heardWall = 0
  #pinged = false
  #probeBy = Infinity
  #unwatch: Undo | undefined
  #closed: PromiseWithResolvers<void> | undefined

  constructor(parts: ConnectionParts, owner: ConnectionOwner) {
    this.#parts = parts
    this.#owner = owner
    this.url = parts.url
    this.#heartbeatMs = parts.limits.heartbeatMs
  }

  get status(): Status {
    return this.#status
  }

  get welcomed(): boolean {
    return this.#wire?.welcomed === true
  }

  /** Whether the socket takes more; if only its buffer is in the way, the alarm is set. */
  canSend(): boolean {
    const socket = this.#wire?.socket
    if (!socket || !this.#wire?.welcomed) return false
    const { limits, clock, alarm } = this.#parts
    if (socket.buffered() <= limits.bufferCharsMax) return true
    alarm.at(clock.mono() + limits.bufferPauseMs)
    return false
  }

  send(text: string): void {
    if (this.#wire?.welcomed) this.#wire.socket?.send(text)
    else if (this.#wire) this.#held.push(text)
  }

  /** Connects, if it is not connected or on its way. */
  start(): void {
    if (this.#status !== "idle" && this.#status !== "failed") return
    this.#attempt = 0
    this.#to("connecting")
    this.#openAs("connecting")
  }

  switchTo(url: string): void {
    this.url = url
    if (this.#status === "idle" || this.#status === "closed") return
    this.#attempt = 0
    this.#notBefore = 0
    this.#abandon(1000, "moving")
    this.#to("moving")
    this.#openAs("moving")
  }

  close(): Promise<void> {
    if (this.#closed) return this.#closed.promise
    const { clock, limits } = this.#parts
    const done = (this.#closed = Promise.withResolvers<void>())
    this.#last = this.#wire
    if (this.#last?.socket) {
      const undo = clock.after(limits.closeMsMax, done.resolve)
      void done.promise.then(undo)
    } else done.resolve()
    this.#abandon(1000, "closed")
    this.#unwatch?.()
    this.#to("closed")
    return done.promise
  }

  sweep(now: number): void {
    const { alarm } = this.#parts
    if (this.#wire?.welcomed) {
      if (now >= this.#leaveAt) return this.#lose(1000, "the server goes away", true)
      alarm.at(this.#leaveAt)
      this.#beat(now)
    } else if (this.#wire) {
      if (now >= this.#connectBy) this.#lose(1000, "no welcome in time")
      else alarm.at(this.#connectBy)
    } else if (now >= this.#retryAt) this.#open()
    else alarm.at(this.#retryAt)
  }

  #to(to: Status): void {
    const from = this.#status
    if (from === to) return
    if (!mayFollow[from].includes(to))
      throw new SojournError("INVARIANT", `a client that is ${from} cannot become ${to}`)
    this.#status = to
    const wire = to === "connected" ? this.#wire : undefined
    const helloMs = wire && this.#welcomedAt - wire.helloAt
    this.#owner.status({ from, to, pop: this.pop, url: this.url, ...(helloMs === undefined ? {} : { helloMs }) })
  }

  /** A listener of the status may have decided otherwise meanwhile. */
  #openAs(status: Status): void {
    if (this.#status === status && !this.#wire) this.#open()
  }

  #open(): void {
    const { clock, limits, token, alarm, page } = this.#parts
    this.#unwatch ??= page.watch(() => this.#look())
    this.#retryAt = Infinity
    this.#leaveAt = Infinity
    this.#held = []
    const wire: Wire = { socket: undefined, welcomed: false, helloAt: 0 }
    this.#wire = wire
    this.#connectBy = clock.mono() + limits.connectMsMax
    alarm.at(this.#connectBy)
    const refused = (cause: unknown): void => {
      if (wire !== this.#wire) return
      this.#owner.error(
        new SojournError("UNAUTHORIZED", "the token function failed; connecting is tried again", {
          cause,
          retry: "later",
        }),
      )
      this.#lose(1000, "no token")
    }
    try {
      const got = typeof token === "function" ? token() : token
      if (typeof got === "object") got.then((text) => this.#dial(wire, text), refused)
      else this.#dial(wire, got)
    } catch (cause) {
      refused(cause)
    }
  }

  #dial(wire: Wire, token: string | undefined): void {
    if (wire !== this.#wire) return
    const { socket, protocol, ticketPrefix, clock } = this.#parts
    const ticket = this.#owner.upgradeTicket()
    const protocols = ticket === undefined ? [protocol] : [protocol, ticketPrefix + ticket]
    try {
      wire.socket = socket(`${this.url.replace(/^http/, "ws").replace(/\/+$/, "")}/v1/connect`, protocols, {
        open: () => {
          if (wire !== this.#wire) return
          wire.helloAt = clock.mono()
          wire.socket?.send(this.#owner.hello(token))
        },
        message: (data) => {
          if (wire === this.#wire) this.#message(wire, data)
        },
        closed: (code, reason) => {
          if (wire === this.#last) this.#closed?.resolve()
          if (wire === this.#wire) this.#ended(code, reason)
        },
      })
    } catch (cause) {
      // A URL that is none, or no WebSocket here: trying again would not help.
      const why = new SojournError("BAD_CONFIG", `no socket to ${JSON.stringify(this.url)} can be opened`, { cause })
      this.#fail(cause instanceof SojournError ? cause : why)
    }
  }

  #message(wire: Wire, data: string): void {
    const { clock } = this.#parts
    this.#heardAt = clock.mono()
    this.#heardWall = clock.now()
    this.#pinged = false
    this.#probeBy = Infinity
    try {
      const frame = JSON.parse(data) as ServerFrame
      if (frame.t === "ping") wire.socket?.send(frame.n === undefined ? `{"t":"pong"}` : `{"t":"pong","n":${frame.n}}`)
      else if (frame.t === "goaway") {
        this.#leaveAt = this.#notBefore = this.#heardAt + Math.max(0, frame.retryAfterMs)
        this.#parts.alarm.at(this.#leaveAt)
      } else if (frame.t === "welcome") {
        if (!wire.welcomed) this.#welcome(wire, frame)
      } else if (frame.t !== "pong" && wire.welcomed) this.#owner.frame(frame)
    } catch (cause) {
      this.#owner.error(
        new SojournError("BAD_FRAME", "a frame of the server cannot be read; connecting again", { cause }),
      )
      if (wire === this.#wire) this.#lose(1000, "bad frame")
    }
  }

  #welcome(wire: Wire, frame: Extract<ServerFrame, { t: "welcome" }>): void {
    wire.welcomed = true
    this.connects++
    this.#connectBy = Infinity
    this.#notBefore = 0
    this.#welcomedAt = this.#heardAt
    this.pop = frame.pop
    if (frame.heartbeatMs > 0) this.#heartbeatMs = frame.heartbeatMs
    this.#parts.alarm.at(this.#heardAt + this.#heartbeatMs)
    for (const text of this.#held.splice(0)) wire.socket?.send(text)
    // What waited goes before anything that a listener of the status sends.
    this.#owner.welcome(frame)
    if (wire === this.#wire) this.#to("connected")
  }

  #beat(now: number): void {
    const { clock, alarm } = this.#parts
    const silence = Math.max(now - this.#heardAt, clock.now() - this.#heardWall)
    if (silence >= 2 * this.#heartbeatMs || now >= this.#probeBy)
      return this.#lose(CLOSE_CODES.HEARTBEAT[0], "nothing was heard")
    if (silence >= this.#heartbeatMs && !this.#pinged) this.#ping()
    alarm.at(Math.min(this.#probeBy, this.#heardAt + (this.#pinged ? 2 : 1) * this.#heartbeatMs))
  }

  #ping(): void {
    this.#pinged = true
    this.send(`{"t":"ping"}`)
  }

  /** The page was shown or hidden, or the network came back. */
  #look(): void {
    const { clock, limits, page, alarm } = this.#parts
    const now = clock.mono()
    if (this.#status === "closed" || this.#status === "failed") return
    if (this.#wire?.welcomed) {
      if (page.hidden()) return
      // The socket may be dead without knowing; after a sleep this also finds the silence itself.
      this.#probeBy = Math.min(this.#probeBy, now + limits.probeMs)
      this.#ping()
      this.#beat(now)
    } else if (!this.#wire && this.#status !== "idle") {
      if (page.hidden()) {
        this.#retryAt = Infinity
        this.#to("suspended")
      } else {
        this.#attempt = 0
        this.#to("reconnecting")
        if (now >= this.#notBefore) this.#openAs("reconnecting")
        else alarm.at((this.#retryAt = this.#notBefore))
      }
    }
  }

  /** The other side ended the socket. */
  #ended(code: number, reason: string): void {
    if (reconnects(code)) return this.#lose(undefined, reason)
    const name = closeCodeOf(code)
    const message = `the server closed the connection for good: ${code} ${name ?? ""} ${reason}`.trim()
    this.#fail(
      new SojournError(name ? CLOSE_CODES[name][1] : "UNAUTHORIZED", message, { details: { closeCode: code } }),
    )
  }

  /** This socket is of no more use: another one is tried, at once or after a pause. `code`: close it, the other side has not. */
  #lose(code: number | undefined, reason: string, atOnce = false): void {
    const { clock, limits, chance, page, alarm } = this.#parts
    const now = clock.mono()
    if (this.#wire?.welcomed && now - this.#welcomedAt >= limits.stableMs) this.#attempt = 0
    const hidden = page.hidden()
    const delay = atOnce ? 0 : retryDelayMs(this.#attempt++, chance, limits)
    this.#abandon(code, reason)
    this.#to(hidden ? "suspended" : "reconnecting")
    // A listener of the status may have moved on.
    if (this.#wire || (this.#status !== "reconnecting" && this.#status !== "suspended")) return
    this.#retryAt = hidden ? Infinity : Math.max(now + delay, this.#notBefore)
    alarm.at(this.#retryAt)
  }

  #fail(error: SojournError): void {
    this.#abandon(1000, "failed")
    this.#unwatch?.()
    this.#unwatch = undefined
    this.#owner.failed(error)
    this.#to("failed")
  }

  #abandon(code: number | undefined, reason: string): void {
    const wire = this.#wire
    this.#wire = undefined
    this.#retryAt = this.#connectBy = this.#leaveAt = this.#probeBy = Infinity
    this.#pinged = false
    this.#held = []
    if (code !== undefined) wire?.socket?.close(code, reason)
    this.#owner.lost()
  }
}
