import {
  SojournError,
  codec,
  frameLimits,
  type Chance,
  type Clock,
  type Encoded,
  type Outcome,
  type Patch,
  type ServerFrame,
  type Undo,
} from "@sojourn/protocol"
import type { Connection } from "./connection.ts"
import { Emitter } from "./emitter.ts"
import type { ClientLimits } from "./limits.ts"
import { LiveState } from "./live-state.ts"
import { Session, settle, type Request } from "./session.ts"
import type { CallOptions, ClientEvents } from "./types.ts"

/**
 * One actor's end of the connection: the session, the position and the live state, and how they get attached.
 *
 * - `idle`: not attached. When something wants it and the connection is welcomed → attaching
 * - `attaching`: the attach was sent; calls follow it without waiting → attached, or idle (refused, lost)
 * - `attached`: → idle (moved, detached, gap, lost)
 *
 * When the client goes over to another socket, an attach is followed by one there, and leaves its channel behind as the *trail*: what
 * is answered on it until the new attach is answered still counts. A reply is the call's reply wherever it comes from, and outputs are
 * one chain of revisions; what else the trail says is about an attach that the server has ended.
 *
 * Each attach has a channel number of its own, so frames of an earlier one are told apart and dropped. Whatever ends an attach,
 * what is unanswered goes again at the next: the server runs no number twice. A reply whose error may be retried, for a number
 * above the last that was applied at the attach (`last`), used no number up: the call goes again after a new attach.
 */
type Phase = "idle" | "attaching" | "attached"
type Frame<T extends ServerFrame["t"]> = Extract<ServerFrame, { t: T }>

/** What a link needs of its client. */
export interface LinkHost {
  readonly limits: ClientLimits
  readonly counts: { attaches: number; resent: number; gaps: number; duplicates: number }
  readonly clock: Clock
  readonly chance: Chance
  /** What frames are sent on. If only its socket's buffer is in the way, `sweep` comes soon. */
  readonly connection: Pick<Connection, "canSend" | "say" | "send" | "wire">
  /** Set once nothing will be sent any more, or until `connect`. */
  readonly refusal: SojournError | undefined
  /** Infinity: never. */
  alarmAt(mono: number): void
  /** Attaches what wants it, soon. */
  wake(): void
  /** Gives the link a place, and numbers the uses of links, so that they can be told by age. Throws RATE_LIMITED where there is no place. */
  place(link: Link): number
  openChannel(link: Link): number
  shutChannel(ch: number): void
  spareSession(): string | undefined
  /** The spare ones are too old: others are asked for. */
  dropSpares(): void
  hint(link: Link): string | undefined
  keepTicket(link: Link, ticket: string): void
  retryDelayMs(attempt: number): number
  emit<K extends keyof ClientEvents>(name: K, payload: ClientEvents[K]): void
}

export class Link {
  readonly actor: readonly [string, string]
  /** `class/key`. */
  readonly id: string
  readonly session: Session
  readonly live: LiveState
  readonly events: Emitter
  readonly resumes: Emitter
  /** Something asked for it since it was made, closed or refused. */
  wanted = false
  /** Order of use among the client's links. */
  usedAt = 0
  pop: string | undefined
  /** Last revision of the chain of outputs. */
  position: number | undefined
  /** What its client holds of it: lives as long as it. */
  entry: unknown

  /** The channel of the attach on the socket before; 0: none. */
  trail = 0
  /** It was attached there: outputs come before the replies of their turns, and both follow what is known here. */
  #trailCounts = false

  readonly #host: LinkHost
  #phase: Phase = "idle"
  #ch = 0
  #liveAttach = false
  /** Whether the app was told of an attach since the listeners began. */
  #known = false
  #sentAt = 0
  #attachedAt = 0
  /** Sockets on which it was attached: attaching again is no arrival, and must not move the actor. */
  readonly #arrived = new WeakSet<object>()
  /** Number of the last call that was applied when the attach took place. */
  #applied = 0
  #notBefore = 0
  #tries = 0
  /** Gaps since an output fitted: two in a row mean that replay does not help. */
  #gapsRunning = 0
  #deadline = Infinity
  #unacked = 0
  #ackAt = Infinity
  #trouble: SojournError | undefined
  #ready: { waiter: PromiseWithResolvers<void>; deadline: number }[] = []

