import type { Cluster } from "@sojourn/testkit"

/**
 * What the page can do to the machine below it: POPs are killed as processes, and lines go dead in the proxies that stand for them. The
 * product knows nothing of it.
 */
export type Mischief =
  /** Everybody at this place: connections are reset, and for so long new ones get no answer. */
  | { readonly what: "cut"; readonly place: string; readonly ms: number }
  /** Everybody at this place: the connections open now are dead, and nobody is told. */
  | { readonly what: "half-open"; readonly place: string }
  /** SIGKILL; it stays down until `start`. */
  | { readonly what: "kill"; readonly pop: string }
  | { readonly what: "start"; readonly pop: string }

/** What is out of order now. */
export interface TroubleState {
  readonly down: readonly string[]
  readonly cut: readonly string[]
}

const cutMsMax = 60_000

/** Throws a TypeError saying what is wrong. */
export function parseMischief(json: unknown, known: Pick<Trouble, "pops" | "places">): Mischief {
  const { what, place, pop, ms } = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>
  const one = (x: unknown, of: readonly string[], name: string): string => {
    if (typeof x !== "string" || !of.includes(x)) throw new TypeError(`${name} must be one of ${of.join(", ")}`)
    return x
  }
  switch (what) {
    case "cut":
      if (typeof ms !== "number" || !(ms > 0 && ms <= cutMsMax))
        throw new TypeError(`ms must be a number above 0, at most ${cutMsMax}`)
      return { what, place: one(place, known.places, "place"), ms }
    case "half-open":
      return { what, place: one(place, known.places, "place") }
    case "kill":
    case "start":
      return { what, pop: one(pop, known.pops, "pop") }
    default:
      throw new TypeError("what must be one of cut, half-open, kill, start")
  }
}

export class Trouble {
  readonly pops: readonly string[]
  readonly places: readonly string[]
  readonly #cluster: Cluster
  readonly #watchers = new Set<() => void>()
  readonly #down = new Set<string>()
  readonly #cuts = new Map<string, NodeJS.Timeout>()
  /** What is being done to a POP: the next waits for it. */
  readonly #work = new Map<string, Promise<void>>()

  constructor(cluster: Cluster, places: readonly string[]) {
    this.#cluster = cluster
    this.pops = cluster.pops
    this.places = places
  }

  get state(): TroubleState {
    return { down: [...this.#down], cut: [...this.#cuts.keys()] }
  }

  /** Calls the listener after each change of the state. @returns the undo */
  watch(listener: () => void): () => void {
    this.#watchers.add(listener)
    return () => this.#watchers.delete(listener)
  }

  /** Resolves once it is done: a killed process is gone, a started POP ready. */
  async make(mischief: Mischief): Promise<void> {
    switch (mischief.what) {
      case "cut":
        return this.#cut(mischief.place, mischief.ms)
      case "half-open":
        for (const pop of this.pops) this.#cluster.clientProxy(pop, mischief.place).strand()
        return
      case "kill":
        return this.#inTurn(mischief.pop, () => this.#kill(mischief.pop))
      case "start":
        return this.#inTurn(mischief.pop, () => this.#start(mischief.pop))
    }
  }

  /** The POP's process ended by itself or was killed from outside: brings it back. */
  crashed(pop: string): Promise<void> {
    this.#mark(pop, true)
    return this.#inTurn(pop, () => this.#start(pop))
  }

  #cut(place: string, ms: number): void {
    const lines = this.pops.map((pop) => this.#cluster.clientProxy(pop, place))
    clearTimeout(this.#cuts.get(place))
    for (const line of lines) {
      line.hold()
      line.cut()
    }
    const timer = setTimeout(() => {
      this.#cuts.delete(place)
      for (const line of lines) line.release()
      this.#tell()
    }, ms)
    timer.unref()
    this.#cuts.set(place, timer)
    this.#tell()
  }

  async #kill(pop: string): Promise<void> {
    if (!this.#cluster.running(pop)) return
    this.#mark(pop, true)
    await this.#cluster.kill(pop)
  }

  async #start(pop: string): Promise<void> {
    if (!this.#cluster.running(pop)) await this.#cluster.restart(pop)
    this.#mark(pop, false)
  }

  #inTurn(pop: string, work: () => Promise<void>): Promise<void> {
    const before = this.#work.get(pop) ?? Promise.resolve()
    const done = before.then(work)
    this.#work.set(
      pop,
      done.catch(() => undefined),
    )
    return done
  }

  #mark(pop: string, down: boolean): void {
    if (down) this.#down.add(pop)
    else this.#down.delete(pop)
    this.#tell()
  }

  #tell(): void {
    for (const listener of this.#watchers) listener()
  }
}
