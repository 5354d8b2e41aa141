import { readFileSync, readdirSync } from "node:fs"
import { join } from "node:path"

/**
 * Searches what POPs keep on disk, byte by byte, for anything of a journey's state: the name that its actor counts the typist's calls under, and
 * stretches of the text. POPs inside the residency are searched too: that it is found there shows that the search would find it.
 */
export interface BorderSearch {
  readonly outside: readonly string[]
  /** Files of POPs outside that hold something of it. */
  readonly leaks: readonly string[]
  /** Bytes read outside. */
  readonly bytes: number
  /** Whether a POP inside has the name, and stretches of the text, where the same search finds them. */
  readonly foundInside: boolean
}

export interface BorderTrail {
  readonly writer: string
  readonly text: string
}

const stretchChars = 24
const stretchesMax = 400

/** `folder` has a folder and a log file for each POP, named after it. */
export function searchBorders(
  folder: string,
  pops: { readonly outside: readonly string[]; readonly inside: readonly string[] },
  { writer, text }: BorderTrail,
): BorderSearch {
  const name = Buffer.from(writer)
  const stretches = stretchesOf(text).map((stretch) => Buffer.from(stretch))
  const leaks: string[] = []
  let bytes = 0
  for (const file of pops.outside.flatMap((pop) => filesOf(folder, pop))) {
    const content = readFileSync(file)
    bytes += content.length
    if (content.includes(name) || stretches.some((stretch) => content.includes(stretch))) leaks.push(file)
  }
  const inside = pops.inside.flatMap((pop) => filesOf(folder, pop)).map((file) => readFileSync(file))
  const foundInside =
    inside.some((content) => content.includes(name)) &&
    inside.some((content) => stretches.some((stretch) => content.includes(stretch)))
  return { outside: pops.outside, leaks, bytes, foundInside }
}

/** Evenly spread, and none with a character that a store's encoding would escape. */
function stretchesOf(text: string): string[] {
  const step = Math.max(1, Math.floor((text.length - stretchChars) / stretchesMax))
  const stretches: string[] = []
  for (let at = 0; at + stretchChars <= text.length; at += step) {
    const stretch = text.slice(at, at + stretchChars)
    if (/^[\w .,;:()=-]+$/.test(stretch)) stretches.push(stretch)
  }
  return stretches
}

function filesOf(folder: string, pop: string): string[] {
  const own = join(folder, pop)
  return [
    ...readdirSync(own, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
    `${own}.log`,
  ]
}
