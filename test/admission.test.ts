// Admission and intake as a node has them, on an event loop in which only work makes time pass: what is refused at which load, after which stalls.

import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { Admission, type Asker } from "../packages/core/src/admission.ts"
import { defaultLimits } from "../packages/core/src/limits.ts"
import type { CoreEvent } from "../packages/core/src/ports.ts"
import { createIntake } from "../packages/server/src/intake.ts"

/** Ms of the loop for a call: to get its frame, to run it, to send its reply; for an attach, for a frame nobody waits for any more, to begin a write. */
const frameMs = 0.004
const runMs = 0.018
const replyMs = 0.006
const attachMs = 0.12
const dropMs = 0.006
const writeMs = 0.3
/** Beside the loop. */
const flushMs = 2
const callMs = frameMs + runMs + replyMs

const tight = { lateMsMax: 10, overloadMsMin: 20 }

function random(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32
}

interface Load {
  /** Calls made, in capacities of the loop, until then; 0.2 afterwards. */
  readonly times: number
  readonly untilMs?: number
  readonly seconds: number
  readonly clients?: number
  readonly bounds?: typeof tight
  /** When nothing happens, and for how long, ms. */
  readonly stalls?: readonly (readonly [number, number])[]
  /** Besides, 100 to 400 ms one after the other, of half to one and a half times this. */
  readonly stutterMs?: number
  /** How many calls a client has unanswered at most. */
  readonly window?: number
  /** Until then a call each 50 ms, and nothing else. */
  readonly quietMs?: number
  /** From then on a call takes so long, ms; as many capacities are asked as before. */
  readonly dear?: readonly [fromMs: number, runMs: number]
  readonly off?: boolean
  readonly seed?: number
}

interface Client extends Asker {
  readonly frames: number[]
  unanswered: number
  /** Until then it stays away, as it was told to. */
  backAt: number | undefined
  asks: boolean
}

interface Call {
  readonly client: Client
  readonly at: number
}

class Loop {
  readonly refusedAt: number[] = []
  readonly events: CoreEvent[] = []
  readonly served: { readonly at: number; readonly ms: number }[] = []
  now = 0
  readonly #load: Load
  readonly #chance: () => number
  readonly #admission: Admission
  readonly #intake: ReturnType<typeof createIntake>
  readonly #clients: readonly Client[]
  readonly #stalls: (readonly [number, number])[]
  #idleMs = 0
  #ends: (() => void)[] = []
  readonly #behind: (() => void)[] = []
  #arrival = 0
  #stutterAt: number
  #batch: Call[] = []
  #batchFrom = 0
  #writing: { readonly calls: readonly Call[]; readonly from: number; readonly until: number } | undefined

