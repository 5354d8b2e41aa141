// The client, and what it is made with.
export { createClient } from "./client.ts"
export { defaultLimits } from "./limits.ts"
export type { ClientLimits } from "./limits.ts"
export type {
  CallOptions,
  ClientOptions,
  Page,
  SocketFactory,
  SocketPort,
  SocketReader,
  TicketHint,
  TicketStorage,
} from "./types.ts"

// What it gives.
export type { ActorClass, ActorHandle, Client, ClientMembers, HandleMembers, LiveStateView } from "./types.ts"
export type { ClientEvents, ClientStats, Moved, Relaxed, ResumeInfo, Status, StatusChange } from "./types.ts"

// The application's shape, for generic code over it.
export type { ActorShape, AppShape, PayloadOf, StateOf } from "./types.ts"

// Errors come from the protocol's one table.
export { SojournError } from "@sojourn/protocol"
export type { ErrorCode, Outcome, Retry } from "@sojourn/protocol"
