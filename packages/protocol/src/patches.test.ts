import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { apply, create } from "mutative"
import { codec, type Encoded } from "./codec.ts"
import { applyChanges, applyPatches, type Patch } from "./patches.ts"

/** A change picks its place by going down a random way, so that every generated one fits every state. */
interface Change {
  readonly way: readonly number[]
  readonly kind: number
  readonly key: string
  readonly value: unknown
}

const leaf = fc.oneof(
  fc.integer(),
  fc.string({ maxLength: 4 }),
  fc.boolean(),
  fc.constant(null),
  fc.constant(undefined),
  fc.date({ noInvalidDate: true }),
  fc.bigInt(),
)
const key = fc.constantFrom("a", "b", "c", "0", "1", "length", "size", "")
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("tree"), { maxLength: 4 }),
    fc.dictionary(key, tie("tree"), { maxKeys: 4, noNullPrototype: true }),
    fc
      .array(fc.tuple(fc.oneof(key, fc.integer({ min: 0, max: 3 })), tie("tree")), { maxLength: 4 })
      .map((pairs) => new Map(pairs)),
    fc.uniqueArray(leaf, { maxLength: 4 }).map((values) => new Set(values)),
    fc.array(tie("tree"), { maxLength: 3 }).map((values) => new Set(values)),
  ),
}))
const root = fc.record(
  {
    list: fc.array(tree, { maxLength: 5 }),
    map: fc.array(fc.tuple(key, tree)).map((p) => new Map(p)),
    set: fc.array(tree, { maxLength: 4 }).map((v) => new Set(v)),
    any: tree,
  },
  { noNullPrototype: true },
)
const change: fc.Arbitrary<Change> = fc.record({
  way: fc.array(fc.nat(7), { maxLength: 4 }),
  kind: fc.nat(7),
  key,
  value: tree,
})

function isContainer(x: unknown): x is object {
  return typeof x === "object" && x !== null && !(x instanceof Date)
}

function make(draft: object, { way, kind, key, value }: Change): void {
  let node = draft
  for (const step of way) {
    const children = (
      node instanceof Map || node instanceof Set ? [...node.values()] : (Object.values(node) as unknown[])
    ).filter(isContainer)
    const next = children[step % Math.max(1, children.length)]
    if (!next) break
    node = next
  }
  // A value of its own each time: a state is a tree.
  const mine: unknown = structuredClone(value)
  if (Array.isArray(node)) {
    const list: unknown[] = node
    const at = list.length === 0 ? 0 : key.length % list.length
    if (kind === 0) list.push(mine)
    else if (kind === 1) list.unshift(mine)
    else if (kind === 2) list.pop()
    else if (kind === 3) list.splice(at, 1)
    else if (kind === 4) list.splice(at, 1, mine, structuredClone(mine))
    else if (kind === 5) list.length = at
    else if (kind === 6) list.reverse()
    else if (list.length > 0) list[at] = mine
  } else if (node instanceof Map) {
    const keys: unknown[] = [...(node as Map<unknown, unknown>).keys()]
    if (kind < 4) (node as Map<unknown, unknown>).set(key, mine)
    else if (kind < 7) node.delete(keys[0])
    else node.clear()
  } else if (node instanceof Set) {
    const values: unknown[] = [...(node as Set<unknown>)]
    if (kind < 4) (node as Set<unknown>).add(mine)
    else if (kind < 7) node.delete(values[0])
    else node.clear()
  } else if (node === draft) {
    // The root keeps its parts.
    ;(node as Record<string, unknown>)["any"] = mine
  } else {
    const names = Object.keys(node)
    if (kind < 5) (node as Record<string, unknown>)[key] = mine
    else if (names[0] !== undefined) delete (node as Record<string, unknown>)[names[0]]
  }
}

/** Every object below, Dates too. */
function objectsIn(x: unknown, into = new Set<unknown>()): Set<unknown> {
  if (typeof x !== "object" || x === null) return into
  into.add(x)
  const parts: Iterable<unknown> = x instanceof Map ? [...x].flat() : x instanceof Set ? x : Object.values(x)
  for (const part of parts) objectsIn(part, into)
  return into
}

/** Text that differs where type, value or, unless `anyOrder`, the order of Maps and Sets differs. */
function text(x: unknown, anyOrder = false): string {
  const inner = (y: unknown): string => text(y, anyOrder)
  const joined = (parts: string[], sort: boolean): string => (sort ? parts.sort() : parts).join()
  if (x instanceof Map)
    return `Map{${joined(
      [...x].map(([k, v]) => `${inner(k)}:${inner(v)}`),
      anyOrder,
    )}}`
  if (x instanceof Set) return `Set{${joined([...x].map(inner), anyOrder)}}`
  if (Array.isArray(x)) return `[${Array.from(x, inner).join()}]`
  if (x instanceof Date) return `Date ${x.getTime()}`
  if (isContainer(x))
    return `{${joined(
      Object.entries(x).map(([k, v]) => `${k}:${inner(v)}`),
      true,
    )}}`
  return Object.is(x, -0) ? "-0" : typeof x === "bigint" ? `${x}n` : (JSON.stringify(x) ?? "undefined")
}

