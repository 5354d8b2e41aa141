import { framesIn } from "@sojourn/protocol"
import type { Cluster, Proxy, ProxyMessage, ProxyRule, ProxySide } from "@sojourn/testkit"
import type { Disks } from "./disks.ts"
import { pauseMs } from "./limits.ts"
import type { Order } from "./pop.ts"
import { between, pick } from "./random.ts"
import type { Recoveries } from "./recoveries.ts"
import { now, type Traveller } from "./traveller.ts"

/**
 * What is done to POPs and lines, as chance has it, while clients go on. At any time at most half of the POPs are in trouble, and a line is
 * silenced by one fault at a time; rules on one line add up.
 *
 * - POPs: `kill` (SIGKILL, restart), `pause` (SIGSTOP for longer than every wait, SIGCONT), `drain` (SIGTERM, restart), `disk full` (and with
 *   some of them the process is killed meanwhile), `island` (no line to any other POP)
 * - lines, between clients and a POP or between two POPs: `cut`, `half-open`, `one way` (silent in one direction), `partition`, and the rules
 *   `delay`, `drop`, `duplicate`, `throttle` in one direction or both
 */
const popFaults = ["pause", "drain", "disk full", "island"] as const
const lineFaults = ["cut", "half-open", "one way", "partition", "delay", "drop", "duplicate", "throttle"] as const
type PopFault = (typeof popFaults)[number] | "kill"
type LineFault = (typeof lineFaults)[number]

export interface FaultsOptions {
  readonly cluster: Cluster
  readonly places: readonly string[]
  readonly disks: Disks | undefined
  readonly travellers: readonly Traveller[]
  readonly placeOf: (traveller: Traveller) => string
  readonly recoveries: Recoveries
  readonly random: () => number
  readonly killsPerMinute: number
  /** Each kind in its turn, the next when everybody was served again after the one before. */
  readonly alone: boolean
  readonly say: (line: string) => void
}

/** Means, ms. */
const popFaultEveryMs = 10_000
const lineFaultEveryMs = 2_000
/** After the last fault: who is not served by then is measured no more, and is looked at again by the end of the run. */
const servedMsMax = 30_000

const sides: readonly ProxySide[] = ["up", "down", "both"]
/** What hand-offs and sessions depend on: each of these is dropped or repeated by itself now and then. */
const meshTypes = ["PULL", "GRANT", "CONFIRM", "HOMEUPD", "FRAME", "RELAY_OPEN"]
/**
 * Between clients and POPs what is dropped is noticed by its absence, and what comes twice by its number. A second `hello` is a fault of the
 * protocol, for which the POP closes the connection for good, and no transport under it makes one.
 */
const clientTypes = { drop: ["reply", "attached", "out", "call", "ack", "attach"], duplicate: ["reply", "out", "call"] }

interface Line {
  readonly name: string
  readonly proxy: Proxy
  readonly mesh: boolean
  /** Whom it concerns when it begins. */
  concerned(): [Traveller, string][]
}

export class Faults {
  kills = 0
  /** From a process's start until it serves. */
  readonly restartMs: number[] = []
  readonly #o: FaultsOptions
  readonly #lines: readonly Line[]
  readonly #troubled = new Set<string>()
  readonly #silenced = new Set<Proxy>()
  readonly #work = new Set<Promise<void>>()
  #failure: { readonly cause: unknown } | undefined
  #stopped = false
  #end = Infinity
  readonly #stopping = Promise.withResolvers<void>()

  constructor(options: FaultsOptions) {
    this.#o = options
    const { cluster, places, travellers, placeOf } = options
    const lines: Line[] = []
    for (const pop of cluster.pops)
      for (const place of places)
        lines.push({
          name: `${place}–${pop}`,
          proxy: cluster.clientProxy(pop, place),
          mesh: false,
          concerned: () =>
            travellers
              .filter((one) => one.at === pop && placeOf(one) === place)
              .map((one) => [one, one.accounts[0] ?? ""]),
        })
    for (const a of cluster.pops)
      for (const b of cluster.pops)
        if (a < b)
          lines.push({
            name: `${a}–${b}`,
            proxy: cluster.meshProxy(a, b),
            mesh: true,
            concerned: () => this.#across((one, owner) => (one === a && owner === b) || (one === b && owner === a)),
          })
    this.#lines = lines
  }

