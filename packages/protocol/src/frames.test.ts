import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { SojournError } from "./errors.ts"
import { parseClientFrame, type ClientFrame } from "./frames.ts"

const attach = { ch: 1, actor: ["list", "a"], sid: "s", acked: 0, live: true, pos: 3, ticket: "t" } as const
const good: ClientFrame[] = [
  {
    t: "hello",
    client: "c",
    token: "x",
    at: ["t1", "t2"],
    attach: [{ ...attach, calls: [{ c: 1, a: "push", p: { v: [1] } }] }],
  },
  { t: "hello", client: "" },
  { t: "attach", ...attach, queries: [{ q: 1, after: 0, n: "size", p: { v: [] } }] },
  { t: "call", ch: 1, c: 1, a: "push", p: { v: [new Date(0).toJSON()], m: { values: { 0: ["Date"] } } } },
  { t: "call", ch: 1, c: 2, a: "", p: { v: null }, skip: true },
  { t: "query", ch: 1, q: 1, after: 2, n: "size", p: { v: [] } },
  { t: "ack", ch: 1, c: 0, r: 7 },
  { t: "detach", ch: 1 },
  { t: "token", token: "x" },
  { t: "sessions", n: 64 },
  { t: "ping" },
  { t: "pong", n: 1 },
]

/** Never anything but a frame, undefined, or BAD_FRAME. */
function parses(source: string): ClientFrame | undefined | "bad" {
  try {
    return parseClientFrame(source)
  } catch (error) {
    assert.ok(
      error instanceof SojournError && error.code === "BAD_FRAME",
      `${String(error)} for ${source.slice(0, 200)}`,
    )
    return "bad"
  }
}

const places = (value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] =>
  typeof value === "object" && value !== null
    ? [path, ...Object.entries(value).flatMap(([k, v]) => places(v, [...path, Array.isArray(value) ? Number(k) : k]))]
    : [path]

