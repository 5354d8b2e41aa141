import {
  CLOSE_CODES,
  SUBPROTOCOL,
  SojournError,
  TICKET_PREFIX,
  closeCodeOf,
  frameSeparator,
  reconnects,
  type Chance,
  type ClientFrame,
  type Clock,
  type ServerFrame,
  type Undo,
} from "@sojourn/protocol"
import type { Alarm } from "./alarm.ts"
import { retryDelayMs } from "./backoff.ts"
import { BatchedSocket } from "./batched-socket.ts"
import type { ClientLimits } from "./limits.ts"
import type { ClientEvents, Page, SocketFactory, Status } from "./types.ts"

/**
 * The sockets, and the status. An attempt is: token function, socket, `hello`, `welcome`, within `connectMsMax`. Whatever a superseded
 * socket still says is ignored. Nothing but `hello` is sent before `welcome`.
 *
 * Make before break: while a welcomed socket is there, the way to another POP (`switchTo`, `goaway`) begins with a second socket.
 *
 * - `wire`: everything is sent on it. It may be one that is not welcomed yet, if there is no other
 * - `next`: connecting while `wire` is in use. Welcomed → it is `wire`, and the one before is `former`. Failed → tried again after a
 *   pause, for as long as `wire` lives; refused for good → the client stays where it is
 * - `former`: nothing is sent on it any more; what it still says counts, until every attach was answered on `wire`. Then it is closed.
 *   `wire` lost before → it is `wire` again
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
  /** The ticket for the upgrade, and the first frame, made at the moment when it is sent. `attaching`: with the attaches that wait. */
  upgradeTicket(attaching: boolean): string | undefined
  hello(token: string | undefined, attaching: boolean): string
  /** Everything attached goes over to the new socket, whose `welcome` comes next. */
  handOver(): void
  welcome(frame: Extract<ServerFrame, { t: "welcome" }>): void
  frame(frame: ServerFrame): void
  /** The socket is gone, welcomed or not. */
  lost(): void
  failed(error: SojournError): void
  emit<K extends "status" | "error">(name: K, payload: ClientEvents[K]): void
}

export interface ConnectionParts {
  readonly urls: readonly string[]
  readonly token: string | (() => string | Promise<string>) | undefined
  readonly limits: ClientLimits
  readonly clock: Clock
  readonly chance: Chance
  readonly socket: SocketFactory
  readonly page: Page
  readonly alarm: Alarm
}

interface Wire {
  socket: BatchedSocket | undefined
  welcomed: boolean
  pop: string | undefined
  readonly url: string
  /** The number of the token that it has, of all that were asked for. */
  token: number
  readonly connectBy: number
  /** Monotonic ms of `hello` and of `welcome`. */
  helloAt: number
  welcomedAt: number
  heardAt: number
  heardWall: number
  pinged: boolean
  probeBy: number
  /** Frames made between `hello` and `welcome`: each ends an attach of `hello`. */
  readonly held: string[]
}

export class Connection {
  url: string
  pop: string | undefined
  connects = 0
  readonly #parts: ConnectionParts
  readonly #owner: ConnectionOwner
  /** The client's own, and behind them the last one that the app chose besides and that welcomed the client. */
  #urls: readonly string[]
  #status: Status = "idle"
  #wire: Wire | undefined
  #next: Wire | undefined
  #former: Wire | undefined
  /** Sockets that have not said that they are closed: `close` waits for them. */
  readonly #sockets = new Set<Wire>()
  #attempt = 0
  /** When that was 0 for the last time. */
  #lostAt = 0
  #tokens = 0
  /** When the next attempt begins: of `next`, if there is a `wire`. */
  #openAt = Infinity
  /** The server asked not to be called before (goaway). */
  #notBefore = 0
  /** The app chose `url` itself: only the loss of the connection leads to another. */
  #chosen = false
  #heartbeatMs: number
  #unwatch: Undo | undefined
  #closed: PromiseWithResolvers<void> | undefined

  constructor(parts: ConnectionParts, owner: ConnectionOwner) {
    this.#parts = parts
    this.#owner = owner
    this.#urls = parts.urls
    const [url] = parts.urls
    if (url === undefined) throw new TypeError("a client needs at least one url")
    this.url = url
    this.#heartbeatMs = parts.limits.heartbeatMs
  }

  get status(): Status {
    return this.#status
  }

  get welcomed(): boolean {
    return this.#wire?.welcomed === true
  }

  /** What frames are sent on, to tell one socket from another. */
  get wire(): object | undefined {
    return this.#wire
  }

