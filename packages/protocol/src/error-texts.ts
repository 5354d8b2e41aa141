import { defaultMessages, errorKinds, type ErrorCode, type Outcome, type Retry } from "./errors.ts"

/** What each error means. An error that is raised without a message of its own has this one. */
const texts: Readonly<Record<ErrorCode, string>> = {
  BAD_FRAME: "a frame that is not of the protocol's form",
  FRAME_TOO_LARGE: "a frame over the limit",
  UNAUTHORIZED: "not authenticated, or the token was refused",
  FORBIDDEN: "this principal may not do this",
  FOREIGN_ORIGIN: "the page's origin is not on the allow-list",
  UNKNOWN_ACTOR: "no actor class of this name is set up here",
  UNKNOWN_ACTION: "the actor has no such action or query",
  BAD_KEY: "the actor's key is empty, too long or names an unknown home",
  BAD_INPUT: "the arguments were refused by the action's validator",
  BAD_STATE: "the turn left a state that cannot be stored; it was rolled back",
  ACTOR_ERROR: "the action refused",
  INTERNAL: "the action failed; the id finds it in the server's log",
  REPLY_TOO_LARGE: "the action's reply is over the limit; the turn was rolled back",
  REPLY_GONE: "the call was applied and its reply acknowledged earlier; it is kept no longer",
  CALL_SKIPPED: "the caller had given this call up before it was applied",
  CALL_CHAIN: "a call chain is too long, or comes back",
  SESSION_UNKNOWN: "the session is expired, forged or another principal's",
  SESSIONS_FULL: "the actor's session table is full",
  MAILBOX_FULL: "the actor's mailbox is full",
  ALARMS_FULL: "the actor has as many alarms as it may, or an alarm's payload is too large",
  RESIDENTS_FULL: "the node holds as many activations as it may",
  RATE_LIMITED: "too many requests from this connection",
  OVERLOADED: "the node has too much to do",
  SLOW_READER: "the connection did not read what was sent to it",
  SNAPSHOT_TOO_LARGE: "the actor's state is over the limit; it stays where it is",
  CALL_ORDER: "a call's number is not the next one; attach again and send what is unacknowledged",
  MOVED: "the actor is at another POP; attach again",
  SLEPT: "the activation ended; attach again",
  POP_UNREACHABLE: "the POP that has the actor did not answer in time",
  POP_FORGOTTEN: "the actor's last or next POP was given up as destroyed",
  NOT_FOUND_YET: "nobody asked knew where the actor is; ask again",
  NOT_SERVING: "this POP does not serve yet, or no more",
  STORE_LOST: "this POP's store is not the one that its peers remember",
  STORE_UNAVAILABLE: "the store did not answer, or refused to write",
  STORE_IN_USE: "another process has this store open",
  UNKNOWN_OUTCOME: "a write's outcome is unknown; the activation was dropped",
  FENCED: "refused: the epoch, fence or revision is not the record's",
  CORRUPT_RECORD: "a stored record fails its checksum or format; it is left untouched",
  HISTORY_LOST: "the client knows a later revision than the actor has",
  RESIDENCY_DENIED: "the actor's residency does not allow it at this POP",
  SCHEMA_NEWER: "the actor's state is of a later schema than this POP's code",
  MIGRATION_FAILED: "a step of the actor's migration failed; its stored state is untouched",
  INVARIANT: "an invariant of the protocol does not hold; the activation was dropped",
  CALL_TIMEOUT: "no reply within the call's time",
  CALL_NOT_SENT: "the call was never sent within its time",
  CALL_ABORTED: "the caller's signal aborted the call",
  QUEUE_FULL: "the client's queue of unsent calls is full",
  CLIENT_CLOSED: "the client was closed",
  HANDSHAKE_TIMEOUT: "no valid first frame in time",
  HALF_OPEN: "nothing was heard from the other side in time",
  MESH_REFUSED: "a mesh peer is unknown, or has another secret or list of homes",
  BAD_CONFIG: "an option is missing, out of range or contradicts another",
}

// The package says that its modules have no side effects, so a bundle has this line only where it has ERRORS, as any with a node has.
Object.assign(defaultMessages, texts)

type Errors = { readonly [C in ErrorCode]: readonly [retry: Retry, outcome: Outcome, text: string] }

/** The one table of errors: code, default `retry` and `outcome`, text. */
export const ERRORS = Object.fromEntries(
  Object.entries(errorKinds).map(([code, kind]) => [code, [...kind, texts[code as ErrorCode]]]),
) as unknown as Errors
