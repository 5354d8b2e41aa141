import type { AtlasPlace, AtlasPop } from "./atlas.ts"

/** What the page is told of the POPs and the lines: JSON at `/world.json`. */
export interface World {
  readonly pops: readonly AtlasPop[]
  readonly places: readonly (AtlasPlace & {
    /** The POP with the shortest line from here. */
    readonly nearest: string
    /** By POP: where a client at this place reaches it, and the line's round trip, ms. */
    readonly lines: Readonly<Record<string, { readonly url: string; readonly rttMs: number }>>
  })[]
  /** Round trips between POPs, ms, by the two ids in order, joined by a blank. */
  readonly mesh: Readonly<Record<string, number>>
}

export function meshLine(world: World, a: string, b: string): number {
  return a === b ? 0 : (world.mesh[[a, b].sort().join(" ")] ?? Number.NaN)
}
