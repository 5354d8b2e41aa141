import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { Admission, type Asker } from "./admission.ts"
import { defaultLimits } from "./limits.ts"
import type { CoreEvent } from "./ports.ts"

/** Ms that a call, an attach and a frame that nobody waits for any more take, and that a write takes beside the loop. */
const callMs = 0.09
const attachMs = 0.25
const dropMs = 0.015
const flushMs = 1.5

function random(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32
}

interface Load {
  /** Calls made, in capacities of the loop. */
  readonly times: number
  readonly seconds: number
  readonly clients?: number
  readonly pauses?: { readonly eachMs: number; readonly ms: number }
  readonly off?: boolean
}

interface Result {
  /** Of the loop's capacity. */
  readonly served: number
  /** Of the calls served after the first second. */
  readonly p99: number
  readonly refused: number
  /** When a client was last refused, ms. */
  readonly lastRefusedAt: number
  readonly events: readonly CoreEvent[]
}

/**
 * An event loop under calls that come whatever becomes of them, in time that only its work makes pass. Each round takes everything that had come
 * when it began, one client after another; who was refused is away as it was told to be.
 */
function simulate({ times, seconds, clients = 64, pauses, off }: Load, calmFromMs = Infinity): Result {
  const chance = random(7)
  let now = 0
  let began = 0
  let rounds = 0
  let restedAt = 0
  const events: CoreEvent[] = []
  const admission = new Admission({
    loop: off ? undefined : { roundMs: () => now - began, rounds: () => rounds, busyMs: () => now - restedAt },
    limits: { ...defaultLimits, lateMsMax: 3, overloadMsMin: 100 },
    clock: { now: () => 0, mono: () => now, after: () => () => undefined },
    chance: { random: chance, id: () => "" },
    events: (event) => events.push(event),
  })
  const askers: Asker[] = Array.from({ length: clients }, () => ({ period: -1 }))
  /** Undefined: attached. */
  const backAt: (number | undefined)[] = Array.from({ length: clients }, () => undefined)
  const frames: number[][] = Array.from({ length: clients }, () => [])
  const took: { readonly at: number; readonly ms: number }[] = []
  let lastRefusedAt = 0
  let nextPause = pauses?.eachMs ?? Infinity
  const gap = (): number => -Math.log(1 - chance()) * (callMs / (now >= calmFromMs ? 0.2 : times))
  let arrival = gap()
  while (now < seconds * 1_000) {
    if (frames.every((sent) => sent.length === 0) && !backAt.some((at) => at !== undefined && at <= now)) {
      const next = Math.min(arrival, ...backAt.map((at) => at ?? Infinity))
      if (next > now) restedAt = now = next
    }
    for (; arrival <= now; arrival += gap()) {
      const client = Math.floor(chance() * clients)
      if (backAt[client] === undefined) frames[client]?.push(arrival)
    }
    began = now
    rounds++
    if (now >= nextPause) {
      now += pauses?.ms ?? 0
      nextPause += pauses?.eachMs ?? 0
    }
    const done: number[] = []
    const refused = (client: number, error: { readonly retryAfterMs: number | undefined }): void => {
      lastRefusedAt = now
      backAt[client] = now + (error.retryAfterMs ?? NaN)
    }
    const first = Math.floor(chance() * clients)
    for (let i = 0; i < clients; i++) {
      const client = (first + i) % clients
      const asker = askers[client] as Asker
      const back = backAt[client]
      if (back !== undefined && back <= began) {
        const error = admission.refusal(asker)
        now += error ? dropMs : attachMs
        if (error) refused(client, error)
        else backAt[client] = undefined
        continue
      }
      for (const at of (frames[client] ?? []).splice(0)) {
        const error = backAt[client] === undefined ? admission.refusal(asker) : undefined
        if (error) refused(client, error)
        if (backAt[client] !== undefined) now += dropMs
        else {
          now += callMs
          done.push(at)
        }
      }
    }
    for (const at of done) took.push({ at, ms: now + flushMs - at })
  }
  const late = took
    .filter(({ at }) => at > 1_000)
    .map(({ ms }) => ms)
    .sort((a, b) => a - b)
  return {
    served: (took.length * callMs) / (seconds * 1_000),
    p99: late[Math.floor(late.length * 0.99)] ?? NaN,
    refused: admission.refused,
    lastRefusedAt,
    events,
  }
}

