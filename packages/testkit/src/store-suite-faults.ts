import assert from "node:assert/strict"

import { emptyBody, type Store } from "@sojourn/core"
import fc from "fast-check"

import type { HeldFlushes } from "./store-conformance.ts"
import { StoreModel, callStore, storeCommands, type Expected, type StoreCall } from "./store-model.ts"
import { a, body, bytes, grant, hasCode, owned, write, type It } from "./store-samples.ts"

/** The storage suite: flushes that hang or fail, crashes, and random sequences against the model. */
export function flushes(it: It): void {
  const held = (
    where: "before" | "after",
    what: string,
    run: (store: Store, held: HeldFlushes) => Promise<void>,
  ): void =>
    it(
      what,
      async (fixture) => {
        const store = await fixture.open()
        await owned(store, a, "1")
        await owned(store, "notebook/other", "1")
        assert.ok(fixture.holdFlushes)
        const flushes = fixture.holdFlushes(where)
        try {
          await run(store, flushes)
        } finally {
          flushes.release()
        }
      },
      "holdFlushes",
    )

  for (const where of ["before", "after"] as const) {
    held(
      where,
      `C31 nothing settles while its flush is held ${where} the write, and all of it after`,
      async (store, flush) => {
        const fence = { e: 0, f: 1, v: 1 }
        const settled: string[] = []
        const watch = <T>(label: string, operation: Promise<T>): Promise<T> =>
          operation.finally(() => {
            settled.push(label)
          })
        const watermark = store.watermark()
        const operations = [
          watch("commit", store.commit(a, fence, write("h2", "2"))),
          watch("already", store.commit(a, fence, write("h2", "2"))),
          watch("fenced", store.commit(a, { ...fence, f: 0 }, write("x", "x"))),
          watch("check", store.check(a, fence)),
          watch("peek", store.peek(a)),
          watch("load", store.load(a)),
          watch("compact", store.compact(a, fence, bytes("s"), 1)),
          watch("pull", store.pull(a, true, "fra")),
          watch("pull again", store.pull(a, true, "fra")),
          watch("list", store.list({ limit: 10 })),
          watch("new", store.claim("notebook/new", true)),
          watch("install", store.install("notebook/in", false, grant(1, 0, "", emptyBody), undefined)),
        ]
        await flush.reached
        const late = [
          watch("late peek", store.peek(a)),
          watch("late check", store.check(a, fence)),
          watch("late load", store.load("notebook/in")),
        ]
        await turns(50)
        assert.deepEqual(settled, [])
        assert.equal(store.watermark(), watermark, "the watermark is the last flushed one")
        flush.release()
        await Promise.all([...operations, ...late])
        assert.deepEqual(await store.peek(a), { k: "GRANTED", e: 1, to: "fra", v: 2, h: "h2" })
        assert.equal(store.watermark(), watermark + 5)
      },
    )

    held(
      where,
      `C32 a flush that fails ${where} the write rejects what waited for it, and a claim shows the truth`,
      async (store, flush) => {
        const fence = { e: 0, f: 1, v: 1 }
        const watermark = store.watermark()
        const failing = [
          store.commit(a, fence, write("h2", "2")),
          store.check(a, fence),
          store.commit("notebook/other", fence, write("h2", "2")),
        ]
        const outcomes = Promise.allSettled(failing)
        await flush.reached
        flush.fail()
        for (const outcome of await outcomes) {
          assert.ok(outcome.status === "rejected")
          hasCode("UNKNOWN_OUTCOME", "unknown")(outcome.reason)
        }
        const claim = await store.claim(a, true)
        assert.ok(claim.record?.k === "OWNED")
        assert.equal(claim.record.f, 2)
        const applied = where === "after"
        assert.deepEqual([claim.record.v, claim.record.h], applied ? [2, "h2"] : [1, "h1"])
        assert.deepEqual(claim.body, applied ? body(undefined, "1", "2") : body(undefined, "1"))
        assert.equal(
          (await store.commit(a, fence, write("h2", "2"))).kind,
          "fenced",
          "the abandoned write cannot come late",
        )
        assert.ok(store.watermark() > watermark)
      },
    )
  }
}

/** Lets everything run that could: every queued callback of the event loop, `count` times over. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

export function crashes(it: It): void {
  it(
    "C5 after a crash all that was acknowledged is there, and what the dead process writes later is fenced",
    async (fixture) => {
      const store = await fixture.open()
      const fence = await owned(store, a, "1", "2")
      assert.ok(fixture.crash)
      const next = await fixture.crash()
      assert.equal(next.id, store.id)
      assert.equal(next.watermark(), store.watermark())
      const claim = await next.claim(a, true)
      assert.deepEqual(claim.body, body(undefined, "1", "2"))
      const late = await store.commit(a, fence, write("late", "late")).catch(() => ({ kind: "refused" }))
      assert.notEqual(late.kind, "committed")
      assert.equal((await next.commit(a, { ...fence, f: 2 }, write("h3", "3"))).kind, "committed")
    },
    "crash",
  )
}

/** Calls in one run, and what they came to. */
type Step = readonly [call: StoreCall, expected: Expected]

