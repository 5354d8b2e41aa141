// The matrix that the behaviours run over, and one world of it: real POPs in this process, on loopback sockets, with a seam around each
// store, a tap in the mesh and a proxy before each POP. What a crash leaves of a POP is its disk: a memory disk or an LMDB folder.
import { createClient, type Client, type ClientOptions } from "@sojourn/client"
import {
  memory,
  memoryDisk,
  type CoreEvent,
  type Limits,
  type MemoryDisk,
  type OwnershipRecord,
  type StoreOpener,
} from "@sojourn/core"
import type { AttachBody, CallBody, ServerFrame } from "@sojourn/protocol"
import { createPop, type Pop, type PopOptions } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import {
  connectRaw,
  createMeshTap,
  createProxy,
  watchStore,
  type MeshTap,
  type Proxy,
  type RawClient,
  type WatchedStore,
} from "@sojourn/testkit"
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test } from "node:test"
import { makeApp, newProbe, type App, type Probe } from "./app.ts"
import { quickClient, quickLimits } from "./limits.ts"

export type StoreKind = "memory" | "lmdb"
const storeKinds: readonly StoreKind[] = ["memory", "lmdb"]
const popNames = ["bos", "fra", "nrt", "sin", "gru", "jnb"]

export interface WorldOptions {
  readonly store: StoreKind
  readonly pops: number
  readonly limits?: Partial<Limits>
  readonly authenticate?: PopOptions<App["actors"]>["authenticate"]
  /** Of each POP, in order; the last one given is the rest's. Default: all in `eu`. */
  readonly regions?: readonly string[]
}

/** Rejects with what was waited for. The product's own bounds are far below. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves when `what` holds, looked at between any two turns of the event loop: for what nobody announces. */
export function until(what: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (what()) resolve()
      else setImmediate(look)
    }
    look()
  })
}

/** Events of one POP over all its incarnations. */
export class EventLog {
  readonly all: CoreEvent[] = []
  readonly #waiting = new Set<() => void>()

