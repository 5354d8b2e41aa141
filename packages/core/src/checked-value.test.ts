import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { ActorError, codec, type Encoded, type SojournError } from "@sojourn/protocol"
import fc from "fast-check"
import { actor, setup } from "./actor.ts"
import { decodeChecked } from "./checked-value.ts"
import { alone } from "./testing/alone.ts"
import { refusalOf } from "./author-errors.ts"

const leaf = fc.oneof(
  fc.constantFrom(null, undefined, true, NaN, Infinity, -Infinity, -0, 0.5),
  fc.bigInt(),
  fc.date(),
  fc.string(),
  fc.webUrl().map((url) => new URL(url)),
  fc.constantFrom(/a.b/giu, /[/]\//),
  fc.uint8Array(),
  fc.int16Array(),
  fc.float64Array(),
  fc.float32Array(),
)
/** superjson refuses these three as keys. */
const key = fc.string().filter((name) => !["__proto__", "constructor", "prototype"].includes(name))
const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie("any"), { maxLength: 4 }),
    fc.array(tie("any"), { maxLength: 4 }).map((items) => new Set(items)),
    fc.array(fc.tuple(tie("any"), tie("any")), { maxLength: 4 }).map((items) => new Map(items)),
    fc.array(fc.tuple(key, tie("any")), { maxLength: 4 }).map((fields) => Object.fromEntries(fields)),
  ),
})).any

const refused = (v: unknown, m?: unknown): void => {
  assert.throws(() => decodeChecked(m === undefined ? { v } : { v, m }), { code: "BAD_INPUT" })
}
const typed = (values: unknown, v = 1): unknown => ({ values, v })

describe("an encoded value of somebody else", () => {
  test("whatever the codec encodes is decoded to what it was", () => {
    fc.assert(
      fc.property(value, (x) => {
        const wire = JSON.parse(JSON.stringify(codec.encode(x))) as Encoded
        assert.deepEqual(decodeChecked(wire), x)
      }),
      { numRuns: 300 },
    )
    let deep: unknown = new Date(5)
    for (let i = 0; i < 99; i++) deep = new Map([["k", [deep]]])
    assert.deepEqual(decodeChecked(JSON.parse(JSON.stringify(codec.encode(deep))) as Encoded), deep)
    const error = decodeChecked(codec.encode(new RangeError("why", { cause: new Date(1) }))) as Error
    assert.deepEqual([error.name, error.message, error.cause], ["RangeError", "why", new Date(1)])
  })

  test("a path of superjson before its version 1 has a backslash for itself", () => {
    assert.deepEqual(decodeChecked({ v: { "a\\b": "1" }, m: typed({ "a\\b": ["bigint"] }, 0) }), { "a\\b": 1n })
    assert.deepEqual(decodeChecked({ v: { "a.b": "1" }, m: typed({ "a\\.b": ["bigint"] }, 0) }), { "a.b": 1n })
    refused({ "a\\b": "1" }, typed({ "a\\b": ["bigint"] }))
  })

  // Each of these was found by the fuzzer; superjson by itself does as it is told.
  test("a number is no typed array: it would be allocated", () => {
    refused([1e9], typed({ 0: [["typed-array", "Uint8Array"]] }))
    refused([[1, "2"]], typed({ 0: [["typed-array", "Uint8Array"]] }))
    for (const name of ["constructor", "toString", "ArrayBuffer"]) refused([[1]], typed({ 0: [["typed-array", name]] }))
  })

  test("an index past an array's end is no place: the array would become as long", () => {
    for (const path of ["0.4294967294", "0.1", "0.-1", "0.01", "0.length", "0.1e1", "0.", "", "1"])
      refused([[null]], typed({ [path]: ["undefined"] }))
  })

  test("nothing inside a value is changed after the value was: a Set would be walked for each of its elements", () => {
    refused([["1", "2"]], typed({ 0: ["set"], "0.0": ["bigint"] }))
    refused([["1", "2"]], typed({ 0: ["set", { 0: ["bigint"] }], "0.1": ["bigint"] }))
    refused({ a: "1" }, typed({ a: ["bigint", {}], "\\a": ["bigint"] }))
    assert.deepEqual(decodeChecked({ v: [["1", "2"]], m: typed({ 0: ["set", { 0: ["bigint"] }] }) }), [
      new Set([1n, "2"]),
    ])
  })

  test("types that do not fit, that the codec does not have, or of no form are refused", () => {
    for (const [type, v] of [
      ["bigint", "1n"],
      ["bigint", 1],
      ["Date", 5],
      ["Error", { message: 1, name: "n" }],
      ["regexp", "(+)"],
      ["regexp", "/(+)/"],
      ["set", "text"],
      ["map", [[1]]],
      ["number", "12"],
      ["URL", "no url"],
      ["undefined", 1],
      ["constructor", {}],
      [["class", "Date"], {}],
      [["symbol", "iterator"], "x"],
      [["custom", "x"], "x"],
    ])
      refused([v], typed({ 0: [type] }))
    for (const m of [null, 7, [], { values: null, v: 1 }, typed({ 0: null }), typed({ 0: [] }), typed([[], 1, 2])])
      refused(["1"], m)
    refused(["1"], typed({ 0: ["bigint"] }, 2))
  })

  test("neither a key __proto__ nor nesting that would end the stack is let through", () => {
    refused(JSON.parse('[{"a":{"__proto__":{"polluted":1}}}]'))
    refused(JSON.parse(`${"[".repeat(50_000)}${"]".repeat(50_000)}`))
    refused([1], typed(JSON.parse(`${'{"0":'.repeat(9_000)}1${"}".repeat(9_000)}`)))
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined)
  })
})

