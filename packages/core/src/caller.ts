import {
  SojournError,
  codec,
  frameLimits,
  type AttachBody,
  type CallBody,
  type Encoded,
  type Outcome,
  type QueryBody,
  type ServerFrame,
} from "@sojourn/protocol"
import { encodeText, plain, utf8Bytes } from "./encoded-text.ts"
import type { HostAttach } from "./attach.ts"
import type { Chain } from "./chain.ts"
import type { Host } from "./host.ts"
import { meshHeadBytes, type Limits } from "./limits.ts"
import type { Principal } from "./mesh-messages.ts"
import type { Clock, Undo } from "./ports.ts"
import type { SessionIds } from "./session-ids.ts"

/**
 * Calls from server code: a session like any client's, without a socket, so they are exactly once and in order too, wherever the actor is.
 * They never move it. One caller an actor (`callers.ts`).
 *
 * A session does not live for ever, and a caller may: with nothing under way it takes a fresh one in time.
 */
export interface CallerOptions {
  readonly host: Host
  readonly clock: Clock
  readonly sessionIds: SessionIds
  readonly who: Principal
  readonly limits: Pick<Limits, "meshMessageBytesMax" | "sessionTtlMs" | "clockSkewMsMax">
  /** A call without a reply by then is CALL_TIMEOUT. */
  readonly callMsMax: number
  /** Of the caller of this actor before, which was closed while it was idle. */
  readonly session?: CallerSession | undefined
}

/** A session with calls, all of which are answered. */
export interface CallerSession {
  readonly sid: string
  readonly mintedAt: number
  /** Number of its next call. */
  readonly next: number
}

interface Waiting {
  readonly body: CallBody | QueryBody
  readonly kind: "call" | "query"
  readonly resolve: (value: unknown) => void
  readonly reject: (error: SojournError) => void
  readonly deadline: number
  /** The most that it takes of a message. */
  readonly bytes: number
  /** Number of the attach that it was first handed to; undefined: none yet. */
  sentIn: number | undefined
}

/** Calls under way in one caller; one more is QUEUE_FULL. */
const underWayMax = 256
/** Records that one caller's sessions, one after another, leave in the actor. */
const recordsMax = 16

export class Caller {
  readonly #o: CallerOptions
  readonly #actor: readonly [string, string]
  readonly #id: string
  #sid = ""
  #mintedAt = 0
  #attach: HostAttach | undefined
  #attaches = 0
  /** The last attach was not refused: what it was handed may have run. */
  #accepted = false
  /** Why the last attach ended, until the next one is accepted. */
  #trouble: SojournError | undefined
  #next = 1
  #queries = 0
  #acked = 0
  #waiting = new Map<string, Waiting>()
  /** Of those, what the attach was not handed yet, in order, and the bytes of what it was. */
  #unsent: Waiting[] = []
  #sentBytes = 0
  #retry: Undo | undefined
  #deadline: Undo | undefined

  constructor(id: string, actor: readonly [string, string], options: CallerOptions) {
    this.#id = id
    this.#actor = actor
    const { session, ...rest } = options
    this.#o = rest
    if (!session) {
      this.#fresh()
      return
    }
    this.#sid = session.sid
    this.#mintedAt = session.mintedAt
    this.#next = session.next
    this.#acked = session.next - 1
  }

  get idle(): boolean {
    return this.#waiting.size === 0
  }

  /** Of an idle caller: what the next one for its actor goes on with. Undefined: the actor knows nothing of it. */
  get session(): CallerSession | undefined {
    return this.#next === 1 ? undefined : { sid: this.#sid, mintedAt: this.#mintedAt, next: this.#next }
  }

