import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { OwnershipRecord } from "@sojourn/core"
import fc from "fast-check"
import { crc32 } from "node:zlib"
import { decodeRecord, decodeValue, encodeRecord, encodeValue } from "./stored-value.ts"

const key = Buffer.from("cart/alice")
const corrupt = { code: "CORRUPT_RECORD" }

const count = fc.nat()
const cuts = fc.option(fc.array(fc.record({ e: count, v: count }, { noNullPrototype: true })), { nil: undefined })
const of = <T extends object>(record: T): T => JSON.parse(JSON.stringify(record)) as T
const record: fc.Arbitrary<OwnershipRecord> = fc.oneof(
  fc
    .tuple(count, count, count, fc.string(), cuts)
    .map(([e, f, v, h, c]) => of({ k: "OWNED", e, f, v, h, cuts: c } as const)),
  fc
    .tuple(count, count, fc.string(), cuts)
    .map(([e, v, to, c]) => of({ k: "GRANTED", e, to, v, h: "", cuts: c } as const)),
  fc.tuple(count, fc.string()).map(([e, to]) => ({ k: "PTR", e, to }) as const),
) as fc.Arbitrary<OwnershipRecord>

/** Any text under a checksum that holds. */
function sealed(text: string): Uint8Array {
  const payload = Buffer.from(text)
  const bytes = Buffer.concat([Uint8Array.of(1, 0, 0, 0, 0), payload])
  bytes.writeUInt32BE(crc32(payload, crc32(Uint8Array.of(1), crc32(key))), 1)
  return bytes
}

describe("a stored value", () => {
  test("reads back as what was written, under its own key alone", () => {
    fc.assert(
      fc.property(record, count, count, (it, from, row) => {
        const bytes = encodeRecord(key, { record: it, from, row })
        assert.deepEqual(decodeRecord(key, bytes, "cart/alice"), { record: it, from, row })
        // As the first version wrote it.
        assert.deepEqual(decodeRecord(key, encodeValue(key, it), "cart/alice"), { record: it, from: 0, row: 0 })
        assert.deepEqual(encodeRecord(key, { record: it, from: 0, row: 0 }), encodeValue(key, it))
        assert.throws(() => decodeRecord(Buffer.from("cart/bob"), bytes, "cart/bob"), corrupt)
      }),
    )
  })

  test("is CORRUPT_RECORD with any byte changed, and for any bytes", () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.integer({ min: 1, max: 255 }), (it, at, flip) => {
        const bytes = encodeValue(key, it)
        const i = at % bytes.length
        bytes[i] = (bytes[i] ?? 0) ^ flip
        assert.throws(() => decodeRecord(key, bytes, "cart/alice"), corrupt)
      }),
    )
    fc.assert(fc.property(fc.uint8Array(), (bytes) => assert.throws(() => decodeValue(key, bytes, "it"), corrupt)))
  })

  // Found by the fuzzer: the first was a SyntaxError.
  test("whose checksum holds and whose text or form does not is CORRUPT_RECORD", () => {
    for (const text of [
      "",
      "{",
      "nul",
      "{}",
      "null",
      "[]",
      '{"k":"OWNED","e":1}',
      '{"k":"PTR","e":"1","to":"fra"}',
      '{"k":"PTR","e":1,"to":"fra","j":[1]}',
      '{"k":"PTR","e":1,"to":"fra","j":[1,-1]}',
      '{"k":"PTR","e":1,"to":"fra","j":{"0":1,"1":1,"length":2}}',
    ])
      assert.throws(() => decodeRecord(key, sealed(text), "cart/alice"), corrupt, text)
  })
})
