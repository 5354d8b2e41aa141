import { SojournError, type OwnershipRecord } from "@sojourn/core"
import { crc32 } from "node:zlib"

/**
 * How a value that the store itself must understand lies on disk: one byte of format version, four bytes of CRC-32 (big-endian) over
 * key, version and text, then JSON in UTF-8. The key is in the checksum, so a value found under a wrong key is corrupt too. A value that
 * does not read back is never overwritten: it throws CORRUPT_RECORD before the operation's first write.
 */
const formatVersion = 1
const headerBytes = 5

export function encodeValue(key: Uint8Array, value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value))
  const bytes = Buffer.allocUnsafe(headerBytes + text.length)
  bytes[0] = formatVersion
  text.copy(bytes, headerBytes)
  bytes.writeUInt32BE(checksum(key, text), 1)
  return bytes
}

/** `what` names the value in the error: an actor id or a setting. */
export function decodeValue(key: Uint8Array, bytes: Uint8Array, what: string): unknown {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const version = buffer[0]
  if (version !== undefined && version > formatVersion)
    throw corrupt(what, `is of format ${version}, written by a later version; this one reads format ${formatVersion}`)
  if (version !== formatVersion || buffer.length < headerBytes) throw corrupt(what, "is not of a known format")
  const text = buffer.subarray(headerBytes)
  if (buffer.readUInt32BE(1) !== checksum(key, text)) throw corrupt(what, "fails its checksum")
  try {
    return JSON.parse(text.toString())
  } catch {
    throw corrupt(what, "is not readable")
  }
}

/** A record as the store keeps it: with where the actor's journal begins. */
export interface StoredRecord {
  readonly record: OwnershipRecord
  /** The journal has the revisions after this one, up to the record's. */
  readonly from: number
  /** What rows of the journal before this one say of the actor means nothing. */
  readonly row: number
}

/** Under `j` beside the record's own fields, unless it is the beginning. */
export function encodeRecord(key: Uint8Array, { record, from, row }: StoredRecord): Buffer {
  return encodeValue(key, from === 0 && row === 0 ? record : { ...record, j: [from, row] })
}

export function decodeRecord(key: Uint8Array, bytes: Uint8Array, actor: string): StoredRecord {
  const value = decodeValue(key, bytes, `the ownership record of ${actor}`)
  // The checksum vouches that this is what `encodeRecord` was given; the form is checked against a writer that was wrong.
  if (!isRecord(value)) throw corrupt(`the ownership record of ${actor}`, "is of no known form")
  const { j = [0, 0], ...record } = value as OwnershipRecord & { readonly j?: unknown }
  if (!Array.isArray(j) || j.length !== 2 || !j.every(isCount))
    throw corrupt(`the ownership record of ${actor}`, "says of its journal what is of no known form")
  const [from, row] = j as [number, number]
  return { record, from, row }
}

/** undefined: it is corrupt. For what looks at many: one actor's damage stops neither a list nor a start nor a tool. */
export function readableRecord(key: Uint8Array, bytes: Uint8Array): StoredRecord | undefined {
  try {
    return decodeRecord(key, bytes, Buffer.from(key).toString())
  } catch {
    return undefined
  }
}

export function corrupt(what: string, how: string): SojournError {
  return new SojournError(
    "CORRUPT_RECORD",
    `${what} ${how}; its bytes are left as they are. Restore this store under a new POP id, or inspect the disk`,
  )
}

const versionByte = Uint8Array.of(formatVersion)

/** Over key, version and text. */
function checksum(key: Uint8Array, text: Uint8Array): number {
  return crc32(text, crc32(versionByte, crc32(key)))
}

function isRecord(value: unknown): value is OwnershipRecord {
  if (typeof value !== "object" || value === null) return false
  const { k, e, f, v, h, to, due, cuts } = value as Record<string, unknown>
  const state =
    isCount(v) &&
    typeof h === "string" &&
    (due === undefined || isCount(due)) &&
    (cuts === undefined || Array.isArray(cuts))
  if (!isCount(e)) return false
  if (k === "OWNED") return state && isCount(f)
  if (k === "GRANTED") return state && typeof to === "string"
  return k === "PTR" && typeof to === "string"
}

function isCount(x: unknown): boolean {
  return Number.isSafeInteger(x) && (x as number) >= 0
}
