import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { alone } from "./testing/alone.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const notes = actor({
  state: () => ({ texts: [] as string[] }),
  alarms: {
    add(c, text: string) {
      c.state.texts.push(text)
    },
  },
  actions: {
    add(c, text: string) {
      c.state.texts.push(text)
    },
    later(c, text: string, ms: number) {
      c.alarms.set("add", { afterMs: ms }, text, { id: text })
    },
  },
})

/** A node whose store keeps commits back while `held` has a list of them. */
async function world() {
  const clock = new VirtualClock()
  let held: (() => void)[] | undefined
  const limits = { snapshotBytesMax: 8_000, tailBytesMax: 1_000, journalEntriesMax: 2 }
  const started = await alone(setup({ actors: { notes } }), {
    clock,
    limits,
    store: (inner) => ({
      ...inner,
      async commit(...args) {
        await new Promise<void>((resolve) => {
          if (held) held.push(resolve)
          else resolve()
        })
        return inner.commit(...args)
      },
    }),
  })
  return {
    ...started,
    clock,
    alice: started.node.actors.notes.get("alice"),
    hold() {
      held = []
    },
    /** Those that came by now; what comes next is kept back as well. */
    release() {
      const now = held ?? []
      held = []
      for (const resolve of now) resolve()
    },
    releaseAll() {
      const now = held ?? []
      held = undefined
      for (const resolve of now) resolve()
    },
  }
}

const large = "x".repeat(1_000)

void test("entries made while the write that a snapshot follows is under way count for the next: a state past its bound is refused", async () => {
  const { alice, clock, hold, release, releaseAll } = await world()
  await alice.add("1")
  await alice.add("2")
  hold()
  // A snapshot is due: it is made as this write begins.
  const calls = [alice.add("3")]
  await clock.advance(0)
  for (let i = 0; i < 6; i++) calls.push(alice.add(large))
  await clock.advance(0)
  release()
  await clock.advance(0)
  for (let i = 0; i < 6; i++) calls.push(alice.add(large))
  await clock.advance(0)
  releaseAll()
  const settled = await Promise.allSettled(calls)
  const refused = settled.filter(({ status }) => status === "rejected")
  assert.equal(refused.length, 5, "seven fit")
  for (const one of refused) assert.equal((one as PromiseRejectedResult).reason.code, "SNAPSHOT_TOO_LARGE")
})

// Characters were counted: a state of another script was three times as large as it may be, and past what can be moved.
void test("a state is measured in the bytes that it is stored in, and so are its alarms", async () => {
  const { alice, clock, node } = await world()
  const filler = "語".repeat(1_000)
  const settled = async (work: Promise<unknown>): Promise<unknown> => {
    const [how] = (await Promise.all([Promise.allSettled([work]), clock.advance(10)]))[0]
    return how.status === "rejected" ? (how.reason as { code: string }).code : "held"
  }
  assert.deepEqual([await settled(alice.add(filler)), await settled(alice.add(filler))], ["held", "held"])
  assert.equal(await settled(alice.add(filler)), "SNAPSHOT_TOO_LARGE")
  assert.equal(await settled(alice.later(filler.slice(0, 250), 60_000)), "held")
  assert.equal(await settled(alice.later(filler.slice(0, 249), 60_000)), "SNAPSHOT_TOO_LARGE")
  await node.stop()
})

// It was stored whatever its size, could be moved nowhere, and every call of it was refused.
void test("a first state, or what a migration makes of one, is measured as well: past the bound nothing is written", async () => {
  const limits = { snapshotBytesMax: 8_000, tailBytesMax: 1_000 }
  const note = (text: string, version?: { version: number; migrate: Record<number, (old: unknown) => object> }) =>
    setup({
      actors: { note: actor({ state: () => ({ text }), queries: { size: (c) => c.state.text.length }, ...version }) },
    })
  const tooLarge = large.repeat(9)
  const started = await alone(note(tooLarge), { clock: new VirtualClock(), limits })
  await assert.rejects(started.node.actors.note.get("a").query.size(), { code: "SNAPSHOT_TOO_LARGE" })
  assert.equal(await started.store.load("note/a"), undefined)
  await started.node.stop()
  const small = await started.again(note(large))
  assert.equal(await small.actors.note.get("a").query.size(), 1_000)
  await small.stop()
  const grown = await started.again(note(large, { version: 2, migrate: { 1: () => ({ text: tooLarge }) } }))
  await assert.rejects(grown.actors.note.get("a").query.size(), { code: "SNAPSHOT_TOO_LARGE" })
  await grown.stop()
  const mended = await started.again(note(large, { version: 2, migrate: { 1: () => ({ text: "" }) } }))
  assert.equal(await mended.actors.note.get("a").query.size(), 0)
  await mended.stop()
})

