import assert from "node:assert/strict"
import { test } from "node:test"
import { actor } from "./actor.ts"

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