  constructor(load: Load) {
    this.#load = load
    this.#chance = random(load.seed ?? 1)
    const limits = { ...defaultLimits, ...load.bounds }
    const mono = (): number => this.now
    this.#intake = createIntake(limits.lateMsMax, {
      mono,
      idleMs: () => this.#idleMs,
      atEnd: (fn) => this.#ends.push(fn),
      behind: (fn) => this.#behind.push(fn),
    })
    this.#admission = new Admission({
      loop: load.off ? undefined : this.#intake.load,
      limits,
      clock: { now: () => 0, mono, after: () => () => undefined },
      chance: { random: this.#chance, id: () => "" },
      events: (event) => this.events.push(event),
    })
    this.#clients = Array.from({ length: load.clients ?? 64 }, () => ({
      period: -1,
      frames: [],
      unanswered: 0,
      backAt: undefined,
      asks: false,
    }))
    this.#stalls = [...(load.stalls ?? [])]
    this.#stutterAt = load.stutterMs ? 250 : Infinity
  }

  run(): this {
    while (this.now < this.#load.seconds * 1_000) this.#round()
    return this
  }

  /** Of the loop's capacity. */
  get share(): number {
    return (this.served.length * callMs) / (this.#load.seconds * 1_000)
  }

  /** Of the calls made from then on that were served. */
  p99(fromMs = 0): number {
    const all = this.served.filter(({ at }) => at >= fromMs).map(({ ms }) => ms)
    return all.sort((a, b) => a - b)[Math.floor(all.length * 0.99)] ?? NaN
  }

  #round(): void {
    this.#arrive()
    if (!this.#ready()) {
      const back = this.#clients.map(({ backAt, asks }) => (asks ? Infinity : (backAt ?? Infinity)))
      const next = Math.min(this.#arrival, this.#writing?.until ?? Infinity, ...back)
      this.#idleMs += next - this.now
      this.now = next
      this.#arrive()
    }
    const [stall] = this.#stalls
    if (stall && this.now >= stall[0]) {
      this.now += stall[1]
      this.#stalls.shift()
      this.#arrive()
    }
    if (this.now >= this.#stutterAt) {
      this.now += (this.#load.stutterMs ?? 0) * (0.5 + this.#chance())
      this.#stutterAt = this.now + 100 + 300 * this.#chance()
    }
    const first = Math.floor(this.#chance() * this.#clients.length)
    const toldAt = Math.floor(this.#chance() * this.#clients.length)
    for (const [i] of this.#clients.entries()) {
      if (i === toldAt) this.#tell()
      this.#hear(this.#clients[(first + i) % this.#clients.length] as Client)
    }
    const ends = this.#ends
    this.#ends = []
    for (const end of ends) {
      end()
      for (let next = this.#behind.shift(); next; next = this.#behind.shift()) next()
    }
    this.#write()
  }

  #ready(): boolean {
    if (this.#ends.length > 0 || (this.#writing?.until ?? Infinity) <= this.now) return true
    return this.#clients.some(
      ({ frames, backAt, asks }) => frames.length > 0 || (!asks && backAt !== undefined && backAt <= this.now),
    )
  }

  #arrive(): void {
    const { times, untilMs = Infinity, window = 200, quietMs = 0, dear = [Infinity, 0] } = this.#load
    while (this.#arrival <= this.now) {
      const client = this.#clients[Math.floor(this.#chance() * this.#clients.length)] as Client
      if (client.backAt === undefined && client.unanswered < window) {
        client.unanswered++
        client.frames.push(this.#arrival)
      }
      const mean = this.#arrival >= dear[0] ? dear[1] : callMs
      const every = this.#arrival < quietMs ? 50 : mean / (this.#arrival < untilMs ? times : 0.2)
      this.#arrival += -Math.log(1 - this.#chance()) * every
    }
  }

  #refused(client: Client): boolean {
    const error = this.#admission.refusal(client)
    if (!error) return false
    this.now += dropMs
    client.backAt = this.now + (error.retryAfterMs ?? NaN)
    this.refusedAt.push(this.now)
    return true
  }

  #hear(client: Client): void {
    if (client.backAt !== undefined && client.backAt <= this.now && !client.asks) {
      client.asks = true
      this.#intake.take(100, () => {
        client.asks = false
        if (this.#refused(client)) return
        this.now += attachMs
        client.backAt = undefined
      })
    }
    for (const at of client.frames.splice(0)) {
      this.now += frameMs
      this.#intake.take(100, () => {
        this.#call(client, at)
      })
    }
  }

  #call(client: Client, at: number): void {
    if (client.backAt !== undefined) this.now += dropMs
    else if (!this.#refused(client)) {
      const [dearMs, dearRunMs] = this.#load.dear ?? [Infinity, 0]
      this.now += at >= dearMs ? dearRunMs : runMs
      if (this.#batch.length === 0) this.#batchFrom = this.now
      this.#batch.push({ client, at })
      return
    }
    client.unanswered--
  }

  #write(): void {
    if (this.#writing || this.#batch.length === 0) return
    this.now += writeMs
    this.#writing = { calls: this.#batch, from: this.#batchFrom, until: this.now + flushMs }
    this.#batch = []
  }

  #tell(): void {
    if (!this.#writing || this.#writing.until > this.now) return
    const { calls, from } = this.#writing
    this.#writing = undefined
    this.#admission.wrote(this.now - from)
    for (const { client, at } of calls) {
      this.now += replyMs
      client.unanswered--
      this.served.push({ at, ms: this.now - at })
    }
    this.#write()
  }
}

function loop(load: Load): Loop {
  return new Loop(load).run()
}

