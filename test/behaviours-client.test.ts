// What a client sees when its line, its POP or its own patience fails; and who is let in.
import assert from "node:assert/strict"
import { test, describe } from "node:test"
import type { SocketFactory, Status } from "@sojourn/client"
import { memory } from "@sojourn/core"
import { SojournError, framesIn, type ServerFrame } from "@sojourn/protocol"
import { createPop } from "@sojourn/server"
import { connectRaw } from "@sojourn/testkit"
import { makeApp } from "./behaviours/app.ts"
import { asleep } from "./behaviours/settled.ts"
import { behaviour, callBody, createWorld, within } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** Resolves when the client has this status. */
function becomes(
  client: { status: Status; on(name: "status", listener: (change: { to: Status }) => void): unknown },
  status: Status,
): Promise<void> {
  return within(
    10_000,
    `the client is ${status}`,
    new Promise((resolve) => {
      if (client.status === status) resolve()
      client.on("status", ({ to }) => {
        if (to === status) resolve()
      })
    }),
  )
}

/** A socket that shows each frame to `through`, which says how often the client gets it. */
function tampered(through: (frame: ServerFrame) => number): SocketFactory {
  return (url, protocols, reader) => {
    const socket = new WebSocket(url, protocols)
    socket.onopen = () => reader.open()
    socket.onmessage = ({ data }: MessageEvent<string>) => {
      for (const frame of framesIn(data))
        for (let times = through(JSON.parse(frame) as ServerFrame); times > 0; times--) reader.message(frame)
    }
    socket.onclose = ({ code, reason }) => reader.closed(code, reason)
    socket.onerror = () => undefined
    return {
      send: (data) => socket.send(data),
      buffered: () => socket.bufferedAmount,
      close: (code, reason) => socket.close(code, reason),
    }
  }
}

behaviour(
  "C55 calls made offline are applied once after the reconnect, before anything sent in the connected handler",
  {},
  async (world) => {
    const key = world.key()
    const alice = world.client("alice")
    const ledger = alice.ledger.get(key)
    await ledger.add("a")
    await world.here.crash()
    await becomes(alice, "reconnecting")
    const handled = Promise.withResolvers<unknown>()
    alice.on("status", ({ to }) => {
      if (to === "connected") ledger.add("connected").then(handled.resolve, handled.reject)
    })
    const offline = ["b", "c", "d", "e"].map((id) => ledger.add(id))
    const asked = ledger.query.ids()
    await world.start(world.here.id)
    await within(10_000, "the calls", Promise.all([...offline, handled.promise]))
    assert.deepEqual(await asked, ["a", "b", "c", "d", "e"], "a query comes after the calls made before it")
    assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d", "e", "connected"])
    assert.equal(world.probe.ran.filter((one) => one.startsWith("add")).length, 6)
  },
)

behaviour(
  "C55 so are calls made before the first connect, and those that the cut left unanswered",
  {},
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const alice = world.client("alice")
    const ledger = alice.ledger.get(key)
    const early = ["a", "b"].map((id) => ledger.add(id))
    await Promise.all(early)
    const write = world.here.store.hold({ op: "commit", actor, at: "before" })
    const unanswered = ledger.add("c")
    await within(5_000, "its write begins", write.reached)
    world.here.proxy.cut()
    await becomes(alice, "reconnecting")
    const offline = ledger.add("d")
    write.pass()
    assert.deepEqual(
      (await Promise.all([unanswered, offline])).map(({ n }) => n),
      [3, 4],
    )
    assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d"])
    assert.equal(world.probe.ran.filter((one) => one.startsWith("add")).length, 4)
  },
)

