import type { Cluster } from "./cluster.ts"
import { noDiskFaults, type DiskFaults } from "./disk.ts"
import type { Fate, Network, Wire } from "./network.ts"
import { Random } from "./random.ts"
import { Process, type World } from "./world.ts"
import type { Visitor } from "./visitor.ts"

/**
 * What goes wrong in a run. Each seed switches on a subset of the kinds (swarm testing: a run with everything at once hides what only
 * two of them together do) and how often each comes; every occurrence is counted.
 */
export const faultKinds = [
  "client socket cut",
  "client socket half-open",
  "mesh link cut",
  "mesh link half-open",
  "partition",
  "one-way partition",
  "client cut off",
  "process crash",
  "machine crash",
  "crash at a step",
  "second process",
  "graceful restart",
  "process stall",
  "client stall",
  "clock jump",
  "disk trouble",
  "disk full",
  "mesh messages lost",
  "mesh messages twice",
  "mesh messages late",
  "relayed frames lost",
  "relayed frames twice",
  "relayed frames late",
  "client reload",
] as const

export type FaultKind = (typeof faultKinds)[number]

/** Moments of a hand-off, a turn and an activation at which a process is made to end: right then, with nothing after it. */
const traps = [
  ...["claim", "commit", "pull", "install", "confirm", "learn", "compact"].flatMap((op) => [
    `${op} issued`,
    `${op} visible`,
    `${op} durable`,
  ]),
  ...["PULL", "GRANT", "MOVED", "RELAY_ME", "CONFIRM", "CONFIRM_ACK", "HOMEUPD", "HOMEUPD_ACK", "RELAY_OPEN"].map(
    (t) => `${t} sent`,
  ),
  "reply sent",
  "attached sent",
]

/** What a hand-off consists of: any of it may be lost, repeated and overtaken. */
const handOff = new Set([
  "PULL",
  "GRANT",
  "MOVED",
  "NONE",
  "RELAY_ME",
  "REFUSED",
  "CONFIRM",
  "CONFIRM_ACK",
  "HOMEUPD",
  "HOMEUPD_ACK",
])
/** What a relay consists of. Its link keeps it in order and whole; where it did not, numbers would show it. */
const relayed = new Set(["RELAY_OPEN", "FRAME", "RELAY_CLOSE"])

export interface FaultOptions {
  readonly world: World
  readonly network: Network
  readonly cluster: Cluster
  readonly visitors: () => readonly Visitor[]
  readonly reload: (visitor: Visitor) => void
  /** Instead of a subset by chance. */
  readonly kinds?: readonly FaultKind[]
  /** Mean ms between two faults. */
  readonly meanMs: number
}

export class Faults {
  readonly kinds: readonly FaultKind[]
  readonly #options: FaultOptions
  readonly #random: Random
  readonly #hand = new Process("fault")
  #rates = { lost: 0, twice: 0, late: 0 }
  #relayRates = { lost: 0, twice: 0, late: 0 }
  #active = true
  /** What ends the process that does it next. */
  readonly #armed = new Set<string>()
  /** Processes that were replaced while they stalled, and still run. */
  readonly #replaced = new Set<Process>()
  readonly #shared = new Set<string>()

  constructor(options: FaultOptions) {
    this.#options = options
    this.#random = new Random(options.world.seed, "faults")
    const chosen = faultKinds.filter(() => this.#random.happens(0.55))
    this.kinds = options.kinds ?? chosen
  }

  start(): void {
    const random = this.#random
    if (this.kinds.includes("mesh messages lost")) this.#rates.lost = random.pick([0.02, 0.1, 0.3])
    if (this.kinds.includes("mesh messages twice")) this.#rates.twice = random.pick([0.05, 0.2, 0.5])
    if (this.kinds.includes("mesh messages late")) this.#rates.late = random.pick([0.05, 0.2])
    // Rarer: each breaks a relay, and half of the runs keep theirs whole so that outputs are judged at the gateway as well.
    if (random.happens(0.5))
      for (const how of ["lost", "twice", "late"] as const)
        if (this.kinds.includes(`relayed frames ${how}`)) this.#relayRates[how] = random.pick([0.01, 0.04, 0.15])
    if (this.kinds.includes("disk trouble"))
      for (const { disk } of this.#options.cluster.pops.values()) Object.assign(disk.faults, this.#ailing())
    this.#next()
  }

  /** A disk that fails now and then, all the time: what lasts between the times when it fails often. */
  #ailing(): DiskFaults {
    const random = this.#random
    return {
      ...noDiskFaults(),
      failBefore: random.pick([0, 0.003, 0.02]),
      failAfter: random.pick([0, 0.003, 0.02]),
      failLate: random.pick([0, 0.003, 0.02]),
      slow: random.pick([0, 0.003, 0.01]),
      slowFlush: random.pick([0, 0.005, 0.02]),
    }
  }

  #next(): void {
    const ms = -Math.log(1 - this.#random.unit()) * this.#options.meanMs
    this.#options.world.plan(this.#hand, ms, "world", "", () => {
      if (!this.#active) return
      const sudden = this.kinds.filter((kind) => !/^(mesh messages|relayed frames) /.test(kind))
      if (sudden.length > 0) this.#strike(this.#random.pick(sudden))
      this.#next()
    })
  }

