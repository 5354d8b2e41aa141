import type { TextPatch } from "./pieces.ts"

/**
 * Edits made at the same time in two windows: each side's positions are moved past the other's, so that both orders lead to the same text.
 * On a tie `theirs`, which was there first, stays left; an insertion inside what the other side deletes survives.
 */
function meet(mine: TextPatch, theirs: TextPatch): [TextPatch[], TextPatch[]] {
  return [past(mine, theirs, true), past(theirs, mine, false)]
}

function past(patch: TextPatch, [start, del, ins]: TextPatch, right: boolean): TextPatch[] {
  const [at, length, text] = patch
  const end = at + length
  const otherEnd = start + del
  const grown = ins.length - del
  const before = end < start || (end === start && (at < start || del > 0 || !right))
  if (before && (at < start || !right || length > 0)) return [patch]
  if (at > otherEnd || (at === otherEnd && (at > start || right))) return [[at + grown, length, text]]
  // The other one lies inside of what this one deletes: what it inserted stays, between the two halves.
  if (at < start && end > otherEnd)
    return [
      [start + ins.length, end - otherEnd, ""],
      [at, start - at, text],
    ]
  if (at < start) return [[at, start - at, text]]
  if (end > otherEnd)
    return at === start && !right
      ? [
          [at, 0, text],
          [at + text.length + ins.length, end - otherEnd, ""],
        ]
      : [[start + ins.length, end - otherEnd, text]]
  return [[at === start && !right ? start : start + ins.length, 0, text]]
}

/** Both lists as they must read after the other. Each list applies one after the other. */
export function across(mine: readonly TextPatch[], theirs: readonly TextPatch[]): [TextPatch[], TextPatch[]] {
  const [my, ...myRest] = mine
  const [their, ...theirRest] = theirs
  if (my === undefined || their === undefined) return [[...mine], [...theirs]]
  if (myRest.length === 0 && theirRest.length === 0) return meet(my, their)
  if (myRest.length > 0) {
    const [first, next] = across([my], theirs)
    const [rest, last] = across(myRest, next)
    return [[...first, ...rest], last]
  }
  const [next, first] = across(mine, [their])
  const [last, rest] = across(next, theirRest)
  return [last, [...first, ...rest]]
}

/** `mine` as it must read after `theirs`, both made on the same text. */
export function rebase(mine: readonly TextPatch[], theirs: readonly TextPatch[]): TextPatch[] {
  return across(mine, theirs)[0]
}

/** Where a caret lands after a patch by somebody else: it stays before what is inserted right at it. */
export function caretAfter(caret: number, [at, del, ins]: TextPatch): number {
  if (caret <= at) return caret
  return caret >= at + del ? caret + ins.length - del : at
}

const contextChars = [48, 16, 6, 2]

/** Where a caret lands in a text that took its own one's place: after the same words, if they still stand there. */
export function caretIn(after: string, before: string, caret: number): number {
  if (caret === before.length) return after.length
  for (const length of contextChars) {
    const context = before.slice(Math.max(0, caret - length), caret)
    let best: number | undefined
    for (let at = after.indexOf(context); context !== "" && at >= 0; at = after.indexOf(context, at + 1)) {
      const there = at + context.length
      if (best === undefined || Math.abs(there - caret) < Math.abs(best - caret)) best = there
    }
    if (best !== undefined) return best
  }
  return Math.min(caret, after.length)
}

/** The one patch that turns `before` into `after`, as short as can be. `caret`: the end of what was typed, where that is ambiguous. */
export function difference(before: string, after: string, caret = after.length): TextPatch | undefined {
  if (before === after) return undefined
  const most = Math.min(before.length, after.length)
  let tail = 0
  const tailMax = Math.min(most, after.length - Math.min(caret, after.length))
  while (tail < tailMax && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1
  let head = 0
  while (head < most - tail && before[head] === after[head]) head += 1
  while (tail < most - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1
  return [head, before.length - head - tail, after.slice(head, after.length - tail)]
}
