import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError, codec, type Encoded, type Patch } from "@sojourn/protocol"
import { encodeText } from "./encoded-text.ts"
import {
  assertWhole,
  encodeEntry,
  encodeSnapshot,
  readAhead,
  readBody,
  readNeeds,
  type Entry,
  type Output,
  type SessionRecord,
} from "./journal.ts"
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

/** Other JSON under a checksum that holds: what another build wrote, and sent in a grant. */
function resealed(bytes: Uint8Array, change: (json: Record<string, unknown>) => unknown): Uint8Array {
  const json = JSON.parse(Buffer.from(bytes.subarray(8)).toString()) as Record<string, unknown>
  const payload = Buffer.from(JSON.stringify(change(json)))
  const sealed = Buffer.concat([bytes.subarray(0, 8), payload])
  sealed.writeUInt32BE(primitives.checksum(payload), 4)
  return sealed
}

const json = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes.subarray(8)).toString())

describe("what is stored", () => {
  const odd = new Map([["a \u2028 'b' \"c\"", new Date(0)]])
  const err = new SojournError("ACTOR_ERROR", "no \ud83d", { ref: "FULL", data: { seats: [1] } }).toWire()
  const session = { id: "s~1", w: 'ann "a"', m: 1, n: 2, l: 9, a: 7 }
  const outputs = (encode: (value: unknown) => Encoded): readonly Output[] => [
    { r: 1, t: 1_750_000_000_000 },
    { r: 2, t: 3, p: encode(changes[2]) },
    {
      r: 3,
      t: 3,
      ev: [
        ["said", encode(odd)],
        ["left", encode(undefined)],
      ],
    },
    { r: 4, t: 3, p: encode(changes[0]), ev: [["said", encode("x")]] },
  ]
  const sessions = (encode: (value: unknown) => Encoded): readonly SessionRecord[] => [
    { ...session, y: [] },
    {
      ...session,
      y: [
        [8, { r: 4, ok: encode(odd) }],
        [9, { r: 5, err }],
      ],
    },
  ]
  const alarms = [
    { n: "ring", at: 5 },
    { n: "ring", i: "a.b", at: 6, p: codec.encode([odd]), k: 2 },
  ]

  test("of an entry is all that is in it, be it text already or not", () => {
    for (const encode of [codec.encode, encodeText]) {
      const entries: Entry[] = outputs(encode).map((output) => ({ ...output, s: sessions(encode) }))
      entries.push(
        { r: 1, t: 1, i: encode({ odd }) },
        { r: 1, t: 1, i: encode({}), sv: 3, rs: ["eu-*"], s: [], al: [...alarms, { n: "gone" }] },
      )
      for (const entry of entries)
        assert.deepEqual(json(encodeEntry(entry, primitives)), JSON.parse(JSON.stringify(entry)))
    }
  })

  test("of a snapshot is all that is in it, be it text already or not", () => {
    for (const encode of [codec.encode, encodeText]) {
      const tail = outputs(encode)
      const se = sessions(encode)
      const positions = [["s~1", 4, 5]] as const
      const snapshot = { revision: 4, needs: { version: 1, residency: undefined }, state: { odd }, tail, positions }
      const stored = { r: 4, st: codec.encode({ odd }), se, tail, po: positions }
      assert.deepEqual(
        json(encodeSnapshot({ ...snapshot, sessions: se }, primitives)),
        JSON.parse(JSON.stringify(stored)),
      )
      const needs = { version: 2, residency: ["eu-*", "us-*"] as const }
      const table = new Map(alarms.map((alarm, i) => [String(i), alarm]))
      assert.deepEqual(
        json(encodeSnapshot({ ...snapshot, needs, sessions: [], alarms: table }, primitives)),
        JSON.parse(JSON.stringify({ ...stored, sv: 2, rs: needs.residency, se: [], al: alarms })),
      )
    }
  })
})

