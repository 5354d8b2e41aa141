import type { Body, Fence, Grant, Store, Write } from "@sojourn/core"
import assert from "node:assert/strict"

import type { StoreFixture } from "./store-conformance.ts"

/** What the parts of the storage suite share: how they register a test, and values that are short to write. */
export type OnStore = (what: string, run: (store: Store, fixture: StoreFixture) => Promise<void>) => void
export type It = (what: string, run: (fixture: StoreFixture) => Promise<void>, needs?: keyof StoreFixture) => void

export const a = "notebook/alice"

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function write(h: string, ...entries: string[]): Write {
  return { entries: entries.map(bytes), h }
}

export function body(snapshot: string | undefined, ...entries: string[]): Body {
  return { snapshot: snapshot === undefined ? undefined : bytes(snapshot), entries: entries.map(bytes) }
}

export function grant(e: number, v: number, h: string, parts: Body): Grant {
  return { e, v, h, body: parts }
}

export const hasCode = (code: string, outcome?: string) => (error: unknown) => {
  const { code: got, outcome: known } = error as { code?: string; outcome?: string }
  assert.equal(got, code, String(error))
  if (outcome !== undefined) assert.equal(known, outcome)
  return true
}

/** Claims at home and commits `entries`, one by one: the usual beginning. Returns the fence for the next write. */
export async function owned(store: Store, actor: string, ...entries: string[]): Promise<Fence> {
  const claim = await store.claim(actor, true)
  assert.equal(claim.kind, "claimed")
  assert.ok(claim.record?.k === "OWNED")
  const { e, f } = claim.record
  let { v } = claim.record
  for (const entry of entries) {
    assert.deepEqual(await store.commit(actor, { e, f, v }, write(`h${v + 1}`, entry)), { kind: "committed", v: v + 1 })
    v++
  }
  return { e, f, v }
}
