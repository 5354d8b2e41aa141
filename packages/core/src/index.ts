// Ownership: the record, its transitions, and the storage contract that they define.
export {
  decideCheck,
  decideClaim,
  decideCommit,
  decideConfirm,
  decideInstall,
  decideLearn,
  decidePull,
} from "./record.ts"
export type {
  ClaimAnswer,
  CommitAnswer,
  Decision,
  Fence,
  Granted,
  GrantHead,
  InstallDecision,
  Owned,
  OwnershipRecord,
  Pointer,
  PullDecision,
} from "./record.ts"
export { emptyBody } from "./store.ts"
export type { Body, FirstWrite, Grant, Listed, PeerMemory, PullAnswer, Store, StoreOpener, Write } from "./store.ts"

// What comes in by parameter.
export type { Chance, Clock, CoreEvent, EventSink, MeshDialer, Pipe, PipeReader, Primitives, Undo } from "./ports.ts"
export { defaultLimits, withLimits } from "./limits.ts"
export type { Limits } from "./limits.ts"

// Addresses and the mesh's vocabulary.
export { addressId, homeOf, parseAddress } from "./address.ts"
export type { Address } from "./address.ts"
export { isBulk } from "./mesh-messages.ts"
export type { MeshMessage, Principal } from "./mesh-messages.ts"
