import type { Bounds } from "./forget-model.ts"

/** For unit tests: a second or two, and enough for every rule left out to be caught. */
export const quick: readonly Bounds[] = [
  { pops: 3, home: 0, epochMax: 2, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 2, commitsMax: 1 },
]

/** For `npm run model`. */
export const full: readonly Bounds[] = [
  ...quick,
  { pops: 3, home: 0, epochMax: 3, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 3, commitsMax: 1 },
  { pops: 3, home: 0, epochMax: 4, commitsMax: 1 },
  { pops: 3, home: 2, epochMax: 3, commitsMax: 2 },
  { pops: 4, home: 0, epochMax: 2, commitsMax: 1 },
  { pops: 4, home: 3, epochMax: 2, commitsMax: 1 },
]
