// Ownership: the record, its transitions, and the storage contract that they define.
export {
  decideCheck,
  decideClaim,
  decideClaimSeen,
  decideCommit,
  decideConfirm,
  decideInstall,
  decideLearn,
  decidePull,
  decideRevive,
  isCutOff,
} from "./record.ts"
export type {
  ClaimAnswer,
  CommitAnswer,
  Cut,
  Decision,
  Fence,
  Granted,
  GrantHead,
  HomeRole,
  InstallDecision,
  Owned,
  OwnershipRecord,
  Pointer,
  PullDecision,
  SeenRecord,
} from "./record.ts"
export { emptyBody, listLimitMax, mergeForgotten } from "./store.ts"
export type {
  Body,
  Compacted,
  Due,
  FirstClaim,
  FirstWrite,
  Forgotten,
  Grant,
  Listed,
  PeerMemory,
  PullAnswer,
  Store,
  StoreOpener,
  Write,
} from "./store.ts"
export { memory, memoryDisk, memoryStore } from "./memory-store.ts"
export type { MemoryActor, MemoryDisk, MemoryStoreOptions } from "./memory-store.ts"

// For engines of stores: the operations over an actor's rows.
export {
  checkIn,
  claimIn,
  commitIn,
  compactIn,
  confirmIn,
  installIn,
  learnIn,
  loadIn,
  ownershipRules,
  pullIn,
  stageIn,
  reviveIn,
} from "./store-ops.ts"
export type { ActorRows, OwnershipRules } from "./store-ops.ts"

// What comes in by parameter.
export type {
  Chance,
  Clock,
  CoreEvent,
  EventSink,
  LoopLoad,
  MeshDialer,
  Pipe,
  PipeReader,
  Primitives,
  Undo,
} from "./ports.ts"
export { defaultLimits, withLimits } from "./limits.ts"
export type { Limits } from "./limits.ts"

// Addresses and the mesh's vocabulary.
export { actorKey, addressId, homeOf, parseAddress } from "./address.ts"
export type { Address } from "./address.ts"
export { isBulk } from "./mesh-messages.ts"
export type { MeshMessage, Principal } from "./mesh-messages.ts"

// Borders: whether a POP may hold an actor.
export { insideResidency, mayHold } from "./residency.ts"
export type { Asker, Needs, Residency, ResidencyOption } from "./residency.ts"

// Defining actors.
export { actor, event, setup } from "./actor.ts"
export type { AlarmWhen } from "./alarms.ts"
export type {
  ActionContext,
  ActorDefinition,
  ActorDefinitions,
  AlarmSetter,
  App,
  DeactivateContext,
  DeactivateReason,
  EventType,
  ReadContext,
} from "./actor.ts"
export type { ActorsOf, AnyActors, AnyHandle, ServerActors, ServerHandle } from "./handles.ts"
export { ActorError, SojournError } from "@sojourn/protocol"

// A node: everything of a POP but sockets, disk, clock and chance.
export type { ForgetReport } from "./forget.ts"
export { createNode } from "./node.ts"
export type { MoveDone } from "./offers.ts"
export type { CoreNode, NodeMesh, NodeOptions } from "./node.ts"
export type { Authenticate, Upgrade } from "./gateway.ts"
export type { MeshPeer } from "./mesh.ts"

// The hand-off's decisions, for tools and models that replay them.
export { restState, step } from "./handoff.ts"
export type { HandEffect, HandInput, HandState, HandStep, HandView } from "./handoff.ts"
