import assert from "node:assert/strict"
import { test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
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

// They were numbered behind what the activation had run, not behind what waited in it, and their client was told that it had left some out.
void test("what comes while an actor drains that then stays is in its order behind what waited", async () => {
  const [first, second, work] = [0, 1, 2].map(() => Promise.withResolvers<undefined>())
  assert.ok(first && second && work)
  const note = actor({
    state: () => ({ n: 0 }),
    actions: {
      async first(c) {
        await first.promise
        c.waitUntil(work.promise)
        return ++c.state.n
      },
      async second(c) {
        await second.promise
        return ++c.state.n
      },
      third: (c) => ++c.state.n,
    },
  })
  const clock = new VirtualClock()
  const at = linked(setup({ actors: { note } }), ["bos", "fra"], { clock })
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
  await clock.advance(1_000)
  const { node } = at("bos")
  const said: ServerFrame[] = []
  const reader = node.acceptClient(
    { send: (text) => said.push(JSON.parse(text) as ServerFrame), buffered: () => 0, close: () => undefined },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = async (frame: object): Promise<void> => {
    reader.message(JSON.stringify(frame))
    await clock.advance(10)
  }
  await say({ t: "hello", client: "test", token: "ann" })
  const [welcome] = said.splice(0)
  assert.ok(welcome?.t === "welcome")
  await say({ t: "attach", ch: 1, actor: ["note", "k~bos"], sid: welcome.sessions[0], acked: 0, live: false })
  const call = { t: "call", ch: 1, p: { v: [] } }
  await say({ ...call, c: 1, a: "first" })
  await say({ ...call, c: 2, a: "second" })
  const moved = node.move(["note", "k~bos"], "fra")
  await clock.advance(10)
  await say({ ...call, c: 3, a: "third" })
  first.resolve(undefined)
  await clock.advance(100)
  second.resolve(undefined)
  await clock.advance(100)
  assert.deepEqual(
    said.map((frame) => (frame.t === "reply" ? frame.c : frame.t === "detached" ? frame.err.code : frame.t)),
    ["attached", 1, 2, 3],
  )
  work.resolve(undefined)
  await clock.advance(5_000)
  await moved.catch(() => undefined)
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
})
