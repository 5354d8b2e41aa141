import { rebase } from "./changes.ts"
import { lengthOf, patchPieces, type TextPatch } from "./pieces.ts"

/**
 * What a notebook is: its text in pieces, the latest changes (so that an edit made on an older text finds its place), and a count
 * of whose edits were applied. The count is the app's own and knows nothing of the framework: it applies whatever it is given, and writes
 * down the number that came with it, so that a call lost, repeated or out of order shows.
 */
export interface Document {
  pieces: string[]
  /** Edits applied since the beginning. */
  seq: number
  /** The last `recentMax` changes, by `seq % recentMax`: a ring, so that an edit replaces one entry. */
  recent: Record<string, Change>
  tallies: Record<string, Tally>
}

export interface Change {
  readonly seq: number
  readonly writer: string
  readonly patches: readonly TextPatch[]
}

/** The numbers of a writer's edits in the order in which they were applied, as runs `[from, to]`: all is well when there is one, from 1. */
export interface Tally {
  runs: [from: number, to: number][]
  applied: number
  /** `seq` of the latest. */
  at: number
}

export interface Edit {
  readonly writer: string
  /** 1, 2, 3 … by the writer's own count. */
  readonly n: number
  /** `seq` of the text that it was made on, the writer's own unconfirmed edits aside. */
  readonly base: number
  /** Each applies to what the one before it left. */
  readonly patches: readonly TextPatch[]
}

/** About what two writers change while the line of one of them is away for a quarter of a minute. */
export const recentMax = 256
export const writersMax = 64
/** Past so many the oldest runs are joined: more than one run is a defect already. */
export const runsMax = 256
export const textCharsMax = 500_000

export function emptyDocument(): Document {
  return { pieces: [""], seq: 0, recent: {}, tallies: {} }
}

/** Applies an edit in place. Throws a RangeError, before anything is changed, when it does not lie in the text or is too much. */
export function applyEdit(document: Document, edit: Edit): number {
  const patches = placed(document, edit)
  const grown = patches.reduce((sum, [, del, ins]) => sum + ins.length - del, lengthOf(document.pieces))
  if (grown > textCharsMax) throw new RangeError(`the text would have ${grown} characters; it holds ${textCharsMax}`)
  for (const patch of patches) patchPieces(document.pieces, patch)
  document.seq += 1
  document.recent[String(document.seq % recentMax)] = { seq: document.seq, writer: edit.writer, patches }
  count(document, edit)
  return document.seq
}

/** The edit's patches moved past what others changed since its base. */
function placed(document: Document, edit: Edit): readonly TextPatch[] {
  const theirs = changesSince(document, edit.base, edit.writer)
  if (theirs.length === 0) return edit.patches
  return rebase(
    edit.patches,
    theirs.flatMap((change) => change.patches),
  )
}

/** Changes after `seq` by others than `writer`, oldest first, as far as they are kept. */
export function changesSince(document: Document, seq: number, writer: string): Change[] {
  const changes: Change[] = []
  for (let s = Math.max(seq + 1, document.seq - recentMax + 1); s <= document.seq; s++) {
    const change = document.recent[String(s % recentMax)]
    if (change !== undefined && change.seq === s && change.writer !== writer) changes.push(change)
  }
  return changes
}

function count(document: Document, { writer, n }: Edit): void {
  const { tallies, seq } = document
  const tally = (tallies[writer] ??= makeTally(tallies, writer))
  const last = tally.runs[tally.runs.length - 1]
  if (last !== undefined && n === last[1] + 1) last[1] = n
  else tally.runs.push([n, n])
  if (tally.runs.length > runsMax) tally.runs.splice(0, 2, [tally.runs[0]![0], tally.runs[1]![1]])
  tally.applied += 1
  tally.at = seq
}

function makeTally(tallies: Record<string, Tally>, writer: string): Tally {
  const writers = Object.entries(tallies)
  if (writers.length >= writersMax) {
    const oldest = writers.reduce((a, b) => (a[1].at <= b[1].at ? a : b))
    delete tallies[oldest[0]]
  }
  return (tallies[writer] = { runs: [], applied: 0, at: 0 })
}
