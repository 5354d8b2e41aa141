import type { Encoded } from "./codec.ts"
import { SojournError, type WireError } from "./errors.ts"
import { jsonDepthMax, nestsDeeper } from "./nesting.ts"

/**
 * The frames of `sojourn.v1` between a client and a gateway: JSON objects in text frames, told apart by `t`. PROTOCOL.md says what each
 * means and in which order they come. Unknown types and unknown fields are ignored.
 *
 * `ch` is a small number that the client picks for an actor on one socket; every later frame of that actor names it.
 */

/** One call. `c` is its number in the session (1, 2, 3 …); `skip`: the caller gave it up, apply nothing but use the number up. */
export interface CallBody {
  readonly c: number
  readonly a: string
  readonly p: Encoded
  readonly skip?: boolean
  /** Between POPs alone, and absent otherwise: the actors whose turns wait for this call, the first one first. Nothing of a client's is read as one. */
  readonly chain?: readonly string[]
}

/** A query: its own id `q`; it is answered after the call numbered `after` was applied. */
export interface QueryBody {
  readonly q: number
  readonly after: number
  readonly n: string
  readonly p: Encoded
}

export interface AttachBody {
  readonly ch: number
  /** Actor class and key. */
  readonly actor: readonly [string, string]
  readonly sid: string
  /** Last revision this client has seen of the actor (its position), or absent: it has seen nothing. */
  readonly pos?: number
  /** Every reply up to this call number was received. */
  readonly acked: number
  /** Wants live state: a snapshot now or a replay, then patches. */
  readonly live: boolean
  readonly ticket?: string
  /**
   * Reach the actor where it is. Set when attaching again on a socket that had it: only an arrival (a new socket) may move an actor,
   * else two quiet clients at two POPs would pull it to and fro for ever.
   */
  readonly stay?: boolean
  /** Every call above `acked` that was sent before, and any new ones, in order. */
  readonly calls?: readonly CallBody[]
  readonly queries?: readonly QueryBody[]
}

export type ClientFrame =
  | {
      readonly t: "hello"
      readonly token?: string
      readonly client: string
      readonly at?: readonly string[]
      /** Attaches whose session ids the client already has: they save a round trip. The whole frame stays within 4 KiB. */
      readonly attach?: readonly AttachBody[]
      /** Takes messages of several frames, of at most so many characters (`batch.ts`). */
      readonly batch?: number
    }
  | ({ readonly t: "attach" } & AttachBody)
  | ({ readonly t: "call"; readonly ch: number } & CallBody)
  | ({ readonly t: "query"; readonly ch: number } & QueryBody)
  | { readonly t: "ack"; readonly ch: number; readonly c: number; readonly r: number }
  | { readonly t: "detach"; readonly ch: number }
  | { readonly t: "token"; readonly token: string }
  /** Asks for `n` more session ids, where those of `welcome` did not suffice. Answered by `sessions`. */
  | { readonly t: "sessions"; readonly n: number }
  | { readonly t: "ping"; readonly n?: number }
  | { readonly t: "pong"; readonly n?: number }

/** How an attach was reached, for a client that shows it: only the gateway that did the work reports it. Times in ms. */
export interface MoveReport {
  readonly from: string
  readonly to: string
  readonly epoch: number
  /** What chose the POP that was asked first. */
  readonly by: "ticket" | "pointer" | "hint" | "home" | "offer"
  /** POPs that were asked, forwards counted. */
  readonly hops: number
  readonly bytes: number
  readonly fetchMs: number
  readonly durableMs: number
  /** Whether the PULL left during the upgrade, before `hello`. */
  readonly early: boolean
}

export type Resumed = "new" | "replay" | "snapshot"

