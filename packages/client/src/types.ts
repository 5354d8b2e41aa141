/// <reference lib="esnext.disposable" preserve="true" />
import type { Chance, Clock, MoveReport, Resumed, SojournError, Undo } from "@sojourn/protocol"
import type { ClientLimits } from "./limits.ts"

/**
 * What of an application's type a client uses. It is structural, so that importing `App` as a type brings nothing of the server in.
 * Contexts are `never` here, which every function's may be, because the client never sees one.
 */
type AnyFunction = (c: never, ...args: never[]) => unknown
type Functions = Readonly<Record<string, AnyFunction>>

export interface ActorShape {
  readonly state?: unknown
  readonly actions?: Functions | undefined
  readonly queries?: Functions | undefined
  readonly events?: Readonly<Record<string, unknown>> | undefined
}

export interface AppShape {
  readonly actors: Readonly<Record<string, ActorShape>>
}

type Empty = Readonly<Record<never, never>>
/** A definition without the part infers an index signature or `unknown` for it: that is no list of names. */
type Named<T> = string extends keyof T ? Empty : T
type ActionsOf<D> = D extends { readonly actions?: infer A } ? Named<NonNullable<A>> : Empty
type QueriesOf<D> = D extends { readonly queries?: infer Q } ? Named<NonNullable<Q>> : Empty
type EventsOf<D> = D extends { readonly events?: infer E } ? Named<NonNullable<E>> : Empty
export type StateOf<D> = D extends { readonly state?: infer S }
  ? S extends (...args: never[]) => infer R
    ? Awaited<R>
    : S
  : unknown
export type PayloadOf<E> = E extends { readonly payload?: infer P } ? P : unknown

// `any` in the context's place again: the rest of the parameters is what the caller gives.
type Method<F> = F extends (
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  c: any,
  ...args: infer A
) => infer R
  ? (...args: A) => Promise<Awaited<R>>
  : never
export type Methods<T> = { readonly [K in keyof T & string]: Method<T[K]> }
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type LooseMethods = Readonly<Record<string, (...args: any[]) => Promise<any>>>
/** With an untyped client every name is allowed, on `call` and `query`. */
type MethodsOrLoose<D, T> = ActorShape extends D ? LooseMethods : Methods<T>

/** How the client came to the actor again: `new` and `replay` missed nothing that was theirs, `snapshot` skipped what lies between. */
export interface ResumeInfo {
  readonly pop: string
  readonly epoch: number
  readonly revision: number
}

export interface CallOptions {
  /** Gives the call up. Sent already: CALL_ABORTED with outcome `unknown`; else `not-executed`. */
  readonly signal?: AbortSignal
  /** Ms from the call to its answer, time offline included. Default `limits.callMs`. */
  readonly timeoutMs?: number
}

export interface LiveStateView<S> {
  /** The last state that arrived; undefined before the first one, and while nobody has subscribed. Not yours to change. */
  get(): S | undefined
  /** Called with the present state at once if there is one, then with each new one, after the events of the same turn. */
  subscribe(listener: (state: S) => void): Undo
}

export interface HandleMembers<D> {
  /** `[class, key]`. */
  readonly actor: readonly [string, string]
  /** Events of the actor. They arrive in order and without gaps, or `onResume` tells. */
  on<K extends keyof EventsOf<D> & string>(name: K, listener: (payload: PayloadOf<EventsOf<D>[K]>) => void): Undo
  /** Called at each attach: whether everything missed follows, or a snapshot stands in for it. */
  onResume(listener: (how: Resumed, info: ResumeInfo) => void): Undo
  readonly state: LiveStateView<StateOf<D>>
  /** Read-only calls. Answered after the calls made before them. */
  readonly query: MethodsOrLoose<D, QueriesOf<D>>
  /** Every action, also those whose name a member of the handle takes. */
  readonly call: MethodsOrLoose<D, ActionsOf<D>>
  /** The same actor with options for each call and query made through it. */
  with(options: CallOptions): Methods<ActionsOf<D>> & {
    readonly query: MethodsOrLoose<D, QueriesOf<D>>
    readonly call: MethodsOrLoose<D, ActionsOf<D>>
  }
  /** Last revision seen: of the attach, then of each output. */
  readonly position: number | undefined
  /** The location hint for this actor, opaque. Changes latency, never correctness. */
  readonly ticket: string | undefined
  /** The POP that owns the actor, as last told. */
  readonly pop: string | undefined
  /** Resolves once attached (now, if it is). Rejects with what refused the attach, or CALL_NOT_SENT after `limits.callMs`. */
  ready(): Promise<void>
  /** Detaches and forgets listeners; what is pending rejects with CLIENT_CLOSED. Using the handle again attaches again. */
  close(): void
}

/** Actions are called on the handle itself. `then` and `toJSON` are no action's names here: a handle may be awaited and logged. */
export type ActorHandle<D> = HandleMembers<D> & Omit<Methods<ActionsOf<D>>, keyof HandleMembers<unknown>>

export interface ActorClass<D> {
  /** The actor of this key. The same handle each time; nothing is sent before it is used. */
  get(key: string): ActorHandle<D>
}

/**
 * - `idle`: nothing was asked of the client yet → connecting
 * - `connecting`: the first attempt → connected, reconnecting
 * - `connected`: welcomed → reconnecting, moving
 * - `reconnecting`: the connection was lost; retrying with backoff → connected, suspended
 * - `moving`: `switchTo`, or the server goes away: another connection is tried, and the present one, if there is one, goes on
 *   serving until the other is welcomed → connected, reconnecting
 * - `suspended`: lost while the page is hidden; retries when it is visible → reconnecting
 * - `failed`: refused for good; calls reject → connecting by `connect()`, moving by `switchTo()`
 * - `closed`: by `close()`; final
 *
 * `moving`, `failed` and `closed` may also follow each of the others but `closed`.
 */