  /** `chain`: the turns that wait for this call. It belongs to the call and goes with it, however often that is sent. */
  call(action: string, args: readonly unknown[], chain: Chain = []): Promise<unknown> {
    return begun(() => this.#begin("call", action, args, chain))
  }

  query(name: string, args: readonly unknown[]): Promise<unknown> {
    return begun(() => this.#begin("query", name, args, []))
  }

  close(): void {
    this.#retry?.()
    this.#deadline?.()
    if (this.#attach) this.#o.host.leave(this.#attach)
    this.#attach = undefined
    this.#failAll(new SojournError("NOT_SERVING", "the POP is stopping", { outcome: "unknown" }))
  }

  #begin(kind: "call" | "query", name: string, args: readonly unknown[], chain: Chain): Promise<unknown> {
    if (this.#waiting.size >= underWayMax)
      return Promise.reject(new SojournError("QUEUE_FULL", `${underWayMax} server calls to ${this.#id} are under way`))
    // No class has one, and a peer takes it for a broken frame.
    if (name.length > frameLimits.nameCharsMax)
      return Promise.reject(
        new SojournError(
          "UNKNOWN_ACTION",
          `there is no ${kind === "call" ? "action" : "query"} ${JSON.stringify(name.slice(0, 80))}`,
        ),
      )
    const p = encodeText(args)
    const bytes = bytesOf(p.text, this.#bytesMax)
    if (bytes > this.#bytesMax)
      return Promise.reject(
        new SojournError(
          "FRAME_TOO_LARGE",
          `the arguments of ${name} have ${bytes} bytes; ${this.#bytesMax} at the most go to another POP (limits.meshMessageBytesMax)`,
        ),
      )
    this.#renew()
    return new Promise((resolve, reject) => {
      const { clock, callMsMax } = this.#o
      const body: CallBody | QueryBody =
        kind === "call"
          ? { c: this.#next++, a: name, p, ...(chain.length === 0 ? {} : { chain }) }
          : { q: ++this.#queries, after: this.#next - 1, n: name, p }
      const waiting: Waiting = {
        body,
        kind,
        resolve,
        reject,
        deadline: clock.mono() + callMsMax,
        bytes: bytes + bytesOf(JSON.stringify({ ...body, p: null }), 0),
        sentIn: undefined,
      }
      this.#waiting.set("c" in body ? `c${body.c}` : `q${body.q}`, waiting)
      this.#unsent.push(waiting)
      this.#send()
      this.#watch()
      if (!this.#attach) this.#open()
    })
  }

  /** What one call may bring, and what may be under way at once: the second may have to go to another POP in one message, with an attach. */
  get #bytesMax(): number {
    return this.#o.limits.meshMessageBytesMax - meshHeadBytes
  }

  #open(): void {
    if (this.#attach || this.#retry || this.#waiting.size === 0) return
    const calls: CallBody[] = []
    const queries: QueryBody[] = []
    this.#attaches++
    this.#accepted = false
    this.#unsent = [...this.#waiting.values()]
    this.#sentBytes = 0
    for (let one = this.#nextToSend(); one; one = this.#nextToSend()) {
      const { body } = one
      if ("c" in body) calls.push(body)
      else queries.push(body)
    }
    const body: AttachBody = {
      ch: 0,
      actor: this.#actor,
      sid: this.#sid,
      acked: this.#acked,
      live: false,
      calls,
      queries,
    }
    let over = false
    try {
      const attach = this.#o.host.attach({
        actor: this.#id,
        who: this.#o.who,
        mintedAt: this.#o.sessionIds.verify(this.#sid, this.#o.who.id)?.mintedAt ?? 0,
        body,
        ticket: undefined,
        hint: undefined,
        stay: true,
        localOnly: false,
        out: (frame) => {
          this.#frame(frame)
        },
        ended: () => {
          over = true
          this.#attach = undefined
        },
      })
      if (over) return
      this.#attach = attach
      this.#send()
    } catch (error) {
      this.#restart(error instanceof SojournError ? error : new SojournError("INTERNAL", undefined, { cause: error }))
    }
  }

  /** What has room, in order: once one has none, none that follows goes ahead of it. More at once could cost the link, and all others on it. */
  #nextToSend(): Waiting | undefined {
    const [first] = this.#unsent
    if (!first || (this.#sentBytes > 0 && this.#sentBytes + first.bytes > this.#bytesMax)) return undefined
    this.#unsent.shift()
    this.#sentBytes += first.bytes
    first.sentIn ??= this.#attaches
    return first
  }

  #send(): void {
    while (this.#attach) {
      const { body } = this.#nextToSend() ?? {}
      if (!body) return
      this.#o.host.receive(this.#attach, "c" in body ? { t: "call", ch: 0, ...body } : { t: "query", ch: 0, ...body })
    }
  }

  #frame(frame: ServerFrame): void {
    if (frame.t !== "detached") {
      this.#accepted = true
      this.#trouble = undefined
    }
    if (frame.t === "reply") {
      const waiting = this.#take(`c${frame.c}`)
      if (waiting) settle(waiting, frame)
      this.#acknowledge()
      this.#send()
    } else if (frame.t === "answer") {
      const waiting = this.#take(`q${frame.q}`)
      if (waiting) settle(waiting, frame)
      this.#send()
    } else if (frame.t === "moved") {
      if (!frame.stays) this.#again(0)
    } else if (frame.t === "detached") {
      const error = SojournError.fromWire(frame.err)
      this.#trouble = error
      if (error.retry === "never") this.#restart(error)
      else this.#again(error.retry === "elsewhere" ? 1 : (error.retryAfterMs ?? 250))
    }
  }

  #take(key: string): Waiting | undefined {
    const waiting = this.#waiting.get(key)
    if (!waiting) return undefined
    this.#waiting.delete(key)
    // What an attach before has brought may be answered before this one is handed it.
    const at = this.#unsent.indexOf(waiting)
    if (at < 0) this.#sentBytes -= waiting.bytes
    else this.#unsent.splice(at, 1)
    return waiting
  }

  /** Replies come in order, so everything below the lowest call under way is answered. */
  #acknowledge(): void {
    let lowest = this.#next
    for (const { body } of this.#waiting.values()) if ("c" in body) lowest = Math.min(lowest, body.c)
    this.#acked = lowest - 1
    if (this.#attach) this.#o.host.receive(this.#attach, { t: "ack", ch: 0, c: this.#acked, r: 0 })
  }

  #again(ms: number): void {
    if (this.#retry) return
    this.#retry = this.#o.clock.after(ms, () => {
      this.#retry = undefined
      this.#open()
    })
  }

  /** One timer for all calls; each has the same time, so the first one waiting is the first due. */
  #watch(): void {
    if (this.#deadline || this.#waiting.size === 0) return
    const { clock } = this.#o
    const first = this.#waiting.values().next().value
    if (!first) return
    this.#deadline = clock.after(Math.max(0, first.deadline - clock.mono()), () => {
      this.#deadline = undefined
      this.#giveUp()
      this.#watch()
    })
  }

