import { SojournError } from "@sojourn/protocol"

/**
 * The actors whose turns wait along a call, the first one first. A call made through `c.actors` carries it to the actor that it runs at, so
 * that the turn there knows whom it must not call: whoever is in the chain runs nothing else before that call has been answered.
 *
 * The decision is the caller's own, before anything is sent. What no chain shows is a circle of several: turns that were begun
 * apart and call each other's actors. Those wait until `limits.turnMsMax`.
 */
export type Chain = readonly string[]

/** Turns that wait along one call. Peers refuse a longer chain, so every POP's code has to know a larger number before any sends it. */
export const chainMax = 16

/** Throws CALL_CHAIN where a call that these turns would wait for may not be made. */
export function assertMayCall(target: string, waiting: Chain): void {
  const chain = `the call chain ${[...waiting, target].join(" → ")}`
  if (waiting.includes(target))
    throw new SojournError(
      "CALL_CHAIN",
      `${chain} comes back to ${target}, whose turn waits for this very call; it was not made. Let ${target} pass what is asked of it along as an argument, or do it after the reply; or call from an alarm (c.alarms.set), when this turn is over`,
    )
  if (waiting.length > chainMax)
    throw new SojournError(
      "CALL_CHAIN",
      `${chain} is too long: at most ${chainMax} turns may wait for one call; it was not made. Call from an alarm (c.alarms.set), when this turn is over`,
    )
}
