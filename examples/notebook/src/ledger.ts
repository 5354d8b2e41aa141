import type { Tally } from "./document.ts"

/**
 * A writer's own account of its calls, kept outside of the framework: numbers given out, and which of them were acknowledged. `settle`
 * compares it with what the actor's code counted when it applied them.
 */
export interface Settlement {
  readonly made: number
  readonly acked: number
  /** Different numbers that were applied. */
  readonly applied: number
  /** Acknowledged and not applied. */
  readonly lost: number
  /** Applications beyond each number's first. */
  readonly duplicated: number
  /** Whether the numbers were applied in the order in which they were made. */
  readonly inOrder: boolean
}

export class Ledger {
  #made = 0
  #refused = 0
  readonly #acked = new Set<number>()

  get made(): number {
    return this.#made
  }

  get acked(): number {
    return this.#acked.size
  }

  get refused(): number {
    return this.#refused
  }

  /** Made, and neither acknowledged nor refused yet. */
  get open(): number {
    return this.#made - this.#acked.size - this.#refused
  }

  make(): number {
    return (this.#made += 1)
  }

  ack(n: number): void {
    this.#acked.add(n)
  }

  refuse(): void {
    this.#refused += 1
  }

  settle(tally: Tally | undefined): Settlement {
    const times = new Map<number, number>()
    let inOrder = true
    let last = 0
    for (const [from, to] of tally?.runs ?? []) {
      if (from <= last) inOrder = false
      for (let n = from; n <= to; n++) times.set(n, (times.get(n) ?? 0) + 1)
      last = to
    }
    let lost = 0
    for (const n of this.#acked) if (!times.has(n)) lost += 1
    // Joined runs stand for fewer numbers than they span: the plain count of applications tells then.
    const applied = tally?.applied ?? 0
    let repeats = 0
    for (const count of times.values()) repeats += count - 1
    return {
      made: this.#made,
      acked: this.#acked.size,
      applied: times.size,
      lost,
      duplicated: Math.max(repeats, applied - times.size),
      inOrder,
    }
  }
}
