// How an activation ends in an orderly way: `onDeactivate`, its last turn, and `waitUntil`, which it waits for.
import assert from "node:assert/strict"
import type { CoreEvent } from "@sojourn/core"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, callBody, until, within, type Seat, type Session, type World } from "./behaviours/world.ts"

const lodgerOf = (key: string): readonly ["lodger", string] => ["lodger", key]
const sleepy = { limits: { idleMs: 40 } }
const awake = { idleMs: 60_000 }

/** Resolves when this POP has looked for idle actors several times since: see behaviours-sleep.test.ts. */
async function othersSlept(world: World, at: Seat, times = 3): Promise<void> {
  const client = world.client("other", at)
  for (let i = 0; i < times; i++) {
    const key = `other${at.events.all.length}~${at.id}`
    await client.ledger.get(key).add("once")
    await at.events.until("actor.slept", `ledger/${key}`)
  }
}

/** `onDeactivate`, or what `work` leaves running, waits until `open`. */
function held(): { readonly entered: Promise<unknown>; enter(): Promise<void>; open(): void } {
  const entered = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  return {
    entered: within(10_000, "it is entered", entered.promise),
    enter() {
      entered.resolve()
      return gate.promise
    },
    open: gate.resolve,
  }
}

async function say(session: Session, c: number, action: string, ...args: unknown[]): Promise<unknown> {
  session.call(c, action, ...args)
  const { ok, err } = await session.reply(c)
  assert.equal(err, undefined)
  return ok?.v
}

/** Attached, and its first call answered: they go together, for between them the actor might sleep. */
async function attachedWith(session: Session, actor: readonly [string, string]): Promise<void> {
  await session.attach(actor, { live: true, calls: [callBody(1, "add", "a")] })
  assert.equal((await session.reply(1)).err, undefined)
}

/** The names of the events that this session was told, in order. */
async function told({ raw }: Session): Promise<unknown[]> {
  await raw.flushed()
  return raw.all("out").flatMap(({ ev }) => (ev ?? []).map(([name, p]) => [name, p.v]))
}

const endings = (world: World): string[] => world.probe.ran.filter((what) => what.startsWith("deactivate"))

behaviour(
  "what onDeactivate changes as its actor falls asleep is there when it wakes, whoever is attached is told, and nothing wakes it by itself (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `dozes~${here.id}`
    const actor = `lodger/${key}`
    const alice = await world.session("alice")
    await attachedWith(alice, lodgerOf(key))
    await here.events.until("actor.slept", actor)
    assert.deepEqual(await told(alice), [["left", "idle"]])
    await othersSlept(world, here)
    assert.deepEqual(endings(world), ["deactivate idle"])
    assert.equal(here.events.of("actor.activated", actor).length, 1)
    // The same attach goes on, over its position: no gap, no snapshot.
    assert.equal(await say(alice, 2, "add", "b"), 2)
    await here.events.until("actor.slept", actor, 2)
    assert.deepEqual([alice.raw.all("detached"), alice.raw.all("attached").length], [[], 1])
    const bob = world.client("bob").lodger.get(key)
    assert.deepEqual(await bob.query.ends(), ["idle", "idle"])
    assert.deepEqual(await bob.query.ids(), ["a", "b"])
  },
)

behaviour(
  "what onDeactivate changes as another actor takes its place is there when it wakes (C45)",
  { limits: { ...awake, residentsMax: 1 } },
  async (world) => {
    const { here } = world
    const alice = world.client("alice")
    const [one, two] = ["one", "two"].map((name) => alice.lodger.get(`${name}~${here.id}`))
    await one?.add("a")
    await two?.add("b")
    await here.events.until("actor.slept", one?.actor.join("/"))
    assert.deepEqual(await one?.query.ends(), ["evicted"])
  },
)

