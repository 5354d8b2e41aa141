/**
 * Every bound of a node, with its default. Unit last in the name. Reaching one is the named error in the comment. Relations between
 * them are asserted by `withLimits`, at start, so that a wrong combination never runs.
 */
export const defaultLimits = {
  /** Frame from a client after `welcome`, characters: FRAME_TOO_LARGE. */
  frameCharsMax: 1_048_576,
  /** A reply, event or patch set of one turn, encoded characters: REPLY_TOO_LARGE. */
  outputCharsMax: 4_194_304,
  /** Whole stored body of an actor, bytes: SNAPSHOT_TOO_LARGE. */
  snapshotBytesMax: 8_388_608,
  /** Journal since the last snapshot before it is compacted. */
  journalEntriesMax: 512,
  journalBytesMax: 1_048_576,
  /** Tail kept for resume. Past it a resume gets a snapshot. */
  tailEntriesMax: 256,
  tailBytesMax: 262_144,
  tailMsMax: 120_000,
  /** Calls and queries waiting in one activation, each counted once for every 16 KiB that are begun: MAILBOX_FULL. */
  mailboxMax: 1_024,
  /** Turns that ended and wait for their write. The mailbox pauses at it. */
  pendingTurnsMax: 256,
  /** Sessions with a dedupe record in one actor: SESSIONS_FULL. */
  sessionsPerActorMax: 1_024,
  /** Replies kept for one session until it acknowledges them: the oldest call above it waits (CALL_ORDER on violation). */
  repliesPerSessionMax: 256,
  /** Life of a session and of its dedupe record after it was last seen. */
  sessionTtlMs: 86_400_000,
  /** How far two POPs' clocks may differ. */
  clockSkewMsMax: 300_000,
  /** Life of a ticket after it was signed; later it is no hint. */
  ticketTtlMs: 86_400_000,
  /** Alarms set in one actor, and the encoded payload of one, characters: ALARMS_FULL. */
  alarmsPerActorMax: 256,
  alarmPayloadCharsMax: 8_192,
  /** Pause before a failed alarm is run again, doubled up to the second; it is never given up. */
  alarmRetryMs: 1_000,
  alarmRetryMsMax: 300_000,
  /** Actors that alarms wake at once. */
  alarmWakesMax: 64,
  /** Longest time between two looks for what is due: bounds what a jump of the wall clock delays. */
  alarmLookMsMax: 1_000,
  /** An activation without calls for this long is deactivated; its clients stay attached. */
  idleMs: 30_000,
  /** Activations on this node: the least recently used idle one goes first, else RESIDENTS_FULL. */
  residentsMax: 10_000,
  /** A running turn at a move or a shutdown may take this long, then its `signal` aborts and it is dropped. */
  drainMsMax: 5_000,
  /** A turn may take this long: it is then aborted, rolled back and its activation dropped. */
  turnMsMax: 30_000,
  /** `onDeactivate` may take this long, and no longer than `drainMsMax`: its `signal` aborts, it is rolled back, and the deactivation goes on. */
  deactivateMsMax: 2_000,
  /** What an action left to `c.waitUntil` keeps the activation for so long, then it is reported; so many promises at once: QUEUE_FULL. */
  waitUntilMsMax: 10_000,
  waitUntilsPerActorMax: 64,
  /** One POP's answer to a PULL or RELAY: POP_UNREACHABLE. */
  askMsMax: 3_000,
  /** A whole search for an actor, all asks together: POP_UNREACHABLE. */
  locateMsMax: 8_000,
  /** Pointers followed in one search. */
  hopsMax: 16,
  /** A move that begins at the owner, from its offer to the confirm: POP_UNREACHABLE. And how many are under way: RATE_LIMITED. */
  moveMsMax: 15_000,
  movesMax: 1_000,
  /** A POP that closes: its clients are sent away spread over the first, and all of it is over after the second. */
  goAwaySpreadMs: 2_000,
  closeMsMax: 15_000,
  /** Owner declines a pull while another session called within this time. */
  followQuietMs: 10_000,
  /** Between re-sends of an unconfirmed GRANT or HOMEUPD, doubled up to the maximum. */
  resendMs: 500,
  resendMsMax: 15_000,
  /** Unconfirmed grants re-sent at once. */
  resendBatchMax: 64,
  /** Connections on this node; attaches on one connection: RATE_LIMITED. */
  connectionsMax: 20_000,
  attachesPerConnectionMax: 256,
  /** First frame must have come by then: HANDSHAKE_TIMEOUT. */
  helloMsMax: 10_000,
  /** A client silent for two of these is asked whether it lives, for three it is closed: HALF_OPEN. */
  heartbeatMs: 20_000,
  /** Characters waiting in a client's socket: SLOW_READER. */
  connectionBufferMax: 8_388_608,
  /** Frames a second on one connection, and the burst above it: RATE_LIMITED. */
  framesPerSecondMax: 5_000,
  framesBurstMax: 20_000,
  /** Calls and attaches that come when reading and writing are so late, after the second without rest: OVERLOADED (`admission.ts`). */
  lateMsMax: 100,
  overloadMsMin: 1_000,
  overloadHoldMs: 2_000,
  /** Who is refused comes back after a random time between these. */
  overloadRetryMs: 200,
  overloadRetryMsMax: 1_000,
  /** Pulls started by tickets in upgrades, a second, before authentication. */
  earlyPullsPerSecondMax: 200,
  /** A stored body over the first goes between POPs in chunks of the second; so much of it is under way at once. */
  inlineBytesMax: 262_144,
  chunkBytes: 262_144,
  chunkWindowBytes: 2_097_152,
  /** Without a chunk for this long, what is missing is asked for again. */
  chunkStallMs: 1_000,
  /** Bytes of bodies on their way, each way: what began first is forgotten first, and asked for again. */
  stagedBytesMax: 67_108_864,
  /** An actor in use whose stored body is over this is copied ahead before it is sealed, at most so many times a move. */
  precopyBytesMin: 65_536,
  precopyRoundsMax: 3,
  /** Longest frame on a mesh link; a longer message goes in chunks of this, so that control messages are never far behind. */
  meshChunkBytes: 65_536,
  /** Longest mesh message, its body included: FRAME_TOO_LARGE at the sender, BAD_FRAME at the reader. */
  meshMessageBytesMax: 16_777_216,
  /** Bytes that wait for one peer before its link is closed: SLOW_READER. */
  meshQueueBytesMax: 67_108_864,
  /** A lost link is dialed again after a random pause below the first, doubled up to the second. */
  meshDialMsMin: 50,
  meshDialMsMax: 1_000,
  /** Between beats on a link, and the silence after which it ends: HALF_OPEN. */
  meshBeatMs: 2_000,
  meshDeadMs: 8_000,
  /** A link must be proved by then: HANDSHAKE_TIMEOUT. */
  meshHandshakeMsMax: 5_000,
  /** Links that have not proved who they are yet. */
  meshPendingMax: 64,
  /** Chunked messages under way on one link, each way; the sender starts no more than this, the reader refuses more: BAD_FRAME. */
  meshStreamsMax: 8,
  /** One step of forgetting a destroyed POP at one other POP, repetitions included; past it that POP counts as not reached. */
  forgetStepMsMax: 10_000,
  /** Relayed sessions on one link. */
  relaysPerLinkMax: 20_000,
} as const

