import { createHmac, hash, hkdfSync, timingSafeEqual } from "node:crypto"
import { crc32 } from "node:zlib"
import type { Chance, Clock, Primitives } from "@sojourn/core"
import { nanoid } from "nanoid"

/** The core's primitives on Node's own. */
export const primitives: Primitives = {
  hmac: (key, text) => createHmac("sha256", key).update(text).digest("base64url"),
  digest: (data) => hash("sha256", data, "base64url"),
  checksum: (data) => crc32(data),
  derive: (secret, use) => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url"),
  equal(a, b) {
    const [x, y] = [Buffer.from(a), Buffer.from(b)]
    return x.length === y.length && timingSafeEqual(x, y)
  },
}

/** Longest delay of a Node timer, ms: a longer one would fire at once. */
const timerMsMax = 2_147_483_647

export const clock: Clock = {
  now: () => Date.now(),
  mono: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, Math.min(timerMsMax, Math.max(0, ms)))
    return () => clearTimeout(timer)
  },
}

export const chance: Chance = {
  random: () => Math.random(),
  /** 128 bits. */
  id: () => nanoid(),
}
