import assert from "node:assert/strict"
import { within, type World } from "./world.ts"

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
