import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { defaultLimits } from "./limits.ts"
import { sessionHead } from "./journal.ts"
import { SessionTable } from "./sessions.ts"
import { alone } from "./testing/alone.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const limits = { ...defaultLimits, sessionsPerActorMax: 2, repliesPerSessionMax: 3 }
const day = limits.sessionTtlMs
const skew = limits.clockSkewMsMax

function table(attached: string[] = []): SessionTable {
  return new SessionTable([], limits, () => new Set(attached))
}

describe("a session table", () => {
  test("judges a call by its number: next, repeated, acknowledged, past a hole, past the window (C49)", () => {
    const t = table()
    const s = t.open("s", "ann", 0, 0)
    assert.equal(t.judge(s, 1, 0), "next")
    assert.equal(t.judge(s, 1, 1), "repeat")
    assert.equal(t.judge(s, 3, 1), "hole")
    for (const c of [1, 2, 3]) t.applied(s, c, { r: c }, 0)
    assert.equal(t.judge(s, 2, 0), "repeat")
    assert.equal(t.judge(s, 4, 0), "too-many")
    t.acknowledge(s, 2)
    assert.equal(t.judge(s, 2, 0), "acknowledged")
    assert.equal(t.judge(s, 4, 0), "next")
  })

  test("takes a client's word for calls whose replies it has: calls that changed nothing leave no record", () => {
    const t = table()
    const s = t.open("s", "ann", 0, 0)
    t.acknowledge(s, 5)
    assert.equal(t.judge(s, 5, 0), "acknowledged")
    assert.equal(t.judge(s, 6, 0), "next")
  })

  test("gives an entry the replies that no entry had, and drops what the client acknowledged", () => {
    const t = table()
    const s = t.open("s", "ann", 0, 0)
    t.applied(s, 1, { r: 1 }, 5)
    t.applied(s, 2, { r: 1 }, 6)
    t.acknowledge(s, 1)
    const { head, ...record } = t.update(s)
    assert.deepEqual(record, { id: "s", w: "ann", m: 0, n: 6, l: 2, a: 1, y: [[2, { r: 1 }]] })
    assert.equal(head, sessionHead(record))
    assert.deepEqual(t.update(s).y, [])
    assert.deepEqual([...t.records()][0]?.y, [[2, { r: 1 }]])
  })

  // The snapshot's own write may fail while the entry after it holds: the call was then known as applied, and its reply was gone.
  test("a snapshot takes no reply away from the next entry", () => {
    const t = table()
    const s = t.open("s", "ann", 0, 0)
    t.applied(s, 1, { r: 1 }, 5)
    assert.deepEqual([...t.records()][0]?.y, [[1, { r: 1 }]])
    t.applied(s, 2, { r: 2 }, 6)
    assert.deepEqual(t.update(s).y, [
      [1, { r: 1 }],
      [2, { r: 2 }],
    ])
  })

  test("is no other principal's, and opens nothing whose record may have expired", () => {
    const t = table()
    t.open("s", "ann", 0, 0)
    assert.throws(() => t.open("s", "bob", 0, 0), { code: "SESSION_UNKNOWN" })
    assert.throws(() => t.open("old", "ann", 0, day - skew), { code: "SESSION_UNKNOWN" })
  })

  test("a full table refuses by name and evicts nobody who may come back; expired sessions make room", () => {
    const t = table(["watcher"])
    t.open("watcher", "ann", 0, 0)
    t.open("gone", "ann", 0, 0)
    assert.throws(() => t.open("third", "ann", day, day), { code: "SESSIONS_FULL" })
    const later = day + 2 * skew + 1
    t.open("third", "ann", later, later)
    assert.equal(t.get("gone"), undefined)
    assert.ok(t.get("watcher"), "attached, however long it is silent")
    assert.throws(() => t.open("fourth", "ann", later, later), { code: "SESSIONS_FULL" })
  })

  test("a session's life begins anew when its client leaves, however long that was attached and silent (C49)", () => {
    for (const snapshotBefore of [true, false]) {
      const attached = ["listener"]
      const t = table(attached)
      const s = t.open("listener", "ann", 0, 0)
      t.applied(s, 1, { r: 1 }, 0)
      const later = 2 * day
      if (snapshotBefore) t.expire(later)
      else t.left("listener", later, false)
      attached.pop()
      t.expire(later + day)
      assert.equal(t.judge(t.open("listener", "ann", 0, later + day), 2, 0), "next")
      t.expire(later + 3 * day)
      assert.equal(t.get("listener"), undefined)
    }
  })
})