describe("admission", () => {
  test("without a loop that tells its load nobody is refused, and calls wait ever longer", () => {
    const { refused, p99 } = simulate({ times: 2, seconds: 3, off: true })
    assert.equal(refused, 0)
    assert.ok(p99 > 500, `${p99} ms`)
  })

  test("C54 at twice and at four times the capacity what is served is served soon, and is nearly all that can be", () => {
    for (const times of [2, 4]) {
      const { refused, p99, served } = simulate({ times, seconds: 6 })
      assert.ok(refused > 0)
      assert.ok(p99 < 20, `${times}: p99 ${p99} ms`)
      assert.ok(served > 0.85, `${times}: ${served} of the capacity`)
    }
  })

  test("nobody is refused below capacity, however the calls fall", () => {
    for (const times of [0.2, 0.5, 0.8, 0.9]) assert.equal(simulate({ times, seconds: 5 }).refused, 0, String(times))
  })

  test("a pause of 50 ms cuts nobody off, and the backlog after it neither", () => {
    for (const times of [0.2, 0.5, 0.7])
      assert.equal(simulate({ times, seconds: 7, pauses: { eachMs: 2_000, ms: 50 } }).refused, 0, String(times))
  })

  test("who was refused comes back once the load has fallen, and nobody is refused any more", () => {
    const { lastRefusedAt } = simulate({ times: 2, seconds: 7 }, 4_000)
    assert.ok(lastRefusedAt > 3_500)
    assert.ok(lastRefusedAt < 5_500, `${lastRefusedAt} ms`)
  })

  test("a refusal is OVERLOADED with a random pause within its limits, and told of once a second", () => {
    const { events, refused } = simulate({ times: 2, seconds: 6 })
    assert.ok(events.length >= 3 && events.length <= 6, `${events.length} events`)
    const pauses = events.map(({ error }) => error as { code: string; retryAfterMs: number; outcome: string })
    for (const { code, retryAfterMs, outcome } of pauses) {
      assert.deepEqual([code, outcome], ["OVERLOADED", "not-executed"])
      assert.ok(retryAfterMs >= defaultLimits.overloadRetryMs && retryAfterMs <= defaultLimits.overloadRetryMsMax)
    }
    assert.ok(new Set(pauses.map(({ retryAfterMs }) => retryAfterMs)).size > 1)
    assert.ok((events.at(-1)?.["refused"] as number) <= refused)
  })

  test("neither one late round nor two refuse, nor a third after one that was shorter; a third that follows on them does", () => {
    let at = 0
    let rounds = 0
    const admission = new Admission({
      loop: { roundMs: () => at % 1_000, rounds: () => rounds, busyMs: () => at },
      limits: { ...defaultLimits, lateMsMax: 3, overloadMsMin: 100 },
      clock: { now: () => 0, mono: () => at, after: () => () => undefined },
      chance: { random: () => 0.999, id: () => "" },
      events: () => undefined,
    })
    const round = (lateMs: number): string | undefined => {
      at = ++rounds * 1_000 + lateMs
      return admission.refusal({ period: -1 })?.code
    }
    const told = [1, 90, 80, 70, 70, 80, 90, 1, 90].map((lateMs) => round(lateMs) ?? "")
    assert.deepEqual(told, ["", "", "", "", "", "OVERLOADED", "OVERLOADED", "", ""])
  })

  /** Rounds of 10 ms, each with a write before it that had made a turn wait; a draw refuses from there on. */
  function writing({ busy = true, drawn = 0.999 } = {}): {
    readonly round: (waitedMs?: number, asker?: Asker) => string | undefined
    readonly at: () => number
  } {
    let now = 0
    let rounds = 0
    const admission = new Admission({
      loop: { roundMs: () => 1, rounds: () => rounds, busyMs: () => (busy ? now : 0) },
      limits: { ...defaultLimits, lateMsMax: 50, overloadMsMin: 100 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => drawn, id: () => "" },
      events: () => undefined,
    })
    return {
      at: () => now,
      round: (waitedMs, asker = { period: -1 }) => {
        now += 10
        rounds++
        if (waitedMs !== undefined) admission.wrote(waitedMs)
        return admission.refusal(asker)?.code
      },
    }
  }

  test("C54 turns that wait for their write refuse as frames that are read late do, and only while the loop has no rest", () => {
    const late = writing()
    while (late.at() < 100) assert.equal(late.round(80), undefined)
    assert.equal(late.round(80), "OVERLOADED")
    const inTime = writing()
    while (inTime.at() < 1_000) assert.equal(inTime.round(40), undefined)
    // A slow disk, with nothing else to do.
    const resting = writing({ busy: false })
    while (resting.at() < 1_000) assert.equal(resting.round(80), undefined)
  })

  test("what a write had waited tells of no longer than that", () => {
    const { round, at } = writing()
    while (at() < 200) round(80)
    for (let i = 0; i < 8; i++) assert.equal(round(), "OVERLOADED", `${10 * (i + 1)} ms later`)
    for (let i = 0; i < 50; i++) assert.equal(round(), undefined)
  })

  test("who was let in is not asked again until what was late then is done with", () => {
    let drawn = 0.999
    let now = 0
    let rounds = 0
    const admission = new Admission({
      loop: { roundMs: () => 80, rounds: () => rounds, busyMs: () => now },
      limits: { ...defaultLimits, lateMsMax: 50, overloadMsMin: 100 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => drawn, id: () => "" },
      events: () => undefined,
    })
    const asker: Asker = { period: -1 }
    const round = (who: Asker): string | undefined => {
      now += 10
      rounds++
      return admission.refusal(who)?.code
    }
    while (round({ period: -1 }) === undefined) assert.ok(now < 1_000)
    drawn = 0
    assert.equal(round(asker), undefined)
    drawn = 0.999
    for (let i = 0; i < 6; i++) {
      assert.equal(round(asker), undefined)
      assert.equal(round({ period: -1 }), "OVERLOADED", "others are")
      now -= 10
    }
    now += 80
    assert.equal(round(asker), "OVERLOADED")
  })
})
