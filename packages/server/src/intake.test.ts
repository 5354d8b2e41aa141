import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { createIntake } from "./intake.ts"

function setUp(lateMsMax = 10) {
  let now = 0
  let ends: (() => void)[] = []
  const done: string[] = []
  const { take, load } = createIntake(lateMsMax, { mono: () => now, idleMs: () => 0, atEnd: (fn) => ends.push(fn) })
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
    /** Everything that was ready has been handled: what waited for that runs. */
    end: () => {
      const all = ends
      ends = []
      for (const fn of all) fn()
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

  test("C54 what waited tells how late it is read: the wait, and how late in its round it came", () => {
    const { come, take, pass, end, load } = setUp()
    assert.equal(load.roundMs(), 0)
    come("long", 6)
    let lateMs = -1
    take(0, () => {
      lateMs = load.roundMs()
    })
    pass(5)
    end()
    assert.equal(lateMs, 11)
    assert.ok(load.roundMs() < 11, "of what is read now it tells again")
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
