// What an author's code may do without harm to its actor's state, to others, or to the process: found by a review that set out to break it.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, event, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { alone } from "./testing/alone.ts"
import { bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

interface Box {
  x: unknown
  map: Map<string, number>
  set: Set<number>
  node: { n: number }
}

/** A turn of the event loop: a rejection that nobody hears would have ended the process by then. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

void describe("what an author puts into the state", () => {
  const kept: { map?: Map<string, number>; draft?: { n: number } } = {}
  const box = actor({
    state: (): Box => ({ x: undefined, map: new Map(), set: new Set(), node: { n: 1 } }),
    actions: {
      count: (c) => [...c.state.map.keys()].length,
      buffer(c) {
        c.state.x = Buffer.from("abc")
      },
      sends: (_c, what: string) =>
        what === "Buffer" ? Buffer.from("abc") : what === "ArrayBuffer" ? new ArrayBuffer(4) : new Float16Array(2),
      pick(c, from: "map" | "node", key: string) {
        c.state.x = (c.state[from] as unknown as Record<string, unknown>)[key]
      },
      groups(c) {
        const sets = Object.assign(Object.create(null) as object, { t: new Set(["a"]) })
        c.state.x = { ...Object.groupBy([1, 2, 3], (n) => (n % 2 ? "odd" : "even")), sets }
      },
      change(c) {
        const x = c.state.x as { odd: number[]; sets: { t: Set<string> } }
        x.odd.push(5)
        x.sets.t.add("b")
        return [x.odd.length, x.sets.t.size]
      },
      gives(c) {
        kept.map = new Map([["a", 1]])
        c.state.x = kept.map
      },
      fails(c) {
        kept.draft = c.state.node
        kept.draft.n++
        throw new Error("rolled back")
      },
      stale(c) {
        c.state.x = { z: [kept.draft] }
      },
      shares(c, levels: number) {
        let a: object = {}
        for (let i = 0; i < levels; i++) a = { l: a, r: a }
        c.state.x = a
      },
      replaces(c) {
        ;(c as { state: unknown }).state = { x: 1 }
      },
    },
    queries: {
      x: (c) => c.state.x,
      spoilMap: (c) => c.state.map.set("cache", 1).size,
      spoilSet: (c) => c.state.set.add(1).size,
    },
  })
  const start = () => alone(setup({ actors: { box } }))

  test("is no Buffer, whose type nobody can read again, nor is what it sends", async () => {
    const { node, again } = await start()
    const one = node.actors.box.get("k")
    await assert.rejects(one.buffer(), { code: "BAD_STATE" })
    for (const what of ["Buffer", "ArrayBuffer", "Float16Array"])
      await assert.rejects(one.sends(what), { code: "INTERNAL" })
    assert.equal(await (await again()).actors.box.get("k").count(), 0)
  })

  test("is nothing that all objects share", async () => {
    const { node } = await start()
    for (const from of ["map", "node"] as const)
      await assert.rejects(node.actors.box.get("k").pick(from, "__proto__"), { code: /BAD_STATE|INTERNAL/ })
    for (const { prototype } of [Object, Map, Array]) assert.ok(!Object.isFrozen(prototype))
  })

  test("without a prototype can be changed, before a restart as after it", async () => {
    const { node, again } = await start()
    await node.actors.box.get("k").groups()
    assert.deepEqual(await node.actors.box.get("k").change(), [3, 2])
    assert.deepEqual(await (await again()).actors.box.get("k").change(), [4, 2])
  })

  test("stays as it is, whatever a query or its author does to Maps and Sets of it", async () => {
    const { node } = await start()
    const one = node.actors.box.get("k")
    await one.gives()
    kept.map?.set("later", 1)
    assert.deepEqual(await one.query.x(), new Map([["a", 1]]))
    await assert.rejects(one.query.spoilMap(), { code: "INTERNAL" })
    await assert.rejects(one.query.spoilSet(), { code: "INTERNAL" })
    assert.equal(await one.count(), 0)
  })

  test("is no draft of a turn that failed", async () => {
    const { node } = await start()
    const one = node.actors.box.get("k")
    await assert.rejects(one.fails(), { code: "INTERNAL" })
    await assert.rejects(one.stale(), { code: "INTERNAL" })
    assert.equal(await one.query.x(), undefined)
  })

  test("is looked at once, however often it stands in it", async () => {
    const { node } = await start()
    await assert.rejects(node.actors.box.get("k").shares(60), { code: "BAD_STATE" })
  })

  test("goes into the draft: to replace that is refused, not forgotten", async () => {
    const { node } = await start()
    await assert.rejects(node.actors.box.get("k").replaces(), { code: "INTERNAL" })
  })

  test("at first, or by a migration, is held to the same", async () => {
    const later = { version: 2, migrate: { 1: () => ({ m: new Map([[{ k: 1 }, 1]]) }) } }
    const v1 = actor({ state: () => ({ m: new Map<unknown, number>() }), actions: { touch: (c) => c.state.m.size } })
    const v2 = actor({
      ...later,
      state: () => ({ m: new Map<unknown, number>() }),
      actions: { touch: (c) => c.state.m.size },
    })
    const { node, again } = await alone(setup({ actors: { a: v1 } }))
    await node.actors.a.get("k").touch()
    await assert.rejects((await again(setup({ actors: { a: v2 } }))).actors.a.get("k").touch(), {
      code: "MIGRATION_FAILED",
    })
    const states = [() => new Date(0), () => Promise.reject(new Error("db"))] as unknown as (() => object)[]
    for (const state of states) {
      const odd = await alone(setup({ actors: { a: actor({ state, actions: { touch: () => 1 } }) } }))
      await assert.rejects(odd.node.actors.a.get("k").touch(), { code: "BAD_STATE" })
    }
    await settled()
  })
})

void describe("an author's code", () => {
  /** What a client is told that attaches and calls `add` once. */
  async function told(authorize: (what: string) => unknown): Promise<{ frames: ServerFrame[]; events: string[] }> {
    const note = actor({
      state: () => ({ n: 0 }),
      events: { said: event<number>() },
      actions: {
        add(c) {
          c.broadcast("said", ++c.state.n)
          return c.state.n
        },
      },
      authorize: (_c, _who, what) => authorize(what) as boolean,
    })
    const frames: ServerFrame[] = []
    const events: string[] = []
    const host = bareHost("bos", setup({ actors: { note } }), memoryStore({ disk: memoryDisk("d") }), {
      events: ({ type }) => events.push(type),
    })
    host.attach({
      actor: "note/k",
      who: { id: "ann" },
      mintedAt: 1_700_000_000_000,
      body: { ch: 1, actor: ["note", "k"], sid: "s", acked: 0, live: false, calls: [{ c: 1, a: "add", p: { v: [] } }] },
      ticket: undefined,
      hint: undefined,
      stay: false,
      localOnly: false,
      out: (frame) => frames.push(frame),
      ended: () => undefined,
    })
    await settled()
    return { frames, events }
  }
  const replyOf = ({ frames }: { frames: ServerFrame[] }): unknown =>
    frames.flatMap((frame) => (frame.t === "reply" ? [frame.err?.code ?? frame.ok?.v] : []))[0]

  test("allows what it says true of, also by a promise of another library, and nothing else", async () => {
    const later = (value: boolean) => () => ({
      then(resolve: (value: boolean) => void) {
        resolve(value)
      },
    })
    assert.equal(replyOf(await told(later(true))), 1)
    for (const authorize of [later(false), () => 1, () => "yes", () => ({})])
      assert.equal(replyOf(await told(authorize)), "FORBIDDEN")
  })

  test("that is asked where nobody can wait, and rejects, denies; and the log says so", async () => {
    const answer = await told((what) => (what === "said" ? Promise.reject(new Error("down")) : true))
    assert.equal(replyOf(answer), 1)
    assert.deepEqual(
      answer.frames.filter(({ t }) => t === "out"),
      [],
    )
    assert.ok(answer.events.includes("authorize.failed"))
  })

  test("that throws a proxy which has been revoked, or calls another actor and does not wait, harms nobody", async () => {
    const other = actor({
      state: () => ({}),
      actions: {
        no() {
          throw new Error("no")
        },
      },
    })
    const odd = actor({
      state: () => ({ n: 0 }),
      actions: {
        count: (c) => ++c.state.n,
        async throws() {
          await Promise.resolve()
          const { proxy, revoke } = Proxy.revocable({}, {})
          revoke()
          throw proxy as Error
        },
        floats(c) {
          void c.actors["other"]?.get("k")["no"]?.()
          return c.state.n
        },
      },
    })
    const { node } = await alone(setup({ actors: { odd, other } }))
    const one = node.actors.odd.get("k")
    await one.count()
    await assert.rejects(one.throws(), { code: "INTERNAL" })
    assert.equal(await one.floats(), 1)
    await settled()
    assert.equal(await one.count(), 2)
  })

  test("gives its alarms a time, and its actions a list", async () => {
    const schema = {
      "~standard": { version: 1 as const, vendor: "test", validate: () => ({ value: "abc" as unknown as [string] }) },
    }
    const odd = actor({
      state: () => ({ n: 0 }),
      alarms: { ring: () => undefined },
      actions: {
        set(c, afterMs: string) {
          c.alarms.set("ring", { afterMs: afterMs as unknown as number })
        },
        take: (_c, text: string) => text,
      },
      input: { take: schema },
    })
    const { node } = await alone(setup({ actors: { odd } }))
    const one = node.actors.odd.get("k")
    await assert.rejects(one.set("5"), { code: "INTERNAL" })
    await assert.rejects(one.take("x"), { code: "INTERNAL" })
    await assert.rejects(one.take((() => 1) as unknown as string), TypeError)
  })
})