behaviour(
  "C57 a missing output is noticed and made up for, and the app is told; a repeated one is dropped",
  {},
  async (world) => {
    const key = world.key()
    let outs = 0
    const watcher = world.client("watcher", world.here, {
      // The third output is lost, the fifth comes three times.
      socket: tampered((frame) => (frame.t !== "out" ? 1 : ++outs === 3 ? 0 : outs === 5 ? 3 : 1)),
    })
    const seen = watcher.ledger.get(key)
    const events: string[] = []
    const resumes: string[] = []
    seen.on("added", ({ id }) => events.push(id))
    seen.onResume((how) => resumes.push(how))
    const states: number[] = []
    const full = Promise.withResolvers<void>()
    seen.state.subscribe(({ n }) => {
      states.push(n)
      if (n === 8) full.resolve()
    })
    await seen.ready()
    const caller = world.client("caller").ledger.get(key)
    const ids = Array.from({ length: 8 }, (_, i) => `t${i}`)
    for (const id of ids) await caller.add(id)
    await within(10_000, "the watcher has it all", full.promise)
    assert.deepEqual(events, ids, "each event once, in order")
    assert.deepEqual(resumes, ["new", "replay"], "and the app was told of the gap")
    assert.deepEqual([watcher.stats.gaps, watcher.stats.duplicates >= 2], [1, true])
    assert.deepEqual(seen.state.get(), await caller.query.whole())
    // No state is shown twice or out of order but where a resync repeats the present one.
    assert.deepEqual(
      states,
      [...states].sort((a, b) => a - b),
    )
  },
)

behaviour(
  "C57 a gap that the window no longer covers leads to a snapshot, and the app is told that it is one",
  { limits: { tailEntriesMax: 2 } },
  async (world) => {
    const key = world.key()
    const lost = new Set([2, 3, 4])
    let outs = 0
    const watcher = world.client("watcher", world.here, {
      socket: tampered((frame) => (frame.t === "out" && lost.has(++outs) ? 0 : 1)),
    })
    const seen = watcher.ledger.get(key)
    const resumes: string[] = []
    seen.onResume((how) => resumes.push(how))
    const full = Promise.withResolvers<void>()
    seen.state.subscribe(({ n }) => {
      if (n === 6) full.resolve()
    })
    await seen.ready()
    const caller = world.client("caller").ledger.get(key)
    for (let i = 0; i < 6; i++) await caller.add(`t${i}`)
    await within(10_000, "the watcher has it all", full.promise)
    assert.equal(resumes[0], "new")
    assert.ok(resumes.includes("snapshot"), resumes.join())
    assert.deepEqual(seen.state.get(), await caller.query.whole())
  },
)

behaviour(
  "C57 each output names the one before it, so that a stranger's client sees a gap or a repetition too",
  {},
  async (world) => {
    const key = world.key()
    const watcher = await world.session("watcher")
    const { r } = await watcher.attach(ledgerOf(key), { live: true })
    const caller = world.client("caller").ledger.get(key)
    await caller.add("a")
    // Turns that this session sees nothing of lie between its outputs.
    await caller.refuse().catch(() => undefined)
    await caller.nop()
    await caller.add("b")
    await watcher.nth("out", 2)
    let position = r
    for (const out of watcher.raw.all("out")) {
      assert.equal(out.prev, position)
      assert.ok(out.r > out.prev)
      position = out.r
    }
  },
)

behaviour("C58 a client that connected and saw no output yet resumes from where it attached", {}, async (world) => {
  const key = world.key()
  const watcher = await world.session("watcher")
  const { r, resumed } = await watcher.attach(ledgerOf(key))
  assert.equal(resumed, "new")
  watcher.raw.cut()
  const caller = world.client("caller").ledger.get(key)
  for (const id of ["a", "b"]) await caller.add(id)
  const back = await world.session("watcher")
  back.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: watcher.sid, acked: 0, live: false, pos: r })
  const attached = await within(5_000, "attached", back.raw.find("attached"))
  assert.equal(attached.resumed, "replay")
  await back.nth("out", 2)
  assert.deepEqual(
    back.raw.all("out").map(({ ev, prev }) => [(ev?.[0]?.[1].v as { id: string }).id, prev]),
    [
      ["a", r],
      ["b", r + 1],
    ],
  )
  // The SDK's: the line breaks at the moment when the attach is answered.
  let attaches = 0
  const alice = world.client("alice", world.here, {
    socket: tampered((frame) => {
      if (frame.t === "attached" && ++attaches === 1) setImmediate(() => world.here.proxy.cut())
      return 1
    }),
  })
  const events: string[] = []
  const resumes: string[] = []
  const ledger = alice.ledger.get(key)
  ledger.on("added", ({ id }) => events.push(id))
  ledger.onResume((how) => resumes.push(how))
  await ledger.ready()
  await becomes(alice, "reconnecting")
  await caller.add("c")
  await ledger.add("d")
  assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d"])
  assert.deepEqual(resumes, ["new", "replay"])
  assert.deepEqual(events, ["c", "d"])
})

