import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { codec, type Patch } from "@sojourn/protocol"
import { assertWhole, encodeEntry, encodeSnapshot, readAhead, readBody, type Entry } from "./journal.ts"
import type { Body } from "./store.ts"
import { primitives } from "./testing/alone.ts"
import { rememberTree, walkTree } from "./tree.ts"

const changes: readonly (readonly Patch[])[] = [
  [{ op: "replace", path: ["list", 1, "n"], value: 20 }],
  // What was changed is at another index from now on.
  [{ op: "remove", path: ["list", 0] }],
  [{ op: "add", path: ["map", "new"], value: { at: new Date(5), deep: [{}] } }],
  [{ op: "replace", path: ["map", "new", "deep", 0, "x"], value: new Uint8Array([1, 2]) }],
  [{ op: "remove", path: ["gone"] }],
]

function bodyOf(entries: readonly (readonly Patch[])[]): Body {
  const state = { list: [{ n: 1 }, { n: 2 }], map: new Map([["old", { at: new Date(1) }]]), gone: { x: [1] } }
  const snapshot = encodeSnapshot(
    { revision: 7, needs: { version: 1, residency: undefined }, state, sessions: [], tail: [], positions: [] },
    primitives,
  )
  return {
    snapshot,
    entries: entries.map((patches, i) => {
      const entry: Entry = { r: 8 + i, t: 0, p: codec.encode(patches) }
      return encodeEntry(entry, primitives)
    }),
  }
}

describe("a stored body", () => {
  test("read ahead of its entries, it is what it is when read whole, and every object of it is known and frozen", () => {
    const body = bodyOf(changes)
    const whole = readBody("a/b", body, 12, primitives)
    const ahead = readAhead("a/b", body.snapshot as Uint8Array, primitives)
    const loaded = readBody("a/b", body, 12, primitives, ahead)
    const { tree, ...rest } = loaded
    assert.deepEqual({ ...rest, tree: undefined }, whole)
    assert.deepEqual((whole.state as { list: unknown }).list, [{ n: 20 }])
    const fresh = rememberTree(structuredClone(loaded.state))
    let objects = 0
    walkTree(loaded.state, [], (node) => {
      objects += 1
      assert.ok(tree?.known.has(node), JSON.stringify(node))
      if (!(node instanceof Map) && !ArrayBuffer.isView(node) && !(node instanceof Date))
        assert.ok(Object.isFrozen(node), JSON.stringify(node))
      if (ArrayBuffer.isView(node) || node instanceof Date) assert.ok(tree?.leaves.has(node))
    })
    assert.ok(objects > 8)
    assert.deepEqual([...(tree?.leaves.values() ?? [])].sort(), [...fresh.leaves.values()].sort())
  })

  test("is whole, or says what is wrong with it", () => {
    const body = bodyOf(changes)
    const corrupt = { code: "CORRUPT_RECORD" }
    assertWhole("a/b", body, 12, primitives)
    assertWhole("a/b", { snapshot: body.snapshot, entries: [] }, 7, primitives)
    for (const [bad, revision] of [
      [body, 11],
      [{ snapshot: undefined, entries: body.entries }, 12],
      [{ ...body, entries: body.entries.toSpliced(2, 1) }, 12],
      [{ ...body, entries: body.entries.slice(0, -1) }, 12],
      [{ ...body, entries: body.entries.with(1, (body.entries[1] as Uint8Array).subarray(0, -1)) }, 12],
      [
        {
          ...body,
          entries: body.entries.with(
            1,
            (body.entries[1] as Uint8Array).map((x, i) => (i === 30 ? x ^ 1 : x)),
          ),
        },
        12,
      ],
      [{ ...body, snapshot: body.entries[0] as Uint8Array }, 12],
    ] as const) {
      assert.throws(() => {
        assertWhole("a/b", bad, revision, primitives)
      }, corrupt)
      assert.throws(() => readBody("a/b", bad, revision, primitives), corrupt)
    }
  })
})
