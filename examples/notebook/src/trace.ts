import type { TextPatch } from "./pieces.ts"

/**
 * A recorded editing session in the form of github.com/josephg/editing-traces, sequential and ASCII: `txns[].patches` are
 * `[position, deleted, inserted]`; applied once and in order they lead from `startContent` to `endContent`.
 */
export interface Trace {
  readonly start: string
  readonly end: string
  /** One entry a transaction: what one keystroke did. */
  readonly keystrokes: readonly (readonly TextPatch[])[]
}

/** Throws a TypeError saying what is not of the form. */
export function readTrace(json: Uint8Array | string): Trace {
  const root = JSON.parse(typeof json === "string" ? json : new TextDecoder().decode(json)) as Record<string, unknown>
  const { startContent: start, endContent: end, txns } = root
  if (typeof start !== "string" || typeof end !== "string" || !Array.isArray(txns))
    throw new TypeError("a recording needs startContent, endContent and txns")
  return {
    start,
    end,
    keystrokes: txns.map((txn: { patches?: unknown }, i) => {
      if (!Array.isArray(txn.patches) || !txn.patches.every(isPatch))
        throw new TypeError(
          `transaction ${i} of the recording has no patches of the form [position, deleted, inserted]`,
        )
      return txn.patches as TextPatch[]
    }),
  }
}

function isPatch(x: unknown): boolean {
  return Array.isArray(x) && Number.isSafeInteger(x[0]) && Number.isSafeInteger(x[1]) && typeof x[2] === "string"
}
