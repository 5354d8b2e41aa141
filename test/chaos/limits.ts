import type { ClientLimits } from "@sojourn/client"
import type { Limits } from "@sojourn/core"

/**
 * The waits of POPs, shorter than by default, so that a process that stands still for some seconds has outlasted every one of them. What
 * is kept for a time (sessions, tickets, the journal's tail) is not waited for, and is the default.
 */
export const popWaits = {
  askMsMax: 1_000,
  locateMsMax: 2_500,
  drainMsMax: 2_000,
  turnMsMax: 4_000,
  moveMsMax: 5_000,
  goAwaySpreadMs: 1_000,
  closeMsMax: 5_000,
  helloMsMax: 3_000,
  heartbeatMs: 1_500,
  meshBeatMs: 500,
  meshDeadMs: 2_000,
  meshHandshakeMsMax: 2_000,
  meshDialMsMax: 500,
  resendMs: 200,
  resendMsMax: 2_000,
  chunkStallMs: 500,
} as const satisfies Partial<Limits>

export const popLimits: Partial<Limits> = {
  ...popWaits,
  /** Actors sleep and wake during the run. */
  idleMs: 5_000,
  /** An actor of two devices moves between them now and then. */
  followQuietMs: 500,
}

/** Of the store: a commit that takes longer has an unknown outcome. */
export const commitMsMax = 5_000

export const clientLimits = {
  callMs: 7_000,
  connectMsMax: 2_500,
  attachMsMax: 4_000,
  firstRetryMsMax: 100,
  retryMs: 100,
  retryMsMax: 1_000,
} as const satisfies Partial<ClientLimits>

/** A client is closed after three heartbeats of silence. */
const waits = [...Object.values(popWaits), 3 * popWaits.heartbeatMs, commitMsMax, ...Object.values(clientLimits)]

/** Longer than every wait above. */
export const pauseMs = Math.max(...waits) + 1_000