  /** Whether relays lose, repeat or reorder frames in this run. */
  get frayed(): boolean {
    const { lost, twice, late } = this.#relayRates
    return lost + twice + late > 0
  }

  /** The fate of one whole mesh message. `t`: its type, undefined for chunks and the link's own frames. */
  fate(t: string | undefined): Fate {
    if (!this.#active || t === undefined) return "pass"
    const what = handOff.has(t) ? "mesh messages" : relayed.has(t) ? "relayed frames" : undefined
    if (what === undefined) return "pass"
    const roll = this.#random.unit()
    const { lost, twice, late } = what === "mesh messages" ? this.#rates : this.#relayRates
    const { world } = this.#options
    const hit = (how: "lost" | "twice" | "late", fate: Fate): Fate => {
      const kind = `${what} ${how}` as const
      world.count(`fault: ${kind}`)
      world.count(`fault: ${kind}: ${t}`)
      world.tell("fault", () => `${kind}: ${t}`)
      return fate
    }
    if (roll < lost) return hit("lost", "drop")
    if (roll < lost + twice) return hit("twice", "twice")
    if (roll < lost + twice + late) return hit("late", "late")
    return "pass"
  }

  /** A process did something that a trap may wait for. */
  passed(moment: string, pop: string): void {
    if (!this.#active || !this.#armed.delete(moment)) return
    const { world, cluster } = this.#options
    const machine = this.#random.happens(0.6)
    this.#later(0, () => {
      if (!cluster.pop(pop).up) return
      this.#did("crash at a step", `${pop}, after ${moment}${machine ? ", with its machine" : ""}`)
      world.count(`fault: crash at a step: ${moment}`)
      this.#crash(pop, machine)
    })
  }

