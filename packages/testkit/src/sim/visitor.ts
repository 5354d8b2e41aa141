import { createClient, type Client } from "@sojourn/client"
import type { SojournError } from "@sojourn/protocol"
import { mayUse, type SimApp } from "./app.ts"
import { clientUrl, placeOf, type Cluster, type UpgradeRequest } from "./cluster.ts"
import { Observer, type CallRecord, type Ledger } from "./ledger.ts"
import type { Network } from "./network.ts"
import { violated, type Oracle } from "./oracle.ts"
import { Random } from "./random.ts"
import { Process, type World } from "./world.ts"

/**
 * One simulated user agent around the real client: it calls, travels, listens, and hands in tickets of every kind. What it is told goes to
 * the ledger. Its tickets are right, stale, missing, forged, another actor's or another user's, as chance will have it.
 */
export interface VisitorOptions {
  readonly name: string
  readonly user: string
  readonly keys: readonly string[]
  /** Which actors that one may be asked to tell something, by an alarm or from within the turn. */
  readonly others: (key: string, how: "pass" | "ask") => readonly string[]
  readonly world: World
  readonly network: Network
  readonly cluster: Cluster
  readonly oracle: Oracle
  readonly ledger: Ledger
  /** Mean ms between calls and between trips. */
  readonly pace: number
  readonly tripMs: number
  /** Tickets of all users, newest last: what an eavesdropper could have. */
  readonly tickets: Map<string, string[]>
  /** What the user makes of an error: itself, but for a planted defect. */
  readonly told: (error: unknown) => unknown
}

type SimClient = Client<SimApp>

const deeds = [
  ...(["add", "add", "add", "add", "add", "add", "slow", "idle", "shout", "refuse", "fail"] as const),
  ...(["later", "later", "cancel", "pass", "ask"] as const),
]
type Deed = (typeof deeds)[number]
type Made = ReturnType<ReturnType<SimClient["ledger"]["get"]>["with"]>["call"]

const slackMs = 3_000

export class Visitor {
  readonly name: string
  readonly user: string
  readonly process: Process
  readonly client: SimClient
  readonly #options: VisitorOptions
  readonly #random: Random
  readonly #observers = new Map<string, Observer>()
  readonly #made = new Map<string, number>()
  /** By actor: its latest calls that set an alarm. */
  readonly #alarms = new Map<string, readonly number[]>()
  readonly open = new Set<CallRecord>()
  /** Ms for which it did not run. */
  lostMs = 0
  #active = true
  at: string