  /** Whether an attempt is under way. */
  get #dialing(): boolean {
    return this.#next !== undefined || this.#wire?.welcomed === false
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
    else this.#wire?.held.push(text)
  }

  say(frame: ClientFrame): void {
    this.send(JSON.stringify(frame))
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
    this.#chosen = true
    if (this.#status === "idle" || this.#status === "closed") return
    this.#attempt = 0
    this.#notBefore = 0
    if (this.#wire?.welcomed) this.#dropNext()
    else this.#abandon("moving")
    this.#to("moving")
    this.#openAs("moving")
  }

  /** Presents a fresh token, unless one that was asked for later has been meanwhile: this one may be good no more. */
  async refreshToken(): Promise<void> {
    const { token } = this.#parts
    const asked = ++this.#tokens
    const text = typeof token === "function" ? await token() : token
    const wire = this.#wire
    if (text !== undefined && wire?.welcomed && asked > wire.token) {
      wire.token = asked
      this.say({ t: "token", token: text })
    }
  }

  /** Nothing is expected any more from the socket before. */
  settled(): void {
    this.#former?.socket?.close(1000, "moved")
    this.#former = undefined
  }

  close(): Promise<void> {
    if (this.#closed) return this.#closed.promise
    const { clock, limits } = this.#parts
    const done = (this.#closed = Promise.withResolvers<void>())
    if (this.#sockets.size > 0) {
      const undo = clock.after(limits.closeMsMax, done.resolve)
      void done.promise.then(undo)
    } else done.resolve()
    this.#abandon("closed")
    this.#unwatch?.()
    this.#to("closed")
    return done.promise
  }

  sweep(now: number): void {
    const { alarm } = this.#parts
    for (const wire of [this.#next, this.#wire])
      if (wire?.welcomed === false)
        if (now >= wire.connectBy) this.#lose(wire, 1000, "no welcome in time")
        else alarm.at(wire.connectBy)
    if (this.#wire?.welcomed) this.#beat(this.#wire, now)
    if (this.#dialing) return
    if (now < this.#openAt) return alarm.at(this.#openAt)
    this.#openAt = Infinity
    if (this.#wire) {
      this.#to("moving")
      this.#openAs("moving")
    } else this.#open()
  }

  #to(to: Status, helloMs?: number): void {
    const from = this.#status
    if (from === to) return
    if (!mayFollow[from].includes(to))
      throw new SojournError("INVARIANT", `a client that is ${from} cannot become ${to}`)
    this.#status = to
    this.#owner.emit("status", {
      from,
      to,
      pop: this.pop,
      url: this.url,
      ...(helloMs === undefined ? {} : { helloMs }),
    })
  }

  /** A listener of the status may have decided otherwise meanwhile. */
  #openAs(status: Status): void {
    if (this.#status === status && !this.#dialing) this.#open()
  }

  #open(): void {
    const { clock, limits, token, alarm, page } = this.#parts
    this.#unwatch ??= page.watch(() => this.#look())
    this.#openAt = Infinity
    const wire: Wire = {
      socket: undefined,
      welcomed: false,
      pop: undefined,
      url: this.url,
      token: ++this.#tokens,
      connectBy: clock.mono() + limits.connectMsMax,
      helloAt: 0,
      welcomedAt: 0,
      heardAt: 0,
      heardWall: 0,
      pinged: false,
      probeBy: Infinity,
      held: [],
    }
    if (this.#wire) this.#next = wire
    else this.#wire = wire
    alarm.at(wire.connectBy)
    const refused = (cause: unknown): void => {
      if (!this.#uses(wire)) return
      this.#owner.emit(
        "error",
        new SojournError("UNAUTHORIZED", "the token function failed; connecting is tried again", {
          cause,
          retry: "later",
        }),
      )
      if (this.#uses(wire)) this.#lose(wire, 1000, "no token")
    }
    try {
      const got = typeof token === "function" ? token() : token
      if (typeof got === "object") got.then((text) => this.#dial(wire, text), refused)
      else this.#dial(wire, got)
    } catch (cause) {
      refused(cause)
    }
  }

  #uses(wire: Wire): boolean {
    return wire === this.#wire || wire === this.#next || wire === this.#former
  }

  #dial(wire: Wire, token: string | undefined): void {
    if (!this.#uses(wire)) return
    const { socket, clock } = this.#parts
    const ticket = this.#owner.upgradeTicket(wire === this.#wire)
    const protocols = ticket === undefined ? [SUBPROTOCOL] : [SUBPROTOCOL, TICKET_PREFIX + ticket]
    try {
      if (/[?#]|\/v1\/connect\/*$/.test(this.url))
        throw new SojournError("BAD_CONFIG", `${this.url}: a POP's url has no query; the client adds /v1/connect`)
      const port = socket(`${this.url.replace(/^http/, "ws").replace(/\/+$/, "")}/v1/connect`, protocols, {
        open: () => {
          if (!this.#uses(wire)) return
          wire.helloAt = clock.mono()
          // What is attached on another socket stays there until this one is welcomed: so no call waits for a handshake.
          wire.socket?.send(this.#owner.hello(token, wire === this.#wire))
        },
        message: (data) => {
          this.#message(wire, data)
        },
        closed: (code, reason) => {
          this.#sockets.delete(wire)
          if (this.#sockets.size === 0) this.#closed?.resolve()
          if (this.#uses(wire)) this.#ended(wire, code, reason)
        },
      })
      wire.socket = new BatchedSocket(port, (cause) => {
        if (this.#uses(wire)) this.#lose(wire, 1000, String(cause))
      })
      this.#sockets.add(wire)
    } catch (cause) {
      // A URL that is none, or no WebSocket here: trying again would not help.
      const why = new SojournError("BAD_CONFIG", `no socket to ${JSON.stringify(this.url)} can be opened`, { cause })
      this.#refused(wire, cause instanceof SojournError ? cause : why)
    }
  }

  #message(wire: Wire, data: string): void {
    const { clock } = this.#parts
    wire.heardAt = clock.mono()
    wire.heardWall = clock.now()
    wire.pinged = false
    wire.probeBy = Infinity
    try {
      // One of them may have ended the use of this socket.
      for (const text of data.split(frameSeparator))
        if (this.#uses(wire)) this.#frame(wire, JSON.parse(text) as ServerFrame)
    } catch (cause) {
      this.#owner.emit(
        "error",
        new SojournError("BAD_FRAME", "a frame of the server cannot be read; connecting again", { cause }),
      )
      if (this.#uses(wire)) this.#lose(wire, 1000, "bad frame")
    }
  }

  #frame(wire: Wire, frame: ServerFrame): void {
    if (frame.t === "ping") wire.socket?.send(JSON.stringify({ t: "pong", n: frame.n }))
    else if (frame.t === "goaway") {
      if (wire === this.#wire) this.#goAway(Math.max(0, frame.retryAfterMs) || 0)
    } else if (frame.t === "welcome") {
      if (!wire.welcomed) this.#welcome(wire, frame)
    } else if (frame.t !== "pong" && wire.welcomed) this.#owner.frame(frame)
  }

  /** The server closes this socket after `ms`: another is opened before, at a moment of its own, so that not all come at once. */
  #goAway(ms: number): void {
    const { clock, chance, alarm } = this.#parts
    const now = clock.mono()
    this.#notBefore = now + ms
    if (this.#dialing || this.#openAt < Infinity) return
    this.#chosen = false
    this.#turn()
    this.#attempt = 0
    alarm.at((this.#openAt = now + chance.random() * ms))
  }

  /** On to the next URL. */
  #turn(): void {
    const urls = this.#urls
    this.url = urls[(urls.indexOf(this.url) + 1) % urls.length] ?? this.url
  }

  #welcome(wire: Wire, frame: Extract<ServerFrame, { t: "welcome" }>): void {
    wire.welcomed = true
    wire.socket?.batch.takes(frame.batch)
    this.connects++
    this.#notBefore = 0
    if (!this.#urls.includes(wire.url)) this.#urls = [...this.#parts.urls, wire.url]
    wire.welcomedAt = wire.heardAt
    this.pop = wire.pop = frame.pop
    if (frame.heartbeatMs > 0) this.#heartbeatMs = frame.heartbeatMs
    this.#parts.alarm.at(wire.heardAt + this.#heartbeatMs)
    if (wire === this.#next) {
      this.settled()
      this.#former = this.#wire
      this.#wire = wire
      this.#next = undefined
      this.#owner.handOver()
    }
    for (const text of wire.held.splice(0)) wire.socket?.send(text)
    // What waited goes before anything that a listener of the status sends.
    this.#owner.welcome(frame)
    if (wire === this.#wire && !this.#dialing) this.#to("connected", wire.welcomedAt - wire.helloAt)
  }

  #beat(wire: Wire, now: number): void {
    const { clock, alarm } = this.#parts
    const silence = Math.max(now - wire.heardAt, clock.now() - wire.heardWall)
    if (silence >= 2 * this.#heartbeatMs || now >= wire.probeBy)
      return this.#lose(wire, CLOSE_CODES.HEARTBEAT[0], "nothing was heard")
    if (silence >= this.#heartbeatMs && !wire.pinged) this.#ping(wire)
    alarm.at(Math.min(wire.probeBy, wire.heardAt + (wire.pinged ? 2 : 1) * this.#heartbeatMs))
  }

  #ping(wire: Wire): void {
    wire.pinged = true
    wire.socket?.send(`{"t":"ping"}`)
  }

  /** The page was shown or hidden, or the network came back. */
  #look(): void {
    const { clock, limits, page, alarm } = this.#parts
    const now = clock.mono()
    const wire = this.#wire
    if (this.#status === "closed" || this.#status === "failed") return
    if (wire?.welcomed) {
      if (page.hidden()) return
      // The socket may be dead without knowing; after a sleep this also finds the silence itself.
      wire.probeBy = Math.min(wire.probeBy, now + limits.probeMs)
      this.#ping(wire)
      this.#beat(wire, now)
      this.#openAs("moving")
    } else if (!wire && this.#status !== "idle") {
      if (page.hidden()) {
        this.#openAt = Infinity
        this.#to("suspended")
      } else {
        this.#attempt = 0
        this.#to("reconnecting")
        if (now >= this.#notBefore) this.#openAs("reconnecting")
        else alarm.at((this.#openAt = this.#notBefore))
      }
    }
  }

  /** The other side ended the socket. */
  #ended(wire: Wire, code: number, reason: string): void {
    if (reconnects(code) || wire === this.#former || (wire === this.#wire && this.#next))
      return this.#lose(wire, undefined, reason)
    const name = closeCodeOf(code)
    const message = `the server closed the connection for good: ${code} ${name ?? ""} ${reason}`.trim()
    this.#refused(
      wire,
      new SojournError(name ? CLOSE_CODES[name][1] : "UNAUTHORIZED", message, { details: { closeCode: code } }),
    )
  }

  /** This socket is of no more use: another one is tried after a pause. `code`: close it, the other side has not. */
  #lose(wire: Wire, code: number | undefined, reason: string): void {
    const { clock, limits, chance, page, alarm } = this.#parts
    const now = clock.mono()
    if (code !== undefined) wire.socket?.close(code, reason)
    if (wire === this.#former) {
      this.#former = undefined
      return
    }
    if (wire.welcomed) {
      if (now - wire.welcomedAt >= limits.stableMs) this.#attempt = 0
    } else if (wire === this.#wire || !this.#chosen) this.#turn()
    if (wire === this.#next) this.#next = undefined
    else this.#fallBack()
    if (this.#dialing) return
    const hidden = page.hidden()
    const attempt = this.#attempt
    if (attempt === 0) this.#lostAt = now
    // Trying that costs nobody anything does not count.
    const unheard = !this.#wire && code === undefined && wire.helloAt === 0
    const delay = retryDelayMs(attempt, chance, limits, unheard ? now - this.#lostAt : undefined)
    if (!unheard || attempt === 0) this.#attempt++
    const status = this.#wire ? "moving" : hidden ? "suspended" : "reconnecting"
    this.#to(status)
    // A listener of the status may have moved on.
    if (this.#dialing || this.#status !== status) return
    this.#openAt = hidden ? Infinity : Math.max(now + delay, this.#wire ? 0 : this.#notBefore)
    alarm.at(this.#openAt)
  }

  /** Trying again would give the same. Whoever is connected stays so. */
  #refused(wire: Wire, error: SojournError): void {
    if (wire === this.#next || this.#former) {
      if (wire === this.#next) this.#next = undefined
      else this.#fallBack()
      if (this.#wire && this.url === wire.url) {
        this.url = this.#wire.url
        this.#chosen = false
      }
      this.#owner.emit("error", error)
      if (!this.#dialing && this.#wire) this.#to("connected")
      return
    }
    this.#abandon("failed")
    this.#unwatch?.()
    this.#unwatch = undefined
    this.#owner.failed(error)
    this.#to("failed")
    this.#owner.emit("error", error)
  }

  /** The socket in use is gone: what is there besides takes its place. */
  #fallBack(): void {
    this.#wire = this.#former ?? this.#next
    if (!this.#former) this.#next = undefined
    this.#former = undefined
    this.pop = this.#wire?.pop ?? this.pop
    this.#owner.lost()
  }

  #dropNext(): void {
    this.#next?.socket?.close(1000, "moving")
    this.#next = undefined
    this.#openAt = Infinity
  }

  #abandon(reason: string): void {
    const wire = this.#wire
    this.#wire = undefined
    this.#dropNext()
    this.settled()
    wire?.socket?.close(1000, reason)
    this.#owner.lost()
  }
}
