import {
  decideCheck,
  decideClaim,
  decideClaimSeen,
  decideCommit,
  decideConfirm,
  decideInstall,
  decideLearn,
  decidePull,
  emptyBody,
  type Body,
  type OwnershipRecord,
  type PeerMemory,
  type Store,
} from "@sojourn/core"
import { SojournError } from "@sojourn/protocol"
import { Random } from "./random.ts"
import { Process, type World } from "./world.ts"

/**
 * One POP's disk, and the store on it. The disk outlives processes. A write goes through three states: issued (in the process's
 * queue), visible (the engine took it; other operations see it), durable (flushed). A store's promise settles only when what it wrote
 * and what it saw is durable, as the contract of `core/store.ts` asks; a seam of `DiskFaults` breaks that for the mutants.
 *
 * A crash of the process leaves its issued operations to chance: they vanish, or they land later, in the middle of its successor's
 * work. A crash of the machine also takes back every visible write that was not flushed, from some point of the log on; a torn last
 * write is one that the engine finds torn and drops. No durable write is ever taken back (A3 in docs/handoff.md).
 *
 * The decisions are the product's own (`record.ts`), injected; everything else here is the simulator's.
 */
export interface Rules {
  readonly claim: typeof decideClaim
  readonly commit: typeof decideCommit
  readonly check: typeof decideCheck
  readonly pull: typeof decidePull
  readonly install: typeof decideInstall
  readonly confirm: typeof decideConfirm
  readonly learn: typeof decideLearn
}

export const productRules: Rules = {
  claim: decideClaim,
  commit: decideCommit,
  check: decideCheck,
  pull: decidePull,
  install: decideInstall,
  confirm: decideConfirm,
  learn: decideLearn,
}

/** What is in one actor's place on a disk. Never mutated: a write puts a new one. */
export interface Stored {
  readonly record: OwnershipRecord
  readonly body: Body
}

export type Operation =
  "claim" | "commit" | "check" | "pull" | "install" | "stage" | "confirm" | "learn" | "load" | "peek" | "compact"

/** One atomic change: what the oracle sees, and what a crash may take back until it is durable. */
export interface Change {
  readonly pop: string
  readonly actor: string
  readonly op: Operation
  readonly before: Stored | undefined
  readonly after: Stored
}

export interface DiskWatch {
  issued?(op: Operation): void
  visible?(change: Change): void
  durable?(change: Change): void
  /** These were visible and are taken back, latest first. */
  undone?(changes: readonly Change[]): void
}

/** Probabilities by operation, and the seams that planted defects use. */
export interface DiskFaults {
  /** The operation fails and has no effect; the error says so. */
  failBefore: number
  /** It takes effect, and fails: the outcome is unknown to the caller. */
  failAfter: number
  /** The outcome is unknown and it takes effect much later, or never. */
  failLate: number
  /** It takes seconds. */
  slow: number
  slowFlush: number
  /** Operations that write are refused, as on a full disk. */
  full: boolean
}

export const noDiskFaults = (): DiskFaults => ({
  failBefore: 0,
  failAfter: 0,
  failLate: 0,
  slow: 0,
  slowFlush: 0,
  full: false,
})

/** How a planted defect changes the store from outside. */
export interface DiskSeams {
  readonly rules: Rules
  /** Operations that answer when visible rather than when durable; true: all. */
  readonly eager: boolean | ReadonlySet<Operation>
  /** Changes what a write leaves. */
  readonly rewrite?: (change: Change) => Stored | undefined
  /** Changes a body on its way out with a grant. */
  readonly granted?: (body: Body) => Body
  /** Changes a body on its way into an activation. */
  readonly loaded?: (body: Body) => Body
  /** Changes a journal entry as it is written. */
  readonly entry?: (bytes: Uint8Array) => Uint8Array
  /** Changes a snapshot as a compaction writes it. */
  readonly compacted?: (snapshot: Uint8Array) => Uint8Array
}

/** How long after its process's end an operation may take effect, ms. */
export const landsMsMax = 3_000

const reads = new Set<Operation>(["check", "load", "peek"])

interface Issued {
  readonly op: Operation
  readonly actor: string
  readonly apply: () => unknown
  undo: () => void
}

