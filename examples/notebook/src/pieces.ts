/**
 * A text in pieces, so that a keystroke changes one short string and its patch is as small whatever the length of the text. The pieces
 * are an ordinary array: what an actor's draft sees and what its patches name.
 *
 * Invariants: at least one piece; none longer than `pieceCharsMax`; two neighbours together have at least a quarter of it, so their
 * number stays proportional to the text. A surrogate pair that arrives whole is not cut.
 */
export const pieceCharsMax = 512
const cutChars = (pieceCharsMax * 3) / 4
const smallChars = pieceCharsMax / 4

/** At a position, so many characters deleted, then this inserted. Positions and lengths are UTF-16 code units. */
export type TextPatch = readonly [at: number, del: number, ins: string]

export function textOf(pieces: readonly string[]): string {
  return pieces.join("")
}

export function lengthOf(pieces: readonly string[]): number {
  let length = 0
  for (const piece of pieces) length += piece.length
  return length
}

/** The same on a plain string: what the pieces are compared with. Throws a RangeError when the patch does not lie in the text. */
export function patchText(text: string, [at, del, ins]: TextPatch): string {
  assertInside(at, del, text.length)
  return text.slice(0, at) + ins + text.slice(at + del)
}

/** Changes the pieces in place, as few of them as possible. Throws a RangeError when the patch does not lie in the text. */
export function patchPieces(pieces: string[], [at, del, ins]: TextPatch): void {
  assertInside(at, del, lengthOf(pieces))
  const [first, firstStart] = locate(pieces, at, 0, 0)
  const [last, lastStart] = locate(pieces, at + del, first, firstStart)
  const text =
    pieceAt(pieces, first).slice(0, at - firstStart) + ins + pieceAt(pieces, last).slice(at + del - lastStart)
  const mayStay = text.length >= smallChars || pieces.length === 1
  if (first === last && text.length <= pieceCharsMax && mayStay) pieces[first] = text
  else replace(pieces, first, last, text)
}

function assertInside(at: number, del: number, length: number): void {
  if (!Number.isSafeInteger(at) || !Number.isSafeInteger(del) || at < 0 || del < 0 || at + del > length)
    throw new RangeError(`a patch of ${del} characters at ${at} does not lie in a text of ${length}`)
}

function pieceAt(pieces: readonly string[], index: number): string {
  return pieces[index] ?? ""
}

/** The first piece, from `index` on, that ends at or after the position; and its start. */
function locate(pieces: readonly string[], at: number, index: number, start: number): [number, number] {
  while (index < pieces.length - 1 && start + pieceAt(pieces, index).length < at) {
    start += pieceAt(pieces, index).length
    index += 1
  }
  return [index, start]
}

/** Puts `text` in place of the pieces first…last, with a small one joined to its neighbours. */
function replace(pieces: string[], first: number, last: number, text: string): void {
  while (text.length < smallChars) {
    const left = first > 0 ? pieceAt(pieces, first - 1) : undefined
    const right = last < pieces.length - 1 ? pieceAt(pieces, last + 1) : undefined
    if (left !== undefined && left.length + text.length <= cutChars) {
      text = left + text
      first -= 1
    } else if (right !== undefined && right.length + text.length <= cutChars) {
      text += right
      last += 1
    } else break
  }
  if (first === last && text.length <= pieceCharsMax) pieces[first] = text
  else pieces.splice(first, last - first + 1, ...cut(text))
}

function cut(text: string): string[] {
  if (text.length <= pieceCharsMax) return [text]
  const count = Math.ceil(text.length / cutChars)
  const parts: string[] = []
  let start = 0
  for (let i = 1; i <= count; i++) {
    let end = i === count ? text.length : Math.round((text.length * i) / count)
    if (end < text.length && isPair(text, end)) end += 1
    parts.push(text.slice(start, end))
    start = end
  }
  return parts
}

function isPair(text: string, at: number): boolean {
  const high = text.charCodeAt(at - 1)
  const low = text.charCodeAt(at)
  return high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000
}
