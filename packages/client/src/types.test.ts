/* eslint-disable @typescript-eslint/no-unused-vars -- everything here is there for its type alone */
import assert from "node:assert/strict"
import { test } from "node:test"
import type { ActorHandle, ActorShape, Client, StateOf } from "./types.ts"
import { createClient } from "./client.ts"

// The shape of what an application's `setup` returns, as far as a client sees it; the compiler is the judge of this file.
declare const event: <T = void>() => { readonly payload?: T }
interface Context<S> {
  readonly state: S
}
const cart = {
  state: () => ({ items: new Map<string, number>(), updatedAt: new Date(0) }),
  actions: {
    add(c: Context<{ items: Map<string, number> }>, sku: string, n = 1) {
      return c.state.items.size + sku.length + n
    },
    async later(_c: Context<unknown>, when: Date) {
      await Promise.resolve()
      return [when] as const
    },
    close: (_c: Context<unknown>, why: "sold out") => why,
    clear: () => {},
  },
  queries: { total: (c: Context<{ items: Map<string, number> }>) => c.state.items.size },
  events: {} as { added: { readonly payload?: { sku: string; n: number } }; emptied: ReturnType<typeof event<void>> },
}
const bare = { state: () => 0 }
/** As `actor` types a definition without queries. Pins a defect: an app with such an actor was no app to a client. */
interface Silent {
  readonly state: () => number
  readonly actions: { readonly set: (c: Context<number>, to: number) => void }
  readonly queries?: Readonly<Record<string, (c: Context<unknown>, ...args: never[]) => unknown>>
}
/** The same without actions, which was no app either; and what it has was not typed. */
interface Watched {
  readonly state: () => number
  readonly actions?: Readonly<Record<string, (c: never, ...args: never[]) => unknown>>
  readonly queries?: { readonly above: (c: Context<number>, what: number) => boolean }
}
interface App {
  readonly actors: {
    readonly cart: typeof cart
    readonly bare: typeof bare
    readonly on: typeof bare
    readonly silent: Silent
    readonly watched: Watched
  }
}
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(..._: Same<A, B> extends true ? [] : ["the types differ"]): void => {}

/** Compiled, never run. */
export async function typed(client: Client<App>): Promise<void> {
  const handle = client.cart.get("alice")
  same<Awaited<ReturnType<typeof handle.add>>, number>()
  same<Parameters<typeof handle.add>, [sku: string, n?: number | undefined]>()
  same<Awaited<ReturnType<typeof handle.later>>, readonly [Date]>()
  same<Awaited<ReturnType<typeof handle.clear>>, void>()
  await handle.add("book")
  await handle.add("book", 2)
  // @ts-expect-error an argument of another type
  await handle.add(7)
  // @ts-expect-error no such action
  await handle.remove("book")
  // @ts-expect-error a query is no action
  await handle.total()
  const watched = client.watched.get("w")
  same<typeof watched.query, { readonly above: (what: number) => Promise<boolean> }>()
  // @ts-expect-error it has no actions
  await watched.call.set?.(1)
  same<ReturnType<typeof handle.query.total>, Promise<number>>()
  // @ts-expect-error an action is no query
  await handle.query.add("book")

  const silent = client.silent.get("alice")
  same<Parameters<typeof silent.set>, [to: number]>()

  // A member keeps its own meaning; the action of its name is reached through call.
  same<ReturnType<typeof handle.close>, void>()
  same<Parameters<typeof handle.call.close>, [why: "sold out"]>()
  same<ReturnType<typeof handle.call.close>, Promise<"sold out">>()

  const timed = handle.with({ timeoutMs: 5, signal: AbortSignal.timeout(1) })
  same<ReturnType<typeof timed.add>, Promise<number>>()
  same<ReturnType<typeof timed.query.total>, Promise<number>>()
  // @ts-expect-error no such option
  handle.with({ timeout: 5 })

  handle.on("added", ({ sku, n }) => same<[typeof sku, typeof n], [string, number]>())
  handle.on("emptied", (nothing) => same<typeof nothing, void>())
  // @ts-expect-error no such event
  handle.on("removed", () => {})

  same<StateOf<typeof cart>, { items: Map<string, number>; updatedAt: Date }>()
  const state = handle.state.get()
  same<typeof state, { items: Map<string, number>; updatedAt: Date } | undefined>()
  handle.state.subscribe(({ items }) => same<typeof items, Map<string, number>>())

  // An actor with a state alone has no actions, queries or events.
  const plain = client.bare.get("x")
  same<ReturnType<typeof plain.state.get>, number | undefined>()
  // @ts-expect-error it has no actions
  await plain.add()
  // @ts-expect-error it has no events
  plain.on("added", () => {})

  // @ts-expect-error no such actor
  client.basket.get("alice")
  // @ts-expect-error `on` is the client's; that actor is reached by `client.actor("on", key)`
  client.on.get("x")
  const loose: ActorHandle<ActorShape> = client.actor("on", "x")
  await loose.call["anything"]?.(1, "two")
  client.on("status", ({ from, to }) => same<typeof from, typeof to>())
  client.on("moved", ({ report }) => report?.by satisfies "ticket" | "pointer" | "hint" | "home" | "offer" | undefined)
}

test("the types of actions, queries, events and state are those of the definitions (checked by the compiler)", async () => {
  const client = createClient<App>({ url: "ws://nowhere" })
  assert.equal(typeof client.cart.get("a").add, "function")
  await client.close()
})
