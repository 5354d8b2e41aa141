import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { describe, test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { setUp, watch } from "./testing/set-up.ts"

describe("calls", () => {
  test("connects at first use, attaches once, and answers in the types of the action", async () => {
    const { world, client, run, kinds, statuses } = setUp()
    const handle = client.list.get("a")
    await run()
    assert.equal(world.sockets.length, 0)
    const [first, second] = [watch(handle.push("x")), watch(handle.push("y"))]
    await run()
    assert.deepEqual([first.how(), second.how()], ["= 1", "= 2"])
    assert.equal(world.socket.url, "ws://bos/v1/connect")
    assert.deepEqual(world.socket.protocols, ["sojourn.v1"])
    assert.deepEqual(kinds(), ["hello", "attach"])
    assert.deepEqual(statuses, ["connecting", "connected"])
    const third = watch(handle.push("z"))
    assert.equal(client.list.get("a"), handle)
    await run()
    assert.equal(third.how(), "= 3")
    assert.deepEqual(kinds(), ["hello", "attach", "call"])
    await client.close()
  })

  test("C48 C55 calls made offline are applied once, in order, before what the connected handler sends", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    world.unreachable.add("ws://bos")
    const calls = ["1", "2", "3"].map((value) => watch(handle.push(value)))
    await run()
    await advance(3_000)
    assert.ok(world.sockets.length > 2, "it kept trying")
    client.on("status", ({ to }) => {
      if (to === "connected") calls.push(watch(handle.push("from the handler")))
    })
    world.unreachable.clear()
    await advance(15_000)
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)", "push(from the handler)"])
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["= 1", "= 2", "= 3", "= 4"],
    )
    await client.close()
  })

  test("C49 a call whose reply was lost with the socket is applied once and gets the reply", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.socket.held = true
    const call = watch(handle.push("x"))
    await run()
    assert.deepEqual(applied(), ["push(x)"])
    assert.equal(call.how(), "pending")
    world.socket.cut()
    await advance(250)
    assert.equal(call.how(), "= 1")
    assert.deepEqual(applied(), ["push(x)"])
    assert.equal(client.stats.resent, 1)
    await client.close()
  })

  test("C58 a resume before any output was received replays what was missed, in hello's round trip", async () => {
    const { world, client, run, advance, kinds } = setUp()
    const handle = client.list.get("a")
    const events: string[] = []
    const resumes: string[] = []
    handle.on("pushed", (value) => events.push(value))
    handle.onResume((how) => resumes.push(how))
    await run()
    world.socket.cut()
    world.commit(world.actor("list/a"), "missed")
    await advance(250)
    assert.deepEqual(events, ["missed"])
    assert.deepEqual(resumes, ["new", "replay"])
    assert.deepEqual(kinds(), ["hello"], "the attach rode in hello")
    await client.close()
  })

  test("C60 a resume past the window is told as a snapshot, and the live state is the new one", async () => {
    const { world, client, run, advance, errors } = setUp()
    world.tailMax = 2
    const handle = client.list.get("a")
    const resumes: string[] = []
    const states: string[] = []
    handle.onResume((how) => resumes.push(how))
    handle.state.subscribe(({ list }) => states.push(list.join("")))
    await run()
    world.socket.cut()
    for (const value of "abcd") world.commit(world.actor("list/a"), value)
    await advance(250)
    assert.deepEqual(resumes, ["new", "snapshot"])
    assert.deepEqual(states, ["", "abcd"])
    assert.deepEqual(handle.state.get(), { list: ["a", "b", "c", "d"] })
    assert.deepEqual(errors, [])
    await client.close()
  })

  test("a long offline queue goes out in order although hello and the window hold only a part of it", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("0"), run()])
    world.unreachable.add("ws://bos")
    world.socket.cut()
    const calls = Array.from({ length: 900 }, (_, i) => handle.push(String(i + 1)))
    await advance(1_000)
    world.unreachable.clear()
    await advance(15_000)
    assert.equal((await Promise.all(calls)).at(-1), 901)
    assert.deepEqual(
      applied(),
      Array.from({ length: 901 }, (_, i) => `push(${i})`),
    )
    await client.close()
  })

  test("C51 C56 the queue is bounded: the newest call is rejected by name, the older survive", async () => {
    const { world, client, run, advance, applied } = setUp({ limits: { queueCallsMax: 3 } })
    world.unreachable.add("ws://bos")
    const handle = client.list.get("a")
    const calls = ["1", "2", "3", "4"].map((value) => watch(handle.push(value)))
    await run()
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["pending", "pending", "pending", "QUEUE_FULL not-executed"],
    )
    world.unreachable.clear()
    await advance(1_000)
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    await client.close()
  })

  test("C51 a call that was never sent times out as not executed, a sent one as unknown; neither leaves a hole", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.deaf = true
    const sent = watch(handle.with({ timeoutMs: 1_000 }).push("sent"))
    await advance(1_000)
    assert.equal(sent.how(), "CALL_TIMEOUT unknown")
    world.unreachable.add("ws://bos")
    world.socket.cut()
    const unsent = watch(handle.with({ timeoutMs: 1_000 }).push("unsent"))
    await advance(1_000)
    assert.equal(unsent.how(), "CALL_NOT_SENT not-executed")
    world.unreachable.clear()
    world.deaf = false
    const next = watch(handle.push("next"))
    await advance(15_000)
    assert.equal(next.how(), "= 1")
    assert.deepEqual(applied(), ["push(next)"], "the call that was given up was skipped, not applied")
    const resent = world.socket.frames.find((frame) => frame.t === "hello")
    assert.deepEqual(
      resent?.attach?.[0]?.calls?.map(({ c, skip }) => [c, skip ?? false]),
      [
        [1, true],
        [2, false],
      ],
    )
    await client.close()
  })

  test("a signal gives a call up: unsent as not executed, sent as unknown, and its listener is undone when it is answered", async () => {
    const { world, client, run, applied } = setUp()
    const handle = client.list.get("a")
    const before = new AbortController()
    const unsent = watch(handle.with({ signal: before.signal }).push("unsent"))
    before.abort()
    await run()
    assert.equal(unsent.how(), "CALL_ABORTED not-executed")
    assert.equal(watch(handle.with({ signal: before.signal }).push("late")).how(), "pending")
    world.socket.held = true
    const during = new AbortController()
    const sent = watch(handle.with({ signal: during.signal }).push("sent"))
    await run()
    during.abort()
    await run()
    assert.equal(sent.how(), "CALL_ABORTED unknown")
    world.socket.held = false
    await run()
    assert.deepEqual(applied(), ["push(sent)"])
    const after = new AbortController()
    await Promise.all([handle.with({ signal: after.signal }).push("answered"), run()])
    assert.deepEqual(getEventListeners(after.signal, "abort"), [])
    await client.close()
  })

  test("an author's refusal crosses with code and data; queries are answered after the calls before them", async () => {
    const { client, run } = setUp()
    const handle = client.list.get("a")
    const refused = watch(handle.refuse())
    void handle.push("x")
    const size = watch(handle.query.size())
    await run()
    assert.equal(refused.how(), "ACTOR_ERROR not-executed")
    assert.equal(refused.error().ref, "nope")
    assert.deepEqual(refused.error().data, { n: 1 })
    assert.equal(size.how(), "= 1")
    await client.close()
  })

  test("C54 an overloaded actor makes the client back off and go on in order with the same numbers", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    let refusals = 0
    world.refuseCall = ({ c }) =>
      c === 2 && refusals++ < 2 ? new SojournError("MAILBOX_FULL", "full", { retryAfterMs: 300 }) : undefined
    const calls = ["1", "2", "3"].map((value) => watch(handle.push(value)))
    await run()
    assert.equal(calls[0]?.how(), "= 1")
    assert.equal(calls[1]?.how(), "pending")
    await advance(1_000)
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["= 1", "= 2", "= 3"],
    )
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    await client.close()
  })

  test("an error that may be retried but used its number up is the call's reply, after one more attach", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const busy = watch(client.actor("list", "a").call["busy"]?.() ?? Promise.resolve())
    const next = watch(handle.push("x"))
    await advance(1_000)
    assert.equal(busy.how(), "RATE_LIMITED not-executed")
    assert.equal(next.how(), "= 1")
    assert.equal(world.actor("list/a").applied.length, 2)
    await client.close()
  })

  test("replies are acknowledged after so many and after a while, and never one by one", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const calls = Array.from({ length: 600 }, (_, i) => handle.push(String(i)))
    await run()
    await Promise.all(calls)
    await advance(200)
    const acks = world.socket.frames.filter((frame) => frame.t === "ack")
    assert.ok(acks.length <= 40, `${acks.length} acks for 600 replies and 600 outputs`)
    assert.equal(acks.at(-1)?.c, 600)
    await advance(1_000)
    assert.equal(world.socket.frames.filter((frame) => frame.t === "ack").length, acks.length)
    await client.close()
  })

  test("what is sent in one go is one message where the server takes that, and what comes in one is read in order", async () => {
    for (const batch of [undefined, 200, 65_536]) {
      const { world, client, run, applied, errors } = setUp()
      world.batch = batch
      const handle = client.list.get("a")
      await Promise.all([handle.ready(), run()])
      const { socket } = world
      const before = socket.counts.length
      const got: string[] = []
      const calls = Array.from({ length: 50 }, async (_, i) => got.push(`${i}: ${await handle.push(String(i))}`))
      await run()
      await Promise.all(calls)
      assert.deepEqual(
        got,
        calls.map((_, i) => `${i}: ${i + 1}`),
      )
      const [most] = socket.counts.slice(before).toSorted((a, b) => b - a)
      assert.ok(
        batch === undefined ? most === 1 : batch === 200 ? most && most > 1 && most < 10 : most === 50,
        String(most),
      )
      assert.equal(applied().length, 50)
      assert.deepEqual(errors, [])
      await client.close()
    }
  })

  test("a url that no POP is at by itself is refused by name, and no socket is opened", async () => {
    for (const url of ["ws://bos/v1/connect", "ws://bos/v1/connect/", "ws://bos?at=fra", "ws://bos/#x"]) {
      const { world, client, run, statuses } = setUp({ url })
      const call = client.list.get("a").push("x")
      const refused = assert.rejects(call, { code: "BAD_CONFIG", outcome: "not-executed" })
      await run()
      await refused
      assert.equal(world.sockets.length, 0)
      assert.equal(statuses.at(-1), "failed")
      await client.close()
    }
    // A proxy may have any path, and a host any name.
    for (const url of ["ws://bos/games/", "ws://bos/connect", "ws://connect"]) {
      const { world, client, run } = setUp({ url })
      client.connect()
      await run()
      assert.equal(client.status, "connected", url)
      assert.equal(world.sockets[0]?.url, `${url.replace(/\/$/, "")}/v1/connect`)
      await client.close()
    }
  })

  test("a call made right before the client closes is sent before the socket is closed", async () => {
    const { world, client, run } = setUp()
    world.batch = 65_536
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const { socket } = world
    const before = socket.counts.length
    handle.push("last").catch(() => undefined)
    await client.close()
    assert.equal(socket.counts.length, before + 1)
  })

  test("nothing is read behind a frame that cannot be read: what was behind it comes again", async () => {
    const { world, client, run, advance, errors, applied } = setUp()
    world.batch = 65_536
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const { socket } = world
    socket.held = true
    const call = handle.push("x")
    await run()
    assert.deepEqual(applied(), ["push(x)"])
    const { ch } = socket.frames.find((frame) => frame.t === "attach" || frame.t === "call") as { ch: number }
    socket.sayLate(`{"t":"out"\n{"t":"reply","ch":${ch},"c":1,"r":1,"ok":{"v":77}}`)
    await advance(1_000)
    assert.equal(await call, 1)
    assert.deepEqual(applied(), ["push(x)"])
    assert.deepEqual(
      errors.map(({ code }) => code),
      ["BAD_FRAME"],
    )
    await client.close()
  })

  test("a socket that throws at what it is given is left for another", async () => {
    const { world, client, run, advance, applied } = setUp({
      socket: (url, protocols, reader) => {
        const port = world.factory(url, protocols, reader)
        return {
          ...port,
          send: (text) => {
            if (broken && text.includes("push")) throw new Error("broken")
            port.send(text)
          },
        }
      },
    })
    let broken = false
    world.batch = 65_536
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    broken = true
    const call = handle.push("x")
    await run()
    broken = false
    await advance(1_000)
    assert.equal(await call, 1)
    assert.deepEqual(applied(), ["push(x)"])
    await client.close()
  })

  test("those who hear one output at once acknowledge it at times of their own", async () => {
    const acknowledgedAt = async (random: number): Promise<number> => {
      const { world, client, run, clock, advance } = setUp({ chance: { random: () => random, id: () => "c1" } })
      const handle = client.list.get("a")
      await Promise.all([handle.ready(), run()])
      const from = clock.mono()
      await Promise.all([handle.push("x"), run()])
      const acks = (): number => world.socket.frames.filter(({ t }) => t === "ack").length
      while (acks() === 0 && clock.mono() < from + 1_000) await advance(1)
      await client.close()
      return Math.round(clock.mono() - from)
    }
    assert.equal(await acknowledgedAt(0), 150)
    assert.equal(await acknowledgedAt(0.5), 200)
    assert.equal(await acknowledgedAt(1), 250)
  })

  test("sending pauses while the socket's buffer is full", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.socket.buffered = 10_000_000
    void handle.push("x")
    await advance(500)
    assert.deepEqual(applied(), [])
    world.socket.buffered = 0
    await advance(50)
    assert.deepEqual(applied(), ["push(x)"])
    await client.close()
  })

  test("arguments are what they were when the call was made, with types that JSON lacks", async () => {
    const { world, client, run } = setUp()
    const value = new Map([["k", 1n]])
    const call = watch(client.actor("list", "a").call["push"]?.(value) ?? Promise.reject(new Error("no method")))
    value.clear()
    await run()
    assert.equal(call.how(), "= 1")
    assert.deepEqual(world.actor("list/a").list, [new Map([["k", 1n]])])
    await client.close()
  })

  test("a call that is too large for a frame is refused before it is queued", async () => {
    const { client, run } = setUp({ limits: { frameCharsMax: 1_000 } })
    const call = watch(client.list.get("a").push("x".repeat(1_000)))
    await run()
    assert.equal(call.how(), "FRAME_TOO_LARGE not-executed")
    await client.close()
  })
})
