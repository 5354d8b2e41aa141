// Two devices of one user at two POPs, or two users of one actor: one POP owns it, the other serves by relay, and nobody pulls it to and fro.
import assert from "node:assert/strict"
import { patientLimits } from "./behaviours/limits.ts"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** A device with its own log of events, and what it called. `missed`: turns of the actor before it came. */
function device(world: World, name: string, at: Seat, key: string, missed = 0) {
  const client = world.client(name, at)
  const ledger = client.ledger.get(key)
  const seen: string[] = []
  const errors: unknown[] = []
  const own: string[] = []
  ledger.on("added", ({ id }) => seen.push(id))
  client.on("error", (error) => errors.push(error))
  return {
    client,
    ledger,
    missed,
    seen,
    errors,
    own,
    add(): Promise<{ n: number }> {
      const id = `${name} ${own.length}`
      own.push(id)
      return ledger.add(id)
    },
  }
}
type Device = ReturnType<typeof device>

/** Everything that any of them called was applied exactly once, in each one's order, and everybody saw all of it in the same order. */
async function servedOnce(devices: readonly Device[]): Promise<void> {
  const [first] = devices as [Device]
  const ids = await within(10_000, "the query", first.ledger.query.ids())
  for (const { own, seen, errors, ledger, missed } of devices) {
    assert.deepEqual(
      ids.filter((id) => own.includes(id)),
      own,
      "once, and in its order",
    )
    // A query's answer comes after the outputs before it.
    assert.deepEqual(await within(10_000, "the query", ledger.query.ids()), ids)
    assert.deepEqual(seen, ids.slice(missed), "every event once, in order")
    assert.deepEqual(errors, [])
  }
  assert.equal(
    ids.length,
    devices.reduce((sum, { own }) => sum + own.length, 0),
  )
}

async function epochOf(world: World, key: string): Promise<number> {
  const [owner, ...others] = await owners(world, `ledger/${key}`)
  assert.ok(owner !== undefined && others.length === 0, `one owner, not ${[owner, ...others].join(" and ")}`)
  const record = await world.seat(owner).record(`ledger/${key}`)
  return record?.e ?? -1
}

