import { quantile } from "@sojourn/testkit"
import { now, type Traveller } from "./traveller.ts"

/** Something that was done to the cluster, and whom it may concern. */
export interface Trouble {
  readonly kind: string
  readonly begun: number
  /** Infinity while it goes on. */
  ended: number
  readonly touched: ReadonlySet<Traveller>
}

export interface Spread {
  readonly n: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface Recovery {
  readonly all: Spread
  /** Of those alone whom no other trouble concerned meanwhile. */
  readonly alone: Spread
}

/** Troubles that ended longer ago meet nothing that is still measured. */
const rememberedMs = 120_000

/** How long it took until those whom a trouble concerned were served again. */
export class Recoveries {
  readonly #samples = new Map<string, { readonly ms: number; readonly alone: boolean }[]>()
  #troubles: Trouble[] = []
  /** How often each kind occurred. */
  readonly counts = new Map<string, number>()
  readonly #onSlow: (words: string) => void

  constructor(onSlow: (words: string) => void) {
    this.#onSlow = onSlow
  }

  began(kind: string, touched: ReadonlySet<Traveller>): Trouble {
    const trouble: Trouble = { kind, begun: now(), ended: Infinity, touched }
    this.#troubles = this.#troubles.filter(({ ended }) => ended > now() - rememberedMs)
    this.#troubles.push(trouble)
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
    return trouble
  }

  /** `from`: what is counted from. */
  async measure(trouble: Trouble, from: number, traveller: Traveller, key: string, until: number): Promise<void> {
    const served = await traveller.served(key, until)
    if (served === undefined) return
    const ms = served - from
    const others = this.#troubles.filter(
      (other) => other !== trouble && other.begun < served && other.ended > from && other.touched.has(traveller),
    )
    const samples = this.#samples.get(trouble.kind) ?? []
    if (samples.length === 0) this.#samples.set(trouble.kind, samples)
    samples.push({ ms, alone: others.length === 0 })
    if (ms > slowMs)
      this.#onSlow(
        `${traveller.id} was served by ${key} ${Math.round(ms)} ms after ${trouble.kind}${others.length === 0 ? ", which was alone" : `; meanwhile ${others.map(({ kind }) => kind).join(", ")}`}`,
      )
  }

  table(): ReadonlyMap<string, Recovery> {
    const table = new Map<string, Recovery>()
    for (const kind of [...this.counts.keys()].sort()) {
      const samples = this.#samples.get(kind) ?? []
      table.set(kind, {
        all: spread(samples.map(({ ms }) => ms)),
        alone: spread(samples.filter(({ alone }) => alone).map(({ ms }) => ms)),
      })
    }
    return table
  }
}

const slowMs = 10_000

export function spread(values: readonly number[]): Spread {
  const at = (q: number): number => (values.length === 0 ? 0 : Math.round(quantile(values, q)))
  return { n: values.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