describe("a stored body", () => {
  // Found by the fuzzer: each of these was a TypeError or a RangeError of whoever read it.
  test("whose checksum holds and whose form does not is CORRUPT_RECORD, whoever reads it", () => {
    const body = bodyOf(changes)
    const snapshot = body.snapshot as Uint8Array
    const corrupt = { code: "CORRUPT_RECORD" }
    const forms: ((json: Record<string, unknown>) => unknown)[] = [
      () => null,
      () => [],
      () => 7,
      (json) => ({ ...json, r: "7" }),
      (json) => ({ ...json, se: [null] }),
      (json) => ({ ...json, tail: [{}] }),
      (json) => ({ ...json, po: [["s"]] }),
      (json) => ({ ...json, al: {} }),
      (json) => ({ ...json, al: [{ n: "ring", at: 1.5 }] }),
      (json) => ({ ...json, rs: "eu-*" }),
      (json) => ({ ...json, st: 5 }),
    ]
    for (const form of forms) {
      const bad = { ...body, snapshot: resealed(snapshot, form) }
      assert.throws(() => assertWhole("a/b", bad, 12, primitives), corrupt, String(form))
      assert.throws(() => readNeeds("a/b", bad, primitives), corrupt, String(form))
      assert.throws(() => readAhead("a/b", bad.snapshot, primitives), corrupt, String(form))
      assert.throws(() => readBody("a/b", bad, 12, primitives), corrupt, String(form))
    }
    const states: unknown[] = [
      { v: [1e9], m: { values: { 0: [["typed-array", "Uint8Array"]] }, v: 1 } },
      { v: [], m: 7 },
      { v: { prototype: {} } },
    ]
    for (const st of states)
      assert.throws(
        () =>
          readAhead(
            "a/b",
            resealed(snapshot, (json) => ({ ...json, st })),
            primitives,
          ),
        corrupt,
      )
    const entries: ((json: Record<string, unknown>) => unknown)[] = [
      () => null,
      (json) => ({ ...json, ev: [["added"]] }),
      (json) => ({ ...json, s: [{ id: 1 }] }),
      (json) => ({ ...json, al: [{ at: 5 }] }),
      (json) => ({ ...json, al: [{ n: "ring", at: -1 }] }),
      (json) => ({ ...json, p: { v: "patches" } }),
      (json) => ({ ...json, p: { v: [{ op: "add" }] } }),
      (json) => ({ ...json, p: { v: [{ op: "move", path: ["other"], value: 1 }] } }),
      (json) => ({ ...json, p: { v: [{ op: "add", path: ["nowhere", "deeper"], value: 1 }] } }),
      (json) => ({ ...json, p: { v: [{ op: "add", path: ["__proto__", "x"], value: 1 }] } }),
    ]
    for (const form of entries) {
      const bad = { ...body, entries: body.entries.with(0, resealed(body.entries[0] as Uint8Array, form)) }
      assert.throws(() => readBody("a/b", bad, 12, primitives), corrupt, String(form))
    }
  })

  test("read ahead of its entries, it is what it is when read whole, and every object of it is known or frozen", () => {
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
      if (node instanceof Map || node instanceof Set) assert.ok(tree?.collections.has(node))
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

describe("an entry's bytes", () => {
  // Small ones share a piece of memory.
  test("are its own, of whatever size and letters", () => {
    const letters = ["a", "\u00e9", "\u20ac", "\u{1f600}"]
    const sizes = [0, 1, 100, 300, 679, 1_360, 1_361, 4_000, 4_096, 40_000, 70_000]
    const texts: string[] = []
    for (let round = 0; round < 20; round++)
      for (const [i, size] of sizes.entries())
        texts.push((letters[(round + i) % letters.length] as string).repeat(size))
    const entries = texts.map((text, i): Entry => ({ r: i + 1, t: 0, ev: [["said", codec.encode(text)]] }))
    const stored = entries.map((entry) => encodeEntry(entry, primitives))
    const first = encodeSnapshot(
      { revision: 0, needs: { version: 1, residency: undefined }, state: {}, sessions: [], tail: [], positions: [] },
      primitives,
    )
    const { tail } = readBody("x/y", { snapshot: first, entries: stored }, stored.length, primitives)
    assert.deepEqual(
      tail.map(({ entry }) => entry.ev),
      entries.map(({ ev }) => ev),
    )
    // What is written to one shows in no other.
    const before = stored.map((bytes) => Uint8Array.from(bytes))
    for (const [i, bytes] of stored.entries()) if (i % 2 === 0) bytes.fill(0xff)
    for (const [i, bytes] of stored.entries()) if (i % 2 === 1) assert.deepEqual(bytes, before[i])
  })
})