export type Status = "idle" | "connecting" | "connected" | "reconnecting" | "moving" | "suspended" | "failed" | "closed"

export interface StatusChange {
  readonly from: Status
  readonly to: Status
  /** The POP that the socket is at, or was at last. */
  readonly pop: string | undefined
  readonly url: string
  /** With `connected`: ms from `hello` sent to `welcome`. */
  readonly helloMs?: number
}

export interface Moved {
  readonly actor: readonly [string, string]
  readonly from: string
  readonly to: string
  /** From the attach sent to its answer; 0 where the attach went on, by relay, while the actor moved. */
  readonly ms: number
  /** What the gateway that fetched the actor did; absent where another one did, or none had to. */
  readonly report: MoveReport | undefined
}

/** Of this action of this actor. */
export interface Relaxed {
  readonly actor: readonly [string, string]
  readonly action: string
}

export interface ClientEvents {
  readonly status: StatusChange
  readonly moved: Moved
  /**
   * A reply came before what its action did was durable, as the actor's class allows (`durability`): a crash right now may take that back. Told
   * just before the call resolves; a call that resolves without it was durable. Nobody is told if it is taken back: live state and
   * later calls show what holds.
   */
  readonly relaxed: Relaxed
  /** What no call's rejection tells: listeners that threw, lost history, refused attaches, failing token functions. */
  readonly error: SojournError
}

export interface TicketHint {
  readonly actor: readonly [string, string]
  readonly ticket: string
}

/** Counted since the client was made. */
export interface ClientStats {
  readonly connects: number
  readonly attaches: number
  /** Calls sent a second time or more often. */
  readonly resent: number
  /** Outputs that were missing: each led to a new attach. */
  readonly gaps: number
  /** Replies and outputs that came again and were dropped. */
  readonly duplicates: number
}

export interface ClientMembers {
  on<K extends keyof ClientEvents>(name: K, listener: (payload: ClientEvents[K]) => void): Undo
  /** An actor by name, for names that a member of the client takes and for untyped use. */
  actor(name: string, key: string): ActorHandle<ActorShape>
  readonly status: Status
  /** The URL in use, or to be tried next. */
  readonly url: string
  /** The POP that the socket is at, or was at last. */
  readonly pop: string | undefined
  readonly principal: string | undefined
  readonly stats: ClientStats
  /** Connects now instead of at first use; also after `failed`. */
  connect(): void
  /**
   * Connects through this POP from now on. The connection there is, if any, stays in use until the new one is welcomed, and is closed
   * when every actor was attached there; as long as that fails it goes on being tried, with pauses. Once nothing else is connected and it
   * does not answer, or it goes away itself, the URLs of the client's own are tried, then this one again. Sessions stay; unacknowledged
   * calls are sent again there, and run once.
   */
  switchTo(url: string): void
  /** Calls the token function and presents the new token on the open connection, unless a later one has been presented meanwhile. */
  refreshToken(): Promise<void>
  /** Every location hint held. */
  tickets(): TicketHint[]
  /** Replaces location hints, for those who keep them elsewhere. A wrong one costs latency, nothing else. */
  setTickets(hints: Iterable<TicketHint>): void
  forgetTickets(): void
  /** Ends everything: no timer, socket or listener is left when it resolves. Pending calls reject with CLIENT_CLOSED. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export type Client<App extends AppShape = AppShape> = ClientMembers & {
  readonly [K in Exclude<keyof App["actors"] & string, keyof ClientMembers>]: ActorClass<App["actors"][K]>
}

export interface SocketReader {
  open(): void
  message(data: string): void
  /** Exactly once, also after a failed connect or `close`. */
  closed(code: number, reason: string): void
}

export interface SocketPort {
  send(data: string): void
  /** Characters or bytes not yet handed to the network. */
  buffered(): number
  close(code: number, reason: string): void
}

/** Opens a WebSocket. Never calls the reader before it has returned. */
export type SocketFactory = (url: string, protocols: string[], reader: SocketReader) => SocketPort

/** Whether anybody looks: hidden pages do not retry. `changed` is called when that, or being online, may have changed. */
export interface Page {
  hidden(): boolean
  watch(changed: () => void): Undo
}

/** Where location hints survive a page load: `localStorage` fits. */
export interface TicketStorage {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
}

export interface ClientOptions {
  /**
   * `ws:` or `wss:` (`http:` and `https:` are read as these) URL of a POP, without `/v1/connect`; or several, the preferred one first.
   * The next of several is tried after a failed attempt, and when a server goes away. What a server says never adds one.
   */
  readonly url: string | readonly string[]
  /** A function is called at each connect; when it throws, connecting is retried with backoff. */
  readonly token?: string | (() => string | Promise<string>)
  /** Names this client in the server's logs. Default: random. */
  readonly clientId?: string
  readonly limits?: Partial<ClientLimits>
  /** Changes or withholds (undefined) the hint for an actor each time one is sent. Changes latency, never correctness. */
  readonly ticketFor?: (actor: readonly [string, string], ticket: string | undefined) => string | undefined
  readonly storage?: TicketStorage
  readonly clock?: Clock
  readonly chance?: Chance
  readonly socket?: SocketFactory
  readonly page?: Page
}
