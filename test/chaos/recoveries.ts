import { quantile } from "@sojourn/testkit"
import type { Traveller } from "./traveller.ts"

export interface Spread {
  readonly n: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Longer ones are told with the client's name. */
const slowMs = 10_000

/**
 * How long it took until those whom a fault concerned were served again. Where faults go on meanwhile it holds what they cost as well: an
 * account follows its clients, from one POP in trouble to the next.
 */
export class Recoveries {
  readonly #samples = new Map<string, number[]>()
  /** How often each kind of fault occurred. */
  readonly counts = new Map<string, number>()
  readonly #onSlow: (words: string) => void

  constructor(onSlow: (words: string) => void) {
    this.#onSlow = onSlow
  }

  count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }

  /** `from`: what is counted from. */
  async measure(kind: string, from: number, traveller: Traveller, key: string, until: number): Promise<void> {
    const served = await traveller.served(key, until)
    if (served === undefined) return
    const ms = served - from
    const samples = this.#samples.get(kind)
    if (samples === undefined) this.#samples.set(kind, [ms])
    else samples.push(ms)
    if (ms > slowMs) this.#onSlow(`${traveller.id} was served by ${key} ${Math.round(ms)} ms after ${kind}`)
  }

  table(): ReadonlyMap<string, Spread> {
    return new Map([...this.counts.keys()].sort().map((kind) => [kind, spread(this.#samples.get(kind) ?? [])]))
  }
}

export function spread(values: readonly number[]): Spread {
  const at = (q: number): number => (values.length === 0 ? 0 : Math.round(quantile(values, q)))
  return { n: values.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