behaviour(
  "what onDeactivate changes as its actor moves is sealed with it, and whoever is attached is told before (C45)",
  { pops: [3], limits: awake },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `goes~${bos.id}`
    const alice = await world.session("alice", bos)
    await alice.attach(lodgerOf(key), { live: true })
    await say(alice, 1, "add", "a")
    await within(10_000, "the move", bos.pop.move(lodgerOf(key), "fra"))
    assert.equal(await say(alice, 2, "add", "b"), 2)
    assert.deepEqual(await told(alice), [["left", "moved"]])
    const bob = world.client("bob", fra).lodger.get(key)
    assert.deepEqual(await bob.query.ends(), ["moved"])
    await settled(world, `lodger/${key}`)
    assert.deepEqual(await owners(world, `lodger/${key}`), [fra.id])
    assert.deepEqual(endings(world), ["deactivate moved"])
  },
)

behaviour("what onDeactivate changes as its POP closes is there when that is up again (C45)", {}, async (world) => {
  const { here } = world
  const key = `closes~${here.id}`
  const alice = await world.session("alice")
  await alice.attach(lodgerOf(key))
  await say(alice, 1, "add", "a")
  alice.raw.send({ t: "detach", ch: 1 })
  await alice.raw.flushed()
  // In use no more: who has called within `followQuietMs` is handed on.
  const used = performance.now()
  await until(() => performance.now() > used + 5)
  await within(20_000, "the POP closes", here.close())
  await world.start(here.id)
  const bob = world.client("bob").lodger.get(key)
  assert.deepEqual(await bob.query.ends(), ["stopping"])
  assert.deepEqual(await bob.query.ids(), ["a"])
})

behaviour(
  "a POP that closes while one actor's last write fails says so, writes the others' and closes (C45)",
  {},
  async (world) => {
    const { here } = world
    const keys = ["fails", "holds"].map((name) => `${name}~${here.id}`)
    const [fails, holds] = keys.map((key) => `lodger/${key}`) as [string, string]
    for (const key of keys) {
      const { raw, sid } = await world.session("alice")
      raw.send({
        t: "attach",
        ch: 1,
        actor: lodgerOf(key),
        sid,
        acked: 0,
        live: false,
        calls: [callBody(1, "add", "a")],
      })
      await within(10_000, "the reply", raw.find("reply"))
      raw.send({ t: "detach", ch: 1 })
      await raw.flushed()
    }
    const used = performance.now()
    await until(() => performance.now() > used + 5)
    const snapshot = here.store.hold({ op: "compact", actor: fails, at: "before" })
    const closed = here.close()
    await within(10_000, "its last write", snapshot.reached)
    snapshot.fail(new Error("the disk refuses"))
    await within(20_000, "the POP closes", closed)
    assert.equal(here.events.of("store.failed", fails).length, 1)
    await world.start(here.id)
    const bodies = await Promise.all([fails, holds].map((actor) => here.store.inner.load(actor)))
    // Its journal is there: the first state, the call, and what `onDeactivate` did. The other one's is in its snapshot.
    assert.deepEqual(
      bodies.map((body) => body?.body.entries.length),
      [3, 0],
    )
    for (const key of keys) {
      const bob = world.client("bob").lodger.get(key)
      assert.deepEqual([await bob.query.ids(), await bob.query.ends()], [["a"], ["stopping"]])
    }
  },
)

behaviour(
  "an onDeactivate that throws is rolled back and reported with an id, and its actor sleeps and moves all the same (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `throws~${here.id}`
    const actor = `lodger/${key}`
    world.probe.onDeactivate = () => {
      throw new Error("the disk of its dreams")
    }
    const alice = await world.session("alice")
    await attachedWith(alice, lodgerOf(key))
    const failed = await here.events.until("deactivate.failed", actor)
    assert.match(String(failed["error"]), /the disk of its dreams/)
    assert.equal(failed["reason"], "idle")
    assert.equal(typeof failed["ref"], "string")
    await here.events.until("actor.slept", actor)
    // A change in place of what drafts do not see into cannot be rolled back: the activation goes, and what is durable stays.
    world.probe.onDeactivate = (c) => void c.state.since.setTime(1)
    assert.equal(await say(alice, 2, "add", "b"), 2)
    const { code } = (await here.events.until("deactivate.failed", actor, 2))["error"] as { code: string }
    assert.equal(code, "BAD_STATE")
    await here.events.until("activation.dropped", actor)
    world.probe.onDeactivate = () => Promise.reject(new Error("later"))
    const far = world.seats.at(-1) as Seat
    const bob = world.client("bob", far).lodger.get(key)
    assert.deepEqual(await bob.query.ids(), ["a", "b"])
    assert.deepEqual(await bob.query.ends(), [])
    assert.deepEqual(await told(alice), [])
  },
)

