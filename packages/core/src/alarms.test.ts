import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { postponed } from "./alarms.ts"
import { defaultLimits, type Limits } from "./limits.ts"
import type { Store } from "./store.ts"
import { alone } from "./testing/alone.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

interface Rung {
  readonly name: string
  readonly payload: unknown
  readonly at: number
}

/** `ran`: every time a handler was entered, whatever came of it. */
function makeApp(ran: Rung[] = [], fails: { times: number; how?: "waits" } = { times: 0 }) {
  const remind = actor({
    state: () => ({ rung: [] as { name: string; payload: unknown; at: number }[] }),
    alarms: {
      async ring(c, payload: unknown) {
        ran.push({ name: "ring", payload, at: c.now() })
        if (fails.times > 0) {
          fails.times--
          c.state.rung.push({ name: "failed", payload, at: c.now() })
          if (fails.how === "waits") await new Promise(() => undefined)
          throw new Error("not yet")
        }
        c.state.rung.push({ name: "ring", payload, at: c.now() })
      },
      again(c, left: number) {
        c.state.rung.push({ name: "again", payload: left, at: c.now() })
        if (left > 0) c.alarms.set("again", { afterMs: 1_000 }, left - 1)
      },
    },
    actions: {
      set(c, ms: number, payload?: unknown, id?: string) {
        c.alarms.set("ring", { afterMs: ms }, payload, id === undefined ? {} : { id })
      },
      again(c, left: number) {
        c.alarms.set("again", { afterMs: 0 }, left)
      },
      cancel(c, id?: string) {
        return c.alarms.cancel("ring", id)
      },
      setAndThrow(c) {
        c.alarms.set("ring", { afterMs: 0 }, "never")
        c.alarms.cancel("ring", "kept")
        throw new Error("rolled back")
      },
      setUnknown(c) {
        c.alarms.set("nobody" as "ring", { afterMs: 0 }, 1)
      },
    },
    queries: {
      rung: (c) => c.state.rung.map(({ name, payload }) => [name, payload]),
      times: (c) => c.state.rung.map(({ at }) => at),
    },
  })
  return setup({ actors: { remind } })
}

async function world(
  options: { fails?: Parameters<typeof makeApp>[1]; limits?: Partial<Limits>; store?: (store: Store) => Store } = {},
) {
  const clock = new VirtualClock()
  const ran: Rung[] = []
  const { fails, ...rest } = options
  const started = await alone(makeApp(ran, fails), { clock, ...rest })
  const advance = (ms: number): Promise<void> => clock.advance(ms)
  return { ...started, clock, ran, advance, alice: started.node.actors.remind.get("alice") }
}

void test("an alarm runs at its time, once, with its payload, and another one may be set in it (C41)", async () => {
  const { alice, clock, advance } = await world()
  const began = clock.now()
  await alice.set(5_000, { text: "tea", when: new Date(7) })
  await advance(4_999)
  assert.deepEqual(await alice.query.rung(), [])
  await advance(1)
  assert.deepEqual(await alice.query.rung(), [["ring", { text: "tea", when: new Date(7) }]])
  await alice.again(2)
  await advance(60_000)
  assert.deepEqual(await alice.query.rung(), [
    ["ring", { text: "tea", when: new Date(7) }],
    ["again", 2],
    ["again", 1],
    ["again", 0],
  ])
  const [first] = await alice.query.times()
  assert.equal(first, began + 5_000)
})

void test("an alarm wakes a sleeping actor (C41)", async () => {
  const { node, alice, advance, events, ran } = await world({ limits: { idleMs: 1_000 } })
  await alice.set(60_000, "late")
  await advance(10_000)
  assert.equal(node.stats().residents, 0, "it sleeps")
  await advance(50_000)
  assert.equal(ran.length, 1)
  assert.ok(events.filter(({ type }) => type === "actor.activated").length >= 2)
  await advance(10_000)
  assert.equal(node.stats().residents, 0, "and sleeps again")
  assert.deepEqual(await alice.query.rung(), [["ring", "late"]])
})

