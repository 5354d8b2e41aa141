import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { describe, test } from "node:test"
import { SojournError, type ClientFrame } from "@sojourn/protocol"
import { createClient } from "./client.ts"
import type { ClientOptions, Moved, Status } from "./types.ts"
import { FakeWorld } from "./testing/fake-world.ts"
import { ManualClock } from "./testing/manual-clock.ts"

interface ListState {
  readonly list: readonly string[]
}
interface ListApp {
  readonly actors: {
    readonly list: {
      readonly state: () => ListState
      readonly actions: { push(c: unknown, value: string): number; refuse(c: unknown): void }
      readonly queries: { size(c: unknown): number }
      readonly events: { pushed: { readonly payload?: string } }
    }
  }
}

function setUp(options: Partial<ClientOptions> = {}) {
  const world = new FakeWorld()
  const clock = new ManualClock()
  let hidden = false
  let look = (): void => {}
  let watched = 0
  const client = createClient<ListApp>({
    url: "ws://bos",
    clock,
    chance: { random: () => 0.5, id: () => "c1" },
    socket: world.factory,
    page: {
      hidden: () => hidden,
      watch: (changed) => {
        look = changed
        watched++
        return () => watched--
      },
    },
    ...options,
  })
  const statuses: Status[] = []
  const errors: SojournError[] = []
  const moves: Moved[] = []
  client.on("status", ({ to }) => statuses.push(to))
  client.on("error", (error) => errors.push(error))
  client.on("moved", (moved) => moves.push(moved))
  const run = (): Promise<void> => world.run()
  return {
    world,
    clock,
    client,
    statuses,
    errors,
    moves,
    run,
    advance: (ms: number) => clock.advance(ms, run),
    show(visible: boolean) {
      hidden = !visible
      look()
    },
    watched: () => watched,
    applied: (key = "a") => world.actor(`list/${key}`).applied.map((line) => line.replace(/^.*? /, "")),
    kinds: (socket = world.socket) => socket.frames.map((frame) => frame.t),
  }
}

/** How a promise ended, once `run` has delivered everything. */
function watch(promise: Promise<unknown>): { how: () => string; error: () => SojournError } {
  let ended = "pending"
  let failure: unknown
  promise.then(
    (value) => (ended = `= ${String(value)}`),
    (error: unknown) => {
      failure = error
      ended = error instanceof SojournError ? `${error.code} ${error.outcome}` : String(error)
    },
  )
  return {
    how: () => ended,
    error: () => (failure instanceof SojournError ? failure : assert.fail(`ended ${ended}`)),
  }
}

const callsOf = (frames: readonly ClientFrame[]): number[] =>
  frames.flatMap((f) => (f.t === "call" ? [f.c] : f.t === "attach" ? (f.calls ?? []).map((call) => call.c) : []))

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