behaviour(
  "C60 a resume within the window replays, past it there is a snapshot and the flag, and never an error",
  { limits: { tailEntriesMax: 4, idleMs: 30 } },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const client = world.client("caller")
    const caller = client.ledger.get(key)
    await caller.add("a0")
    const watcher = await world.session("watcher")
    const { r } = await watcher.attach(ledgerOf(key), { live: true })
    watcher.raw.cut()
    /** What a client has seen belongs to its session: another one's position holds nothing back for this one, and takes nothing away. */
    const resume = async (pos: number, live: boolean, sid?: string) => {
      const back = await world.session("watcher")
      back.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: sid ?? back.sid, acked: 0, live, pos })
      const attached = await within(5_000, "attached", back.raw.find("attached"))
      await back.raw.flushed()
      assert.deepEqual(back.raw.all("detached"), [])
      return { attached, outs: back.raw.all("out") }
    }
    for (let i = 1; i <= 4; i++) await caller.add(`a${i}`)
    const check = async (): Promise<void> => {
      const within_ = await resume(r, true, watcher.sid)
      assert.deepEqual(
        [within_.attached.resumed, within_.attached.state, within_.outs.length],
        ["replay", undefined, 4],
      )
      assert.deepEqual(
        within_.outs.map(({ prev }) => prev),
        [r, r + 1, r + 2, r + 3],
      )
      const past = await resume(r - 1, true)
      assert.equal(past.attached.resumed, "snapshot")
      assert.deepEqual((past.attached.state?.v as { ids: string[] }).ids, ["a0", "a1", "a2", "a3", "a4"])
      assert.deepEqual(past.outs, [])
      const blind = await resume(r - 1, false)
      assert.deepEqual([blind.attached.resumed, blind.attached.state, blind.outs.length], ["snapshot", undefined, 0])
      const ahead = await resume(r + 99, true)
      assert.equal(ahead.attached.resumed, "snapshot")
      assert.equal(ahead.attached.r, r + 4)
    }
    await check()
    // The window is part of the actor: it is the same after a sleep, and after the POP died.
    await asleep(world.here, actor)
    await check()
    // Else it comes back elsewhere when the POP is gone, and takes the actor along.
    await client.close()
    await world.here.crash()
    await world.start(world.here.id)
    await check()
    // And after a move and a sleep there, though what the watcher's sockets at the old POP were sent reaches further than it says it has.
    if (world.seats.length > 1) {
      await world.client("mover", world.seat("fra")).ledger.get(key).add("moved")
      await world.seat("fra").events.until("actor.slept", actor)
      const back = await world.session("watcher", world.seat("fra"))
      back.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: watcher.sid, acked: 0, live: true, pos: r + 3 })
      const { resumed, pop } = await within(5_000, "attached", back.raw.find("attached"))
      assert.deepEqual([resumed, pop], ["replay", "fra"])
      await back.nth("out", 2)
    }
  },
)

