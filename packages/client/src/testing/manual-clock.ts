import type { Clock, Undo } from "@sojourn/protocol"

/** Time that passes when a test says so. */
export class ManualClock implements Clock {
  #mono = 0
  #wall = 1_700_000_000_000
  #timers: { at: number; fn: () => void }[] = []

  now(): number {
    return this.#wall
  }

  mono(): number {
    return this.#mono
  }

  after(ms: number, fn: () => void): Undo {
    const timer = { at: this.#mono + ms, fn }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  get timers(): number {
    return this.#timers.length
  }

  /** The machine sleeps: the wall clock goes on, the monotonic one and all timers stand still. */
  sleep(ms: number): void {
    this.#wall += ms
  }

  /** The next timer runs, whenever it is due. False: there is none. */
  next(): boolean {
    const timer = this.#timers.reduce<{ at: number; fn: () => void } | undefined>(
      (a, b) => (a && a.at <= b.at ? a : b),
      undefined,
    )
    if (!timer) return false
    this.#pass(Math.max(0, timer.at - this.#mono))
    this.#timers = this.#timers.filter((other) => other !== timer)
    timer.fn()
    return true
  }

  /** Lets `ms` pass; `between` runs first, and after each timer. */
  async advance(ms: number, between: () => Promise<void>): Promise<void> {
    await between()
    const end = this.#mono + ms
    while (this.#timers.some((timer) => timer.at <= end)) {
      this.next()
      await between()
    }
    this.#pass(end - this.#mono)
    await between()
  }

  #pass(ms: number): void {
    this.#mono += ms
    this.#wall += ms
  }
}