void test("an alarm that became due while the node was down runs as soon as it is up, in the order of time (C41)", async () => {
  const { node, alice, advance, again, ran } = await world()
  await alice.set(90_000, "second", "b")
  await alice.set(30_000, "first", "a")
  await node.stop()
  await advance(3_600_000)
  assert.equal(ran.length, 0, "a node that is down runs nothing")
  const next = await again()
  await advance(0)
  assert.deepEqual(await next.actors.remind.get("alice").query.rung(), [
    ["ring", "first"],
    ["ring", "second"],
  ])
})

void test("a wall clock that jumps ahead makes what is overdue run at once (C41)", async () => {
  const { alice, clock, advance, ran } = await world()
  await alice.set(86_400_000, "tomorrow")
  clock.jump(86_400_000)
  await advance(1_000)
  assert.equal(ran.length, 1)
})

void test("alarms change as their turn commits, and not at all if it throws (C42)", async () => {
  const { alice, advance } = await world()
  await alice.set(1_000, "kept", "kept")
  await assert.rejects(alice.setAndThrow())
  await alice.set(1_000, "taken away", "gone")
  assert.equal(await alice.cancel("gone"), true)
  assert.equal(await alice.cancel("gone"), false)
  await alice.set(500, "replaced", "moved")
  await alice.set(2_000, "replacement", "moved")
  await assert.rejects(alice.setUnknown(), /failed/)
  await advance(10_000)
  assert.deepEqual(await alice.query.rung(), [
    ["ring", "kept"],
    ["ring", "replacement"],
  ])
})

void test("a failing handler is run again after growing pauses, leaves nothing when it fails, and is reported each time (C43)", async () => {
  const { node, alice, advance, again, ran, events } = await world({ fails: { times: 5 } })
  await alice.set(1_000, "patience")
  await advance(1_000 + 1_250 + 2_500 + 100)
  assert.equal(ran.length, 3)
  await node.stop()
  const next = await again()
  await advance((4_000 + 8_000 + 16_000) * 1.25 + 100)
  const pauses = ran.slice(1).map(({ at }, i) => at - (ran[i]?.at ?? 0))
  assert.equal(pauses.length, 5)
  for (const [i, pause] of pauses.entries())
    assert.ok(
      pause >= 1_000 * 2 ** i && pause <= 1_250 * 2 ** i,
      `pause ${i + 1} was ${pause} ms: the count of attempts outlives the node, and a pause is at most a quarter longer`,
    )
  assert.deepEqual(
    events.filter(({ type }) => type === "alarm.failed").map(({ alarm, attempt }) => [alarm, attempt]),
    [1, 2, 3, 4, 5].map((attempt) => ["ring", attempt]),
  )
  assert.deepEqual(await next.actors.remind.get("alice").query.rung(), [["ring", "patience"]])
})

void test("a handler that never ends does not take its alarm with it (C43)", async () => {
  const { alice, advance, ran, events } = await world({
    fails: { times: 2, how: "waits" },
    limits: { turnMsMax: 3_000 },
  })
  await alice.set(1_000, "stuck")
  await advance(60_000)
  assert.equal(ran.length, 3)
  assert.equal(events.filter(({ type }) => type === "alarm.failed").length, 2)
  assert.deepEqual(await alice.query.rung(), [["ring", "stuck"]])
})

void test("what a failing handler made of its payload is not what it gets the next time, also after a restart (C43)", async () => {
  const seen: number[] = []
  const counter = actor({
    state: () => ({ n: 0 }),
    alarms: {
      ring(c, given: { n: number }) {
        seen.push(given.n++)
        if (seen.length % 3 !== 0) throw new Error("not yet")
        c.state.n = given.n
      },
    },
    actions: {
      set(c, ms: number) {
        c.alarms.set("ring", { afterMs: ms }, { n: 0 })
      },
    },
    queries: { n: (c) => c.state.n },
  })
  const clock = new VirtualClock()
  const { node, again } = await alone(setup({ actors: { counter } }), { clock })
  await node.actors.counter.get("a").set(1_000)
  await clock.advance(600_000)
  assert.deepEqual(seen, [0, 0, 0])
  await node.actors.counter.get("b").set(1_000)
  await node.stop()
  const next = await again()
  await clock.advance(600_000)
  assert.deepEqual(seen, [0, 0, 0, 0, 0, 0])
  assert.equal(await next.actors.counter.get("b").query.n(), 1)
})