  constructor(host: LinkHost, name: string, key: string) {
    this.#host = host
    this.actor = [name, key]
    this.id = `${name}/${key}`
    this.session = new Session(host.limits.windowCallsMax)
    const failed = (cause: unknown): void => host.emit("error", listenerThrew(cause, { actor: this.actor }))
    this.live = new LiveState(failed)
    this.events = new Emitter(failed)
    this.resumes = new Emitter(failed)
  }

  /** Marks it as wanted; attaches soon if it is not. */
  use(): void {
    this.usedAt = this.#host.place(this)
    this.wanted = true
    if (this.#phase === "idle") this.#host.wake()
  }

  request(
    kind: Request["kind"],
    name: string,
    args: readonly unknown[],
    options: CallOptions | undefined,
  ): Promise<unknown> {
    try {
      return this.#make(kind, name, args, options)
    } catch (cause) {
      return Promise.reject(cause instanceof Error ? cause : new Error(String(cause)))
    }
  }

  #make(
    kind: Request["kind"],
    name: string,
    args: readonly unknown[],
    options: CallOptions | undefined,
  ): Promise<unknown> {
    const { limits } = this.#host
    const refusal = this.#host.refusal
    if (refusal) throw refusal
    const signal = options?.signal
    const timeoutMs = options?.timeoutMs ?? limits.callMs
    if (!(timeoutMs > 0)) throw new RangeError(`timeoutMs must be above 0, got ${timeoutMs}`)
    if (name.length > frameLimits.nameCharsMax)
      throw new RangeError(`an action's name is over ${frameLimits.nameCharsMax} characters`)
    if (signal?.aborted) throw aborted(signal, false)
    const body = `${kind === "call" ? '"a"' : '"n"'}:${JSON.stringify(name)},"p":${JSON.stringify(codec.encode(args))}`
    if (body.length > limits.frameCharsMax)
      throw new SojournError(
        "FRAME_TOO_LARGE",
        `the arguments of ${name} are ${body.length} characters (limits.frameCharsMax ${limits.frameCharsMax})`,
      )
    if (this.session.queued >= limits.queueCallsMax || this.session.queuedChars + body.length > limits.queueCharsMax)
      throw new SojournError(
        "QUEUE_FULL",
        `${this.session.queued} calls to ${this.id} wait to be sent (limits.queueCallsMax, queueCharsMax); make fewer, or wait for replies`,
      )
    this.use()
    const waiter = Promise.withResolvers<unknown>()
    const deadline = this.#host.clock.mono() + timeoutMs
    const request: Request = {
      kind,
      name,
      body,
      n: 0,
      after: 0,
      sends: 0,
      since: 0,
      deadline,
      waiter,
      release: undefined,
    }
    if (signal) {
      const listener = (): void => this.session.giveUp(request, (sent) => aborted(signal, sent && kind === "call"))
      signal.addEventListener("abort", listener, { once: true })
      request.release = () => signal.removeEventListener("abort", listener)
    }
    if (deadline < this.#deadline) this.#deadline = deadline
    this.#host.alarmAt(deadline)
    this.session.push(request)
    if (this.#phase !== "idle") this.pump()
    return waiter.promise
  }

  ready(): Promise<void> {
    const refusal = this.#host.refusal
    if (refusal) return Promise.reject(refusal)
    try {
      this.use()
    } catch (full) {
      return Promise.reject(full instanceof Error ? full : new Error(String(full)))
    }
    if (this.#phase === "attached") return Promise.resolve()
    const waiter = Promise.withResolvers<void>()
    const deadline = this.#host.clock.mono() + this.#host.limits.callMs
    this.#ready.push({ waiter, deadline })
    this.#host.alarmAt(deadline)
    return waiter.promise
  }

  on(name: string, listener: (payload: never) => void): Undo {
    this.use()
    return this.events.on(name, listener)
  }

  onResume(listener: (payload: never) => void): Undo {
    this.use()
    return this.resumes.on("", listener)
  }

  subscribe(listener: (state: never) => void): Undo {
    // An attach without live state under way is made again, with it.
    if (this.#phase !== "idle" && !this.#liveAttach) this.#leave()
    this.use()
    const undo = this.live.subscribe(listener)
    this.live.tell(listener)
    return undo
  }

  /** Sends what may go now. */
  pump(): void {
    while (this.#phase !== "idle" && this.#host.connection.canSend()) {
      const request = this.session.take(Infinity)
      if (!request) return
      if (request.sends > 1) this.#host.counts.resent++
      const number =
        request.kind === "call"
          ? `"call","ch":${this.#ch},"c"`
          : `"query","ch":${this.#ch},"after":${request.after},"q"`
      this.#host.connection.send(`{"t":${number}:${request.n},${request.body}}`)
    }
  }

  wantsAttach(now: number): boolean {
    return this.wanted && this.#phase === "idle" && now >= this.#notBefore
  }

  /**
   * The fields of an attach of at most `room` characters, with as many of the waiting calls as fit (the rest follows by `pump`),
   * and begins it. Undefined: there is no session id, or no room; nothing has begun.
   */
  beginAttach(room: number): string | undefined {
    const { session } = this
    session.sid ??= this.#host.spareSession()
    if (session.sid === undefined) return undefined
    const live = this.live.wanted
    if (!live) this.live.drop()
    // Without a state, patches from a position on would have nothing to apply to.
    const pos = live && !this.live.has ? undefined : this.position
    const ticket = this.#host.hint(this)
    const socket = this.#host.connection.wire
    const { actor } = this
    const { sid, acked } = session
    const stay = socket && this.#arrived.has(socket) ? true : undefined
    let text = JSON.stringify({ actor, sid, acked, live, pos, ticket, stay }).slice(1, -1)
    // Channel number, and the brackets of both lists.
    if (text.length + 60 > room) return undefined
    this.#ch = this.#host.openChannel(this)
    this.#phase = "attaching"
    this.#liveAttach = live
    this.#sentAt = this.#host.clock.mono()
    this.#host.alarmAt(this.#sentAt + this.#host.limits.attachMsMax)
    this.#host.counts.attaches++
    text = `"ch":${this.#ch},${text}`
    session.rewind()
    let calls = ""
    let queries = ""
    for (;;) {
      const request = session.take(room - text.length - calls.length - queries.length - 30)
      if (!request) break
      if (request.sends > 1) this.#host.counts.resent++
      if (request.kind === "call") calls += `${calls && ","}{"c":${request.n},${request.body}}`
      else queries += `${queries && ","}{"q":${request.n},"after":${request.after},${request.body}}`
    }
    if (calls) text += `,"calls":[${calls}]`
    if (queries) text += `,"queries":[${queries}]`
    return text
  }

  // Frames of the attach under way.

  onAttached(f: Frame<"attached">): void {
    if (this.#phase !== "attaching") return
    const now = this.#host.clock.mono()
    if (f.last >= this.session.next) {
      // Numbers that this client never used: going on would take another's replies for its own.
      this.#leave()
      return this.onDetached(
        new SojournError(
          "SESSION_UNKNOWN",
          `the server knows ${f.last} calls of a session of ${this.session.next - 1}`,
        ),
      )
    }
    let state: { readonly value: unknown } | undefined
    try {
      if (f.state && this.#liveAttach) state = { value: codec.decode(f.state) }
    } catch (cause) {
      // It changes nothing here: patches from its revision on would not be meant for the one before. Other actors go on.
      const error = new SojournError("BAD_FRAME", `the state of ${this.id} cannot be decoded`, {
        cause,
        retry: "later",
        details: { actor: this.actor },
      })
      this.#host.emit("error", error)
      return this.#again(error, true)
    }
    this.#phase = "attached"
    this.#attachedAt = now
    const socket = this.#host.connection.wire
    if (socket) this.#arrived.add(socket)
    this.#dropTrail()
    this.#applied = f.last
    this.#host.keepTicket(this, f.ticket)
    if (f.resumed !== "replay" && this.position !== undefined && f.r < this.position)
      this.#host.emit(
        "error",
        new SojournError("HISTORY_LOST", "the client knows a later revision than the actor has", {
          details: { actor: this.actor, position: this.position, revision: f.r },
        }),
      )
    const how = f.resumed === "new" && this.#known ? "snapshot" : f.resumed
    this.#known = true
    if (f.resumed !== "replay" || this.position === undefined) this.position = f.r
    if (state) this.live.set(state.value, f.r)
    const from = this.pop ?? f.move?.from
    this.pop = f.pop
    for (const { waiter } of this.#ready.splice(0)) waiter.resolve()
    if (from !== undefined && from !== f.pop)
      this.#host.emit("moved", { actor: this.actor, from, to: f.pop, ms: now - this.#sentAt, report: f.move })
    this.resumes.emit("", [how, { pop: f.pop, epoch: f.e, revision: f.r }])
    if (f.state) this.live.changed()
    // What came by the trail could not be acknowledged.
    if (this.session.told < this.session.acked) this.#heard()
    this.pump()
  }

  /** A frame of the attach on the socket before. */
  onTrail(f: ServerFrame): void {
    if (!this.#trailCounts) return
    if (f.t === "out") {
      if (f.prev === this.position) this.#advance(f)
    } else if ((f.t === "reply" || f.t === "answer") && (!f.err || f.err.retry === "never"))
      if (f.t === "answer") this.onAnswer(f)
      else this.onReply(f)
  }

  onReply(f: Frame<"reply">): void {
    const call = this.session.peek(f.c)
    if (!call) {
      this.#host.counts.duplicates++
      return
    }
    if (f.err && f.err.retry !== "never" && f.c > this.#applied) return this.#again(SojournError.fromWire(f.err), true)
    this.session.replied(f.c)
    if (f.relaxed) this.#host.emit("relaxed", { actor: this.actor, action: call.name })
    this.#answer(call, f)
    this.#heard()
    if (this.session.queued > 0) this.pump()
  }

  onAnswer(f: Frame<"answer">): void {
    if (f.err && f.err.retry !== "never") return this.#again(SojournError.fromWire(f.err), true)
    const query = this.session.answered(f.q)
    if (query) this.#answer(query, f)
    else this.#host.counts.duplicates++
    if (this.session.queued > 0) this.pump()
  }

  #answer(request: Request, f: Frame<"reply" | "answer">): void {
    this.#trouble = undefined
    if (f.err) return settle(request, { error: SojournError.fromWire(f.err) })
    let value: unknown
    try {
      value = f.ok && codec.decode(f.ok)
    } catch (cause) {
      const error = new SojournError("INTERNAL", `the reply of ${request.name} cannot be decoded`, {
        cause,
        outcome: "executed",
      })
      return settle(request, { error })
    }
    settle(request, { value })
  }

  onOut(f: Frame<"out">): void {
    if (this.position === undefined || this.#phase !== "attached") return
    if (f.r <= this.position) {
      this.#host.counts.duplicates++
      return
    }
    if (f.prev !== this.position) return this.#gap(new SojournError("SLEPT", "an output is missing"), false)
    const unfit = this.#advance(f)
    if (unfit) this.#gap(unfit, true)
  }

  /** The next output. What it returns: why it does not fit the state; then nothing was done. */
  #advance(f: Frame<"out">): SojournError | undefined {
    if (f.pt && this.live.has)
      try {
        this.live.apply(codec.decode(f.pt) as readonly Patch[], f.r)
      } catch (cause) {
        return new SojournError("SLEPT", "an output does not fit the state", { cause })
      }
    this.position = f.r
    this.#gapsRunning = 0
    for (const [name, payload] of f.ev ?? []) if (this.events.has(name)) this.#event(name, payload)
    if (f.pt) this.live.changed()
    this.#heard()
    return undefined
  }

  /** One that cannot be decoded would not be any better if it came again. */
  #event(name: string, payload: Encoded): void {
    let value: unknown
    try {
      value = codec.decode(payload)
    } catch (cause) {
      const details = { actor: this.actor }
      return this.#host.emit(
        "error",
        new SojournError("INTERNAL", `the event ${name} cannot be decoded`, { cause, outcome: "executed", details }),
      )
    }
    this.events.emit(name, value)
  }

  onMoved(f: Frame<"moved">): void {
    if (f.ticket !== undefined) this.#host.keepTicket(this, f.ticket)
    if (f.stays) {
      const from = this.pop
      this.pop = f.to
      if (from !== undefined && from !== f.to)
        this.#host.emit("moved", { actor: this.actor, from, to: f.to, ms: 0, report: undefined })
      return
    }
    this.#again(new SojournError("MOVED", `the actor went to ${f.to}`), false)
  }

  onDetached(error: SojournError): void {
    const refused = this.#phase === "attaching"
    if (error.code === "SESSION_UNKNOWN") {
      // It was fresh: those beside it are as old.
      if (refused) this.#host.dropSpares()
      for (const call of this.session.restart(refused)) settle(call, { error: withOutcome(error, "unknown") })
      // A fresh session is the cure, at once.
      return this.#again(withOutcome(error, "not-executed", "elsewhere"), false)
    }
    if (error.retry !== "never") return this.#again(error, false)
    this.#drop()
    this.wanted = false
    this.reject(error, refused)
    this.#host.emit(
      "error",
      new SojournError(error.code, error.message, { cause: error, details: { actor: this.actor } }),
    )
  }

  /** The connection is gone. What was sent stays sent. */
  lost(): void {
    this.#drop()
    this.#notBefore = 0
  }

  /** The client goes on over another socket, on which it is attached next. */
  handOver(): void {
    const trail = this.#phase === "idle" ? 0 : this.#ch
    this.#trailCounts = this.#phase === "attached"
    this.#phase = "idle"
    this.#ackAt = Infinity
    this.#unacked = 0
    this.lost()
    this.trail = trail
    this.#tries = 0
  }

  /** Another principal uses the client now: nothing of the old one's is sent, or shown. */
  disown(error: SojournError): void {
    for (const call of this.session.restart(false)) settle(call, { error: withOutcome(error, "unknown") })
    this.reject(error)
    this.#drop()
    this.live.drop()
    this.position = undefined
  }

  /** Ends it for the app. */
  release(): void {
    this.wanted = false
    this.events.clear()
    this.resumes.clear()
    this.live.clear()
    this.#leave()
    this.reject(clientClosed("unknown"), false, true)
    this.position = undefined
    this.#known = false
  }

  sweep(now: number): void {
    const { limits } = this.#host
    if (now >= this.#deadline)
      this.#deadline = this.session.expire(now, (request, sent) => {
        const cause = this.#trouble
        const what = `${request.name} of ${this.id}`
        if (!sent) return new SojournError("CALL_NOT_SENT", `${what} could not be sent within its time`, { cause })
        const outcome = request.kind === "call" ? "unknown" : "not-executed"
        return new SojournError("CALL_TIMEOUT", `${what} had no reply within its time`, { cause, outcome })
      })
    this.#host.alarmAt(this.#deadline)
    for (const entry of [...this.#ready])
      if (now < entry.deadline) this.#host.alarmAt(entry.deadline)
      else {
        this.#ready.splice(this.#ready.indexOf(entry), 1)
        entry.waiter.reject(
          new SojournError("CALL_NOT_SENT", `${this.id} was not attached within its time`, { cause: this.#trouble }),
        )
      }
    if (this.#phase === "attaching") {
      const answerBy = this.#sentAt + limits.attachMsMax
      if (now < answerBy) this.#host.alarmAt(answerBy)
      else this.#again(new SojournError("POP_UNREACHABLE", `the attach of ${this.id} had no answer`), true)
    }
    if (now >= this.#ackAt) this.#acknowledge()
    else this.#host.alarmAt(this.#ackAt)
    if (this.#phase !== "idle") this.pump()
    else if (this.wanted && this.#notBefore > now) this.#host.alarmAt(this.#notBefore)
  }

  /** Attaches again after what `error` says, never in a tight loop: an attach that did not last counts as another try. */
  #again(error: SojournError, tellServer: boolean): void {
    const { limits } = this.#host
    const now = this.#host.clock.mono()
    this.#trouble = error
    if (this.#phase === "attached" && now - this.#attachedAt >= limits.bounceMs) this.#tries = 0
    if (tellServer) this.#leave()
    else this.#drop()
    const attempt = this.#tries++
    const delay =
      Math.max(0, error.retryAfterMs ?? 0) ||
      (error.retry !== "elsewhere"
        ? this.#host.retryDelayMs(attempt)
        : attempt < limits.bouncesMax
          ? 0
          : this.#host.retryDelayMs(attempt - limits.bouncesMax + 1))
    this.#notBefore = now + delay
    if (delay > 0) this.#host.alarmAt(this.#notBefore)
    else this.#host.wake()
  }

  #gap(why: SojournError, unfit: boolean): void {
    this.#host.counts.gaps++
    if (unfit) this.live.drop()
    if (unfit || this.#gapsRunning++ > 0) this.position = undefined
    this.#again(why, true)
  }

  /** Ends the attach on both sides. */
  #leave(): void {
    if (this.#phase !== "idle" && this.#host.refusal === undefined)
      this.#host.connection.say({ t: "detach", ch: this.#ch })
    this.#drop()
  }

  #dropTrail(): void {
    if (this.trail > 0) this.#host.shutChannel(this.trail)
    this.trail = 0
  }

  #drop(): void {
    this.#dropTrail()
    if (this.#phase === "idle") return
    this.#host.shutChannel(this.#ch)
    this.#phase = "idle"
    this.#ackAt = Infinity
    this.#unacked = 0
  }

  /**
   * Rejects everything pending. `refused`: nothing that was sent in the last attach alone was executed. `quiet`: a caller without a
   * handler for the rejection is not told by the runtime either.
   */
  reject(error: SojournError, refused = false, quiet = false): void {
    this.session.rejectAll(quiet, (request, sent) => {
      if (!sent || request.kind === "query") return withOutcome(error, "not-executed")
      return withOutcome(error, refused && this.session.onlyNow(request) ? error.outcome : "unknown")
    })
    for (const { waiter } of this.#ready.splice(0)) {
      if (quiet) waiter.promise.catch(() => {})
      waiter.reject(error)
    }
  }

  /** A reply or an output came: tells the server before long, so that it may forget it. */
  #heard(): void {
    const { limits, clock, chance } = this.#host
    if (++this.#unacked >= limits.ackFrames) this.#acknowledge()
    else if (this.#unacked === 1)
      // Not the same for all: many hear one output at once, and would all speak while the server says the next one.
      this.#host.alarmAt((this.#ackAt = clock.mono() + limits.ackMs * (0.75 + chance.random() / 2)))
  }

  #acknowledge(): void {
    this.#ackAt = Infinity
    this.#unacked = 0
    if (this.#phase !== "attached" || this.position === undefined) return
    this.session.told = this.session.acked
    this.#host.connection.say({ t: "ack", ch: this.#ch, c: this.session.acked, r: this.position })
  }
}

function aborted(signal: AbortSignal, sent: boolean): SojournError {
  return new SojournError("CALL_ABORTED", "the caller's signal aborted the call", {
    cause: signal.reason,
    outcome: sent ? "unknown" : "not-executed",
  })
}

/** Of an app's own listener: what it was told of has happened all the same. */
export function listenerThrew(cause: unknown, details: Readonly<Record<string, unknown>>): SojournError {
  return new SojournError("INTERNAL", "a listener threw", { cause, outcome: "executed", details })
}

/** The client, or this handle of it, was closed. */
export function clientClosed(outcome: Outcome): SojournError {
  return new SojournError("CLIENT_CLOSED", "the client was closed", { outcome })
}

/** The same error with what is known of this request's effect. */
export function withOutcome(error: SojournError, outcome: Outcome, retry = error.retry): SojournError {
  // An error's own fields are its options; the cause is there too, but not enumerable.
  return new SojournError(error.code, error.message, { ...error, cause: error.cause, outcome, retry })
}
