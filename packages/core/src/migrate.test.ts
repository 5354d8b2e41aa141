import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { actor } from "./actor.ts"
import { climb, versionOf } from "./migrate.ts"

describe("the migration ladder", () => {
  test("runs each step above what is stored once, in order", () => {
    const ran: number[] = []
    const step = (from: number) => (old: unknown) => {
      ran.push(from)
      return { steps: [...(old as { steps: number[] }).steps, from] }
    }
    const ladder = { version: 4, migrate: { 1: step(1), 2: step(2), 3: step(3) } }
    assert.deepEqual(climb("a/b", ladder, 1, { steps: [] }), { steps: [1, 2, 3] })
    assert.deepEqual(ran.splice(0), [1, 2, 3])
    assert.deepEqual(climb("a/b", ladder, 3, { steps: [] }), { steps: [3] })
    assert.deepEqual(ran.splice(0), [3])
    const current = { steps: [9] }
    assert.equal(climb("a/b", ladder, 4, current), current)
    assert.deepEqual(ran, [])
    assert.equal(versionOf({}), 1)
  })

  test("a step that throws, is missing, is async or returns what cannot be stored fails by name and leaves the state alone", () => {
    const shared = { a: 1 }
    const cases: [string, ((old: unknown) => unknown) | undefined, RegExp][] = [
      [
        "throws",
        (old) => {
          ;(old as { n: number }).n = 7
          throw new Error("broken")
        },
        /version 2 threw/,
      ],
      ["is missing", undefined, /version 2 is not in migrate/],
      ["returns nothing", () => undefined, /did not return an object/],
      ["is async", () => Promise.reject(new Error("late")), /did not return an object/],
      ["shares a reference", () => ({ x: shared, y: shared }), /cannot be stored/],
      ["returns a function inside", () => ({ f: () => 1 }), /cannot be stored/],
    ]
    for (const [what, step, message] of cases) {
      const state = { n: 1, at: new Date(0) }
      const ladder = { version: 3, migrate: { 1: (old: unknown) => old, ...(step ? { 2: step } : {}) } }
      assert.throws(
        () => climb("a/b", ladder, 1, state),
        (error: { code?: string; message?: string }) =>
          error.code === "MIGRATION_FAILED" && message.test(error.message ?? ""),
        what,
      )
      assert.deepEqual(state, { n: 1, at: new Date(0) }, what)
    }
  })

  test("state of a later schema is refused, to be asked for again later", () => {
    assert.throws(() => climb("a/b", { version: 2 }, 3, {}), { code: "SCHEMA_NEWER", retry: "later" })
  })

  test("a version that is none, or a step that leads nowhere, is a TypeError where the class is defined", () => {
    const state = () => ({})
    for (const version of [0, 1.5, -1, NaN]) assert.throws(() => actor({ state, version }), TypeError)
    assert.throws(() => actor({ state, version: 2, migrate: { 2: (old) => old } }), /migrate\[2\]/)
    assert.throws(() => actor({ state, migrate: { 1: (old) => old } }), TypeError)
    actor({ state, version: 3, migrate: { 2: (old: { n: number }) => ({ m: old.n }) } })
  })
})