/** Ends only when `open` is called, or its `signal` aborts: `aborted` has the reason. */
function stuck(world: World) {
  const gate = held()
  const aborted: unknown[] = []
  world.probe.onDeactivate = async (c) => {
    c.signal.addEventListener("abort", () => aborted.push(c.signal.reason))
    await gate.enter()
    // In the state that it was handed, and in a leaf of it: nobody may see that.
    c.state.since.setTime(1)
  }
  return { ...gate, aborted }
}

function assertLate(event: CoreEvent, reason: string): void {
  const { code, message } = event["error"] as { code: string; message: string }
  assert.deepEqual([code, event["reason"]], ["UNKNOWN_OUTCOME", reason])
  assert.match(message, /onDeactivate .*deactivateMsMax/)
}

behaviour(
  "an onDeactivate that hangs is given up after deactivateMsMax: its signal aborts, it is reported, its actor sleeps, and it can write nothing later (C45)",
  { limits: { idleMs: 40, deactivateMsMax: 100 } },
  async (world) => {
    const { here } = world
    const key = `hangs~${here.id}`
    const actor = `lodger/${key}`
    const hook = stuck(world)
    const alice = await world.session("alice")
    await alice.attach(lodgerOf(key), { live: true })
    await say(alice, 1, "add", "a")
    await hook.entered
    assertLate(await here.events.until("deactivate.failed", actor), "idle")
    await here.events.until("actor.slept", actor)
    assert.equal(hook.aborted.length, 1)
    // The number of a call that changed nothing is in no journal entry, and this activation wrote none: the snapshot has it.
    await say(alice, 2, "nop")
    await here.events.until("actor.slept", actor, 2)
    assert.equal(hook.aborted.length, 2)
    const commits = here.store.count("commit", actor)
    world.probe.onDeactivate = undefined
    hook.open()
    await alice.raw.flushed()
    await here.store.idle()
    assert.equal(here.store.count("commit", actor), commits)
    assert.equal(await say(alice, 3, "add", "b"), 2)
    assert.deepEqual([alice.raw.all("detached"), await told(alice)], [[], []])
    assert.deepEqual(await world.client("bob").lodger.get(key).query.ids(), ["a", "b"])
  },
)

behaviour(
  "an onDeactivate that hangs holds up a move no longer than deactivateMsMax, and the actor arrives without it (C45)",
  { pops: [3], limits: { ...awake, deactivateMsMax: 100 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `stays~${bos.id}`
    const actor = `lodger/${key}`
    const hook = stuck(world)
    const alice = world.client("alice", bos).lodger.get(key)
    await alice.add("a")
    const bob = world.client("bob", fra).lodger.get(key)
    assert.equal(await within(10_000, "bob is served", bob.add("b")), 2)
    assertLate(await bos.events.until("deactivate.failed", actor), "moved")
    assert.equal(hook.aborted.length, 1)
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), [fra.id])
    const commits = bos.store.count("commit", actor)
    world.probe.onDeactivate = undefined
    hook.open()
    await bos.store.idle()
    assert.equal(bos.store.count("commit", actor), commits)
    assert.deepEqual(await bob.query.ids(), ["a", "b"])
    assert.deepEqual(await bob.query.ends(), [])
  },
)