void test("a handler that never ends is put off as one that fails: calls have their turns meanwhile (C43)", async () => {
  const { alice, advance, ran } = await world({
    fails: { times: 3, how: "waits" },
    limits: { turnMsMax: 3_000 },
  })
  await alice.set(0, "stuck")
  await advance(3_001)
  let answered = false
  const call = alice.cancel("other").then(() => (answered = true))
  await advance(900)
  assert.ok(answered, "a call waits for the handler that does not end")
  await call
  await advance(60_000)
  const pauses = ran.slice(1).map(({ at }, i) => at - (ran[i]?.at ?? 0) - 3_000)
  assert.equal(pauses.length, 3)
  for (const [i, pause] of pauses.entries())
    assert.ok(pause >= 1_000 * 2 ** i && pause <= 1_251 * 2 ** i, `pause ${i + 1} was ${pause} ms`)
})

void test("two alarms that failed at once are due again apart, by chance: a quarter of the pause at most (C43)", () => {
  const at = (random: number): number => postponed({ n: "ring", at: 0 }, 0, defaultLimits, random).at
  assert.deepEqual([at(0), at(0.5), at(0.999)], [1_000, 1_125, 1_250])
})

void test("an alarm whose handler the application no longer has stays until it has it again (C43)", async () => {
  const { node, alice, advance, again, events } = await world()
  await alice.set(1_000, "orphan")
  await node.stop()
  const { remind } = makeApp().actors
  const without = await again(setup({ actors: { remind: { ...remind, alarms: {} } } }))
  await advance(20_000)
  assert.ok(events.filter(({ type }) => type === "alarm.failed").length >= 3)
  await without.stop()
  const next = await again()
  await advance(300_000)
  assert.deepEqual(await next.actors.remind.get("alice").query.rung(), [["ring", "orphan"]])
})

void test("what an alarm did and its removal are one commit: after a lost write it runs again and its effect is there once (C41)", async () => {
  let failing = 0
  const { alice, advance, ran } = await world({
    store: (inner) => ({
      ...inner,
      commit: (...args) => {
        if (failing === 0) return inner.commit(...args)
        failing--
        return Promise.reject(new Error("the disk is away"))
      },
    }),
  })
  await alice.set(1_000, "once")
  failing = 1
  await advance(60_000)
  assert.equal(ran.length, 2, "it ran twice")
  assert.deepEqual(await alice.query.rung(), [["ring", "once"]])
})

void test("an actor has so many alarms and no more, and no payload is larger than its bound", async () => {
  const { alice, advance } = await world({ limits: { alarmsPerActorMax: 2, alarmPayloadCharsMax: 100 } })
  await alice.set(1_000, 1, "a")
  await alice.set(1_000, 2, "b")
  await alice.set(1_000, 3, "b")
  await assert.rejects(alice.set(1_000, 4, "c"), { code: "ALARMS_FULL" })
  await assert.rejects(alice.set(1_000, "x".repeat(100), "b"), { code: "ALARMS_FULL" })
  await advance(2_000)
  await alice.set(1_000, 5, "c")
  await advance(2_000)
  assert.deepEqual(await alice.query.rung(), [
    ["ring", 1],
    ["ring", 3],
    ["ring", 5],
  ])
})

void test("many alarms due at once wake so many actors at a time, and all run (C41)", async () => {
  const { node, advance, again, ran } = await world({ limits: { alarmWakesMax: 3, residentsMax: 4 } })
  for (let i = 0; i < 20; i++) await node.actors.remind.get(`k${i}`).set(10_000, i)
  await node.stop()
  await advance(3_600_000)
  const next = await again()
  await advance(0)
  await advance(30_000)
  assert.equal(ran.length, 20)
  assert.ok(next.stats().residents <= 4)
})

