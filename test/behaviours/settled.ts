import assert from "node:assert/strict"
import { within, type Seat, type World } from "./world.ts"

/** Resolves when every hand-off of this actor is over: confirmed, home told, nothing under way. */
export async function settled(world: World, actor: string): Promise<void> {
  for (let i = 0; i < 3; i++) {
    for (const a of world.seats)
      for (const b of world.seats)
        if (a !== b && a.up && b.up) await within(5_000, "a read", world.tap.read(a.id, b.id))
    for (const seat of world.seats) if (seat.up) await seat.store.idle()
  }
  for (const seat of world.seats) {
    if (!seat.up) continue
    const record = await seat.record(actor)
    assert.notEqual(record?.k, "GRANTED", `${seat.id} still waits for a confirm`)
  }
}

/** The POPs whose record says that they own this actor. */
export async function owners(world: World, actor: string): Promise<string[]> {
  const records = await Promise.all(world.seats.map((seat) => seat.record(actor)))
  return world.seats.filter((_, i) => records[i]?.k === "OWNED").map(({ id }) => id)
}

/** Resolves when the actor sleeps at this POP, where it has been awake: at once if it does. */
export async function asleep({ events }: Seat, actor: string): Promise<void> {
  const last = events.all.findLast(
    (event) => event.actor === actor && ["actor.activated", "actor.arrived", "actor.slept"].includes(event.type),
  )
  if (last?.type !== "actor.slept") await events.until("actor.slept", actor, events.of("actor.slept", actor).length + 1)
}
