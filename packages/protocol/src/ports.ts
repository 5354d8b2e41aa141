/**
 * Time and chance as client and core need them: they enter by parameter, so that the same code runs in a browser, in an edge runtime
 * and in the simulator, where a seed decides both.
 */

/** Undoes what returned it. Calling it twice is harmless. */
export type Undo = () => void

export interface Clock {
  /** Wall clock, ms since 1970. May jump; no safety argument uses it. */
  now(): number
  /** Monotonic ms, for durations and deadlines on this process. */
  mono(): number
  /** Runs `fn` once after at least `ms`; the result cancels it. */
  after(ms: number, fn: () => void): Undo
}

export interface Chance {
  /** Uniform in [0, 1). */
  random(): number
  /** A fresh unguessable id of URL-safe characters. */
  id(): string
}
