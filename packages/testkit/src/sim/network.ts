import type { Pipe, PipeReader } from "@sojourn/core"
import type { Label, Process, World } from "./world.ts"

/**
 * Sockets of the simulated world. A wire is an ordered, reliable, message-keeping stream between two processes, as a WebSocket over
 * TCP is: it delivers a prefix of what was sent, in order, and then either says that it closed or says nothing. The sender never
 * learns how long that prefix was. So loss is a cut after which an unknown suffix is missing, delay is unbounded, and a half-open
 * wire is one of which an end was never told.
 *
 * Between POPs a wire may also lose, repeat and overtake single messages where its `tamper` says so: the mesh's messages must be
 * safe under all of that (A1 in docs/handoff.md), although TCP alone would never do it.
 */
export type Data = string | Uint8Array

export interface Handlers<T extends Data> extends PipeReader<T> {
  open(): void
}

/** What happens to one message of a wire on its way. */
export type Fate = "pass" | "drop" | "twice" | "late"

export interface WireWatch<T extends Data> {
  /** `sent`: handed to the pipe by its process; `got`: about to be handed to the reader of the other end. */
  sent?(wire: Wire<T>, end: 0 | 1, data: T): void
  got?(wire: Wire<T>, end: 0 | 1, data: T): void
  closed?(wire: Wire<T>, end: 0 | 1): void
  tamper?(wire: Wire<T>, end: 0 | 1, data: T): Fate
  describe?(data: T): string
}

interface Flying<T> {
  readonly data: T
  readonly undo: () => void
}

interface End<T extends Data> {
  readonly place: string
  process: Process
  reader: PipeReader<T> | undefined
  /** No `closed` was told yet, and this end did not close. */
  open: boolean
  /** Messages sent by this end and not yet delivered. */
  flying: Flying<T>[]
  /** Sent while the way was blocked, or waiting behind such. */
  held: { readonly data: T; readonly fate: Fate }[]
  bytes: number
  waiting: { readonly at: number; readonly done: () => void }[]
  lastAt: number
  /** What this end sends from now on arrives nowhere, its close included. */
  severed: boolean
}

/** Longest delay of a message that others overtake, ms. */
export const lateMsMax = 20_000

/** Bytes in flight past which a sender's `done` waits: two kernels' socket buffers. */
const windowBytes = 262_144

export class Wire<T extends Data> {
  readonly kind: Kind
  readonly ends: readonly [End<T>, End<T>]
  readonly request: unknown
  established = false
  /** Of the other side's making: what the simulator wants to remember of this wire. */
  note: unknown = undefined

  constructor(kind: Kind, ends: readonly [End<T>, End<T>], request: unknown) {
    this.kind = kind
    this.ends = ends
    this.request = request
  }
}

export type Kind = "client" | "mesh"

type Accept = (pipe: Pipe<never>, request: unknown, wire: Wire<never>) => PipeReader<never> | undefined

export class Network {
  readonly #world: World
  readonly #listeners = new Map<string, { readonly process: Process; readonly accept: Accept }>()
  readonly #blocked = new Set<string>()
  readonly wires = new Set<Wire<Data>>()
  readonly #watch: Record<Kind, WireWatch<never>> = { client: {}, mesh: {} }
  /** One-way delay between two places, ms, without jitter. */
  delay: (from: string, to: string) => number
  jitter = 0.1

  constructor(world: World, delay: (from: string, to: string) => number) {
    this.#world = world
    this.delay = delay
  }

  watch<T extends Data>(kind: Kind, watch: WireWatch<T>): void {
    this.#watch[kind] = watch
  }

  listen<T extends Data>(
    kind: Kind,
    place: string,
    process: Process,
    accept: (pipe: Pipe<T>, request: unknown, wire: Wire<T>) => PipeReader<T> | undefined,
  ): void {
    this.#listeners.set(`${kind} ${place}`, { process, accept })
  }