export class Disk {
  readonly pop: string
  readonly id: string
  readonly faults = noDiskFaults()
  readonly durable = new Map<string, Stored>()
  readonly visible = new Map<string, Stored>()
  readonly #peers = new Map<string, PeerMemory>()
  readonly #world: World
  readonly #engine: Process
  readonly #random: Random
  readonly #watch: DiskWatch
  readonly #seams: DiskSeams
  /** Visible, not durable, oldest first. */
  #log: Change[] = []
  #flushing: { readonly upTo: number; readonly undo: () => void } | undefined
  #logged = 0
  #flushed = 0
  #waiters: { readonly upTo: number; readonly run: () => void }[] = []
  readonly #lastOf = new Map<string, number>()
  readonly #issued = new Map<Process, Set<Issued>>()
  /** When an actor's last issued operation takes effect: operations on one actor keep the order of their calls. */
  readonly #busyUntil = new Map<string, number>()

  constructor(world: World, pop: string, seams: DiskSeams, watch: DiskWatch) {
    this.pop = pop
    this.#world = world
    this.#engine = new Process(`disk:${pop}`)
    this.#random = new Random(world.seed, `disk ${pop}`)
    this.id = `store-${pop}-${this.#random.chance().id()}`
    this.#seams = seams
    this.#watch = watch
  }

  get pending(): number {
    return this.#log.length
  }

