import type { Clock, Undo } from "@sojourn/protocol"

/**
 * The only timer of a client. Whoever waits for a moment calls `at`; at or before the earliest of them `sweep` runs and whoever still
 * waits calls `at` again. So a call with a deadline costs a comparison, not a timer: its answer cancels nothing.
 */
export class Alarm {
  readonly #clock: Clock
  readonly #sweep: (now: number) => void
  #due = Infinity
  #undo: Undo | undefined

  constructor(clock: Clock, sweep: (now: number) => void) {
    this.#clock = clock
    this.#sweep = sweep
  }

  /** Runs the sweep at this monotonic time or earlier. What is no number never comes: a server's nonsense must not become a busy loop. */
  at(mono: number): void {
    if (!(mono < this.#due)) return
    this.#undo?.()
    this.#due = mono
    this.#undo = this.#clock.after(Math.max(0, Math.ceil(mono - this.#clock.mono())), () => {
      this.#due = Infinity
      this.#undo = undefined
      this.#sweep(this.#clock.mono())
    })
  }

  cancel(): void {
    this.#undo?.()
    this.#undo = undefined
    this.#due = Infinity
  }
}
