// When an actor sleeps, when it must not, and what comes while it falls asleep.
import assert from "node:assert/strict"
import { SojournError, type Grant } from "@sojourn/core"
import { asleep, owners } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]
const sleepy = { limits: { idleMs: 40 } }

/**
 * Resolves when this POP has looked for idle actors several times since: others have been used and fallen asleep one after another, each
 * after `idleMs`.
 */
async function othersSlept(world: World, at: Seat, times = 3): Promise<void> {
  const client = world.client("other", at)
  for (let i = 0; i < times; i++) {
    const key = `other${at.events.all.length}~${at.id}`
    await client.ledger.get(key).add("once")
    await at.events.until("actor.slept", `ledger/${key}`)
  }
}

behaviour(
  "a busy actor does not sleep: a turn that runs and calls that wait keep it awake (C44)",
  sleepy,
  async (world) => {
    const { here } = world
    const key = `busy~${here.id}`
    const actor = `ledger/${key}`
    const entered = Promise.withResolvers<void>()
    const gate = Promise.withResolvers<void>()
    world.probe.gate = () => {
      entered.resolve()
      return gate.promise
    }
    const alice = world.client("alice").ledger.get(key)
    const calls = [alice.slow("a"), alice.add("b")]
    await within(5_000, "the turn begins", entered.promise)
    await othersSlept(world, here)
    assert.deepEqual(here.events.of("actor.slept", actor), [])
    gate.resolve()
    await within(5_000, "the calls", Promise.all(calls))
    assert.equal(here.events.of("actor.activated", actor).length, 1, "one activation served them")
    // Then it may.
    await here.events.until("actor.slept", actor)
  },
)

behaviour("an actor whose write is under way does not sleep (C44)", sleepy, async (world) => {
  const { here } = world
  const key = `writing~${here.id}`
  const actor = `ledger/${key}`
  const alice = world.client("alice").ledger.get(key)
  await alice.add("a")
  const write = here.store.hold({ op: "commit", actor, at: "before" })
  const call = alice.add("b")
  await within(5_000, "the write", write.reached)
  const slept = here.events.of("actor.slept", actor).length
  await othersSlept(world, here)
  assert.equal(here.events.of("actor.slept", actor).length, slept)
  write.pass()
  assert.equal((await within(5_000, "the call", call)).n, 2)
  await here.events.until("actor.slept", actor, slept + 1)
})

behaviour(
  "clients that are attached and quiet do not keep an actor awake, at its POP or through a relay, and live state does not either (C44)",
  { limits: { idleMs: 40, followQuietMs: 60_000 } },
  async (world) => {
    const { here } = world
    const key = `quiet~${here.id}`
    const actor = `ledger/${key}`
    const far = world.seats.at(-1) as Seat
    const quiet = [await world.session("one"), await world.session("two", far)]
    await quiet[0]?.attach(ledgerOf(key), { live: true })
    await quiet[1]?.attach(ledgerOf(key), { live: true, stay: true })
    await here.events.until("actor.slept", actor)
    // It sleeps while both stay attached, and wakes for whoever calls, here or there; both see it.
    for (const [c, caller] of quiet.entries()) {
      caller.call(1, "add", `call ${c}`)
      const { r } = await caller.reply(1)
      for (const one of quiet)
        await within(
          5_000,
          "the output",
          one.raw.find("out", (out) => out.r === r),
        )
      await asleep(here, actor)
    }
    for (const { raw } of quiet)
      assert.deepEqual([raw.all("detached"), raw.all("moved"), raw.all("attached").length], [[], [], 1])
  },
)

behaviour(
  "a call that arrives while its actor falls asleep is served by the next activation, once, whether or not the last write of the old one held (C46)",
  sleepy,
  async (world) => {
    const { here } = world
    for (const holds of [true, false]) {
      const key = `falling ${holds}~${here.id}`
      const actor = `ledger/${key}`
      const alice = await world.session("alice")
      await alice.attach(ledgerOf(key))
      const snapshot = here.store.hold({ op: "compact", actor, at: "before" })
      alice.call(1, "add", "a")
      await alice.reply(1)
      await within(10_000, "it falls asleep", snapshot.reached)
      const activated = here.events.of("actor.activated", actor).length
      const ran = world.probe.ran.length
      alice.call(2, "add", "b")
      alice.query(1, "ids", 2)
      await alice.raw.flushed()
      assert.deepEqual(world.probe.ran.slice(ran), [], "the activation that ends runs nothing more")
      if (holds) snapshot.pass()
      else snapshot.fail(new Error("the disk refuses"))
      if (holds) {
        assert.equal(((await alice.reply(2)).ok?.v as { n: number }).n, 2)
        const answer = await within(5_000, "the query", alice.raw.find("answer"))
        assert.deepEqual(answer.ok?.v, ["a", "b"])
        assert.deepEqual(alice.raw.all("detached"), [])
      } else {
        // Told to come back, it does; what it had sent is applied once.
        const { err } = await alice.detached()
        assert.equal(err.retry, "later")
        alice.sendAttach(ledgerOf(key), { acked: 1, calls: [{ c: 2, a: "add", p: { v: ["b"] } }] })
        assert.equal(((await alice.reply(2)).ok?.v as { n: number }).n, 2)
      }
      assert.equal(here.events.of("actor.activated", actor).length, activated + 1)
      assert.equal(world.probe.ran.filter((what) => what === "add b").length, holds ? 1 : 2)
    }
  },
)

