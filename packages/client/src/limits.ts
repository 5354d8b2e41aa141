import { frameLimits } from "@sojourn/protocol"

/** Every bound and time of a client, with its default. Unit last in the name. Reaching a bound is the error in its comment. */
export const defaultLimits = {
  /** A call's or query's time from being made to its answer: CALL_NOT_SENT or CALL_TIMEOUT. `with({ timeoutMs })` overrides it. */
  callMs: 30_000,
  /** Calls and queries of one actor that wait to be sent, and their encoded characters: QUEUE_FULL for the newest. */
  queueCallsMax: 1_000,
  queueCharsMax: 16_777_216,
  /** Calls of one session sent and not acknowledged to the server, which keeps at most 256 replies; the next ones wait. */
  windowCallsMax: 256,
  /** One encoded call: FRAME_TOO_LARGE. The server's own limit is the same. */
  frameCharsMax: 1_000_000,
  /** Characters in the socket's buffer past which sending pauses, and how long until it looks again. */
  bufferCharsMax: 4_194_304,
  bufferPauseMs: 25,
  /** Actors of one client: RATE_LIMITED. Closed handles make room. The server allows as many attaches on one connection. */
  actorsMax: 256,
  /** Location hints that are kept. */
  ticketsMax: 256,
  /** From starting to connect, the token function included, to `welcome`. */
  connectMsMax: 10_000,
  /** From an attach to its answer, after which it is made again. */
  attachMsMax: 20_000,
  /**
   * The first retry comes within the first, later ones by full jitter over the second, doubled each time, or where nobody listens within half of the time
   * that the client has been without a connection (or the second); up to the third.
   */
  firstRetryMsMax: 250,
  retryMs: 250,
  retryMsMax: 15_000,
  /** A connection or an attach that lasted so long was stable: the next trouble starts from the first retry again. */
  stableMs: 5_000,
  /** Attaches made again at once within `bounceMs` before there is a pause between them. */
  bouncesMax: 3,
  bounceMs: 1_000,
  /** Used until `welcome` names the server's. */
  heartbeatMs: 20_000,
  /** Time to hear anything after a probe on `online`, `pageshow` or a page made visible. */
  probeMs: 4_000,
  /** Replies and outputs are acknowledged after so many, or after so long, a quarter more or less by chance. */
  ackFrames: 32,
  ackMs: 200,
  /** `close()` waits so long for the other side. */
  closeMsMax: 1_000,
} as const

export type ClientLimits = { readonly [K in keyof typeof defaultLimits]: number }

/** Defaults with these overrides. Throws a RangeError naming the option that is out of range or contradicts another. */
export function withLimits(overrides: Partial<ClientLimits> = {}): ClientLimits {
  for (const [name, value] of Object.entries(overrides)) {
    if (!(name in defaultLimits)) throw new RangeError(`limits.${name} is no limit of a client`)
    if (!Number.isFinite(value) || value <= 0)
      throw new RangeError(`limits.${name} must be a finite number above 0, got ${String(value)}`)
  }
  const limits: ClientLimits = { ...defaultLimits, ...overrides }
  if (limits.ackFrames > limits.windowCallsMax)
    throw new RangeError("limits.ackFrames must not exceed limits.windowCallsMax: the window would only open by time")
  if (limits.windowCallsMax > frameLimits.callsPerAttachMax)
    throw new RangeError(
      `limits.windowCallsMax must not exceed ${frameLimits.callsPerAttachMax}, the calls of one attach`,
    )
  return limits
}
