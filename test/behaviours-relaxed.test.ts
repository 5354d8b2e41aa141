// Actions that give up one thing: their reply does not wait until what they did is durable.
import assert from "node:assert/strict"
import { actor } from "@sojourn/core"
import { test } from "node:test"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, callBody, within, type Seat, type Session } from "./behaviours/world.ts"

const diaryOf = (key: string): readonly ["diary", string] => ["diary", key]

async function say(session: Session, c: number, action: string, ...args: unknown[]) {
  session.call(c, action, ...args)
  const { ok, relaxed } = await session.reply(c)
  return [ok?.v, relaxed]
}

/** Everything that is on its way to this session has come; then what it has been told, in order. */
async function told({ raw }: Session): Promise<string[]> {
  await raw.flushed()
  return raw.frames.flatMap((frame) => {
    if (frame.t === "reply") return [`reply ${frame.c}${frame.relaxed ? " relaxed" : ""}`]
    if (frame.t === "answer") return [`answer ${frame.q}`]
    return frame.t === "out" ? [`out ${frame.r}`] : []
  })
}

behaviour(
  "a relaxed reply leaves before its write and says so; events, live state, queries and later durable replies wait until it is durable (C34)",
  {},
  async (world) => {
    const { here } = world
    const key = `early~${here.id}`
    const actor = `diary/${key}`
    const alice = await world.session("alice")
    await alice.attach(diaryOf(key), { live: true })
    assert.deepEqual(await say(alice, 1, "add", "a"), [1, undefined])
    const far = world.seats.at(-1) as Seat
    const bob = await world.session("bob", far)
    const { r } = await bob.attach(diaryOf(key), { live: true, stay: true })
    const before = await told(alice)
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    assert.deepEqual(await say(alice, 2, "jot", "b"), [2, true])
    await within(5_000, "its write", write.reached)
    alice.call(3, "add", "c")
    alice.query(1, "ids", 3)
    bob.query(1, "ids")
    const carl = await world.session("carl")
    carl.sendAttach(diaryOf(key), { live: true })
    assert.deepEqual((await told(alice)).slice(before.length), ["reply 2 relaxed"])
    assert.deepEqual([await told(bob), await told(carl), carl.raw.all("attached")], [[], [], []])
    write.pass()
    await within(5_000, "the answers", Promise.all([alice.raw.find("answer"), bob.raw.find("answer")]))
    // Its own output follows its reply; everything else is in the order of the turns.
    assert.deepEqual((await told(alice)).slice(before.length), [
      "reply 2 relaxed",
      `out ${r + 1}`,
      `out ${r + 2}`,
      "reply 3",
      "answer 1",
    ])
    assert.deepEqual(await told(bob), [`out ${r + 1}`, `out ${r + 2}`, "answer 1"])
    assert.deepEqual((await within(5_000, "carl", carl.raw.find("attached"))).state?.v, { ids: ["a", "b", "c"] })
  },
)

behaviour(
  "a relaxed reply does not pass what waits for its own session, and has no mark where it was durable by then (C34)",
  {},
  async (world) => {
    const { here } = world
    const key = `after~${here.id}`
    const alice = await world.session("alice")
    await alice.attach(diaryOf(key))
    await say(alice, 1, "jot", "a")
    const bob = await world.session("bob")
    await bob.attach(diaryOf(key))
    const carl = await world.session("carl")
    await carl.attach(diaryOf(key), { live: true })
    const write = here.store.hold({ op: "commit", actor: `diary/${key}`, at: "before" })
    const before = await told(alice)
    alice.call(2, "add", "b")
    await within(5_000, "its write", write.reached)
    // The state that it follows has changed, and it has not been told.
    carl.call(1, "note", "h")
    assert.deepEqual(await told(carl), [])
    // What waits for another session is nothing to it.
    assert.deepEqual(await say(bob, 1, "note", "c"), [4, true])
    assert.deepEqual(await say(bob, 2, "note", "d"), [5, true])
    alice.call(3, "note", "e")
    assert.deepEqual(await told(alice), before)
    // Nor may it pass an event that comes to everybody.
    assert.deepEqual(await say(bob, 3, "jot", "f"), [7, true])
    bob.call(4, "note", "g")
    assert.deepEqual(await told(bob), ["reply 1 relaxed", "reply 2 relaxed", "reply 3 relaxed"])
    write.pass()
    const { relaxed } = await alice.reply(3)
    assert.equal(relaxed, undefined)
    assert.equal((await bob.reply(4)).relaxed, undefined)
    assert.deepEqual(
      (await told(bob)).slice(3).map((what) => what.replace(/\d+/, "")),
      ["out ", "reply "],
    )
    assert.deepEqual(
      alice.raw.all("reply").map(({ c }) => c),
      [1, 2, 3],
    )
  },
)