  /** Whether `from` can reach `to` now; a closed way holds what is sent until it opens. */
  block(from: string, to: string, blocked: boolean): void {
    const way = `${from}>${to}`
    if (blocked) this.#blocked.add(way)
    else if (this.#blocked.delete(way))
      for (const wire of this.wires)
        for (const end of [0, 1] as const)
          if (wire.ends[end].place === from && wire.ends[1 - end]?.place === to) this.#release(wire, end)
  }

  blocked(from: string, to: string): boolean {
    return this.#blocked.has(`${from}>${to}`)
  }

  blockedWays(): string[] {
    return [...this.#blocked]
  }

  #way(from: string, to: string): number {
    return this.delay(from, to) * (1 + this.#world.random.unit() * this.jitter) + 0.01
  }

  /** Connects at once or never: a SYN is sent again after 1, 3 and 7 s, then the dial has failed. */
  connect<T extends Data>(
    kind: Kind,
    from: Process,
    fromPlace: string,
    toPlace: string,
    request: unknown,
    handlers: Handlers<T>,
  ): Pipe<T> {
    const world = this.#world
    const make = (place: string, process: Process): End<T> => ({
      place,
      process,
      reader: undefined,
      open: true,
      flying: [],
      held: [],
      bytes: 0,
      waiting: [],
      lastAt: 0,
      severed: false,
    })
    const wire = new Wire<T>(kind, [make(fromPlace, from), make(toPlace, from)], request)
    const [near, far] = wire.ends
    near.reader = handlers
    const fail = (why: string, ms: number): void => {
      world.plan(from, ms, "net", `${kind} dial ${toPlace}: ${why}`, () => this.#tellClosed(wire, 0, 1006, why))
    }
    const attempt = (tries: number): void => {
      if (!near.open || from.state === "dead") return
      if (this.blocked(fromPlace, toPlace) || this.blocked(toPlace, fromPlace)) {
        if (tries >= 3) fail("unreachable", 0)
        else world.plan(from, 1000 * 2 ** tries, "net", "", () => attempt(tries + 1))
        return
      }
      const listener = this.#listeners.get(`${kind} ${toPlace}`)
      const there = this.#way(fromPlace, toPlace)
      if (listener === undefined || listener.process.state === "dead") {
        fail("refused", there + this.#way(toPlace, fromPlace))
        return
      }
      world.plan(listener.process, there, "net", `accept ${kind} from ${fromPlace}`, () => {
        if (!near.open || from.state === "dead") return
        far.process = listener.process
        wire.established = true
        const reader = listener.accept(this.#pipe(wire, 1), request, wire as unknown as Wire<never>)
        if (reader === undefined) {
          wire.established = false
          fail("refused", this.#way(toPlace, fromPlace))
          return
        }
        far.reader = reader
        this.wires.add(wire)
        const back = this.#way(toPlace, fromPlace)
        far.lastAt = Math.max(far.lastAt, world.time + back)
        world.plan(from, back, "net", `${kind} open to ${toPlace}`, () => {
          unanswered()
          if (near.open) handlers.open()
        })
      })
      // The accepting process may die with the SYN in its backlog: then nobody answers.
      const unanswered = world.plan(from, 15_000, "net", "", () => this.#tellClosed(wire, 0, 1006, "timeout"))
    }
    attempt(0)
    return this.#pipe(wire, 0)
  }

  #pipe<T extends Data>(wire: Wire<T>, end: 0 | 1): Pipe<T> {
    const self = wire.ends[end]
    return {
      send: (data, done) => {
        if (!self.open || self.process.state === "dead") {
          if (done !== undefined) this.#world.plan(self.process, 0, "net", "", done)
          return
        }
        const copy = (typeof data === "string" ? data : data.slice()) as T
        const watch = this.#watch[wire.kind] as unknown as WireWatch<T>
        watch.sent?.(wire, end, copy)
        const fate = watch.tamper?.(wire, end, copy) ?? "pass"
        self.bytes += copy.length
        self.held.push({ data: copy, fate })
        if (done !== undefined) self.waiting.push({ at: self.bytes, done })
        this.#release(wire, end)
        this.#drain(self)
      },
      buffered: () => (self.bytes > windowBytes ? self.bytes - windowBytes : 0),
      close: (code, reason) => this.#close(wire, end, code, reason),
    }
  }

  /** Lets `done` of what fits into the window run; a caller that is blocked waits for deliveries. */
  #drain<T extends Data>(self: End<T>): void {
    if (self.bytes > windowBytes) return
    for (const { done } of self.waiting.splice(0)) this.#world.plan(self.process, 0.01, "net", "", done)
  }

  #release<T extends Data>(wire: Wire<T>, end: 0 | 1): void {
    const self = wire.ends[end]
    const other = wire.ends[end === 0 ? 1 : 0]
    while (self.held.length > 0 && !this.blocked(self.place, other.place)) {
      const { data, fate } = self.held.shift() as { data: T; fate: Fate }
      if (fate === "drop" || self.severed) this.#landed(self, data)
      else this.#fly(wire, end, data, fate === "late" ? this.#world.random.between(200, lateMsMax) : 0)
      if (fate === "twice" && !self.severed) this.#fly(wire, end, data, this.#world.random.between(0, 5_000), true)
    }
  }

  #landed<T extends Data>(self: End<T>, data: T): void {
    self.bytes -= data.length
    this.#drain(self)
  }

  #fly<T extends Data>(wire: Wire<T>, end: 0 | 1, data: T, lateMs: number, again = false): void {
    const world = this.#world
    const self = wire.ends[end]
    const other = wire.ends[end === 0 ? 1 : 0]
    let at = world.time + this.#way(self.place, other.place)
    if (lateMs > 0) at += lateMs
    else if (!again) at = self.lastAt = Math.max(at, self.lastAt + 0.001)
    const watch = this.#watch[wire.kind] as unknown as WireWatch<T>
    const label: Label = () =>
      `◀ ${self.place}${again || lateMs > 0 ? " (again or late)" : ""} ${watch.describe?.(data) ?? `${data.length}`}`
    const flying: Flying<T> = {
      data,
      undo: world.plan(other.process, at - world.time, "net", label, () => {
        const i = self.flying.indexOf(flying)
        if (i >= 0) self.flying.splice(i, 1)
        if (!again) this.#landed(self, data)
        if (!other.open) return
        watch.got?.(wire, end, data)
        other.reader?.message(data)
      }),
    }
    self.flying.push(flying)
  }

  #close<T extends Data>(wire: Wire<T>, end: 0 | 1, code: number, reason: string): void {
    const self = wire.ends[end]
    if (!self.open) return
    self.open = false
    this.#settle(self)
    const watch = this.#watch[wire.kind] as unknown as WireWatch<T>
    watch.closed?.(wire, end)
    const world = this.#world
    // As a WebSocket: the closing end is told as well, and at the latest after a while.
    world.plan(self.process, 0.01, "net", "", () => self.reader?.closed(code, reason))
    const other = wire.ends[end === 0 ? 1 : 0]
    const tell = (): void => {
      if (self.severed || !wire.established) return
      if (this.blocked(self.place, other.place)) {
        world.plan(other.process, 3_000, "net", "", tell)
        return
      }
      const ms = Math.max(world.time + this.#way(self.place, other.place), self.lastAt + 0.001) - world.time
      world.plan(
        other.process,
        ms,
        "net",
        () => `${wire.kind} closed by ${self.place} ${code} ${reason}`,
        () => this.#tellClosed(wire, end === 0 ? 1 : 0, code, reason),
      )
    }
    tell()
    this.#forget(wire)
  }

  #settle<T extends Data>(self: End<T>): void {
    for (const { done } of self.waiting.splice(0)) this.#world.plan(self.process, 0.01, "net", "", done)
  }

  #tellClosed<T extends Data>(wire: Wire<T>, end: 0 | 1, code: number, reason: string): void {
    const self = wire.ends[end]
    if (!self.open) return
    self.open = false
    this.#settle(self)
    ;(this.#watch[wire.kind] as unknown as WireWatch<T>).closed?.(wire, end)
    self.reader?.closed(code, reason)
    this.#forget(wire)
  }

  #forget<T extends Data>(wire: Wire<T>): void {
    if (!wire.ends[0].open && !wire.ends[1].open) this.wires.delete(wire)
  }