export type ServerFrame =
  | {
      readonly t: "welcome"
      readonly pop: string
      readonly node: string
      /** Unused session ids, minted for this principal. */
      readonly sessions: readonly string[]
      readonly heartbeatMs: number
      readonly principal: string
      /** The server takes messages of several frames, of at most so many characters (`batch.ts`). */
      readonly batch?: number
    }
  | {
      readonly t: "attached"
      readonly ch: number
      readonly sid: string
      /** The owner POP: the one this socket is at, or the one it is relayed to. */
      readonly pop: string
      readonly e: number
      /** The revision at which the attach took place: `out` frames continue from it (or from `pos` for a replay). */
      readonly r: number
      readonly resumed: Resumed
      /** Number of this session's last applied call. */
      readonly last: number
      readonly state?: Encoded
      readonly ticket: string
      readonly move?: MoveReport
    }
  | {
      readonly t: "reply"
      readonly ch: number
      readonly c: number
      readonly r: number
      readonly ok?: Encoded
      readonly err?: WireError
      /** It left before revision `r` was durable: a crash may take back what the call did. */
      readonly relaxed?: true
    }
  | {
      readonly t: "answer"
      readonly ch: number
      readonly q: number
      readonly r: number
      readonly ok?: Encoded
      readonly err?: WireError
    }
  | {
      /** What one committed turn did: `prev` is the revision named by the frame before it, so that a gap shows at once. */
      readonly t: "out"
      readonly ch: number
      readonly r: number
      readonly prev: number
      readonly ev?: readonly (readonly [string, Encoded])[]
      readonly pt?: Encoded
    }
  /** The actor went to another POP: attach again, on this socket or a nearer one. */
  | {
      readonly t: "moved"
      readonly ch: number
      readonly to: string
      readonly e: number
      readonly ticket?: string
      /** The attach goes on: its gateway relays it to the actor's new POP. Absent: attach again. */
      readonly stays?: true
    }
  /** The attach ended or was refused: `err.retry` says what to do. */
  | { readonly t: "detached"; readonly ch: number; readonly err: WireError }
  | { readonly t: "sessions"; readonly sessions: readonly string[] }
  | { readonly t: "goaway"; readonly retryAfterMs: number }
  | { readonly t: "error"; readonly err: WireError }
  | { readonly t: "ping"; readonly n?: number }
  | { readonly t: "pong"; readonly n?: number }

export const frameLimits = {
  /** Characters of the frame before `welcome`. */
  helloCharsMax: 4096,
  /** An actor's key, bytes of UTF-8. */
  keyBytesMax: 512,
  /** The name of an actor class, action, query or event. */
  nameCharsMax: 64,
  /** A session id. */
  sidCharsMax: 200,
  /** What the client presents to `authenticate`. */
  tokenCharsMax: 4096,
  /** Attaches that `hello` carries, and tickets in its `at`. */
  attachesPerHelloMax: 32,
  /** Calls that one attach carries; queries as many. */
  callsPerAttachMax: 1024,
  /** Session ids asked for at once. */
  sessionsPerAskMax: 64,
  /** Characters of a message of several frames. One frame by itself may be longer. */
  batchCharsMax: 65_536,
  /** Frames of one message. */
  batchFramesMax: 1_024,
} as const

function bad(what: string, got: unknown): never {
  throw new SojournError("BAD_FRAME", `${what}, got ${String(JSON.stringify(got)).slice(0, 80)}`)
}
type Fields = Record<string, unknown>
function int(o: Fields, key: string, from = 0): number {
  const x = o[key]
  return typeof x === "number" && Number.isSafeInteger(x) && x >= from
    ? x
    : bad(`${key} must be an integer >= ${from}`, x)
}
function text(o: Fields, key: string, max: number): string {
  const x = o[key]
  return typeof x === "string" && x.length <= max ? x : bad(`${key} must be a string of at most ${max} characters`, x)
}
/** Of an action or a query. */
function name(o: Fields, key: string): string {
  return text(o, key, frameLimits.nameCharsMax)
}
function encoded(x: unknown): Encoded {
  if (typeof x !== "object" || x === null || !("v" in x)) return bad("an encoded value must be an object with v", x)
  return x
}
function list<T>(x: unknown, max: number, what: string, of: (x: unknown) => T): T[] {
  if (!Array.isArray(x) || x.length > max)
    return bad(`${what} must be an array of at most ${max}`, Array.isArray(x) ? x.length : x)
  return x.map(of)
}
function fields(x: unknown, what: string): Fields {
  return typeof x === "object" && x !== null && !Array.isArray(x) ? (x as Fields) : bad(`${what} must be an object`, x)
}
function call(x: unknown): CallBody {
  const o = fields(x, "a call")
  return {
    c: int(o, "c", 1),
    a: name(o, "a"),
    p: encoded(o["p"]),
    ...(o["skip"] === true ? { skip: true } : {}),
  }
}
function query(x: unknown): QueryBody {
  const o = fields(x, "a query")
  return { q: int(o, "q"), after: int(o, "after"), n: name(o, "n"), p: encoded(o["p"]) }
}
function attach(x: unknown): AttachBody {
  const o = fields(x, "an attach")
  const actor = list(o["actor"], 2, "actor", (part) =>
    typeof part === "string" ? part : bad("actor's parts must be strings", part),
  )
  if (actor.length !== 2) bad("actor must be [class, key]", actor)
  const { callsPerAttachMax } = frameLimits
  return {
    ch: int(o, "ch"),
    actor: actor as unknown as readonly [string, string],
    sid: text(o, "sid", frameLimits.sidCharsMax),
    ...(o["pos"] === undefined || o["pos"] === null ? {} : { pos: int(o, "pos") }),
    acked: int(o, "acked"),
    live: o["live"] === true,
    ...(o["ticket"] === undefined ? {} : { ticket: text(o, "ticket", 2048) }),
    ...(o["stay"] === true ? { stay: true } : {}),
    ...(o["calls"] === undefined ? {} : { calls: list(o["calls"], callsPerAttachMax, "calls", call) }),
    ...(o["queries"] === undefined ? {} : { queries: list(o["queries"], callsPerAttachMax, "queries", query) }),
  }
}

