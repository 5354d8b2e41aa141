// Borders: where an actor's state may be, and which code may open it. POPs outside serve by relay and are searched for what they keep.
import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { owners, settled } from "./behaviours/settled.ts"
import { makeApp } from "./behaviours/app.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

type Bordered = "euro" | "citizen" | "closed" | "recluse"
const regions = ["us-east", "eu-central", "eu-west"]
/** An actor sleeps as soon as nobody uses it. */
const sleepy = { idleMs: 40 }

/** Text that is nowhere else. */
function marker(): string {
  return `MARK${randomBytes(12).toString("hex")}`
}

/** Calls through this POP with a client of its own that arrives there and leaves; returns its ticket. */
async function write(
  world: World,
  at: Seat,
  actor: readonly [Bordered, string],
  text: string,
  options: { who?: string; ticket?: string } = {},
): Promise<string> {
  const client = world.client(options.who ?? "anna@eu", at)
  if (options.ticket !== undefined) client.setTickets([{ actor, ticket: options.ticket }])
  const handle = client[actor[0]].get(actor[1])
  await within(10_000, `${at.id} serves ${actor.join("/")}`, handle.write(text))
  const ticket = handle.ticket ?? ""
  await client.close()
  await settled(world, actor.join("/"))
  return ticket
}

/** Neither this POP's files, nor any record that its store gives out, nor a message that it was sent holds a body or `text`. */
async function assertHoldsNothing(world: World, seat: Seat, texts: readonly string[]): Promise<void> {
  const bytes = seat.bytes()
  for (const text of texts) assert.equal(bytes.indexOf(text), -1, `${text} is stored at ${seat.id}`)
  for (const { actor } of await seat.store.inner.list({ limit: 1_000 })) {
    const stored = await seat.store.inner.load(actor)
    assert.equal(stored?.record.k, "PTR", `${actor} at ${seat.id}`)
    assert.deepEqual(stored?.body, { snapshot: undefined, entries: [] })
  }
  const bodies = world.tap.notes.filter(({ to, t }) => to === seat.id && /GRANT|PRECOPY|CHUNK/.test(t))
  assert.deepEqual(bodies, [], `no body was ever on its way to ${seat.id}`)
  assert.deepEqual(seat.events.of("actor.activated"), [])
  assert.deepEqual(seat.events.of("actor.arrived"), [])
}

behaviour(
  "C25 a POP outside the residency serves by relay and never holds a byte of the state, awake, asleep or after restarts",
  { pops: [3], regions, limits: sleepy },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    // Chosen by the hash: it lies inside, whatever the key.
    for (let i = 0; i < 8; i++) {
      const text = marker()
      await write(world, bos, ["euro", `anybody ${i}`], text)
      await assertHoldsNothing(world, bos, [text])
    }
    const actor = ["euro", world.key()] as const
    const id = actor.join("/")
    const texts = [marker(), marker(), marker(), marker(), marker()] as const
    const ticket = await write(world, bos, actor, texts[0])
    assert.deepEqual(await owners(world, id), ["nrt"])
    // Asleep: the owner has nothing in memory that would know better than its store.
    await nrt.events.until("actor.slept", id)
    const early = await world.session("anna@eu", bos, { ticket })
    await early.attach(actor, { ticket, calls: [{ c: 1, a: "write", p: { v: [texts[1]] } }] })
    assert.equal((await early.reply(1)).err, undefined)
    await assertHoldsNothing(world, bos, texts)
    assert.deepEqual(await owners(world, id), ["nrt"])
    // Inside it follows its user; a move to the outside is refused by name.
    await write(world, fra, actor, texts[2])
    assert.deepEqual(await owners(world, id), ["fra"])
    await write(world, bos, actor, texts[3], { ticket })
    assert.deepEqual(await owners(world, id), ["fra"])
    await fra.events.until("actor.slept", id)
    await assert.rejects(fra.pop.move(actor, "bos"), { code: "RESIDENCY_DENIED" })
    // Every question that was ever asked, asked again of everybody.
    for (const { t, to, frame } of [...world.tap.notes])
      if (t === "PULL") for (const from of world.seats) if (from.id !== to) world.tap.inject(from.id, to, frame)
    await settled(world, id)
    for (const seat of world.seats) await seat.crash()
    await world.start("bos", "fra", "nrt")
    await write(world, bos, actor, texts[4], { ticket })
    await assertHoldsNothing(world, bos, texts)
    const read = await world.client("anna@eu", bos).euro.get(actor[1]).query.read()
    assert.equal(read, texts.join(""))
    // The search finds what is there.
    for (const text of texts) assert.ok(fra.bytes().includes(text), "the state is stored where it may be")
  },
)

