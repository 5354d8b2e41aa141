import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { createClient } from "./client.ts"
import { FakeWorld } from "./testing/fake-world.ts"
import { ManualClock } from "./testing/manual-clock.ts"
import { setUp, watch, type ListApp } from "./testing/set-up.ts"

describe("the connection", () => {
  test("C61 C59 the server's death is survived: first retry within 250 ms, then within half of the time that it has been away, up to 15 s", async () => {
    const { world, client, run, clock, advance, statuses } = setUp({
      chance: { random: () => 1, id: () => "c" },
      limits: { callMs: 600_000 },
    })
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    // How long there was a connection before says nothing of how long there is none.
    await advance(3_600_000)
    world.unreachable.add("ws://bos")
    const at: number[] = []
    const began = clock.mono()
    world.socket.cut()
    while (world.sockets.length < 19) {
      const before = world.sockets.length
      clock.next()
      if (world.sockets.length > before) at.push(clock.mono() - began)
      await run()
    }
    const delays = at.map((ms, i) => ms - (at[i - 1] ?? 0))
    const half = [375, 563, 844, 1266, 1899, 2849, 4273, 6410, 9615, 14422]
    assert.deepEqual(delays, [250, 250, 250, ...half, 15000, 15000, 15000, 15000, 15000])
    assert.equal(statuses.at(-1), "reconnecting")
    await client.close()
  })

  test("pauses double after what a server ended, from where they were however long nobody had listened", async () => {
    const { world, client, run, clock } = setUp({ chance: { random: () => 1, id: () => "c" } })
    void client.list.get("a").ready()
    await run()
    const reconnectMs = async (): Promise<number> => {
      const [before, began] = [world.sockets.length, clock.mono()]
      world.socket.cut()
      while (world.sockets.length === before) clock.next()
      await run()
      return clock.mono() - began
    }
    assert.deepEqual([await reconnectMs(), await reconnectMs()], [250, 500])
    world.unreachable.add("ws://bos")
    world.socket.cut()
    while (world.sockets.length < 15) {
      clock.next()
      await run()
    }
    world.unreachable.clear()
    while (client.status !== "connected") {
      clock.next()
      await run()
    }
    assert.equal(await reconnectMs(), 2_000)
    await client.close()
  })

  test("pauses double while the token function fails", async () => {
    const clock = new ManualClock()
    const askedAt: number[] = []
    const client = createClient<ListApp>({
      url: "ws://bos",
      clock,
      chance: { random: () => 1, id: () => "c" },
      socket: new FakeWorld().factory,
      token: () => {
        askedAt.push(clock.mono())
        throw new Error("the token server is down")
      },
    })
    client.on("error", () => undefined)
    client.connect()
    while (askedAt.length < 6) clock.next()
    assert.deepEqual(
      askedAt.slice(1).map((at, i) => at - (askedAt[i] ?? 0)),
      [250, 500, 1000, 2000, 4000],
    )
    await client.close()
  })

  test("the retry starts over only after a connection that was stable", async () => {
    const { world, client, run, clock, advance } = setUp({ chance: { random: () => 1, id: () => "c" } })
    void client.list.get("a").ready()
    await run()
    const reconnectMs = async (): Promise<number> => {
      const before = world.sockets.length
      const began = clock.mono()
      world.socket.cut()
      while (world.sockets.length === before) clock.next()
      await run()
      return clock.mono() - began
    }
    assert.deepEqual([await reconnectMs(), await reconnectMs(), await reconnectMs()], [250, 500, 1000])
    await advance(5_000)
    assert.equal(await reconnectMs(), 250)
    await client.close()
  })

  test("C70 a server that goes away is left within its time, at a moment of chance, over a connection that is opened first", async () => {
    const { world, client, run, advance, statuses, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    old.send({ t: "goaway", retryAfterMs: 3_000 })
    await run()
    await advance(1_499)
    assert.equal(world.sockets.length, 1)
    assert.equal(statuses.at(-1), "connected")
    world.holding = true
    await advance(1)
    assert.equal(world.sockets.length, 2)
    assert.equal(statuses.at(-1), "moving")
    const call = watch(handle.push("over the old one"))
    await run()
    assert.equal(call.how(), "= 1")
    assert.ok(old.isOpen)
    world.socket.held = false
    await run()
    assert.equal(statuses.at(-1), "connected")
    assert.equal(old.closedBy, "client")
    assert.deepEqual(applied(), ["push(over the old one)"])
    await client.close()
  })

  test("C70 a server that goes away and closes at once names the time, before which nobody comes back", async () => {
    const { world, client, run, advance, statuses } = setUp()
    await Promise.all([client.list.get("a").ready(), run()])
    world.socket.send({ t: "goaway", retryAfterMs: 5_000 })
    await run()
    world.socket.cut(4000)
    await advance(4_999)
    assert.equal(world.sockets.length, 1)
    await advance(1)
    assert.equal(world.sockets.length, 2)
    assert.equal(statuses.at(-1), "connected")
    await client.close()
  })

  test("several URLs: the next one after a failed attempt and when a server goes away, and never one that a message names", async () => {
    const { world, client, run, advance, statuses } = setUp({ url: ["ws://bos", "ws://fra", "ws://nrt"] })
    world.unreachable.add("ws://bos")
    const call = watch(client.list.get("a").push("1"))
    await run()
    await advance(250)
    assert.equal(call.how(), "= 1")
    assert.equal(client.pop, "fra")
    client.switchTo("ws://bos")
    await advance(10_000)
    assert.deepEqual(
      [client.pop, client.url],
      ["fra", "ws://bos"],
      "what the app chose is kept while there is a connection",
    )
    client.switchTo("ws://fra")
    await run()
    const before = world.sockets.length
    // A connection that worked is made again first.
    world.socket.cut()
    await advance(250)
    assert.equal(client.pop, "fra")
    const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
    world.socket.send({ t: "moved", ch, to: "ws://evil", e: 2, stays: true })
    world.socket.send({ t: "goaway", retryAfterMs: 0 })
    await advance(0)
    assert.equal(client.pop, "nrt")
    assert.equal(client.url, "ws://nrt")
    world.socket.send({ t: "goaway", retryAfterMs: 0 })
    await advance(60_000)
    assert.equal(client.pop, "fra")
    assert.equal(statuses.at(-1), "connected")
    assert.deepEqual(
      world.sockets.slice(before).map((socket) => socket.pop),
      ["fra", "nrt", "bos", "fra"],
    )
    await client.close()
    assert.throws(() => createClient({ url: [] }), /at least one url/)
  })

  test("a POP that switchTo chose and that is gone leads back to the one url that the client was made with, and that one to it", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    client.switchTo("ws://fra")
    await run()
    assert.equal(client.pop, "fra")
    world.unreachable.add("ws://fra")
    world.socket.cut()
    const call = watch(handle.push("x"))
    await advance(5_000)
    assert.deepEqual([call.how(), client.pop, client.url], ["= 1", "bos", "ws://bos"])
    client.switchTo("ws://nrt")
    await run()
    const before = world.sockets.length
    world.socket.send({ t: "goaway", retryAfterMs: 1_000 })
    await advance(1_000)
    assert.deepEqual(
      world.sockets.slice(before).map(({ pop }) => pop),
      ["bos"],
      "a server that goes away is left for it as well",
    )
    client.switchTo("ws://fra")
    world.unreachable.clear()
    await run()
    assert.equal(client.pop, "fra")
    world.unreachable.add("ws://bos")
    world.socket.send({ t: "goaway", retryAfterMs: 1_000 })
    await advance(500)
    world.socket.cut(4000)
    await advance(5_000)
    assert.deepEqual(
      [client.status, client.url],
      ["connected", "ws://fra"],
      "where the others are gone, it is come back to",
    )
    await client.close()
  })

  test("C62 a half-open connection is left within two heartbeats; any inbound frame counts as life", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.deaf = true
    const actor = world.actor("list/a")
    for (let i = 0; i < 6; i++) {
      await advance(15_000)
      world.commit(actor, `life ${i}`)
      await run()
    }
    assert.equal(world.sockets.length, 1)
    await advance(39_999)
    assert.equal(world.sockets.length, 1)
    await advance(1)
    assert.equal(world.sockets[0]?.closedBy, "client")
    assert.equal(world.sockets[0]?.closeCode, 4001)
    await client.close()
  })

  test("C62 a quiet connection is kept by pings", async () => {
    const { world, client, run, advance } = setUp()
    await Promise.all([client.list.get("a").ready(), run()])
    await advance(600_000)
    assert.equal(world.sockets.length, 1)
    await client.close()
  })

  test("C63 after an hour's sleep the first timer reconnects", async () => {
    const { world, client, run, clock, statuses, advance } = setUp()
    await Promise.all([client.list.get("a").ready(), run()])
    await advance(1_000)
    clock.sleep(3_600_000)
    clock.next()
    assert.equal(statuses.at(-1), "reconnecting")
    await advance(250)
    assert.equal(world.sockets.length, 2)
    assert.equal(statuses.at(-1), "connected")
    await client.close()
  })

  test("C63 hidden pages pause retries, visible ones connect at once and probe a socket that may be dead", async () => {
    const { world, client, run, advance, show, statuses } = setUp()
    await Promise.all([client.list.get("a").ready(), run()])
    show(false)
    world.socket.cut()
    await advance(120_000)
    assert.equal(world.sockets.length, 1)
    assert.equal(statuses.at(-1), "suspended")
    show(true)
    await run()
    assert.equal(world.sockets.length, 2)
    assert.equal(statuses.at(-1), "connected")
    world.deaf = true
    show(true)
    await advance(4_000)
    assert.equal(world.sockets[1]?.closedBy, "client")
    await client.close()
  })

  test("C64 a token function that throws is retried; it is called at each connect and gives fresh tokens in band", async () => {
    let calls = 0
    const { world, client, run, advance, errors } = setUp({
      token: async () => {
        await Promise.resolve()
        if (++calls < 3) throw new Error("login is down")
        return `t${calls}`
      },
    })
    world.principalOf = (token) => (token?.startsWith("t") ? "alice" : undefined)
    const call = watch(client.list.get("a").push("x"))
    await run()
    await advance(2_000)
    assert.equal(call.how(), "= 1")
    assert.deepEqual(
      errors.map((error) => [error.code, (error.cause as Error).message]),
      [
        ["UNAUTHORIZED", "login is down"],
        ["UNAUTHORIZED", "login is down"],
      ],
    )
    world.socket.send({
      t: "error",
      err: new SojournError("UNAUTHORIZED", "the token expires", { retry: "later" }).toWire(),
    })
    await run()
    assert.deepEqual(world.socket.frames.at(-1), { t: "token", token: "t4" })
    assert.equal(client.principal, "alice")
    await client.close()
  })

  test("C64 a token that was asked for before the one in use is not presented when it comes after it", async () => {
    const asked: ((token: string) => void)[] = []
    const token = (): Promise<string> => new Promise((resolve) => asked.push(resolve))
    const { world, client, run, advance } = setUp({ token })
    world.principalOf = () => "ann"
    const presented = (): string[] =>
      world.sockets.flatMap(({ frames }) =>
        frames.flatMap((f) => ((f.t === "hello" || f.t === "token") && f.token !== undefined ? [f.token] : [])),
      )
    const ready = client.list.get("a").ready()
    await run()
    asked[0]?.("1")
    await Promise.all([ready, run()])
    const refreshes = [client.refreshToken(), client.refreshToken()]
    asked[2]?.("3")
    await run()
    asked[1]?.("2")
    await Promise.all([...refreshes, run()])
    assert.deepEqual(presented(), ["1", "3"])
    // Asked for on a connection that is lost before it comes: the next one has begun with a later one.
    const late = client.refreshToken()
    world.socket.cut()
    await advance(250)
    asked[4]?.("5")
    await run()
    asked[3]?.("4")
    await Promise.all([late, run()])
    assert.deepEqual(presented(), ["1", "3", "5"])
    // One that was asked for after the other POP was called, and comes when that one has welcomed the client, is new there.
    client.switchTo("ws://fra")
    await run()
    const fresh = client.refreshToken()
    asked[5]?.("6")
    await run()
    asked[6]?.("7")
    await Promise.all([fresh, run()])
    assert.deepEqual([client.pop, ...presented()], ["fra", "1", "3", "5", "6", "7"])
    await client.close()
  })

  test("C64 C65 a terminal close code stops: status failed, everything rejects, nothing retries, connect() tries again", async () => {
    const { world, client, run, advance, statuses, clock } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.deaf = true
    const sent = watch(handle.push("x"))
    await run()
    world.socket.cut(4502, "expired")
    const after = watch(handle.push("y"))
    await run()
    assert.equal(sent.how(), "UNAUTHORIZED unknown")
    assert.equal(after.how(), "UNAUTHORIZED not-executed")
    assert.equal(statuses.at(-1), "failed")
    assert.equal(clock.timers, 0)
    await advance(120_000)
    assert.equal(world.sockets.length, 1)
    world.deaf = false
    client.connect()
    const again = watch(handle.push("z"))
    await run()
    assert.equal(again.how(), "= 1")
    await client.close()
  })

  test("C65 an unknown code is judged by its range", async () => {
    for (const [code, stops] of [
      [4499, false],
      [4999, true],
      [1011, false],
    ] as const) {
      const { world, client, run, advance, statuses } = setUp()
      await Promise.all([client.list.get("a").ready(), run()])
      world.socket.cut(code)
      await advance(250)
      assert.equal(statuses.at(-1), stops ? "failed" : "connected", String(code))
      await client.close()
    }
  })

  test("an attempt that hangs is given up", async () => {
    const { world, client, run, advance } = setUp()
    world.stalled = true
    void client.list
      .get("a")
      .ready()
      .catch(() => {})
    await run()
    await advance(10_000)
    assert.equal(world.sockets[0]?.closedBy, "client")
    world.stalled = false
    await advance(1_000)
    assert.equal(client.status, "connected")
    await client.close()
  })

  test("what was queued as one principal is never sent as another", async () => {
    let token = "alice"
    const { world, client, run, advance, applied } = setUp({ token: () => token })
    const handle = client.list.get("a")
    const states: unknown[] = []
    handle.state.subscribe((state) => states.push(state))
    await Promise.all([handle.push("hers"), run()])
    world.unreachable.add("ws://bos")
    world.socket.cut()
    const queued = watch(handle.push("hers too"))
    await advance(300)
    token = "bob"
    world.unreachable.clear()
    await advance(2_000)
    assert.match(queued.how(), /^UNAUTHORIZED/)
    const his = watch(handle.push("his"))
    await run()
    assert.equal(his.how(), "= 2")
    assert.deepEqual(applied(), ["push(hers)", "push(his)"])
    assert.match(world.actor("list/a").applied[1] ?? "", /^bob-/)
    await client.close()
  })

  test("a frame that cannot be read costs the connection, not the client", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    for (const text of ["{", "null", "[]", `{"t":"reply"}`, `{"t":"welcome"}`, `{"t":"unknown"}`]) {
      world.socket.sendText(text)
      await advance(20_000)
    }
    const call = watch(handle.push("x"))
    await advance(1_000)
    assert.equal(call.how(), "= 1")
    assert.ok(errors.every((error) => error.code === "BAD_FRAME"))
    await client.close()
  })

  test("hello stays within its limit with many actors and long queues, and attaches those it has no room for after welcome", async () => {
    const { world, client, run, advance } = setUp()
    const handles = Array.from({ length: 60 }, (_, i) => client.list.get(`actor-${i}`))
    for (const handle of handles) handle.on("pushed", () => {})
    await run()
    world.socket.cut()
    const calls = handles.map((handle) => watch(handle.push("x".repeat(300))))
    await advance(1_000)
    assert.deepEqual(new Set(calls.map((call) => call.how())), new Set(["= 1"]))
    const hello = world.socket.texts[0] ?? ""
    assert.ok(hello.length > 3_000 && hello.length <= 4_096, `${hello.length}`)
    await client.close()
  })
})