describe("applyPatches", () => {
  test("over several turns it agrees with the package that makes the patches, and from the wire gives the same in the same order", () => {
    fc.assert(
      fc.property(root, fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 4 }), (first, turns) => {
        let here = first
        const begun = codec.decode(JSON.parse(JSON.stringify(codec.encode(first))) as Encoded) as typeof first
        let there = begun
        const all: (readonly Patch[])[] = []
        for (const changes of turns) {
          const before = text(here)
          const [next, patches] = create(
            here,
            (draft) => {
              for (const one of changes) make(draft, one)
            },
            { enablePatches: true },
          )
          const wire = codec.decode(JSON.parse(JSON.stringify(codec.encode(patches))) as Encoded)
          const applied = applyPatches(here, patches as readonly Patch[])
          assert.equal(text(here), before, "the given state was changed")
          // Equal but for the order of Maps and Sets: patches do not tell that an element was removed and added again.
          assert.equal(text(applied, true), text(next, true))
          assert.equal(text(applied, true), text(apply(here, patches), true))
          here = applied
          there = applyPatches(there, wire as readonly Patch[])
          assert.equal(text(there), text(here), "from the wire")
          all.push(wire as readonly Patch[])
        }
        const before = text(begun)
        const known = objectsIn(all, objectsIn(begun))
        const made = new Set<object>()
        const atOnce = applyChanges(begun, all, made)
        assert.equal(text(atOnce), text(here), "all turns at once")
        assert.equal(text(begun), before, "the given state was changed")
        for (const one of objectsIn(atOnce)) assert.notEqual(known.has(one), made.has(one as object), "old, or made")
      }),
      { numRuns: 1_500 },
    )
  })

  test("shares what no patch touches, and never changes a patch's own value", () => {
    const state = { kept: { deep: [1] }, list: [{ n: 1 }, { n: 2 }] }
    const value = { n: 3 }
    const next = applyPatches(state, [
      { op: "add", path: ["list", 2], value },
      { op: "replace", path: ["list", 2, "n"], value: 4 },
    ])
    assert.equal(next.kept, state.kept)
    assert.equal(next.list[0], state.list[0])
    assert.deepEqual(next.list[2], { n: 4 })
    assert.deepEqual(value, { n: 3 })
  })

  test("refuses paths that reach a prototype, lead nowhere or are out of range", () => {
    const bad: Patch[] = [
      { op: "replace", path: ["__proto__", "polluted"], value: 1 },
      { op: "add", path: ["__proto__"], value: { polluted: 1 } },
      { op: "add", path: ["o", "constructor", "prototype", "polluted"], value: 1 },
      // Found by the fuzzer: a key that is no string becomes one where it is used.
      { op: "remove", path: [["__proto__"], "x"] },
      { op: "add", path: ["o", ["__proto__"]], value: { polluted: 1 } },
      { op: "add", path: ["o", "toString", "polluted"], value: 1 },
      { op: "add", path: ["list", 5], value: 1 },
      { op: "replace", path: ["list", 2], value: 1 },
      { op: "remove", path: ["list", 2] },
      { op: "replace", path: ["list", "length"], value: 4_294_967_295 },
      { op: "replace", path: ["list", "length"], value: -1 },
      { op: "replace", path: ["list", -1], value: 1 },
      { op: "replace", path: ["list", "x"], value: 1 },
      { op: "replace", path: ["missing", "x"], value: 1 },
      { op: "replace", path: ["n", "x"], value: 1 },
      { op: "replace", path: ["set", 7, "x"], value: 1 },
      { op: "replace", path: ["list", "map", "x"], value: 1 },
    ]
    for (const patch of bad) {
      const state = { o: {}, list: [1, 2], n: 1, set: new Set([{}]) }
      assert.throws(() => applyPatches(state, [patch]), RangeError, JSON.stringify(patch.path))
      assert.equal(({} as Record<string, unknown>)["polluted"], undefined)
      assert.deepEqual(state, { o: {}, list: [1, 2], n: 1, set: new Set([{}]) })
    }
  })

  test("whatever the patches say, it returns a state or throws a RangeError, and pollutes nothing", () => {
    const anyKey = fc.oneof(
      key,
      fc.integer({ min: -2, max: 9 }),
      fc.constantFrom<unknown>("__proto__", ["__proto__"], "constructor", "prototype", "toString", "list", "map"),
    )
    const patch = fc.record({
      op: fc.constantFrom("add", "remove", "replace"),
      path: fc.array(anyKey, { maxLength: 4 }),
      value: tree,
    })
    const proto = Object.getOwnPropertyNames(Object.prototype).length
    fc.assert(
      fc.property(root, fc.array(patch, { maxLength: 4 }), (state, patches) => {
        try {
          applyPatches<unknown>(state, patches)
        } catch (error) {
          assert.ok(error instanceof RangeError, String(error))
        }
        assert.equal(Object.getOwnPropertyNames(Object.prototype).length, proto)
      }),
      { numRuns: 2_000 },
    )
  })
})