describe("events and live state", () => {
  test("patches are applied, then events told, then subscribers; a listener that throws disturbs nobody", async () => {
    const { world, client, run, errors } = setUp()
    const handle = client.list.get("a")
    const seen: string[] = []
    handle.on("pushed", () => {
      throw new Error("mine")
    })
    handle.on("pushed", (value) => seen.push(`event ${value} of ${handle.state.get()?.list.length}`))
    handle.state.subscribe(({ list }) => seen.push(`state ${list.join("")}`))
    await run()
    world.commit(world.actor("list/a"), "x")
    await run()
    assert.deepEqual(seen, ["state ", "event x of 1", "state x"])
    assert.equal((errors[0]?.cause as Error).message, "mine")
    assert.equal(errors.length, 1)
    await client.close()
  })

  test("C57 a gap leads to a resync that loses nothing; a duplicate is dropped", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    const events: string[] = []
    const resumes: string[] = []
    handle.on("pushed", (value) => events.push(value))
    handle.onResume((how) => resumes.push(how))
    await run()
    const actor = world.actor("list/a")
    const [attach] = actor.attaches
    assert.ok(attach)
    actor.attaches.clear()
    world.commit(actor, "lost")
    actor.attaches.add(attach)
    attach.prev = actor.r
    world.commit(actor, "after")
    await run()
    assert.deepEqual(events, ["lost", "after"])
    assert.deepEqual(resumes, ["new", "replay"])
    assert.equal(client.stats.gaps, 1)
    const [now] = actor.attaches
    assert.ok(now)
    world.socket.send({ t: "out", ch: now.ch, r: actor.r, prev: actor.r - 1, ev: [["pushed", { v: "again" }]] })
    await run()
    assert.deepEqual(events, ["lost", "after"])
    assert.equal(client.stats.duplicates, 1)
    await client.close()
  })

  test("C57 patches that do not fit, or a gap right after a gap, lead to a snapshot that the app is told of", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    const resumes: string[] = []
    handle.onResume((how) => resumes.push(how))
    handle.state.subscribe(() => {})
    await run()
    const actor = world.actor("list/a")
    const ch = [...actor.attaches][0]?.ch ?? 0
    world.commit(actor, "x")
    await run()
    world.socket.send({
      t: "out",
      ch,
      r: actor.r + 1,
      prev: actor.r,
      pt: { v: [{ op: "add", path: ["list", 99], value: 1 }] },
    })
    await advance(1_000)
    assert.deepEqual(resumes, ["new", "snapshot"])
    assert.deepEqual(handle.state.get(), { list: ["x"] })
    await client.close()
  })

  /** What this client's codec cannot decode: of a later version of the server, or broken. */
  const strange = { v: 1, m: { values: [["custom", "of no codec"]] } }

  test("C57 patches that cannot be decoded lead to a snapshot, an event that cannot is told of and the next ones come", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    const resumes: string[] = []
    const events: string[] = []
    handle.onResume((how) => resumes.push(how))
    handle.on("pushed", (value) => events.push(value))
    handle.state.subscribe(() => {})
    await run()
    const actor = world.actor("list/a")
    const [attach] = actor.attaches
    assert.ok(attach)
    const out = { t: "out", ch: attach.ch, r: actor.r + 1, prev: actor.r } as const
    world.socket.send({
      ...out,
      ev: [
        ["pushed", strange],
        ["pushed", { v: "next" }],
      ],
    })
    await run()
    assert.deepEqual(events, ["next"])
    assert.deepEqual(
      errors.map(({ code, message }) => `${code}: ${message}`),
      ["INTERNAL: the event pushed cannot be decoded"],
    )
    assert.deepEqual(errors[0]?.details, { actor: ["list", "a"] })
    actor.r++
    world.socket.send({ ...out, r: actor.r + 1, prev: actor.r, pt: strange })
    await advance(1_000)
    assert.deepEqual(resumes, ["new", "snapshot"])
    assert.equal(errors.length, 1)
    await client.close()
  })

  test("C57 a state that cannot be decoded leaves the one before, at its position; nothing is applied to the wrong one", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    const states: string[] = []
    handle.state.subscribe(({ list }) => states.push(list.join("")))
    await run()
    const actor = world.actor("list/a")
    world.commit(actor, "x")
    await run()
    const encode = world.stateOf
    world.stateOf = () => strange
    world.socket.cut()
    for (const item of "123") world.commit(actor, item)
    actor.tail.length = 0
    const other = client.list.get("b")
    const call = watch(other.push("b"))
    await advance(10_000)
    assert.equal(errors.at(-1)?.message, "the state of list/a cannot be decoded")
    assert.ok(errors.length > 1 && errors.length < 20, `${errors.length} attempts in 10 s`)
    assert.deepEqual(handle.state.get(), { list: ["x"] })
    assert.equal(call.how(), "= 1", "other actors are served")
    assert.equal(world.sockets.length, 2, "over the same socket")
    world.stateOf = encode
    await advance(60_000)
    assert.deepEqual(
      new Set(
        world.sockets.flatMap(({ frames }) =>
          frames
            .flatMap((f) => (f.t === "hello" ? (f.attach ?? []) : f.t === "attach" ? [f] : []))
            .map(({ pos }) => pos),
        ),
      ),
      new Set([undefined, 2]),
      "it goes on from what it has",
    )
    assert.deepEqual(handle.state.get(), { list: ["x", "1", "2", "3"] })
    assert.deepEqual(states, ["", "x", "x123"])
    await client.close()
  })

  test("subscribing later attaches again, live, and the state comes", async () => {
    const { world, client, run, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("x"), run()])
    const states: string[] = []
    const undo = handle.state.subscribe(({ list }) => states.push(list.join("")))
    await run()
    assert.deepEqual(kinds(), ["hello", "attach", "detach", "attach"])
    assert.deepEqual(states, ["x"])
    handle.state.subscribe(({ list }) => states.push(`second ${list.join("")}`))
    undo()
    world.commit(world.actor("list/a"), "y")
    await run()
    assert.deepEqual(states, ["x", "second x", "second xy"])
    await client.close()
  })

  test("many actors share a socket, and sessions beyond the spare ones are asked for", async () => {
    const { world, client, run } = setUp()
    world.spares = 2
    const calls = Array.from({ length: 12 }, (_, i) => watch(client.list.get(`k${i}`).push("x")))
    await run()
    assert.deepEqual(new Set(calls.map((call) => call.how())), new Set(["= 1"]))
    assert.equal(world.sockets.length, 1)
    await client.close()
  })
})

