// What a move leaves of whoever uses the actor meanwhile, and of the actor itself when the move fails half way.
import assert from "node:assert/strict"
import type { SojournError } from "@sojourn/protocol"
import { patientLimits } from "./behaviours/limits.ts"
import { asleep, owners, settled } from "./behaviours/settled.ts"
import { behaviour, callBody, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** Turns of `slow` wait until the returned function is called; `entered` resolves as the first of them begins. */
function holdTurns(world: World): { entered: Promise<unknown>; open(): void } {
  const entered = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  world.probe.gate = () => {
    entered.resolve()
    return gate.promise
  }
  return {
    entered: within(5_000, "the turn begins", entered.promise),
    open() {
      world.probe.gate = undefined
      gate.resolve()
    },
  }
}

behaviour(
  "many actors move at once in both directions while two clients call each of them: every call is applied once, in its session's order (C13)",
  // Only their owners move them: no client's arrival does.
  { pops: [3], limits: { followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const perPop = 20
    const keys = [bos, fra].flatMap((seat) => Array.from({ length: perPop }, (_, i) => `m${i}~${seat.id}`))
    const [alice, bob] = [world.client("alice", bos), world.client("bob", fra)]
    const clients = [alice, bob]
    // The first call makes each its home's: whoever comes second is relayed.
    await Promise.all(keys.map((key, i) => (i < perPop ? alice : bob).ledger.get(key).add("first")))
    const say = (round: number): Promise<unknown>[] =>
      keys.flatMap((key) => clients.map((client, who) => client.ledger.get(key).add(`${who} ${round}`)))
    const calls = [...say(0), ...say(1)]
    const moves = keys.map((key, i) =>
      i < perPop ? bos.pop.move(ledgerOf(key), "fra") : fra.pop.move(ledgerOf(key), "bos"),
    )
    calls.push(...say(2), ...say(3))
    await within(30_000, "every move", Promise.all(moves))
    calls.push(...say(4))
    await within(30_000, "every call", Promise.all(calls))
    for (const [i, key] of keys.entries()) {
      const [first, ...ids] = await alice.ledger.get(key).query.ids()
      assert.equal(first, "first")
      for (const who of [0, 1])
        assert.deepEqual(
          ids.filter((id) => id.startsWith(`${who} `)),
          [0, 1, 2, 3, 4].map((round) => `${who} ${round}`),
        )
      assert.equal(ids.length, 10)
      await settled(world, `ledger/${key}`)
      assert.deepEqual(await owners(world, `ledger/${key}`), [i < perPop ? "fra" : "bos"])
    }
  },
)

behaviour(
  "many users travel at once in both directions, each with an actor: every call made on the way is applied once, in order (C13)",
  { pops: [3] },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const travellers = Array.from({ length: 30 }, (_, i) => {
      const [from, to] = i % 2 === 0 ? [bos, fra] : [fra, bos]
      const client = world.client(`user${i}`, from)
      return { client, to, ledger: client.ledger.get(world.key()) }
    })
    await Promise.all(travellers.map(({ ledger }) => ledger.add("at home")))
    const calls = travellers.map(async ({ client, to, ledger }) => {
      const before = [ledger.add("before 1"), ledger.add("before 2")]
      const arrived = new Promise((resolve) => client.on("moved", resolve))
      client.switchTo(to.url)
      return Promise.all([...before, ledger.add("after 1"), ledger.add("after 2"), arrived])
    })
    await within(30_000, "every call", Promise.all(calls))
    for (const { ledger, to } of travellers) {
      assert.deepEqual(await ledger.query.ids(), ["at home", "before 1", "before 2", "after 1", "after 2"])
      await settled(world, ledger.actor.join("/"))
      assert.deepEqual(await owners(world, ledger.actor.join("/")), [to.id])
    }
  },
)

behaviour(
  "a turn that runs when a move begins ends at the source first: its reply and its write precede the grant (C15)",
  { pops: [3], limits: { ...patientLimits, drainMsMax: 10_000 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `running~${bos.id}`
    const alice = await world.session("alice", bos)
    await alice.attach(ledgerOf(key))
    const turn = holdTurns(world)
    alice.call(1, "slow", "a")
    await turn.entered
    const from = world.tap.notes.length
    const pulled = world.tap.seen(({ t, to }) => t === "PULL" && to === bos.id)
    const bob = world.client("bob", fra)
    const served = bob.ledger.get(key).add("b")
    await within(5_000, "the PULL", pulled)
    await world.tap.read(fra.id, bos.id)
    await world.tap.read(bos.id, fra.id)
    assert.deepEqual(
      world.tap.notes.slice(from).filter(({ t }) => t === "GRANT"),
      [],
      "nothing is given away while the turn runs",
    )
    turn.open()
    const reply = await alice.reply(1)
    assert.equal(reply.err, undefined)
    assert.equal((await within(10_000, "bob is served", served)).n, 2)
    const grant = world.tap.notes.slice(from).find(({ t }) => t === "GRANT")
    assert.equal(grant?.head["v"], reply.r, "the grant holds what the turn wrote")
    assert.deepEqual(await bob.ledger.get(key).query.ids(), ["a", "b"])
  },
)

behaviour(
  "a turn that never ends is given up after drainMsMax with a named error, the move goes on, and the stuck turn can neither write nor send (C15, C18)",
  { pops: [3], limits: { drainMsMax: 200 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `stuck~${bos.id}`
    const actor = `ledger/${key}`
    const alice = await world.session("alice", bos)
    await alice.attach(ledgerOf(key), { live: true })
    alice.call(1, "add", "a")
    await alice.reply(1)
    const turn = holdTurns(world)
    alice.call(2, "slow", "never")
    await turn.entered
    const bob = world.client("bob", fra).ledger.get(key)
    const served = bob.add("b")
    const { err } = await alice.detached()
    assert.deepEqual([err.code, err.outcome], ["UNKNOWN_OUTCOME", "unknown"])
    assert.match(err.message, /drainMsMax/)
    assert.equal((await within(10_000, "bob is served", served)).n, 2)
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), [fra.id])
    const writes = bos.store.count("commit", actor)
    const frames = alice.raw.frames.length
    // Only now does the stuck turn end, with the actor long elsewhere.
    turn.open()
    await alice.raw.flushed()
    await bos.store.idle()
    assert.equal(bos.store.count("commit", actor), writes, "it writes nothing")
    assert.deepEqual(
      alice.raw.frames.slice(frames).filter(({ t }) => t !== "pong"),
      [],
      "it sends nothing",
    )
    assert.deepEqual(await bob.query.ids(), ["a", "b"])
    // Its caller sends it again, wherever the actor is: then it runs, once.
    alice.sendAttach(ledgerOf(key), { stay: true, acked: 1, calls: [callBody(2, "slow", "never")] })
    assert.equal((await alice.reply(2)).err, undefined)
    assert.deepEqual(await bob.query.ids(), ["a", "b", "never"])
  },
)

behaviour(
  "a turn that never ends does not keep its actor for ever without a move either: it is given up after turnMsMax, and the next call runs (C18)",
  { limits: { turnMsMax: 200 } },
  async (world) => {
    const key = world.key()
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key))
    const turn = holdTurns(world)
    alice.call(1, "slow", "never")
    await turn.entered
    const bob = world.client("bob").ledger.get(key)
    const waiting = bob.add("b")
    const { err } = await alice.detached()
    assert.deepEqual([err.code, err.outcome], ["UNKNOWN_OUTCOME", "unknown"])
    assert.match(err.message, /turnMsMax/)
    assert.equal((await within(10_000, "bob is served", waiting)).n, 1)
    const commits = world.here.store.count("commit", `ledger/${key}`)
    turn.open()
    await alice.raw.flushed()
    await world.here.store.idle()
    assert.equal(world.here.store.count("commit", `ledger/${key}`), commits)
    assert.deepEqual(alice.raw.all("reply"), [])
    assert.deepEqual(await bob.query.ids(), ["b"])
  },
)

