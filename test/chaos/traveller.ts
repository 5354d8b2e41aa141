import { createClient, SojournError, type ActorHandle, type Client } from "@sojourn/client"
import type { Account, App } from "./app.ts"
import type { Entry, Told } from "./ledger.ts"
import { clientLimits } from "./limits.ts"

type AccountHandle = ActorHandle<App["actors"]["account"]>

export interface TravellerOptions {
  readonly id: string
  /** Keys of its accounts: its own, and the one that it shares with another client. */
  readonly own: string
  readonly shared: string
  /** URL of each POP from where it is. The first is where it begins. */
  readonly urls: ReadonlyMap<string, string>
  readonly random: () => number
  /** Mean ms between what it asks for. */
  readonly everyMs: number
  readonly note: (entry: Entry) => void
  readonly nextQuery: () => number
}

/** Mean time at one POP. */
const stayMs = 20_000
/** More is not asked for before something is answered: a client of an unreachable actor does not pile up work. */
const pendingMax = 4
/** Of those who give up soon. */
const hastyMs = 1_500

/** One client of the product, on its way from POP to POP, and what it says and is told. */
export class Traveller {
  readonly id: string
  readonly client: Client<App>
  /** Errors by code, and calls that failed without a named one. */
  readonly refusals = new Map<string, number>()
  /** Why it gave up connecting for good: nothing that is done here is a reason. */
  readonly failures: string[] = []
  calls = 0
  travels = 0
  readonly #o: TravellerOptions
  readonly #numbers = new Map<string, number>()
  readonly #former = new Map<string, string>()
  #hint: "right" | "stale" | "none" = "right"
  #pending = 0
  readonly #asking = new Map<string, Promise<number | undefined>>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: TravellerOptions) {
    this.id = options.id
    this.#o = options
    this.client = createClient<App>({
      url: [...options.urls.values()],
      token: options.id,
      clientId: options.id,
      limits: clientLimits,
      ticketFor: ([, key], ticket) => {
        if (this.#hint === "none") return undefined
        return this.#hint === "stale" ? (this.#former.get(key) ?? ticket) : ticket
      },
    })
    let last = ""
    this.client.on("error", ({ code, message }) => (last = `${code} ${message}`))
    this.client.on("status", ({ to }) => {
      if (to === "failed") this.failures.push(`${this.id} gave up: ${last}`)
    })
    const { note } = options
    this.#account(options.shared).state.subscribe(({ total }) =>
      note({ t: "shown", at: now(), actor: options.shared, client: this.id, total }),
    )
  }

  get accounts(): readonly string[] {
    return [this.#o.own, this.#o.shared]
  }

  /** Where, as far as it was told, its socket is, and the owners of its accounts are. */
  get at(): string | undefined {
    return this.client.pop
  }

  ownerOf(key: string): string | undefined {
    return this.#account(key).pop
  }

  start(): void {
    const next = (): void => {
      this.#timer = setTimeout(
        () => {
          next()
          this.#act()
        },
        -Math.log(1 - this.#o.random()) * this.#o.everyMs,
      )
    }
    next()
  }

  /** It asks for nothing more by itself. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Whether it is applied and acknowledged. */
  async record(key: string, timeoutMs: number = clientLimits.callMs, refuse = false): Promise<boolean> {
    const { note } = this.#o
    const n = (this.#numbers.get(key) ?? 0) + 1
    this.#numbers.set(key, n)
    const call = { client: this.id, actor: key, n }
    const actions = this.#account(key).with({ timeoutMs })
    note({ t: "made", at: now(), call, refuse })
    this.calls += 1
    this.#pending += 1
    try {
      const total = await (refuse ? actions.refuse(this.id, n) : actions.record(this.id, n))
      note({ t: "told", at: now(), call, told: "ok", total })
      return true
    } catch (error) {
      note({ t: "told", at: now(), call, told: this.#refused(error) })
      return false
    } finally {
      this.#pending -= 1
    }
  }

  async query(key: string): Promise<Account | undefined> {
    const { note, nextQuery } = this.#o
    const query = nextQuery()
    note({ t: "asked", at: now(), query, actor: key, client: this.id })
    this.calls += 1
    this.#pending += 1
    try {
      const state = await this.#account(key).query.whole()
      note({ t: "answered", at: now(), query, actor: key, state: { total: state.total, runs: {} } })
      return state
    } catch (error) {
      this.#refused(error)
      return undefined
    } finally {
      this.#pending -= 1
    }
  }

  /** Goes on asking until it is served, once however many wait for it. @returns when that was, undefined: not by `until` */
  served(key: string, until: number): Promise<number | undefined> {
    let asking = this.#asking.get(key)
    if (asking === undefined) {
      asking = this.#ask(key, until).finally(() => this.#asking.delete(key))
      this.#asking.set(key, asking)
    }
    return asking
  }

  async #ask(key: string, until: number): Promise<number | undefined> {
    while (now() < until && !this.#closed) {
      if (await this.record(key, Math.max(1, Math.min(clientLimits.callMs, until - now())))) return now()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return undefined
  }

  close(): Promise<void> {
    this.stop()
    return this.client.close()
  }

  get #closed(): boolean {
    return this.client.status === "closed"
  }

  #account(key: string): AccountHandle {
    return this.client.account.get(key)
  }

  #act(): void {
    const { random, own, shared, everyMs } = this.#o
    if (this.#stopped) return
    if (random() < everyMs / stayMs) this.#travel()
    if (this.#pending >= pendingMax) return
    const key = random() < 0.7 ? own : shared
    const what = random()
    if (what < 0.25) void this.query(key)
    else if (what < 0.3) void this.record(key, clientLimits.callMs, true)
    else if (what < 0.4) void this.record(key, hastyMs)
    // One right behind the other, so that their order is at stake.
    else if (what < 0.5) for (let i = 0; i < 3; i++) void this.record(key)
    else void this.record(key)
  }

  #travel(): void {
    const { urls, random } = this.#o
    const others = [...urls].filter(([pop]) => pop !== this.at)
    const [, url] = others[Math.floor(random() * others.length)] ?? []
    if (url === undefined) return
    const chosen = random()
    this.#hint = chosen < 0.6 ? "right" : chosen < 0.85 ? "stale" : "none"
    for (const key of this.accounts) {
      const { ticket } = this.#account(key)
      if (ticket !== undefined && this.#hint !== "stale") this.#former.set(key, ticket)
    }
    this.travels += 1
    this.client.switchTo(url)
  }

  #refused(error: unknown): Told {
    const code = error instanceof SojournError ? error.code : `no named error: ${String(error)}`
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1)
    if (!(error instanceof SojournError)) return "unknown"
    return error.code === "ACTOR_ERROR" && error.ref === "REFUSED" ? "refused" : error.outcome
  }
}

export function now(): number {
  return performance.now()
}