const echo = actor({
  state: () => ({ n: 0 }),
  actions: {
    echo: (_, x: unknown) => x,
    refuse(_, x: unknown) {
      throw new ActorError("no", "refused", x)
    },
    go(c, to: string) {
      c.moveTo(to)
    },
  },
  queries: { same: (_, x: unknown) => x },
})

test("a call and a query whose arguments are of no form are answered BAD_INPUT, and the next is served", async () => {
  const { node } = await alone(setup({ actors: { echo } }))
  const sent: { t: string; c?: number; err?: { code: string }; ok?: Encoded; sessions?: string[] }[] = []
  const reader = node.acceptClient(
    { send: (text) => void sent.push(JSON.parse(text) as (typeof sent)[0]), buffered: () => 0, close: () => undefined },
    { url: "", headers: {}, ip: "" },
  )
  const came = async (t: string, n = 1): Promise<(typeof sent)[0]> => {
    for (;;) {
      const found = sent.filter((frame) => frame.t === t)[n - 1]
      if (found) return found
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  reader.message(`{"t":"hello","client":"c","token":"ann"}`)
  const sid = (await came("welcome")).sessions?.[0]
  reader.message(JSON.stringify({ t: "attach", ch: 1, actor: ["echo", "a"], sid, acked: 0, live: false }))
  await came("attached")
  const hostile = `{"v":[1e9],"m":{"values":{"0":[["typed-array","Float64Array"]]},"v":1}}`
  reader.message(`{"t":"call","ch":1,"c":1,"a":"echo","p":${hostile}}`)
  assert.equal((await came("reply")).err?.code, "BAD_INPUT")
  reader.message(`{"t":"query","ch":1,"q":1,"after":1,"n":"same","p":${hostile}}`)
  assert.equal((await came("answer")).err?.code, "BAD_INPUT")
  reader.message(`{"t":"call","ch":1,"c":2,"a":"echo","p":{"v":["still here"]}}`)
  assert.equal((await came("reply", 2)).ok?.v, "still here")
  await node.stop({ drainMs: 0 })
})

test("an action that passes its caller's bigint to moveTo is told that there is no such POP, not that it has no JSON", async () => {
  const { node, events } = await alone(setup({ actors: { echo } }))
  await assert.rejects(node.actors.echo.get("a").go(5n as never), { code: "INTERNAL" })
  const error = events.find(({ type }) => type === "turn.threw")?.["error"]
  assert.match(String(error), /^RangeError: there is no POP named by a value of type bigint/)
  await node.stop({ drainMs: 0 })
})

// Found by the fuzzer: the activation was dropped, and again with each time that the client sent the call.
test("an ActorError whose data is no JSON is masked and logged, and the activation goes on", async () => {
  const { node, events } = await alone(setup({ actors: { echo } }))
  const box = node.actors.echo.get("a")
  let deep: unknown = 1
  for (let i = 0; i < 150; i++) deep = [deep]
  const cycle: { self?: unknown } = {}
  cycle.self = cycle
  for (const data of [5n, { n: 5n }, new Map([["k", 1n]]).get("k")])
    await assert.rejects(box.refuse(data), ({ code, ref }: SojournError) => code === "INTERNAL" && ref !== undefined)
  await assert.rejects(box.refuse({ list: [1, "a"], deep }), {
    code: "ACTOR_ERROR",
    ref: "no",
    data: { list: [1, "a"], deep },
  })
  await assert.rejects(box.refuse(undefined), { code: "ACTOR_ERROR", data: undefined })
  assert.throws(() => refusalOf(new ActorError("no", "refused", cycle)), TypeError)
  for (let i = 0; i < 600; i++) deep = [deep]
  assert.throws(() => refusalOf(new ActorError("no", "refused", deep)), RangeError)
  assert.equal(await box.echo(7), 7)
  assert.deepEqual(
    events.filter(({ type }) => type === "actor.failed"),
    [],
  )
  await node.stop({ drainMs: 0 })
})