describe("an event loop under calls", () => {
  test("refuses nobody without admission, and calls wait ever longer", () => {
    const { refusedAt, served } = loop({ times: 2, seconds: 3, window: Infinity, off: true })
    assert.equal(refusedAt.length, 0)
    assert.ok(Math.max(...served.slice(-100).map(({ ms }) => ms)) > 1_000)
  })

  test("C54 at twice and at four times the capacity serves soon what it serves, and nearly all that it can", () => {
    for (const times of [2, 4]) {
      const strict = loop({ times, seconds: 4, bounds: tight })
      assert.ok(strict.refusedAt.length > 0)
      assert.ok(strict.p99() < 15 * times, `${times}: p99 ${strict.p99()} ms`)
      assert.ok(strict.share > 0.75, `${times}: ${strict.share} of the capacity`)
      const usual = loop({ times, seconds: 5 })
      assert.ok(usual.refusedAt.length > 0)
      assert.ok(usual.p99(1_500) < 300, `${times}: p99 ${usual.p99(1_500)} ms`)
      assert.ok(usual.share > 0.85, `${times}: ${usual.share} of the capacity`)
    }
  })

  test("refuses nobody below its capacity, however the calls fall", () => {
    for (const bounds of [tight, undefined])
      for (const times of [0.2, 0.5, 0.8])
        assert.equal(loop({ times, seconds: 3, ...(bounds && { bounds }) }).refusedAt.length, 0, String(times))
  })

  test("refuses nobody for a stall of which what is asked lets it recover by itself", () => {
    const refused = (times: number, stallMs: number, bounds?: typeof tight): number => {
      const seconds = 1 + (stallMs / 1_000) * (1 + 1 / (1 - times))
      const load = { times, seconds, stalls: [[500, stallMs]], window: Infinity } as const
      return loop(bounds ? { ...load, bounds } : load).refusedAt.length
    }
    for (const times of [0.5, 0.7, 0.85]) assert.equal(refused(times, 60, tight), 0, `60 ms at ${times}`)
    for (const times of [0.5, 0.7]) assert.equal(refused(times, 200, tight), 0, `200 ms at ${times}`)
    for (const times of [0.5, 0.7]) assert.equal(refused(times, 1_100), 0, `1.1 s at ${times}`)
  })

  test("refuses nobody for stalls of 10 to 30 ms that come again and again", () => {
    for (const seed of [1, 2, 3])
      assert.equal(loop({ times: 0.5, seconds: 4, bounds: tight, stutterMs: 20, seed }).refusedAt.length, 0)
  })

  test("that has had little to do takes what passed in between for nobody's cost, and sees soon that it is asked too much", () => {
    const quiet = { quietMs: 20_000, seconds: 23, bounds: tight } as const
    for (const seed of [1, 2, 3]) {
      assert.equal(loop({ ...quiet, times: 0.7, stalls: [[20_500, 60]], seed }).refusedAt.length, 0, "a stall")
      assert.equal(loop({ ...quiet, times: 0.5, stutterMs: 20, seed }).refusedAt.length, 0, "stalls again and again")
    }
    const much = loop({ ...quiet, times: 2 })
    assert.ok((much.refusedAt[0] as number) < 20_300, `first refused at ${much.refusedAt[0]} ms`)
    assert.ok(much.p99(20_100) < 50, `p99 ${much.p99(20_100)} ms`)
  })

  test("sees soon that calls have come to take two thousand times as long", () => {
    const dear = loop({ times: 2, dear: [2_000, 50], seconds: 20 })
    assert.ok(dear.p99(6_000) < 1_000, `p99 ${dear.p99(6_000)} ms`)
  })

  test("refuses soon after a stall at twice its capacity, and serves soon what comes after that", () => {
    for (const stallMs of [200, 1_100]) {
      const p99s = [1, 2, 3, 4, 5].map((seed) => {
        const after = loop({ times: 2, seconds: 4, bounds: tight, stalls: [[20, stallMs]], seed })
        const [first] = after.refusedAt as [number]
        assert.ok(first < 20 + stallMs + 500, `${stallMs}: first refused at ${first} ms`)
        return after.p99(stallMs + 700)
      })
      const median = p99s.sort((x, y) => x - y)[2] as number
      assert.ok(median < 150, `${stallMs}: p99 ${p99s.join(", ")} ms`)
    }
  })

  test("takes back who was refused once the load has fallen, and refuses nobody any more", () => {
    const { refusedAt } = loop({ times: 2, untilMs: 3_000, seconds: 5, bounds: tight })
    const last = refusedAt.at(-1) as number
    assert.ok(last > 2_500 && last < 3_500, `${last} ms`)
  })

  test("says OVERLOADED with a random pause within its limits, and tells of it once a second", () => {
    const { events, refusedAt } = loop({ times: 2, seconds: 5, bounds: tight })
    assert.ok(events.length >= 3 && events.length <= 5, `${events.length} events`)
    const pauses = events.map(({ error }) => error as { code: string; retryAfterMs: number; outcome: string })
    for (const { code, retryAfterMs, outcome } of pauses) {
      assert.deepEqual([code, outcome], ["OVERLOADED", "not-executed"])
      assert.ok(retryAfterMs >= defaultLimits.overloadRetryMs && retryAfterMs <= defaultLimits.overloadRetryMsMax)
    }
    assert.ok(new Set(pauses.map(({ retryAfterMs }) => retryAfterMs)).size > 1)
    assert.ok((events.at(-1)?.["refused"] as number) <= refusedAt.length)
  })
})
