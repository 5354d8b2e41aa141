/**
 * Every error's code, with what it says of itself unless one occurrence knows better. Its text is in `error-texts.ts`; `docs/errors.md`,
 * the close codes and the client's behaviour come from both.
 *
 * `retry`: whether the same request may succeed if made again: `never` (mend the request first), `later` (wait, then the same
 * place), `elsewhere` (at once, through a fresh attach; the actor is at another place).
 * `outcome`: what is known of the request's effect: `not-executed`, `unknown` or `executed`.
 */
export type Retry = "never" | "later" | "elsewhere"
export type Outcome = "not-executed" | "unknown" | "executed"

/** Most errors had no effect. */
const never = ["never", "not-executed"] as const
const later = ["later", "not-executed"] as const
const elsewhere = ["elsewhere", "not-executed"] as const

export const errorKinds = {
  BAD_FRAME: never,
  FRAME_TOO_LARGE: never,
  UNAUTHORIZED: never,
  FORBIDDEN: never,
  FOREIGN_ORIGIN: never,
  UNKNOWN_ACTOR: never,
  UNKNOWN_ACTION: never,
  BAD_KEY: never,
  BAD_INPUT: never,
  BAD_STATE: never,
  ACTOR_ERROR: never,
  INTERNAL: never,
  REPLY_TOO_LARGE: never,
  REPLY_GONE: ["never", "executed"],
  CALL_SKIPPED: never,
  CALL_CHAIN: never,
  SESSION_UNKNOWN: ["never", "unknown"],
  SESSIONS_FULL: later,
  MAILBOX_FULL: later,
  ALARMS_FULL: never,
  RESIDENTS_FULL: later,
  RATE_LIMITED: later,
  OVERLOADED: later,
  SLOW_READER: ["later", "unknown"],
  SNAPSHOT_TOO_LARGE: never,
  CALL_ORDER: elsewhere,
  MOVED: elsewhere,
  SLEPT: elsewhere,
  POP_UNREACHABLE: later,
  POP_FORGOTTEN: later,
  NOT_FOUND_YET: later,
  NOT_SERVING: later,
  STORE_LOST: never,
  STORE_UNAVAILABLE: later,
  STORE_IN_USE: never,
  UNKNOWN_OUTCOME: ["later", "unknown"],
  FENCED: ["elsewhere", "unknown"],
  CORRUPT_RECORD: never,
  HISTORY_LOST: ["never", "unknown"],
  RESIDENCY_DENIED: never,
  SCHEMA_NEWER: later,
  MIGRATION_FAILED: never,
  INVARIANT: ["later", "unknown"],
  CALL_TIMEOUT: ["later", "unknown"],
  CALL_NOT_SENT: later,
  CALL_ABORTED: ["never", "unknown"],
  QUEUE_FULL: later,
  CLIENT_CLOSED: ["never", "unknown"],
  HANDSHAKE_TIMEOUT: later,
  HALF_OPEN: ["later", "unknown"],
  MESH_REFUSED: never,
  BAD_CONFIG: never,
} as const satisfies Record<string, readonly [Retry, Outcome]>

export type ErrorCode = keyof typeof errorKinds

/**
 * The messages of errors that are raised without one, filled by `error-texts.ts`. A bundler leaves that module out where nobody uses the
 * table itself, as in a browser's bundle: a client gives the errors that it raises a message of their own, and shows the server's of others.
 */
export const defaultMessages: Partial<Record<ErrorCode, string>> = {}

/** What of an error goes over the wire: nothing else ever does. `data` and the message are the author's for `ACTOR_ERROR`. */
export interface WireError {
  readonly code: ErrorCode
  readonly message: string
  readonly retry: Retry
  readonly outcome: Outcome
  readonly retryAfterMs?: number
  /** The author's own code (`ActorError`), or the log id of a masked error. */
  readonly ref?: string
  readonly data?: unknown
}

export interface ErrorOptions {
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
  readonly outcome?: Outcome
  readonly retry?: Retry
  readonly retryAfterMs?: number | undefined
  readonly ref?: string | undefined
  readonly data?: unknown
}

/** The one exported error class. `code` is stable; the message says what failed with which values and what to do. */
export class SojournError extends Error {
  readonly code: ErrorCode
  readonly retry: Retry
  readonly outcome: Outcome
  readonly details: Readonly<Record<string, unknown>>
  readonly retryAfterMs: number | undefined
  readonly ref: string | undefined
  readonly data: unknown

  constructor(code: ErrorCode, message?: string, options: ErrorOptions = {}) {
    const [retry, outcome] = errorKinds[code]
    super(message ?? defaultMessages[code] ?? code, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "SojournError"
    this.code = code
    this.retry = options.retry ?? retry
    this.outcome = options.outcome ?? outcome
    this.details = options.details ?? {}
    this.retryAfterMs = options.retryAfterMs
    this.ref = options.ref
    this.data = options.data
  }

  static fromWire({ code, message, retry, outcome, retryAfterMs, ref, data }: WireError): SojournError {
    const known = Object.hasOwn(errorKinds, code) ? code : "INTERNAL"
    return new SojournError(known, message, { retry, outcome, retryAfterMs, ref, data })
  }

  toWire(): WireError {
    return {
      code: this.code,
      message: this.message,
      retry: this.retry,
      outcome: this.outcome,
      ...(this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs }),
      ...(this.ref === undefined ? {} : { ref: this.ref }),
      ...(this.data === undefined ? {} : { data: this.data }),
    }
  }
}

/**
 * Thrown by an author's action to refuse: the caller gets a `SojournError` whose `code` is `ACTOR_ERROR`, with this code as its `ref`, this message
 * and this data. Any other error thrown by an action is masked; the caller gets a neutral message and an id that finds the error in the server's log.
 */
export class ActorError extends Error {
  readonly code: string
  readonly data: unknown
  constructor(code: string, message: string, data?: unknown) {
    super(message)
    this.name = "ActorError"
    this.code = code
    this.data = data
  }
}