behaviour(
  "an actor whose move fails after onDeactivate stays with what that changed, and it runs again before the next (C45)",
  { pops: [3], limits: awake },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `cannot go~${bos.id}`
    const actor = `lodger/${key}`
    const alice = await world.session("alice", bos)
    await alice.attach(lodgerOf(key), { live: true })
    await say(alice, 1, "add", "a")
    world.probe.leaf = new Date(7)
    await say(alice, 2, "plant")
    await world.client("carol", bos).lodger.get(key).query.held()
    const leaf = world.probe.leaf as Date
    leaf.toISOString = () => {
      throw new Error("this cannot be written down")
    }
    await assert.rejects(within(10_000, "the move", bos.pop.move(lodgerOf(key), fra.id)), { code: "INTERNAL" })
    assert.deepEqual(await told(alice), [["left", "moved"]])
    assert.equal(await say(alice, 3, "add", "b"), 2)
    assert.equal(bos.events.of("actor.activated", actor).length, 1)
    Reflect.deleteProperty(leaf, "toISOString")
    await within(10_000, "the next move", bos.pop.move(lodgerOf(key), fra.id))
    const bob = world.client("bob", fra).lodger.get(key)
    assert.deepEqual(await bob.query.ends(), ["moved", "moved"])
    assert.deepEqual(await bob.query.ids(), ["a", "b"])
  },
)

behaviour(
  "an actor whose move fails after an onDeactivate that hung goes on from what was committed, and not with what that one still holds (C45)",
  {
    pops: [3],
    limits: {
      ...awake,
      deactivateMsMax: 100,
      snapshotBytesMax: 40_000,
      tailBytesMax: 20_000,
      journalBytesMax: 20_000,
    },
  },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `cannot go either~${bos.id}`
    const actor = `lodger/${key}`
    // Replies that its client never acknowledges count to what would have to be moved, and not to the state.
    const alice = await world.session("alice", bos)
    await alice.attach(lodgerOf(key), { live: true })
    for (let c = 1; c <= 5; c++) await say(alice, c, "echo", "x".repeat(20_000))
    const hook = stuck(world)
    await assert.rejects(within(10_000, "the move", bos.pop.move(lodgerOf(key), fra.id)), {
      code: "SNAPSHOT_TOO_LARGE",
    })
    assertLate(await bos.events.until("deactivate.failed", actor), "moved")
    world.probe.onDeactivate = undefined
    assert.equal((await alice.detached()).err.code, "SLEPT")
    hook.open()
    alice.sendAttach(lodgerOf(key), { acked: 5, calls: [callBody(6, "add", "b")] })
    assert.equal((await alice.reply(6)).ok?.v, 6)
    assert.equal(bos.events.of("actor.activated", actor).length, 2)
    const bob = world.client("bob", bos).lodger.get(key)
    assert.deepEqual([await bob.query.since(), await bob.query.ends()], [new Date(0), []])
  },
)

behaviour(
  "calls that come while onDeactivate runs wait for the next activation, in their order, on the attach that they were made on (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `busy~${here.id}`
    const hook = held()
    world.probe.onDeactivate = () => hook.enter()
    const alice = await world.session("alice")
    await alice.attach(lodgerOf(key), { live: true })
    await say(alice, 1, "add", "a")
    await hook.entered
    const ran = world.probe.ran.length
    alice.call(2, "add", "b")
    alice.call(3, "add", "c")
    await alice.raw.flushed()
    assert.deepEqual(world.probe.ran.slice(ran), [])
    world.probe.onDeactivate = undefined
    hook.open()
    assert.deepEqual([(await alice.reply(2)).ok?.v, (await alice.reply(3)).ok?.v], [2, 3])
    assert.deepEqual(world.probe.ran.slice(ran, ran + 2), ["add b", "add c"])
    assert.deepEqual((await told(alice)).slice(0, 1), [["left", "idle"]])
    assert.deepEqual([alice.raw.all("detached"), alice.raw.all("attached").length], [[], 1])
    const bob = world.client("bob").lodger.get(key)
    assert.deepEqual(await bob.query.ids(), ["a", "b", "c"])
    assert.equal((await bob.query.ends())[0], "idle")
  },
)