behaviour("a relaxed action that refuses, or changes nothing, is answered like any other (C34)", {}, async (world) => {
  const { here } = world
  const key = `plain~${here.id}`
  const alice = await world.session("alice")
  await alice.attach(diaryOf(key))
  await say(alice, 1, "add", "a")
  const check = here.store.hold({ op: "check", actor: `diary/${key}`, at: "before" })
  alice.call(2, "jotNothing")
  await within(5_000, "its check", check.reached)
  // What is read waits, and what follows it on its session.
  alice.call(3, "note", "b")
  assert.deepEqual(await told(alice), ["reply 1"])
  check.pass()
  assert.equal((await alice.reply(2)).relaxed, undefined)
  assert.equal((await alice.reply(3)).relaxed, undefined)
  const write = here.store.hold({ op: "commit", actor: `diary/${key}`, at: "before" })
  alice.call(4, "jotBadly")
  await within(5_000, "its write", write.reached)
  assert.equal((await told(alice)).includes("reply 4"), false)
  write.pass()
  const { err, relaxed } = await alice.reply(4)
  assert.deepEqual([err?.code, relaxed], ["ACTOR_ERROR", undefined])
})

behaviour(
  "the write of a relaxed action that fails drops the activation: what it did is gone, its caller's session goes on, and durable calls behind it are applied once (C34)",
  {},
  async (world) => {
    const { here } = world
    const key = `fails~${here.id}`
    const actor = `diary/${key}`
    const errors: unknown[] = []
    const relaxed: string[] = []
    const client = world.client("alice")
    client.on("error", (error) => errors.push(error))
    client.on("relaxed", ({ actor: [, of], action }) => relaxed.push(`${action} of ${of}`))
    const alice = client.diary.get(key)
    const shown: string[][] = []
    alice.state.subscribe(({ ids }) => shown.push([...ids]))
    assert.equal(await alice.add("a"), 1)
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    assert.equal(await alice.jot("b"), 2)
    assert.deepEqual(relaxed, [`jot of ${key}`])
    await within(5_000, "its write", write.reached)
    const behind = alice.add("c")
    write.fail(new Error("the disk refuses"))
    await here.events.until("activation.dropped", actor)
    assert.equal(await within(10_000, "the call behind it", behind), 2)
    assert.equal(await alice.jot("d"), 3)
    assert.deepEqual(await alice.query.ids(), ["a", "c", "d"])
    assert.deepEqual(shown.flat().includes("b"), false)
    assert.deepEqual(errors, [])
    assert.equal(world.probe.ran.filter((what) => what === "jot b").length, 1)
  },
)

behaviour(
  "a POP that dies right after relaxed replies takes back what they did and nothing that was durable, and their callers' sessions go on, moves included (C34)",
  { limits: { followQuietMs: 1 } },
  async (world) => {
    const { here } = world
    const key = `dies~${here.id}`
    const actor = `diary/${key}`
    const errors: unknown[] = []
    const client = world.client("alice")
    client.on("error", (error) => errors.push(error))
    const alice = client.diary.get(key)
    // One whose very first calls are lost, and one that has durable ones before.
    const bob = await world.session("bob")
    await bob.attach(diaryOf(key))
    assert.equal(await alice.add("a"), 1)
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    assert.equal(await alice.note("b"), 2)
    await within(5_000, "its write", write.reached)
    assert.deepEqual(await say(bob, 1, "note", "c"), [3, true])
    assert.deepEqual(await say(bob, 2, "note", "d"), [4, true])
    const behind = alice.add("e")
    await bob.raw.flushed()
    await here.crash()
    await world.start(here.id)
    assert.equal(await within(10_000, "the call behind them", behind), 2)
    const again = await world.session("bob")
    // The session that it had: it has had replies that this POP knows nothing of.
    again.raw.send({ t: "attach", ch: 1, actor: diaryOf(key), sid: bob.sid, acked: 2, live: false })
    await within(5_000, "bob attaches", again.raw.find("attached"))
    assert.deepEqual(await say(again, 3, "add", "f"), [3, undefined])
    again.call(3, "add", "f")
    assert.deepEqual(await alice.query.ids(), ["a", "e", "f"])
    assert.deepEqual(errors, [])
    if (world.seats.length === 1) return
    // What was relaxed moves like everything: a seal comes after its write.
    assert.equal(await alice.jot("g"), 4)
    await within(10_000, "the move", here.pop.move(diaryOf(key), world.home.id))
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), [world.home.id])
    assert.equal(await alice.jot("h"), 5)
    assert.deepEqual(await alice.query.ids(), ["a", "e", "f", "g", "h"])
    assert.deepEqual(errors, [])
  },
)