/**
 * Reads one frame of a client. Returns undefined for a type that this version does not know (ignored by contract); throws
 * `BAD_FRAME` for anything that is not of the protocol's form: the connection is then closed, no other is disturbed.
 */
export function parseClientFrame(source: string): ClientFrame | undefined {
  let json: unknown
  try {
    json = JSON.parse(source)
  } catch {
    bad("a frame must be JSON", source.slice(0, 40))
  }
  // What is shorter cannot nest so deep.
  if (source.length > 2 * jsonDepthMax && nestsDeeper(json))
    bad(`a frame must nest at most ${jsonDepthMax} levels`, source.slice(0, 40))
  return readClientFrame(json)
}

/** The same for a frame that is parsed JSON already: one that came through the mesh inside another message. */
export function readClientFrame(json: unknown): ClientFrame | undefined {
  const o = fields(json, "a frame")
  switch (o["t"]) {
    case "hello":
      return {
        t: "hello",
        client: text(o, "client", 64),
        ...(o["token"] === undefined ? {} : { token: text(o, "token", frameLimits.tokenCharsMax) }),
        ...(o["at"] === undefined
          ? {}
          : { at: list(o["at"], 32, "at", (x) => (typeof x === "string" ? x : bad("a ticket must be a string", x))) }),
        ...(o["attach"] === undefined
          ? {}
          : { attach: list(o["attach"], frameLimits.attachesPerHelloMax, "attach", attach) }),
        ...(o["batch"] === undefined ? {} : { batch: int(o, "batch") }),
      }
    case "attach":
      return { t: "attach", ...attach(o) }
    case "call":
      return o["skip"] === true
        ? { t: "call", ch: int(o, "ch"), ...call(o) }
        : // The frame that comes most: made in one piece.
          { t: "call", ch: int(o, "ch"), c: int(o, "c", 1), a: name(o, "a"), p: encoded(o["p"]) }
    case "query":
      return { t: "query", ch: int(o, "ch"), ...query(o) }
    case "ack":
      return { t: "ack", ch: int(o, "ch"), c: int(o, "c"), r: int(o, "r") }
    case "detach":
      return { t: "detach", ch: int(o, "ch") }
    case "token":
      return { t: "token", token: text(o, "token", frameLimits.tokenCharsMax) }
    case "sessions": {
      const n = int(o, "n", 1)
      return n <= frameLimits.sessionsPerAskMax
        ? { t: "sessions", n }
        : bad(`n must be at most ${frameLimits.sessionsPerAskMax}`, n)
    }
    case "ping":
    case "pong":
      return { t: o["t"], ...(o["n"] === undefined ? {} : { n: int(o, "n") }) }
    default:
      return typeof o["t"] === "string" ? undefined : bad("a frame must have a type t", o["t"])
  }
}
