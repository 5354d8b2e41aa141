import { SojournError, frameLimits, ticketCharsMax, type Chance, type Clock, type ServerFrame } from "@sojourn/protocol"
import { Alarm } from "./alarm.ts"
import { ambientChance, ambientClock, ambientPage, ambientSocket } from "./ambient.ts"
import { retryDelayMs } from "./backoff.ts"
import { Connection, type ConnectionOwner } from "./connection.ts"
import { Emitter } from "./emitter.ts"
import { anyName, createHandle } from "./handle.ts"
import { withLimits, type ClientLimits } from "./limits.ts"
import { Link, clientClosed, listenerThrew, withOutcome, type LinkHost } from "./link.ts"
import { Tickets } from "./tickets.ts"
import type {
  ActorHandle,
  ActorShape,
  AppShape,
  Client,
  ClientEvents,
  ClientMembers,
  ClientOptions,
  Status,
  TicketHint,
} from "./types.ts"

/** What all actors of a client share: the connection, the session ids, the hints, the only timer. */
interface Entry {
  readonly link: Link
  readonly handle: ActorHandle<ActorShape>
}

class Core implements LinkHost, ConnectionOwner {
  readonly limits: ClientLimits
  readonly clock: Clock
  readonly counts = { attaches: 0, resent: 0, gaps: 0, duplicates: 0 }
  readonly emitter: Emitter
  readonly connection: Connection
  readonly tickets: Tickets
  principal: string | undefined
  refusal: SojournError | undefined
  readonly #options: ClientOptions
  readonly chance: Chance
  readonly #alarm: Alarm
  /** Those that have a place: all that are wanted, and some that were. */
  readonly #links = new Map<string, Entry>()
  /** The others, as long as an app holds their handles. */
  readonly #unplaced = new Map<string, WeakRef<Entry>>()
  readonly #channels = new Map<number, Link>()
  #lastChannel = 0
  /** The last channel of the socket before: it is closed once none of its channels is open. */
  #formerChannel = 0
  #uses = 0
  #spares: string[] = []
  /** Session ids that were asked for and have not come. */
  #asking = false
  #waking = false
  #telling = false
  #clientId: string | undefined

