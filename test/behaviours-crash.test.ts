// Moves while POPs die, and POPs that die with clients attached, in one process: every step of a move is a point at which source, target
// or both are killed. What is left of a killed POP is what its disk had acknowledged. behaviours-kill.test.ts does the same to processes.
import assert from "node:assert/strict"
import { test, describe } from "node:test"
import type { MeshNote, StoreOp, StorePoint } from "@sojourn/testkit"
import { behaviour, callBody, createWorld, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** A moment in a move from bos to fra of an actor whose home is nrt. */
interface Step {
  readonly name: string
  /** Resolves at that moment, which then lasts; `undo` ends it for whoever survives. */
  arm(world: World, actor: string): { readonly reached: Promise<unknown>; undo(): void }
}

const inStore = (name: string, pop: string, op: StoreOp, at: StorePoint): Step => ({
  name,
  arm(world, actor) {
    const hold = world.seat(pop).store.hold({ op, actor, at })
    return { reached: hold.reached, undo: () => hold.pass() }
  },
})
/** The message is lost, and whoever is to die dies as it is. */
const onMesh = (name: string, t: string, from: string, to: string): Step => ({
  name,
  arm(world, actor) {
    const caught = world.tap.catch(
      (note: MeshNote) => note.t === t && note.actor === actor && note.from === from && note.to === to,
    )
    return { reached: caught.reached, undo: () => caught.drop() }
  },
})

const steps: readonly Step[] = [
  onMesh("before the PULL arrives", "PULL", "fra", "bos"),
  inStore("before the seal", "bos", "pull", "before"),
  inStore("after the seal, before the GRANT is sent", "bos", "pull", "after"),
  onMesh("as the GRANT is lost", "GRANT", "bos", "fra"),
  inStore("before the install", "fra", "install", "before"),
  inStore("after the install, before the CONFIRM is sent", "fra", "install", "after"),
  onMesh("as the CONFIRM is lost", "CONFIRM", "fra", "bos"),
  inStore("before the CONFIRM is written", "bos", "confirm", "before"),
  inStore("after the CONFIRM is written, before it is acknowledged", "bos", "confirm", "after"),
  onMesh("as the HOMEUPD is lost", "HOMEUPD", "fra", "nrt"),
  inStore("before home has written where the actor is", "nrt", "learn", "before"),
]

/** From the restart to the last reply: searches, re-sent grants and reconnects of this world, on a busy machine. */
const recoveryMsMax = 8_000

/** `late`: they die only when all that they had sent by then has arrived. */
async function killAt(world: World, step: Step, victims: readonly string[], late: boolean, key: string): Promise<void> {
  const actor = `ledger/${key}`
  const [bos, fra, nrt] = ["bos", "fra", "nrt"].map((id) => world.seat(id)) as [Seat, Seat, Seat]
  const alice = world.client("alice", bos)
  const ledger = alice.ledger.get(key)
  const ids = ["a", "b", "c"]
  for (const id of ids) await ledger.add(id)
  // Where the actor is before the move is known to everyone, so that the steps are those of this move.
  for (let i = 0; i < 2; i++) {
    for (const [from, to] of [
      ["nrt", "bos"],
      ["bos", "nrt"],
    ] as const)
      await world.tap.read(from, to)
    await Promise.all(world.seats.map(({ store }) => store.idle()))
  }
  const moment = step.arm(world, actor)
  alice.switchTo(fra.url)
  const calls = ["d", "e"].map((id) => {
    ids.push(id)
    return ledger.add(id)
  })
  await within(10_000, `the moment comes: ${step.name}`, moment.reached)
  if (late)
    for (const from of [bos, fra])
      for (const to of [bos, fra, nrt]) if (from !== to) await within(5_000, "a read", world.tap.read(from.id, to.id))
  await Promise.all(victims.map((id) => world.seat(id).crash()))
  moment.undo()
  await world.start(...victims)
  const replies = await within(recoveryMsMax, "the calls are answered", Promise.all(calls))
  assert.deepEqual(
    replies.map(({ n }) => n),
    [4, 5],
  )
  assert.deepEqual(await ledger.query.ids(), ids, "everything acknowledged is there, once, in order")
  // Served from elsewhere too: by somebody without any hint, at the home.
  const bob = world.client("bob", nrt)
  assert.equal((await within(recoveryMsMax, "bob is served", bob.ledger.get(key).add("f"))).n, 6)
  await alice.close()
  await bob.close()
  // The traveller's own move may be under way only now: the token is an owner, or a grant that nobody has installed (I1).
  const records = await Promise.all(world.seats.map((seat) => seat.record(actor)))
  const tokens = records.filter(
    (record) =>
      record?.k === "OWNED" ||
      (record?.k === "GRANTED" && !records.some((other) => other && other.k !== "GRANTED" && other.e >= record.e)),
  )
  assert.equal(tokens.length, 1, "one owner")
}

for (const store of ["memory", "lmdb"] as const)
  describe(`C19 a POP killed at any step of a move loses nothing acknowledged, doubles nothing, and the actor is served again (${store}, 3 POPs)`, () => {
    let count = 0
    for (const step of steps)
      for (const [who, victims, late] of [
        ["the source", ["bos"], false],
        ["the target", ["fra"], false],
        ["the target, a little later,", ["fra"], true],
        ["both", ["bos", "fra"], false],
        ["both, a little later,", ["bos", "fra"], true],
      ] as const)
        test(`C19 ${who} killed ${step.name} (${store})`, { timeout: 60_000 }, async () => {
          await using world = await createWorld({ store, pops: 3 })
          await killAt(world, step, victims, late, `c19-${++count}~nrt`)
        })
  })

behaviour(
  "C50 a process that dies after the commit and before the reply: the call sent again gets the original reply",
  {},
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const { here, probe } = world
    const alice = world.client("alice").ledger.get(key)
    await alice.add("a")
    const write = here.store.hold({ op: "commit", actor, at: "after" })
    const call = alice.add("b")
    await within(5_000, "the commit is durable", write.reached)
    const original = probe.returned.at(-1)
    await here.crash()
    await world.start(here.id)
    assert.deepEqual(await within(8_000, "the reply", call), original)
    assert.equal(probe.ran.filter((one) => one === "add b").length, 1)
    assert.deepEqual(await alice.query.ids(), ["a", "b"])
  },
)