  /** Cuts a wire: an unknown suffix of each direction is lost. `told`: whether each end learns of it soon, or by its own timeouts. */
  cut(wire: Wire<Data>, told: readonly [boolean, boolean]): void {
    const world = this.#world
    for (const end of [0, 1] as const) {
      const self = wire.ends[end]
      const keep = world.random.int(self.flying.length + 1)
      for (const lost of self.flying.splice(keep)) lost.undo()
      self.held.length = 0
      self.severed = true
      const other = end === 0 ? 1 : 0
      const ms = told[other]
        ? Math.max(0, self.lastAt - world.time) + world.random.between(0.001, 50)
        : world.random.between(60_000, 120_000)
      const process = wire.ends[other].process
      world.plan(
        process,
        ms,
        "net",
        () => `${wire.kind} wire from ${self.place} broke`,
        () => this.#tellClosed(wire, other, 1006, "cut"),
      )
    }
  }

  /** The kernel of a dead process closes its sockets, or the machine is gone and nobody says anything. */
  died(process: Process, silently: boolean): void {
    for (const wire of [...this.wires])
      for (const end of [0, 1] as const) {
        const self = wire.ends[end]
        if (self.process !== process) continue
        self.open = false
        self.severed = true
        const other = end === 0 ? 1 : 0
        const way = silently
          ? this.#world.random.between(60_000, 120_000)
          : Math.max(0, self.lastAt - this.#world.time) + this.#way(self.place, wire.ends[other].place)
        this.#world.plan(
          wire.ends[other].process,
          way,
          "net",
          () => `${wire.kind} reset by ${self.place}`,
          () => this.#tellClosed(wire, other, 1006, "reset"),
        )
      }
  }
}