  constructor(options: ClientOptions) {
    this.#options = options
    this.limits = withLimits(options.limits)
    this.clock = options.clock ?? ambientClock()
    this.chance = options.chance ?? ambientChance()
    this.#alarm = new Alarm(this.clock, (now) => this.#sweep(now))
    this.tickets = new Tickets(this.limits.ticketsMax, options.storage)
    this.emitter = new Emitter((cause) => {
      // A listener of errors that throws has nobody left to tell.
      if (!this.#telling) this.emit("error", listenerThrew(cause, {}))
    })
    this.connection = new Connection(
      {
        urls: typeof options.url === "string" ? [options.url] : options.url,
        token: options.token,
        limits: this.limits,
        clock: this.clock,
        chance: this.chance,
        socket: options.socket ?? ambientSocket,
        page: options.page ?? ambientPage(),
        alarm: this.#alarm,
      },
      this,
    )
  }

  handle(name: string, key: string): ActorHandle<ActorShape> {
    if (typeof key !== "string" || key === "") throw new TypeError("an actor's key must be a string that is not empty")
    const id = `${name}/${key}`
    let entry = this.#links.get(id) ?? this.#unplaced.get(id)?.deref()
    if (!entry) {
      this.#makeRoom()
      const link = new Link(this, name, key)
      const handle = createHandle(
        link,
        () => this.tickets.get(id),
        () => link.release(),
      )
      link.entry = entry = { link, handle }
      this.#setAside(entry)
    }
    return entry.handle
  }

  /** An app that has let go of the handle has let go of it all. */
  #setAside(entry: Entry): void {
    if (this.#unplaced.size >= this.limits.actorsMax)
      for (const [id, ref] of this.#unplaced) if (!ref.deref()) this.#unplaced.delete(id)
    this.#unplaced.set(entry.link.id, new WeakRef(entry))
  }

  #makeRoom(): void {
    if (this.#links.size < this.limits.actorsMax) return
    for (const [id, entry] of this.#links)
      if (!entry.link.wanted) {
        this.#links.delete(id)
        this.#setAside(entry)
        return
      }
    throw new SojournError(
      "RATE_LIMITED",
      `this client has ${this.#links.size} actors open (limits.actorsMax); close some handles`,
    )
  }

  connect(): void {
    if (this.connection.status === "closed") throw clientClosed("not-executed")
    this.refusal = undefined
    this.connection.start()
  }

  switchTo(url: string): void {
    if (this.connection.status === "closed") throw clientClosed("not-executed")
    this.refusal = undefined
    this.connection.switchTo(url)
  }

  close(): Promise<void> {
    if (this.connection.status !== "closed") {
      this.refusal = clientClosed("not-executed")
      for (const { link } of this.#links.values()) link.release()
      this.#alarm.cancel()
    }
    return this.connection.close()
  }

  // For links.

  alarmAt(mono: number): void {
    if (!this.refusal) this.#alarm.at(mono)
  }

  /** At the end of the present turn of the event loop, so that what an app does together is attached together. */
  wake(): void {
    if (this.#waking) return
    this.#waking = true
    void Promise.resolve().then(() => {
      this.#waking = false
      if (this.refusal) return
      this.connection.start()
      this.#attachWaiting()
    })
  }

  place(link: Link): number {
    if (!this.#links.has(link.id)) {
      this.#makeRoom()
      this.#links.set(link.id, link.entry as Entry)
      this.#unplaced.delete(link.id)
    }
    return ++this.#uses
  }

  openChannel(link: Link): number {
    this.#channels.set(++this.#lastChannel, link)
    return this.#lastChannel
  }

  shutChannel(ch: number): void {
    this.#channels.delete(ch)
    this.#settle()
  }

  /** Channels were opened in the order in which the map has them. */
  #settle(): void {
    if (this.#formerChannel === 0 || (this.#channels.keys().next().value ?? Infinity) <= this.#formerChannel) return
    this.#formerChannel = 0
    this.connection.settled()
  }

  dropSpares(): void {
    this.#spares = []
  }

  spareSession(): string | undefined {
    return this.#spares.shift()
  }

  hint(link: Link): string | undefined {
    const { ticketFor } = this.#options
    let ticket = this.tickets.get(link.id)
    try {
      if (ticketFor) ticket = ticketFor(link.actor, ticket)
    } catch (cause) {
      // Told when what is being sent has been: a listener may do anything.
      queueMicrotask(() => this.emit("error", listenerThrew(cause, { actor: link.actor })))
    }
    return typeof ticket === "string" && ticket.length <= ticketCharsMax ? ticket : undefined
  }

  keepTicket(link: Link, ticket: string): void {
    if (typeof ticket === "string") this.tickets.set(link.id, ticket)
  }

  retryDelayMs(attempt: number): number {
    return retryDelayMs(attempt, this.chance, this.limits)
  }

  emit<K extends keyof ClientEvents>(name: K, payload: ClientEvents[K]): void {
    const outer = this.#telling
    this.#telling ||= name === "error"
    this.emitter.emit(name, payload)
    this.#telling = outer
  }

  // For the connection.

  upgradeTicket(attaching: boolean): string | undefined {
    for (const link of this.#byUse(!attaching)) {
      const ticket = this.hint(link)
      // Only what may be a subprotocol's name (RFC 9110 §5.6.2); a socket refuses others by throwing.
      if (ticket !== undefined && /^[\w!#$%&'*+.^`|~-]+$/.test(ticket)) return ticket
    }
    return undefined
  }

  hello(token: string | undefined, attaching: boolean): string {
    this.#clientId ??= (this.#options.clientId ?? this.chance.id()).slice(0, 64)
    const { batchCharsMax: batch } = frameLimits
    const text = JSON.stringify({ t: "hello", client: this.#clientId, token, batch }).slice(0, -1)
    const attaches: string[] = []
    // `,"attach":[]}`; then braces and a comma for each.
    let room = frameLimits.helloCharsMax - text.length - 14
    for (const link of attaching ? this.#byUse().slice(0, frameLimits.attachesPerHelloMax) : []) {
      const attach = link.beginAttach(room - 3)
      if (attach === undefined) continue
      attaches.push(`{${attach}}`)
      room -= attach.length + 3
    }
    return attaches.length > 0 ? `${text},"attach":[${attaches.join()}]}` : `${text}}`
  }

  handOver(): void {
    this.#formerChannel = this.#lastChannel
    for (const { link } of this.#links.values()) link.handOver()
  }

  welcome(frame: Extract<ServerFrame, { t: "welcome" }>): void {
    const before = this.principal
    this.principal = frame.principal
    this.#spares = spares(frame.sessions)
    this.#asking = false
    if (before !== undefined && before !== frame.principal) {
      const error = new SojournError(
        "UNAUTHORIZED",
        `the call was made as ${before}; the connection is ${frame.principal}'s now`,
      )
      this.tickets.clear()
      for (const { link } of this.#links.values()) link.disown(error)
    }
    for (const { link } of this.#links.values()) link.pump()
    this.#attachWaiting()
    this.#settle()
  }

  frame(f: ServerFrame): void {
    if (f.t === "error") return this.#serverError(SojournError.fromWire(f.err))
    if (f.t === "sessions") {
      // None means that the server has none to give: asking again at once would only repeat it.
      this.#asking = f.sessions.length === 0
      this.#spares = spares([...this.#spares, ...f.sessions])
      return this.#attachWaiting()
    }
    if (!("ch" in f)) return
    // Frames of an earlier attach name a channel that is shut.
    const link = this.#channels.get(f.ch)
    if (!link) return
    // They are said again to whoever is next: what is no number would be, however deep it nests.
    for (const key of ["c", "e", "last", "q", "r"])
      if (typeof ((f as unknown as Record<string, unknown>)[key] ?? 0) !== "number") throw new TypeError(key)
    if (f.ch === link.trail) return link.onTrail(f)
    switch (f.t) {
      case "reply":
        return link.onReply(f)
      case "out":
        return link.onOut(f)
      case "answer":
        return link.onAnswer(f)
      case "attached":
        return link.onAttached(f)
      case "moved":
        return link.onMoved(f)
      case "detached":
        return link.onDetached(SojournError.fromWire(f.err))
    }
  }

  lost(): void {
    for (const { link } of this.#links.values()) link.lost()
    // Another socket may be in use already.
    if (this.connection.welcomed) this.wake()
  }

  failed(error: SojournError): void {
    this.refusal = withOutcome(error, "not-executed")
    this.#alarm.cancel()
    for (const { link } of this.#links.values()) link.reject(error)
  }

  #serverError(error: SojournError): void {
    this.emit("error", error)
    // The token expires while the connection lives: a fresh one goes in band.
    if (error.code === "UNAUTHORIZED")
      void this.connection
        .refreshToken()
        .catch((cause: unknown) =>
          this.emit("error", new SojournError("UNAUTHORIZED", "the token function failed", { cause, retry: "later" })),
        )
  }

  #attachWaiting(): void {
    if (!this.connection.welcomed) return
    const now = this.clock.mono()
    let lacking = 0
    for (const { link } of this.#links.values()) {
      if (!link.wantsAttach(now)) continue
      const attach = link.beginAttach(this.limits.frameCharsMax)
      if (attach === undefined) {
        lacking++
        continue
      }
      this.connection.send(`{"t":"attach",${attach}}`)
      link.pump()
    }
    if (lacking === 0 || this.#asking) return
    this.#asking = true
    this.connection.say({ t: "sessions", n: Math.min(lacking, frameLimits.sessionsPerAskMax) })
  }

  /** What wants an attach, or has one too (`all`), most recently used first. */
  #byUse(all = false): Link[] {
    const now = this.clock.mono()
    return [...this.#links.values()]
      .map(({ link }) => link)
      .filter((link) => (all ? link.wanted : link.wantsAttach(now)))
      .sort((a, b) => b.usedAt - a.usedAt)
  }

  #sweep(now: number): void {
    this.connection.sweep(now)
    for (const { link } of this.#links.values()) link.sweep(now)
    this.#attachWaiting()
  }
}

/**
 * A client of Sojourn: typed calls, events and live state of actors over one WebSocket. Connects at first use. A call is applied
 * exactly once and in order, whatever happens to the connection; what cannot be known is said so (`outcome`).
 *
 * @example
 * const client = createClient<App>({ url: "wss://edge.example.com", token: () => fetchToken() })
 * await client.cart.get("alice").add("book", 2)
 */
export function createClient<App extends AppShape = AppShape>(options: ClientOptions): Client<App> {
  const core = new Core(options)
  const get = (name: string, key: string): ActorHandle<ActorShape> => core.handle(name, key)
  const members: ClientMembers = {
    on: (name, listener) => core.emitter.on(name, listener),
    actor: get,
    get status(): Status {
      return core.connection.status
    },
    get url() {
      return core.connection.url
    },
    get pop() {
      return core.connection.pop
    },
    get principal() {
      return core.principal
    },
    get stats() {
      return { connects: core.connection.connects, ...core.counts }
    },
    connect: () => core.connect(),
    switchTo: (url) => core.switchTo(url),
    refreshToken: () => core.connection.refreshToken(),
    tickets: () => core.tickets.list(),
    setTickets: (hints: Iterable<TicketHint>) => {
      core.tickets.clear()
      for (const { actor, ticket } of hints) core.tickets.set(actor.join("/"), ticket)
    },
    forgetTickets: () => core.tickets.clear(),
    close: () => core.close(),
    // Runtimes that lack the symbol have no `await using` either.
    [Symbol.asyncDispose ?? Symbol.for("asyncDispose")]: () => core.close(),
  }
  return anyName(members, (name) => ({ get: (key: string) => get(name, key) })) as Client<App>
}

/** Of what a server gave as session ids, those that can be. */
function spares(ids: readonly string[]): string[] {
  return [...ids].filter((id) => typeof id === "string").slice(0, frameLimits.sessionsPerAskMax)
}
