import type { HomeRole } from "./record.ts"
import type { Forgotten } from "./store.ts"

/**
 * Which POPs were forgotten as destroyed, and who stands for them as a home: what the store remembers, in memory, so that an attach does not
 * wait for it. It only ever grows. Heirs in a circle, which two orders at once may leave, stand for nobody, and end a look all the same.
 */
export class ForgottenPops {
  readonly #pops = new Map<string, Forgotten>()

  has(pop: string): boolean {
    return this.#pops.has(pop)
  }

  get(pop: string): Forgotten | undefined {
    return this.#pops.get(pop)
  }

  set(pop: string, forgotten: Forgotten): void {
    this.#pops.set(pop, forgotten)
  }

  names(): readonly string[] {
    return [...this.#pops.keys()]
  }

  /** Who is the home now: an heir only from when it has inherited. Each home that was destroyed in turn puts the epoch of creation up by two. */
  homeNow(home: string): { readonly pop: string; readonly role: HomeRole } {
    let pop = home
    let epoch = 0
    for (let at = this.#pops.get(pop); at?.inherited && epoch < 2 * this.#pops.size; at = this.#pops.get(pop)) {
      pop = at.heir
      epoch += 2
    }
    return { pop, role: epoch === 0 ? true : epoch }
  }

  /** Who is, or is to be, the home: the last heir. */
  heirOf(home: string): string {
    let pop = home
    let heirs = 0
    for (let at = this.#pops.get(pop); at && heirs++ < this.#pops.size; at = this.#pops.get(pop)) pop = at.heir
    return pop
  }

  /** Not where the last heir of `heir` is `pop` itself: then nobody would stand for either. */
  mayInherit(heir: string, pop: string): boolean {
    return this.heirOf(heir) !== pop
  }
}
