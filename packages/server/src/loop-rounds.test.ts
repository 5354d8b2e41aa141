import assert from "node:assert/strict"
import { setImmediate, setTimeout } from "node:timers/promises"
import { test } from "node:test"
import { createLoopRounds, type LoopParts } from "./loop-rounds.ts"

function setUp(): {
  load: ReturnType<typeof createLoopRounds>
  pass: (ms: number) => void
  rest: (ms: number) => void
  end: () => void
} {
  let now = 1_000
  let idle = 400
  let ends: (() => void)[] = []
  const parts: LoopParts = {
    mono: () => now,
    idleMs: () => idle,
    atEnd: (fn) => ends.push(fn),
    behind: (fn) => ends.push(fn),
  }
  return {
    load: createLoopRounds(parts),
    pass: (ms) => (now += ms),
    rest: (ms) => {
      now += ms
      idle += ms
    },
    end: () => {
      const all = ends
      ends = []
      for (const fn of all) fn()
    },
  }
}

test("a round after a rest counts from its first look, one without from the end of the round before", () => {
  const { load, pass, rest, end } = setUp()
  assert.equal(load.roundMs(), 0)
  pass(7)
  assert.equal(load.roundMs(), 7)
  assert.equal(load.rounds(), 1)
  end()
  // Something else ran first: what is read now has waited for it.
  pass(3)
  assert.equal(load.roundMs(), 3)
  assert.equal(load.rounds(), 2)
  assert.equal(load.busyMs(), 10)
  pass(1)
  end()
  rest(5)
  pass(2)
  assert.equal(load.roundMs(), 0)
  assert.equal(load.busyMs(), 0)
  assert.equal(load.rounds(), 3)
})

test("a wait as short as asking the system takes is no rest", () => {
  const { load, pass, rest, end } = setUp()
  load.roundMs()
  pass(10)
  end()
  rest(0.1)
  assert.ok(load.busyMs() > 10)
})

test("rests that are hardly any do not count, those that are a twentieth of the time or 50 ms at once do", () => {
  const { load, pass, rest, end } = setUp()
  const round = (busy: number, resting: number): number => {
    load.roundMs()
    pass(busy)
    end()
    rest(resting)
    return load.busyMs()
  }
  load.roundMs()
  for (let i = 1; i <= 50; i++) assert.equal(Math.round(round(97, 3)), 100 * i)
  // Each takes more than it adds to what is spared.
  for (let i = 0; i < 10; i++) assert.ok(round(92, 8) > 5_000)
  for (let i = 0; i < 10; i++) round(92, 8)
  assert.ok(load.busyMs() < 1_000)
  for (let i = 1; i <= 50; i++) round(97, 3)
  assert.ok(load.busyMs() > 4_000)
  // However long it had been busy.
  assert.equal(round(97, 60), 0)
})

test("rounds that nobody looked at leave no trace once the loop has rested", () => {
  const { load, pass, rest, end } = setUp()
  load.roundMs()
  end()
  pass(500)
  rest(1)
  pass(500)
  assert.equal(load.roundMs(), 0)
})

test("Node's own loop has rounds, and rests", async () => {
  const load = createLoopRounds()
  const first = load.rounds()
  assert.equal(load.rounds(), first)
  // One ends the round that was looked at, the other is of the next.
  await setImmediate()
  await setImmediate()
  assert.equal(load.rounds(), first + 1)
  assert.ok(load.roundMs() >= 0)
  // A machine that has no time for this process gives its loop no rest: then with the next timer.
  while (load.busyMs() > 0) await setTimeout(5)
})
