import type { SojournError } from "@sojourn/protocol"

/**
 * A client's relation to one actor, across sockets: what makes its calls exactly once and in order. Pure: no socket, no time.
 *
 * - A call gets its number (1, 2, 3 …) when it is first sent, not when it is made: one that is given up before leaves no hole.
 * - A number once used is sent again at each attach until a reply for it has come. A caller that gave up does not change that: the
 *   call goes again as `skip`, whose effect is nothing if it was not applied yet.
 * - At most `window` numbers lie beyond what the server was told is acknowledged, since it keeps no more replies.
 * - Queries have ids of their own and name the call they come after.
 * - Requests leave in the order they were made.
 */
export interface Request {
  readonly kind: "call" | "query"
  readonly name: string
  /** The frame's fields that never change, encoded once: `"a":…,"p":…` or `"n":…,"p":…`. */
  body: string
  /** Call number or query id; 0 until first sent. */
  n: number
  /** A query's `after`. */
  after: number
  sends: number
  /** Number of the attach in which it was first sent. */
  since: number
  /** Monotonic ms. */
  readonly deadline: number
  /** Whoever waits for it. Gone once it is settled or given up. */
  waiter: PromiseWithResolvers<unknown> | undefined
  /** Undoes what settling makes needless (an abort listener). */
  release: (() => void) | undefined
}

const skipped = `"a":"","p":{"v":null},"skip":true`
/** Around a body: `{"t":"query","ch":…,"q":…,"after":…,}` with two numbers of 16 digits. */
const frameOverhead = 80

export function settle(request: Request, how: { value: unknown } | { error: unknown }): void {
  const { waiter } = request
  if (!waiter) return
  request.waiter = undefined
  request.release?.()
  request.release = undefined
  if ("value" in how) waiter.resolve(how.value)
  else waiter.reject(how.error)
}

export class Session {
  /** Minted by a gateway; undefined before the first attach and after the server forgot the session. */
  sid: string | undefined
  /** Every reply up to this number was received. */
  acked = 0
  /** `acked` as the server was last told. */
  told = 0
  readonly #window: number
  #next = 1
  /** The next number to send again on this attach. */
  #cursor = 1
  /** Number of the attach; those of a session before it count on. */
  #attach = 0
  #queryId = 0
  #queue: Request[] = []
  #queuedChars = 0
  readonly #sent = new Map<number, Request>()
  readonly #asked = new Map<number, Request>()
  /** Queries to ask again on this attach. */
  #again: Request[] = []

  constructor(window: number) {
    this.#window = window
  }

  /** It was sent in this attach and in none before. Not told by how often it was sent: an attach need not have come to it again. */
  onlyNow(request: Request): boolean {
    return request.since === this.#attach
  }

  /** The number that the next new call gets. */
  get next(): number {
    return this.#next
  }
  get queued(): number {
    return this.#queue.length
  }
  get queuedChars(): number {
    return this.#queuedChars
  }
  /** Whether anybody or anything still waits for an answer. */
  get busy(): boolean {
    return this.#queue.length > 0 || this.#sent.size > 0 || this.#asked.size > 0
  }

  push(request: Request): void {
    this.#queue.push(request)
    this.#queuedChars += request.body.length
  }

  /** A new attach begins: everything unanswered goes again, first and in order. The attach tells the server `acked`. */
  rewind(): void {
    this.#attach++
    this.#cursor = this.acked + 1
    this.told = this.acked
    this.#again = [...this.#asked.values()]
  }

