import { SojournError, frameLimits } from "@sojourn/protocol"

/**
 * An actor's address: its class name and its key. Its text, `name/key`, is the actor id used in stores, on the mesh and in tickets; a
 * name has no slash, so the first one separates them whatever the key contains.
 *
 * The home is a pure function of the address and never changes: named in the key after its last `~` (`alice~bos`), else chosen by
 * rendezvous hash over the list of homes. A `~` is therefore reserved: a key whose suffix names no configured POP is refused, since a
 * POP of that name added later would become a second home.
 */
export interface Address {
  readonly name: string
  readonly key: string
}

const namePattern = /^[a-z][A-Za-z0-9_-]{0,63}$/
const encoder = new TextEncoder()
/** Most ids fit: what is no longer than this costs no allocation of its own outside of the heap. */
const scratch = new Uint8Array(64)
const actorBytesMax = frameLimits.nameCharsMax + 1 + frameLimits.keyBytesMax

export function addressId(name: string, key: string): string {
  if (!namePattern.test(name))
    throw new SojournError("UNKNOWN_ACTOR", `an actor class cannot be named ${JSON.stringify(name.slice(0, 80))}`)
  // Server code, where types are not checked; what else is a key would be made text, or fail without a name.
  if (typeof (key as unknown) !== "string")
    throw new SojournError("BAD_KEY", `an actor's key must be a string; got ${key === null ? "null" : typeof key}`)
  const bytes = encoder.encode(key).length
  if (bytes === 0 || bytes > frameLimits.keyBytesMax || key.includes("\0") || !key.isWellFormed())
    throw new SojournError(
      "BAD_KEY",
      `an actor's key must be 1 to ${frameLimits.keyBytesMax} bytes of well-formed text without NUL; this one has ${bytes}`,
    )
  return `${name}/${key}`
}

/** An actor id as a store's key: its UTF-8 bytes. Never contains a zero byte, so a store may build longer keys behind one. */
export function actorKey(id: string): Uint8Array {
  const { read, written } = encoder.encodeInto(id, scratch)
  const bytes = read === id.length ? scratch.slice(0, written) : encoder.encode(id)
  if (bytes.length === 0 || bytes.length > actorBytesMax || bytes.includes(0) || !id.isWellFormed())
    throw new SojournError(
      "BAD_KEY",
      `an actor id must be 1 to ${actorBytesMax} bytes of well-formed text without NUL; this one has ${bytes.length}`,
    )
  return bytes
}

export function parseAddress(id: string): Address {
  const slash = id.indexOf("/")
  return { name: id.slice(0, slash), key: id.slice(slash + 1) }
}

/** FNV-1a with a final avalanche (github.com/aappleby/smhasher, MurmurHash3's fmix32): only spreads keys over homes, guards nothing. */
function spread(text: string): number {
  let h = 0x811c9dc5
  for (const byte of encoder.encode(text)) h = Math.imul(h ^ byte, 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** `homes`: the immutable list for keys that name no home. `pops`: every configured POP, this one included. */
export function homeOf(id: string, homes: readonly string[], pops: ReadonlySet<string>): string {
  const { key } = parseAddress(id)
  const tilde = key.lastIndexOf("~")
  if (tilde >= 0) {
    const named = key.slice(tilde + 1)
    if (pops.has(named)) return named
    throw new SojournError(
      "BAD_KEY",
      `the key ${JSON.stringify(key.slice(0, 80))} names ${JSON.stringify(named.slice(0, 40))} as its home after "~", which is no configured POP; "~" is reserved for that`,
    )
  }
  let best = ""
  let bestWeight = -1
  for (const pop of homes) {
    const weight = spread(`${pop}\0${id}`)
    if (weight > bestWeight || (weight === bestWeight && pop < best)) {
      best = pop
      bestWeight = weight
    }
  }
  return best
}