behaviour(
  "calls of many clients that arrive just as their actors fall asleep are each applied once (C46)",
  // No longer than a call takes: actors fall asleep between any two.
  { limits: { idleMs: 10 } },
  async (world) => {
    const ledgers = Array.from({ length: 8 }, (_, i) =>
      world.client(`user${i}`).ledger.get(`nodding${i % 4}~${world.home.id}`),
    )
    for (let round = 0; round < 6; round++) {
      await within(10_000, "the calls", Promise.all(ledgers.map((ledger, i) => ledger.add(`${i} ${round}`))))
      // It has slept once more than rounds have passed, at the least.
      await world.here.events.until("actor.slept", `ledger/nodding0~${world.home.id}`, round + 1)
    }
    for (const [i, ledger] of ledgers.entries()) {
      const ids = await ledger.query.ids()
      assert.equal(ids.length, 12)
      assert.deepEqual(
        ids.filter((id) => id.startsWith(`${i} `)),
        [0, 1, 2, 3, 4, 5].map((round) => `${i} ${round}`),
      )
    }
  },
)

for (const when of ["awake", "asleep"] as const)
  behaviour(
    `C32 a seal that lands late, while its actor is ${when} here with a client attached, leaves nobody behind: the next call is served where the actor went`,
    { pops: [3], limits: { ...sleepy.limits, followQuietMs: 60_000 } },
    async (world) => {
      const { home } = world
      const key = world.key()
      const actor = `ledger/${key}`
      const alice = world.client("alice", home).ledger.get(key)
      const events: string[] = []
      alice.on("added", ({ id }) => events.push(id))
      // Awake, it does not get to sleep before the seal has landed.
      const compacts = when === "awake" ? home.store.hold({ op: "compact", actor, at: "before" }) : undefined
      await alice.add("a")
      const to = world.seats.find(({ id }) => id !== home.id) as Seat
      const land = async (): Promise<Grant> => {
        const answer = await home.store.inner.pull(actor, true, to.id)
        assert.ok(answer.kind === "grant")
        return { ...answer.record, body: answer.body }
      }
      if (when === "awake") await land()
      compacts?.pass()
      await within(
        5_000,
        "its sleep",
        home.events.until(when === "awake" ? "activation.dropped" : "actor.slept", actor),
      )
      if (when === "asleep") {
        // The grant has got there without anybody here having said it, and the actor is at work there when this POP asks for it.
        await to.store.inner.install(actor, false, await land(), undefined)
        const entered = Promise.withResolvers<void>()
        const gate = Promise.withResolvers<void>()
        world.probe.gate = () => {
          entered.resolve()
          return gate.promise
        }
        const there = world.client("bob", to).ledger.get(key).slow("there")
        await within(5_000, "the turn begins", entered.promise)
        const declined = world.tap.seen(({ t, from }) => t === "RELAY_ME" && from === to.id)
        const call = alice.add("b")
        await within(5_000, "the owner stays", declined)
        gate.resolve()
        await within(10_000, "the calls", Promise.all([there, call]))
      } else await within(10_000, "the call", alice.add("b"))
      assert.deepEqual(events, ["a", "b"])
      assert.deepEqual(await owners(world, actor), [to.id])
    },
  )

for (const when of ["awake", "asleep"] as const)
  behaviour(
    `C32 a POP that finds a seal of unknown outcome landed, while its actor is ${when} here, sends whoever is attached after it`,
    { pops: [3], limits: { idleMs: when === "awake" ? 60_000 : 40, resendMsMax: 2_000 } },
    async (world) => {
      const { home } = world
      const key = world.key()
      const actor = `ledger/${key}`
      const to = world.seats.find(({ id }) => id !== home.id) as Seat
      const alice = world.client("alice", home).ledger.get(key)
      const told = Promise.withResolvers<void>()
      alice.on("added", ({ id }) => {
        if (id === "there") told.resolve()
      })
      await alice.add("a")
      const seal = home.store.hold({ op: "pull", actor, at: "before" })
      const bob = await world.session("bob", to)
      bob.sendAttach(ledgerOf(key))
      await within(5_000, "the seal begins", seal.reached)
      seal.fail(new SojournError("UNKNOWN_OUTCOME"))
      await bob.detached()
      const slept = home.events.of("actor.slept", actor).length
      assert.equal((await within(5_000, "a call after the doubt", alice.add("b"))).n, 2)
      if (when === "asleep") await home.events.until("actor.slept", actor, slept + 1)
      // Now it lands. Nobody asks for the actor here: its home finds out by looking.
      const installed = to.store.hold({ op: "install", actor, at: "after" })
      assert.equal((await home.store.inner.pull(actor, true, to.id)).kind, "grant")
      await within(5_000, "the grant gets there", installed.reached)
      installed.pass()
      await within(5_000, "a call there", world.client("carol", to).ledger.get(key).add("there"))
      await within(5_000, "who was attached sees it", told.promise)
      assert.deepEqual(await owners(world, actor), [to.id])
    },
  )
