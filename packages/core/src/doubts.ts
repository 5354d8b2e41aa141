import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"

/**
 * Seals whose outcome is not known. One may take effect later, when this POP serves the actor again or has nothing to do with it, and then
 * nobody would say its GRANT: a sleeping actor would miss its alarms until somebody asks for it or the node starts anew. So the record is
 * looked at after growing pauses, from `resendMs` to `resendMsMax`, and then no more: an engine that is so late is found at the next start.
 *
 * At most `actorsMax` at once; further ones are as if they had not been seen.
 */
const actorsMax = 1_000

export class Doubts {
  readonly #clock: Clock
  readonly #limits: Limits
  /** Answers whether the doubt is over. Never rejects. */
  readonly #look: (actor: string) => Promise<boolean>
  readonly #timers = new Map<string, Undo>()
  #stopped = false

  constructor(clock: Clock, limits: Limits, look: (actor: string) => Promise<boolean>) {
    this.#clock = clock
    this.#limits = limits
    this.#look = look
  }

  add(actor: string): void {
    if (this.#timers.size >= actorsMax && !this.#timers.has(actor)) return
    this.#wait(actor, this.#limits.resendMs)
  }

  stop(): void {
    this.#stopped = true
    for (const undo of this.#timers.values()) undo()
    this.#timers.clear()
  }

  #wait(actor: string, pause: number): void {
    this.#timers.get(actor)?.()
    this.#timers.delete(actor)
    if (this.#stopped || pause > this.#limits.resendMsMax) return
    const undo = this.#clock.after(pause, () => {
      void this.#look(actor).then((over) => {
        // Doubted anew meanwhile: that one has its own time.
        if (this.#timers.get(actor) !== undo) return
        this.#timers.delete(actor)
        if (!over) this.#wait(actor, pause * 2)
      })
    })
    this.#timers.set(actor, undo)
  }
}