  #crash(pop: string, machine: boolean): void {
    const { cluster } = this.#options
    const random = this.#random
    cluster.crash(pop, machine)
    if (machine) for (const process of [...this.#replaced]) if (process.name.startsWith(`${pop}.`)) this.#end(process)
    this.#later(random.happens(0.3) ? random.between(5_000, 30_000) : random.between(10, 2_000), () => {
      if (!cluster.pop(pop).up) cluster.start(pop)
    })
  }

  /** A duration: mostly short, sometimes beyond every timeout of the product. */
  #while(): number {
    const random = this.#random
    return random.happens(0.25) ? random.between(10_000, 45_000) : random.between(20, 5_000)
  }

  #later(ms: number, run: () => void): void {
    this.#options.world.plan(this.#hand, ms, "world", "", run)
  }

  #did(kind: FaultKind, what: string): void {
    this.#options.world.count(`fault: ${kind}`)
    this.#options.world.tell("fault", `${kind}: ${what}`)
  }

  #strike(kind: FaultKind): void {
    const { world, network, cluster, visitors, reload } = this.#options
    const random = this.#random
    const pops = [...cluster.pops.keys()]
    const pop = random.pick(pops)
    const other = random.pick(pops.filter((id) => id !== pop))
    switch (kind) {
      case "client socket cut":
      case "client socket half-open":
      case "mesh link cut":
      case "mesh link half-open": {
        const wires = [...network.wires].filter((wire) => kind.startsWith(wire.kind))
        if (wires.length === 0) return
        const half = kind.endsWith("half-open")
        const told = half ? (random.happens(0.5) ? [true, false] : [false, true]) : [true, true]
        const wire = random.pick(wires) as Wire<string | Uint8Array>
        this.#did(kind, `${wire.ends[0].place} – ${wire.ends[1].place}`)
        network.cut(wire, told as [boolean, boolean])
        return
      }
      case "partition":
      case "one-way partition": {
        this.#did(kind, `${pop} ${kind === "partition" ? "–" : "→"} ${other}`)
        network.block(pop, other, true)
        if (kind === "partition") network.block(other, pop, true)
        this.#later(this.#while(), () => {
          network.block(pop, other, false)
          network.block(other, pop, false)
          world.tell("fault", `${pop} – ${other} heals`)
        })
        return
      }
      case "client cut off": {
        const { name } = random.pick(visitors())
        this.#did(kind, `${name} – ${pop}`)
        network.block(name, pop, true)
        if (random.happens(0.6)) network.block(pop, name, true)
        this.#later(this.#while(), () => {
          network.block(name, pop, false)
          network.block(pop, name, false)
        })
        return
      }
      case "process crash":
      case "machine crash":
        if (!cluster.pop(pop).up) return
        this.#did(kind, pop)
        this.#crash(pop, kind === "machine crash")
        return
      case "graceful restart": {
        const { process, node } = cluster.pop(pop)
        if (process?.state !== "alive" || node?.serving() !== true) return
        this.#did(kind, process.name)
        // As a supervisor does: it ends when it says so, or is killed.
        const over = (): void => {
          if (cluster.pop(pop).process !== process || process.state === "dead") return
          cluster.crash(pop, false)
          this.#later(random.between(10, 1_000), () => cluster.pop(pop).up || cluster.start(pop))
        }
        world.plan(process, 0, "world", "is asked to stop", () => {
          node.stop().then(over, (error: unknown) => world.found(error))
        })
        this.#later(15_000, over)
        return
      }
      case "crash at a step":
        for (let i = 0; i < 3; i++) this.#armed.add(random.pick(traps))
        return
      case "second process": {
        // A supervisor takes a stalled process for dead and starts another on the same store; the first one comes back.
        const { process } = cluster.pop(pop)
        if (process?.state !== "alive") return
        this.#did(kind, `${process.name} stalls and is replaced`)
        world.stall(process)
        this.#replaced.add(process)
        this.#shared.add(pop)
        this.#later(random.between(0, 3_000), () => {
          if (this.#active && process.state !== "dead" && cluster.pop(pop).process === process) cluster.start(pop)
        })
        this.#later(this.#while(), () => {
          world.tell("fault", `${process.name} resumes`)
          world.resume(process)
        })
        this.#later(random.between(3_001, 20_000), () => this.#end(process))
        return
      }
      case "process stall": {
        const { process } = cluster.pop(pop)
        if (process?.state !== "alive") return
        this.#did(kind, pop)
        world.stall(process)
        this.#later(this.#while(), () => {
          world.tell("fault", `${process.name} resumes`)
          world.resume(process)
        })
        return
      }
      case "client stall": {
        const visitor = random.pick(visitors())
        if (visitor.process.state !== "alive") return
        const ms = this.#while()
        this.#did(kind, visitor.name)
        world.stall(visitor.process)
        visitor.lostMs += ms
        this.#later(ms, () => world.resume(visitor.process))
        return
      }
      case "clock jump": {
        const process = random.happens(0.7) ? cluster.pop(pop).process : random.pick(visitors()).process
        if (process === undefined) return
        process.skewMs = random.between(-120_000, 120_000)
        this.#did(kind, `${process.name} is off by ${Math.round(process.skewMs)} ms`)
        return
      }
      case "disk trouble": {
        const { faults } = cluster.pop(pop).disk
        this.#did(kind, pop)
        faults.failBefore = random.pick([0, 0.05, 0.25])
        faults.failAfter = random.pick([0, 0.05, 0.2])
        faults.failLate = random.pick([0, 0.05, 0.2])
        faults.slow = random.pick([0, 0.02, 0.1])
        faults.slowFlush = random.pick([0, 0.05, 0.3])
        this.#later(this.#options.meanMs * random.between(1, 8), () => {
          if (this.#active) Object.assign(faults, { ...this.#ailing(), full: faults.full })
        })
        return
      }
      case "disk full": {
        const { faults } = cluster.pop(pop).disk
        this.#did(kind, pop)
        faults.full = true
        this.#later(random.between(100, 4_000), () => (faults.full = false))
        return
      }
      case "client reload":
        this.#did(kind, "")
        reload(random.pick(visitors()))
        return
      default:
    }
  }

  /** A replaced process ends, at the latest with the faults. */
  #end(process: Process): void {
    const { world, network, cluster } = this.#options
    const pop = [...cluster.pops.values()].find((one) => process.name.startsWith(`${one.id}.`))
    if (pop === undefined || pop.process === process) return
    if (!this.#replaced.delete(process) || process.state === "dead") return
    world.tell("fault", `${process.name} ends`)
    world.kill(process)
    network.died(process, false)
    pop.disk.crashed(process, false)
  }

  /** No more faults, and those that last are over. */
  stop(): void {
    const { world, network, cluster, visitors } = this.#options
    this.#active = false
    world.tell("fault", "the faults stop; everything heals")
    for (const way of network.blockedWays()) {
      const [from, to] = way.split(">") as [string, string]
      network.block(from, to, false)
    }
    for (const pop of cluster.pops.values()) {
      Object.assign(pop.disk.faults, noDiskFaults())
      if (pop.process !== undefined) {
        world.resume(pop.process)
        pop.process.skewMs = 0
      }
      if (!pop.up) cluster.start(pop.id)
    }
    for (const process of [...this.#replaced]) this.#end(process)
    // What a process granted while another of its POP was running is sent again by whichever starts next: a store is listed at start only.
    for (const pop of this.#shared) {
      cluster.crash(pop, false)
      cluster.start(pop)
    }
    for (const { process } of visitors()) {
      world.resume(process)
      process.skewMs = 0
    }
  }
}
