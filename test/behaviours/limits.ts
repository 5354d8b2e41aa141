import type { ClientLimits } from "@sojourn/client"
import type { Limits } from "@sojourn/core"

/** Times that a test may have to wait out are short; bounds are the product's. */
export const quickLimits: Partial<Limits> = {
  resendMs: 40,
  resendMsMax: 160,
  askMsMax: 400,
  locateMsMax: 1_500,
  drainMsMax: 2_000,
  meshDialMsMin: 5,
  meshDialMsMax: 40,
  // An actor may follow its client at once, however recently another one called.
  followQuietMs: 0.001,
}

export const quickClient: Partial<ClientLimits> = {
  callMs: 15_000,
  firstRetryMsMax: 10,
  retryMs: 10,
  retryMsMax: 80,
  ackMs: 20,
}

/** Where messages are counted: nothing is said again because a busy machine answered late. */
export const patientLimits: Partial<Limits> = {
  resendMs: 10_000,
  resendMsMax: 10_000,
  askMsMax: 5_000,
  locateMsMax: 8_000,
}