void test("an alarm that sets itself to a time that has passed holds no other one up (C41)", async () => {
  for (const when of [0, { afterMs: -60_000 }, { afterMs: 0 }]) {
    const ran: string[] = []
    const busy = actor({
      state: () => ({}),
      alarms: {
        work(c) {
          if (ran.push("work") < 10) c.alarms.set("work", when)
        },
        other() {
          ran.push("other")
        },
      },
      actions: {
        begin(c) {
          c.alarms.set("work", when)
          c.alarms.set("other", { afterMs: 0 })
        },
      },
    })
    const clock = new VirtualClock()
    const { node } = await alone(setup({ actors: { busy } }), { clock })
    await node.actors.busy.get("a").begin()
    await clock.advance(1_000)
    assert.deepEqual(ran.slice(0, 3), ["work", "other", "work"], JSON.stringify(when))
    assert.equal(ran.length, 10)
    await node.stop()
  }
})

/** The store does what it is asked, and then answers that nobody knows whether it did, `times` times. */
function landing(op: "claim" | "commit" | "install"): { times: number; over: (inner: Store) => Store } {
  const fails = {
    times: 0,
    over: (inner: Store): Store => {
      const real = inner[op] as (...args: readonly unknown[]) => Promise<unknown>
      const late = async (...args: readonly unknown[]): Promise<unknown> => {
        const answer = await real(...args)
        if (fails.times === 0) return answer
        fails.times--
        throw new Error("no answer in time")
      }
      return { ...inner, [op]: late }
    },
  }
  return fails
}

// Nobody was told of it, and where nothing else was set nobody looked: it waited for the node's next start.
for (const op of ["claim", "commit"] as const)
  void test(`an alarm rings at its time where the ${op} that set it had taken effect, of all writes that failed (C41)`, async () => {
    const fails = landing(op)
    const { node, alice, advance, ran } = await world({ store: fails.over })
    if (op === "commit") await alice.query.rung()
    fails.times = 1
    const set = alice.set(60_000, "once")
    await advance(1_000)
    await set
    assert.equal(fails.times, 0)
    await advance(59_000)
    assert.deepEqual(
      ran.map(({ payload }) => payload),
      ["once"],
    )
    await node.stop()
  })

void test("an alarm rings at its time where the actor had come with it by an install that failed (C41)", async () => {
  const clock = new VirtualClock()
  const ran: Rung[] = []
  const fails = landing("install")
  const at = linked(makeApp(ran), ["bos", "fra"], {
    clock,
    store: (inner, pop) => (pop === "fra" ? fails.over(inner) : inner),
  })
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
  await clock.advance(1_000)
  const { node } = at("bos")
  const set = node.actors.remind.get("alice~bos").set(60_000, "once")
  await clock.advance(0)
  await set
  fails.times = 1
  const moved = node.move(["remind", "alice~bos"], "fra")
  await clock.advance(10_000)
  await moved
  assert.equal(fails.times, 0)
  assert.equal((await at("fra").store.peek("remind/alice~bos"))?.k, "OWNED")
  await clock.advance(51_000)
  assert.equal(ran.length, 1)
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
})

// Its activation had been dropped, and it had long rung at the other POP, when the old one reported that its handler did not end.
void test("an alarm whose actor is moved away from under its handler is reported as failed by nobody (C43)", async () => {
  const clock = new VirtualClock()
  const ran: Rung[] = []
  const app = makeApp(ran, { times: 1, how: "waits" })
  const at = linked(app, ["bos", "fra"], { clock })
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
  await clock.advance(1_000)
  const { node, events } = at("bos")
  const set = node.actors.remind.get("alice~bos").set(1_000)
  await clock.advance(2_000)
  await set
  assert.equal(ran.length, 1)
  const moved = node.move(["remind", "alice~bos"], "fra")
  await clock.advance(10_000)
  await moved
  assert.equal(ran.length, 2)
  await clock.advance(60_000)
  assert.equal(ran.length, 2)
  for (const pop of ["bos", "fra"]) assert.ok(!at(pop).events.some(({ type }) => type === "alarm.failed"), pop)
  assert.ok(events.some(({ type }) => type === "activation.dropped"))
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
})