  add(event: CoreEvent): void {
    this.all.push(event)
    for (const look of [...this.#waiting]) look()
  }

  of(type: string, actor?: string): CoreEvent[] {
    return this.all.filter((event) => event.type === type && (actor === undefined || event.actor === actor))
  }

  /** The `count`th such event since the start. */
  until(type: string, actor?: string, count = 1): Promise<CoreEvent> {
    const found = new Promise<CoreEvent>((resolve) => {
      const look = (): void => {
        const event = this.of(type, actor)[count - 1]
        if (!event) return
        this.#waiting.delete(look)
        resolve(event)
      }
      this.#waiting.add(look)
      look()
    })
    return within(10_000, `event ${type} of ${actor ?? "anything"} ×${count}`, found)
  }
}

/** Holds back the flush of a store: what was written is not durable, and nobody has been told. */
export interface FlushHold {
  readonly reached: Promise<unknown>
  release(): void
  fail(error: Error): void
}

/** A place for a POP: its disk, its addresses, and the POP that runs there now. */
export class Seat {
  readonly id: string
  readonly region: string
  /** What it runs from its next start on, if not the world's. */
  code: App | undefined
  readonly events = new EventLog()
  readonly proxy: Proxy
  readonly #world: World
  /** Of the memory store: everything that it keeps. */
  readonly disk: MemoryDisk
  readonly #folder: string
  #flushHolds: { reached: () => void; verdict: Promise<void> }[] = []
  #pop: Pop<App["actors"]> | undefined
  #store: WatchedStore | undefined

  constructor(id: string, region: string, proxy: Proxy, world: World) {
    this.id = id
    this.region = region
    this.proxy = proxy
    this.#world = world
    this.disk = memoryDisk(`disk of ${id}`)
    this.#folder = join(world.folder, id)
  }

  get pop(): Pop<App["actors"]> {
    if (!this.#pop) throw new Error(`POP ${this.id} is down`)
    return this.#pop
  }

  get store(): WatchedStore {
    if (!this.#store) throw new Error(`POP ${this.id} was never started`)
    return this.#store
  }

  get up(): boolean {
    return this.#pop !== undefined
  }

  /** For clients. The same over crashes. */
  get url(): string {
    return `ws://127.0.0.1:${this.proxy.port}`
  }

  async start(): Promise<void> {
    const { options, seats, tap, app } = this.#world
    const inner = this.#opener()
    const storage: StoreOpener = {
      kind: inner.kind,
      open: async () => (this.#store = watchStore(await inner.open())),
    }
    const peers = seats.map(({ id, region }) => ({ id, region, url: tap.url(this.id, id) }))
    const pop = await createPop<App["actors"]>({
      app: this.code ?? app,
      id: this.id,
      region: this.region,
      storage,
      authenticate: options.authenticate ?? ((_, token) => (token === undefined ? null : { id: token })),
      dev: true,
      limits: { ...quickLimits, ...options.limits },
      logLevel: "silent",
      onEvent: (event) => this.events.add(event),
      ...(seats.length === 1
        ? {}
        : { mesh: { secret: meshSecret, peers, homes: seats.map(({ id }) => id), alone: false } }),
    })
    const { port } = await pop.listen(0)
    this.#pop = pop
    this.proxy.setTarget({ host: "127.0.0.1", port })
    tap.place(this.id, port)
  }

  #opener(): StoreOpener {
    if (this.#world.options.store === "memory") return memory({ disk: this.disk, pop: this.id })
    return lmdb(this.#folder, {
      flushGate: async (flush) => {
        const hold = this.#flushHolds[0]
        if (hold) {
          hold.reached()
          await hold.verdict
        }
        await flush()
      },
    })
  }

  /**
   * The flush itself where the store has one (LMDB: nothing of the batch is in the file), else the answers of everything that writes or
   * reads: what was done is told to nobody.
   */
  holdFlush(): FlushHold {
    if (this.#world.options.store === "memory") {
      const hold = this.store.hold({ op: ["claim", "commit", "pull", "install", "check"], at: "after", every: true })
      return { reached: hold.reached, release: () => hold.pass(), fail: (error) => hold.fail(error) }
    }
    const reached = Promise.withResolvers<void>()
    const verdict = Promise.withResolvers<void>()
    verdict.promise.catch(() => undefined)
    const hold = { reached: reached.resolve, verdict: verdict.promise }
    this.#flushHolds.push(hold)
    const over = (): void => {
      this.#flushHolds = this.#flushHolds.filter((one) => one !== hold)
    }
    return {
      reached: reached.promise,
      release() {
        over()
        verdict.resolve()
      },
      fail(error) {
        over()
        verdict.reject(error)
      },
    }
  }

  /** From one moment to the next nothing of this POP reaches disk or network. Resolves when its disk is free for the next one. */
  async crash(): Promise<void> {
    const pop = this.#pop
    if (!pop) return
    this.#pop = undefined
    this.proxy.setTarget(undefined)
    this.proxy.cut()
    this.#world.tap.place(this.id, undefined)
    this.store.die()
    // Real sockets and timers of what died in this process are ended; it is deaf and mute already.
    await within(10_000, `the remains of POP ${this.id} end`, pop.close({ drainMs: 0 }))
  }

  async close(): Promise<void> {
    const pop = this.#pop
    this.#pop = undefined
    await pop?.close()
  }

  /** Every byte that this POP has stored: its folder's files, or what a memory disk holds. */
  bytes(): Buffer {
    if (this.#world.options.store === "lmdb")
      return Buffer.concat(
        readdirSync(this.#folder, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => readFileSync(join(entry.parentPath, entry.name))),
      )
    return Buffer.concat(
      [...this.disk.actors].flatMap(([actor, { record, snapshot, entries }]) => [
        Buffer.from(`${actor} ${JSON.stringify(record)}`),
        ...(snapshot ? [snapshot] : []),
        ...entries,
      ]),
    )
  }

  record(actor: string): Promise<OwnershipRecord | undefined> {
    return this.store.inner.peek(actor)
  }
}

export const meshSecret = "the secret of the mesh of the behaviours"

export class World implements AsyncDisposable {
  readonly options: WorldOptions
  readonly probe: Probe = newProbe()
  readonly app: App
  readonly folder = mkdtempSync(join(tmpdir(), "sojourn-behaviours-"))
  readonly tap: MeshTap
  readonly seats: Seat[] = []
  readonly #clients: Client<App>[] = []
  readonly #raws: RawClient[] = []
  #keys = 0

  constructor(options: WorldOptions, tap: MeshTap) {
    this.options = options
    this.tap = tap
    this.app = makeApp(this.probe)
  }

  /** Where this world's clients connect unless a test says otherwise. */
  get here(): Seat {
    return this.seat("bos")
  }

  /** Where actors of `key()` come into being: another POP, where there is one, so that their first use is a hand-off. */
  get home(): Seat {
    return this.seats.at(-1) as Seat
  }

  key(name = "k"): string {
    return `${name}${++this.#keys}~${this.home.id}`
  }

  seat(id: string): Seat {
    const seat = this.seats.find((one) => one.id === id)
    if (!seat) throw new Error(`no POP ${id} in this world`)
    return seat
  }

  /** Starts POPs that are down; resolves when they serve. */
  async start(...ids: string[]): Promise<void> {
    const down = ids.map((id) => this.seat(id)).filter(({ up }) => !up)
    await Promise.all(down.map((seat) => seat.start()))
    await within(10_000, `POPs ${ids.join(", ")} serve`, Promise.all(down.map(({ pop }) => pop.ready())))
  }

  client(who: string, at: Seat = this.here, options: Partial<ClientOptions> = {}): Client<App> {
    const { limits, ...rest } = options
    const client = createClient<App>({ url: at.url, token: who, limits: { ...quickClient, ...limits }, ...rest })
    this.#clients.push(client)
    return client
  }

  /** Goes as travellers go: the line to where the client is breaks, and it connects at `to`, with whatever it has not been told. */
  async travel(client: Client<App>, to: Seat): Promise<void> {
    const off = new Promise<void>((resolve) => {
      const undo = client.on("status", ({ to: status }) => {
        if (status !== "reconnecting") return
        undo()
        client.switchTo(to.url)
        resolve()
      })
    })
    this.seat(client.pop ?? "").proxy.cut()
    await within(5_000, "the client notices", off)
  }

  /** Open, and nothing sent. */
  async raw(at: Seat = this.here, options: { ticket?: string; at?: string } = {}): Promise<RawClient> {
    const raw = await within(5_000, `a socket to ${at.id} opens`, connectRaw({ url: at.url, ...options }))
    this.#raws.push(raw)
    return raw
  }

  /** Open and welcomed as `who`. */
  async session(who: string, at: Seat = this.here, options: { ticket?: string; at?: string } = {}): Promise<Session> {
    const raw = await this.raw(at, options)
    raw.send({ t: "hello", client: "raw", token: who })
    const welcome = await within(5_000, `${at.id} welcomes ${who}`, raw.find("welcome"))
    return new Session(raw, welcome.sessions[0] as string)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const raw of this.#raws) raw.cut()
    await Promise.all(this.#clients.map((client) => client.close()))
    await Promise.all(this.seats.map((seat) => seat.close()))
    await this.tap[Symbol.asyncDispose]()
    await Promise.all(this.seats.map(({ proxy }) => proxy.close()))
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** A raw client with one session of one actor, on channel 1. */
export class Session {
  readonly raw: RawClient
  readonly sid: string

  constructor(raw: RawClient, sid: string) {
    this.raw = raw
    this.sid = sid
  }

  sendAttach(actor: readonly [string, string], more: Partial<AttachBody> = {}): void {
    this.raw.send({ t: "attach", ch: 1, actor, sid: this.sid, acked: 0, live: false, ...more })
  }

  async attach(
    actor: readonly [string, string],
    more: Partial<AttachBody> = {},
  ): Promise<Extract<ServerFrame, { t: "attached" }>> {
    this.sendAttach(actor, more)
    return within(10_000, `${actor.join("/")} is attached`, this.raw.find("attached"))
  }

  call(c: number, a: string, ...args: unknown[]): void {
    this.raw.send({ t: "call", ch: 1, ...callBody(c, a, ...args) })
  }

  query(q: number, n: string, after = 0): void {
    this.raw.send({ t: "query", ch: 1, q, after, n, p: { v: [] } })
  }

  reply(c: number): Promise<Extract<ServerFrame, { t: "reply" }>> {
    return within(
      10_000,
      `reply ${c}`,
      this.raw.find("reply", (frame) => frame.c === c),
    )
  }

  /** The `n`th frame of this type to come on this socket. */
  nth<T extends ServerFrame["t"]>(t: T, n: number): Promise<Extract<ServerFrame, { t: T }>> {
    let seen = 0
    return within(
      10_000,
      `${t} number ${n}`,
      this.raw.find(t, () => ++seen === n),
    )
  }

  detached(): Promise<Extract<ServerFrame, { t: "detached" }>> {
    return within(10_000, "the attach ends", this.raw.find("detached"))
  }
}

export function callBody(c: number, a: string, ...args: unknown[]): CallBody {
  return { c, a, p: { v: args } }
}

export async function createWorld(options: WorldOptions): Promise<World> {
  const world = new World(options, await createMeshTap())
  const { regions = ["eu"] } = options
  for (const [i, id] of popNames.slice(0, options.pops).entries())
    world.seats.push(new Seat(id, regions[i] ?? (regions.at(-1) as string), await createProxy({ rttMs: 0 }), world))
  await world.start(...world.seats.map(({ id }) => id))
  return world
}

/** How long one behaviour may take on a busy machine before it has failed by name. */
const testMsMax = 60_000

export interface Matrix {
  /** Default: 1 and 3. */
  readonly pops?: readonly number[]
  readonly stores?: readonly StoreKind[]
  readonly limits?: Partial<Limits>
  readonly authenticate?: WorldOptions["authenticate"]
  /** Where one behaviour is many. Default: `testMsMax`. */
  readonly msMax?: number
  /** Its worlds at the same time: for one that mostly waits. */
  readonly together?: boolean
  readonly regions?: readonly string[]
}

/** Runs this behaviour in a fresh world of each kind. */
export function behaviour(name: string, matrix: Matrix, run: (world: World) => Promise<void>): void {
  const { pops = [1, 3], stores = storeKinds, msMax = testMsMax, together = false, ...rest } = matrix
  describe(name, { concurrency: together }, () => {
    for (const store of stores)
      for (const count of pops)
        test(`${name} (${store}, ${count} POP${count === 1 ? "" : "s"})`, { timeout: msMax }, async () => {
          await using world = await createWorld({ store, pops: count, ...rest })
          await run(world)
        })
  })
}