  /** The next request to send, numbered, if its frame has at most `room` characters; undefined: none may go now. */
  take(room: number): Request | undefined {
    if (this.#cursor < this.#next) {
      const n = this.#cursor
      const request = this.#sent.get(n) ?? blank(n)
      if (request.body.length + frameOverhead > room) return undefined
      this.#cursor++
      request.sends++
      return request
    }
    for (let query = this.#again[0]; query !== undefined; query = this.#again[0]) {
      if (query.body.length + frameOverhead > room && this.#asked.has(query.n)) return undefined
      this.#again.shift()
      if (this.#asked.get(query.n) !== query) continue
      query.sends++
      return query
    }
    const request = this.#queue[0]
    if (request === undefined || request.body.length + frameOverhead > room) return undefined
    if (request.kind === "call") {
      if (this.#next > this.told + this.#window) return undefined
      request.n = this.#next++
      this.#cursor = this.#next
      this.#sent.set(request.n, request)
    } else {
      if (this.#asked.size >= this.#window) return undefined
      request.n = ++this.#queryId
      request.after = this.#next - 1
      this.#asked.set(request.n, request)
    }
    this.#queue.shift()
    this.#queuedChars -= request.body.length
    request.sends++
    request.since = this.#attach
    return request
  }

  /** The call of this number without settling it. */
  peek(n: number): Request | undefined {
    return this.#sent.get(n)
  }

  /** A reply came: the call, or undefined for a number that was answered before. */
  replied(n: number): Request | undefined {
    const request = this.#sent.get(n)
    if (!request) return undefined
    this.#sent.delete(n)
    while (this.acked + 1 < this.#next && !this.#sent.has(this.acked + 1)) this.acked++
    return request
  }

  /** An answer came: the query, or undefined for one that was answered or given up before. */
  answered(id: number): Request | undefined {
    const request = this.#asked.get(id)
    this.#asked.delete(id)
    return request
  }

  /** The caller wants it no more: rejects it. What was never sent is gone without a trace; a sent call keeps its number. */
  giveUp(request: Request, error: (sent: boolean) => SojournError): void {
    const sent = request.n !== 0
    if (!sent) {
      const at = this.#queue.indexOf(request)
      if (at >= 0) {
        this.#queue.splice(at, 1)
        this.#queuedChars -= request.body.length
      }
    } else if (request.kind === "query") this.#asked.delete(request.n)
    settle(request, { error: error(sent) })
    if (sent) request.body = skipped
  }

  /** Gives up every request whose deadline has passed; returns the earliest deadline left, or Infinity. */
  expire(now: number, error: (request: Request, sent: boolean) => SojournError): number {
    let earliest = Infinity
    for (const request of this.#waiting())
      if (request.deadline <= now) this.giveUp(request, (sent) => error(request, sent))
      else earliest = Math.min(earliest, request.deadline)
    return earliest
  }

  /** Gives up everything. `quiet`: a caller that has no handler for the rejection is not told by the runtime either. */
  rejectAll(quiet: boolean, error: (request: Request, sent: boolean) => SojournError): void {
    for (const request of this.#waiting()) {
      if (quiet) request.waiter?.promise.catch(() => {})
      this.giveUp(request, (sent) => error(request, sent))
    }
  }

  /**
   * The server knows the session no more: what comes next goes under a fresh one, numbered from 1. Returns the calls that may have
   * been applied, for rejection with outcome `unknown`; those whose only sending was in the attach that was refused
   * (`refused`), and all queries, go again in their old order.
   */
  restart(refused: boolean): Request[] {
    const lost: Request[] = []
    const again: Request[] = []
    for (const call of this.#sent.values()) {
      if (!call.waiter) continue
      if (!refused || !this.onlyNow(call)) lost.push(call)
      else again.push(call)
    }
    again.push(...this.#asked.values())
    for (const request of again) {
      request.n = 0
      request.sends = 0
      this.#queuedChars += request.body.length
    }
    this.#queue = [...again, ...this.#queue]
    this.#sent.clear()
    this.#asked.clear()
    this.#again = []
    this.sid = undefined
    this.acked = this.told = 0
    this.#next = this.#cursor = 1
    return lost
  }

  /** Everything that somebody waits for, oldest first. */
  #waiting(): Request[] {
    return [...this.#sent.values(), ...this.#asked.values(), ...this.#queue].filter((request) => request.waiter)
  }
}

/** A number whose reply came before that of an earlier one: the server may have lost it with the earlier one, and gets no hole. */
function blank(n: number): Request {
  return {
    kind: "call",
    name: "",
    body: skipped,
    n,
    after: 0,
    sends: 0,
    since: 0,
    deadline: Infinity,
    waiter: undefined,
    release: undefined,
  }
}
