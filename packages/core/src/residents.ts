import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"
import type { Slot } from "./slot.ts"

const oldestMax = 64

interface Old {
  readonly slot: Slot
  readonly usedAt: number
}

/** The actors that have an activation on this node: bounded, and put to sleep when nobody has used them for a while. */
export class Residents {
  readonly #clock: Clock
  readonly #limits: Limits
  readonly #sleep: (slot: Slot, why: "idle" | "evicted") => void
  readonly #slots = new Map<string, Slot>()
  /** Found by one walk through all, for several that need room: whichever of them was not used since goes before any other. */
  #oldest: Old[] = []
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
    return this.#sendOldest() || (this.#findOldest() && this.#sendOldest())
  }

  #sendOldest(): boolean {
    for (let one = this.#oldest.pop(); one; one = this.#oldest.pop()) {
      const { slot, usedAt } = one
      if (this.#slots.get(slot.id) !== slot || !mayGo(slot) || slot.activation?.lastUsed !== usedAt) continue
      this.#sleep(slot, "evicted")
      return true
    }
    return false
  }

  #findOldest(): boolean {
    const idle: Old[] = []
    for (const slot of this.#slots.values())
      if (mayGo(slot)) idle.push({ slot, usedAt: slot.activation?.lastUsed ?? 0 })
    this.#oldest = idle
      .sort((a, b) => a.usedAt - b.usedAt)
      .slice(0, oldestMax)
      .reverse()
    return idle.length > 0
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

function mayGo({ activation, state }: Slot): boolean {
  return activation !== undefined && activation.idle && state.phase.at === "resident"
}