describe("moves", () => {
  test("C48 switchTo keeps session, order and unacknowledged calls, and tells the move", async () => {
    const { world, client, run, advance, applied, moves, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.socket.held = true
    const unanswered = watch(handle.push("2"))
    await run()
    client.switchTo("ws://fra")
    const queued = watch(handle.push("3"))
    await advance(0)
    assert.deepEqual([unanswered.how(), queued.how()], ["= 2", "= 3"])
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.equal(moves.length, 1)
    assert.deepEqual(moves[0]?.actor, ["list", "a"])
    assert.deepEqual([moves[0]?.from, moves[0]?.to, moves[0]?.report?.by], ["bos", "fra", "ticket"])
    assert.deepEqual(world.socket.protocols, ["sojourn.v1", "sojourn.at.list.a.bos.1"])
    assert.equal(handle.pop, "fra")
    await client.close()
  })

  test("C55 C70 until the new POP has welcomed the client all goes on over the old socket, which is closed after the new attach", async () => {
    const { world, client, run, applied, kinds, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.holding = true
    client.switchTo("ws://fra")
    const during = watch(handle.push("2"))
    // Used at the very moment when the new socket opens.
    const other = watch(client.list.get("b").push("x"))
    world.step()
    await run()
    assert.deepEqual([during.how(), other.how()], ["= 2", "= 1"])
    assert.equal(statuses.at(-1), "moving")
    assert.equal(client.pop, "bos")
    const fresh = world.socket
    assert.ok(!fresh.texts[0]?.includes("attach"), "what is served stays where it is")
    assert.deepEqual(kinds(fresh), ["hello"])
    fresh.release()
    assert.equal(statuses.at(-1), "connected")
    const after = watch(handle.push("3"))
    await run()
    assert.deepEqual(kinds(fresh), ["hello", "attach", "attach", "call"])
    fresh.release()
    await run()
    assert.ok(old.isOpen, "the second attach is not answered yet")
    assert.ok(!kinds(old).includes("detach"))
    fresh.release()
    await run()
    assert.equal(old.closedBy, "client")
    assert.equal(after.how(), "pending")
    fresh.held = false
    await run()
    assert.equal(after.how(), "= 3")
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    await client.close()
  })

  test("C48 C57 what the old socket says before the new attach is answered counts: replies once, outputs without a gap", async () => {
    const { world, client, run, applied } = setUp({ limits: { windowCallsMax: 2, ackFrames: 1 } })
    const handle = client.list.get("a")
    const heard: (string | undefined)[] = []
    handle.on("pushed", (value) => heard.push(value))
    handle.state.subscribe(() => {})
    const resumes: string[] = []
    handle.onResume((how) => resumes.push(how))
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    old.held = true
    const calls = ["1", "2", "3"].map((value) => watch(handle.push(value)))
    await run()
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    const fresh = world.socket
    fresh.release()
    await run()
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["pending", "pending", "pending"],
    )
    old.held = false
    await run()
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["= 1", "= 2", "pending"],
    )
    assert.deepEqual(heard, ["1", "2"])
    assert.deepEqual(handle.state.get(), { list: ["1", "2"] })
    assert.ok(old.isOpen)
    fresh.held = false
    await run()
    // The window opens by what the trail brought: nothing else comes that could be acknowledged.
    assert.equal(calls[2]?.how(), "= 3")
    assert.deepEqual(heard, ["1", "2", "3"])
    assert.deepEqual(resumes, ["new", "replay"])
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    assert.equal(client.stats.gaps, 0)
    await client.close()
  })

  test("C57 an output that the old socket leaves out is made up for by the new attach, not taken for the next one", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    const heard: (string | undefined)[] = []
    handle.on("pushed", (value) => heard.push(value))
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    world.commit(world.actor("list/a"), "1")
    old.sayLate({ t: "out", ch, r: 3, prev: 2, ev: [["pushed", { v: "wrong" }]] })
    world.socket.held = false
    await run()
    assert.deepEqual(heard, ["1"])
    assert.equal(client.stats.gaps, 0)
    await client.close()
  })

  test("C54 an error on the old socket that may be retried is not the call's reply: the call has gone again", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    old.held = true
    world.refuseCall = () => new SojournError("MAILBOX_FULL")
    const call = watch(handle.push("1"))
    await run()
    world.refuseCall = () => undefined
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    old.held = false
    await run()
    assert.equal(call.how(), "pending")
    world.socket.held = false
    await run()
    assert.equal(call.how(), "= 1")
    await client.close()
  })

  test("C59 a POP that does not answer is tried again with pauses while the old one serves, and comes in when it can", async () => {
    const { world, client, run, advance, statuses, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.unreachable.add("ws://fra")
    client.switchTo("ws://fra")
    await advance(20_000)
    const tries = world.sockets.length - 1
    assert.ok(tries >= 4 && tries <= 10, `${tries} tries`)
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    assert.ok(old.isOpen)
    assert.deepEqual(statuses, ["connecting", "connected", "moving"])
    assert.equal(client.url, "ws://fra")
    world.unreachable.clear()
    await advance(15_000)
    assert.equal(client.pop, "fra")
    assert.equal(statuses.at(-1), "connected")
    assert.ok(old.isClosed)
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("a new socket that dies before its attach is answered leaves the client on the old one, where the actor stays put", async () => {
    const { world, client, run, advance, applied, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    const call = watch(handle.push("2"))
    await run()
    world.unreachable.add("ws://fra")
    world.socket.cut()
    await run()
    assert.equal(call.how(), "= 2")
    assert.equal(client.pop, "bos")
    assert.equal(statuses.at(-1), "moving")
    const again = old.frames.at(-1)
    assert.ok(again?.t === "attach" && again.stay === true, JSON.stringify(again))
    world.unreachable.clear()
    world.holding = false
    await advance(15_000)
    assert.equal(client.pop, "fra")
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("the old socket dying on the way is no more than a reconnect: the attach goes with hello if that was not sent yet", async () => {
    const { world, client, run, applied, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.stalled = true
    client.switchTo("ws://fra")
    await run()
    world.sockets[0]?.cut()
    const call = watch(handle.push("2"))
    world.stalled = false
    await run()
    assert.equal(call.how(), "= 2")
    assert.equal(world.sockets.length, 2)
    const [hello] = world.socket.frames
    assert.ok(hello?.t === "hello" && hello.attach?.length === 1)
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("C65 a POP that refuses the client for good is not tried again; the client stays where it is", async () => {
    const { world, client, run, advance, errors, statuses } = setUp({ token: "t" })
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.principalOf = () => undefined
    client.switchTo("ws://fra")
    await advance(60_000)
    assert.equal(world.sockets.length, 2)
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.deepEqual(
      errors.map(({ code }) => code),
      ["UNAUTHORIZED"],
    )
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    assert.ok(old.isOpen)
    await client.close()
  })

  test("what was made as one principal is not sent again over a new socket that is another's", async () => {
    let token = "alice"
    const { world, client, run, applied } = setUp({ token: () => token })
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.socket.held = true
    const call = watch(handle.push("alice's"))
    await run()
    token = "bob"
    client.switchTo("ws://fra")
    await run()
    assert.equal(call.how(), "UNAUTHORIZED unknown")
    assert.deepEqual(applied(), ["push(alice's)"])
    assert.ok(world.sockets[0]?.isClosed)
    await client.close()
  })

  test("a client that changes its mind on the way leaves at most one socket behind", async () => {
    const { world, client, run, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    for (let i = 0; i < 12; i++) {
      client.switchTo(`ws://${["fra", "nrt", "bos"][i % 3]}`)
      void handle.push(`${i + 2}`)
      for (let n = 0; n < i; n++) world.step()
      await Promise.resolve()
      assert.ok(world.sockets.filter((socket) => !socket.isClosed).length <= 3)
    }
    await run()
    assert.equal(client.pop, "bos")
    assert.equal(world.sockets.filter((socket) => !socket.isClosed).length, 1)
    assert.deepEqual(
      applied(),
      Array.from({ length: 13 }, (_, i) => `push(${i + 1})`),
    )
    await client.close()
  })

  test("an actor that moves while its attach stays is told, and nothing is sent again", async () => {
    const { world, client, run, moves, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
    const sent = kinds().length
    world.socket.send({ t: "moved", ch, to: "nrt", e: 2, ticket: "fresh", stays: true })
    await run()
    assert.equal(kinds().length, sent)
    assert.deepEqual([handle.pop, handle.ticket], ["nrt", "fresh"])
    assert.deepEqual(moves, [{ actor: ["list", "a"], from: "bos", to: "nrt", ms: 0, report: undefined }])
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    await client.close()
  })

  test("hints are advice that an app may keep, change or withhold", async () => {
    const kept = new Map<string, string>()
    const storage = {
      getItem: (k: string) => kept.get(k) ?? null,
      setItem: (k: string, v: string) => void kept.set(k, v),
    }
    const first = setUp({ storage })
    await Promise.all([first.client.list.get("a").push("1"), first.run()])
    assert.equal(first.client.list.get("a").ticket, "list.a.bos.1")
    await first.client.close()
    const second = setUp({
      storage,
      ticketFor: (actor, ticket) => (actor[1] === "b" ? undefined : `${ticket}-changed`),
    })
    void second.client.list.get("a").push("2")
    await second.run()
    assert.deepEqual(second.world.socket.protocols, ["sojourn.v1", "sojourn.at.list.a.bos.1-changed"])
    second.client.forgetTickets()
    assert.deepEqual(second.client.tickets(), [])
    second.client.setTickets([{ actor: ["list", "a"], ticket: "forged" }])
    assert.equal(second.client.list.get("a").ticket, "forged")
    await second.client.close()
  })

  test("a moved actor is attached again at once on the same socket, and not in a tight loop", async () => {
    const { world, client, run, advance, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const sendAway = (): void => {
      const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
      world.socket.send({ t: "moved", ch, to: "fra", e: 2 })
      world.actor("list/a").attaches.clear()
    }
    sendAway()
    const call = watch(handle.push("x"))
    await run()
    assert.equal(call.how(), "= 1")
    assert.equal(world.sockets.length, 1)
    for (let i = 0; i < 8; i++) {
      sendAway()
      await run()
    }
    const attaches = (): number => kinds().filter((kind) => kind === "attach").length
    assert.equal(attaches(), 4, "after three in a row there is a pause")
    await advance(20_000)
    assert.equal(attaches(), 5)
    await client.close()
  })

  test("only the first attach on a socket is an arrival: later ones leave the actor where it is", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    handle.state.subscribe(() => {})
    await run()
    client.switchTo("ws://fra")
    await run()
    const stays = world.sockets.flatMap(({ frames }) =>
      frames.flatMap((f) =>
        f.t === "attach" ? [f.stay ?? false] : f.t === "hello" ? (f.attach ?? []).map((a) => a.stay ?? false) : [],
      ),
    )
    assert.deepEqual(stays, [false, true, false])
    await client.close()
  })

  test("what a closed socket still had to say is ignored", async () => {
    const { world, client, run, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    client.switchTo("ws://fra")
    const call = watch(handle.push("2"))
    await run()
    const events: string[] = []
    handle.on("pushed", (value) => events.push(value))
    for (let ch = 1; ch < 5; ch++) {
      old.sayLate({ t: "reply", ch, c: 2, r: 9, ok: { v: "wrong" } })
      old.sayLate({ t: "out", ch, r: 9, prev: world.actor("list/a").r, ev: [["pushed", { v: "wrong" }]] })
    }
    old.sayLate({ t: "goaway", retryAfterMs: 0 })
    await run()
    assert.equal(call.how(), "= 2")
    assert.deepEqual(events, [])
    assert.equal(world.sockets.length, 2)
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("C65 a refused attach: never rejects with its outcome, later waits as told", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    world.refuseAttach = () => new SojournError("FORBIDDEN")
    const refused = watch(handle.push("1"))
    await run()
    assert.equal(refused.how(), "FORBIDDEN not-executed")
    assert.deepEqual(
      errors.map((error) => error.code),
      ["FORBIDDEN"],
    )
    world.refuseAttach = () => new SojournError("POP_UNREACHABLE", "not now", { retryAfterMs: 700 })
    const waiting = watch(handle.push("2"))
    await run()
    world.refuseAttach = () => undefined
    await advance(699)
    assert.equal(waiting.how(), "pending")
    await advance(1)
    assert.equal(waiting.how(), "= 1")
    await client.close()
  })

  test("a session that the server forgot: what may have been applied is unknown, the rest goes on under a fresh one", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.deaf = true
    const sent = watch(handle.push("2"))
    await run()
    const [sid] = world.actor("list/a").sessions.keys()
    world.forgotten.add(sid ?? "")
    world.deaf = false
    world.socket.cut()
    const unsent = watch(handle.push("3"))
    await advance(1_000)
    assert.equal(sent.how(), "SESSION_UNKNOWN unknown")
    assert.equal(unsent.how(), "= 2")
    assert.deepEqual(applied(), ["push(1)", "push(3)"])
    await client.close()
  })

  test("an attach that is never answered is made again", async () => {
    const { world, client, advance, run } = setUp()
    const handle = client.list.get("a")
    world.refuseAttach = () => new SojournError("SLEPT")
    client.connect()
    await run()
    world.socket.held = true
    const call = watch(handle.with({ timeoutMs: 60_000 }).push("x"))
    await advance(15_000)
    world.refuseAttach = () => undefined
    world.socket.held = false
    await advance(15_000)
    assert.equal(call.how(), "= 1")
    await client.close()
  })
})

describe("the connection", () => {
  test("C61 C59 the server's death is survived: first retry within 250 ms, then within half of the time that it has been away, up to 15 s", async () => {
    const { world, client, run, clock, statuses } = setUp({
      chance: { random: () => 1, id: () => "c" },
      limits: { callMs: 600_000 },
    })
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
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
