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

export function decodeRecord(key: Uint8Array, bytes: Uint8Array, actor: string): OwnershipRecord {
  const value = decodeValue(key, bytes, `the ownership record of ${actor}`)
  // The checksum vouches that this is what `encodeValue` was given; the form is checked against a writer that was wrong.
  if (!isRecord(value)) throw corrupt(`the ownership record of ${actor}`, "is of no known form")
  return value
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
  const count = (x: unknown): boolean => Number.isSafeInteger(x) && (x as number) >= 0
  const state =
    count(v) &&
    typeof h === "string" &&
    (due === undefined || count(due)) &&
    (cuts === undefined || Array.isArray(cuts))
  if (!count(e)) return false
  if (k === "OWNED") return state && count(f)
  if (k === "GRANTED") return state && typeof to === "string"
  return k === "PTR" && typeof to === "string"
}
