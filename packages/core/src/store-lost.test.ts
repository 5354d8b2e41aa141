import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const app = setup({
  actors: {
    note: actor({
      state: () => ({ n: 0 }),
      alarms: {
        ring(c) {
          c.state.n++
          c.alarms.set("ring", { afterMs: 1_000 })
        },
      },
      actions: {
        begin: (c) => c.alarms.set("ring", { afterMs: 1_000 }),
        wait: () => new Promise<void>(() => undefined),
      },
    }),
  },
})

// Pins a defect: it refused its clients, and ran the alarms of what it had been restored to, beside those of the living history.
test("a POP that hears while it serves that its store is not the one that peers remember runs nothing any more", async () => {
  const clock = new VirtualClock()
  const at = linked(app, ["bos", "fra"], {
    clock,
    store: (store, pop) => {
      const remembered = new Map([["bos", { store: store.id, watermark: 0 }]])
      return pop === "bos" ? store : { ...store, peers: () => Promise.resolve(remembered) }
    },
  })
  const bos = at("bos")
  await bos.node.start()
  const { note } = bos.node.actors
  const begun = note.get("a~bos").begin()
  await clock.advance(5_500)
  await begun
  const waits = assert.rejects(note.get("b~bos").wait(), { code: "NOT_SERVING", outcome: "unknown" })
  await clock.advance(10)
  await at("fra").node.start()
  await clock.advance(1_000)
  assert.equal(bos.node.refusal()?.code, "STORE_LOST")
  await waits
  const written = bos.store.watermark()
  assert.equal(bos.node.stats().residents, 0)
  await clock.advance(60_000)
  assert.equal(bos.store.watermark(), written)
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
})
