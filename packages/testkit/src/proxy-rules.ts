import type { Piece, ProxyMessage } from "./proxy-messages.ts"
import type { ProxySide } from "./proxy.ts"

/**
 * What is done to what passes a proxy, until the rule is removed or has acted `times` times. Several rules act one after the other.
 *
 * - `delay`: it comes `ms` later, and so does what is behind it in its direction: TCP keeps order
 * - `throttle`: its direction carries so many bytes a second, on each connection
 * - `drop`: the message is lost and its neighbours are not, as between a sender and a reader that do not trust each other's memory
 * - `duplicate`: the message comes twice, one right behind the other
 * - `cut`: its connection is reset on both sides, and it is lost with it
 * - `half-open`: it and all that follows in its direction on this connection vanishes, and neither end is told
 */
export type ProxyRule = {
  /** Default: both. */
  readonly side?: ProxySide
  /** Which messages. Absent: everything that passes; of what is no message, `drop` and `duplicate` leave the hands off. */
  readonly match?: (message: ProxyMessage) => boolean
  /** Default: without end. */
  readonly times?: number
} & (
  | { readonly do: "delay"; readonly ms: number }
  | { readonly do: "throttle"; readonly bytesPerSecond: number }
  | { readonly do: "drop" | "duplicate" | "cut" | "half-open" }
)

export type ProxyAction = ProxyRule["do"]

export interface ProxyRuleHandle {
  readonly acted: number
  /** Does nothing when it is over already. */
  remove(): void
}

/** What became of one piece. */
export interface Verdict {
  readonly copies: number
  readonly laterMs: number
  /** Time that the line is busy with it. */
  readonly busyMs: number
  readonly fate: "pass" | "cut" | "half-open"
}

export const untouched: Verdict = { copies: 1, laterMs: 0, busyMs: 0, fate: "pass" }

const matters: readonly ProxyAction[] = ["drop", "duplicate"]
const actions: readonly ProxyAction[] = ["delay", "throttle", ...matters, "cut", "half-open"]
const sides: readonly ProxySide[] = ["up", "down", "both"]

/** Throws a RangeError where it is none: it would stand for no direction. */
export function checkSide(side: ProxySide): void {
  if (!sides.includes(side)) throw new RangeError(`a side of a proxy is ${sides.join(", ")}; got ${String(side)}`)
}

/** Throws a RangeError or TypeError naming what is wrong with the rule. */
export function checkRule(rule: ProxyRule, messages: boolean): void {
  const positive = (name: string, value: number, least: number): void => {
    if (!(Number.isFinite(value) && value >= least))
      throw new RangeError(`${name} of a proxy's rule must be a number of at least ${least}, got ${value}`)
  }
  if (!actions.includes(rule.do))
    throw new RangeError(`a proxy's rule does one of ${actions.join(", ")}; got ${String(rule.do)}`)
  if (rule.side !== undefined) checkSide(rule.side)
  if (rule.match !== undefined && typeof rule.match !== "function")
    throw new TypeError(`match of a proxy's rule must be a function of a message, got ${typeof rule.match}`)
  if (rule.do === "delay") positive("ms", rule.ms, 0)
  if (rule.do === "throttle") positive("bytesPerSecond", rule.bytesPerSecond, 1)
  if (rule.times !== undefined) positive("times", rule.times, 1)
  // It is over when it has acted as often: never, with a part of a time.
  if (!Number.isInteger(rule.times ?? 1))
    throw new RangeError(`times of a proxy's rule must be a whole number, got ${rule.times}`)
  if (!messages && (rule.match !== undefined || matters.includes(rule.do)))
    throw new TypeError(
      `a rule that matches, drops or duplicates needs messages; this proxy passes bytes (messages: true)`,
    )
}

export class ProxyRules {
  readonly #rules = new Map<ProxyRule, { acted: number }>()
  readonly #acted: (action: ProxyAction, side: ProxySide, bytes: number) => void

  constructor(acted: (action: ProxyAction, side: ProxySide, bytes: number) => void) {
    this.#acted = acted
  }

  add(rule: ProxyRule): ProxyRuleHandle {
    // A copy: the same object may be given twice.
    const own = { ...rule }
    const state = { acted: 0 }
    this.#rules.set(own, state)
    return {
      get acted() {
        return state.acted
      },
      remove: () => void this.#rules.delete(own),
    }
  }

  judge(side: Exclude<ProxySide, "both">, { bytes, message }: Piece): Verdict {
    if (this.#rules.size === 0) return untouched
    let { copies, laterMs, busyMs } = untouched
    for (const [rule, state] of this.#rules) {
      if (rule.side !== undefined && rule.side !== "both" && rule.side !== side) continue
      if (message === undefined && (rule.match !== undefined || matters.includes(rule.do))) continue
      if (rule.match !== undefined && message !== undefined && !rule.match(message)) continue
      state.acted += 1
      if (state.acted === rule.times) this.#rules.delete(rule)
      this.#acted(rule.do, side, bytes.length)
      switch (rule.do) {
        case "delay":
          laterMs += rule.ms
          break
        case "throttle":
          busyMs += (bytes.length * 1_000) / rule.bytesPerSecond
          break
        case "drop":
          return { ...untouched, copies: 0 }
        case "duplicate":
          copies += 1
          break
        case "cut":
        case "half-open":
          return { ...untouched, copies: 0, fate: rule.do }
      }
    }
    return { copies, laterMs, busyMs, fate: "pass" }
  }
}
