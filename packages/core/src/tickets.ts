import { ticketCharsMax, type TicketPayload } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Clock, Primitives } from "./ports.ts"

/**
 * Signs and verifies tickets (`TicketPayload` says what they are). Keys are derived from the mesh secrets, so every POP of one mesh
 * verifies what any of them signed. The first secret signs, each verifies; the short key id only chooses which to try, and is under the MAC.
 *
 * A ticket changes latency, never correctness and never who may read: a payload that verifies is still only advice, and whoever uses it
 * compares `principal` with the one that authenticated.
 */
export interface Tickets {
  /** "" where the ticket would be longer than anyone looks at: the client then travels without. */
  sign(payload: TicketPayload): string
  /** Undefined for whatever is not a ticket of this mesh, in force. Never throws. */
  verify(text: string): TicketPayload | undefined
}

export interface TicketOptions {
  /** The mesh secrets; at least one. */
  readonly secrets: readonly string[]
  readonly primitives: Pick<Primitives, "hmac" | "derive" | "equal">
  readonly clock: Pick<Clock, "now">
  readonly limits: Pick<Limits, "clockSkewMsMax">
}

const use = "sojourn ticket v1"
const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

/** A character for each byte; most tickets are no more than ASCII. */
const ascii = /^[\0-\x7f]*$/

/** Base64url without padding (RFC 4648 §5). */
function toBase64Url(text: string): string {
  let binary = ""
  if (ascii.test(text)) binary = text
  else for (const byte of encoder.encode(text)) binary += String.fromCharCode(byte)
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
}

function fromBase64Url(text: string): string {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"))
  if (ascii.test(binary)) return binary
  const bytes = new Uint8Array(binary.length)
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i)
  return decoder.decode(bytes)
}

/** Fields in a fixed order: a name would cost its length in every upgrade. */
function pack(p: TicketPayload): string {
  return toBase64Url(JSON.stringify([p.actor, p.pop, p.epoch, p.revision, p.principal, p.session, p.exp]))
}

function unpack(text: string): TicketPayload | undefined {
  const fields = JSON.parse(fromBase64Url(text)) as unknown
  if (!Array.isArray(fields) || fields.length !== 7) return undefined
  const [actor, pop, epoch, revision, principal, session, exp] = fields as unknown[]
  const texts = [actor, pop, principal, session].every((x) => typeof x === "string")
  const counts = [epoch, revision, exp].every((x) => typeof x === "number" && Number.isSafeInteger(x) && x >= 0)
  return texts && counts ? ({ actor, pop, epoch, revision, principal, session, exp } as TicketPayload) : undefined
}

export function createTickets(options: TicketOptions): Tickets {
  const { primitives, clock, limits } = options
  const keys = new Map<string, string>()
  for (const secret of options.secrets) {
    const key = primitives.derive(secret, use)
    keys.set(primitives.derive(secret, `${use} key id`).slice(0, 8), key)
  }
  const [first] = keys
  if (first === undefined) throw new RangeError("tickets need at least one secret")
  const [signingId, signingKey] = first
  const mac = (key: string, payload: string, id: string): string => primitives.hmac(key, `${payload}.${id}`)

  return {
    sign(payload) {
      const packed = pack(payload)
      const text = `${packed}.${signingId}.${mac(signingKey, packed, signingId)}`
      return text.length > ticketCharsMax ? "" : text
    },
    verify(text) {
      if (typeof text !== "string" || text.length > ticketCharsMax) return undefined
      const parts = text.split(".")
      const [packed, id, given] = parts
      if (parts.length !== 3 || packed === undefined || id === undefined || given === undefined) return undefined
      const key = keys.get(id)
      if (key === undefined || !primitives.equal(mac(key, packed, id), given)) return undefined
      try {
        const payload = unpack(packed)
        return payload && payload.exp + limits.clockSkewMsMax > clock.now() ? payload : undefined
      } catch {
        return undefined
      }
    },
  }
}
