import type { Chance } from "@sojourn/protocol"
import type { ClientLimits } from "./limits.ts"

/**
 * Ms until attempt number `attempt` (0 is the first retry). Full jitter spreads clients that lost the same server at the same
 * moment (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
 */
export function retryDelayMs(attempt: number, chance: Chance, limits: ClientLimits): number {
  if (attempt === 0) return chance.random() * limits.firstRetryMsMax
  return chance.random() * Math.min(limits.retryMsMax, limits.retryMs * 2 ** Math.min(attempt, 30))
}