describe("C69 parseClientFrame", () => {
  test("reads each frame back as it was written", () => {
    for (const frame of good) assert.deepEqual(parses(JSON.stringify(frame)), frame)
  })

  test("ignores unknown types and unknown fields", () => {
    assert.equal(parses(`{"t":"wave","hand":"left"}`), undefined)
    assert.deepEqual(parses(`{"t":"ping","later":{"x":1}}`), { t: "ping" })
  })

  test("reads no chain of calls from a client", () => {
    const call = { c: 1, a: "push", p: { v: [] } }
    const more = { ...call, chain: ["list/b"] }
    assert.deepEqual(parses(JSON.stringify({ t: "call", ch: 1, ...more })), { t: "call", ch: 1, ...call })
    const carried = { ...attach, calls: [call] }
    assert.deepEqual(parses(JSON.stringify({ t: "attach", ...attach, calls: [more] })), { t: "attach", ...carried })
    const hello = { t: "hello", client: "c" } as const
    assert.deepEqual(parses(JSON.stringify({ ...hello, attach: [{ ...attach, calls: [more] }] })), {
      ...hello,
      attach: [carried],
    })
  })

  test("throws nothing but BAD_FRAME on any text or JSON", () => {
    fc.assert(fc.property(fc.string(), (text) => void parses(text)))
    fc.assert(
      fc.property(fc.json(), (text) => void parses(text)),
      { numRuns: 500 },
    )
    const type = fc.constantFrom(...good.map((frame) => frame.t), "__proto__", "constructor", 7, null)
    const name = fc.constantFrom(
      "ch",
      "c",
      "a",
      "p",
      "q",
      "n",
      "r",
      "actor",
      "sid",
      "attach",
      "calls",
      "client",
      "at",
      "token",
      "__proto__",
    )
    fc.assert(
      fc.property(
        type,
        fc.dictionary(name, fc.jsonValue()),
        (t, fields) => void parses(JSON.stringify({ ...fields, t })),
      ),
      { numRuns: 3_000 },
    )
  })

  test("throws nothing but BAD_FRAME on good frames with one part changed, cut or removed", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...good),
        fc.nat(),
        fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 0.5, 1e300, 2 ** 53, "x".repeat(9_999))),
        fc.nat(2),
        (frame, where, value, how) => {
          const copy = structuredClone(frame) as unknown as Record<string, unknown>
          const all = places(copy).filter((path) => path.length > 0)
          const path = all[where % all.length] ?? ["t"]
          let node = copy
          for (const step of path.slice(0, -1)) node = node[step] as Record<string, unknown>
          const last = path.at(-1) ?? "t"
          if (how === 0) delete node[last]
          else node[last] = value
          const text = JSON.stringify(copy)
          parses(how === 2 ? text.slice(0, where % text.length) : text)
        },
      ),
      { numRuns: 5_000 },
    )
  })

  test("refuses each field that is missing, of another type or out of bounds", () => {
    const bad = [
      `{"t":"hello"}`,
      `{"t":"hello","client":"${"x".repeat(65)}"}`,
      `{"t":"hello","client":"c","token":7}`,
      `{"t":"hello","client":"c","at":[1]}`,
      `{"t":"hello","client":"c","attach":[{}]}`,
      JSON.stringify({ t: "hello", client: "c", attach: Array.from({ length: 33 }, () => attach) }),
      JSON.stringify({ t: "attach", ...attach, actor: ["list"] }),
      JSON.stringify({ t: "attach", ...attach, actor: ["list", "a", "b"] }),
      JSON.stringify({ t: "attach", ...attach, actor: "list/a" }),
      JSON.stringify({ t: "attach", ...attach, pos: -1 }),
      JSON.stringify({ t: "attach", ...attach, calls: [{ c: 0, a: "x", p: { v: 1 } }] }),
      JSON.stringify({ t: "attach", ...attach, calls: [{ c: 1, a: "x", p: {} }] }),
      JSON.stringify({ t: "attach", ...attach, calls: {} }),
      `{"t":"call","ch":1,"c":1.5,"a":"x","p":{"v":1}}`,
      `{"t":"call","ch":1,"c":1,"a":"${"x".repeat(65)}","p":{"v":1}}`,
      `{"t":"query","ch":1,"q":1,"n":"x","p":{"v":1}}`,
      `{"t":"sessions","n":0}`,
      `{"t":"sessions","n":65}`,
      `{"t":"ack","ch":1,"c":1}`,
      `{"t":7}`,
      `{}`,
      `[]`,
      `null`,
      `"hello"`,
      ``,
    ]
    for (const text of bad) assert.equal(parses(text), "bad", text.slice(0, 80))
  })

  test("a frame that nests so deep that what recurses over it would end the stack is BAD_FRAME, wherever it does", () => {
    const nested = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`
    for (const text of [
      nested(100_000),
      `{"t":${nested(20_000)}}`,
      `{"t":"ping","n":${nested(20_000)}}`,
      `{"t":"call","ch":1,"c":1,"a":"x","p":{"v":${nested(2_000)}}}`,
      `{"t":"call","ch":1,"c":1,"a":"x","p":{"v":1,"m":${'{"a":'.repeat(2_000)}1${"}".repeat(2_000)}}}`,
    ])
      assert.equal(parses(text), "bad", text.slice(0, 40))
    assert.notEqual(parses(`{"t":"call","ch":1,"c":1,"a":"x","p":{"v":${nested(510)}}}`), "bad")
    assert.equal(parses(`{"t":"call","ch":1,"c":1,"a":"x","p":{"v":${nested(511)}}}`), "bad")
  })

  test("a frame with __proto__ in it changes no prototype", () => {
    parses(
      `{"t":"attach","__proto__":{"polluted":1},"ch":1,"actor":["a","b"],"sid":"s","acked":0,"calls":[{"c":1,"a":"__proto__","p":{"v":{"__proto__":{"polluted":1}}}}]}`,
    )
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined)
  })
})