behaviour(
  "a seal that the store refuses aborts the move: the actor stays with its owner and serves, and the next move succeeds (C16)",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `stays~${bos.id}`
    const actor = `ledger/${key}`
    const alice = world.client("alice", bos).ledger.get(key)
    await alice.add("a")
    const seal = bos.store.hold({ op: "pull", actor, at: "before" })
    const bob = await world.session("bob", fra)
    bob.sendAttach(ledgerOf(key))
    await within(5_000, "the seal", seal.reached)
    seal.fail(new Error("the disk refuses"))
    assert.equal((await bob.detached()).err.code, "STORE_UNAVAILABLE")
    assert.deepEqual(await owners(world, actor), [bos.id])
    assert.equal((await within(10_000, "alice is served", alice.add("b"))).n, 2)
    assert.equal(alice.pop, bos.id)
    // Nothing of the failed move is left to hinder the next.
    await within(10_000, "the next move", bos.pop.move(ledgerOf(key), fra.id))
    assert.deepEqual(await alice.query.ids(), ["a", "b"])
    assert.deepEqual(await owners(world, actor), [fra.id])
  },
)

behaviour(
  "a state that cannot be serialized at the source aborts the move: the actor stays with all that was acknowledged, and serves (C16)",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `unwritable~${bos.id}`
    const actor = `ledger/${key}`
    const alice = world.client("alice", bos).ledger.get(key)
    await alice.add("a")
    world.probe.leaf = new Date(7)
    await alice.plant()
    await alice.query.held()
    const leaf = world.probe.leaf as Date
    const unwritable = new Error("this cannot be written down")
    const toISOString = (): never => {
      throw unwritable
    }
    Object.defineProperty(leaf, "toISOString", { value: toISOString, configurable: true })
    const bob = await world.session("bob", fra)
    bob.sendAttach(ledgerOf(key))
    const { err } = await bob.detached()
    assert.equal(err.code, "INTERNAL")
    assert.doesNotMatch(JSON.stringify(bob.raw.frames), /written down/)
    const logged = bos.events.of("actor.failed", actor).find(({ ref }) => ref === err.ref)
    assert.equal(logged?.["error"], unwritable, "the log has it under the id that the client got")
    await assert.rejects(bos.pop.move(ledgerOf(key), fra.id), (error: SojournError) => error.code === "INTERNAL")
    assert.deepEqual(await owners(world, actor), [bos.id])
    assert.equal((await within(10_000, "alice is served", alice.add("b"))).n, 2)
    assert.equal(alice.pop, bos.id)
    // Nothing is left of the failed moves: once it can be written down, it can go.
    Reflect.deleteProperty(leaf, "toISOString")
    bob.sendAttach(ledgerOf(key))
    assert.equal((await within(10_000, "the next move", bob.raw.find("attached"))).pop, fra.id)
    assert.deepEqual(await alice.query.whole(), { n: 2, ids: ["a", "b"], blob: new Date(7) })
  },
)

