import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"

/** As one writes it whose types are not checked, or come from a variable. */
const define = (more: object): unknown => actor({ state: () => ({}), actions: { add: () => 1 }, ...more })

// A misspelt `authorize` let everybody do everything, a misspelt validator nobody, and a misspelt `relay` served everywhere, all silently.
void test("a definition with what no definition has is refused where it is made", () => {
  for (const [more, why] of [
    [{ authorise: () => false }, /"authorise"/],
    [{ onActivate: () => undefined }, /"onActivate"/],
    [{ input: { ad: { "~standard": { validate: () => ({ issues: [] }) } } } }, /"ad"/],
    [{ relay: "denied" }, /relay/],
    [{ authorize: true }, /authorize/],
    [{ onDeactivate: "later" }, /onDeactivate/],
    [{ idleMs: NaN }, /idleMs/],
    [{ idleMs: -1 }, /idleMs/],
    [{ state: {} }, /state/],
    [{ actions: { add: 1 } }, /"add"/],
    [{ queries: { sum: 1 } }, /"sum"/],
    [{ alarms: { ring: 1 } }, /"ring"/],
  ] as const)
    assert.throws(() => define(more), { name: "TypeError", message: why }, JSON.stringify(more))
  for (const more of [
    {},
    { authorize: undefined, idleMs: undefined, relay: undefined, input: { add: undefined } },
    { idleMs: 0 },
    { idleMs: Infinity },
    { relay: "allow" },
  ])
    define(more)
})

// `setup({ actors: { cart: { …, authorise: () => false } } })` compiled, for nothing is too much for an inferred type, and let everybody in.
void test("a definition that did not go through actor() is checked by setup()", () => {
  const define = (cart: unknown): unknown => setup({ actors: { cart: cart as { state: () => object } } })
  const cart = { state: () => ({}), actions: { add: () => 1 } }
  define(cart)
  define(actor(cart))
  for (const [bad, why] of [
    [{ ...cart, authorise: () => false }, /"authorise"/],
    [{ ...cart, queries: { add: () => 1 } }, /add is taken/],
    [{ ...cart, version: 0 }, /version/],
    [{ actions: {} }, /state must be a function/],
    [null, /must be an object/],
  ] as const)
    assert.throws(() => define(bad), { name: "TypeError", message: why }, JSON.stringify(bad))
  for (const options of [undefined, {}, { actors: null }, { actors: "cart" }])
    assert.throws(() => setup(options as never), { name: "TypeError", message: /setup\(\{ actors: \{ cart \} \}\)/ })
})

// Each call was refused as INTERNAL, for a validator without the interface has nothing to call.
void test("a validator without the Standard Schema interface is refused where the class is defined", () => {
  const standard = { "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ({ value }) } }
  for (const add of [(value: unknown) => value, {}, null, { "~standard": {} }])
    assert.throws(() => define({ input: { add } }), { name: "TypeError", message: /"add" has none/ })
  define({ input: { add: standard } })
  define({ input: { add: Object.assign(() => undefined, standard) } })
})

// They compiled, and no handle has them: an action that nobody can call.
void test("an action or query cannot have a name that no handle calls", () => {
  for (const part of ["actions", "queries"])
    for (const name of ["then", "toJSON"])
      assert.throws(() => define({ [part]: { [name]: () => 1 } }), { name: "TypeError", message: new RegExp(name) })
})
