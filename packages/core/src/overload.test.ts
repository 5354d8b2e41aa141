import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { defaultLimits } from "./limits.ts"
import type { CoreNode } from "./node.ts"
import type { LoopLoad } from "./ports.ts"
import type { Store } from "./store.ts"
import { alone } from "./testing/alone.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

/** A loop that a test makes late: everything is, or nothing. */
class Loop implements LoopLoad {
  late = false
  #rounds = 0
  lateMs = (): number => (this.late ? 1e9 : 0)
  demand = (): number => (this.late ? 2 : 0)
  rounds = (): number => ++this.#rounds
  busyMs = (): number => (this.late ? Infinity : 0)
}

interface Bare {
  readonly came: ServerFrame[]
  send(frame: object): void
  /** Frames of this kind that came, as what matters of them. */
  told(...kinds: string[]): string[]
}

function connect(node: CoreNode<unknown>): Bare {
  const came: ServerFrame[] = []
  const reader = node.acceptClient(
    { send: (data) => came.push(JSON.parse(data) as ServerFrame), buffered: () => 0, close: () => undefined },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  return {
    came,
    send: (frame) => {
      reader.message(JSON.stringify(frame))
    },
    told: (...kinds) =>
      came
        .filter(({ t }) => kinds.includes(t))
        .map((frame) => {
          if (frame.t === "reply") return `reply ${frame.c}${frame.ok ? ` = ${JSON.stringify(frame.ok.v)}` : ""}`
          if (frame.t === "answer") return `answer ${frame.q}`
          if (frame.t === "detached") return `detached ${frame.err.code} ${frame.err.outcome}`
          return frame.t
        }),
  }
}

async function setUp(): Promise<{
  node: CoreNode<unknown>
  loop: Loop
  clock: VirtualClock
  client: Bare
  attach: (ch: number, acked?: number, calls?: object[]) => void
  call: (c: number, a?: string) => object
  release: () => void
  /** Makes the loop late, for as long as it takes until that refuses. */
  overload: () => Promise<void>
  runs: string[]
}> {
  const runs: string[] = []
  const waits: (() => void)[] = []
  const counter = actor({
    state: () => ({ n: 0 }),
    actions: {
      add(c) {
        runs.push("add")
        return ++c.state.n
      },
      async wait(c) {
        runs.push("wait")
        await new Promise<void>((resolve) => waits.push(resolve))
        return ++c.state.n
      },
    },
    queries: { read: (c) => c.state.n },
  })
  const loop = new Loop()
  const clock = new VirtualClock()
  const { node } = await alone(setup({ actors: { counter } }), { loop, clock })
  const client = connect(node)
  client.send({ t: "hello", client: "c", token: "ada" })
  await clock.advance(1)
  const [welcome] = client.came
  assert.ok(welcome?.t === "welcome")
  const sid = welcome.sessions[0] as string
  const noise = connect(node)
  noise.send({ t: "hello", client: "n", token: "bob" })
  await clock.advance(1)
  return {
    overload: async () => {
      loop.late = true
      noise.send({ t: "attach", ch: 1, actor: ["counter", "noise"], sid: "none", acked: 0, live: false })
      await clock.advance(defaultLimits.overloadMsMin)
    },
    node,
    loop,
    clock,
    client,
    attach: (ch, acked = 0, calls = []) => {
      client.send({ t: "attach", ch, actor: ["counter", "k"], sid, acked, live: false, calls })
    },
    call: (c, a = "add") => ({ t: "call", ch: 1, c, a, p: { v: [] } }),
    release: () => {
      for (const wait of waits.splice(0)) wait()
    },
    runs,
  }
}

describe("an overloaded node", () => {
  test("answers what it has taken on, ends the attach by name, and takes none of the calls in between", async () => {
    const { node, loop, overload, clock, client, attach, call, release, runs } = await setUp()
    attach(1)
    await clock.advance(1)
    client.send(call(1, "wait"))
    client.send({ t: "query", ch: 1, q: 1, after: 1, n: "read", p: { v: [] } })
    await clock.advance(1)
    await overload()
    client.send(call(2))
    loop.late = false
    // Were it taken on, 2 would be missing before it.
    client.send(call(3))
    await clock.advance(1)
    assert.deepEqual(client.told("detached"), [])
    release()
    await clock.advance(1)
    assert.deepEqual(client.told("reply", "answer", "detached"), [
      "reply 1 = 1",
      "answer 1",
      "detached OVERLOADED not-executed",
    ])
    assert.deepEqual(runs, ["wait"])
    assert.equal(node.stats().refused, 1)

    const { c: _, ...rest } = call(0) as { c: number; a: string; p: object }
    attach(2, 1, [
      { ...rest, c: 2 },
      { ...rest, c: 3 },
    ])
    await clock.advance(1)
    assert.deepEqual(client.told("reply").slice(1), ["reply 2 = 2", "reply 3 = 3"])
    await node.stop({ drainMs: 0 })
  })

  test("waits for what it has taken on no longer than it tells the client to wait; the call is still applied once", async () => {
    const { node, loop, overload, clock, client, attach, call, release, runs } = await setUp()
    attach(1)
    await clock.advance(1)
    client.send(call(1, "wait"))
    await clock.advance(1)
    await overload()
    client.send(call(2))
    loop.late = false
    await clock.advance(199)
    assert.deepEqual(client.told("detached"), [])
    await clock.advance(801)
    assert.deepEqual(client.told("detached"), ["detached OVERLOADED not-executed"])
    const { c: _, ...wait } = call(0, "wait") as { c: number; a: string; p: object }
    attach(2, 0, [{ ...wait, c: 1 }])
    await clock.advance(1)
    release()
    await clock.advance(1)
    assert.deepEqual(client.told("reply"), ["reply 1 = 1"])
    assert.deepEqual(runs, ["wait"])
    await node.stop({ drainMs: 0 })
  })

  test("refuses a query and a new attach by the same name, and serves both afterwards", async () => {
    const { node, loop, overload, clock, client, attach } = await setUp()
    await overload()
    attach(1)
    assert.deepEqual(client.told("detached"), ["detached OVERLOADED not-executed"])
    loop.late = false
    attach(2)
    await clock.advance(1)
    assert.deepEqual(client.told("attached"), ["attached"])
    const query = (ch: number, q: number): void => {
      client.send({ t: "query", ch, q, after: 0, n: "read", p: { v: [] } })
    }
    query(2, 1)
    await clock.advance(1)
    await overload()
    query(2, 2)
    assert.equal(client.told("detached").length, 2)
    loop.late = false
    attach(3)
    query(3, 2)
    await clock.advance(1)
    assert.deepEqual(client.told("answer"), ["answer 1", "answer 2"])
    await node.stop({ drainMs: 0 })
  })

  test("a client that leaves while it is being refused is told nothing more, and leaves nothing behind", async () => {
    const { node, loop, overload, clock, client, attach, call, release } = await setUp()
    attach(1)
    await clock.advance(1)
    client.send(call(1, "wait"))
    await clock.advance(1)
    await overload()
    client.send(call(2))
    loop.late = false
    client.send({ t: "detach", ch: 1 })
    release()
    await clock.advance(2_000)
    assert.deepEqual(client.told("detached", "reply"), [])
    await node.stop({ drainMs: 0 })
  })

  for (const waitMs of [50, 250])
    test(`turns that wait ${waitMs} ms for their write, while the loop has no rest: ${waitMs < defaultLimits.lateMsMax ? "served" : "OVERLOADED"}`, async () => {
      const clock = new VirtualClock()
      let rounds = 0
      const loop: LoopLoad = { lateMs: () => 0, demand: () => 1, rounds: () => ++rounds, busyMs: () => clock.mono() }
      const counter = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })
      const later = (): Promise<void> => new Promise((resolve) => clock.after(waitMs, resolve))
      const slow = (inner: Store): Store => ({
        ...inner,
        commit: async (...args) => {
          const answer = await inner.commit(...args)
          await later()
          return answer
        },
      })
      const { node } = await alone(setup({ actors: { counter } }), { loop, clock, store: slow })
      const client = connect(node)
      client.send({ t: "hello", client: "c", token: "ada" })
      await clock.advance(1)
      const [welcome] = client.came
      assert.ok(welcome?.t === "welcome")
      const [sid] = welcome.sessions
      client.send({ t: "attach", ch: 1, actor: ["counter", "k"], sid, acked: 0, live: false })
      for (let c = 1; c <= 100; c++) {
        client.send({ t: "call", ch: 1, c, a: "add", p: { v: [] } })
        await clock.advance(25)
      }
      await clock.advance(waitMs * 2)
      const ended = client.told("detached")
      assert.deepEqual(ended, waitMs < defaultLimits.lateMsMax ? [] : ["detached OVERLOADED not-executed"])
      if (ended.length === 0) assert.equal(client.told("reply").length, 100)
      await node.stop({ drainMs: 0 })
    })
})

// Each id is signed: a client that asked for as many as it may in each frame it may send had the node do nothing else.
void test("session ids count towards the frames a second as if each had been asked for by itself", async () => {
  const limits = { framesBurstMax: 100, framesPerSecondMax: 100 }
  const clock = new VirtualClock()
  const { node } = await alone(setup({ actors: {} }), { clock, limits })
  let ids = 0
  const closed: string[] = []
  const reader = node.acceptClient(
    {
      send: (data) => {
        const frame = JSON.parse(data) as ServerFrame
        if (frame.t === "sessions") ids += frame.sessions.length
      },
      buffered: () => 0,
      close: (_code, reason) => closed.push(reason),
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = (frame: object): void => {
    reader.message(JSON.stringify(frame))
  }
  say({ t: "hello", client: "test", token: "ann" })
  await clock.advance(10)
  const ask = { t: "sessions", n: 50 }
  say(ask)
  await clock.advance(1_000)
  say(ask)
  say(ask)
  assert.deepEqual([ids, closed], [150, []])
  say(ask)
  assert.deepEqual([ids, closed], [150, ["RATE_LIMITED"]])
  await node.stop()
})
