import { frameLimits } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Chance, Clock, Primitives } from "./ports.ts"

/**
 * Session ids: `<random>.<mintedAt, base 36>.<mac>`. The MAC binds an id to a principal and to the time it was minted, so that any POP knows,
 * without a record, whether an id that it has never seen may still open a session.
 *
 * Why the time is in it: an expired session's dedupe record is left out of the next snapshot. Were an id good for longer than any record
 * of it can be, a late retry would find no record and be applied again. `expired` is therefore strict by the clock skew on the opening
 * side, and a record is kept to at least `max(lastSeen, mintedAt) + sessionTtlMs`.
 */
export interface SessionIds {
  mint(principalId: string): string
  /** Undefined for whatever was not minted for this principal, or is from the future by more than clocks differ. Never throws. */
  verify(sid: string, principalId: string): { readonly mintedAt: number } | undefined
}

export interface SessionIdOptions {
  /** The mesh secrets, at least one: the first mints, each verifies. */
  readonly secrets: readonly string[]
  readonly primitives: Pick<Primitives, "hmac" | "derive" | "equal">
  readonly clock: Pick<Clock, "now">
  readonly chance: Pick<Chance, "id">
  readonly limits: Pick<Limits, "clockSkewMsMax">
}

/** Characters of the MAC that are kept: 132 bits. */
const macChars = 22
const timePattern = /^[0-9a-z]{1,11}$/

/** Whether an id minted then may no longer open a session. Strict by the skew: no clock that dropped the record is ahead by more. */
export function expired(mintedAt: number, now: number, ttlMs: number, skewMs: number): boolean {
  return now + skewMs >= mintedAt + ttlMs
}

export function createSessionIds(options: SessionIdOptions): SessionIds {
  const { primitives, clock, chance, limits } = options
  const keys = options.secrets.map((secret) => primitives.derive(secret, "sojourn session v1"))
  const [first] = keys
  if (first === undefined) throw new RangeError("session ids need at least one secret")
  const mac = (key: string, random: string, time: string, principalId: string): string =>
    primitives.hmac(key, JSON.stringify([random, time, principalId])).slice(0, macChars)

  return {
    mint(principalId) {
      const random = chance.id().replaceAll(".", "_")
      const time = Math.max(0, Math.floor(clock.now())).toString(36)
      return `${random}.${time}.${mac(first, random, time, principalId)}`
    },
    verify(sid, principalId) {
      if (typeof sid !== "string" || sid.length > frameLimits.sidCharsMax) return undefined
      const parts = sid.split(".")
      const [random, time, given] = parts
      if (parts.length !== 3 || !random || !time || !given || !timePattern.test(time)) return undefined
      let found = false
      for (const key of keys) found = primitives.equal(mac(key, random, time, principalId), given) || found
      const mintedAt = parseInt(time, 36)
      return found && mintedAt <= clock.now() + limits.clockSkewMsMax ? { mintedAt } : undefined
    },
  }
}
