import type { Tables } from "./actor-rows.ts"
import { rowKey, RowWriter } from "./journal-row.ts"
import { corrupt, encodeRecord, readableRecord, type StoredRecord } from "./stored-value.ts"

/**
 * Layout 1 had a row of the journal for each entry, under the actor, a zero byte and the revision (8 bytes, big-endian). Makes it rows of
 * layout 2, lets the records say where their journals begin, and returns the number of the next row; inside the transaction that says
 * that it is layout 2 now. Throws CORRUPT_RECORD where a key is none of layout 1.
 */
export function fromLayout1({ journal, records }: Tables): number {
  const entries: { readonly key: Buffer; readonly entry: Uint8Array }[] = []
  for (const { key, value } of journal.getRange({})) entries.push({ key: Buffer.from(key), entry: Buffer.from(value) })
  let row = 1
  let writer = new RowWriter()
  const write = (): void => {
    const key = rowKey(row++)
    void journal.put(key, writer.bytes(key))
    writer = new RowWriter()
  }
  for (const { key } of entries) void journal.remove(key)
  let actor: Buffer = Buffer.alloc(0)
  const firsts = new Map<string, number>()
  for (const { key, entry } of entries) {
    const end = key.length - 9
    if (end < 1 || key[end] !== 0) throw corrupt("the journal", `of layout 1 has the key ${key.toString("hex")}`)
    // The same object for the same actor: that is how a chunk goes on.
    if (!actor.equals(key.subarray(0, end))) actor = key.subarray(0, end)
    const revision = Number(key.readBigUInt64BE(end + 1))
    if (!firsts.has(actor.toString())) firsts.set(actor.toString(), revision)
    if (!writer.fits(actor, entry)) write()
    writer.add(actor, revision, entry)
  }
  if (entries.length > 0) write()
  const kept: (readonly [Buffer, StoredRecord])[] = []
  for (const { key, value } of records.getRange({})) {
    // One that is damaged stays so.
    const stored = readableRecord(key, value)
    if (stored === undefined || stored.record.k === "PTR") continue
    const first = firsts.get(Buffer.from(key).toString())
    const { record } = stored
    kept.push([Buffer.from(key), { record, from: first === undefined ? record.v : first - 1, row: 0 }])
  }
  for (const [key, stored] of kept) void records.put(key, encodeRecord(key, stored))
  return row
}