// Pins a defect: it was refused with SESSION_UNKNOWN, of unknown outcome, where the actor had slept meanwhile.
test("the first call of a client that has only listened for days is answered", async () => {
  for (const t of ["call", "query"] as const) {
    const clock = new VirtualClock()
    const note = actor({
      state: () => ({ n: 0 }),
      actions: { add: (c) => ++c.state.n },
      queries: { n: (c) => c.state.n },
    })
    const { node } = await alone(setup({ actors: { note } }), { clock })
    const frames: ServerFrame[] = []
    const reader = node.acceptClient(
      { send: (text) => frames.push(JSON.parse(text) as ServerFrame), buffered: () => 0, close: () => undefined },
      { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
    )
    reader.message(JSON.stringify({ t: "hello", client: "test", token: "ann" }))
    await clock.advance(1)
    const [welcome] = frames
    assert.ok(welcome?.t === "welcome")
    const [sid] = welcome.sessions
    reader.message(JSON.stringify({ t: "attach", ch: 1, actor: ["note", "k"], sid, acked: 0, live: false }))
    for (let ms = 0; ms < 3 * defaultLimits.idleMs; ms += 10_000) {
      reader.message(`{"t":"ping"}`)
      await clock.advance(10_000)
    }
    assert.equal(node.stats().residents, 0)
    clock.jump(2 * day)
    const body = t === "call" ? { c: 1, a: "add", p: { v: [] } } : { q: 1, after: 0, n: "n", p: { v: [] } }
    reader.message(JSON.stringify({ t, ch: 1, ...body }))
    await clock.advance(10)
    assert.equal(frames.at(-1)?.t, t === "call" ? "reply" : "answer")
    await node.stop({ drainMs: 0 })
  }
})

// Its own call was then no next one any more, which ended the activation: whoever may call an actor could end it for everybody, as often as he liked.
test("a client that claims replies to calls that still wait ends nothing, and its calls run", async () => {
  const clock = new VirtualClock()
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const note = actor({
    state: () => ({ n: 0 }),
    actions: {
      add: (c) => ++c.state.n,
      async slow(c) {
        await promise
        return ++c.state.n
      },
    },
  })
  const { node, events } = await alone(setup({ actors: { note } }), { clock })
  const frames: ServerFrame[] = []
  const reader = node.acceptClient(
    { send: (text) => frames.push(JSON.parse(text) as ServerFrame), buffered: () => 0, close: () => undefined },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = async (frame: object): Promise<void> => {
    reader.message(JSON.stringify(frame))
    await clock.advance(10)
  }
  await say({ t: "hello", client: "test", token: "eve" })
  const [welcome] = frames
  assert.ok(welcome?.t === "welcome")
  const [one, two] = welcome.sessions
  const attach = { t: "attach", actor: ["note", "k"], acked: 0, live: false }
  const other = node.actors.note.get("k").slow()
  await clock.advance(10)
  await say({ ...attach, ch: 1, sid: one })
  await say({ t: "call", ch: 1, c: 1, a: "add", p: { v: [] } })
  await say({ ...attach, ch: 2, sid: two, calls: [{ c: 1, a: "add", p: { v: [] } }] })
  await say({ ...attach, ch: 3, sid: one, acked: 7 })
  resolve(undefined)
  await clock.advance(10)
  assert.ok(!events.some(({ type }) => type === "activation.dropped"))
  assert.equal(await other, 1)
  const replies = frames.flatMap((frame) => (frame.t === "reply" ? [[frame.ch, frame.c]] : []))
  assert.deepEqual(replies, [
    [3, 1],
    [2, 1],
  ])
  await node.stop({ drainMs: 0 })
})
