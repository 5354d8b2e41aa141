import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { Admission, type Asker } from "./admission.ts"
import { defaultLimits } from "./limits.ts"

describe("admission", () => {
  /** Rounds of 10 ms, at the end of which somebody asks; a draw refuses. */
  function rounds(): {
    readonly round: (lateMs: number, demand?: number) => string
    readonly at: () => number
  } {
    let now = 0
    let count = 0
    let late = 0
    let asked = 2
    const admission = new Admission({
      loop: { lateMs: () => late, demand: () => asked, rounds: () => count, busyMs: () => now },
      limits: { ...defaultLimits, lateMsMax: 10, overloadMsMin: 40, overloadHoldMs: 200 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => 0.999, id: () => "" },
      events: () => undefined,
    })
    return {
      at: () => now,
      round: (lateMs, demand = 2) => {
        now += 10
        count++
        late = lateMs
        asked = demand
        return admission.refusal({ period: -1 })?.code ?? ""
      },
    }
  }

  test("C54 being late refuses once it has stood, and after a refusal sooner; one round in time begins anew", () => {
    const { round } = rounds()
    const told = [1, 30, 30, 30, 30, 30, 1, 30, 30].map((lateMs) => round(lateMs))
    const no = ["", "", "", ""]
    assert.deepEqual(told, [...no, "", "OVERLOADED", "", "", "OVERLOADED"])
  })

  test("where so little is asked that the node will be in time again soon by itself nobody is refused", () => {
    const { round, at } = rounds()
    while (at() < 200) round(100, 0.5)
    // 90 ms of it at half its capacity take 180 ms, at 0.6 of it 225: more than the 200 of `overloadHoldMs`.
    assert.equal(round(100, 0.5), "")
    assert.equal(round(100, 0.6), "OVERLOADED")
    // For a while after a refusal within the 40 of `overloadMsMin`.
    assert.equal(round(30, 0.6), "OVERLOADED")
    assert.equal(round(30, 0.5), "")
    while (at() < 500) round(30, 0.5)
    assert.equal(round(30, 0.6), "")
    assert.equal(round(30, 0.95), "OVERLOADED")
  })

  test("without a loop nobody is refused", () => {
    const admission = new Admission({
      loop: undefined,
      limits: defaultLimits,
      clock: { now: () => 0, mono: () => 1e6, after: () => () => undefined },
      chance: { random: () => 0.999, id: () => "" },
      events: () => undefined,
    })
    assert.equal(admission.refusal({ period: -1 }), undefined)
  })

  /** Rounds of 10 ms, each with a write before it that had made a turn wait; a draw refuses from there on. */
  function writing({ busy = true, drawn = 0.999 } = {}): {
    readonly round: (waitedMs?: number, asker?: Asker) => string | undefined
    readonly at: () => number
  } {
    let now = 0
    let count = 0
    const admission = new Admission({
      loop: { lateMs: () => 1, demand: () => 1, rounds: () => count, busyMs: () => (busy ? now : 0) },
      limits: { ...defaultLimits, lateMsMax: 50, overloadMsMin: 100 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => drawn, id: () => "" },
      events: () => undefined,
    })
    return {
      at: () => now,
      round: (waitedMs, asker = { period: -1 }) => {
        now += 10
        count++
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
    let count = 0
    const admission = new Admission({
      loop: { lateMs: () => 80, demand: () => 1, rounds: () => count, busyMs: () => now },
      limits: { ...defaultLimits, lateMsMax: 50, overloadMsMin: 100 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => drawn, id: () => "" },
      events: () => undefined,
    })
    const asker: Asker = { period: -1 }
    const round = (who: Asker): string | undefined => {
      now += 10
      count++
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

  test("who was let in is asked again after overloadHoldMs, however late the node was then", () => {
    let drawn = 0.999
    let now = 0
    let count = 0
    const admission = new Admission({
      loop: { lateMs: () => 60_000, demand: () => 2, rounds: () => count, busyMs: () => now },
      limits: { ...defaultLimits, overloadHoldMs: 2_000 },
      clock: { now: () => 0, mono: () => now, after: () => () => undefined },
      chance: { random: () => drawn, id: () => "" },
      events: () => undefined,
    })
    const asker: Asker = { period: -1 }
    const after = (ms: number): string | undefined => {
      now += ms
      count++
      return admission.refusal(asker)?.code
    }
    assert.equal(after(5_000), undefined, "it has not stood yet")
    drawn = 0
    assert.equal(after(1_000), undefined)
    drawn = 0.999
    assert.equal(after(1_999), undefined)
    assert.equal(after(1), "OVERLOADED")
  })
})
