// Several POPs want one actor at once, and pointers that lead nowhere: whoever calls is served by the one owner, and notices nothing.
import assert from "node:assert/strict"
import type { Client } from "@sojourn/client"
import type { App } from "./behaviours/app.ts"
import { patientLimits } from "./behaviours/limits.ts"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

/** Two clients at each POP call at once, five times each; every call has an outcome of its own. */
async function race(world: World, key: string, has: readonly string[]): Promise<void> {
  const racers: { client: Client<App>; seat: Seat; errors: unknown[] }[] = []
  for (const seat of world.seats)
    for (const i of [1, 2]) {
      const client = world.client(`${seat.id}${i}`, seat)
      const errors: unknown[] = []
      client.on("error", (error) => errors.push(error))
      client.connect()
      racers.push({ client, seat, errors })
    }
  const calls = racers.map(async ({ client, seat }, i) => {
    const ledger = client.ledger.get(key)
    const replies = await Promise.all([1, 2, 3, 4, 5].map((c) => ledger.add(`${seat.id}${i} ${c}`)))
    return replies.map(({ n }) => n)
  })
  const numbers = await within(20_000, "every racer is served", Promise.all(calls))
  const count = racers.length * 5
  assert.deepEqual(
    numbers.flat().sort((a, b) => a - b),
    Array.from({ length: count }, (_, i) => has.length + i + 1),
    "each call is one step of the same actor",
  )
  // Calls of one session in their order.
  for (const one of numbers)
    assert.deepEqual(
      one,
      [...one].sort((a, b) => a - b),
    )
  for (const { errors } of racers) assert.deepEqual(errors, [], "nobody is told of the race")
  const ids = await within(10_000, "the query", racers[0]?.client.ledger.get(key).query.ids() ?? Promise.resolve([]))
  assert.equal(ids.length, has.length + count)
  assert.equal(new Set(ids).size, ids.length)
  assert.deepEqual(ids.slice(0, has.length), has)
  await settled(world, `ledger/${key}`)
  assert.equal((await owners(world, `ledger/${key}`)).length, 1, "one owner")
}

behaviour(
  "POPs racing to create one actor: one wins, and all callers are served by it, unaware (C3)",
  {},
  async (world) => {
    // With its home among the racers, and its home elsewhere than at the first of them.
    for (const seat of world.seats) await race(world, `created~${seat.id}`, [])
  },
)

behaviour(
  "POPs racing to fetch one actor: one wins, and all callers are served by it, unaware (C3)",
  {},
  async (world) => {
    for (const seat of world.seats) {
      const key = `fetched~${seat.id}`
      const before = world.client("before", seat)
      for (const id of ["a", "b"]) await before.ledger.get(key).add(id)
      await before.close()
      await race(world, key, ["a", "b"])
    }
  },
)

/** A client of its own calls through this POP, and leaves. */
async function call(world: World, at: Seat, key: string, id: string): Promise<string | undefined> {
  const client = world.client("caller", at)
  const ledger = client.ledger.get(key)
  await within(10_000, `${at.id} serves ${id}`, ledger.add(id))
  const { pop } = ledger
  await client.close()
  await settled(world, `ledger/${key}`)
  return pop
}

behaviour(
  "a pointer to a dead POP heals itself on the next call: the actor is found through its home, and the dead one is asked no more (C7)",
  { pops: [3], limits: { ...patientLimits, askMsMax: 300 } },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    const key = world.key()
    const actor = `ledger/${key}`
    await call(world, bos, key, "at bos")
    await call(world, fra, key, "at fra")
    await call(world, nrt, key, "at nrt")
    assert.deepEqual(await bos.record(actor), { k: "PTR", e: 2, to: "fra" })
    // What bos might have heard since is gone with its memory: only the record points, and it points to the dead.
    await bos.crash()
    await fra.crash()
    await world.start("bos")
    const first = await world.session("first", bos)
    const attached = await first.attach(["ledger", key], { stay: true })
    assert.equal(attached.pop, "nrt")
    const from = world.tap.notes.length
    const second = await world.session("second", bos)
    assert.equal((await second.attach(["ledger", key], { stay: true })).pop, "nrt")
    const asked = world.tap.notes.slice(from).filter(({ t }) => t === "PULL")
    assert.deepEqual(
      asked.map(({ to }) => to),
      ["nrt"],
    )
    assert.equal(await call(world, bos, key, "at bos again"), "bos")
    assert.deepEqual(await world.client("x").ledger.get(key).query.ids(), [
      "at bos",
      "at fra",
      "at nrt",
      "at bos again",
    ])
  },
)

