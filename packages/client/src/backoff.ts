import type { Chance } from "@sojourn/protocol"
import type { ClientLimits } from "./limits.ts"

/**
 * Ms until attempt number `attempt` (0 is the first retry). Full jitter spreads clients that lost the same server at the same
 * moment (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
 *
 * `awayMs`: where nobody has listened, for so long: up to half as long again, so all are back soon after a server that was soon back.
 */
export function retryDelayMs(attempt: number, chance: Chance, limits: ClientLimits, awayMs?: number): number {
  const { firstRetryMsMax, retryMs, retryMsMax } = limits
  const most = awayMs === undefined ? retryMs * 2 ** Math.min(attempt, 30) : Math.max(retryMs, awayMs / 2)
  return chance.random() * (attempt === 0 ? firstRetryMsMax : Math.min(retryMsMax, most))
}