behaviour(
  "a POP that dies while onDeactivate commits loses nothing that was acknowledged, and has the whole of it or none (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    for (const at of ["before", "after"] as const) {
      const key = `dies ${at}~${here.id}`
      const actor = `lodger/${key}`
      const alice = world.client(`alice ${at}`)
      // Its first call goes with the claim: the first commit is that of `onDeactivate`.
      const commit = here.store.hold({ op: "commit", actor, at })
      assert.equal(await alice.lodger.get(key).add("a"), 1)
      await within(10_000, "its commit", commit.reached)
      await here.crash()
      world.probe.onDeactivate = undefined
      await world.start(here.id)
      const bob = world.client(`bob ${at}`).lodger.get(key)
      assert.deepEqual(await bob.query.ids(), ["a"])
      assert.deepEqual((await bob.query.ends()).slice(0, 1), at === "before" ? [] : ["idle"])
    }
  },
)

behaviour(
  "onDeactivate does not run where a write has failed, and one whose own write fails leaves what was acknowledged (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `fails~${here.id}`
    const actor = `lodger/${key}`
    const alice = world.client("alice").lodger.get(key)
    // Its first call goes with the claim: the first commit is that of `onDeactivate`.
    const commit = here.store.hold({ op: "commit", actor, at: "before" })
    await alice.add("a")
    await within(10_000, "its commit", commit.reached)
    assert.deepEqual(endings(world), ["deactivate idle"])
    commit.fail(new Error("the disk refuses"))
    await here.events.until("activation.dropped", actor)
    assert.deepEqual(endings(world), ["deactivate idle"])
    assert.deepEqual(await alice.query.ids(), ["a"])
    assert.deepEqual(await alice.query.ends(), [])
  },
)

behaviour(
  "an actor does not sleep before what its action left to waitUntil is over; the reply does not wait, and what the work changes by a call is there (C45)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `works~${here.id}`
    const actor = `lodger/${key}`
    const work = held()
    world.probe.work = async (_, { lodger }) => {
      await work.enter()
      await lodger?.get(key)["add"]?.("by the work")
    }
    const alice = world.client("alice").lodger.get(key)
    assert.equal(await alice.work("a"), 1)
    // A turn that is rolled back has begun its work all the same.
    await assert.rejects(alice.workAndThrow("never"), { code: "ACTOR_ERROR" })
    await othersSlept(world, here)
    assert.deepEqual(here.events.of("actor.slept", actor), [])
    assert.equal(here.events.of("actor.activated", actor).length, 1)
    work.open()
    await here.events.until("actor.slept", actor)
    assert.equal(here.events.of("actor.activated", actor).length, 1)
    assert.deepEqual(await alice.query.ids(), ["a", "by the work", "by the work"])
    assert.deepEqual(here.events.of("work.failed"), [])
  },
)

behaviour(
  "an actor does not move before what its action left to waitUntil is over: who asks for it is served by relay, and has it afterwards (C45)",
  { pops: [3], limits: awake },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    for (const how of ["its client", "its owner"] as const) {
      const key = `at work, asked by ${how}~${bos.id}`
      const actor = `lodger/${key}`
      const work = held()
      world.probe.work = async (_, { lodger }) => {
        await work.enter()
        await lodger?.get(key)["add"]?.("by the work")
      }
      const alice = world.client("alice", bos).lodger.get(key)
      await alice.work("a")
      const bob = world.client("bob", fra).lodger.get(key)
      const moved = how === "its owner" ? bos.pop.move(lodgerOf(key), "fra") : undefined
      assert.equal(await within(10_000, "bob is served", bob.add("b")), 2)
      assert.deepEqual(await owners(world, actor), [bos.id])
      assert.equal(endings(world).length, how === "its client" ? 0 : 1)
      work.open()
      await moved
      await bos.events.until("actor.granted", actor)
      await settled(world, actor)
      assert.deepEqual(await owners(world, actor), [fra.id])
      assert.deepEqual(await bob.query.ids(), ["a", "b", "by the work"])
    }
  },
)

