import type { Store } from "@sojourn/core"
import { describe, test } from "node:test"

import type { It, OnStore } from "./store-samples.ts"
import { crashes, flushes, randomness } from "./store-suite-faults.ts"
import { alarms } from "./store-suite-due.ts"
import { forgets } from "./store-suite-forgetting.ts"
import { bodies, closes, keeps, orders } from "./store-suite-keeping.ts"
import { claims, commits, firstClaims, installs, seals, stages } from "./store-suite-ownership.ts"

/**
 * One store under test, empty at first. Made anew for every test.
 */
export interface StoreFixture {
  open(): Promise<Store>
  /** Closes what is open and opens the same store again. */
  reopen(): Promise<Store>
  /** Opens the same store again as another process would after the first died. The first one's handle stays usable: it is a zombie. */
  crash?(): Promise<Store>
  /** From now on every flush waits, before the write is made or after it but before it counts as flushed. */
  holdFlushes?(where: "before" | "after"): HeldFlushes
  cleanup(): Promise<void>
}

export interface HeldFlushes {
  /** Resolves once a flush waits. */
  readonly reached: Promise<void>
  release(): void
  /** Makes the waiting flush fail and lets later ones pass. */
  fail(): void
}

/**
 * The definition of the storage contract: registers node:test tests that every store passes. `name` begins their names.
 *
 * Hostile on purpose: empty, binary and huge values, keys with separators, stale fences and epochs of every kind, operations in flight
 * together, flushes that hang or fail, random sequences against a model of their own.
 */
export function storeConformance(name: string, factory: () => StoreFixture | Promise<StoreFixture>): void {
  const it: It = (what, run, needs) => {
    void test(what, async (t) => {
      const fixture = await factory()
      try {
        if (needs !== undefined && fixture[needs] === undefined) t.skip(`this store's fixture has no ${needs}`)
        else await run(fixture)
      } finally {
        await fixture.cleanup()
      }
    })
  }
  const onStore: OnStore = (what, run) => it(what, async (fixture) => run(await fixture.open(), fixture))

  void describe(`${name}: store conformance`, () => {
    claims(onStore)
    firstClaims(onStore)
    commits(onStore)
    seals(onStore)
    installs(onStore)
    stages(onStore)
    bodies(onStore)
    alarms(onStore)
    forgets(onStore)
    orders(onStore)
    keeps(onStore)
    closes(onStore)
    flushes(it)
    crashes(it)
    randomness(it)
  })
}
