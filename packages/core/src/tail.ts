import type { Entry } from "./journal.ts"
import type { Limits } from "./limits.ts"

/**
 * The journal's tail, kept for resume: the last entries, bounded by number, bytes and age. Within it a client that comes back is sent
 * exactly what it missed; past it, it gets a snapshot and is told so.
 */
export class Tail {
  readonly #limits: Limits
  readonly #entries: Entry[]
  readonly #bytes: number[]
  #total: number

  constructor(entries: readonly Entry[], limits: Limits) {
    this.#limits = limits
    this.#entries = [...entries]
    this.#bytes = entries.map((entry) => JSON.stringify(entry).length)
    this.#total = this.#bytes.reduce((a, b) => a + b, 0)
  }

  get entries(): readonly Entry[] {
    return this.#entries
  }

  push(entry: Entry, bytes: number, now: number): void {
    this.#entries.push(entry)
    this.#bytes.push(bytes)
    this.#total += bytes
    this.trim(now)
  }

  /** Drops what is past a bound; the newest entry stays. */
  trim(now: number): void {
    const { tailEntriesMax, tailBytesMax, tailMsMax } = this.#limits
    let drop = 0
    while (drop < this.#entries.length - 1) {
      const entry = this.#entries[drop]
      if (entry === undefined) break
      const fits = this.#entries.length - drop <= tailEntriesMax && this.#total <= tailBytesMax
      if (fits && entry.t >= now - tailMsMax) break
      this.#total -= this.#bytes[drop] ?? 0
      drop++
    }
    if (drop === 0) return
    this.#entries.splice(0, drop)
    this.#bytes.splice(0, drop)
  }

  /** What a client at `position` has missed of an actor at `revision`; undefined where that reaches back past the tail. */
  since(position: number, revision: number): readonly Entry[] | undefined {
    if (position > revision) return undefined
    if (position === revision) return []
    const first = this.#entries[0]
    if (first === undefined || first.r > position + 1) return undefined
    return this.#entries.slice(position + 1 - first.r)
  }
}
