// The embedded store.
export { lmdb } from "./opener.ts"
export type { LmdbOptions } from "./opener.ts"
export type { FlushGate } from "./group-commit.ts"
