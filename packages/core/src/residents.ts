import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"
import type { Slot } from "./slot.ts"

/** The actors that have an activation on this node: bounded, and put to sleep when nobody has used them for a while. */
export class Residents {
  readonly #clock: Clock
  readonly #limits: Limits
  readonly #sleep: (slot: Slot, why: "idle" | "evicted") => void
  readonly #slots = new Map<string, Slot>()
  #timer: Undo | undefined

  /** `sleep` begins a deactivation; the slot leaves by `remove` when that has ended. */
  constructor(clock: Clock, limits: Limits, sleep: (slot: Slot, why: "idle" | "evicted") => void) {
    this.#clock = clock
    this.#limits = limits
    this.#sleep = sleep
  }

  get size(): number {
    return this.#slots.size
  }

  all(): Slot[] {
    return [...this.#slots.values()]
  }

  add(slot: Slot): void {
    this.#slots.set(slot.id, slot)
  }

  remove(slot: Slot): void {
    this.#slots.delete(slot.id)
  }

  /** Room for one more activation: the least recently used idle one goes first. False: all are busy. */
  makeRoom(): boolean {
    if (this.#slots.size < this.#limits.residentsMax) return true
    let oldest: Slot | undefined
    let usedAt = Infinity
    for (const slot of this.#slots.values()) {
      const { activation } = slot
      if (!activation?.idle || slot.state.phase.at !== "resident" || activation.lastUsed >= usedAt) continue
      oldest = slot
      usedAt = activation.lastUsed
    }
    if (!oldest) return false
    this.#sleep(oldest, "evicted")
    return true
  }

  /** Looks for idle activations from now on, until `stop`. */
  start(): void {
    const { idleMs } = this.#limits
    this.#timer = this.#clock.after(Math.max(10, Math.min(1_000, idleMs / 4)), () => {
      const now = this.#clock.mono()
      for (const slot of this.all()) {
        const { activation, def } = slot
        if (activation?.idle && now - activation.lastUsed >= (def.idleMs ?? idleMs)) this.#sleep(slot, "idle")
      }
      if (this.#timer) this.start()
    })
  }

  stop(): void {
    this.#timer?.()
    this.#timer = undefined
  }
}
