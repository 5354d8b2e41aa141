import { codec } from "@sojourn/protocol"
import assert from "node:assert/strict"
import { crc32 } from "node:zlib"
import {
  assertWhole,
  encodeEntry,
  encodeSnapshot,
  readAhead,
  readBody,
  readNeeds,
  type Entry,
} from "../packages/core/src/journal.ts"
import type { OwnershipRecord } from "../packages/core/src/record.ts"
import type { Body } from "../packages/core/src/store.ts"
import { entriesOf, readChunks, rowKey, RowWriter } from "../packages/storage-lmdb/src/journal-row.ts"
import { decodeRecord, decodeValue, encodeRecord } from "../packages/storage-lmdb/src/stored-value.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentBytes, bentJson } from "./hostile.ts"
import { assertGenuine, judged } from "./oracle.ts"
import { primitives } from "./samples.ts"
import type { Target } from "./target.ts"
import { randomValue } from "./values.ts"

/** What lies on disks and comes in grants: snapshots, journal entries, ownership records. */

function sessionOf(r: Random): NonNullable<Entry["s"]>[number] {
  return { id: `s${r.int(3)}`, w: "ann", m: 1, n: 2, l: r.int(5), a: 0, y: [[1, { r: 1, ok: { v: 1 } }]] }
}

function entryOf(r: Random, revision: number, first: boolean): Entry {
  const patches = [{ op: "replace", path: ["n"], value: revision }]
  return {
    r: revision,
    t: 1_000 + revision,
    ...(first ? { i: codec.encode({ n: 0, any: stateValue(r) }), sv: 1, rs: ["eu-*"] } : {}),
    ...(r.happens(0.6) ? { p: codec.encode(patches) } : {}),
    ...(r.happens(0.3) ? { ev: [["added", codec.encode(randomValue(r))]] as const } : {}),
    ...(r.happens(0.5) ? { s: [sessionOf(r)] } : {}),
    ...(r.happens(0.3) ? { al: [{ n: "ring", at: 5, p: { v: 1 } }, { n: "gone" }] } : {}),
  }
}

const stateValue = (r: Random): unknown =>
  codec.decode(JSON.parse(JSON.stringify(codec.encode(randomValue(r)))) as never)

interface Made {
  readonly snapshot: Uint8Array | undefined
  readonly entries: readonly { readonly entry: Entry; readonly bytes: Uint8Array }[]
  readonly revision: number
  readonly state: unknown
}

function bodyOf(r: Random): Made {
  const from = r.happens(0.6) ? 1 + r.int(4) : 0
  const state = { n: from, any: stateValue(r) }
  const snapshot =
    from === 0
      ? undefined
      : encodeSnapshot(
          {
            revision: from,
            needs: { version: 1, residency: r.happens(0.3) ? ["eu-*"] : undefined },
            state,
            sessions: [sessionOf(r)],
            tail: [entryOf(r, from, false)],
            positions: [["s1", from, 5]],
            alarms: new Map([['["ring",""]', { n: "ring", at: 9 }]]),
          },
          primitives,
        )
  const entries = Array.from({ length: r.int(3) + (from === 0 ? 1 : 0) }, (_, i) => {
    const entry = entryOf(r, from + i + 1, from === 0 && i === 0)
    return { entry, bytes: encodeEntry(entry, primitives) }
  })
  return { snapshot, entries, revision: from + entries.length, state }
}

/** Another text under a checksum that holds: a writer that was wrong, or a peer that lies. */
function resealed(r: Random, bytes: Uint8Array): Uint8Array {
  const text = bentJson(r, JSON.parse(Buffer.from(bytes.subarray(8)).toString()))
  const payload = Buffer.from(text)
  const out = Buffer.concat([bytes.subarray(0, 8), payload])
  out.writeUInt32BE(primitives.checksum(payload), 4)
  return out
}