export function randomness(it: It): void {
  for (const together of [false, true])
    it(`C40 random operations agree with a model, called ${together ? "all at once" : "one after another"}`, async (fixture) => {
      let store = await fixture.open()
      let round = 0
      await fc.assert(
        fc.asyncProperty(fc.array(storeCommands(), { minLength: 1, maxLength: 40, size: "max" }), async (commands) => {
          const model = new StoreModel()
          const watermark = store.watermark()
          // Actors of their own for each round: opening a store for each is what would take the time.
          const prefix = `r${together ? 1 : 0}${round++}`
          const steps = commands.map((command): Step => {
            const call = command(model)
            return [call, model.apply(call)]
          })
          const running: Promise<void>[] = []
          for (const [call, expected] of steps) {
            const compared = agrees(callStore(store, inRound(prefix, call)), expected, call)
            // Those called together are waited for at the end; without this a failing one would be reported as unhandled first.
            compared.catch(() => undefined)
            running.push(compared)
            if (!together) await compared
          }
          await Promise.all(running)
          if (round % 20 === 0) store = await fixture.reopen()
          assert.equal(store.watermark(), watermark + model.writes)
          await holds(store, prefix, model)
        }),
        { numRuns: 100 },
      )
    })

  it(
    "C32, C40 whichever flushes fail, before or after their write, the store holds what a model says",
    async (fixture) => {
      assert.ok(fixture.holdFlushes)
      let store = await fixture.open()
      let round = 0
      const together = fc.record({
        commands: fc.array(storeCommands(), { minLength: 1, maxLength: 8, size: "max" }),
        fails: fc.constantFrom(undefined, undefined, "before", "after"),
      })
      const batches = fc.array(together, { minLength: 1, maxLength: 12, size: "max" })
      await fc.assert(
        fc.asyncProperty(batches, async (rounds) => {
          let model = new StoreModel()
          const prefix = `f${round++}`
          for (const { commands, fails } of rounds) {
            const after = model.copy()
            const steps = commands.flatMap((command): Step[] => {
              const call = command(after)
              // What only reads may be answered before the flush.
              return fails !== undefined && reads.has(call.op) ? [] : [[call, after.apply(call)]]
            })
            if (steps.length === 0) continue
            const flush = fails && fixture.holdFlushes?.(fails)
            const running = steps.map(async ([call, expected]) => {
              const answered = callStore(store, inRound(prefix, call))
              if (flush) await assert.rejects(answered, hasCode("UNKNOWN_OUTCOME"), call.op)
              else await agrees(answered, expected, call)
            })
            if (flush) {
              await flush.reached
              flush.fail()
            }
            await Promise.all(running)
            if (fails !== "before") model = after
          }
          if (round % 20 === 0) store = await fixture.reopen()
          await holds(store, prefix, model)
        }),
        { numRuns: 100 },
      )
    },
    "holdFlushes",
  )
}

const reads: ReadonlySet<string> = new Set(["check", "peek", "load"])

async function holds(store: Store, prefix: string, model: StoreModel): Promise<void> {
  const due = await store.due({ before: Number.MAX_SAFE_INTEGER, limit: 1_000 })
  assert.deepEqual(
    due.filter(({ actor }) => actor.startsWith(`${prefix}n/`)),
    model.due().map(({ actor, due }) => ({ actor: `${prefix}${actor}`, due })),
  )
  for (const { actor, record } of model.listed()) {
    const { snapshot, entries } = model.actor(actor)
    assert.deepEqual(await store.load(`${prefix}${actor}`), { record, body: { snapshot, entries } }, actor)
  }
}

async function agrees(running: Promise<unknown>, expected: Expected, call: StoreCall): Promise<void> {
  const what = `${call.op} ${JSON.stringify(call.args)}`
  if ("answer" in expected) assert.deepEqual(await running, expected.answer, what)
  else if (expected.rejects === "RangeError") await assert.rejects(running, RangeError, what)
  else await assert.rejects(running, hasCode(expected.rejects), what)
}

function inRound(prefix: string, call: StoreCall): StoreCall {
  const [actor, ...others] = call.args
  return { op: call.op, args: [`${prefix}${actor}`, ...others] } as StoreCall
}