for (const where of [
  { pops: [1], regions: ["eu-central"] },
  { pops: [3], regions },
])
  behaviour(
    "C25 a residency by principal is evaluated once, by whoever brings the actor into being, and holds for everybody after",
    { ...where, limits: sleepy },
    async (world) => {
      const { home, here } = world
      const anna = "anna@eu"
      const actor = ["citizen", world.key()] as const
      const id = actor.join("/")
      const texts = [marker(), marker(), marker()] as const
      await write(world, here, actor, texts[0], { who: anna })
      assert.deepEqual(await owners(world, id), [home.id])
      await home.events.until("actor.slept", id)
      // Another principal, for whom it would have been another one.
      await write(world, here, actor, texts[1], { who: "bob@ap" })
      await home.crash()
      await world.start(home.id)
      await write(world, here, actor, texts[2], { who: "bob@ap" })
      assert.deepEqual(
        world.probe.ran.filter((what) => what.startsWith("residency")),
        [`residency ${actor[1]} ${anna}`],
      )
      assert.equal(await world.client(anna, here).citizen.get(actor[1]).query.read(), texts.join(""))
      if (world.seats.length === 1) return
      await assertHoldsNothing(world, here, texts)
      // Inside it goes where its user goes.
      await write(world, world.seat("fra"), actor, "!", { who: anna })
      assert.deepEqual(await owners(world, id), ["fra"])
    },
  )

for (const where of [
  { pops: [1], regions: ["eu-central"] },
  { pops: [3], regions },
])
  behaviour(
    "C25 an actor whose home is outside what its principal asks for is not created, anywhere; created where it may be, it is served",
    { ...where, limits: sleepy },
    async (world) => {
      const { home, here } = world
      const who = "zoe@ap"
      const key = world.key()
      const refused = world.client(who, here).citizen.get(key).write("x")
      await assert.rejects(refused, { code: "RESIDENCY_DENIED", outcome: "not-executed", message: /use create\(\)/ })
      await settled(world, `citizen/${key}`)
      for (const seat of world.seats) assert.equal(await seat.record(`citizen/${key}`), undefined, seat.id)
      // The function itself may refuse, and then nothing is there either.
      world.probe.onStep = () => {
        throw new Error("who are you?")
      }
      await assert.rejects(world.client("anna@eu", here).citizen.get(key).write("x"), { code: "INTERNAL" })
      world.probe.onStep = undefined
      for (const seat of world.seats) assert.equal(await seat.record(`citizen/${key}`), undefined, seat.id)
      // The same key for somebody whose law its home is in.
      await write(world, here, ["citizen", key], "y")
      assert.deepEqual(await owners(world, `citizen/${key}`), [home.id])
      if (world.seats.length === 1) return
      const elsewhere = world.client("anna@eu", here).euro.get("somebody~bos").write("x")
      await assert.rejects(elsewhere, { code: "RESIDENCY_DENIED" }, "a key cannot name a home outside")
      // From the POP outside, and at the same moment from several inside.
      const many = `crowd~${home.id}`
      await Promise.all(
        [here, ...world.seats].map((seat) => world.client("anna@eu", seat).citizen.get(many).write("z")),
      )
      assert.equal(await world.client("anna@eu", here).citizen.get(many).query.read(), "zzzz")
      await assertHoldsNothing(world, here, ["zzzz"])
    },
  )

