import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { describe, test } from "node:test"
import { callsOf, setUp, watch } from "./testing/set-up.ts"

describe("C66 close", () => {
  const states: Record<string, (s: ReturnType<typeof setUp>) => Promise<void>> = {
    idle: async () => {},
    connecting: async ({ world, client, run }) => {
      world.stalled = true
      void client.list.get("a").push("x")
      await run()
    },
    connected: async ({ world, client, run }) => {
      await Promise.all([client.list.get("a").ready(), run()])
      world.socket.held = true
      void client.list.get("a").push("x")
      void client.list.get("a").query.size()
      await run()
    },
    reconnecting: async ({ world, client, run }) => {
      await Promise.all([client.list.get("a").ready(), run()])
      world.unreachable.add("ws://bos")
      world.socket.cut()
      void client.list.get("a").push("x")
      await run()
    },
    moving: async ({ client, run }) => {
      await Promise.all([client.list.get("a").ready(), run()])
      client.switchTo("ws://fra")
    },
    suspended: async ({ world, client, run, show }) => {
      await Promise.all([client.list.get("a").ready(), run()])
      show(false)
      world.socket.cut()
      await run()
    },
    failed: async ({ world, client, run }) => {
      await Promise.all([client.list.get("a").ready(), run()])
      world.socket.cut(4502)
      await run()
    },
  }
  for (const [name, reach] of Object.entries(states))
    test(`C66 in status ${name} leaves no timer, socket, watcher or unhandled rejection`, async () => {
      const unhandled: unknown[] = []
      const listener = (reason: unknown): void => void unhandled.push(reason)
      process.on("unhandledRejection", listener)
      const s = setUp()
      await reach(s)
      assert.equal(s.client.status, name)
      const closed = s.client.close()
      await s.run()
      await closed
      await s.client.close()
      assert.equal(s.client.status, "closed")
      assert.equal(s.clock.timers, 0)
      assert.ok(s.world.sockets.every((socket) => socket.isClosed))
      assert.equal(s.watched(), 0)
      assert.equal(watch(s.client.list.get("a").push("late")).how(), "pending")
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(unhandled, [])
      process.off("unhandledRejection", listener)
    })

  test("C66 with three sockets on the way from POP to POP all are closed, and waited for", async () => {
    const { world, client, run, clock } = setUp()
    await Promise.all([client.list.get("a").ready(), run()])
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    client.switchTo("ws://nrt")
    await run()
    assert.deepEqual(
      world.sockets.map((socket) => socket.isOpen),
      [true, true, true],
    )
    const closed = watch(client.close())
    assert.equal(closed.how(), "pending")
    await run()
    assert.equal(closed.how(), "= undefined")
    assert.ok(world.sockets.every((socket) => socket.closedBy === "client"))
    assert.equal(clock.timers, 0)
  })

  test("C66 pending calls reject with the right outcome, and close waits no longer than it may", async () => {
    const { world, client, run, clock, advance } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.socket.held = true
    const sent = watch(handle.push("x"))
    await run()
    world.socket.buffered = 10_000_000
    const unsent = watch(handle.push("y"))
    await run()
    world.stuck = true
    const closed = watch(client.close())
    await run()
    assert.equal(closed.how(), "pending")
    assert.equal(sent.how(), "CLIENT_CLOSED unknown")
    assert.equal(unsent.how(), "CLIENT_CLOSED not-executed")
    await advance(1_000)
    assert.equal(closed.how(), "= undefined")
    assert.equal(clock.timers, 0)
  })

  test("a closed handle detaches, rejects what is pending, and attaches again when used, under the same session", async () => {
    const { world, client, run, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    handle.close()
    await run()
    assert.equal(kinds().at(-1), "detach")
    assert.equal(world.actor("list/a").attaches.size, 0)
    assert.equal((await Promise.all([handle.push("2"), run()]))[0], 2)
    assert.equal(world.actor("list/a").sessions.size, 1)
    await client.close()
  })

  test("actors of one client are bounded; closed handles make room", async () => {
    const { client, run } = setUp({ limits: { actorsMax: 2 } })
    await Promise.all([client.list.get("a").push("1"), client.list.get("b").push("1"), run()])
    assert.throws(() => client.list.get("c"), { code: "RATE_LIMITED" })
    client.list.get("a").close()
    assert.equal((await Promise.all([client.list.get("c").push("1"), run()]))[0], 1)
    await client.close()
  })

  // The signal's abort rejected a promise that nobody had been given, which ends a Node process.
  test("what is refused for lack of room leaves nothing that listens", async () => {
    const { client, run } = setUp({ limits: { actorsMax: 1 } })
    const [used, unused] = [client.list.get("a"), client.list.get("b")]
    await Promise.all([used.push("1"), run()])
    const { signal } = new AbortController()
    await assert.rejects(unused.with({ signal }).push("1"), { code: "RATE_LIMITED", outcome: "not-executed" })
    assert.deepEqual(getEventListeners(signal, "abort"), [])
    const states: unknown[] = []
    assert.throws(() => unused.state.subscribe((state) => states.push(state)), { code: "RATE_LIMITED" })
    used.close()
    await Promise.all([unused.push("2"), run()])
    assert.deepEqual(states, [])
    await client.close()
  })
})

describe("names", () => {
  test("a handle and a client are no promises, and colliding names are reached through call and actor", async () => {
    const { client, run, applied } = setUp()
    const handle = client.list.get("a")
    assert.equal(await Promise.resolve(handle), handle)
    assert.equal(await Promise.resolve(client), client)
    // Each of them was a call of an action of that name, whose rejection nobody waited for.
    assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(handle)) as object).slice(0, 2), ["actor", "state"])
    assert.equal(JSON.stringify([handle.call, handle.query]), "[{},{}]")
    const loose = client.actor("list", "a")
    await Promise.all([loose.call["close"]?.("x"), loose.call["state"]?.("y"), run()])
    assert.deepEqual(applied(), ["close(x)", "state(y)"])
    assert.equal(client.actor("list", "a"), client.list.get("a"))
    assert.throws(() => client.list.get(""), TypeError)
    await client.close()
  })

  test("frames carry calls in the order of their numbers", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    for (const value of "abcdef") void handle.push(value)
    await run()
    assert.deepEqual(callsOf(world.socket.frames), [1, 2, 3, 4, 5, 6])
    await client.close()
  })
})