behaviour(
  "a first state that throws at the POP that fetched the actor leaves an actor that can be made by the next call (C17)",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    // As it is installed, and when it is tried again from what was installed.
    let throws = 2
    world.probe.onState = () => {
      if (throws-- > 0) throw new Error("not today")
    }
    const bob = await world.session("bob", world.seat("fra"))
    bob.sendAttach(ledgerOf(key))
    const { err } = await bob.detached()
    assert.equal(err.code, "INTERNAL")
    const alice = world.client("alice").ledger.get(key)
    assert.equal((await within(10_000, "alice is served", alice.add("a"))).n, 1)
    await settled(world, `ledger/${key}`)
    assert.equal((await owners(world, `ledger/${key}`)).length, 1)
  },
)

behaviour(
  "once the target has confirmed, the source's store gives no way to read the state, before and after a restart (C28)",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `left~${bos.id}`
    const actor = `ledger/${key}`
    const alice = world.client("alice", bos).ledger.get(key)
    for (let i = 0; i < 5; i++) await alice.add(`a${i}`)
    const confirm = world.tap.catch(({ t, to }) => t === "CONFIRM" && to === bos.id)
    const moving = bos.pop.move(ledgerOf(key), fra.id)
    await within(5_000, "the confirm", confirm.reached)
    const kept = await bos.store.inner.load(actor)
    assert.equal(kept?.record.k, "GRANTED")
    assert.ok((kept.body.snapshot?.length ?? 0) > 0, "until then it is the only copy that is known to be durable")
    confirm.pass()
    await within(10_000, "the move", moving)
    const nothing = async (): Promise<void> => {
      const { inner } = bos.store
      // Nor does the memory store keep it where no operation would find it. (The LMDB store's own tests look into its tables.)
      const row = bos.disk.actors.get(actor)
      assert.deepEqual([row?.snapshot, row?.entries ?? []], [undefined, []])
      const loaded = await inner.load(actor)
      assert.deepEqual(loaded?.record, { k: "PTR", e: 1, to: fra.id })
      assert.deepEqual(loaded.body, { snapshot: undefined, entries: [] })
      for (const home of [true, false]) {
        const claimed = await inner.claim(actor, home)
        assert.deepEqual([claimed.kind, claimed.body], ["elsewhere", { snapshot: undefined, entries: [] }])
        for (const to of [fra.id, world.home.id])
          assert.deepEqual(await inner.pull(actor, home, to), { kind: "moved", to: fra.id, e: 1, inTransit: false })
      }
    }
    await nothing()
    await bos.crash()
    await world.start(bos.id)
    await nothing()
    // The pointer is all that is left, and it leads to the state.
    assert.deepEqual(await alice.query.ids(), ["a0", "a1", "a2", "a3", "a4"])
  },
)