  /** Until `end`; resolves when everything is mended. Rejects when something could not be. */
  async run(end: number): Promise<void> {
    const { killsPerMinute, alone, random } = this.#o
    this.#end = end
    const timer = setTimeout(() => this.#stop(), end - now())
    const every = async (ms: () => number, once: () => void | Promise<void>): Promise<void> => {
      let next = now()
      for (;;) {
        next += ms()
        await this.#sleep(next - now())
        if (this.#stopped) return
        await once()
      }
    }
    const chance = (mean: number) => (): number => between(random, 0.5 * mean, 1.5 * mean)
    if (alone) await this.#oneByOne()
    else
      await Promise.all([
        killsPerMinute > 0
          ? every(
              () => 60_000 / killsPerMinute,
              () => this.#popFault("kill"),
            )
          : undefined,
        every(chance(popFaultEveryMs), () => this.#popFault(pick(random, popFaults) ?? "drain")),
        every(chance(lineFaultEveryMs), () => this.#lineFault(pick(random, lineFaults) ?? "cut")),
      ])
    clearTimeout(timer)
    while (this.#work.size > 0 && this.#failure === undefined) await Promise.race(this.#work)
    if (this.#failure !== undefined) throw this.#failure.cause
  }

  async #oneByOne(): Promise<void> {
    for (;;) {
      for (const kind of ["kill", ...popFaults, ...lineFaults] as const) {
        if (this.#stopped) return
        if (kind === "kill" || popFaults.some((one) => one === kind)) await this.#popFault(kind as PopFault)
        else this.#lineFault(kind as LineFault)
        while (this.#work.size > 0) await Promise.all(this.#work)
      }
    }
  }

  #stop(): void {
    this.#stopped = true
    this.#stopping.resolve()
  }

  /** Cut short by the end. */
  async #sleep(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)))
    await Promise.race([over, this.#stopping.promise])
    clearTimeout(timer)
  }

  #background(work: Promise<void>): void {
    const done = work
      .catch((cause: unknown) => {
        this.#failure ??= { cause }
        this.#o.say(`could not be mended: ${String(cause)}`)
        this.#stop()
      })
      .finally(() => this.#work.delete(done))
    this.#work.add(done)
  }

  /** Accounts by where their client is and who owns them. */
  #across(match: (at: string, owner: string) => boolean): [Traveller, string][] {
    const found: [Traveller, string][] = []
    for (const traveller of this.#o.travellers)
      for (const key of traveller.accounts) {
        const { at } = traveller
        const owner = traveller.ownerOf(key)
        if (at !== undefined && owner !== undefined && match(at, owner)) found.push([traveller, key])
      }
    return found
  }

  async #popFault(kind: PopFault): Promise<void> {
    const { cluster, random } = this.#o
    let pop: string | undefined
    // A kill waits for a POP that may be killed; it is not left out.
    for (;;) {
      const free = cluster.pops.filter((one) => !this.#troubled.has(one))
      if (free.length * 2 > cluster.pops.length || (kind === "kill" && free.length > 1)) pop = pick(random, free)
      if (pop !== undefined || kind !== "kill" || this.#stopped) break
      await this.#sleep(100)
    }
    if (pop === undefined || (kind === "disk full" && this.#o.disks === undefined)) return
    this.#troubled.add(pop)
    const victim = pop
    this.#background(this.#trouble(kind, victim).finally(() => this.#troubled.delete(victim)))
  }

  async #trouble(kind: PopFault, pop: string): Promise<void> {
    const { cluster, recoveries, random, say } = this.#o
    const concerned =
      kind === "island"
        ? this.#across((at, owner) => at !== owner && (at === pop || owner === pop))
        : this.#across((at, owner) => at === pop || owner === pop)
    const killed = kind === "disk full" && random() < 0.3
    const name = killed ? "disk full, killed" : kind
    recoveries.count(name)
    say(`${name} ${pop}`)
    let from = now()
    switch (kind) {
      case "kill":
        this.kills += 1
        await cluster.kill(pop)
        this.#measure(name, from, concerned)
        await this.#sleep(between(random, 0, 1_000))
        await this.#restart(pop)
        break
      case "drain":
        this.#measure(name, from, concerned)
        await cluster.drain(pop)
        await this.#restart(pop)
        break
      case "pause":
        cluster.pause(pop)
        await this.#sleep(pauseMs + between(random, 0, 2_000))
        cluster.resume(pop)
        from = now()
        break
      case "island":
        await this.#island(pop)
        from = now()
        break
      case "disk full":
        await this.#diskFull(pop, killed)
        from = now()
        break
    }
    if (kind !== "kill" && kind !== "drain") this.#measure(name, from, concerned)
  }

  async #restart(pop: string): Promise<void> {
    const begun = now()
    await this.#o.cluster.restart(pop)
    this.restartMs.push(now() - begun)
    this.#o.say(`${pop} serves ${Math.round(now() - begun)} ms after its start`)
  }

  async #diskFull(pop: string, killed: boolean): Promise<void> {
    const { cluster, disks, random } = this.#o
    const ask = (order: Order): Promise<unknown> => cluster.ask(pop, order)
    await disks?.fill(pop, cluster.pid(pop))
    const end = now() + between(random, 2_000, 5_000)
    // The store fills what room it has left in its own file, too. One that refuses may take its time to say so.
    const growing = this.#grow(pop, end)
    await this.#sleep(end - now())
    if (killed) {
      this.kills += 1
      await cluster.kill(pop)
    }
    await disks?.free(pop, cluster.pid(pop))
    if (killed) await this.#restart(pop)
    this.#background(growing)
    // It may be in other trouble by now; the next disk that is full finds room for less then.
    this.#background(
      ask({ t: "shrink" }).then(
        () => undefined,
        () => undefined,
      ),
    )
  }

  async #grow(pop: string, end: number): Promise<void> {
    while (now() < end && !this.#stopped) {
      await this.#o.cluster.ask(pop, { t: "grow" } satisfies Order).catch(() => undefined)
      await this.#sleep(200)
    }
  }

  async #island(pop: string): Promise<void> {
    const { cluster, random } = this.#o
    const lines = cluster.pops
      .filter((other) => other !== pop)
      .map((other) => cluster.meshProxy(pop, other))
      .filter((line) => !this.#silenced.has(line))
    for (const line of lines) {
      this.#silenced.add(line)
      line.hold()
    }
    await this.#sleep(between(random, 1_000, 6_000))
    for (const line of lines) {
      this.#silenced.delete(line)
      line.release()
    }
  }

  #measure(kind: string, from: number, concerned: readonly [Traveller, string][]): void {
    const { recoveries } = this.#o
    for (const [traveller, key] of new Map(concerned))
      this.#background(recoveries.measure(kind, from, traveller, key, this.#end + servedMsMax))
  }

  #lineFault(kind: LineFault): void {
    const { random } = this.#o
    const silences = kind === "one way" || kind === "partition"
    const line = pick(random, silences ? this.#lines.filter(({ proxy }) => !this.#silenced.has(proxy)) : this.#lines)
    if (line !== undefined) this.#background(this.#disturb(kind, line))
  }

  async #disturb(kind: LineFault, line: Line): Promise<void> {
    const { recoveries, random, say } = this.#o
    const { proxy, name, mesh } = line
    const concerned = line.concerned()
    const side = pick(random, sides) ?? "both"
    const title = `${kind}, ${mesh ? "mesh" : "clients"}`
    recoveries.count(title)
    say(`${kind} ${side} ${name}`)
    const rule = async (ms: number, what: ProxyRule): Promise<void> => {
      const handle = proxy.addRule({ ...what, side })
      await this.#sleep(ms)
      handle.remove()
    }
    switch (kind) {
      case "cut":
        proxy.cut()
        break
      case "half-open":
        // Whoever speaks in this direction is heard no more, on this connection, for good.
        await rule(between(random, 100, 1_000), { do: "half-open" })
        break
      case "one way":
      case "partition":
        this.#silenced.add(proxy)
        proxy.hold(kind === "partition" || side === "both" ? "both" : side)
        await this.#sleep(between(random, 500, 6_000))
        this.#silenced.delete(proxy)
        proxy.release()
        break
      case "delay":
        await rule(between(random, 1_000, 4_000), { do: "delay", ms: between(random, 20, 500) })
        break
      case "throttle":
        await rule(between(random, 1_000, 4_000), { do: "throttle", bytesPerSecond: between(random, 2_000, 50_000) })
        break
      case "drop":
      case "duplicate":
        await rule(between(random, 500, 3_000), {
          do: kind,
          match: this.#some(mesh ? meshTypes : clientTypes[kind], mesh),
        })
    }
    this.#measure(title, now(), concerned)
  }

  /** A part of one type's messages, or of all where they may be any. Of several frames in one, each is of one of the types. */
  #some(types: readonly string[], any: boolean): (message: ProxyMessage) => boolean {
    const { random } = this.#o
    const type = any && random() < 0.3 ? undefined : pick(random, types)
    const share = between(random, 0.1, 0.6)
    const typeOf = (frame: string): string | undefined => /^[^]{0,8}"t":"(\w+)"/.exec(frame)?.[1]
    return ({ payload, kind }) => {
      if (random() >= share) return false
      if (type === undefined) return true
      const text = payload.toString("latin1")
      if (kind === "binary") return text.slice(0, 64).includes(`"t":"${type}"`)
      const found = framesIn(text).map(typeOf)
      return found.includes(type) && found.every((one) => one !== undefined && types.includes(one))
    }
  }
}