  /** The store as one process uses it. */
  open(process: Process): Store {
    const { rules } = this.#seams
    this.#issued.set(process, new Set())
    const run = <A>(op: Operation, actor: string, apply: (held: Stored | undefined) => { write?: Stored; answer: A }) =>
      this.#run(process, op, actor, apply)
    const write = (record: OwnershipRecord | undefined, body: Body): { write?: Stored } =>
      record === undefined ? {} : { write: { record, body } }
    /** Of this process: a copy ahead that a crash takes is merely not there. */
    const staged = new Map<string, { readonly snapshot: Uint8Array; readonly revision: number }>()
    const written = (bytes: Uint8Array): Uint8Array => this.#seams.entry?.(bytes) ?? copyOf(bytes)
    let closed = false
    const guard = <R>(start: () => Promise<R>): Promise<R> =>
      closed ? Promise.reject(new SojournError("STORE_UNAVAILABLE", "the simulated store is closed")) : start()

    return {
      id: this.id,
      durability: "flushed",
      watermark: () => this.#flushed,
      claim: (actor, home, first) =>
        guard(() =>
          run("claim", actor, (held) => {
            const body = held?.body ?? emptyBody
            if (first) {
              const { seen, entries, h, due } = first
              const { record, answer } = decideClaimSeen(held?.record, home, seen, entries.length, h, due, rules)
              const grown = { ...body, entries: [...body.entries, ...entries.map(written)] }
              return { ...write(record, grown), answer: { ...answer, body: emptyBody } }
            }
            const { record, answer } = rules.claim(held?.record, home)
            const out = answer.kind === "claimed" ? (this.#seams.loaded?.(body) ?? body) : emptyBody
            return { ...write(record, body), answer: { ...answer, body: out } }
          }),
        ),
      commit: (actor, fence, { entries, h, due }) =>
        guard(() =>
          run("commit", actor, (held) => {
            const { record, answer } = rules.commit(held?.record, fence, entries.length, h, due)
            const body = held?.body ?? emptyBody
            return { ...write(record, { ...body, entries: [...body.entries, ...entries.map(written)] }), answer }
          }),
        ),
      // No POP is forgotten in the simulation: `spec/forget-model.ts` explores that.
      revive: () => Promise.reject(new RangeError("no simulated POP is forgotten")),
      forget: () => Promise.reject(new RangeError("no simulated POP is forgotten")),
      forgotten: () => guard(() => Promise.resolve(new Map())),
      check: (actor, fence) =>
        guard(() => run("check", actor, (held) => ({ answer: rules.check(held?.record, fence) }))),
      pull: (actor, home, to, compacted, bytesMax = Infinity, ahead?: number) =>
        guard(() =>
          run<Awaited<ReturnType<Store["pull"]>>>("pull", actor, (held) => {
            const { record, answer } = rules.pull(held?.record, home, to)
            const whole =
              compacted &&
              held?.record.k === "OWNED" &&
              rules.check(held.record, compacted.fence) &&
              held.record.v === compacted.fence.v
            const body = whole ? { snapshot: copyOf(compacted.snapshot), entries: [] } : (held?.body ?? emptyBody)
            const bytes = [body.snapshot, ...body.entries].reduce((sum, part) => sum + (part?.length ?? 0), 0)
            if (record !== undefined && answer.kind === "grant" && bytes > bytesMax)
              return { answer: { kind: "too-large", bytes } }
            const sent =
              held?.record.k === "OWNED" && !whole && held.record.v - body.entries.length === ahead
                ? { ...body, snapshot: undefined }
                : body
            const out = this.#seams.granted?.(sent) ?? sent
            return {
              ...write(record, body),
              answer: answer.kind === "grant" ? { kind: "grant" as const, record: answer.record, body: out } : answer,
            }
          }),
        ),
      install: (actor, home, grant, first) =>
        guard(() =>
          run("install", actor, (held) => {
            const entries = first?.entries ?? []
            const ahead = staged.get(actor)
            if (grant.staged !== undefined && ahead?.revision !== grant.staged)
              throw new SojournError("STORE_UNAVAILABLE", "nothing is staged", { outcome: "not-executed" })
            const snapshot = grant.staged === undefined ? grant.body.snapshot : ahead?.snapshot
            staged.delete(actor)
            const { record, answer } = rules.install(
              held?.record,
              home,
              grant,
              first !== undefined,
              entries.length,
              entries.length > 0 ? first?.h : grant.h,
              first?.due,
            )
            const body = {
              snapshot: snapshot === undefined ? undefined : copyOf(snapshot),
              entries: [...grant.body.entries.map(copyOf), ...entries.map(written)],
            }
            return { ...write(record, body), answer }
          }),
        ),
      stage: (actor, snapshot, revision) =>
        guard(() =>
          run("stage", actor, (held) => {
            if (held !== undefined && held.record.k !== "PTR") return { answer: false }
            if (snapshot === undefined) staged.delete(actor)
            else staged.set(actor, { snapshot: copyOf(snapshot), revision })
            return { answer: true }
          }),
        ),
      confirm: (actor, from, e) =>
        guard(() =>
          run("confirm", actor, (held) => {
            const { record, answer } = rules.confirm(held?.record, from, e)
            return { ...write(record, emptyBody), answer }
          }),
        ),
      learn: (actor, to, e) =>
        guard(() =>
          run("learn", actor, (held) => {
            const { record, answer } = rules.learn(held?.record, to, e)
            return { ...write(record, emptyBody), answer }
          }),
        ),
      load: (actor) =>
        guard(() =>
          run("load", actor, (held) => ({
            answer: held?.record.k === "OWNED" ? { ...held, body: this.#seams.loaded?.(held.body) ?? held.body } : held,
          })),
        ),
      peek: (actor) => guard(() => run("peek", actor, (held) => ({ answer: held?.record }))),
      compact: (actor, fence, snapshot, upTo) =>
        guard(() =>
          run("compact", actor, (held) => {
            if (held?.record.k !== "OWNED" || !productRules.check(held.record, fence)) return { answer: false }
            const keep = held.record.v - upTo
            const entries = keep <= 0 ? [] : held.body.entries.slice(-keep)
            const compacted = this.#seams.compacted?.(snapshot) ?? copyOf(snapshot)
            return { write: { record: held.record, body: { snapshot: compacted, entries } }, answer: true }
          }),
        ),
      list: ({ after, limit, k }) =>
        guard(() =>
          this.#later(process, 0.1, () =>
            [...this.durable.keys()]
              .sort()
              .filter((actor) => after === undefined || actor > after)
              .map((actor) => ({ actor, record: (this.durable.get(actor) as Stored).record }))
              .filter(({ record }) => k === undefined || record.k === k)
              .slice(0, limit),
          ),
        ),
      due: ({ before, limit, after }) =>
        guard(() =>
          this.#later(process, 0.1, () =>
            [...this.durable]
              .flatMap(([actor, { record }]) =>
                record.k === "OWNED" && record.due !== undefined && record.due <= before
                  ? [{ actor, due: record.due }]
                  : [],
              )
              .sort((a, b) => a.due - b.due || (a.actor < b.actor ? -1 : 1))
              .filter(
                (one) =>
                  after === undefined || one.due > after.due || (one.due === after.due && one.actor > after.actor),
              )
              .slice(0, limit),
          ),
        ),
      peers: () => guard(() => this.#later(process, 0.1, () => new Map(this.#peers))),
      rememberPeer: (pop, memory) =>
        guard(() => this.#later(process, this.#random.between(0.2, 2), () => void this.#peers.set(pop, memory))),
      close: () => {
        closed = true
        return this.#later(process, 0.1, () => undefined)
      },
    }
  }

  #later<A>(process: Process, ms: number, answer: () => A): Promise<A> {
    return new Promise((resolve) => {
      this.#world.plan(process, ms, "disk", "", () => resolve(answer()))
    })
  }

  #run<A>(
    process: Process,
    op: Operation,
    actor: string,
    apply: (held: Stored | undefined) => { write?: Stored; answer: A },
  ): Promise<A> {
    const world = this.#world
    const random = this.#random
    const { faults } = this
    return new Promise<A>((resolve, reject) => {
      const settle = (run: () => void): void => void world.plan(process, 0.01, "disk", "", run)
      const fails = (code: "STORE_UNAVAILABLE" | "UNKNOWN_OUTCOME", what: string): void =>
        settle(() => {
          world.tell(`disk:${this.pop}`, `${op} ${actor} fails: ${what}`)
          reject(new SojournError(code, `the simulated disk: ${what}`))
        })
      const roll = random.unit()
      const slow = random.happens(faults.slow)
      if (slow) world.count("disk: slow operation")
      const soon = world.time + random.between(0.02, 0.3) + (slow ? random.between(500, 8_000) : 0)
      const at = Math.max(this.#busyUntil.get(actor) ?? 0, soon)
      this.#busyUntil.set(actor, at)
      const issued: Issued = {
        op,
        actor,
        apply: () => this.#apply(op, actor, apply).answer,
        undo: () => undefined,
      }
      const mine = this.#issued.get(process)
      const take = (): void => {
        mine?.delete(issued)
        if (faults.full && !reads.has(op)) {
          world.count("disk: full")
          return fails("STORE_UNAVAILABLE", "full")
        }
        if (roll < faults.failBefore) {
          world.count("disk: fails before taking effect")
          return fails("STORE_UNAVAILABLE", "failed before taking effect")
        }
        if (!reads.has(op) && roll < faults.failBefore + faults.failLate) {
          const lands = random.happens(0.6)
          world.count(lands ? "disk: unknown outcome, takes effect late" : "disk: unknown outcome, never takes effect")
          if (lands)
            world.plan(
              this.#engine,
              random.between(1, 6_000),
              "disk",
              () => `late ${op} ${actor} lands`,
              () => {
                this.#try(issued)
              },
            )
          return fails("UNKNOWN_OUTCOME", "no answer")
        }
        let answer: A
        let upTo: number
        try {
          ;({ answer, upTo } = this.#apply(op, actor, apply))
        } catch (error) {
          settle(() => reject(error instanceof Error ? error : new Error(String(error))))
          return
        }
        if (!reads.has(op) && roll < faults.failBefore + faults.failLate + faults.failAfter) {
          world.count("disk: fails after taking effect")
          return fails("UNKNOWN_OUTCOME", "failed after taking effect")
        }
        const { eager } = this.#seams
        if (eager === true || (eager !== false && eager.has(op)) || upTo <= this.#flushed) settle(() => resolve(answer))
        else this.#waiters.push({ upTo, run: () => settle(() => resolve(answer)) })
      }
      issued.undo = world.plan(this.#engine, at - world.time, "disk", () => `${op} ${actor}`, take)
      mine?.add(issued)
      this.#watch.issued?.(op)
    })
  }

  /** A late operation may be refused by its own rule: nobody is there to hear it. */
  #try(issued: Issued): void {
    try {
      issued.apply()
    } catch (error) {
      this.#world.tell(`disk:${this.pop}`, () => `late ${issued.op} ${issued.actor} refused: ${String(error)}`)
    }
  }

  #apply<A>(
    op: Operation,
    actor: string,
    apply: (held: Stored | undefined) => { write?: Stored; answer: A },
  ): { answer: A; upTo: number } {
    const before = this.visible.get(actor)
    const { write, answer } = apply(before)
    if (write !== undefined) {
      let change: Change = { pop: this.pop, actor, op, before, after: write }
      const rewritten = this.#seams.rewrite?.(change)
      if (rewritten !== undefined) change = { ...change, after: rewritten }
      this.visible.set(actor, change.after)
      this.#log.push(change)
      this.#logged++
      this.#lastOf.set(actor, this.#logged)
      this.#world.tell(`disk:${this.pop}`, () => `${op} ${actor} → ${describeRecord(change.after.record)}`)
      this.#watch.visible?.(change)
      this.#flushSoon()
    }
    return { answer, upTo: this.#lastOf.get(actor) ?? 0 }
  }

  /** Changes the disk from outside any process: for planted defects. */
  meddle(actor: string, change: (held: Stored) => Stored): void {
    const held = this.visible.get(actor)
    if (held !== undefined) this.#apply("learn", actor, () => ({ write: change(held), answer: undefined }))
  }

  #flushSoon(): void {
    if (this.#flushing !== undefined) return
    const slow = this.#random.happens(this.faults.slowFlush)
    if (slow) this.#world.count("disk: slow flush")
    const ms = slow ? this.#random.between(500, 6_000) : this.#random.between(0.2, 1.5)
    // What becomes visible while a flush runs waits for the next one.
    const upTo = this.#logged
    const undo = this.#world.plan(this.#engine, ms, "disk", "flush", () => {
      this.#flushing = undefined
      this.#makeDurable(upTo)
      if (this.#log.length > 0) this.#flushSoon()
    })
    this.#flushing = { upTo, undo }
  }

  #makeDurable(upTo: number): void {
    const changes = this.#log.splice(0, upTo - this.#flushed)
    this.#flushed = upTo
    for (const change of changes) {
      this.durable.set(change.actor, change.after)
      this.#watch.durable?.(change)
    }
    const ready = this.#waiters.filter((waiter) => waiter.upTo <= upTo)
    this.#waiters = this.#waiters.filter((waiter) => waiter.upTo > upTo)
    for (const waiter of ready) waiter.run()
  }

  /** The process ended. `machine`: its memory of unflushed writes went with it. */
  crashed(process: Process, machine: boolean): void {
    const world = this.#world
    const issued = this.#issued.get(process) ?? new Set()
    this.#issued.delete(process)
    for (const one of issued) {
      one.undo()
      if (machine || reads.has(one.op) || !this.#random.happens(0.5)) continue
      world.count("disk: operation of a dead process lands")
      world.plan(
        this.#engine,
        this.#random.between(0.1, landsMsMax),
        "disk",
        () => `dead process's ${one.op} ${one.actor}`,
        () => this.#try(one),
      )
    }
    if (!machine) return
    this.#flushing?.undo()
    this.#flushing = undefined
    if (this.#log.length === 0) return
    const survive = this.#random.int(this.#log.length + 1)
    const lost = this.#log.splice(survive)
    if (lost.length > 0) {
      world.count("disk: unflushed writes lost", lost.length)
      if (this.#random.happens(0.5)) world.count("disk: torn last write dropped")
    }
    this.#makeDurable(this.#flushed + survive)
    this.#waiters = []
    // The lost writes' numbers are given again.
    this.#logged = this.#flushed
    for (const change of lost.reverse()) {
      if (change.before === undefined) this.visible.delete(change.actor)
      else this.visible.set(change.actor, change.before)
    }
    this.#lastOf.clear()
    this.#watch.undone?.(lost)
  }
}

function copyOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice()
}

export function describeRecord(record: OwnershipRecord): string {
  if (record.k === "OWNED") return `OWNED(e${record.e} f${record.f} v${record.v})`
  if (record.k === "GRANTED") return `GRANTED(e${record.e} to ${record.to} v${record.v})`
  return `PTR(e${record.e} to ${record.to})`
}
