// What an author's code hands over and nothing can store: refused before anybody is told, and the actor goes on, here and after a restart.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { inspect } from "node:util"
import { ActorError, SojournError, codecDepthMax } from "@sojourn/protocol"
import { actor, event, setup } from "./actor.ts"
import type { Store } from "./store.ts"
import { alone } from "./testing/alone.ts"

interface Node {
  readonly deeper?: Node
  readonly x?: number
}

interface State {
  n: number
  deep: Node
  map: Map<unknown, unknown>
  rest: Record<PropertyKey, unknown>
}

function fixture() {
  const odd = actor({
    state: (): State => ({ n: 0, deep: {}, map: new Map(), rest: {} }),
    events: { said: event<unknown>(), 5: event<unknown>() },
    alarms: { ring: (_c, _payload?: unknown) => undefined },
    actions: {
      count: (c) => ++c.state.n,
      returns(c, what: string) {
        c.state.n++
        return what === "function" ? () => 1 : what === "symbol" ? Symbol("x") : { list: [new Map([["f", () => 1]])] }
      },
      broadcasts(c, what: string) {
        c.state.n++
        if (what === "function") c.broadcast("said", () => 1)
        else c.broadcast((what === "array" ? ["said"] : 5) as unknown as "said", 1)
      },
      rings(c, what: string) {
        c.state.n++
        if (what === "payload") c.alarms.set("ring", 4e12, () => 1)
        else if (what === "cancel") c.alarms.cancel(["ring"] as unknown as "ring")
        else c.alarms.set(["ring"] as unknown as "ring", 4e12)
      },
      keys(c, what: string) {
        c.state.n++
        const keys: Record<string, unknown> = {
          object: { k: 1 },
          date: new Date(5),
          function: () => 1,
          symbol: Symbol("s"),
        }
        if (what === "property") c.state.rest[Symbol("s")] = 1
        else if (what === "inside") c.state.rest["map"] = { map: new Map([[{ k: 1 }, 1]]) }
        else c.state.map.set(keys[what], 1)
      },
      deepen(c, levels: number, last: "object" | "number") {
        let node = c.state.deep as { deeper?: object; x?: number }
        while (node.deeper) node = node.deeper
        for (let i = 0; i < levels; i++) node = node.deeper = {}
        if (last === "number") node.x = 1
      },
    },
    queries: { n: (c) => c.state.n },
  })
  return alone(setup({ actors: { odd } }))
}

void describe("what cannot be stored", () => {
  const cases = {
    returns: ["function", "symbol", "inside"],
    broadcasts: ["function", "array", "number"],
    rings: ["payload", "name", "cancel"],
    keys: ["object", "date", "function", "symbol", "property", "inside"],
  } as const
  for (const action of ["returns", "broadcasts", "rings", "keys"] as const)
    for (const what of cases[action])
      test(`${action}: ${what}: the call is refused, and nothing of it is kept`, async () => {
        const { node, again } = await fixture()
        const one = node.actors.odd.get("k")
        await one.count()
        await assert.rejects(one[action](what), {
          code: action === "keys" ? "BAD_STATE" : "INTERNAL",
        })
        assert.equal(await one.count(), 2)
        assert.equal(await (await again()).actors.odd.get("k").count(), 3)
      })

  test("nor can a number past the depth that is stored, wherever an object could still be put", async () => {
    const { node, again } = await fixture()
    const one = node.actors.odd.get("k")
    await one.deepen(codecDepthMax - 10, "object")
    const deeper = (): Promise<boolean> =>
      one.deepen(1, "object").then(
        () => true,
        () => false,
      )
    let levels = 0
    while (levels < codecDepthMax && (await deeper())) levels++
    assert.ok(levels > 0 && levels < codecDepthMax, `${levels} levels more`)
    await assert.rejects(one.deepen(0, "number"), { code: "BAD_STATE" })
    await one.count()
    assert.equal(await (await again()).actors.odd.get("k").query.n(), 1)
  })

  test("an initial state with an object as a key makes no actor", async () => {
    const keyed = actor({ state: () => ({ map: new Map([[{ k: 1 }, 1]]) }), actions: { touch: () => 1 } })
    const { node } = await alone(setup({ actors: { keyed } }))
    await assert.rejects(node.actors.keyed.get("k").touch(), { code: "BAD_STATE" })
  })

  test("floats and dates that JSON has no word for are the same after a restart", async () => {
    const odd = [NaN, -0, Infinity, -Infinity, 0.1]
    const keeper = actor({
      state: () => ({ wide: new Float64Array(), narrow: new Float32Array(), at: new Date(0) }),
      actions: {
        keep(c) {
          c.state.wide = new Float64Array(odd)
          c.state.narrow = new Float32Array(odd)
          c.state.at = new Date(NaN)
        },
      },
      queries: { all: (c) => c.state },
    })
    const { node, again } = await alone(setup({ actors: { keeper } }))
    await node.actors.keeper.get("k").keep()
    const kept = { wide: new Float64Array(odd), narrow: new Float32Array(odd), at: new Date(NaN) }
    for (const at of [node, await again()])
      assert.equal(inspect(await at.actors.keeper.get("k").query.all()), inspect(kept))
  })
})

test("a call of server code that is made once more, since its first turn was not stored, has the arguments that it was made with", async () => {
  const seen: number[] = []
  const till = actor({
    state: () => ({ totals: [] as number[] }),
    actions: {
      open: (c) => c.state.totals.length,
      take(c, order: { total: number }) {
        seen.push(order.total)
        order.total += 1
        c.state.totals.push(order.total)
      },
    },
    queries: { totals: (c) => c.state.totals },
  })
  let fails = 0
  const store = (inner: Store): Store => ({
    ...inner,
    commit: (...asked) =>
      fails-- > 0 ? Promise.reject(new SojournError("STORE_UNAVAILABLE", "once")) : inner.commit(...asked),
  })
  const { node } = await alone(setup({ actors: { till } }), { store })
  const one = node.actors.till.get("k")
  await one.take({ total: 10 })
  fails = 1
  await one.take({ total: 0 })
  assert.deepEqual(seen, [10, 0, 0])
  assert.deepEqual(await one.query.totals(), [11, 1])
})

test("an error whose data is no JSON is masked, whoever throws it and wherever: no actor that cannot begin costs its node", async () => {
  const broken = actor({
    state: (): { n: number } => {
      throw new ActorError("NO", "not this one", { n: 1n })
    },
    actions: { touch: () => 1 },
  })
  const odd = actor({
    state: () => ({ n: 0 }),
    actions: {
      count: (c) => ++c.state.n,
      refuse() {
        throw new SojournError("BAD_INPUT", "no", { data: { n: 1n } })
      },
    },
  })
  const { node, events } = await alone(setup({ actors: { broken, odd } }))
  await assert.rejects(node.actors.broken.get("k").touch(), { code: "INTERNAL" })
  assert.equal(events.filter(({ type }) => type === "actor.failed").length, 1)
  await node.actors.odd.get("k").count()
  await assert.rejects(node.actors.odd.get("k").refuse(), { code: "INTERNAL" })
  assert.equal(await node.actors.odd.get("k").count(), 2)
})
