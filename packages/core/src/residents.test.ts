import assert from "node:assert/strict"
import { test } from "node:test"
import { defaultLimits } from "./limits.ts"
import { Residents } from "./residents.ts"
import type { Slot } from "./slot.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// Each activation past `residentsMax` walked through all residents: with the default of 10,000 that was most of what it cost.
void test("room is made by whoever was used longest ago and is idle, without a walk through all each time", () => {
  let asked = 0
  const evicted: string[] = []
  const residents = new Residents(new VirtualClock(), { ...defaultLimits, residentsMax: 1_000 }, ({ id }) => {
    evicted.push(id)
  })
  const slots = Array.from({ length: 1_000 }, (_, i) => {
    const activation = {
      busy: false,
      lastUsed: (i * 7) % 1_000,
      get idle() {
        asked++
        return !this.busy
      },
    }
    const slot = { id: String(i), activation, state: { phase: { at: "resident" } } }
    residents.add(slot as unknown as Slot)
    return slot
  })
  const byUse = [...slots].sort((a, b) => a.activation.lastUsed - b.activation.lastUsed)
  const [first, second, third] = byUse
  assert.ok(first && second && third)
  assert.ok(residents.makeRoom())
  // What changes after the walk counts.
  second.activation.lastUsed = 2_000
  third.activation.busy = true
  for (let i = 0; i < 500; i++) {
    residents.remove(slots[Number(evicted.at(-1))] as unknown as Slot)
    residents.add({ id: `new ${i}`, activation: { idle: false, lastUsed: 3_000 }, state: {} } as unknown as Slot)
    assert.ok(residents.makeRoom())
  }
  const expected = byUse.filter((slot) => slot !== second && slot !== third).slice(0, 501)
  assert.deepEqual(
    evicted,
    expected.map(({ id }) => id),
  )
  assert.ok(asked < 20_000, `${asked} were asked`)
  for (const slot of slots) slot.activation.busy = true
  assert.equal(residents.makeRoom(), false)
})
