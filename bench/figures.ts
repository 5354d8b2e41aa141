import { median, quantile } from "@sojourn/testkit"

/** What one case came to: in one run, or over the runs. */
export type Figure<K extends string> = Readonly<Record<K, number>>

export interface Spread {
  readonly p50: number
  readonly p99: number
}

export function spread(took: readonly number[]): Spread {
  return { p50: median(took), p99: quantile(took, 0.99) }
}

/** Figures of cases over several runs. A case is whatever its key says. */
export class Measured<K extends string> {
  readonly #all = new Map<string, Figure<K>[]>()

  add(key: string, figure: Figure<K>): void {
    const all = this.#all.get(key)
    if (all) all.push(figure)
    else this.#all.set(key, [figure])
  }

  /** Each figure's own median over the runs. */
  of(key: string): Figure<K> {
    const all = this.#all.get(key) ?? []
    const [first] = all
    if (first === undefined) throw new Error(`${key} was not measured`)
    const names = Object.keys(first) as K[]
    return Object.fromEntries(names.map((name) => [name, median(all.map((one) => one[name]))])) as Figure<K>
  }
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
