import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { alone } from "./testing/alone.ts"
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