behaviour(
  'C25 relay: "deny" refuses clients at POPs outside by name, whether the class or the actor says where it may be',
  { pops: [3], regions, limits: sleepy },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const text = marker()
    for (const name of ["closed", "recluse"] as const) {
      const key = world.key()
      await write(world, fra, [name, key], text)
      const denied = { code: "RESIDENCY_DENIED", retry: "never", outcome: "not-executed" }
      await assert.rejects(world.client("anna@eu", bos)[name].get(key).write("x"), denied)
      await assert.rejects(world.client("anna@eu", bos)[name].get(key).query.read(), denied)
      await assert.rejects(bos.pop.actors[name].get(key).write("x"), denied)
      assert.equal(await world.client("anna@eu", fra)[name].get(key).query.read(), text)
    }
    await assertHoldsNothing(world, bos, [text])
    const frames = world.tap.notes.filter(({ to, t }) => to === "bos" && t === "FRAME")
    for (const { frame } of frames) assert.ok(!Buffer.from(frame).includes(text), "nothing of it passed through")
  },
)

/** The POP stops being what it was, and comes back with this schema of `card`. */
async function redeploy(world: World, seat: Seat, schema: number): Promise<void> {
  await seat.crash()
  seat.code = makeApp(world.probe, schema)
  await world.start(seat.id)
}

const migrations = (world: World): string[] => world.probe.ran.filter((what) => what.startsWith("migrate"))

behaviour(
  "C38 old state under new code: the ladder runs once, in order, in one write that is also what clients see",
  { pops: [1, 3], limits: sleepy },
  async (world) => {
    const { home, here } = world
    const key = world.key()
    const id = `card/${key}`
    const client = world.client("anna", here)
    const card = client.card.get(key)
    assert.equal(await card.write("one "), 1)
    const watcher = world.client("watcher", here)
    const mirror = watcher.card.get(key)
    let seen: unknown
    mirror.state.subscribe((state) => (seen = state))
    assert.equal(await mirror.write("two "), 1)
    await settled(world, id)
    const at = (await owners(world, id))[0] as string
    for (const seat of world.seats) if (seat.id !== at) await redeploy(world, seat, 3)
    const owner = world.seat(at)
    await redeploy(world, owner, 3)
    assert.equal(await card.write("three"), 3)
    const whole = { schema: 3, steps: [1, 2], text: "one two three" }
    assert.deepEqual(await card.query.whole(), whole)
    assert.deepEqual(migrations(world), ["migrate 1", "migrate 2"])
    // Live state was not patched from the old one.
    await mirror.write("")
    assert.deepEqual(seen, whole)
    // Stored as it is: nothing runs again, from the journal or from a snapshot, here or where it moves to. With one client left there is
    // one place where it comes to rest.
    await Promise.all([client.close(), watcher.close()])
    for (let round = 0; round < 2; round++) {
      for (const seat of world.seats) await redeploy(world, seat, 3)
      const late = world.client("late", home)
      assert.deepEqual(await late.card.get(key).query.whole(), whole)
      await home.events.until("actor.slept", id, round + 1)
      await late.close()
    }
    assert.deepEqual(migrations(world), ["migrate 1", "migrate 2"])
  },
)

behaviour(
  "C38 a ladder that fails, or whose write does not land, leaves the stored state as it was; the next activation begins from it",
  { pops: [1, 3] },
  async (world) => {
    const { home } = world
    const key = world.key()
    const id = `card/${key}`
    assert.equal(await world.client("anna", home).card.get(key).write("old"), 1)
    await settled(world, id)
    const before = (await home.store.inner.load(id))?.body
    await redeploy(world, home, 3)
    world.probe.onStep = (what) => {
      if (what === "migrate 2") throw new Error("not this one")
    }
    for (let i = 0; i < 2; i++)
      await assert.rejects(world.client("anna", home).card.get(key).write("x"), {
        code: "MIGRATION_FAILED",
        outcome: "not-executed",
      })
    assert.deepEqual((await home.store.inner.load(id))?.body, before)
    world.probe.onStep = undefined
    // The POP dies while the result is being written.
    const lost = home.store.hold({ op: "claim", actor: id, at: "before" })
    const client = world.client("bob", home)
    const call = client.card.get(key).write(" new")
    await within(10_000, "the migration is about to be written", lost.reached)
    await home.crash()
    lost.fail(new Error("the process died"))
    await world.start(home.id)
    assert.deepEqual((await home.store.inner.load(id))?.body, before)
    assert.equal(await call, 3)
    assert.deepEqual(await client.card.get(key).query.whole(), { schema: 3, steps: [1, 2], text: "old new" })
    // Others, meanwhile: a failing ladder is that actor's affair alone.
    assert.equal(await client.card.get(world.key()).write("fresh"), 3)
  },
)