// It ran once more, of an activation that had ended: whatever it did outside of its state was done twice.
for (const part of ["authorize", "input"] as const)
  void test(`an action whose turn was given up while its ${part} was looking at it is not begun`, async () => {
    const looking: PromiseWithResolvers<undefined>[] = []
    const look = async (): Promise<void> => {
      if (looking.length > 0) return
      const one = Promise.withResolvers<undefined>()
      looking.push(one)
      await one.promise
    }
    const began: string[] = []
    const validate = async (value: unknown) => {
      await look()
      return { value: value as [string] }
    }
    const door = actor({
      state: () => ({ n: 0 }),
      actions: {
        open(c, who: string) {
          began.push(who)
          return ++c.state.n
        },
      },
      ...(part === "input"
        ? { input: { open: { "~standard": { version: 1, vendor: "test", validate } } } }
        : { authorize: () => look().then(() => true) }),
    })
    const clock = new VirtualClock()
    const { node } = await alone(setup({ actors: { door } }), { clock, limits: { turnMsMax: 5_000 } })
    const said: ServerFrame[] = []
    const reader = node.acceptClient(
      {
        send: (data) => void said.push(JSON.parse(data) as ServerFrame),
        buffered: () => 0,
        close: () => undefined,
      },
      { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
    )
    const say = async (frame: object): Promise<void> => {
      reader.message(JSON.stringify(frame))
      await clock.advance(10)
    }
    await say({ t: "hello", client: "one", token: "ann" })
    const [welcome] = said.splice(0)
    assert.ok(welcome?.t === "welcome")
    const calls = [{ c: 1, a: "open", p: { v: ["ann"] } }]
    const attach = { t: "attach", actor: ["door", "a"], sid: welcome.sessions[0], acked: 0, live: false, calls }
    await say({ ch: 1, ...attach })
    await clock.advance(5_000)
    assert.equal(said.pop()?.t, "detached")
    assert.deepEqual(began, [])
    await say({ ch: 2, ...attach })
    assert.equal(said.pop()?.t, "reply")
    looking[0]?.resolve(undefined)
    await clock.advance(10)
    assert.deepEqual(began, ["ann"])
    await node.stop()
  })

void describe("what an author's code changes in place, and cannot be rolled back", () => {
  const waits = Promise.withResolvers<undefined>()
  const dates = actor({
    state: () => ({ at: new Date(0), n: 0 }),
    alarms: {
      spoil(c) {
        c.state.at.setTime(5)
      },
    },
    actions: {
      add: (c) => ++c.state.n,
      spoil(c) {
        c.state.at.setTime(5)
      },
      async spoilAndWait(c) {
        c.state.at.setTime(5)
        await waits.promise
      },
      later(c) {
        c.alarms.set("spoil", { afterMs: 1_000 })
      },
    },
    queries: { at: (c) => c.state.at.getTime(), n: (c) => c.state.n, touch: (c) => c.state.at.setTime(5) },
  })
  const app = setup({ actors: { dates } })

  // It was run again at once by each next activation, which it ended before any call was written: nobody was served any more.
  void test("an alarm puts off its alarm, and costs no call", async () => {
    const clock = new VirtualClock()
    const { node, events } = await alone(app, { clock })
    const handle = node.actors.dates.get("a")
    const settled = async <T>(work: Promise<T>): Promise<T> => {
      work.catch(() => undefined)
      await clock.advance(1_000)
      return work
    }
    await settled(handle.later())
    await clock.advance(60_000)
    for (let n = 1; n <= 100; n++) assert.equal(await settled(handle.add()), n)
    assert.equal(await settled(handle.query.at()), 0)
    const failed = events.filter(({ type }) => type === "alarm.failed")
    assert.ok(
      failed.length >= 6 && failed.length <= 9,
      `${failed.length} attempts within 160 s: each pause is twice as long`,
    )
    for (const [i, { attempt }] of failed.entries()) assert.equal(attempt, i + 1)
    for (const { error } of failed) assert.equal((error as { code: string }).code, "BAD_STATE")
    await node.stop()
  })

  // Whoever else was attached, or had called just before, was refused for good with it.
  void test("a call fails alone", async () => {
    const clock = new VirtualClock()
    const { node } = await alone(app, { clock })
    const told = new Map<string, string[]>()
    const join = async (id: string) => {
      const said: ServerFrame[] = []
      const heard: string[] = []
      told.set(id, heard)
      const reader = node.acceptClient(
        {
          send(data) {
            const frame = JSON.parse(data) as ServerFrame
            said.push(frame)
            if (frame.t === "detached") heard.push(frame.err.code)
            else if (frame.t === "reply") heard.push(frame.err?.code ?? `reply ${frame.c}`)
          },
          buffered: () => 0,
          close: () => undefined,
        },
        { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
      )
      const say = (frame: object): void => {
        reader.message(JSON.stringify(frame))
      }
      say({ t: "hello", client: id, token: id })
      await clock.advance(10)
      const [welcome] = said
      assert.ok(welcome?.t === "welcome")
      const attach = { t: "attach", ch: 1, actor: ["dates", "a"], sid: welcome.sessions[0], acked: 0, live: false }
      say(attach)
      await clock.advance(10)
      return { say, attach }
    }
    const ann = await join("ann")
    const bob = await join("bob")
    const eve = await join("eve")
    const add = { ch: 1, c: 1, a: "add", p: { v: [] } }
    ann.say({ t: "call", ...add })
    eve.say({ t: "call", ...add, a: "spoil" })
    bob.say({ t: "call", ...add })
    await clock.advance(10)
    assert.deepEqual(Object.fromEntries(told), {
      ann: ["reply 1", "SLEPT"],
      bob: ["SLEPT"],
      eve: ["BAD_STATE", "SLEPT"],
    })
    bob.say({ ...bob.attach, calls: [add] })
    await clock.advance(10)
    assert.deepEqual(told.get("bob"), ["SLEPT", "reply 1"])
    const n = node.actors.dates.get("a").add()
    await clock.advance(10)
    assert.equal(await n, 3)
    await node.stop()
  })

  // Its client was told of all its calls what was true of one: those before it had been written, and whoever believed it made them again.
  void test("a call fails alone, of those of its session as well", async () => {
    const clock = new VirtualClock()
    const { node } = await alone(app, { clock })
    let sid = ""
    const reader = node.acceptClient(
      {
        send(data) {
          const frame = JSON.parse(data) as ServerFrame
          if (frame.t === "welcome") sid = frame.sessions[0] ?? ""
        },
        buffered: () => 0,
        close: () => undefined,
      },
      { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
    )
    reader.message(JSON.stringify({ t: "hello", client: "ann", token: "ann" }))
    await clock.advance(10)
    reader.message(JSON.stringify({ t: "attach", ch: 1, actor: ["dates", "a"], sid, acked: 0, live: false }))
    await clock.advance(10)
    const handle = node.actors.dates.get("a")
    const calls = Promise.allSettled([handle.add(), handle.spoil(), handle.add()])
    await clock.advance(1_000)
    assert.deepEqual(
      (await calls).map((one) => (one.status === "fulfilled" ? one.value : (one.reason as { code: string }).code)),
      [1, "BAD_STATE", 2],
    )
    const n = handle.query.n()
    await clock.advance(10)
    assert.equal(await n, 2)
    await node.stop()
  })

  // A client that attached meanwhile was sent it as state, and no patch ever took it back.
  void test("nobody is shown it: neither that of a turn under way nor a query's", async () => {
    const clock = new VirtualClock()
    const { node } = await alone(app, { clock })
    const said: ServerFrame[] = []
    const reader = node.acceptClient(
      {
        send: (data) => said.push(JSON.parse(data) as ServerFrame),
        buffered: () => 0,
        close: () => undefined,
      },
      { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
    )
    reader.message(JSON.stringify({ t: "hello", client: "ann", token: "ann" }))
    await clock.advance(10)
    const [welcome] = said.splice(0)
    assert.ok(welcome?.t === "welcome")
    const attached = async (): Promise<unknown> => {
      const frame = { t: "attach", ch: 1, actor: ["dates", "a"], sid: welcome.sessions[0], acked: 0, live: true }
      reader.message(JSON.stringify(frame))
      await clock.advance(10)
      const [answer] = said.splice(0)
      if (answer?.t === "detached") return [answer.err.code, answer.err.retry]
      return answer?.t === "attached" && (answer.state?.v as { at: unknown }).at
    }
    const at = new Date(0).toJSON()
    assert.equal(await attached(), at)
    reader.message(JSON.stringify({ t: "detach", ch: 1 }))
    const handle = node.actors.dates.get("a")
    const spoiled = assert.rejects(handle.spoilAndWait(), { code: "BAD_STATE" })
    await clock.advance(10)
    assert.deepEqual(await attached(), ["SLEPT", "later"])
    waits.resolve(undefined)
    await clock.advance(10)
    await spoiled
    assert.equal(await attached(), at)
    reader.message(JSON.stringify({ t: "detach", ch: 1 }))
    const touched = handle.query.touch()
    await clock.advance(10)
    assert.equal(await touched, 5)
    assert.deepEqual(await attached(), ["SLEPT", "elsewhere"])
    assert.equal(await attached(), at)
    // Who attaches as the activation ends does not keep what it still has to write from being written.
    reader.message(JSON.stringify({ t: "call", ch: 1, c: 1, a: "spoil", p: { v: [] } }))
    const [, sid] = welcome.sessions
    reader.message(JSON.stringify({ t: "attach", ch: 2, actor: ["dates", "a"], sid, acked: 0, live: true }))
    await clock.advance(10)
    const answers = said.map((frame) =>
      frame.t === "reply" || frame.t === "detached" ? [frame.t, frame.ch, frame.err?.code] : [frame.t],
    )
    assert.deepEqual(answers, [
      ["reply", 1, "BAD_STATE"],
      ["detached", 1, "SLEPT"],
      ["detached", 2, "SLEPT"],
    ])
    await node.stop()
  })
})

void test("a residency that is a promise, and rejects, costs its actor and not the process", async () => {
  const residency = (): Promise<string[]> => Promise.reject(new Error("the law cannot be reached"))
  const note = actor({
    state: () => ({ n: 0 }),
    actions: { add: (c) => ++c.state.n },
    residency: residency as unknown as () => string[],
  })
  const { node } = await alone(setup({ actors: { note } }))
  await assert.rejects(node.actors.note.get("a").add(), { code: "INTERNAL" })
  await settled()
  await node.stop()
})