behaviour(
  "two devices that call in turn at two POPs: the actor stays with its owner, the other is relayed, and both are served exactly once (C24)",
  { pops: [3], limits: { ...patientLimits, followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `desk~${bos.id}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    const phone = device(world, "phone", fra, key, 1)
    await phone.ledger.ready()
    const epoch = await epochOf(world, key)
    for (let i = 0; i < 20; i++) {
      await within(5_000, "a call", (i % 2 === 0 ? phone : laptop).add())
      assert.equal(await epochOf(world, key), epoch, "no call moves it")
    }
    await within(
      10_000,
      "calls at once",
      Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? phone : laptop).add())),
    )
    assert.equal(await epochOf(world, key), epoch)
    for (const { ledger } of [laptop, phone]) assert.equal(ledger.pop, bos.id)
    await servedOnce([laptop, phone])
  },
)

behaviour(
  "an owner that was called within followQuietMs declines every arrival: devices that come back again and again do not move it (C24)",
  { pops: [3], limits: { ...patientLimits, followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    const key = `busy~${bos.id}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    const phone = device(world, "phone", fra, key, 1)
    await phone.ledger.ready()
    const epoch = await epochOf(world, key)
    for (let i = 0; i < 6; i++) {
      // A new socket each time: an arrival, which may move an actor that nobody else uses.
      const there = new Promise<void>((resolve) => {
        const undo = phone.client.on("status", ({ to }) => {
          if (to !== "connected") return
          undo()
          resolve()
        })
      })
      phone.client.switchTo((i % 2 === 0 ? nrt : fra).url)
      await within(5_000, "the phone is connected there", there)
      await within(5_000, "the phone is served", phone.add())
      await within(5_000, "the laptop is served", laptop.add())
      assert.equal(await epochOf(world, key), epoch)
    }
    const told = world.tap.notes.filter(({ t, actor }) => t === "RELAY_ME" && actor === `ledger/${key}`)
    assert.ok(told.length >= 7 && told.every(({ from }) => from === bos.id), "the owner alone decides")
    await servedOnce([laptop, phone])
  },
)

behaviour(
  "an owner whose other users are quiet lets the actor follow the device that arrives: one move an arrival, none by calls (C24)",
  { pops: [3], limits: { ...patientLimits, followQuietMs: 0.001 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `quiet~${bos.id}`
    const actor = `ledger/${key}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    assert.equal(await epochOf(world, key), 0)
    // The laptop has fallen silent: whatever comes after is later than followQuietMs.
    const later = await world.session("other", bos)
    await later.raw.flushed()
    await later.raw.close()
    const phone = device(world, "phone", fra, key, 1)
    await within(5_000, "the phone is served", phone.add())
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), [fra.id])
    const epoch = await epochOf(world, key)
    // Both go on for long: neither's calls, nor what follows from the move itself, move it again.
    for (let i = 0; i < 20; i++) await within(5_000, "a call", (i % 2 === 0 ? laptop : phone).add())
    await settled(world, actor)
    assert.equal(await epochOf(world, key), epoch)
    assert.equal(laptop.ledger.pop, fra.id)
    await servedOnce([laptop, phone])
  },
)

behaviour(
  "a relay survives the restart of the gateway that relays: its device is served exactly once across it, and misses nothing (C24)",
  { pops: [3], limits: { followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `gateway~${bos.id}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    const phone = device(world, "phone", fra, key, 1)
    await phone.add()
    assert.equal(phone.ledger.pop, bos.id)
    for (let i = 0; i < 3; i++) {
      // Some are on their way, some applied and not answered, some not sent.
      const during = [phone.add(), phone.add()]
      if (i === 1)
        await within(
          5_000,
          "it is passed on",
          world.tap.seen(({ t, from }) => t === "FRAME" && from === fra.id),
        )
      await fra.crash()
      during.push(phone.add(), laptop.add())
      await world.start(fra.id)
      during.push(phone.add())
      await within(15_000, "every call", Promise.all(during))
      assert.deepEqual(await owners(world, `ledger/${key}`), [bos.id])
    }
    await servedOnce([laptop, phone])
  },
)

behaviour(
  "a relay survives the restart of the owner: its device is served exactly once across it, and misses nothing (C24)",
  { pops: [3], limits: { followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const key = `owner~${bos.id}`
    const actor = `ledger/${key}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    const phone = device(world, "phone", fra, key, 1)
    await phone.add()
    assert.equal(phone.ledger.pop, bos.id)
    for (const at of ["before", "after", undefined] as const) {
      // As its write is about to be made, as it is made and nobody was told, and at once.
      const write = at && bos.store.hold({ op: "commit", actor, at })
      const during = [phone.add(), phone.add(), laptop.add()]
      if (write) await within(5_000, "the write", write.reached)
      await bos.crash()
      during.push(phone.add())
      await world.start(bos.id)
      during.push(phone.add(), laptop.add())
      await within(15_000, "every call", Promise.all(during))
      assert.equal((await owners(world, actor)).length, 1)
    }
    await servedOnce([laptop, phone])
  },
)

behaviour(
  "an actor that moves between two POPs while a third relays to it: the device there is served exactly once, and misses nothing (C24)",
  { pops: [3], limits: { followQuietMs: 60_000 } },
  async (world) => {
    const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
    const key = `under~${bos.id}`
    const laptop = device(world, "laptop", bos, key)
    await laptop.add()
    const phone = device(world, "phone", fra, key, 1)
    await phone.add()
    for (const [from, to] of [
      [bos, nrt],
      [nrt, bos],
      [bos, nrt],
    ] as const) {
      const during = [phone.add(), laptop.add()]
      const moved = from.pop.move(ledgerOf(key), to.id)
      during.push(phone.add(), laptop.add())
      await within(15_000, "the move", moved)
      during.push(phone.add(), laptop.add())
      await within(15_000, "every call", Promise.all(during))
      await settled(world, `ledger/${key}`)
      assert.deepEqual(await owners(world, `ledger/${key}`), [to.id])
    }
    await servedOnce([laptop, phone])
  },
)
