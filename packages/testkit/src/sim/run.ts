import type { Limits } from "@sojourn/core"
import { mayUse } from "./app.ts"
import { Cluster, Pop } from "./cluster.ts"
import { Disk, landsMsMax, productRules, type Change, type DiskSeams } from "./disk.ts"
import { Faults } from "./faults.ts"
import { Ledger } from "./ledger.ts"
import { meshHead, meshDescribe } from "./mesh-tap.ts"
import type { Mutant } from "./mutants.ts"
import { lateMsMax, Network } from "./network.ts"
import { Oracle, Violation, violated } from "./oracle.ts"
import { Random } from "./random.ts"
import { Visitor } from "./visitor.ts"
import { Wiretap, type Tapped } from "./wiretap.ts"
import { describeThrown, Process, World } from "./world.ts"
import type { UpgradeRequest } from "./cluster.ts"

/**
 * One run of the whole-cluster simulation: everything about it follows from its seed.
 *
 * It has three parts: faults and work together for at least `steps` steps; then the faults stop, no new work comes, and every open call must
 * be answered; then everyone makes one more call on each actor, all of which must succeed, and the world must become calm: no grant
 * unconfirmed, the home's pointer right, every client's view equal to the state.
 */
export interface RunOptions {
  readonly seed: number
  readonly steps: number
  readonly mutant?: Mutant
  /** Keeps the story; slower. */
  readonly verbose?: boolean
  readonly storyMax?: number
}

export interface RunResult {
  readonly seed: number
  readonly steps: number
  readonly virtualMs: number
  readonly digest: string
  readonly counts: ReadonlyMap<string, number>
  readonly calls: number
  readonly acknowledged: number
  readonly moves: number
  /** What was found; undefined: nothing. */
  readonly finding: Error | undefined
  readonly story: readonly string[]
}

const popNames = ["bos", "fra", "nrt", "pvd", "gru"]
/** One-way ms between them, as light and fibre have it. */
const distances: Readonly<Record<string, number>> = {
  "bos fra": 41,
  "bos nrt": 75,
  "bos pvd": 1,
  "fra nrt": 65,
  "fra pvd": 41,
  "nrt pvd": 75,
  "bos gru": 55,
  "fra gru": 70,
  "gru nrt": 130,
  "gru pvd": 55,
}

/** True ms after which the settling world must be calm: an alarm may have been set by a clock that was two minutes ahead. */
const settleMsMax = 200_000

/** An output younger than this is kept by every clock: below the product's `tailMsMax`, by more than clocks drift. */
const tailMsSure = 100_000

export async function run(options: RunOptions): Promise<RunResult> {
  const world = new World(options.seed, options)
  const rejected = (reason: unknown): void =>
    world.found(new Error(`a promise of the product was left rejected: ${describeThrown(reason)}`))
  process.on("unhandledRejection", rejected)
  try {
    return await new Run(world, options).go()
  } finally {
    process.off("unhandledRejection", rejected)
  }
}

class Run {
  readonly #world: World
  readonly #options: RunOptions
  readonly #random: Random
  readonly #network: Network
  readonly #oracle: Oracle
  readonly #ledger: Ledger
  readonly #tap: Wiretap
  readonly #cluster: Cluster
  readonly #faults: Faults
  readonly #pops: readonly Pop[]
  readonly #keys: readonly string[]
  readonly #limits: Partial<Limits>
  /** Mean ms between a visitor's calls, and its calls between trips. */
  readonly #pace: number
  readonly #wander: number
  readonly #tickets = new Map<string, string[]>()
  #visitors: Visitor[] = []
  readonly #gone: Visitor[] = []
  readonly #watchman = new Process("watchman")
  readonly #operator = new Process("operator")
  #operating = true