void test("an alarm that runs while such a write is under way is in the snapshot of an actor that falls asleep", async () => {
  const { alice, clock, store, events, hold, releaseAll } = await world()
  await alice.later("a", 1_000)
  await alice.later("b", 2_000)
  for (const text of ["1", "2"]) await alice.add(text)
  await clock.advance(500)
  hold()
  // A snapshot follows the write of what `a` did, and `b` runs meanwhile.
  await clock.advance(2_000)
  releaseAll()
  await clock.advance(120_000)
  assert.ok(events.some(({ type }) => type === "actor.slept"))
  const { record, body } = (await store.load("notes/alice")) ?? assert.fail()
  assert.deepEqual([record.k === "OWNED" && record.v, body.entries.length], [7, 0])
})

const dates = actor({
  state: () => ({ at: new Date(0), n: 0, text: large }),
  alarms: {
    async spoil(c) {
      if (rung++ > 0) return
      c.state.at.setTime(5)
      await new Promise(() => undefined)
    },
  },
  actions: {
    add: (c) => ++c.state.n,
    /** It will be refused, and cannot be rolled back in memory. */
    async spoil(c) {
      c.state.at.setTime(5)
      await ended.promise
    },
    later(c) {
      c.alarms.set("spoil", { afterMs: 1_000 })
    },
  },
  queries: { at: (c) => c.state.at.getTime(), touch: (c) => c.state.at.setTime(5) },
})
let rung = 0
let ended = Promise.withResolvers<undefined>()

// The date was in the snapshot, and the actor went on from it.
for (const how of ["the journal is long", "the actor is to move", "an alarm does not end"])
  void test(`what a turn changed in place, and is refused for, is in no snapshot that is made meanwhile: ${how}`, async () => {
    ended = Promise.withResolvers()
    const clock = new VirtualClock()
    const moves = how === "the actor is to move"
    const limits = { precopyBytesMin: 100, turnMsMax: 5_000, ...(moves ? {} : { journalEntriesMax: 1 }) }
    const at = linked(setup({ actors: { dates } }), ["bos", "fra"], { clock, limits })
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
    await clock.advance(1_000)
    const { node, store } = at("bos")
    const handle = node.actors.dates.get("k~bos")
    const calls: Promise<unknown>[] = [handle.add()]
    if (how === "an alarm does not end") calls.push(handle.later())
    else calls.push(handle.spoil())
    for (const call of calls) call.catch(() => undefined)
    await clock.advance(100)
    const moved = moves ? node.move(["dates", "k~bos"], "fra") : undefined
    await clock.advance(1_500)
    ended.resolve(undefined)
    await clock.advance(5_000)
    await moved
    if (how !== "an alarm does not end") await assert.rejects(calls[1] ?? assert.fail(), { code: "BAD_STATE" })
    assert.equal((await store.peek("dates/k~bos"))?.k, moves ? "PTR" : "OWNED")
    const asked = at(moves ? "fra" : "bos")
      .node.actors.dates.get("k~bos")
      .query.at()
    await clock.advance(1_000)
    assert.equal(await asked, 0)
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })

// A query is no turn, at the end of which it would be found: what it had changed was stored by the next snapshot.
for (const how of ["falls asleep", "moves", "moves behind a copy"])
  void test(`what a query changed in place goes no further than the memory it is in: the actor ${how}`, async () => {
    const clock = new VirtualClock()
    const limits = { idleMs: 60_000, ...(how === "moves behind a copy" ? { precopyBytesMin: 100 } : {}) }
    const at = linked(setup({ actors: { dates } }), ["bos", "fra"], { clock, limits })
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
    await clock.advance(1_000)
    const { node, store } = at("bos")
    const handle = node.actors.dates.get("k~bos")
    const asked = [handle.add(), handle.query.touch()]
    await clock.advance(100)
    assert.deepEqual(await Promise.all(asked), [1, 5])
    const moved = how === "falls asleep" ? undefined : node.move(["dates", "k~bos"], "fra")
    await clock.advance(120_000)
    await moved
    assert.equal((await store.peek("dates/k~bos"))?.k, moved ? "PTR" : "OWNED")
    const answers = [handle.query.at(), handle.add()]
    await clock.advance(1_000)
    assert.deepEqual(await Promise.all(answers), [0, 2])
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })
