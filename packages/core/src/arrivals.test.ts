import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { Arrivals, type ArrivalPorts } from "./arrivals.ts"
import { Slots } from "./slots.ts"

const app = setup({ actors: { note: actor({ state: () => ({}) }) } })

// Pins a defect: the slot had been opened before the body was looked at.
test("a grant whose sizes are not those of its bytes is refused, and leaves no slot", () => {
  const slots = new Slots({
    app,
    pop: "bos",
    homes: ["bos"],
    regions: new Map(),
    homeNow: (home) => ({ pop: home, role: true }),
  })
  const inputs: string[] = []
  const arrivals = new Arrivals({
    slots,
    transfers: { forget: () => undefined },
    input: (_slot: unknown, { type }: { type: string }) => inputs.push(type),
  } as Partial<Record<keyof ArrivalPorts, unknown>> as ArrivalPorts)
  const grant = { t: "GRANT", actor: "note/k", e: 2, v: 1, h: "", hops: 0 } as const
  assert.throws(() => arrivals.grant("fra", { ...grant, sizes: [7, 1] }, new Uint8Array(3)), { code: "BAD_FRAME" })
  assert.equal([...slots.all()].length, 0)
  arrivals.grant("fra", { ...grant, sizes: [2, 1] }, new Uint8Array(3))
  assert.deepEqual(inputs, ["grant"])
})
