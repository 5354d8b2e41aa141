import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// What a turn leaves to waitUntil keeps the actor, and onDeactivate is put off with the move. Between the drain that saw it and the seal it may
// end: a matter of some microtasks, whose number is no promise, so all are tried.
void test("an actor is not moved without its onDeactivate, whenever the work that its last turn left is over", async () => {
  for (let microtasks = 0; microtasks < 20; microtasks++) {
    const deactivated: string[] = []
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const work = async (): Promise<void> => {
      for (let i = 0; i < microtasks; i++) await Promise.resolve()
    }
    const note = actor({
      state: () => ({ n: 0 }),
      actions: {
        async add(c) {
          await promise
          c.waitUntil(work())
          return ++c.state.n
        },
      },
      queries: { n: (c) => c.state.n },
      onDeactivate(c, reason) {
        deactivated.push(`${c.pop} ${reason}`)
        c.state.n += 10
      },
    })
    const clock = new VirtualClock()
    const at = linked(setup({ actors: { note } }), ["bos", "fra"], { clock })
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
    await clock.advance(1_000)
    const { node } = at("bos")
    const call = node.actors.note.get("k~bos").add()
    await clock.advance(100)
    const moved = node.move(["note", "k~bos"], "fra")
    await clock.advance(100)
    assert.deepEqual(deactivated, [])
    resolve(undefined)
    await clock.advance(5_000)
    await moved
    assert.equal(await call, 1)
    assert.deepEqual(deactivated, ["bos moved"], `after ${microtasks} microtasks`)
    const n = at("fra").node.actors.note.get("k~bos").query.n()
    await clock.advance(100)
    assert.equal(await n, 11)
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  }
})
