import {
  SojournError,
  codec,
  frameLimits,
  framesIn,
  parseClientFrame,
  type AttachBody,
  type CallBody,
  type ClientFrame,
  type Encoded,
  type QueryBody,
  type ServerFrame,
  type WireError,
} from "@sojourn/protocol"
import type { SocketFactory, SocketReader } from "../types.ts"

/**
 * A small model of POPs as a client sees them: exactly-once sessions, a tail to resume from, moves. It says in a few lines what the
 * client may expect of a gateway. Frames wait in queues until `run` delivers them, so a test can cut between any two.
 */
interface Session {
  last: number
  readonly replies: Map<number, { ok?: Encoded; err?: WireError }>
}
interface Attach {
  readonly socket: FakeSocket
  readonly ch: number
  readonly sid: string
  readonly live: boolean
  /** Revision named by the frame before. */
  prev: number
}
interface Entry {
  readonly r: number
  readonly ev: [string, Encoded][]
  readonly pt: Encoded
}
export interface FakeActor {
  pop: string
  r: number
  list: unknown[]
  /** What was executed, by `session:number name(arguments)`. */
  readonly applied: string[]
  readonly sessions: Map<string, Session>
  readonly attaches: Set<Attach>
  tail: Entry[]
}

export class FakeSocket {
  readonly url: string
  readonly protocols: readonly string[]
  /** Every frame that the client sent, parsed as a gateway would. */
  readonly frames: ClientFrame[] = []
  readonly texts: string[] = []
  /** Of how many frames each message of the client was. */
  readonly counts: number[] = []
  readonly #reader: SocketReader
  readonly #world: FakeWorld
  #in: string[] = []
  #out: string[] = []
  #state: "connecting" | "open" | "closed" = "connecting"
  #welcomed = false
  #principal = ""
  readonly #attaches = new Map<number, Attach>()
  closedBy: "client" | "server" | undefined
  closeCode = 0
  buffered = 0
  /** Frames to the client wait while it is true. */
  held = false

  constructor(world: FakeWorld, url: string, protocols: readonly string[], reader: SocketReader) {
    this.#world = world
    this.url = url
    this.protocols = protocols
    this.#reader = reader
  }

  get isOpen(): boolean {
    return this.#state === "open"
  }
  get isClosed(): boolean {
    return this.#state === "closed"
  }