behaviour(
  "C26 a POP whose code knows a lower schema serves by relay: the owner does not give it the state, awake or asleep",
  { pops: [3], limits: sleepy },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    const key = world.key()
    const id = `card/${key}`
    await redeploy(world, nrt, 2)
    assert.equal(await world.client("anna", nrt).card.get(key).write("a"), 2)
    await nrt.events.until("actor.slept", id)
    const early = world.client("anna", bos)
    assert.equal(await early.card.get(key).write("b"), 2)
    await settled(world, id)
    assert.deepEqual(await owners(world, id), ["nrt"])
    assert.equal(await world.client("anna", fra).card.get(key).write("c"), 2)
    await settled(world, id)
    assert.deepEqual(await owners(world, id), ["nrt"])
    await assert.rejects(nrt.pop.move(["card", key], "bos"), { code: "SCHEMA_NEWER" })
    // It would come back to the new code there, whenever that is, and have the actor follow it.
    await early.close()
    // What the older code does know it may have, whoever's code is newer.
    const old = `old~${bos.id}`
    const first = world.client("anna", bos)
    assert.equal(await first.card.get(old).write("1"), 1)
    await first.close()
    await settled(world, `card/${old}`)
    await redeploy(world, bos, 2)
    assert.equal(await world.client("anna", fra).card.get(old).write("2"), 1)
    await settled(world, `card/${old}`)
    assert.deepEqual(await owners(world, `card/${old}`), ["fra"])
    // As soon as the code is new, the actor comes.
    await redeploy(world, fra, 2)
    assert.equal(await world.client("anna", fra).card.get(key).write("d"), 2)
    await settled(world, id)
    assert.deepEqual(await owners(world, id), ["fra"])
    assert.deepEqual(await world.client("anna", bos).card.get(key).query.whole(), {
      schema: 2,
      steps: [],
      text: "abcd",
    })
  },
)

behaviour(
  "C26 code that was rolled back below the stored schema leaves the bytes alone and says so; a POP with newer code fetches them",
  { pops: [1, 3] },
  async (world) => {
    const { home } = world
    const key = world.key()
    const id = `card/${key}`
    for (const seat of world.seats) await redeploy(world, seat, 2)
    assert.equal(await world.client("anna", home).card.get(key).write("kept"), 2)
    await settled(world, id)
    const before = (await home.store.inner.load(id))?.body
    await redeploy(world, home, 1)
    const session = await world.session("anna", home)
    session.sendAttach(["card", key], { calls: [{ c: 1, a: "write", p: { v: ["lost"] } }] })
    const { err } = await session.detached()
    assert.deepEqual([err.code, err.retry, err.outcome], ["SCHEMA_NEWER", "later", "not-executed"])
    assert.deepEqual((await home.store.inner.load(id))?.body, before)
    if (world.seats.length > 1) {
      const bos = world.seat("bos")
      assert.equal(await world.client("anna", bos).card.get(key).write("!"), 2)
      await settled(world, id)
      assert.deepEqual(await owners(world, id), ["bos"])
    } else {
      await redeploy(world, home, 2)
      assert.equal(await world.client("anna", home).card.get(key).write("!"), 2)
    }
    assert.deepEqual(await world.client("anna", world.here).card.get(key).query.whole(), {
      schema: 2,
      steps: [],
      text: "kept!",
    })
  },
)