behaviour("the named error of a failed move reaches the server's caller too (C16)", { pops: [3] }, async (world) => {
  const [bos, fra] = world.seats as [Seat, Seat, Seat]
  const key = `asked~${bos.id}`
  await world.client("alice", bos).ledger.get(key).add("a")
  await assert.rejects(fra.pop.move(ledgerOf(key), "nrt"), (error: SojournError) => error.code === "MOVED")
  assert.deepEqual(await owners(world, `ledger/${key}`), [bos.id])
})

behaviour(
  "an actor that leaves its POP asleep, while a late offer has sent that POP to look for it elsewhere, takes along whoever is attached: nothing is missed (C57)",
  { pops: [3], limits: { idleMs: 40, askMsMax: 20_000, locateMsMax: 20_000 } },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    const key = world.key()
    const actor = `ledger/${key}`
    await world.client("maker", nrt).ledger.get(key).add("a")
    // Of a move that has been over for long, and comes again.
    const offer = world.tap.catch(({ t, actor: id }) => t === "OFFER" && id === actor)
    const first = within(10_000, "the first move", nrt.pop.move(["ledger", key], "fra"))
    const { frame } = await within(5_000, "its offer", offer.reached)
    offer.pass()
    await first
    await settled(world, actor)
    const alice = world.client("alice", fra).ledger.get(key)
    const told = Promise.withResolvers<void>()
    alice.on("added", ({ id }) => {
      if (id === "there") told.resolve()
    })
    await alice.query.ids()
    await asleep(fra, actor)
    const asked = world.tap.catch(({ t, from, to }) => t === "PULL" && from === "fra" && to === "nrt")
    world.tap.inject("nrt", "fra", frame)
    await within(5_000, "it looks for the actor", asked.reached)
    await within(10_000, "the second move", fra.pop.move(["ledger", key], "bos"))
    asked.pass()
    await within(5_000, "a call there", world.client("carol", bos).ledger.get(key).add("there"))
    await within(5_000, "who was attached is told", told.promise)
  },
)
