import type { Bounds } from "./forget-model.ts"
import type { HandoffBounds } from "./handoff-model.ts"

const ownership = { fenceMax: 0, calls: [] } as const
const lossy = { lossy: true, tickets: false } as const
const lasting = { lossy: false, tickets: false } as const

/** The hand-off, for unit tests: a second or two. */
export const handoffQuick: readonly HandoffBounds[] = [
  { ...ownership, processes: [0, 0, 0], epochMax: 5, lossy: true, tickets: true, reduced: false },
  { ...ownership, processes: [0, 0, 0], epochMax: 5, lossy: false, tickets: true, beliefs: true, reduced: false },
  { processes: [1, 2, 1], epochMax: 3, fenceMax: 2, calls: [1, 1], ...lasting, reduced: true },
  { processes: [2, 1], epochMax: 3, fenceMax: 2, calls: [1], ...lossy, reduced: false },
]

/** The hand-off, for `npm run model`. */
export const handoffFull: readonly HandoffBounds[] = [
  { ...ownership, processes: [0, 0, 0], epochMax: 7, lossy: true, tickets: true, reduced: false },
  { ...ownership, processes: [0, 0, 0, 0], epochMax: 5, lossy: true, tickets: true, reduced: true },
  { ...ownership, processes: [0, 0, 0], epochMax: 5, lossy: false, tickets: true, beliefs: true, reduced: false },
  // All the bounds at once, with the two processes away from the home and at it.
  { processes: [1, 2, 1], epochMax: 5, fenceMax: 2, calls: [1, 1], ...lossy, reduced: true },
  { processes: [2, 1, 1], epochMax: 5, fenceMax: 2, calls: [1, 1], ...lossy, reduced: true },
  { processes: [1, 2, 1], epochMax: 5, fenceMax: 2, calls: [1, 1], lossy: false, tickets: true, reduced: true },
  // Nothing forgotten and no two states taken for one.
  { processes: [1, 2, 1], epochMax: 5, fenceMax: 2, calls: [1], ...lasting, reduced: false },
  { processes: [2, 2], epochMax: 4, fenceMax: 2, calls: [1, 1], ...lasting, reduced: false },
  { processes: [1, 2, 1], epochMax: 3, fenceMax: 2, calls: [2], ...lasting, reduced: false },
]

/** For `npm run model -- --deep`. */
export const handoffDeep: readonly HandoffBounds[] = [
  { ...ownership, processes: [0, 0, 0, 0], epochMax: 7, lossy: true, tickets: true, reduced: true },
  { processes: [2, 2, 2], epochMax: 5, fenceMax: 2, calls: [1, 1], ...lossy, reduced: true },
  { processes: [1, 2, 1], epochMax: 5, fenceMax: 3, calls: [2, 1], ...lossy, reduced: true },
  { processes: [1, 2, 1], epochMax: 5, fenceMax: 2, calls: [1, 1], ...lasting, reduced: false },
]

/** Where a rule left out is looked for. */
export const handoffMutants: readonly HandoffBounds[] = [
  { ...ownership, processes: [0, 0, 0], epochMax: 3, lossy: true, tickets: true, reduced: false },
  { ...ownership, processes: [0, 0, 0], epochMax: 3, lossy: false, tickets: true, beliefs: true, reduced: false },
  { processes: [1, 2, 1], epochMax: 3, fenceMax: 2, calls: [1], ...lasting, reduced: false },
]

/** Forgetting, for unit tests: a second or two, and enough for every rule left out to be caught. */
export const quick: readonly Bounds[] = [
  { pops: 3, home: 0, epochMax: 2, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 2, commitsMax: 1 },
]

/** Forgetting, for `npm run model`. */
export const full: readonly Bounds[] = [
  ...quick,
  { pops: 3, home: 0, epochMax: 3, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 3, commitsMax: 1 },
  { pops: 3, home: 0, epochMax: 4, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 3, commitsMax: 2 },
  { pops: 4, home: 0, epochMax: 2, commitsMax: 1 },
  { pops: 4, home: 3, epochMax: 2, commitsMax: 1 },
]
