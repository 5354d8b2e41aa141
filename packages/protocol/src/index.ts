// Errors and close codes: one table each, for code, documents and clients alike.
export { SojournError, ActorError } from "./errors.ts"
export { ERRORS } from "./error-texts.ts"
export type { ErrorCode, ErrorOptions, Outcome, Retry, WireError } from "./errors.ts"
export { CLOSE_CODES, closeCodeOf, reconnects } from "./close-codes.ts"
export type { CloseName } from "./close-codes.ts"

// Values: the codec seam and patches.
export { capture, codec, codecDepthMax, typedArrays, copied, isPlainJson } from "./codec.ts"
export type { Codec, Encoded } from "./codec.ts"
export { applyChanges, applyPatches } from "./patches.ts"
export type { Patch } from "./patches.ts"

// The wire between clients and gateways.
export { jsonDepthMax, nestsDeeper } from "./nesting.ts"
export { Batch, frameSeparator, framesIn } from "./batch.ts"
export { frameLimits, parseClientFrame, readClientFrame } from "./frames.ts"
export type { AttachBody, CallBody, ClientFrame, MoveReport, QueryBody, Resumed, ServerFrame } from "./frames.ts"
export { SUBPROTOCOL, TICKET_PREFIX, ticketCharsMax } from "./ticket.ts"
export type { TicketPayload } from "./ticket.ts"

// Time and chance, by parameter.
export type { Chance, Clock, Undo } from "./ports.ts"