  fromClient(text: string): void {
    if (this.#state !== "open") throw new Error("the client sent on a socket that is not open")
    const frames = framesIn(text)
    this.counts.push(frames.length)
    this.#in.push(...frames)
  }

  /** What the client sends is lost from here on, and so is what it has not read. */
  cut(code = 1006, reason = ""): void {
    if (this.#state === "closed") return
    this.#end("server", code)
    this.#reader.closed(code, reason)
  }

  closeByClient(code: number): void {
    if (this.#state === "closed") return
    this.#end("client", code)
    if (!this.#world.stuck) void Promise.resolve().then(() => this.#reader.closed(code, ""))
  }

  #end(by: "client" | "server", code: number): void {
    this.#state = "closed"
    this.closedBy = by
    this.closeCode = code
    this.#in = []
    this.#out = []
    for (const attach of this.#attaches.values())
      for (const actor of this.#world.actors.values()) actor.attaches.delete(attach)
  }

  /** Delivers one frame each way, or all that wait for the client in one message where both take that; false if there was nothing to do. */
  step(): boolean {
    if (this.#state === "connecting") {
      if (this.#world.unreachable.has(this.url.replace("/v1/connect", ""))) this.cut(1006)
      else if (this.#world.stalled) return false
      else {
        this.#state = "open"
        this.#reader.open()
      }
      return true
    }
    const text = this.#in.shift()
    if (text !== undefined && !this.#world.deaf) this.#receive(text)
    const several = this.#welcomed && this.#world.batch !== undefined ? this.#out.length : 1
    const out = this.held || this.#out.length === 0 ? undefined : this.#out.splice(0, several).join("\n")
    if (out !== undefined) this.#reader.message(out)
    return text !== undefined || out !== undefined
  }

  /** The next frame reaches the client although others wait. */
  release(): void {
    const out = this.#out.shift()
    if (out !== undefined) this.#reader.message(out)
  }

  send(frame: ServerFrame): void {
    if (this.#state === "open") this.#out.push(JSON.stringify(frame))
  }

  sendText(text: string): void {
    this.#out.push(text)
  }

  /** A frame that was on its way when the socket was closed. */
  sayLate(frame: ServerFrame | string): void {
    this.#reader.message(typeof frame === "string" ? frame : JSON.stringify(frame))
  }

  #receive(text: string): void {
    this.texts.push(text)
    if (!this.#welcomed && text.length > frameLimits.helloCharsMax)
      throw new Error(`hello has ${text.length} characters`)
    const frame = parseClientFrame(text)
    if (!frame) return
    this.frames.push(frame)
    if (!this.#welcomed && frame.t !== "hello") throw new Error(`${frame.t} came before welcome`)
    switch (frame.t) {
      case "hello": {
        const principal = this.#world.principalOf(frame.token)
        if (principal === undefined) return this.cut(4502)
        this.#welcomed = true
        this.#principal = principal
        const sessions = Array.from({ length: this.#world.spares }, () => this.#world.mint(principal))
        const { batch } = this.#world
        this.send({
          t: "welcome",
          pop: this.pop,
          node: "n",
          sessions,
          heartbeatMs: 20_000,
          principal,
          ...(batch === undefined ? {} : { batch }),
        })
        for (const attach of frame.attach ?? []) this.#attach(attach)
        return
      }
      case "attach":
        return this.#attach(frame)
      case "call":
        return this.#call(frame.ch, frame)
      case "query":
        return this.#query(frame.ch, frame)
      case "detach":
        return this.#detach(frame.ch)
      case "sessions":
        return this.send({
          t: "sessions",
          sessions: Array.from({ length: frame.n }, () => this.#world.mint(this.#principal)),
        })
      case "ack":
        return this.#ack(frame.ch, frame.c)
      case "ping":
        return this.send({ t: "pong" })
      case "pong":
      case "token":
        return
    }
  }

  get pop(): string {
    return this.url.split("//")[1]?.split("/")[0] ?? ""
  }

  #attach(body: AttachBody): void {
    const world = this.#world
    const refusal = world.refuseAttach(body)
    if (refusal) return this.send({ t: "detached", ch: body.ch, err: refusal.toWire() })
    if (!body.sid.startsWith(`${this.#principal}-`) || world.forgotten.has(body.sid))
      return this.send({ t: "detached", ch: body.ch, err: new SojournError("SESSION_UNKNOWN").toWire() })
    const actor = world.actor(body.actor.join("/"))
    const from = actor.pop
    actor.pop = this.pop
    let session = actor.sessions.get(body.sid)
    const known = session !== undefined
    if (!session) actor.sessions.set(body.sid, (session = { last: 0, replies: new Map() }))
    session.last = Math.max(session.last, body.acked)
    for (const n of session.replies.keys()) if (n <= body.acked) session.replies.delete(n)
    for (const other of actor.attaches)
      if (other.sid === body.sid) {
        actor.attaches.delete(other)
        other.socket.evict(other)
      }
    const reaches =
      body.pos !== undefined &&
      body.pos <= actor.r &&
      (actor.r === body.pos || (actor.tail[0]?.r ?? Infinity) <= body.pos + 1)
    const resumed = reaches ? "replay" : known || body.pos !== undefined ? "snapshot" : "new"
    const attach: Attach = {
      socket: this,
      ch: body.ch,
      sid: body.sid,
      live: body.live,
      prev: reaches ? (body.pos ?? 0) : actor.r,
    }
    this.#attaches.set(body.ch, attach)
    actor.attaches.add(attach)
    this.send({
      t: "attached",
      ch: body.ch,
      sid: body.sid,
      pop: this.pop,
      e: 1,
      r: actor.r,
      resumed,
      last: session.last,
      ticket: `${body.actor.join(".")}.${this.pop}.${actor.r}`,
      ...(body.live && !reaches ? { state: world.stateOf(actor.list) } : {}),
      ...(from === this.pop || from === ""
        ? {}
        : {
            move: {
              from,
              to: this.pop,
              epoch: 1,
              by: "ticket" as const,
              hops: 1,
              bytes: 10,
              fetchMs: 1,
              durableMs: 1,
              early: false,
            },
          }),
    })
    if (reaches) for (const entry of actor.tail.filter((e) => e.r > (body.pos ?? 0))) this.#emit(attach, entry)
    for (const call of body.calls ?? []) this.#call(body.ch, call)
    for (const query of body.queries ?? []) this.#query(body.ch, query)
  }

  #emit(attach: Attach, entry: Entry): void {
    const { r } = entry
    this.send({ t: "out", ch: attach.ch, r, prev: attach.prev, ev: entry.ev, ...(attach.live ? { pt: entry.pt } : {}) })
    attach.prev = r
  }

  #find(ch: number): { attach: Attach; actor: FakeActor; session: Session } | undefined {
    const attach = this.#attaches.get(ch)
    for (const actor of this.#world.actors.values()) {
      const session = attach && actor.attaches.has(attach) ? actor.sessions.get(attach.sid) : undefined
      if (attach && session) return { attach, actor, session }
    }
    return undefined
  }

  #call(ch: number, call: CallBody): void {
    // A call for an attach that ended is ignored: the client sends it again with the next.
    const found = this.#find(ch)
    if (!found) return
    const { actor, session, attach } = found
    const reply = (body: { ok?: Encoded; err?: WireError }): void =>
      this.send({ t: "reply", ch, c: call.c, r: actor.r, ...body })
    if (call.c <= session.last) {
      const kept = session.replies.get(call.c)
      if (kept) reply(kept)
      return
    }
    if (call.c !== session.last + 1) return reply({ err: new SojournError("CALL_ORDER").toWire() })
    const refusal = this.#world.refuseCall(call)
    if (refusal) return reply({ err: refusal.toWire() })
    session.last = call.c
    if (session.replies.size >= 256) throw new Error("the client is more than 256 replies ahead")
    if (call.skip) {
      session.replies.set(call.c, { err: new SojournError("CALL_SKIPPED").toWire() })
      return reply({ err: new SojournError("CALL_SKIPPED").toWire() })
    }
    const args = codec.decode(call.p) as unknown[]
    actor.applied.push(`${attach.sid}:${call.c} ${call.a}(${args.map(String).join()})`)
    let result: { ok?: Encoded; err?: WireError } = {}
    if (call.a === "busy") result = { err: new SojournError("RATE_LIMITED", "somebody else is").toWire() }
    else if (call.a === "refuse")
      result = { err: new SojournError("ACTOR_ERROR", "no", { ref: "nope", data: { n: 1 } }).toWire() }
    else {
      this.#world.commit(actor, args[0])
      result = { ok: codec.encode(actor.list.length) }
    }
    session.replies.set(call.c, result)
    reply(result)
  }

  #query(ch: number, query: QueryBody): void {
    const found = this.#find(ch)
    if (!found) return
    if (query.after > found.session.last) {
      this.#attaches.delete(ch)
      found.actor.attaches.delete(found.attach)
      return this.send({ t: "detached", ch, err: new SojournError("CALL_ORDER").toWire() })
    }
    this.send({ t: "answer", ch, q: query.q, r: found.actor.r, ok: codec.encode(found.actor.list.length) })
  }

  #ack(ch: number, c: number): void {
    const session = this.#find(ch)?.session
    if (session) for (const n of [...session.replies.keys()]) if (n <= c) session.replies.delete(n)
  }

  #detach(ch: number): void {
    const found = this.#find(ch)
    this.#attaches.delete(ch)
    found?.actor.attaches.delete(found.attach)
  }

  /** Another attach took the session over. */
  evict(attach: Attach): void {
    this.#attaches.delete(attach.ch)
    this.send({ t: "detached", ch: attach.ch, err: new SojournError("SLEPT").toWire() })
  }

  deliver(attach: Attach, entry: Entry): void {
    this.#emit(attach, entry)
  }
}

export class FakeWorld {
  readonly actors = new Map<string, FakeActor>()
  readonly sockets: FakeSocket[] = []
  readonly unreachable = new Set<string>()
  readonly forgotten = new Set<string>()
  /** Sends and takes several frames in one message, of at most so many characters. */
  batch: number | undefined
  /** Session ids in each welcome. */
  spares = 4
  /** Entries of the tail kept for resume. */
  tailMax = 100
  /** Sockets stay connecting. */
  stalled = false
  /** Frames of clients are dropped: a half-open connection. */
  deaf = false
  /** What comes to the client over sockets that are opened now waits. */
  holding = false
  /** A closed socket never says that it is closed. */
  stuck = false
  principalOf: (token: string | undefined) => string | undefined = (token) => token ?? "anyone"
  refuseAttach: (body: AttachBody) => SojournError | undefined = () => undefined
  stateOf: (list: readonly unknown[]) => Encoded = (list) => codec.encode({ list })
  refuseCall: (call: CallBody) => SojournError | undefined = () => undefined
  #minted = 0

  readonly factory: SocketFactory = (url, protocols, reader) => {
    const socket = new FakeSocket(this, url, protocols, reader)
    socket.held = this.holding
    this.sockets.push(socket)
    return {
      send: (data) => socket.fromClient(data),
      buffered: () => socket.buffered,
      close: (code) => socket.closeByClient(code),
    }
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1)
    if (!socket) throw new Error("no socket was opened")
    return socket
  }

  actor(id: string): FakeActor {
    let actor = this.actors.get(id)
    if (!actor)
      this.actors.set(
        id,
        (actor = { pop: "", r: 1, list: [], applied: [], sessions: new Map(), attaches: new Set(), tail: [] }),
      )
    return actor
  }

  mint(principal: string): string {
    return `${principal}-${++this.#minted}`
  }

  /** A committed turn: the list grows by `value`, all attached clients hear of it. */
  commit(actor: FakeActor, value: unknown): void {
    const index = actor.list.length
    actor.list = [...actor.list, value]
    actor.r++
    const entry: Entry = {
      r: actor.r,
      ev: [["pushed", codec.encode(value)]],
      pt: codec.encode([{ op: "add", path: ["list", index], value }]),
    }
    actor.tail = [...actor.tail, entry].slice(-this.tailMax)
    for (const attach of actor.attaches) attach.socket.deliver(attach, entry)
  }

  /** Delivers everything, until nobody has anything to say. */
  async run(): Promise<void> {
    for (let idle = 0; idle < 2;) {
      await new Promise((resolve) => setImmediate(resolve))
      idle = this.step() ? 0 : idle + 1
    }
  }

  /** One frame each way on each socket. */
  step(): boolean {
    let busy = false
    for (const socket of this.sockets) if (!socket.isClosed && socket.step()) busy = true
    return busy
  }
}
