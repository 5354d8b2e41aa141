import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { Store } from "./store.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const app = setup({ actors: { note: actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } }) } })

for (const held of ["peek", "load"] as const)
  test(`what a stopped host's ${held} brings comes to nothing: no activation, no write, no timer`, async () => {
    const store = memoryStore({ disk: memoryDisk("bos") })
    let release = (): void => undefined
    const writes: string[] = []
    const slow: Store = {
      ...store,
      [held]: async (id: string) => {
        await new Promise<void>((resolve) => (release = resolve))
        return store[held](id)
      },
      claim: (...args) => {
        writes.push("claim")
        return store.claim(...args)
      },
    }
    const clock = new VirtualClock()
    // An actor that is nowhere else, and one that was looked for at the other POP.
    for (const pop of ["bos", "fra"]) {
      const host = bareHost(pop, app, slow, { clock, send: () => true })
      const told: string[] = []
      attachTo(host, "k", "s1", "add", (kind) => told.push(kind))
      await host.stop()
      const timers = clock.timers
      release()
      for (let i = 0; i < 20; i++) await setImmediate()
      assert.deepEqual(told, ["detached", "ended"])
      assert.equal(host.residents, 0)
      assert.equal(clock.timers, timers)
    }
    assert.deepEqual(writes, [])
    assert.equal(await store.peek("note/k"), undefined)
  })