behaviour(
  "a relaxed call that is sent again while its write waits is run once, and answered when it is durable (C34)",
  {},
  async (world) => {
    const { here } = world
    const key = `again~${here.id}`
    const alice = await world.session("alice")
    await alice.attach(diaryOf(key))
    await say(alice, 1, "add", "a")
    const write = here.store.hold({ op: "commit", actor: `diary/${key}`, at: "before" })
    assert.deepEqual(await say(alice, 2, "jot", "b"), [2, true])
    await within(5_000, "its write", write.reached)
    const again = await world.session("alice")
    again.raw.send({
      t: "attach",
      ch: 1,
      actor: diaryOf(key),
      sid: alice.sid,
      acked: 1,
      live: false,
      calls: [callBody(2, "jot", "b")],
    })
    assert.deepEqual(await told(again), [])
    write.pass()
    const reply = await again.reply(2)
    assert.deepEqual([reply.ok?.v, reply.relaxed], [2, undefined])
    assert.equal(world.probe.ran.filter((what) => what === "jot b").length, 1)
  },
)

behaviour(
  "a relaxed reply on a new attach does not pass the reply of a call that runs since an older one of its session (C34)",
  {},
  async (world) => {
    const { here } = world
    const key = `older~${here.id}`
    const actor = `diary/${key}`
    const alice = await world.session("alice")
    await alice.attach(diaryOf(key))
    await say(alice, 1, "add", "a")
    const entered = Promise.withResolvers<void>()
    const gate = Promise.withResolvers<void>()
    world.probe.gate = () => {
      entered.resolve()
      return gate.promise
    }
    alice.call(2, "slow", "b")
    await within(5_000, "the turn begins", entered.promise)
    const again = await world.session("alice")
    const calls = [callBody(2, "slow", "b"), callBody(3, "note", "c")]
    again.raw.send({ t: "attach", ch: 1, actor: diaryOf(key), sid: alice.sid, acked: 1, live: false, calls })
    await within(5_000, "it is attached", again.raw.find("attached"))
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    gate.resolve()
    await within(5_000, "its write", write.reached)
    // A reply to 3 now, and a crash: its client would send 2 again, then 4, and that is a hole for ever.
    assert.deepEqual(await told(again), [])
    write.pass()
    await again.reply(3)
    assert.deepEqual(await told(again), ["reply 2", "reply 3"])
  },
)

behaviour(
  "the reply of a relaxed action that wakes its actor waits until the activation has claimed it, and never comes from one that has not (C34)",
  { limits: { idleMs: 40 } },
  async (world) => {
    const { here } = world
    for (const holds of [true, false]) {
      const key = `wakes ${holds}~${here.id}`
      const actor = `diary/${key}`
      const alice = await world.session("alice")
      await alice.attach(diaryOf(key))
      await say(alice, 1, "add", "a")
      await here.events.until("actor.slept", actor)
      // Its attach goes on over the sleep, and nothing waits for it.
      const before = await told(alice)
      const claim = here.store.hold({ op: "claim", actor, at: "before" })
      alice.call(2, "note", "b")
      await within(5_000, "its claim", claim.reached)
      assert.deepEqual(await told(alice), before)
      if (holds) {
        claim.pass()
        assert.equal((await alice.reply(2)).relaxed, undefined)
        continue
      }
      claim.fail(new Error("the disk refuses"))
      assert.equal((await alice.detached()).err.retry, "later")
      assert.deepEqual(alice.raw.all("reply").length, 1)
    }
  },
)

test("durability that names no action, or another word than relaxed, is refused where the class is defined (C34)", () => {
  const define = (durability: object) => actor({ state: () => ({}), actions: { jot: () => undefined }, durability })
  define({ jot: "relaxed" })
  for (const wrong of [{ jott: "relaxed" }, { jot: "lax" }, { jot: true }, { toString: "relaxed" }])
    assert.throws(() => define(wrong), /durability names actions that are "relaxed"/)
})
