import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { actor, setup } from "./actor.ts"
import { Arrivals, type ArrivalPorts } from "./arrivals.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { parseMeshMessage } from "./mesh-parse.ts"
import { Slots } from "./slots.ts"
import { bareHost } from "./testing/bare-host.ts"

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

// Pins a defect: the next epoch was no whole number, and the peer closed the link over its GRANT, with all else on it, each time it was said.
test("a grant whose epoch or revision comes of no history is not installed, and the largest one that may moves on", async () => {
  const store = memoryStore({ disk: memoryDisk("fra") })
  const sent: MeshMessage[] = []
  const events: string[] = []
  const host = bareHost("fra", app, store, {
    send: (_to, m) => sent.push(m) > 0,
    events: ({ type }) => void events.push(type),
  })
  const come = async (e: number, v: number): Promise<void> => {
    host.message("bos", { t: "GRANT", actor: "note/k", e, v, h: "", hops: 0, sizes: [-1] }, new Uint8Array(0))
    for (let i = 0; i < 20; i++) await setImmediate()
  }
  await come(Number.MAX_SAFE_INTEGER, 0)
  await come(1, Number.MAX_SAFE_INTEGER)
  assert.equal(await store.peek("note/k"), undefined)
  assert.deepEqual(events, ["mesh.refused", "mesh.refused"])
  await come(2 ** 52, 0)
  const pull = { t: "PULL", actor: "note/k", nonce: "n", origin: "bos", epoch: 0, hops: 0, relay: false } as const
  host.message("bos", pull, undefined)
  for (let i = 0; i < 20; i++) await setImmediate()
  const grant = sent.find(({ t }) => t === "GRANT")
  assert.deepEqual(parseMeshMessage(JSON.parse(JSON.stringify(grant))), grant)
  await host.stop()
})
