import { moveSteps, type Cluster } from "@sojourn/testkit"
import { killName, type Kill, type Victim } from "./itinerary.ts"
import type { Order } from "./travel-pop.ts"

/** Which POP plays which part in the leg. */
export type Cast = Readonly<Record<Victim, string>>

/**
 * Kills POPs and restarts them, one at a time: a kill that comes while another POP is being mended waits for it. A kill at a step is prepared
 * before its leg (`watch`): the POP that takes the step holds it, the victim dies, then the step goes on.
 */
export class Kills {
  readonly #cluster: Cluster
  readonly #actor: string
  /** What died and where, by `killName`, and how often. */
  readonly occurred = new Map<string, number>()
  /** Steps that were watched for and did not come on their leg: there is no HOMEUPD to a home that took part, for one. */
  missed = 0
  #mending: Promise<void> = Promise.resolve()
  #down: Promise<void> = Promise.resolve()
  #watching: string | undefined

  constructor(cluster: Cluster, actor: string) {
    this.#cluster = cluster
    this.#actor = actor
  }

  /** Resolves when what was killed is back; rejects when it does not come back. Not before the watched step was met, or given up. */
  get mended(): Promise<void> {
    return this.#mending
  }

  /** Resolves when no POP is down. */
  get up(): Promise<void> {
    return this.#down
  }

  after(ms: number, kill: Kill, cast: Cast): void {
    this.#then(async () => {
      await delay(ms)
      await this.#kill(kill, cast, () => Promise.resolve())
    })
  }

  /** Resolves when the step would be met. */
  async watch(kill: Kill, cast: Cast): Promise<void> {
    await this.#mending
    const { step, point } = kill
    const at = cast[moveSteps[step].at]
    await this.#ask(at, { t: "watch", what: { actor: this.#actor, step, point } })
    this.#watching = at
    const met = this.#ask(at, { t: "met" }).catch(() => false)
    this.#then(async () => {
      if ((await met) !== true) {
        this.missed += 1
        return
      }
      await this.#kill(kill, cast, async (victim) => {
        if (victim !== at) await this.#ask(at, { t: "go" })
      })
    })
  }

  /** The leg is over: what was not met by now is not waited for. */
  async unwatch(): Promise<void> {
    const at = this.#watching
    this.#watching = undefined
    // A POP that died meanwhile holds nothing any more.
    if (at !== undefined) await this.#ask(at, { t: "go" }).catch(() => undefined)
  }

  #ask(pop: string, order: Order): Promise<unknown> {
    return this.#cluster.ask(pop, order)
  }

  async #kill(kill: Kill, cast: Cast, between: (victim: string) => Promise<void>): Promise<void> {
    const victim = cast[kill.who]
    const mend = async (): Promise<void> => {
      await this.#cluster.kill(victim)
      const name = killName(kill)
      this.occurred.set(name, (this.occurred.get(name) ?? 0) + 1)
      await between(victim)
      await delay(kill.downMs)
      await this.#cluster.restart(victim)
    }
    this.#down = mend()
    await this.#down
  }

  #then(work: () => Promise<void>): void {
    this.#mending = this.#mending.then(work)
    // Reported where it is awaited; until then it must not count as nobody's.
    this.#mending.catch(() => undefined)
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