describe("who is let in", () => {
  const app = makeApp()
  const refusedHello = async (
    port: number,
    token?: string,
  ): Promise<{ code: number; frames: readonly ServerFrame[] }> => {
    const raw = await connectRaw({ url: `ws://127.0.0.1:${port}` })
    raw.send({
      t: "hello",
      client: "x",
      ...(token === undefined ? {} : { token }),
      attach: [{ ch: 1, actor: ["vault", "alice"], sid: "none", acked: 0, live: true }],
    })
    const { code } = await within(5_000, "the refusal", raw.closed)
    return { code, frames: raw.frames }
  }

  test("whom authenticate refuses is told nothing, whatever the token, and nothing is created", async () => {
    await using world = await createWorld({ store: "memory", pops: 1, authenticate: () => null })
    for (const token of [undefined, "alice", "server:bos"]) {
      const raw = await world.raw()
      raw.send({ t: "hello", client: "x", ...(token === undefined ? {} : { token }) })
      assert.equal((await within(5_000, "the refusal", raw.closed)).code, 4502)
      assert.deepEqual(raw.frames, [])
    }
    assert.deepEqual(await world.here.store.inner.list({ limit: 10 }), [])
  })

  test("closed by default: a POP without authenticate and without dev refuses every client", async () => {
    const durable = {
      kind: "memory",
      open: async () => ({ ...(await memory().open()), durability: "flushed" as const }),
    }
    await using pop = await createPop({ app, id: "bos", region: "eu", storage: durable, logLevel: "silent" })
    const { port } = await pop.listen(0)
    for (const token of [undefined, "alice"]) {
      const { code, frames } = await refusedHello(port, token)
      assert.deepEqual([code, frames], [4502, []])
    }
  })

  test("dev is refused in production, and so is a volatile store without it", async () => {
    const before = process.env["NODE_ENV"]
    process.env["NODE_ENV"] = "production"
    try {
      await assert.rejects(createPop({ app, id: "bos", region: "eu", storage: memory(), dev: true }), (error) => {
        assert.ok(error instanceof SojournError)
        assert.equal(error.code, "BAD_CONFIG")
        assert.match(error.message, /NODE_ENV=production/)
        return true
      })
    } finally {
      if (before === undefined) delete process.env["NODE_ENV"]
      else process.env["NODE_ENV"] = before
    }
    await assert.rejects(createPop({ app, id: "bos", region: "eu", storage: memory() }), { code: "BAD_CONFIG" })
  })

  test("no client can be taken for server code, whatever authenticate says", async () => {
    await using world = await createWorld({ store: "memory", pops: 1, authenticate: () => ({ id: "server:bos" }) })
    const raw = await world.raw()
    raw.send({ t: "hello", client: "x", token: "any" })
    assert.equal((await within(5_000, "the refusal", raw.closed)).code, 4502)
  })
})

behaviour(
  "what authorize refuses is refused for each action, query, event and the live state, and the number of the call is used up",
  {},
  async (world) => {
    const alice = world.client("alice")
    await alice.vault.get(`alice~${world.home.id}`).set("hers")
    const mallory = await world.session("mallory")
    const vault = ["vault", `alice~${world.home.id}`] as const
    mallory.sendAttach(vault, { live: true })
    assert.equal((await mallory.detached()).err.code, "FORBIDDEN")
    const again = await world.session("mallory")
    await again.attach(vault, { calls: [callBody(1, "set", "stolen")] })
    const { err } = await again.reply(1)
    assert.deepEqual([err?.code, err?.outcome], ["FORBIDDEN", "not-executed"])
    again.raw.send({ t: "query", ch: 1, q: 1, after: 1, n: "read", p: { v: [] } })
    assert.equal((await within(5_000, "the answer", again.raw.find("answer"))).err?.code, "FORBIDDEN")
    again.call(1, "set", "stolen")
    assert.deepEqual((await again.nth("reply", 2)).err, err)
    assert.equal(await alice.vault.get(`alice~${world.home.id}`).query.read(), "hers")
    assert.deepEqual(
      world.probe.ran.filter((one) => one.startsWith("set")),
      ["set alice"],
    )
    // A client may not use what `authorize` alone could not refuse: names that no class has, on a prototype or not.
    for (const [c, name] of [
      [2, "constructor"],
      [3, "__proto__"],
      [4, "read"],
    ] as const)
      again.call(c, name)
    for (const c of [2, 3, 4]) {
      const refused = (await again.reply(c)).err
      assert.ok(refused !== undefined && ["UNKNOWN_ACTION", "FORBIDDEN"].includes(refused.code), refused?.code)
    }
  },
)
