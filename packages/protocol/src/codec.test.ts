import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { codec, codecDepthMax, isPlainJson, type Encoded } from "./codec.ts"

/** Through JSON text, as on the wire and in a store. */
function cross(value: unknown): unknown {
  return codec.decode(JSON.parse(JSON.stringify(codec.encode(value))) as Encoded)
}

const rich = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.string(),
    fc.double(),
    fc.bigInt(),
    fc.boolean(),
    fc.constant(null),
    fc.constant(undefined),
    fc.date(),
    fc.uint8Array({ maxLength: 8 }),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(
      fc.string({ maxLength: 6 }).filter((k) => k !== "__proto__" && k !== "constructor" && k !== "prototype"),
      tie("value"),
      { maxKeys: 4, noNullPrototype: true },
    ),
    fc.array(fc.tuple(fc.string({ maxLength: 4 }), tie("value")), { maxLength: 4 }).map((pairs) => new Map(pairs)),
    fc.uniqueArray(fc.string({ maxLength: 4 }), { maxLength: 4 }).map((values) => new Set(values)),
  ),
})).value

describe("the codec", () => {
  test("carries plain JSON as it is, without metadata", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        fc.pre(isPlainJson(value))
        const encoded = codec.encode(value)
        assert.equal(encoded.m, undefined)
        assert.deepStrictEqual(cross(value), value)
      }),
    )
  })

  test("carries Map, Set, Date, bigint, undefined, typed arrays and odd numbers, at any place", () => {
    fc.assert(
      fc.property(rich, (value) => {
        assert.deepStrictEqual(cross(value), value)
      }),
      { numRuns: 1_000 },
    )
    for (const value of [
      undefined,
      NaN,
      Infinity,
      -Infinity,
      -0,
      0n,
      new Date(0),
      [undefined],
      { a: undefined },
      new Map([[{ k: 1 }, [new Set([1n])]]]),
    ])
      assert.deepStrictEqual(cross(value), value)
  })

  test("refuses cycles and what nests too deep with a RangeError, both when plain and when rich", () => {
    const cycle: unknown[] = []
    cycle.push(cycle)
    assert.throws(() => codec.encode(cycle), RangeError)
    const rich: unknown[] = [new Map()]
    rich.push(rich)
    assert.throws(() => codec.encode(rich), RangeError)
    let deep: unknown = new Map()
    for (let i = 0; i < codecDepthMax * 50; i++) deep = [deep]
    assert.throws(() => codec.encode(deep), RangeError)
    let deepMap: unknown = 1
    for (let i = 0; i < codecDepthMax * 50; i++) deepMap = new Map([["k", deepMap]])
    assert.throws(() => codec.encode(deepMap), RangeError)
  })

  test("a shared object is carried as two equal ones or one, never lost", () => {
    const shared = { n: 1, d: new Date(1) }
    assert.deepStrictEqual(cross({ a: shared, b: shared }), {
      a: { n: 1, d: new Date(1) },
      b: { n: 1, d: new Date(1) },
    })
  })

  test("hostile metadata throws or decodes, and never reaches a prototype", () => {
    const names = Object.getOwnPropertyNames(Object.prototype)
    const metas: unknown[] = [
      { values: { "__proto__.polluted": ["Date"] } },
      { values: { "constructor.prototype.polluted": ["map"] } },
      { values: { __proto__: [["map"], { polluted: ["set"] }] } },
      { values: { "a.__proto__": [["set"]] } },
      { referentialEqualities: { "a.x": ["__proto__.polluted"] } },
      { referentialEqualities: { a: ["constructor.prototype.polluted", "b.__proto__.polluted"] } },
      { referentialEqualities: [["a"], { "": ["__proto__"] }] },
      { values: { a: [["class", "Object"]] } },
      { values: { a: [["custom", "x"]] } },
      { values: { a: [["symbol", "x"]] } },
      { values: { a: ["Error"] } },
      { values: { a: ["URL"] } },
      { values: { a: ["regexp"] } },
      { values: { a: [["typed-array", "Function"]] } },
      { values: "x", referentialEqualities: 7 },
      { v: 99 },
      null,
      7,
      "x",
      [[[[]]]],
    ]
    const json = JSON.parse(
      `{"a":{"x":[1,[2,3]],"polluted":"no"},"b":{},"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}`,
    ) as unknown
    for (const m of metas) {
      try {
        codec.decode({ v: structuredClone(json), m })
      } catch (error) {
        assert.ok(error instanceof Error)
      }
      assert.equal(({} as Record<string, unknown>)["polluted"], undefined, JSON.stringify(m))
    }
    assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), names)
    const path = fc
      .array(fc.constantFrom("a", "x", "__proto__", "constructor", "prototype", "0", "polluted"), { maxLength: 4 })
      .map((parts) => parts.join("."))
    const rule = fc.constantFrom(
      ["map"],
      ["set"],
      ["Date"],
      ["Error"],
      ["undefined"],
      ["bigint"],
      [["typed-array", "Uint8Array"]],
      [["class", "Map"]],
    )
    fc.assert(
      fc.property(fc.dictionary(path, rule), fc.dictionary(path, fc.array(path)), (values, referentialEqualities) => {
        try {
          codec.decode({ v: structuredClone(json), m: { values, referentialEqualities } })
        } catch (error) {
          assert.ok(error instanceof Error)
        }
        assert.equal(({} as Record<string, unknown>)["polluted"], undefined)
        assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), names)
      }),
      { numRuns: 2_000 },
    )
  })
})