behaviour(
  "a pointer into a ring or to a POP that never had the actor heals itself on the next call (C7)",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    await call(world, world.home, key, "a")
    const lie = (to: string, at: string, e: number): void => {
      const head = Buffer.from(
        JSON.stringify({ t: "MOVED", actor, nonce: "none", to: at, e, inTransit: false, hops: 0 }),
      )
      const frame = Buffer.alloc(5 + head.length)
      frame[0] = 2
      frame.writeUInt32BE(head.length, 1)
      head.copy(frame, 5)
      world.tap.inject(to === "nrt" ? "bos" : "nrt", to, frame)
    }
    const ids = ["a"]
    for (const [at, to] of [
      ["bos", "fra"],
      ["fra", "bos"],
      ["bos", "fra"],
    ] as const) {
      // The caller's POP takes one for the owner that is not; that one, the caller's.
      lie(at, to, 40)
      lie(to, at, 41)
      await settled(world, actor)
      ids.push(`from ${at} ${ids.length}`)
      await call(world, world.seat(at), key, ids.at(-1) as string)
      assert.equal((await owners(world, actor)).length, 1)
    }
    assert.deepEqual(await world.client("x").ledger.get(key).query.ids(), ids)
  },
)

behaviour(
  "a POP restarted with its old records strands no actor, whatever they say and wherever the actors went meanwhile (C8)",
  {},
  async (world) => {
    const bos = world.seat("bos")
    const several = world.seats.length > 1
    const away = several ? world.seats.slice(1) : []
    const keys: string[] = []
    const grow = async (name: string, home: Seat, ...at: Seat[]): Promise<string> => {
      const key = `${name}~${home.id}`
      keys.push(key)
      for (const seat of at) await call(world, seat, key, `at ${seat.id}`)
      return key
    }
    // Owned here, never used, and, with others: gone from here, granted from here and not confirmed, told of here as home.
    await grow("owned", bos, bos)
    await grow("unused", bos)
    for (const other of away) {
      await grow(`gone to ${other.id}`, bos, bos, other)
      await grow(`foreign at ${other.id}`, other, bos)
      await grow(`foreign gone to ${other.id}`, other, bos, other)
    }
    const granted = several ? await grow("granted", world.home, bos) : undefined
    if (granted === undefined) {
      await bos.crash()
      await world.start("bos")
    } else {
      const [fra, nrt] = away as [Seat, Seat]
      // Its confirm is lost, and with bos down it moves on.
      const deaf = world.tap.drop(({ t, to }) => to === "bos" && t === "CONFIRM")
      const owner = world.client("caller", fra)
      await owner.ledger.get(granted).add("at fra")
      assert.equal((await bos.record(`ledger/${granted}`))?.k, "GRANTED")
      await owner.close()
      await bos.crash()
      deaf()
      const next = world.client("caller", nrt)
      next.setTickets(owner.tickets())
      await within(10_000, "it moves on", next.ledger.get(granted).add("at nrt"))
      await next.close()
      // Nobody calls: the grant that it finds in its store is ended by itself.
      const confirmed = world.tap.seen(
        ({ t, to, actor }) => t === "CONFIRM" && to === "bos" && actor === `ledger/${granted}`,
      )
      await world.start("bos")
      await within(5_000, "the old grant is confirmed", confirmed)
      await settled(world, `ledger/${granted}`)
      assert.deepEqual(await bos.record(`ledger/${granted}`), { k: "PTR", e: 2, to: "fra" })
    }
    for (const key of keys) {
      // Without any hint, from each POP in turn.
      const before = await world.client("reader").ledger.get(key).query.ids()
      for (const seat of world.seats) await call(world, seat, key, `later at ${seat.id}`)
      assert.deepEqual(await world.client("x").ledger.get(key).query.ids(), [
        ...before,
        ...world.seats.map(({ id }) => `later at ${id}`),
      ])
      assert.equal((await owners(world, `ledger/${key}`)).length, 1)
    }
    if (granted !== undefined)
      assert.deepEqual((await world.client("x").ledger.get(granted).query.ids()).slice(0, 3), [
        "at bos",
        "at fra",
        "at nrt",
      ])
  },
)
