// What a POP leaves behind that dies while it fetches or opens an actor, and what a line that works one way only leaves of a move.
import assert from "node:assert/strict"
import { SojournError } from "@sojourn/core"
import { behaviour, until, within, type World } from "./behaviours/world.ts"

/** The running POPs whose record of this actor says that they own it. */
async function owners(world: World, actor: string): Promise<string[]> {
  const found: string[] = []
  for (const seat of world.seats) if (seat.up && (await seat.record(actor))?.k === "OWNED") found.push(seat.id)
  return found
}

behaviour(
  "C4 a POP that dies while it opens an actor blocks nobody: the next process of it serves the call that was waiting",
  {},
  async (world) => {
    const { here } = world
    const key = `opens~${here.id}`
    const actor = `ledger/${key}`
    const ledger = world.client("alice").ledger.get(key)
    await ledger.add("a")
    await here.crash()
    await world.start(here.id)
    for (const [op, id] of [
      ["claim", "b"],
      ["commit", "c"],
    ] as const) {
      const held = here.store.hold({ op, actor, at: "after" })
      const call = ledger.add(id)
      await within(5_000, `the ${op} is done and nobody knows`, held.reached)
      await here.crash()
      await world.start(here.id)
      await within(8_000, "the call", call)
    }
    assert.deepEqual(await ledger.query.ids(), ["a", "b", "c"])
  },
)

behaviour(
  "C4 a POP that dies while it fetches an actor costs others a named, retryable error in bounded time, and serves when it is back",
  { pops: [3], stores: ["memory"] },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const [fra, bos] = [world.seat("fra"), world.seat("bos")]
    await world.client("alice", bos).ledger.get(key).add("a")
    // Sealed for `fra`, which dies with the grant in its hands.
    const install = fra.store.hold({ op: "install", actor, at: "before" })
    const moved = world.client("alice", fra).ledger.get(key)
    const call = moved.add("b")
    await within(5_000, "the install begins", install.reached)
    await fra.crash()
    const began = performance.now()
    const bob = await world.session("bob", bos)
    bob.sendAttach(["ledger", key])
    const { err } = await bob.detached()
    assert.ok(["POP_UNREACHABLE", "NOT_FOUND_YET"].includes(err.code), err.code)
    assert.deepEqual([err.retry, err.outcome], ["later", "not-executed"])
    // `locateMsMax` of these worlds, and what a busy machine adds.
    assert.ok(performance.now() - began < 8_000)
    assert.deepEqual(await owners(world, actor), [])
    await world.start("fra")
    await within(10_000, "the call", call)
    assert.deepEqual(await moved.query.ids(), ["a", "b"])
    assert.equal((await owners(world, actor)).length, 1)
  },
)

for (const [from, to, lost] of [
  ["bos", "fra", "GRANT"],
  ["fra", "bos", "PULL"],
] as const)
  behaviour(
    `C75 a line that carries nothing from ${from} to ${to} has no actor owned twice: its ${lost} is lost, nobody is told anything wrong, and it is served once when the line heals`,
    { pops: [3], stores: ["memory"] },
    async (world) => {
      const { tap } = world
      const key = `line~bos`
      const actor = `ledger/${key}`
      const alice = world.client("alice", world.seat("bos")).ledger.get(key)
      await alice.add("a")
      const epoch = (await world.seat("bos").record(actor))?.e ?? 0
      const heal = tap.drop((note) => note.from === from && note.to === to)
      const said = (): number =>
        tap.notes.filter((note) => note.from === from && note.t === lost && note.actor === actor).length
      const mover = world.client("bob", world.seat("fra")).ledger.get(key)
      const call = mover.add("b")
      let settled = false
      const watched = call.finally(() => (settled = true))
      // Said again, and lost again, for as long as the line is cut.
      await within(
        10_000,
        `the ${lost} is said, and again`,
        until(() => said() > 1),
      )
      assert.equal(settled, false)
      const cut = await owners(world, actor)
      assert.deepEqual(cut, lost === "GRANT" ? [] : ["bos"], "sealed and given away, or never asked for")
      heal()
      await within(15_000, "the call", watched)
      assert.deepEqual((await mover.query.ids()).sort(), ["a", "b"])
      assert.equal((await owners(world, actor)).length, 1)
      for (const seat of world.seats)
        assert.ok(((await seat.record(actor))?.e ?? 0) <= epoch + 1, "it moved once at most")
      assert.equal(world.probe.ran.filter((what) => what === "add b").length, 1)
    },
  )

behaviour(
  "C75 a POP that hears nothing of its store tells nobody anything, owns nothing twice, and serves from what is durable when the store is back",
  { pops: [1, 3], stores: ["memory"] },
  async (world) => {
    const { here } = world
    const key = `deaf~${here.id}`
    const actor = `ledger/${key}`
    const ledger = world.client("alice").ledger.get(key)
    await ledger.add("a")
    const watcher = await world.session("watcher")
    await watcher.attach(["ledger", key])
    for (const [at, error] of [
      // The write never came to the store, or it did and the answer was lost: the node cannot tell which.
      ["before", new SojournError("STORE_UNAVAILABLE")],
      ["after", new SojournError("UNKNOWN_OUTCOME")],
    ] as const) {
      const hold = here.store.hold({ op: ["commit", "check", "claim"], actor, at, every: true })
      let settled = false
      const call = ledger.add(at)
      const watched = call.finally(() => (settled = true))
      await within(5_000, "the commit is under way", hold.reached)
      const outs = watcher.raw.all("out").length
      await watcher.raw.flushed()
      assert.equal(settled, false, "no reply before its write is known to be durable")
      assert.equal(watcher.raw.all("out").length, outs, "and no event")
      hold.fail(error)
      // The client sends it again; what was applied is not applied again.
      await within(15_000, "the call", watched)
      assert.deepEqual(await owners(world, actor), [here.id])
    }
    assert.deepEqual(await ledger.query.ids(), ["a", "before", "after"])
  },
)
