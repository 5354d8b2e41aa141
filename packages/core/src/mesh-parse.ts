import { ERRORS, SojournError, jsonDepthMax, nestsDeeper, readClientFrame, type CallBody } from "@sojourn/protocol"
import { chainMax } from "./chain.ts"
import { isForgetReply, isForgetStep } from "./forget-steps.ts"
import type { MeshMessage, Principal } from "./mesh-messages.ts"
import { cutsMax } from "./record.ts"
import { fetchMax } from "./transfers.ts"

/**
 * The boundary between a peer's JSON and `MeshMessage`: every field of every message is checked here and nowhere later. A peer is
 * authenticated, not trusted: it may run another build, and one bad message must cost its link, not this node.
 *
 * The table below must name each field of each message, so that a field added to `mesh-messages.ts` does not compile until it is checked.
 */
type Check = (value: unknown) => boolean
type Shape<M> = { readonly [K in Exclude<keyof M, "t">]-?: Check }
type Shapes = { readonly [T in MeshMessage["t"]]: Shape<Extract<MeshMessage, { t: T }>> }

export const meshTextMax = { actor: 1_024, name: 64, nonce: 200, hash: 200, sid: 200, principal: 512 } as const

const text =
  (max: number): Check =>
  (x) =>
    typeof x === "string" && x.length > 0 && x.length <= max
const optional =
  (check: Check): Check =>
  (x) =>
    x === undefined || check(x)
const object: Check = (x) => typeof x === "object" && x !== null && !Array.isArray(x)
const count: Check = (x) => typeof x === "number" && Number.isSafeInteger(x) && x >= 0
const flag: Check = (x) => typeof x === "boolean"
const direction: Check = (x) => x === "in" || x === "out"
const actor = text(meshTextMax.actor)
const pop = text(meshTextMax.name)
const nonce = text(meshTextMax.nonce)
const frame: Check = (x) => object(x) && typeof (x as { t?: unknown }).t === "string"
const sizes: Check = (x) =>
  Array.isArray(x) && x.length > 0 && (x[0] === -1 || count(x[0])) && x.every((size, i) => i === 0 || count(size))
const blobId = text(meshTextMax.hash)
/** A chunk has at least a byte: the list is no longer than the body, and the frame it comes in bounds both. */
const blob: Check = (x) => {
  if (!object(x)) return false
  const { id, bytes, size, chunks } = x as Record<string, unknown>
  return (
    blobId(id) && count(bytes) && count(size) && (size as number) > 0 && Array.isArray(chunks) && chunks.every(blobId)
  )
}
const cuts: Check = (x) =>
  Array.isArray(x) &&
  x.length <= cutsMax &&
  x.every((cut) => object(cut) && count((cut as { e?: unknown }).e) && count((cut as { v?: unknown }).v))
const chain: Check = (x) => Array.isArray(x) && x.length > 0 && x.length <= chainMax && x.every(actor)
const wireError: Check = (x) => {
  if (!object(x)) return false
  const { code, message, retry, outcome } = x as Record<string, unknown>
  return (
    typeof code === "string" &&
    Object.hasOwn(ERRORS, code) &&
    typeof message === "string" &&
    (retry === "never" || retry === "later" || retry === "elsewhere") &&
    (outcome === "not-executed" || outcome === "unknown" || outcome === "executed")
  )
}
const principal: Check = (x) => object(x) && text(meshTextMax.principal)((x as { id?: unknown }).id)

/**
 * A principal as each POP has it that the client is relayed to: else a claim would be another thing where the actor is. Throws a TypeError where
 * a peer would not take it: that closes the link, and with it all other sessions on it.
 */