  constructor(world: World, options: RunOptions) {
    this.#world = world
    this.#options = options
    const random = (this.#random = new Random(options.seed, "run"))
    const names = popNames.slice(0, random.pick([3, 3, 3, 4, 5]))
    this.#network = new Network(world, (from, to) => this.#delay(from, to))
    this.#network.jitter = random.pick([0, 0.1, 0.5, 3])
    this.#limits = this.#someLimits()
    const { tailEntriesMax = 0 } = this.#limits
    this.#oracle = new Oracle(
      names,
      // By clocks that jump, what is new may be old.
      (age, revisions) => revisions <= tailEntriesMax && age < tailMsSure && !this.#faults.kinds.includes("clock jump"),
      () => world.time,
    )
    this.#ledger = new Ledger(this.#oracle)
    this.#tap = new Wiretap(world, this.#oracle)
    this.#pops = names.map((id) => new Pop(id, this.#disk(id)))
    const homes = names.filter(() => random.happens(0.7))
    // Mostly few clients, so that much happens to each within the steps; now and then a crowd.
    const crowd = random.happens(0.15)
    const users = ["ada", "bob", "cy", "dee", "eve"].slice(0, 1 + random.int(crowd ? 5 : 3))
    this.#keys = Array.from({ length: 1 + random.int(4) }, (_, i) => {
      const members = users.filter(() => random.happens(0.6))
      const home = random.happens(0.4) ? `~${random.pick(names)}` : ""
      return `${i}.${(members.length === 0 ? users : members).join("+")}${home}`
    })
    this.#pace = random.pick([60, 200, 200, 600, 1500])
    this.#wander = random.pick([4, 10, 30])
    this.#cluster = new Cluster({
      world,
      network: this.#network,
      pops: this.#pops,
      homes: homes.length === 0 ? names : homes,
      limits: this.#limits,
      defect: (error) => world.found(error),
      ...(options.mutant?.authenticate && { authenticate: options.mutant.authenticate }),
    })
    this.#faults = new Faults({
      world,
      network: this.#network,
      cluster: this.#cluster,
      visitors: () => this.#visitors,
      reload: (visitor) => this.#reload(visitor),
      ...(options.mutant?.kinds === undefined ? {} : { kinds: options.mutant.kinds }),
      meanMs: this.#pace * random.pick([2, 5, 15]),
    })
    this.#watch()
    this.#tap.frayed = () => this.#faults.frayed
    const served = users.filter((user) => this.#keys.some((key) => mayUse(key, user)))
    const devices = Array.from({ length: crowd ? 7 + random.int(14) : 2 + random.int(5) }, () => random.pick(served))
    if (random.happens(0.4)) devices[0] = "mallory"
    devices.forEach((user, i) => this.#visitor(`${user}${i}`, user))
  }

  #delay(from: string, to: string): number {
    const near = (place: string): string => this.#visitors.find(({ name }) => name === place)?.at ?? place
    const [a, b] = [near(from), near(to)].sort() as [string, string]
    return (a === b ? 0 : (distances[`${a} ${b}`] ?? 50)) + (from === a || from === b ? 0.2 : 4)
  }

  /** Small bounds, so that a run of minutes passes what a deployment passes in weeks. */
  #someLimits(): Partial<Limits> {
    const random = this.#random
    return {
      idleMs: random.pick([300, 2_000, 30_000]),
      journalEntriesMax: random.pick([4, 16, 512]),
      tailEntriesMax: random.pick([3, 10, 256]),
      meshChunkBytes: random.pick([700, 4_096, 65_536, 65_536]),
      followQuietMs: random.pick([200, 2_000, 10_000]),
      residentsMax: random.pick([1, 3, 10_000, 10_000]),
      mailboxMax: random.pick([6, 1_024, 1_024]),
      pendingTurnsMax: random.pick([1, 256]),
      drainMsMax: random.pick([200, 5_000]),
      turnMsMax: random.pick([1_500, 30_000]),
      inlineBytesMax: random.pick([600, 262_144]),
      chunkBytes: random.pick([300, 1_000]),
      chunkWindowBytes: random.pick([10_000, 100_000]),
      precopyBytesMin: random.pick([1, 1_500, 65_536]),
      alarmRetryMs: 200,
      alarmRetryMsMax: 2_000,
      alarmWakesMax: random.pick([1, 64]),
    }
  }

  /**
   * An exclusive turn that waits for another actor's can wait in a circle, and where few activations fit, for a place that it holds itself. An
   * author has to avoid both; here by an order of the actors. Circles of turns alone, which end soon, are let happen.
   */
  #others(key: string, how: "pass" | "ask"): readonly string[] {
    const { residentsMax = Infinity, turnMsMax = Infinity } = this.#limits
    if (residentsMax < this.#keys.length) return []
    const circles = how === "ask" && turnMsMax < 2_000
    return this.#keys.filter((other) => (circles ? other !== key : other > key))
  }

  #disk(pop: string): Disk {
    const { mutant } = this.#options
    const seams: DiskSeams = { rules: productRules, eager: false, ...mutant?.seams }
    const oracle = this.#oracle
    const world = this.#world
    const disk = new Disk(world, pop, seams, {
      issued: (op) => this.#faults.passed(`${op} issued`, pop),
      visible: (change: Change) => {
        world.judge(() => oracle.visible(change))
        this.#faults.passed(`${change.op} visible`, pop)
      },
      durable: (change: Change) => {
        world.judge(() => oracle.durable(change))
        this.#faults.passed(`${change.op} durable`, pop)
      },
      undone: (changes) => world.judge(() => oracle.undone(changes)),
    })
    oracle.watchDisk(pop, disk.visible, disk.durable)
    mutant?.haunt?.(world, disk)
    return disk
  }

  #watch(): void {
    const world = this.#world
    this.#network.watch<string>("client", {
      sent: (wire, end, text) => {
        wire.note ??= this.#tapped(wire.request as UpgradeRequest)
        const frames = text.split("\n")
        if (frames.length > 1) world.count(`several frames in one message, of a ${end === 0 ? "client" : "gateway"}`)
        for (const frame of frames) {
          world.judge(() => (end === 0 ? this.#tap.made(wire, frame) : this.#tap.leaves(wire, frame)))
          if (end === 1) this.#faults.passed(`${/"t":"(\w+)"/.exec(frame)?.[1] ?? ""} sent`, wire.ends[1].place)
        }
      },
      got: (wire, end, text) => {
        if (end === 0) for (const frame of text.split("\n")) world.judge(() => this.#tap.arrived(wire, frame))
      },
      describe: (text) =>
        text
          .split("\n")
          .map((frame) => this.#tap.describe(frame))
          .join(" + "),
    })
    this.#network.watch<Uint8Array>("mesh", {
      sent: (wire, end, bytes) => {
        const head = meshHead(bytes)
        const t = head?.t
        if (head === undefined || t === undefined) return
        world.count(`mesh message: ${t}`)
        const to = wire.ends[end === 0 ? 1 : 0].place
        world.judge(() => {
          this.#oracle.said(wire.ends[end].place, to, head)
          this.#tap.relayed(wire, end, head)
        })
        this.#faults.passed(`${t} sent`, wire.ends[end].place)
      },
      got: (wire, end, bytes) => {
        const { heard } = this.#options.mutant ?? {}
        const head = heard === undefined ? undefined : meshHead(bytes)
        const pop = this.#pops.find(({ id }) => id === wire.ends[end === 0 ? 1 : 0].place)
        if (head !== undefined && pop !== undefined) heard?.(pop.disk, head)
      },
      tamper: (_wire, _end, bytes) => {
        const head = meshHead(bytes)
        const planted = head && this.#options.mutant?.fate?.(head, this.#random)
        return planted ?? this.#faults.fate(head?.t)
      },
      describe: meshDescribe,
    })
  }

  #tapped({ client }: UpgradeRequest): Tapped {
    const visitor = [...this.#visitors, ...this.#gone].find(({ name }) => name === client)
    return { client, principal: visitor?.user ?? "nobody", channels: new Map(), made: new Map() }
  }

  #visitor(name: string, user: string): Visitor {
    const visitor = new Visitor({
      name,
      user,
      others: (key, how) => this.#others(key, how),
      keys: user === "mallory" ? this.#keys : this.#keys.filter((key) => mayUse(key, user)),
      world: this.#world,
      network: this.#network,
      cluster: this.#cluster,
      oracle: this.#oracle,
      ledger: this.#ledger,
      pace: this.#pace,
      tripMs: this.#pace * this.#wander,
      tickets: this.#tickets,
      told: this.#options.mutant?.told ?? ((error) => error),
    })
    this.#visitors.push(visitor)
    if (this.#world.random.happens(0.5)) visitor.process.rate = this.#world.random.between(0.98, 1.02)
    return visitor
  }

  /** The page is loaded again: what was pending is nobody's any more, and the user comes back as a new session. */
  #reload(visitor: Visitor): void {
    this.#world.kill(visitor.process)
    this.#network.died(visitor.process, false)
    this.#gone.push(visitor)
    this.#visitors = this.#visitors.filter((one) => one !== visitor)
    const next = this.#visitor(`${visitor.name}x`, visitor.user)
    next.start()
  }

  async go(): Promise<RunResult> {
    const world = this.#world
    for (const pop of this.#pops) {
      this.#cluster.start(pop.id)
      if (pop.process && this.#random.happens(0.5)) pop.process.rate = this.#random.between(0.98, 1.02)
    }
    for (const visitor of this.#visitors) visitor.start()
    this.#faults.start()
    this.#operate()
    await this.#until(() => world.steps >= this.#options.steps, Infinity, "")
    this.#operating = false
    for (const visitor of this.#visitors) visitor.calm()
    this.#faults.stop()
    if (this.#faults.frayed) {
      // A frame that a relay lost shows with the next one; a link that never loses any owes nobody that next one. So all attach anew.
      await this.#pass(lateMsMax)
      for (const visitor of this.#visitors) visitor.travel(this.#random.pick(this.#pops).id)
    }
    await this.#until(
      () => this.#visitors.every(({ open }) => open.size === 0),
      settleMsMax,
      "calls are open although nothing is in their way",
    )
    // The last of the faults: a seal of a process that ended, which nobody who lives knows of until somebody asks for the actor.
    await this.#pass(landsMsMax)
    await this.#lastCalls()
    await this.#until(
      () => this.#unsettled() === undefined,
      settleMsMax,
      () => this.#unsettled() ?? "",
    )
    await this.#until(
      () => this.#viewsLag() === undefined,
      30_000,
      () => this.#viewsLag() ?? "",
    )
    world.judge(() => this.#ledger.close())
    await this.#goHome()
    for (const [code, n] of this.#ledger.refusals) world.count(`call refused: ${code}`, n)
    return {
      seed: this.#options.seed,
      steps: world.steps,
      virtualMs: world.time,
      digest: world.digest,
      counts: world.counts,
      calls: this.#ledger.calls.length,
      acknowledged: this.#ledger.acknowledged,
      moves: [...this.#oracle.histories.values()].reduce((sum, { moves }) => sum + moves, 0),
      finding: world.finding,
      story: world.story,
    }
  }

  /** Somebody moves actors about while they are used, from whichever POP owns them. */
  #operate(): void {
    const world = this.#world
    const random = new Random(this.#options.seed, "operator")
    const next = (): void => {
      world.plan(this.#operator, this.#pace * random.between(1, 8), "world", "", () => {
        if (!this.#operating) return
        next()
        const owned = this.#pops.flatMap((pop) =>
          [...this.#oracle.histories.keys()].flatMap((actor) =>
            this.#oracle.record("durable", pop.id, actor)?.k === "OWNED" ? [{ pop, actor }] : [],
          ),
        )
        if (owned.length === 0) return
        const { pop, actor } = random.pick(owned)
        if (random.happens(0.1)) {
          this.#drain(pop, random.between(100, 3_000))
          return
        }
        const other = random.pick(this.#pops.filter((one) => one !== pop))
        if (pop.process?.state !== "alive") return
        const [name, key] = [actor.slice(0, actor.indexOf("/")), actor.slice(actor.indexOf("/") + 1)]
        world.plan(pop.process, 0, "world", `moves ${actor} to ${other.id}`, () => {
          world.count("operator: moves")
          pop.node?.move([name, key], other.id).then(
            () => world.count("operator: moves done"),
            (error: { code?: string }) => world.count(`operator: moves that failed: ${error.code ?? ""}`),
          )
        })
      })
    }
    next()
  }

  /** Each actor is moved while the last calls are made: with nothing in the way that may cost nobody a call. */
  #moveAbout(): void {
    const world = this.#world
    for (const key of this.#keys)
      world.plan(this.#operator, this.#random.between(5, 1_500), "world", "", () => {
        const actor = `ledger/${key}`
        const owner = this.#pops.find(({ id }) => this.#oracle.record("durable", id, actor)?.k === "OWNED")
        const { process } = owner ?? {}
        if (owner === undefined || process === undefined) return
        const to = this.#random.pick(this.#pops.filter((pop) => pop !== owner)).id
        world.plan(process, 0, "world", `moves ${actor} to ${to}, with nothing in the way`, () => {
          owner.node?.move(["ledger", key], to).then(
            () => world.count("operator: last moves done"),
            () => world.count("operator: last moves that failed"),
          )
        })
      })
  }

  /** A POP is closed as for a deploy, and comes back. */
  #drain(pop: Pop, downMs: number): void {
    const world = this.#world
    const { process, node } = pop
    if (process?.state !== "alive" || node?.serving() !== true) return
    const again = (): void => {
      // It may have crashed while it drained, and been started again since.
      if (pop.process === process) this.#cluster.crash(pop.id, false)
      world.plan(this.#operator, downMs, "world", `${pop.id} is back`, () => {
        if (!pop.up) this.#cluster.start(pop.id)
      })
    }
    world.plan(process, 0, "world", `${pop.id} drains`, () => {
      world.count("operator: drains")
      node.stop().then(
        () => world.plan(this.#operator, 0, "world", `${pop.id} has drained`, again),
        (error: unknown) => world.found(error instanceof Error ? error : new Error(String(error))),
      )
    })
  }

  /** Steps until `done`, or until something was found; past `withinMs` that is a finding itself. */
  async #until(done: () => boolean, withinMs: number, what: string | (() => string)): Promise<void> {
    const world = this.#world
    const end = world.time + withinMs
    for (let i = 0; world.finding === undefined && (i % 10 !== 0 || !done()); i++) {
      if (i % 50 === 0) world.judge(() => this.#visitors.forEach((visitor) => visitor.checkBounds()))
      if (!(await world.step())) {
        if (!done())
          world.judge(() =>
            violated("G10", `the world has nothing left to do: ${typeof what === "string" ? what : what()}`),
          )
        return
      }
      // Twenty clients whose calls find a full mailbox, again and again behind chains that wait for each other, take nearly 100,000.
      if (world.steps > this.#options.steps * 20 + 150_000)
        world.judge(() => violated("G10", `no rest after ${world.steps} steps`))
      if (world.time > end && !done())
        world.judge(() =>
          violated(
            "G10",
            `${Math.round(withinMs / 1000)} s after the faults stopped: ${typeof what === "string" ? what : what()}`,
          ),
        )
    }
  }

  async #pass(ms: number): Promise<void> {
    const world = this.#world
    const end = world.time + ms
    const bell = world.plan(this.#watchman, ms, "world", "", () => undefined)
    await this.#until(() => world.time >= end, Infinity, "")
    bell()
  }

  async #lastCalls(): Promise<void> {
    const world = this.#world
    if (world.finding !== undefined) return
    const failed: string[] = []
    let open = 0
    this.#moveAbout()
    for (const visitor of this.#visitors) {
      const served = this.#keys.filter((key) => mayUse(key, visitor.user))
      const long = this.#random.pick(["", ...served])
      for (const key of served) {
        // What waits behind a long turn is there to be moved along with the actor.
        const calls = [() => visitor.act(key, "add", 60_000), () => visitor.look(key, 60_000)]
        if (key === long) calls.unshift(() => visitor.act(key, "slow", 60_000))
        for (const call of calls) {
          open++
          void call().then((ok) => {
            open--
            if (!ok) failed.push(`${visitor.name} on ${key}`)
          })
        }
      }
    }
    await this.#until(() => open === 0, settleMsMax, "the last calls are not answered")
    if (failed.length > 0) world.judge(() => violated("G10", `with no fault left, calls fail: ${failed.join(", ")}`))
  }

  /** Everybody leaves: nothing may be left behind, in clients, in memory or in timers. */
  async #goHome(): Promise<void> {
    const world = this.#world
    if (world.finding !== undefined) return
    // One that drained for a deploy may be on its way back.
    await this.#until(
      () => this.#pops.every(({ up, node }) => up && node?.serving() === true),
      30_000,
      "a POP does not come back",
    )
    let closing = this.#visitors.length
    for (const { client } of this.#visitors) void client.close().then(() => closing--)
    await this.#until(() => closing === 0, 10_000, "clients do not close")
    const held = (): string | undefined => {
      for (const { process } of this.#visitors)
        if (world.left(process) > 0) return `${process.name} has a timer after close()`
      for (const { id, node } of this.#pops) {
        const { residents, connections } = node?.stats() ?? { residents: 0, connections: 0 }
        if (residents + connections > 0)
          return `${id} holds ${residents} activations and ${connections} connections of nobody`
      }
      return undefined
    }
    await this.#until(
      () => held() === undefined,
      200_000,
      () => held() ?? "",
    )
    if (world.finding !== undefined) return
    let stopping = this.#pops.length
    for (const { node } of this.#pops) void node?.stop().then(() => stopping--)
    await this.#until(() => stopping === 0, 20_000, "nodes do not stop")
    const last = world.plan(this.#watchman, 20_000, "world", "", () => undefined)
    await this.#until(
      () => this.#pops.every(({ process }) => process === undefined || world.left(process) === 0),
      20_000,
      () => {
        const pop = this.#pops.find(({ process }) => process !== undefined && world.left(process) > 0)
        return `${pop?.id ?? ""} has timers after stop()`
      },
    )
    last()
  }

  #unsettled(): string | undefined {
    for (const { actor, home } of this.#oracle.histories.values()) {
      if (home === undefined) continue
      const records = this.#pops.map(({ id }) => ({ id, record: this.#oracle.record("durable", id, actor) }))
      const granted = records.find(({ record }) => record?.k === "GRANTED")
      if (granted !== undefined) return `${granted.id}'s grant of ${actor} is not confirmed`
      const owner = records.find(({ record }) => record?.k === "OWNED")
      const atHome = records.find(({ id }) => id === home)?.record
      if (owner === undefined) return `${actor} has no owner`
      const { tip, durable } = this.#oracle.history(actor)
      if (durable !== tip.r) return `revision ${tip.r} of ${actor} is not durable`
      const [alarm] = tip.alarms.keys()
      if (alarm !== undefined) return `the alarm ${alarm} of ${actor} has not run`
      if (owner.id !== home && (atHome?.k !== "PTR" || atHome.to !== owner.id || atHome.e !== owner.record?.e))
        return `${actor} is at ${owner.id}; its home ${home} points to ${JSON.stringify(atHome)}`
    }
    return undefined
  }

  #viewsLag(): string | undefined {
    try {
      for (const visitor of this.#visitors) if (visitor.user !== "mallory") visitor.closeViews()
      return undefined
    } catch (error) {
      if (error instanceof Violation) return error.message
      throw error
    }
  }
}