export type Limits = { readonly [K in keyof typeof defaultLimits]: number }

/** Room for what a mesh message says beside the bytes that it is for: the sizes or chunks of a body, an actor's address. */
export const meshHeadBytes = 65_536
/** Of one character in UTF-8. */
const charBytesMax = 3

/** Defaults with these overrides. Throws a RangeError naming the option that is out of range or contradicts another. */
export function withLimits(overrides: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(overrides)) {
    if (!(name in defaultLimits)) throw new RangeError(`limits.${name} is no limit; see limits.ts for the list`)
    if (!Number.isFinite(value) || value <= 0)
      throw new RangeError(`limits.${name} must be a finite number above 0, got ${String(value)}`)
    // What is a time may be any; a part of a byte cannot be cut off, nor said to a peer.
    if (!/Ms(Max|Min)?$/.test(name) && !Number.isSafeInteger(value))
      throw new RangeError(`limits.${name} must be a whole number, got ${value}`)
  }
  const limits: Limits = { ...defaultLimits, ...overrides }
  const atMost = (a: keyof Limits, b: keyof Limits): void => {
    if (limits[a] > limits[b])
      throw new RangeError(`limits.${a} (${limits[a]}) must not exceed limits.${b} (${limits[b]})`)
  }
  atMost("askMsMax", "locateMsMax")
  atMost("resendMs", "resendMsMax")
  atMost("goAwaySpreadMs", "closeMsMax")
  atMost("alarmRetryMs", "alarmRetryMsMax")
  atMost("meshDialMsMin", "meshDialMsMax")
  atMost("overloadRetryMs", "overloadRetryMsMax")
  atMost("meshBeatMs", "meshDeadMs")
  atMost("tailBytesMax", "snapshotBytesMax")
  atMost("snapshotBytesMax", "stagedBytesMax")
  atMost("outputCharsMax", "connectionBufferMax")
  atMost("meshMessageBytesMax", "meshQueueBytesMax")
  // A longer message would never be sent: what was to go with it would be said again for ever, or be waited for.
  const inMessage = (name: keyof Limits, bytes: number): void => {
    if (bytes + meshHeadBytes > limits.meshMessageBytesMax)
      throw new RangeError(
        `limits.meshMessageBytesMax (${limits.meshMessageBytesMax}) must have room for limits.${name} (${limits[name]}), which may take ${bytes + meshHeadBytes} bytes of a message`,
      )
  }
  for (const name of ["snapshotBytesMax", "chunkBytes", "inlineBytesMax"] as const) inMessage(name, limits[name])
  for (const name of ["outputCharsMax", "frameCharsMax"] as const) inMessage(name, charBytesMax * limits[name])
  // An id is good for its time without that: none would ever open a session.
  if (limits.sessionTtlMs <= limits.clockSkewMsMax)
    throw new RangeError(
      `limits.sessionTtlMs (${limits.sessionTtlMs}) must exceed limits.clockSkewMsMax (${limits.clockSkewMsMax})`,
    )
  if (limits.meshStreamsMax < 2)
    throw new RangeError("limits.meshStreamsMax must be at least 2: relayed frames and bulk")
  return limits
}