export function relayable(who: Principal): Principal {
  let copy: unknown
  try {
    copy = JSON.parse(JSON.stringify(who))
  } catch (cause) {
    throw new TypeError(
      `a principal has claims that JSON can carry, since another POP may judge by them: ${String(cause)}`,
    )
  }
  if (!principal(copy))
    throw new TypeError(
      `authenticate must return null, or an object with an id of 1 to ${meshTextMax.principal} characters`,
    )
  if (nestsDeeper(copy, jsonDepthMax)) throw new TypeError(`a principal nests at most ${jsonDepthMax} levels`)
  return copy as Principal
}

const shapes: Shapes = {
  PULL: {
    actor,
    nonce,
    origin: pop,
    session: optional(text(meshTextMax.sid)),
    epoch: count,
    hops: count,
    via: optional(pop),
    version: optional(count),
    relay: flag,
    have: optional(blobId),
  },
  GRANT: {
    actor,
    nonce: optional(nonce),
    e: count,
    v: count,
    h: (x) => typeof x === "string" && x.length <= meshTextMax.hash,
    hops: count,
    sizes,
    blob: optional(blob),
    base: optional(blobId),
    due: optional(count),
    cuts: optional(cuts),
  },
  PRECOPY: { actor, nonce, e: count, v: count, blob },
  CHUNK: { actor, blob: blobId, at: count },
  FETCH: { actor, blob: blobId, missing: (x) => Array.isArray(x) && x.length <= fetchMax && x.every(count) },
  MOVED: { actor, nonce, to: pop, e: count, inTransit: flag, hops: count },
  NONE: { actor, nonce },
  RELAY_ME: { actor, nonce, e: count, hops: count },
  LEAVING: {},
  OFFER: { actor, e: count },
  REFUSED: { actor, nonce, err: wireError },
  CONFIRM: { actor, e: count },
  CONFIRM_ACK: { actor, e: count },
  HOMEUPD: { actor, e: count },
  HOMEUPD_ACK: { actor, e: count },
  RELAY_OPEN: { relay: count, actor, principal, attach: object, seen: optional(count) },
  FRAME: { relay: count, dir: direction, frame },
  RELAY_CLOSE: { relay: count, dir: direction },
  FORGET: { nonce, step: isForgetStep },
  FORGET_ACK: { nonce, reply: isForgetReply },
}

export function badMesh(what: string): never {
  throw new SojournError("BAD_FRAME", `a mesh peer sent ${what}`)
}

/** Undefined: a type that this version does not know; it is ignored. Throws BAD_FRAME on one that it knows and that is malformed. */
export function parseMeshMessage(json: unknown): MeshMessage | undefined {
  if (!object(json)) badMesh("a message that is no object")
  const fields = json as Record<string, unknown>
  const t = fields["t"]
  if (typeof t !== "string") badMesh("a message without a type")
  if (!Object.hasOwn(shapes, t)) return undefined
  for (const [name, check] of Object.entries(shapes[t as MeshMessage["t"]] as Record<string, Check>))
    if (!check(fields[name])) badMesh(`a ${t} whose ${name} is not of its form`)
  const message = json as MeshMessage
  if (message.t === "FRAME" && message.dir === "in") {
    const client = readClientFrame(message.frame)
    return client && { ...message, frame: client.t === "call" ? { ...client, ...chainOf(message.frame) } : client }
  }
  if (message.t === "RELAY_OPEN") {
    const read = readClientFrame({ ...message.attach, t: "attach" })
    if (read?.t !== "attach") badMesh("a RELAY_OPEN whose attach is not of its form")
    const { t: _, ...attach } = read
    if (!attach.calls) return { ...message, attach }
    const calls = attach.calls.map((call, i) => ({ ...call, ...chainOf(message.attach.calls?.[i]) }))
    return { ...message, attach: { ...attach, calls } }
  }
  return message
}

/** What a call brings besides what a client's has. `call` has been read as one, and is still what the peer sent. */
function chainOf(call: unknown): Pick<CallBody, "chain"> {
  const { chain: given } = call as { readonly chain?: unknown }
  if (given === undefined) return {}
  if (!chain(given)) badMesh("a call whose chain is not of its form")
  return { chain: given as readonly string[] }
}
