/**
 * Where actors were heard to be: advice on whom to ask, in memory, the most recent `max` of them. It never reaches a record; what it says is
 * replaced by a higher epoch alone, and forgotten when it led nowhere.
 */
export class Beliefs {
  readonly #self: string
  readonly #known: (pop: string) => boolean
  readonly #max: number
  readonly #heard = new Map<string, { readonly pop: string; readonly epoch: number }>()

  constructor(self: string, known: (pop: string) => boolean, max = 10_000) {
    this.#self = self
    this.#known = known
    this.#max = max
  }

  get(actor: string): { readonly pop: string; readonly epoch: number } | undefined {
    return this.#heard.get(actor)
  }

  hear(actor: string, pop: string, epoch: number): void {
    if (pop === this.#self || !this.#known(pop) || (this.#heard.get(actor)?.epoch ?? -1) >= epoch) return
    this.#heard.delete(actor)
    this.#heard.set(actor, { pop, epoch })
    if (this.#heard.size > this.#max)
      for (const oldest of this.#heard.keys()) {
        this.#heard.delete(oldest)
        break
      }
  }

  forget(actor: string): void {
    this.#heard.delete(actor)
  }
}
