/**
 * The one table of errors. `docs/errors.md`, the close codes and the client's behaviour come from it.
 *
 * `retry`: whether the same request may succeed if made again: `never` (mend the request first), `later` (wait, then the same
 * place), `elsewhere` (at once, through a fresh attach; the actor is at another place).
 * `outcome`: what is known of the request's effect: `not-executed`, `unknown` or `executed`.
 */
export type Retry = "never" | "later" | "elsewhere"
export type Outcome = "not-executed" | "unknown" | "executed"

export const ERRORS = {
  BAD_FRAME: ["never", "not-executed", "a frame that is not of the protocol's form"],
  FRAME_TOO_LARGE: ["never", "not-executed", "a frame over the limit"],
  UNAUTHORIZED: ["never", "not-executed", "not authenticated, or the token was refused"],
  FORBIDDEN: ["never", "not-executed", "this principal may not do this"],
  FOREIGN_ORIGIN: ["never", "not-executed", "the page's origin is not on the allow-list"],
  UNKNOWN_ACTOR: ["never", "not-executed", "no actor class of this name is set up here"],
  UNKNOWN_ACTION: ["never", "not-executed", "the actor has no such action or query"],
  BAD_KEY: ["never", "not-executed", "the actor's key is empty, too long or names an unknown home"],
  BAD_INPUT: ["never", "not-executed", "the arguments were refused by the action's validator"],
  BAD_STATE: ["never", "not-executed", "the turn left a state that cannot be stored; it was rolled back"],
  ACTOR_ERROR: ["never", "not-executed", "the action refused"],
  INTERNAL: ["never", "not-executed", "the action failed; the id finds it in the server's log"],
  REPLY_TOO_LARGE: ["never", "not-executed", "the action's reply is over the limit; the turn was rolled back"],
  REPLY_GONE: ["never", "executed", "the call was applied and its reply acknowledged earlier; it is kept no longer"],
  CALL_SKIPPED: ["never", "not-executed", "the caller had given this call up before it was applied"],
  CALL_CHAIN: ["never", "not-executed", "a call chain is too long, or comes back"],
  SESSION_UNKNOWN: ["never", "unknown", "the session is expired, forged or another principal's"],
  SESSIONS_FULL: ["later", "not-executed", "the actor's session table is full"],
  MAILBOX_FULL: ["later", "not-executed", "the actor's mailbox is full"],
  ALARMS_FULL: ["never", "not-executed", "the actor has as many alarms as it may, or an alarm's payload is too large"],
  RESIDENTS_FULL: ["later", "not-executed", "the node holds as many activations as it may"],
  RATE_LIMITED: ["later", "not-executed", "too many requests from this connection"],
  OVERLOADED: ["later", "not-executed", "the node has too much to do"],
  SLOW_READER: ["later", "unknown", "the connection did not read what was sent to it"],
  SNAPSHOT_TOO_LARGE: ["never", "not-executed", "the actor's state is over the limit; it stays where it is"],
  CALL_ORDER: [
    "elsewhere",
    "not-executed",
    "a call's number is not the next one; attach again and send what is unacknowledged",
  ],
  MOVED: ["elsewhere", "not-executed", "the actor is at another POP; attach again"],
  SLEPT: ["elsewhere", "not-executed", "the activation ended; attach again"],
  POP_UNREACHABLE: ["later", "not-executed", "the POP that has the actor did not answer in time"],
  POP_FORGOTTEN: ["later", "not-executed", "the actor's last or next POP was given up as destroyed"],
  NOT_FOUND_YET: ["later", "not-executed", "nobody asked knew where the actor is; ask again"],
  NOT_SERVING: ["later", "not-executed", "this POP does not serve yet, or no more"],
  STORE_LOST: ["never", "not-executed", "this POP's store is not the one that its peers remember"],
  STORE_UNAVAILABLE: ["later", "not-executed", "the store did not answer, or refused to write"],
  STORE_IN_USE: ["never", "not-executed", "another process has this store open"],
  UNKNOWN_OUTCOME: ["later", "unknown", "a write's outcome is unknown; the activation was dropped"],
  FENCED: ["elsewhere", "unknown", "refused: the epoch, fence or revision is not the record's"],
  CORRUPT_RECORD: ["never", "not-executed", "a stored record fails its checksum or format; it is left untouched"],
  HISTORY_LOST: ["never", "unknown", "the client knows a later revision than the actor has"],
  RESIDENCY_DENIED: ["never", "not-executed", "the actor's residency does not allow it at this POP"],
  SCHEMA_NEWER: ["later", "not-executed", "the actor's state is of a later schema than this POP's code"],
  MIGRATION_FAILED: ["never", "not-executed", "a step of the actor's migration failed; its stored state is untouched"],
  INVARIANT: ["later", "unknown", "an invariant of the protocol does not hold; the activation was dropped"],
  CALL_TIMEOUT: ["later", "unknown", "no reply within the call's time"],
  CALL_NOT_SENT: ["later", "not-executed", "the call was never sent within its time"],
  CALL_ABORTED: ["never", "unknown", "the caller's signal aborted the call"],
  QUEUE_FULL: ["later", "not-executed", "the client's queue of unsent calls is full"],
  CLIENT_CLOSED: ["never", "unknown", "the client was closed"],
  HANDSHAKE_TIMEOUT: ["later", "not-executed", "no valid first frame in time"],
  HALF_OPEN: ["later", "unknown", "nothing was heard from the other side in time"],
  MESH_REFUSED: ["never", "not-executed", "a mesh peer is unknown, or has another secret or list of homes"],
  BAD_CONFIG: ["never", "not-executed", "an option is missing, out of range or contradicts another"],
} as const satisfies Record<string, readonly [Retry, Outcome, string]>

export type ErrorCode = keyof typeof ERRORS

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
  readonly retryAfterMs?: number
  readonly ref?: string
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
    const [retry, outcome, text] = ERRORS[code]
    super(message ?? text, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "SojournError"
    this.code = code
    this.retry = options.retry ?? retry
    this.outcome = options.outcome ?? outcome
    this.details = options.details ?? {}
    this.retryAfterMs = options.retryAfterMs
    this.ref = options.ref
    this.data = options.data
  }

  static fromWire(wire: WireError): SojournError {
    const code: ErrorCode = Object.hasOwn(ERRORS, wire.code) ? wire.code : "INTERNAL"
    return new SojournError(code, wire.message, {
      retry: wire.retry,
      outcome: wire.outcome,
      ...(wire.retryAfterMs === undefined ? {} : { retryAfterMs: wire.retryAfterMs }),
      ...(wire.ref === undefined ? {} : { ref: wire.ref }),
      data: wire.data,
    })
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
 * Thrown by an author's action to refuse: the caller gets exactly this code, message and data. Any other error thrown by an
 * action is masked; the caller gets a neutral message and an id that finds the error in the server's log.
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
