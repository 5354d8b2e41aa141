import { setImmediate } from "node:timers/promises"
import type { Clock, Undo } from "../ports.ts"

/** Time that passes when a test says so. What follows from a timer and needs no other one is done before the next. */
export class VirtualClock implements Clock {
  #mono = 0
  #wall = 1_700_000_000_000
  readonly #timers = new Set<{ readonly at: number; readonly fn: () => void }>()

  now(): number {
    return this.#wall
  }

  mono(): number {
    return this.#mono
  }

  after(ms: number, fn: () => void): Undo {
    const timer = { at: this.#mono + ms, fn }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  /** How many wait. */
  get timers(): number {
    return this.#timers.size
  }

  /** The wall clock is set, and no time passes. */
  jump(ms: number): void {
    this.#wall += ms
  }

  async advance(ms: number): Promise<void> {
    const end = this.#mono + ms
    await settled()
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.at - b.at)[0]
      if (next === undefined || next.at > end) break
      this.#timers.delete(next)
      this.#pass(next.at)
      next.fn()
      await settled()
    }
    this.#pass(end)
  }

  #pass(at: number): void {
    this.#wall += at - this.#mono
    this.#mono = at
  }
}

/** The memory store answers in microtasks, so nothing is left to happen without a timer. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await setImmediate()
}
