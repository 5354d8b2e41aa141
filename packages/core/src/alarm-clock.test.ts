import assert from "node:assert/strict"
import { test } from "node:test"
import { AlarmClock } from "./alarm-clock.ts"
import { defaultLimits, type Limits } from "./limits.ts"
import type { Due, Store } from "./store.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

/** `stuck` actors that are due and cannot be woken, and others behind them whose alarms end when they are. */
function world(stuck: number, able: number, limits: Partial<Limits> = {}) {
  const clock = new VirtualClock()
  const due = new Map<string, number>()
  for (let i = 0; i < stuck; i++) due.set(`stuck${i}`, 1_000)
  for (let i = 0; i < able; i++) due.set(`able${i}`, 2_000)
  let rows = 0
  let looks = 0
  const woken = new Map<string, number>()
  const order = (a: Due, b: Due): number => a.due - b.due || (a.actor === b.actor ? 0 : a.actor < b.actor ? -1 : 1)
  const all = (): Due[] => [...due].map(([actor, at]) => ({ actor, due: at })).sort(order)
  let sorted: Due[] | undefined
  const store: Pick<Store, "due"> = {
    due: ({ limit, after }) => {
      sorted ??= all()
      const page = sorted.filter((one) => !after || order(one, after) > 0).slice(0, limit)
      rows += page.length
      looks++
      return Promise.resolve(page)
    },
  }
  const ends: string[] = []
  const alarms = new AlarmClock({
    store,
    clock,
    limits: { ...defaultLimits, ...limits },
    wake: (actor) => {
      woken.set(actor, (woken.get(actor) ?? 0) + 1)
      if (actor.startsWith("able")) ends.push(actor)
    },
    failed: (error) => assert.fail(String(error)),
  })
  /** What the store says, and nobody tells the clock. */
  const stored = (actor: string, at: number | undefined): void => {
    if (at === undefined) due.delete(actor)
    else due.set(actor, at)
    sorted = undefined
  }
  const set = (actor: string, at: number | undefined): void => {
    stored(actor, at)
    alarms.changed(actor, at)
  }
  return { clock, alarms, woken, ends, stored, set, rows: () => rows, looks: () => looks }
}

// The page had been read without it, and the next look went on behind it: it was a second late.
void test("what comes to be due while a page is being read is woken with that", async () => {
  const { clock, alarms, woken, set } = world(1, 0)
  alarms.start()
  await clock.advance(10)
  // A round begins, and the next not before `alarmRetryMs`.
  set("first", 2_000)
  await clock.advance(10)
  set("second", 4_000)
  set("late", 3_000)
  await clock.advance(10)
  assert.deepEqual([...woken.keys()], ["stuck0", "first", "second", "late"])
  alarms.stop()
})

// Each alarm that ended paged through all that were due, thousands of rows where thousands could not be woken.
void test("an alarm that ends costs no look at all that are due and cannot be woken", async () => {
  const { clock, alarms, woken, ends, set, rows } = world(2_000, 1_000)
  alarms.start()
  for (let i = 0; i < 300_000 && woken.size < 3_000; i += 100) {
    await clock.advance(100)
    for (let actor = ends.shift(); actor !== undefined; actor = ends.shift()) {
      set(actor, undefined)
      await clock.advance(0)
    }
  }
  assert.equal(woken.size, 3_000)
  assert.ok(rows() < 200_000, `${rows()} rows were read`)
  alarms.stop()
})

// One that moved away before its alarm ran was waited for with a look each millisecond, for `alarmRetryMsMax`.
void test("an actor that was woken and has gone elsewhere is looked for no more often than others", async () => {
  const { clock, alarms, stored, looks } = world(1, 0)
  alarms.start()
  await clock.advance(10)
  stored("stuck0", undefined)
  await clock.advance(60_000)
  assert.ok(looks() < 100, `${looks()} looks within a minute`)
  await clock.advance(600_000)
  const before = looks()
  await clock.advance(600_000)
  assert.equal(looks() - before, 600_000 / defaultLimits.alarmLookMsMax, "it is forgotten")
  alarms.stop()
})

void test("what is set to a time that others have had already is found, whichever way the wall clock goes", async () => {
  const { clock, alarms, woken, stored, set } = world(200, 0)
  alarms.start()
  await clock.advance(60_000)
  set("late", 500)
  await clock.advance(1)
  assert.equal(woken.get("late"), 1)
  set("now", clock.now())
  await clock.advance(1_000)
  assert.equal(woken.get("now"), 1)
  await clock.advance(10_000)
  stored("another's", 500)
  alarms.more()
  await clock.advance(1)
  assert.equal(woken.get("another's"), 1)
  clock.jump(-3_600_000)
  set("back", clock.now() + 5_000)
  await clock.advance(5_001)
  assert.equal(woken.get("back"), 1)
  alarms.stop()
})

void test("who is due behind more than can be woken in any pause is woken all the same", async () => {
  const { clock, alarms, woken } = world(300, 10, { alarmWakesMax: 2, alarmRetryMsMax: 4_000 })
  alarms.start()
  await clock.advance(300_000)
  for (let i = 0; i < 10; i++) assert.ok(woken.has(`able${i}`))
  alarms.stop()
})
