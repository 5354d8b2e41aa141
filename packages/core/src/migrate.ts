import { SojournError, capture, codec } from "@sojourn/protocol"
import { encodeText } from "./encoded-text.ts"
import { assertFresh } from "./tree.ts"

/**
 * The migration ladder: stored state of an older schema becomes state of this code's, one version at a time, in order. The result is
 * the activation's first write, as one journal entry with the whole state, so it is there or it is not: after a crash, or a step
 * that throws, the stored state is what it was and the next activation begins from it.
 *
 * State of a later schema is never opened: this code would drop what it does not know and store the rest as if it were whole.
 */

/** State of one version to state of the next. Must not be async, nor look at anything but its argument. */
export type MigrationStep = { step(old: unknown): unknown }["step"]

export interface Ladder {
  readonly version?: number
  readonly migrate?: Readonly<Record<number, MigrationStep>>
}

/** Of a class, or of stored state, that says nothing. */
export const firstVersion = 1

export function versionOf(ladder: Ladder): number {
  return ladder.version ?? firstVersion
}

/** Throws a TypeError where the version is none, or a step leads nowhere. Steps from versions that no state has any more may be gone. */
export function checkLadder({ version = firstVersion, migrate = {} }: Ladder): void {
  if (!Number.isSafeInteger(version) || version < firstVersion)
    throw new TypeError(`an actor's version must be a whole number from 1 on; got ${String(version)}`)
  for (const [from, step] of Object.entries(migrate))
    if (!/^[1-9][0-9]*$/.test(from) || Number(from) >= version || typeof step !== "function")
      throw new TypeError(
        `migrate[${from}] must be a function from state of version ${from} to the next, below version ${version}`,
      )
}

/** Throws SCHEMA_NEWER or MIGRATION_FAILED; `state` is untouched either way. */
export function climb(actor: string, ladder: Ladder, from: number, state: unknown): unknown {
  const version = versionOf(ladder)
  if (from > version)
    throw new SojournError(
      "SCHEMA_NEWER",
      `the state of ${actor} has schema version ${from}; the code of this POP knows ${version}. It is left as it is`,
      { details: { actor, stored: from, version }, retryAfterMs: 1_000 },
    )
  if (from === version) return state
  const failed = (at: number, why: string, cause?: unknown): never => {
    throw new SojournError(
      "MIGRATION_FAILED",
      `the state of ${actor} stays at schema version ${from}: its step from version ${at} ${why}`,
      { details: { actor, stored: from, version }, ...(cause === undefined ? {} : { cause }) },
    )
  }
  // A copy: a step may change what it is given, and what is stored must survive its failure in memory too.
  let next = codec.decode(capture(state))
  for (let at = from; at < version; at++) {
    const step = ladder.migrate?.[at]
    if (!step) return failed(at, "is not in migrate")
    try {
      next = step(next)
    } catch (cause) {
      return failed(at, "threw", cause)
    }
    if (next instanceof Promise) next.catch(() => undefined)
    if (typeof next !== "object" || next === null || next instanceof Promise)
      return failed(at, "did not return an object")
  }
  try {
    assertFresh(next as object)
    return codec.decode(encodeText(next).toJSON())
  } catch (cause) {
    return failed(version - 1, "returned what cannot be stored", cause)
  }
}