  /** What is late. A query has no number that could be missed: nobody else's answer depends on it. */
  #giveUp(): void {
    const { clock, host, callMsMax } = this.#o
    const now = clock.mono()
    const late = [...this.#waiting].filter(([, { deadline }]) => deadline <= now)
    if (late.length === 0) return
    const what = `no reply from ${this.#id} within ${callMsMax} ms`
    const error = new SojournError("CALL_TIMEOUT", what, { cause: this.#trouble })
    // Not only the query may hang but the attach: what else waits is handed to another.
    if (this.#attach) host.leave(this.#attach)
    this.#attach = undefined
    if (late.some(([, { kind }]) => kind === "call")) {
      // A call that is given up may still be applied: the session ends with it, so that its number is not missed.
      this.#retry?.()
      this.#retry = undefined
      this.#restart(error)
      return
    }
    for (const [key, one] of late) {
      this.#take(key)
      this.#fail(one, error)
    }
    this.#open()
  }

  /** Everything under way fails, and what comes next goes under a fresh session: no number of this one is missed. */
  #restart(error: SojournError): void {
    this.#fresh()
    this.#failAll(error)
  }

  #fresh(): void {
    this.#trouble = undefined
    const { clock, sessionIds, who } = this.#o
    this.#sid = sessionIds.mint(who.id)
    this.#mintedAt = clock.now()
    this.#next = 1
    this.#acked = 0
  }

  /** A session that nothing is under way in and that has lived half its time: an actor that has no record of it would not open it much longer. */
  #renew(): void {
    const { clock, limits, host } = this.#o
    const { sessionTtlMs, clockSkewMsMax } = limits
    const opensMs = (sessionTtlMs - clockSkewMsMax) / 2
    // One with calls leaves a record for as long: many of them would fill the actor's table.
    const lastsMs = this.#next === 1 ? opensMs : Math.max(opensMs, (sessionTtlMs + 2 * clockSkewMsMax) / recordsMax)
    if (!this.idle || clock.now() - this.#mintedAt < lastsMs) return
    if (this.#attach) host.leave(this.#attach)
    this.#attach = undefined
    this.#fresh()
  }

  #failAll(error: SojournError): void {
    const waiting = [...this.#waiting.values()]
    this.#waiting = new Map()
    this.#unsent = []
    this.#sentBytes = 0
    for (const one of waiting) this.#fail(one, error)
  }

  #fail(one: Waiting, error: SojournError): void {
    const { code, message, cause } = error
    const outcome = this.#outcomeOf(one, error)
    one.reject(outcome === error.outcome ? error : new SojournError(code, message, { ...error, cause, outcome }))
  }

  /** An error says what became of that which the attach that it refused was the first to bring. Of anything before, nobody knows. */
  #outcomeOf({ kind, sentIn }: Waiting, error: SojournError): Outcome {
    if (kind === "query" || sentIn === undefined) return "not-executed"
    return sentIn === this.#attaches && !this.#accepted ? error.outcome : "unknown"
  }
}

/** In UTF-8; where that cannot be past `max`, the most that it may be. */
function bytesOf(text: string, max: number): number {
  return 3 * text.length <= max ? 3 * text.length : utf8Bytes(text)
}

/** What an argument cannot be made of is a rejection as well. */
function begun(begin: () => Promise<unknown>): Promise<unknown> {
  try {
    return begin()
  } catch (cause) {
    return Promise.reject(cause instanceof Error ? cause : new Error(String(cause)))
  }
}

function settle(waiting: Waiting, frame: { ok?: Encoded; err?: Parameters<typeof SojournError.fromWire>[0] }): void {
  if (frame.err) waiting.reject(SojournError.fromWire(frame.err))
  else
    try {
      waiting.resolve(frame.ok === undefined ? undefined : codec.decode(plain(frame.ok)))
    } catch (cause) {
      // It has been executed: of what came back nobody can make anything.
      waiting.reject(
        new SojournError("BAD_FRAME", "the reply cannot be decoded", { cause, outcome: "executed", retry: "never" }),
      )
    }
}