export const journalTarget: Target = {
  name: "journal",
  share: 8,
  open: () => ({
    run(r, count) {
      const made = bodyOf(r)
      const honest: Body = { snapshot: made.snapshot, entries: made.entries.map(({ bytes }) => bytes) }
      if (r.happens(0.15)) {
        const read = readBody("note/a", honest, made.revision, primitives)
        assertWhole("note/a", honest, made.revision, primitives)
        const first = made.entries[0]?.entry.i
        const any = first ? (codec.decode(first) as { any: unknown }).any : (made.state as { any: unknown }).any
        assert.deepEqual((read.state as { any: unknown }).any, any)
        return count("round trip")
      }
      const bend = (bytes: Uint8Array): Uint8Array => (r.happens(0.4) ? bentBytes(r, bytes) : resealed(r, bytes))
      const at = r.int(honest.entries.length + 1)
      const body: Body = {
        snapshot: honest.snapshot && at === 0 ? bend(honest.snapshot) : honest.snapshot,
        entries: honest.entries.map((bytes, i) =>
          i === at - 1 || (at === 0 && !honest.snapshot) ? bend(bytes) : bytes,
        ),
      }
      const chars = body.entries.reduce((sum, bytes) => sum + bytes.length, body.snapshot?.length ?? 0)
      const codes = ["CORRUPT_RECORD"] as const
      judged(codes, () => readNeeds("note/a", body, primitives))
      judged(codes, () => assertWhole("note/a", body, made.revision, primitives))
      if (body.snapshot) judged(codes, () => readAhead("note/a", body.snapshot as Uint8Array, primitives))
      const read = judged(codes, () => readBody("note/a", body, made.revision, primitives))
      if (read.outcome === "value") assertGenuine((read.value as { state: unknown }).state, chars)
      count(read.outcome)
    },
  }),
}

const records: readonly OwnershipRecord[] = [
  { k: "OWNED", e: 3, f: 2, v: 9, h: "abc", due: 5, cuts: [{ e: 1, v: 2 }] },
  { k: "GRANTED", e: 4, to: "fra", v: 9, h: "abc" },
  { k: "PTR", e: 4, to: "fra" },
]

export const storedValueTarget: Target = {
  name: "stored-value",
  share: 6,
  open: () => ({
    run(r, count) {
      const key = Buffer.from("note/a")
      const record = r.pick(records)
      const stored = { record, from: r.int(3), row: r.int(3) }
      const bytes = encodeRecord(key, stored)
      assert.deepEqual(decodeRecord(key, bytes, "note/a"), stored)
      const other = r.happens(0.5)
      const bent = other ? bentBytes(r, bytes) : textOf(key, bentJson(r, { ...record, j: [stored.from, stored.row] }))
      const { outcome } = judged(["CORRUPT_RECORD"], () => decodeRecord(key, bent, "note/a"))
      judged(["CORRUPT_RECORD"], () => decodeValue(Buffer.from("note/b"), bent, "note/b"))
      count(outcome)
    },
  }),
}

export const journalRowTarget: Target = {
  name: "journal-row",
  share: 4,
  open: () => ({
    run(r, count) {
      const key = rowKey(1 + r.int(3))
      const writer = new RowWriter()
      for (let i = r.int(4); i >= 0; i--)
        for (let n = r.int(3); n >= 0; n--) writer.add(Buffer.from(`note/${i}`), 5 - n, bytesOf(r, r.int(40)))
      const whole = writer.bytes(key)
      const row = r.happens(0.5)
        ? bentBytes(r, whole)
        : rehashed(key, r.happens(0.7) ? bentBytes(r, whole) : bytesOf(r, r.int(80)))
      const chunks = readChunks(key, row)
      if (chunks === undefined) return count("refused")
      let bytes = 0
      for (const chunk of chunks) {
        const entries = entriesOf(row, chunk, 0, Infinity)
        assert.equal(entries.length, chunk.count)
        bytes += entries.reduce((sum, entry) => sum + entry.length, 0)
      }
      assert.ok(bytes < row.length, "no byte belongs to two entries")
      count("value")
    },
  }),
}

function bytesOf(r: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => r.int(256))
}

/** Anything, under a checksum that holds where its head has an end. */
function rehashed(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  const row = Buffer.from(bytes)
  if (row.length < 9) return row
  row[0] = 1
  row.writeUInt32BE(Math.min(row.readUInt32BE(5), row.length - 9), 5)
  row.writeUInt32BE(crc32(row.subarray(5, 9 + row.readUInt32BE(5)), crc32(key)), 1)
  return row
}

/** Any text, under a checksum that holds. */
function textOf(key: Uint8Array, text: string): Uint8Array {
  const payload = Buffer.from(text)
  const out = Buffer.concat([Uint8Array.of(1, 0, 0, 0, 0), payload])
  out.writeUInt32BE(crc32(payload, crc32(Uint8Array.of(1), crc32(key))), 1)
  return out
}
