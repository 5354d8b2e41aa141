import type { Clock, Undo } from "@sojourn/protocol"
import { Random } from "./random.ts"

/**
 * One simulated world: virtual time, an ordered set of events, and the processes that they belong to.
 *
 * A step takes the earliest event, runs it, and then lets every microtask that it caused run to its end. Product code is free to
 * use promises: since nothing in it waits for real time or real I/O, all of them settle before the next step, always in the same
 * order, so the same seed gives the same run. Two events of the same instant run in the order in which they were planned.
 *
 * A process is what crashes, stalls and has a clock of its own. Events of a dead process are discarded; events of a stalled one wait
 * for it.
 */
export class Process {
  readonly name: string
  /** alive → dead (for good: a restart is a new process); alive ⇄ stalled. */
  state: "alive" | "stalled" | "dead" = "alive"
  /** Wall clock minus true time, ms. */
  skewMs = 0
  /** How fast this process's clocks run. */
  rate = 1
  readonly backlog: Planned[] = []

  constructor(name: string) {
    this.name = name
  }
}

export type EventKind = "timer" | "net" | "disk" | "world"

interface Planned {
  at: number
  order: number
  readonly process: Process
  readonly kind: EventKind
  readonly label: Label
  readonly run: () => void
  undone: boolean
}

/** A function, where the text is only worth making for a story. */
export type Label = string | (() => string)

const epochMs = 1_750_000_000_000
/** Timers of the product that lie further ahead than this keep nothing alive: a run ends before them. */
const yearMs = 31_536_000_000

export class World {
  readonly seed: number
  readonly random: Random
  readonly counts = new Map<string, number>()
  /** True ms since the world began. */
  time = 0
  steps = 0
  /** The first broken rule. */
  finding: Error | undefined
  /** Whose event this is, its microtasks included. */
  running: Process | undefined
  /** Whether labels are made and kept: for stories and for comparing two runs. */
  readonly verbose: boolean
  readonly story: string[] = []
  #digest = 0x811c9dc5
  #order = 0
  readonly #heap: Planned[] = []
  readonly #storyMax: number

  constructor(seed: number, options: { readonly verbose?: boolean; readonly storyMax?: number } = {}) {
    this.seed = seed
    this.random = new Random(seed, "world")
    this.verbose = options.verbose ?? false
    this.#storyMax = options.storyMax ?? 400
  }

  /** A number over everything that happened so far, in order. */
  get digest(): string {
    return (this.#digest >>> 0).toString(16).padStart(8, "0")
  }

  count(what: string, by = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + by)
  }

  #mix(text: string): void {
    let h = this.#digest
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    this.#digest = h
  }

  /**
   * Runs a judge. What it finds is kept and ends the run after this step: thrown through product code it might be caught there.
   * A judge that fails otherwise is a finding as well.
   */
  judge(run: () => void): void {
    try {
      run()
    } catch (error) {
      this.found(error)
    }
  }

  found(error: unknown): void {
    this.finding ??= error instanceof Error ? error : new Error(String(error))
  }

  /** Adds a line to the story and to the digest: what a fault did, what a client was told. */
  tell(who: string, what: Label): void {
    if (!this.verbose) {
      this.#mix(who)
      return
    }
    const text = `${this.time.toFixed(2).padStart(10)}  ${who.padEnd(9)} ${typeof what === "string" ? what : what()}`
    this.#mix(text)
    this.story.push(text)
    if (this.story.length > this.#storyMax * 2) this.story.splice(0, this.#storyMax)
  }

  plan(process: Process, afterMs: number, kind: EventKind, label: Label, run: () => void): Undo {
    const planned: Planned = {
      at: this.time + Math.max(0, afterMs),
      order: this.#order++,
      process,
      kind,
      label,
      run,
      undone: false,
    }
    this.#push(planned)
    return () => {
      planned.undone = true
    }
  }

  /** Runs the next event and all that follows from it at once. False: nothing is planned within a year. */
  async step(): Promise<boolean> {
    for (;;) {
      const next = this.#pop()
      if (next === undefined || next.at - this.time > yearMs) return false
      if (next.undone || next.process.state === "dead") continue
      if (next.process.state === "stalled") {
        next.process.backlog.push(next)
        continue
      }
      this.time = Math.max(this.time, next.at)
      this.steps++
      this.#mix(`${this.time}|${next.process.name}|${next.kind}|${next.order}`)
      if (this.verbose && next.label !== "") this.tell(next.process.name, next.label)
      this.running = next.process
      try {
        next.run()
      } catch (error) {
        this.found(new Error(`${next.process.name} threw out of an event: ${describeThrown(error)}`))
      }
      await new Promise<void>((resolve) => setImmediate(resolve))
      this.running = undefined
      return true
    }
  }

  clock(process: Process): Clock {
    return {
      now: () => Math.floor(epochMs + this.time * process.rate + process.skewMs),
      mono: () => this.time * process.rate,
      after: (ms, fn) => {
        if (process.state === "dead") return () => undefined
        // No timer of a real platform is finer than a millisecond.
        return this.plan(process, Math.max(1, ms) / process.rate, "timer", "", fn)
      },
    }
  }

  stall(process: Process): void {
    if (process.state === "alive") process.state = "stalled"
  }

  /** What waited runs now: timers first or sockets first, by chance, each kind in its order. */
  resume(process: Process): void {
    if (process.state !== "stalled") return
    process.state = "alive"
    const waiting = process.backlog.splice(0).filter((planned) => !planned.undone)
    const timersFirst = this.random.happens(0.5)
    const rank = (planned: Planned): number => ((planned.kind === "timer") === timersFirst ? 0 : 1)
    waiting.sort((a, b) => rank(a) - rank(b) || a.order - b.order)
    for (const planned of waiting) {
      planned.at = this.time
      planned.order = this.#order++
      this.#push(planned)
    }
  }

  /** Timers of the product that a process has still before it. */
  left(process: Process): number {
    return this.#heap.filter((one) => one.process === process && one.kind === "timer" && !one.undone).length
  }

  kill(process: Process): void {
    process.state = "dead"
    process.backlog.length = 0
  }

  #before(a: Planned, b: Planned): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order)
  }

  #push(planned: Planned): void {
    const heap = this.#heap
    let i = heap.length
    heap.push(planned)
    while (i > 0) {
      const up = (i - 1) >> 1
      const parent = heap[up] as Planned
      if (!this.#before(planned, parent)) break
      heap[i] = parent
      i = up
    }
    heap[i] = planned
  }

  #pop(): Planned | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let i = 0
    for (;;) {
      let down = 2 * i + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && this.#before(heap[down + 1] as Planned, heap[down] as Planned)) down++
      const child = heap[down] as Planned
      if (!this.#before(child, last)) break
      heap[i] = child
      i = down
    }
    heap[i] = last
    return first
  }
}

export function describeThrown(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
