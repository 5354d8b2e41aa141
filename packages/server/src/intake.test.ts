import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { createIntake } from "./intake.ts"

function setUp(lateMsMax = 10) {
  let now = 0
  let ends: (() => void)[] = []
  const done: string[] = []
  const next: (() => void)[] = []
  const { take, load, accepted } = createIntake(lateMsMax, {
    mono: () => now,
    idleMs: () => 0,
    atEnd: (fn) => ends.push(fn),
    behind: (fn) => next.push(fn),
  })
  return {
    done,
    load,
    pass: (ms: number) => (now += ms),
    /** Something that takes so long comes in. */
    come: (name: string, ms = 1, chars = 0) => {
      take(chars, () => {
        now += ms
        done.push(name)
      })
    },
    take,
    accepted,
    /** Everything that was ready has been handled: what waited for that runs. */
    end: () => {
      next.push(...ends)
      ends = []
      for (let fn = next.shift(); fn; fn = next.shift()) fn()
    },
    get waits() {
      return ends.length > 0
    },
  }
}

void describe("the intake of clients' frames", () => {
  test("reads at once what a round has time for, and the rest in the next rounds, a share each, in order", () => {
    const { come, done, end } = setUp()
    for (let i = 0; i < 10; i++) come(String(i))
    assert.deepEqual(done, ["0", "1", "2", "3"])
    end()
    assert.deepEqual(done.slice(4), ["4", "5", "6", "7"])
    // What comes while something waits is read behind it, however little this round has done yet.
    come("late")
    assert.equal(done.length, 8)
    end()
    assert.deepEqual(done.slice(8), ["8", "9", "late"])
    end()
    come("idle")
    assert.equal(done.at(-1), "idle")
  })

  test("a share is a tenth of what the node may be late, within 4 and 10 ms", () => {
    for (const [lateMsMax, count] of [
      [1, 4],
      [70, 7],
      [60_000, 10],
    ] as const) {
      const { come, done, end } = setUp(lateMsMax)
      for (let i = 0; i < 30; i++) come(String(i))
      assert.equal(done.length, count)
      end()
      assert.equal(done.length, 2 * count)
    }
  })

  test("while connections come, of which a round accepts one, rounds are short; then as long as before", () => {
    const { come, done, end, accepted } = setUp()
    for (let i = 0; i < 8; i++) come(String(i), 0.25)
    accepted()
    for (let i = 8; i < 80; i++) come(String(i), 0.25)
    assert.equal(done.length, 8)
    end()
    assert.equal(done.length, 10)
    accepted()
    end()
    assert.equal(done.length, 12)
    end()
    assert.equal(done.length, 28)
    end()
    assert.deepEqual(
      done,
      Array.from({ length: 44 }, (_, i) => String(i)),
    )
  })

  test("the round in which a connection came is short itself", () => {
    const { come, done, end, accepted } = setUp()
    accepted()
    for (let i = 0; i < 4; i++) come(String(i), 0.25)
    assert.deepEqual(done, ["0", "1"])
    end()
    assert.deepEqual(done, ["0", "1", "2", "3"])
  })

  /** Rounds in which so many frames of 1 ms come, each ended by `extraMs` of something else. */
  function rounds({ come, pass, end, load }: ReturnType<typeof setUp>, count: number, frames: number, extraMs = 0) {
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < frames; j++) come("frame")
      pass(extraMs)
      end()
    }
    return { lateMs: load.lateMs(), demand: load.demand() }
  }

  test("C54 what waits tells how late it will be read, and what came how much is asked, once it is known what a frame takes", () => {
    const fixture = setUp()
    // Rounds of 4 ms for 4 frames; 8 come.
    const before = rounds(fixture, 3, 8)
    assert.equal(before.demand, 0)
    // A round that begins with what waits is known when the next begins.
    const after = rounds(fixture, 20, 8)
    assert.ok(Math.abs(after.demand - 2) < 0.1, `asked ${after.demand}`)
    // 23 times 4 more than were read; and this round has taken 4 ms.
    assert.ok(Math.abs(after.lateMs - 4 * 23) < 8, `late ${after.lateMs} ms`)
    // Half of a round is something else.
    const halved = setUp()
    const slower = rounds(halved, 200, 4, 4)
    assert.ok(Math.abs(slower.demand - 1) < 0.1, `asked ${slower.demand}`)
  })

  test("a stall is not asked for: neither by what came meanwhile, nor in what a frame takes", () => {
    const fixture = setUp()
    rounds(fixture, 40, 8)
    while (fixture.waits) {
      fixture.end()
      fixture.pass(0.01)
    }
    const usual = rounds(fixture, 200, 1, 1)
    assert.ok(usual.demand < 0.6, `asked ${usual.demand}`)
    fixture.pass(200)
    // What came in 200 ms at half of what it can.
    const after = rounds(fixture, 1, 100)
    assert.ok(after.demand < 0.6, `asked ${after.demand}`)
    assert.ok(Math.abs(after.lateMs - 96) < 8, `late ${after.lateMs} ms`)
    let { lateMs } = after
    for (let i = 0; i < 10; i++) {
      const next = rounds(fixture, 1, 2)
      assert.ok(next.lateMs < lateMs, "it only falls")
      assert.ok(next.demand < 0.8, `asked ${next.demand}`)
      lateMs = next.lateMs
    }
  })

  test("rounds that are long with something else, and have all read, tell what a frame takes as well", () => {
    const fixture = setUp()
    // One of 50 ms is a stall, one after the other they are not.
    assert.equal(rounds(fixture, 1, 1, 49).demand, 0)
    const { demand } = rounds(fixture, 20, 1, 49)
    assert.ok(Math.abs(demand - 1) < 0.1, `asked ${demand}`)
  })

  test("what is read as it comes is bounded by what frames are known to take, where their own time does not tell", () => {
    const fixture = setUp()
    rounds(fixture, 20, 8)
    while (fixture.waits) fixture.end()
    fixture.come("of the round before", 0)
    fixture.end()
    fixture.done.length = 0
    for (let i = 0; i < 10; i++) fixture.come("awaits", 0)
    assert.equal(fixture.done.length, 4)
  })

  test("a rest of an hour does not hide how much is asked after it", () => {
    const fixture = setUp()
    rounds(fixture, 20, 8)
    while (fixture.waits) fixture.end()
    fixture.pass(3_600_000)
    const { demand } = rounds(fixture, 40, 8)
    assert.ok(demand > 1.3, `asked ${demand}`)
  })

  test("what a frame took while the node was cold is forgotten, also where no round has enough to read any more", () => {
    const fixture = setUp()
    const cold = rounds(fixture, 20, 8, 12)
    assert.ok(cold.demand > 1.5, `asked ${cold.demand}`)
    while (fixture.waits) {
      fixture.end()
      fixture.pass(0.01)
    }
    const warm = rounds(fixture, 600, 2)
    assert.ok(Math.abs(warm.demand - 1) < 0.1, `asked ${warm.demand}`)
  })

  test("an action that awaits has done its work before the next frame is read", async () => {
    const work = (ms: number): void => {
      for (const until = performance.now() + ms; performance.now() < until;);
    }
    const { take } = createIntake(10)
    // More than a share: what comes behind it waits.
    take(0, () => {
      work(6)
    })
    const rounds: number[] = []
    let last = performance.now()
    const all = Array.from(
      { length: 40 },
      () =>
        new Promise<void>((resolve) => {
          take(0, () => {
            void Promise.resolve()
              .then(() => undefined)
              .then(() => {
                work(2)
                resolve()
              })
          })
        }),
    )
    let over = false
    void Promise.all(all).then(() => (over = true))
    while (!over) {
      await setImmediate()
      rounds.push(performance.now() - last)
      last = performance.now()
    }
    // 80 ms of work in shares of 4 to 6.
    assert.ok(rounds.length >= 5, `${rounds.length} rounds: ${rounds.map(Math.round).join(" ")} ms`)
  })

  test("past a number of frames, or of characters, that wait, what waits longest is read at once", () => {
    for (const [chars, count] of [
      [0, 65_536],
      [1_048_576, 16],
    ] as const) {
      const { come, done } = setUp()
      come("long", 10)
      for (let i = 0; i < count; i++) come(String(i), 0, chars)
      assert.equal(done.length, 1, `${chars} characters each`)
      come("one more", 0, chars)
      assert.deepEqual(done, ["long", "0"])
    }
  })

  test("one that throws does not keep those behind it, and what comes while one is read waits for its end", () => {
    const { come, take, done, end } = setUp()
    come("long", 10)
    take(0, () => {
      throw new Error("a defect")
    })
    take(0, () => {
      come("from inside", 0)
      done.push("outside")
    })
    assert.throws(end, /a defect/)
    end()
    assert.deepEqual(done, ["long", "outside", "from inside"])
    end()
    take(0, () => {
      come("inside of what is read at once", 0)
      done.push("at once")
    })
    end()
    assert.deepEqual(done.slice(3), ["at once", "inside of what is read at once"])
    come("long again", 10)
    take(0, () => {
      throw new Error("the last")
    })
    assert.throws(end, /the last/)
    end()
    come("at once", 0)
    assert.equal(done.at(-1), "at once")
  })

  test("of very many that wait each is read once, in order", () => {
    const fixture = setUp()
    fixture.come("long", 10)
    const names = Array.from({ length: 5_000 }, (_, i) => String(i))
    for (const name of names) fixture.come(name, 0.01)
    while (fixture.waits) fixture.end()
    assert.deepEqual(fixture.done, ["long", ...names])
  })
})