  constructor(options: VisitorOptions) {
    const { world, network, name } = options
    this.#options = options
    this.name = name
    this.user = options.user
    this.process = new Process(name)
    this.#random = new Random(world.seed, `visitor ${name}`)
    this.at = this.#random.pick([...options.cluster.pops.keys()])
    this.client = createClient<SimApp>({
      url: clientUrl(this.at),
      token: () => `token ${this.user}`,
      clientId: name,
      limits: this.#random.pick([
        {},
        {},
        { windowCallsMax: 3, ackFrames: 2 },
        { queueCallsMax: 5 },
        { heartbeatMs: 5_000, attachMsMax: 5_000 },
      ]),
      clock: world.clock(this.process),
      chance: new Random(world.seed, `client ${name}`).chance(),
      socket: (url, protocols, reader) => {
        const request: UpgradeRequest = { url, protocols, client: name }
        return network.connect<string>("client", this.process, name, placeOf(url), request, reader)
      },
      ticketFor: ([cls, key], ticket) => this.#ticketFor(`${cls}/${key}`, ticket),
    })
    this.client.on("moved", ({ from, to }) => {
      world.count("moves told to clients")
      world.tell(name, () => `moved ${from} → ${to}`)
    })
    this.client.on("error", (error: SojournError) => {
      world.count(`client error: ${error.code}`)
      world.tell(name, () => `error ${error.code} ${error.message}`)
    })
    this.client.on("status", ({ to }) => {
      world.count(`client status: ${to}`)
      if (to === "failed") world.judge(() => violated("G10", `${name} has failed for good`))
    })
  }

  #ticketFor(actor: string, ticket: string | undefined): string | undefined {
    const { tickets, world } = this.#options
    if (ticket !== undefined) {
      const known = tickets.get(actor) ?? []
      if (!known.includes(ticket)) known.push(ticket)
      tickets.set(actor, known.slice(-40))
    }
    const anyOf = (lists: readonly string[][]): string | undefined => {
      const all = lists.flat()
      return all.length === 0 ? undefined : this.#random.pick(all)
    }
    const roll = this.#random.unit()
    const use = (kind: string, value: string | undefined): string | undefined => {
      world.count(`ticket: ${value === undefined ? "missing" : kind}`)
      return value
    }
    if (roll < 0.55) return use("right", ticket)
    if (roll < 0.7) return use("stale or stolen", anyOf([tickets.get(actor) ?? []]))
    if (roll < 0.8) return use("missing", undefined)
    if (roll < 0.9)
      return use("of another actor", anyOf([...tickets].filter(([of]) => of !== actor).map(([, list]) => list)))
    return use("forged", this.#forged(ticket ?? anyOf([...tickets.values()])))
  }

  /** Another POP and a higher epoch under the old signature, or noise. */
  #forged(ticket: string | undefined): string | undefined {
    const [payload, ...rest] = (ticket ?? "bm9pc2U.0.bm9pc2U").split(".")
    if (ticket === undefined || this.#random.happens(0.3)) return `bm9pc2U.${rest.join(".")}`
    const fields = JSON.parse(Buffer.from(payload ?? "", "base64url").toString()) as unknown[]
    fields[1] = this.#random.pick([...this.#options.cluster.pops.keys()])
    fields[2] = 1_000
    return [Buffer.from(JSON.stringify(fields)).toString("base64url"), ...rest].join(".")
  }

  start(): void {
    for (const key of this.#options.keys)
      if (mayUse(key, this.user)) this.#listen(key)
      else this.#pry(key)
    this.#nextCall()
    this.#nextTrip()
  }

  /** No more calls and trips of its own. */
  calm(): void {
    this.#active = false
  }

  #listen(key: string): void {
    const { oracle } = this.#options
    if (this.#observers.has(key)) return
    const observer = new Observer(this.name, oracle.history(`ledger/${key}`))
    this.#observers.set(key, observer)
    const handle = this.client.ledger.get(key)
    const { world } = this.#options
    handle.onResume((how, { revision }) => {
      world.tell(this.name, () => `resumed ${key} by ${how} at ${revision}`)
      world.judge(() => observer.resumed(how, revision))
    })
    handle.on("added", (payload) => world.judge(() => observer.event("added", payload)))
    handle.on("shouted", (payload) => world.judge(() => observer.event("shouted", payload)))
    if (this.#random.happens(0.7)) handle.state.subscribe((state) => world.judge(() => observer.state(state)))
  }

  /** Listens to an actor that it may not use: it must hear nothing. */
  #pry(key: string): void {
    const handle = this.client.ledger.get(key)
    const heard = (what: string): void =>
      this.#options.world.judge(() => violated("G5", `${this.user} heard ${what} of ${key}`))
    handle.on("added", () => heard("an event"))
    handle.on("shouted", () => heard("an event"))
    if (this.#random.happens(0.5)) handle.state.subscribe(() => heard("the state"))
  }

  #plan(meanMs: number, label: string, run: () => void): void {
    const ms = -Math.log(1 - this.#random.unit()) * meanMs
    this.#options.world.plan(this.process, ms, "world", label, () => {
      if (this.#active) run()
    })
  }

  #nextCall(): void {
    this.#plan(this.#options.pace, "", () => {
      const burst = this.#random.happens(0.15) ? 2 + this.#random.int(6) : 1
      for (let i = 0; i < burst; i++) this.#call()
      this.#nextCall()
    })
  }

  #nextTrip(): void {
    this.#plan(this.#options.tripMs, "", () => {
      this.travel(this.#random.pick([...this.#options.cluster.pops.keys()]))
      this.#nextTrip()
    })
  }

  travel(pop: string): void {
    this.at = pop
    this.#options.world.count("trips")
    this.#options.world.tell(this.name, `travels to ${pop}`)
    this.client.switchTo(clientUrl(pop))
  }

  #call(): void {
    const random = this.#random
    const key = random.pick(this.#options.keys)
    const deed = random.pick(deeds)
    const nobody = (deed === "pass" || deed === "ask") && this.#options.others(key, deed).length === 0
    if (nobody || random.happens(0.12)) void this.look(key)
    else
      void this.act(
        key,
        deed,
        random.happens(0.7) ? 30_000 : random.between(500, 15_000),
        random.happens(0.04) ? random.between(0, 2_000) : undefined,
      )
  }

  #record(key: string, name: string, timeoutMs: number): CallRecord {
    const { world, ledger } = this.#options
    const actor = `ledger/${key}`
    const n = (this.#made.get(actor) ?? 0) + 1
    this.#made.set(actor, n)
    const call: CallRecord = {
      client: this.name,
      actor,
      id: `${key}|${this.name}|${n}`,
      name,
      n,
      madeAt: world.time,
      boundMs: timeoutMs / this.process.rate + slackMs,
      settledAt: undefined,
      told: undefined,
    }
    ledger.made(call)
    this.open.add(call)
    return call
  }

  async #settle(call: CallRecord, answer: Promise<unknown>): Promise<boolean> {
    const { world, ledger } = this.#options
    let value: unknown
    try {
      value = await answer
    } catch (thrown) {
      const error = this.#options.told(thrown)
      this.open.delete(call)
      world.tell(this.name, () => `✘ ${call.name} ${call.id}: ${describeError(error)}`)
      world.judge(() => ledger.failed(call, error, world.time))
      return false
    }
    this.open.delete(call)
    world.tell(this.name, () => `✔ ${call.name} ${call.id} = ${JSON.stringify(value)}`)
    world.judge(() => {
      if (!mayUse(call.actor.slice(7), this.user)) violated("G5", `${this.user} was served by ${call.actor}`)
      ledger.succeeded(call, value, world.time)
    })
    return true
  }

  act(key: string, name: Deed, timeoutMs: number, abortAfterMs?: number): Promise<boolean> {
    const { world } = this.#options
    const call = this.#record(key, name, timeoutMs)
    world.count(`call: ${name}`)
    world.tell(this.name, () => `calls ${name} ${call.id}`)
    const abort = new AbortController()
    const made = this.client.ledger.get(key).with({ timeoutMs, signal: abort.signal }).call
    if (abortAfterMs !== undefined) world.plan(this.process, abortAfterMs, "world", "", () => abort.abort())
    return this.#settle(call, this.#make(made, name, call))
  }

  #make(made: Made, name: Deed, { actor, id, n }: CallRecord): Promise<unknown> {
    const random = this.#random
    switch (name) {
      case "slow":
        return made.slow(id, Math.round(random.between(1, 800)))
      case "later": {
        const set = this.#alarms.get(actor) ?? []
        this.#alarms.set(actor, [...set.slice(-7), n])
        return made.later(id, random.pick([0, 20, 300, 2_000, 15_000]), random.pick([0, 0, 0.3, 0.8]))
      }
      case "cancel":
        return made.cancel(id, random.pick(this.#alarms.get(actor) ?? [0]))
      case "pass":
      case "ask": {
        return made[name](id, random.pick(this.#options.others(actor.slice("ledger/".length), name)))
      }
      default:
        return made[name](id)
    }
  }

  look(key: string, timeoutMs = 30_000): Promise<boolean> {
    const call = this.#record(key, "look", timeoutMs)
    this.#options.world.count("call: look")
    return this.#settle(call, this.client.ledger.get(key).with({ timeoutMs }).query.look())
  }

  checkBounds(): void {
    for (const call of this.open) this.#options.ledger.late(call, this.#options.world.time, this.lostMs)
  }

  /** When all is calm: its view of each actor is the actor's. */
  closeViews(): { heard: number; states: number } {
    const sum = { heard: 0, states: 0 }
    for (const [key, observer] of this.#observers) {
      observer.close(observer.states > 0 ? this.client.ledger.get(key).state.get() : undefined)
      sum.heard += observer.heard
      sum.states += observer.states
    }
    return sum
  }
}

function describeError(error: unknown): string {
  const { code, outcome, message } = error as SojournError
  return `${code} ${outcome}: ${message}`
}