behaviour(
  "C50 the original reply also comes when the first turn of an actor just fetched died with its POP",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const fra = world.seat("fra")
    const alice = world.client("alice", world.seat("bos"))
    const ledger = alice.ledger.get(key)
    await ledger.add("a")
    // Install, claim and this turn are one write.
    const write = fra.store.hold({ op: "install", actor, at: "after" })
    alice.switchTo(fra.url)
    const call = ledger.add("b")
    await within(5_000, "the install is durable", write.reached)
    const original = world.probe.returned.at(-1)
    await fra.crash()
    await world.start("fra")
    assert.deepEqual(await within(8_000, "the reply", call), original)
    assert.equal(world.probe.ran.filter((one) => one === "add b").length, 1)
    assert.deepEqual(await ledger.query.ids(), ["a", "b"])
  },
)

behaviour(
  "C61 a POP killed with clients attached: they resume when it is back, and miss nothing",
  {},
  async (world) => {
    const key = world.key()
    const { here } = world
    const clients = Array.from({ length: 12 }, (_, i) => {
      const ledger = world.client(`user${i}`).ledger.get(key)
      const seen: string[] = []
      const resumes: string[] = []
      ledger.on("added", ({ id }) => seen.push(id))
      ledger.onResume((how) => resumes.push(how))
      return { ledger, seen, resumes }
    })
    await Promise.all(clients.map(({ ledger }) => ledger.ready()))
    const before = await Promise.all(clients.map(({ ledger }, i) => ledger.add(`a${i}`)))
    // Calls are under way as it dies.
    const during = clients.map(({ ledger }, i) => ledger.add(`b${i}`))
    await here.crash()
    const after = clients.map(({ ledger }, i) => ledger.add(`c${i}`))
    await world.start(here.id)
    const all = [...before, ...(await within(10_000, "every call", Promise.all([...during, ...after])))]
    assert.deepEqual(
      all.map(({ n }) => n).sort((a, b) => a - b),
      Array.from({ length: 36 }, (_, i) => i + 1),
    )
    const ids = await clients[0]?.ledger.query.ids()
    for (const { ledger, seen, resumes } of clients) {
      // A query comes after what was sent before it.
      await ledger.query.ids()
      assert.deepEqual(seen, ids, "every event once and in order, whatever the position at the crash")
      assert.deepEqual(
        resumes.filter((how) => how !== "new" && how !== "replay"),
        [],
      )
      assert.ok(resumes.length >= 2)
    }
  },
)

behaviour(
  "C61 a POP killed for good: clients of actors that are elsewhere resume through another POP",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    // The owner is fra: its own client calls all the time, so that it declines to let the actor go.
    const owner = world.client("owner", world.seat("fra")).ledger.get(key)
    await owner.add("a")
    const relayed = await world.session("relayed", world.seat("bos"))
    const { pop, r } = await relayed.attach(ledgerOf(key), { stay: true })
    assert.equal(pop, "fra")
    relayed.call(1, "add", "b")
    const reply = await relayed.reply(1)
    await world.seat("bos").crash()
    await within(5_000, "the socket ends", relayed.raw.closed)
    await owner.add("c")
    const next = await world.session("relayed", world.seat("nrt"))
    next.raw.send({
      t: "attach",
      ch: 1,
      actor: ledgerOf(key),
      sid: relayed.sid,
      acked: 0,
      pos: r,
      live: false,
      stay: true,
      calls: [callBody(1, "add", "b"), callBody(2, "add", "d")],
    })
    const attached = await within(8_000, "the attach", next.raw.find("attached"))
    assert.deepEqual([attached.resumed, attached.last, attached.pop], ["replay", 1, "fra"])
    assert.deepEqual((await next.reply(1)).ok, reply.ok)
    assert.equal(((await next.reply(2)).ok?.v as { n: number }).n, 4)
    assert.deepEqual(await owner.query.ids(), ["a", "b", "c", "d"])
    assert.deepEqual(
      next.raw.all("out").map(({ ev }) => (ev?.[0]?.[1].v as { id: string }).id),
      ["b", "c", "d"],
    )
  },
)
