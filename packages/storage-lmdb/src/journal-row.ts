import { crc32 } from "node:zlib"

/**
 * A row of the journal: entries of one or several actors, as they came.
 *
 * | bytes | |
 * | ----- | --- |
 * | 1     | version of the format |
 * | 4     | CRC-32 over the row's key and its head (big-endian, as all numbers here) |
 * | 4     | length of the head |
 * | head  | for each chunk: 2 bytes length of the actor's key, that key, 8 bytes revision of the first entry, 4 bytes how many, and for each 4 bytes length |
 * | rest  | the entries, in that order |
 *
 * An entry brings a checksum of its own, which its reader checks: a flipped bit in one harms no other actor.
 */
const formatVersion = 1
const checksumAt = 1
const headBytesAt = 5
const prefixBytes = 9
const chunkBytes = 2 + 8 + 4
const entryBytes = 4

/** So many fit twice into a page of LMDB (4,096 bytes, less its header and two nodes'), and none lies on pages of its own. */
const rowBytesMax = 2_000

/** Consecutive entries of one actor. */
export interface Chunk {
  readonly actor: string
  /** Revision of its first entry. */
  readonly first: number
  readonly count: number
  /** Where in the row the lengths of its entries are. */
  readonly lengthsAt: number
  /** Where its entries are. */
  readonly entriesAt: number
}

export function rowKey(row: number): Buffer {
  const key = Buffer.alloc(8)
  key.writeUIntBE(row, 2, 6)
  return key
}

/** undefined: it is no key of a row. */
export function rowOf(key: Uint8Array): number | undefined {
  const row = key.length === 8 ? Number(Buffer.from(key.buffer, key.byteOffset, 8).readBigUInt64BE()) : 0
  return row >= 1 && Number.isSafeInteger(row) ? row : undefined
}

/** A row that is being filled. */
export class RowWriter {
  readonly #heads: { readonly key: Uint8Array; readonly first: number; readonly lengths: number[] }[] = []
  readonly #entries: Uint8Array[] = []
  #bytes = prefixBytes

  /** Whether there is room for it. An empty row takes an entry of any length. */
  fits(key: Uint8Array, entry: Uint8Array): boolean {
    return (
      this.#entries.length === 0 || this.#bytes + chunkBytes + key.length + entryBytes + entry.length <= rowBytesMax
    )
  }

  /** Whether it begins a chunk. */
  add(key: Uint8Array, revision: number, entry: Uint8Array): boolean {
    this.#entries.push(entry)
    this.#bytes += entryBytes + entry.length
    const last = this.#heads.at(-1)
    if (last?.key === key && last.first + last.lengths.length === revision) {
      last.lengths.push(entry.length)
      return false
    }
    this.#heads.push({ key, first: revision, lengths: [entry.length] })
    this.#bytes += chunkBytes + key.length
    return true
  }

  bytes(key: Uint8Array): Buffer {
    const row = Buffer.allocUnsafe(this.#bytes)
    let at = prefixBytes
    for (const { key, first, lengths } of this.#heads) {
      at = row.writeUInt16BE(key.length, at)
      row.set(key, at)
      at = row.writeUIntBE(Math.floor(first / 2 ** 32), at + key.length, 4)
      at = row.writeUInt32BE(first % 2 ** 32, at)
      at = row.writeUInt32BE(lengths.length, at)
      for (const length of lengths) at = row.writeUInt32BE(length, at)
    }
    row[0] = formatVersion
    row.writeUInt32BE(at - prefixBytes, headBytesAt)
    row.writeUInt32BE(checksum(key, row, at), checksumAt)
    for (const entry of this.#entries) {
      row.set(entry, at)
      at += entry.length
    }
    return row
  }
}

/** undefined: it is damaged, or of a version that is not known. */
export function readChunks(key: Uint8Array, bytes: Uint8Array): Chunk[] | undefined {
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (row.length < prefixBytes || row[0] !== formatVersion) return undefined
  const end = prefixBytes + row.readUInt32BE(headBytesAt)
  if (end > row.length || row.readUInt32BE(checksumAt) !== checksum(key, row, end)) return undefined
  const chunks: Chunk[] = []
  let entriesAt = end
  for (let at = prefixBytes; at < end;) {
    // The checksum vouches that this is what `RowWriter` made; a writer that was wrong is not to be followed past the end.
    const actorAt = at + 2
    const firstAt = actorAt + (actorAt > end ? end : row.readUInt16BE(at))
    const lengthsAt = firstAt + 12
    if (lengthsAt > end) return undefined
    const count = row.readUInt32BE(firstAt + 8)
    if (lengthsAt + count * entryBytes > end) return undefined
    chunks.push({
      actor: row.toString("utf8", actorAt, firstAt),
      first: row.readUInt32BE(firstAt) * 2 ** 32 + row.readUInt32BE(firstAt + 4),
      count,
      lengthsAt,
      entriesAt,
    })
    at = lengthsAt + count * entryBytes
    for (let i = 0; i < count; i++) entriesAt += row.readUInt32BE(lengthsAt + i * entryBytes)
  }
  return entriesAt === row.length ? chunks : undefined
}

/** Copies, of those from revision `from` up to `upTo`. */
export function entriesOf(bytes: Uint8Array, chunk: Chunk, from: number, upTo: number): Uint8Array[] {
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const entries: Uint8Array[] = []
  let at = chunk.entriesAt
  for (let i = 0; i < chunk.count; i++) {
    const end = at + row.readUInt32BE(chunk.lengthsAt + i * entryBytes)
    const revision = chunk.first + i
    if (revision >= from && revision <= upTo) entries.push(new Uint8Array(row.subarray(at, end)))
    at = end
  }
  return entries
}

function checksum(key: Uint8Array, row: Buffer, headEnd: number): number {
  return crc32(row.subarray(headBytesAt, headEnd), crc32(key))
}
