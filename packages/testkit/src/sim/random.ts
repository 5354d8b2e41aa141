import type { Chance } from "@sojourn/protocol"

/**
 * The simulator's only source of chance: sfc32, "Small Fast Counting" by Chris Doty-Humphrey, as in PractRand 0.95
 * (pracrand.sourceforge.net, RNG_engines). 128 bits of state, passes BigCrush; not for secrets. The same seed and label give the same
 * numbers on every machine: only 32-bit integer operations are used.
 */
export class Random {
  #a: number
  #b: number
  #c: number
  #counter = 1

  /** `label` separates streams of one seed, so that a new consumer of chance in one place does not shift all others. */
  constructor(seed: number, label = "") {
    let h = 0x811c9dc5
    for (let i = 0; i < label.length; i++) h = Math.imul(h ^ label.charCodeAt(i), 0x01000193)
    this.#a = seed | 0
    this.#b = h | 0
    this.#c = Math.floor(seed / 0x1_0000_0000) | 0
    for (let i = 0; i < 15; i++) this.#next()
  }

  #next(): number {
    const t = (((this.#a + this.#b) | 0) + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (this.#c << 21) | (this.#c >>> 11)
    this.#c = (this.#c + t) | 0
    return t >>> 0
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.#next() / 0x1_0000_0000
  }

  /** Uniform integer in [0, below). */
  int(below: number): number {
    return Math.floor(this.unit() * below)
  }

  between(low: number, high: number): number {
    return low + this.unit() * (high - low)
  }

  happens(probability: number): boolean {
    return this.unit() < probability
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.int(items.length)]
    if (items.length === 0) throw new RangeError("nothing to pick from")
    return item as T
  }

  /** As the product takes its chance. Ids are unguessable for the simulated parties only. */
  chance(): Chance {
    const hex = (): string => this.#next().toString(16).padStart(8, "0")
    return { random: () => this.unit(), id: () => hex() + hex() + hex() }
  }
}