behaviour(
  "a turn that a move waits for and that leaves work keeps its actor until that is over (C45)",
  { pops: [3], limits: awake },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `on the way~${bos.id}`
    const actor = `lodger/${key}`
    const work = held()
    world.probe.work = () => work.enter()
    const alice = await world.session("alice", bos)
    await alice.attach(lodgerOf(key))
    await say(alice, 1, "add", "a")
    const working = held()
    world.probe.gate = () => working.enter()
    alice.call(2, "slowWork", "b")
    await working.entered
    const pulled = world.tap.seen(({ t, to }) => t === "PULL" && to === bos.id)
    const bob = world.client("bob", fra).lodger.get(key).add("c")
    await within(5_000, "the PULL", pulled)
    await world.tap.read(fra.id, bos.id)
    working.open()
    assert.equal(await within(10_000, "bob is served", bob), 3)
    assert.deepEqual(await owners(world, actor), [bos.id])
    assert.deepEqual(endings(world), [])
    // From now on nobody who asks waits for a turn to end, to be told that the actor stays.
    const turn = held()
    world.probe.gate = () => turn.enter()
    alice.call(3, "slow", "d")
    await turn.entered
    const carl = await world.session("carl", fra)
    assert.equal((await carl.attach(lodgerOf(key))).pop, bos.id)
    turn.open()
    await alice.reply(3)
    work.open()
    await bos.events.until("actor.granted", actor)
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), [fra.id])
  },
)

behaviour(
  "a POP that closes waits for what its actors' actions left to waitUntil, whose calls are still served (C45)",
  { limits: { goAwaySpreadMs: 10 } },
  async (world) => {
    const { here } = world
    const key = `stays on~${here.id}`
    const work = held()
    world.probe.work = async (_, { lodger }) => {
      await work.enter()
      await lodger?.get(key)["add"]?.("by the work")
    }
    const { pop } = here
    const alice = await world.session("alice")
    await alice.attach(lodgerOf(key))
    await say(alice, 1, "work", "a")
    alice.raw.cut()
    let closed = false
    const closing = pop.close().then(() => (closed = true))
    await here.events.until("node.draining")
    assert.equal(closed, false)
    work.open()
    await within(20_000, "the POP closes", closing)
    assert.deepEqual(here.events.of("work.failed"), [])
    await here.close()
    await world.start(here.id)
    assert.deepEqual(await world.client("bob").lodger.get(key).query.ids(), ["a", "by the work"])
  },
)

behaviour(
  "work that rejects, or does not settle within waitUntilMsMax, is reported with an id, and keeps its actor no longer (C45)",
  { limits: { idleMs: 40, waitUntilMsMax: 150 } },
  async (world) => {
    const { here } = world
    const key = `idles~${here.id}`
    const actor = `lodger/${key}`
    const never = held()
    world.probe.work = (id) => (id === "rejects" ? Promise.reject(new Error("no such host")) : never.enter())
    const alice = world.client("alice").lodger.get(key)
    await alice.work("rejects")
    const rejected = await here.events.until("work.failed", actor)
    assert.match(String(rejected["error"]), /no such host/)
    assert.deepEqual([rejected["what"], typeof rejected["ref"]], ["work", "string"])
    await here.events.until("actor.slept", actor)
    await alice.work("hangs")
    const late = (await here.events.until("work.failed", actor, 2))["error"] as { code: string; message: string }
    assert.equal(late.code, "CALL_TIMEOUT")
    assert.match(late.message, /waitUntilMsMax/)
    await here.events.until("actor.slept", actor, 2)
    never.open()
    assert.deepEqual(await alice.query.ids(), ["rejects", "hangs"])
  },
)

behaviour(
  "an action that leaves more work than waitUntilsPerActorMax is refused by name and rolled back (C45)",
  { limits: { ...awake, waitUntilsPerActorMax: 2 } },
  async (world) => {
    const work = held()
    world.probe.work = (id) => (id === "third" ? Promise.reject(new Error("unwanted")) : work.enter())
    const alice = world.client("alice").lodger.get(world.key())
    await alice.work("first")
    await alice.work("second")
    await assert.rejects(alice.work("third"), { code: "QUEUE_FULL", outcome: "not-executed" })
    // What was begun and is not waited for is reported like the rest.
    const actor = alice.actor.join("/")
    const failed = await Promise.any(world.seats.map(({ events }) => events.until("work.failed", actor)))
    assert.match(String(failed["error"]), /unwanted/)
    work.open()
    world.probe.work = undefined
    await alice.work("fourth")
    assert.deepEqual(await alice.query.ids(), ["first", "second", "fourth"])
  },
)
