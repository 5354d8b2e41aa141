// Random turns: what an actor has in memory is what it has after a restart, and what a client makes of the outputs, to the order of keys.
import assert from "node:assert/strict"
import { test } from "node:test"
import { inspect } from "node:util"
import { applyPatches, codec, type Encoded, type Patch } from "@sojourn/protocol"
import fc from "fast-check"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { bareHost } from "./testing/bare-host.ts"

type Root = Record<string, unknown>
type Change = (state: Root, kept: unknown[]) => void

const name = fc.constantFrom("a", "b", "c")
const leaf = fc.oneof(
  fc.constantFrom<unknown>(null, undefined, true, -0, NaN, Infinity, 1, "s", "\ud800", 5n),
  fc.constantFrom(0, NaN).map((time) => new Date(time)),
  fc.constantFrom<unknown[]>([1], [NaN, -0]).map((numbers) => Float64Array.from(numbers as number[])),
  fc.constant(undefined).map(() => /a/g),
)
const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.array(tie("any"), { maxLength: 3 }),
    // eslint-disable-next-line no-sparse-arrays
    tie("any").map((item) => [, item]),
    fc.dictionary(name, tie("any"), { maxKeys: 3 }),
    fc
      .array(fc.tuple(fc.constantFrom<unknown>("a", 1, "1", NaN, null, 5n), tie("any")), { maxLength: 3 })
      .map((entries) => new Map(entries)),
    fc.array(tie("any"), { maxLength: 3 }).map((items) => new Set(items)),
  ),
})).any

/** Those inside of a Map or a Set are reached as well. */
const partsOf = (node: unknown): unknown[] =>
  node instanceof Map
    ? [...node.values()]
    : node instanceof Set
      ? [...node]
      : typeof node === "object" && node !== null
        ? Object.values(node)
        : []

const changeIn = (node: unknown, made: unknown, how: number): void => {
  if (Array.isArray(node)) {
    if (how % 4 === 0) node.push(made)
    else if (how % 4 === 1) node.splice(0, 1, made)
    else if (how % 4 === 2) node.reverse()
    else node.length = 0
  } else if (node instanceof Map) {
    if (how % 2 === 0) node.set("b", made)
    else node.delete([...node.keys()][0])
  } else if (node instanceof Set) {
    if (how % 2 === 0) node.add(made)
    else node.delete([...node][0])
  } else if (Object.getPrototypeOf(node) === Object.prototype) {
    if (how % 3 === 0) delete (node as Root)["a"]
    else (node as Root)[how % 3 === 1 ? "b" : "c"] = made
  }
}

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(name, value).map(([key, made]): Change => (state, kept) => {
    kept.push(made)
    state[key] = made
  }),
  fc.tuple(name, value, fc.nat(12), fc.nat(2)).map(([key, made, how, depth]): Change => (state) => {
    let node = state[key]
    for (let i = 0; i < depth; i++) node = partsOf(node)[0] ?? node
    if (typeof node === "object" && node !== null) changeIn(node, made, how)
  }),
  fc.tuple(name, name).map(([from, to]): Change => (state) => {
    const node = state[from]
    delete state[from]
    state[to] = node
  }),
  // What its author kept is not the state any more.
  fc.tuple(value, fc.nat(12)).map(([made, how]): Change => (_state, kept) => {
    for (const node of kept) if (typeof node === "object" && node !== null) changeIn(node, made, how)
  }),
)

const all = { depth: Infinity, maxArrayLength: null, getters: true } as const

async function check(turns: readonly (readonly Change[])[]): Promise<void> {
  const kept: unknown[] = []
  let seen = ""
  const box = actor({
    state: (): Root => ({ a: [1], b: new Map() }),
    actions: {
      turn(c, n: number) {
        for (const one of turns[n] ?? []) one(c.state, kept)
      },
    },
    queries: {
      look(c) {
        seen = inspect(c.state, all)
      },
    },
  })
  const disk = memoryDisk("disk")
  const app = setup({ actors: { box } })
  let replica: unknown
  const json = (encoded: Encoded): unknown => codec.decode(JSON.parse(JSON.stringify(encoded)) as Encoded)
  const use = async (calls: readonly { c: number; a: string; p: Encoded }[], acked: number): Promise<void> => {
    const host = bareHost("bos", app, memoryStore({ disk }))
    await new Promise<void>((resolve, reject) => {
      host.attach({
        actor: "box/k",
        who: { id: "ann" },
        mintedAt: 1_700_000_000_000,
        body: {
          ch: 1,
          actor: ["box", "k"],
          sid: "s",
          acked,
          live: true,
          calls,
          queries: [{ q: 1, after: calls.length || acked, n: "look", p: { v: [] } }],
        },
        ticket: undefined,
        hint: undefined,
        stay: false,
        localOnly: false,
        out(frame) {
          if (frame.t === "attached") replica = frame.state && json(frame.state)
          else if (frame.t === "out" && frame.pt) replica = applyPatches(replica, json(frame.pt) as readonly Patch[])
          else if (frame.t === "answer") resolve()
          else if (frame.t === "detached") reject(new Error(JSON.stringify(frame)))
        },
        ended: () => undefined,
      })
    })
  }
  await use(
    turns.map((_, n) => ({ c: n + 1, a: "turn", p: { v: [n] } })),
    0,
  )
  const memory = seen
  assert.equal(inspect(replica, all), memory, "at a client")
  await use([], turns.length)
  assert.equal(seen, memory, "after a restart")
  assert.equal(inspect(replica, all), memory, "at a client that comes later")
}

test("random turns are in memory what they are after a restart and at a client, whatever they put in and keep", async () => {
  const turn = fc.array(change, { minLength: 1, maxLength: 3 })
  await fc.assert(fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 8 }), check), { numRuns: 500 })
})
