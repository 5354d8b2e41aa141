import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, event, setup } from "./actor.ts"
import type { ActorsOf, ServerHandle } from "./handles.ts"
import { alone } from "./testing/alone.ts"

const cart = actor({
  state: () => ({ n: 0 }),
  actions: {
    add(c, sku: string, n = 1) {
      c.state.n += n
      return { sku, n: c.state.n }
    },
    /** Typed by the app that it is a part of: its own return type is written down, else it would go round in a circle. */
    async copy(c, to: string): Promise<number> {
      const other = (c.actors as ActorsOf<App>).cart.get(to)
      // @ts-expect-error there is no such action
      void other.remove
      // @ts-expect-error a number is no sku
      const wrong = (): unknown => other.add(1)
      assert.ok(wrong)
      return (await other.add("copy", c.state.n)).n
    },
    /** Nothing comes back: nothing to write down. */
    async tell(c, to: string) {
      await (c.actors as ActorsOf<App>).order.get(to).place("told")
    },
  },
  queries: { count: (c) => c.state.n },
})

const order = actor({
  state: () => ({ ids: [] as string[] }),
  actions: {
    place(c, id: string) {
      c.state.ids.push(id)
      return c.state.ids.length
    },
    /** Typed by the one class that it uses. */
    async pay(c, id: string) {
      const one = c.actors["cart"]?.get<ServerHandle<typeof cart>>(id)
      assert.ok(one)
      const { n } = await one.add("pen", 2)
      const count: number = await one.query.count()
      return { n, count }
    },
    /** Untyped: any name may be one, and what comes back is unknown. */
    async guess(c, id: string) {
      const got = await c.actors["cart"]?.get(id)["add"]?.("pen")
      // @ts-expect-error what comes back is unknown
      void got?.n
      const key: string | undefined = c.actors["cart"]?.get(id).key
      const count = await c.actors["cart"]?.get(id).query["count"]?.()
      return [got, key, count]
    },
    isThere: (c, name: string) => c.actors[name] !== undefined,
    // Names that members of a handle take.
    key: (_c, n: number) => n,
    query: () => "an action",
  },
  events: { placed: event<{ id: string }>(), closed: event() },
  alarms: {
    close(c) {
      c.broadcast("closed")
      // @ts-expect-error it has a payload
      const bare = (): void => c.broadcast("placed")
      // @ts-expect-error it has none
      const laden = (): void => c.broadcast("closed", 1)
      assert.deepEqual([bare.length, laden.length], [0, 0])
    },
  },
})

// It compiled, and the first client was told BAD_STATE.
// @ts-expect-error a state is an object
assert.ok(actor({ state: () => 0 }))

const app = setup({ actors: { cart, order } })
type App = typeof app

void test("a turn's other actors may be used as they are, or typed by an app or a class", async () => {
  const { node } = await alone(app)
  const { cart: carts, order: orders } = node.actors satisfies ActorsOf<App>
  const paid = await orders.get("o").pay("a")
  assert.deepEqual(paid, { n: 2, count: 2 })
  const n: number = await carts.get("a").copy("b")
  assert.equal(n, 2)
  await carts.get("a").tell("p")
  assert.equal(await orders.get("p").place("more"), 2)
  assert.deepEqual(await orders.get("o").guess("a"), [{ sku: "pen", n: 3 }, "a", 3])
  for (const [name, there] of [
    ["cart", true],
    ["nobody", false],
    ["toString", false],
    ["then", false],
  ] as const)
    assert.equal(await orders.get("o").isThere(name), there)
  // A log that writes a handle would have called an action, whose rejection nobody waits for.
  assert.equal(JSON.stringify([carts.get("a"), carts]), '[{"key":"a","call":{},"query":{}},{}]')
})

// Server code and other actors could not call an action of such a name: a handle's `key` is a text.
void test("an action whose name a member of a server's handle takes is called by call", async () => {
  const { node } = await alone(app)
  const handle = (node.actors satisfies ActorsOf<App>).order.get("o")
  const n: number = await handle.call.key(3)
  assert.deepEqual([handle.key, n, await handle.call.query()], ["o", 3, "an action"])
  assert.equal(await handle.call.place("p"), 1)
  const own: string = handle.key
  assert.equal(own, "o")
})
