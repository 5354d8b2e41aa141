// Alarms of whole POPs, over both stores. What is due is looked up in the store, so a test that holds the look decides when an alarm is
// noticed, and nothing here depends on how fast the machine is.
import assert from "node:assert/strict"
import type { StoreHold } from "@sojourn/testkit"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]
const limits = { alarmLookMsMax: 20, alarmRetryMs: 20, alarmRetryMsMax: 200 }

/** Until it passes, this POP does not see what is due. */
function blind(seat: Seat): StoreHold {
  return seat.store.hold({ op: "due", at: "before", every: true })
}

/** Handlers that were entered: which alarm, at which POP. `at` resolves with the `n`th. */
function watchAlarms(world: World, fails = 0): { rung: string[]; nth(n: number): Promise<void> } {
  const rung: string[] = []
  const waiting = new Set<() => void>()
  world.probe.onAlarm = (id, pop) => {
    rung.push(`${id} at ${pop}`)
    for (const look of [...waiting]) look()
    if (rung.length <= fails) throw new Error("the handler fails")
  }
  return {
    rung,
    nth: (n) =>
      within(
        10_000,
        `alarm ${n} rings`,
        new Promise((resolve) => {
          const look = (): void => {
            if (rung.length >= n) resolve()
          }
          waiting.add(look)
          look()
        }),
      ),
  }
}

behaviour(
  "an alarm wakes an actor that sleeps, and its effect is there once (C41)",
  { limits: { ...limits, idleMs: 100 } },
  async (world) => {
    const { here } = world
    const { rung, nth } = watchAlarms(world)
    const ledger = world.client("alice").ledger.get(world.key())
    const actor = ledger.actor.join("/")
    await ledger.add("first")
    const hold = blind(here)
    const slept = here.events.of("actor.slept", actor).length
    await ledger.remind(1, "tea")
    await here.events.until("actor.slept", actor, slept + 1)
    hold.pass()
    await nth(1)
    assert.deepEqual(await ledger.query.ids(), ["first", "tea"])
    assert.deepEqual(rung, [`tea at ${here.id}`])
  },
)

behaviour(
  "an alarm that became due while its POP was down runs when it is up, without any client (C41)",
  { limits },
  async (world) => {
    const { here } = world
    const { rung, nth } = watchAlarms(world)
    const key = world.key()
    const client = world.client("alice")
    await client.ledger.get(key).add("first")
    await settled(world, `ledger/${key}`)
    blind(here)
    await client.ledger.get(key).remind(1, "tea")
    await client.close()
    await here.crash()
    assert.deepEqual(rung, [])
    await world.start(here.id)
    await nth(1)
    assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["first", "tea"])
    assert.deepEqual(rung, [`tea at ${here.id}`])
  },
)

behaviour(
  "a POP that dies before an alarm's commit runs it again, and its effect is there once (C41)",
  { limits },
  async (world) => {
    const { here } = world
    const { rung, nth } = watchAlarms(world)
    const key = world.key()
    const client = world.client("alice")
    await client.ledger.get(key).add("first")
    const hold = blind(here)
    await client.ledger.get(key).remind(1, "tea")
    await client.close()
    const commit = here.store.hold({ op: "commit", actor: `ledger/${key}`, at: "before" })
    hold.pass()
    await within(10_000, "the alarm's commit", commit.reached)
    await here.crash()
    await world.start(here.id)
    await nth(2)
    assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["first", "tea"])
    assert.deepEqual(rung, [`tea at ${here.id}`, `tea at ${here.id}`])
  },
)

behaviour(
  "alarms are set and taken away as their turn commits, and not at all where it throws (C42)",
  { limits },
  async (world) => {
    const { rung, nth } = watchAlarms(world)
    const ledger = world.client("alice").ledger.get(world.key())
    await ledger.add("first")
    const hold = blind(world.here)
    await ledger.remind(1, "kept")
    await assert.rejects(ledger.remindAndThrow(1, "never", "kept"), { code: "ACTOR_ERROR" })
    await ledger.remind(2, "last")
    hold.pass()
    await nth(2)
    assert.deepEqual(await ledger.query.ids(), ["first", "kept", "last"])
    assert.deepEqual(rung, [`kept at ${world.here.id}`, `last at ${world.here.id}`])
  },
)

behaviour(
  "a handler that fails runs again until it does not, over a crash too; each time it is said, and it leaves nothing (C43)",
  { limits },
  async (world) => {
    const { here } = world
    const { rung, nth } = watchAlarms(world, 4)
    const key = world.key()
    const actor = `ledger/${key}`
    await world.client("alice").ledger.get(key).remind(1, "tea")
    await nth(2)
    await here.store.idle()
    await here.crash()
    await world.start(here.id)
    await nth(5)
    assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["tea"])
    const failures = here.events.of("alarm.failed", actor)
    assert.equal(failures.length, 4)
    assert.equal(rung.length, 5)
    for (const { alarm, id } of failures) assert.deepEqual([alarm, id], ["ring", "tea"])
  },
)

behaviour(
  "an alarm that is due while its actor moves runs at the new place alone, whoever looks where (C30, C41)",
  { pops: [3], limits },
  async (world) => {
    const [bos] = world.seats as [Seat, Seat, Seat]
    const { rung, nth } = watchAlarms(world)
    const key = world.key()
    const actor = `ledger/${key}`
    const ledger = world.client("alice", bos).ledger.get(key)
    await ledger.add("first")
    await settled(world, actor)
    const hold = blind(bos)
    await ledger.remind(1, "tea")
    // Sealed, and nobody has been told: from here on it must not run at bos.
    const sealed = bos.store.hold({ op: "pull", actor, at: "after" })
    const moved = bos.pop.move(ledgerOf(key), "fra")
    await within(10_000, "the seal", sealed.reached)
    await within(10_000, "bos looks", hold.reached)
    const looked = bos.store.hold({ op: "due", at: "after" })
    hold.pass()
    await within(10_000, "bos has looked", looked.reached)
    looked.pass()
    await bos.record(actor)
    assert.deepEqual(rung, [], "a sealed actor is due nowhere")
    sealed.pass()
    await within(10_000, "the move", moved)
    await nth(1)
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), ["fra"])
    assert.deepEqual(rung, ["tea at fra"])
    assert.deepEqual(await ledger.query.ids(), ["first", "tea"])
  },
)

behaviour(
  "a grantee that died with its client gone takes the actor with its alarm, unasked, and runs it (C30, C41)",
  { pops: [3], limits },
  async (world) => {
    const [bos, fra] = world.seats as [Seat, Seat, Seat]
    const { rung, nth } = watchAlarms(world)
    const key = world.key()
    const actor = `ledger/${key}`
    const alice = world.client("alice", bos)
    await alice.ledger.get(key).add("first")
    await settled(world, actor)
    const hold = blind(bos)
    await alice.ledger.get(key).remind(1, "tea")
    const installing = fra.store.hold({ op: "install", actor, at: "before" })
    alice.switchTo(fra.url)
    await within(10_000, "the grant comes", installing.reached)
    await alice.close()
    await fra.crash()
    // It may have been entered in the activation that died with its POP, before its install: nothing of that is left.
    const before = rung.length
    await world.start("fra")
    await nth(before + 1)
    hold.pass()
    await settled(world, actor)
    assert.deepEqual(await owners(world, actor), ["fra"])
    assert.ok(
      rung.every((one) => one === "tea at fra"),
      rung.join(", "),
    )
    assert.deepEqual(await world.client("bob", bos).ledger.get(key).query.ids(), ["first", "tea"])
  },
)
