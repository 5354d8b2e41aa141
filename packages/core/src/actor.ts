import type { StandardSchemaV1 } from "@standard-schema/spec"
import type { AlarmWhen } from "./alarms.ts"
import type { AnyActors } from "./handles.ts"
import type { Principal } from "./mesh-messages.ts"
import { checkLadder, type Ladder, type MigrationStep } from "./migrate.ts"
import { checkResidency, type ResidencyOption } from "./residency.ts"

/** An event's payload type, carried by `event<T>()` for inference alone. */
export interface EventType<T> {
  readonly payload?: T
}

/** Declares an event of an actor: `events: { added: event<{ sku: string }>() }`. Without a type it has no payload. */
export function event<T = void>(): EventType<NoInfer<T>> {
  // Not inferred: where it stands any payload would do, and `event()` was taken for one that has to bring some.
  return {}
}

export type EventTypes = Readonly<Record<string, EventType<unknown>>>
type PayloadOf<T> = T extends EventType<infer P> ? P : never

/** What every turn and query sees of its actor. */
export interface ReadContext<S> {
  /** Committed state; frozen. In a query it may include turns that are not durable yet: the answer waits until they are. */
  readonly state: S
  /** The actor's key, as given to `get`. */
  readonly key: string
  /** POP that runs this activation, and its epoch. */
  readonly pop: string
  readonly epoch: number
  /** Who called. */
  readonly who: Principal
  /** Ms since 1970, fixed within a turn. */
  now(): number
  /** Uniform in [0, 1). */
  random(): number
}

/** What the handler of each alarm is given; unknown: its handler takes nothing, or it is not known here which alarms there are. */
export type AlarmPayloads = Readonly<Record<string, unknown>>

/** Sets and takes away the actor's alarms. What it does commits with the turn, and is rolled back with it. */
export interface AlarmSetter<P> {
  /**
   * Runs the handler `name` at a time (ms since 1970) or so long after the turn began, in a turn of its own: at least once, its effects exactly
   * once, wherever the actor is by then, also if it sleeps or its node was down when the time came. A time that has passed is now. One
   * that throws is run again after a growing pause (`limits.alarmRetryMs`) until it does not, or is cancelled.
   *
   * There is one alarm of each name and id: a second `set` replaces it. Throws ALARMS_FULL at `limits.alarmsPerActorMax`, and where the
   * payload is over `limits.alarmPayloadCharsMax`.
   */
  set<K extends keyof P & string>(
    name: K,
    when: AlarmWhen,
    ...rest: unknown extends P[K]
      ? [payload?: unknown, options?: { readonly id?: string }]
      : [payload: P[K], options?: { readonly id?: string }]
  ): void
  /** Whether there was one to take away. */
  cancel(name: keyof P & string, id?: string): boolean
}

/** What an action sees. `state` is a draft: mutate it; a throw rolls everything back. */
export interface ActionContext<S, E extends EventTypes, P = AlarmPayloads> extends Omit<ReadContext<S>, "state"> {
  readonly state: S
  /** Sends an event to every attached client that may see it, once this turn is durable. */
  broadcast<K extends keyof E & string>(
    name: K,
    ...payload: PayloadOf<E[K]> extends void ? [] : [PayloadOf<E[K]>]
  ): void
  /**
   * Asks that the actor go to this POP once the turn is durable, its clients with it. It changes where the actor runs, never what it does: the
   * other POP may be out of reach, and then the actor stays. Throws a RangeError where no such POP is configured.
   */
  moveTo(pop: string): void
  readonly alarms: AlarmSetter<P>
  /**
   * The other actors, wherever they are: `await c.actors.cart.get("alice").add("book")`, exactly once and in order, as from server code; nobody
   * moves. The turn goes on meanwhile and nothing else of its actor runs; what happened at the other one does not roll back with it.
   *
   * A call to an actor that waits for this turn, itself included, rejects at once with CALL_CHAIN, and so does one that more than sixteen turns
   * would wait for. Turns that were begun apart and call each other's actors are not found out: they wait until `limits.turnMsMax`. Once
   * the turn has ended nobody waits for it, and any actor may be called. When it was given up, every call rejects with the reason.
   *
   * Any name is taken here, and what comes back is unknown: a definition cannot depend on the app that it is a part of. Say what is known:
   * `(c.actors as ActorsOf<App>).cart`, in an action whose own return type is written down where `App` holds it too, or
   * `c.actors.cart.get<ServerHandle<typeof cart>>(key)`.
   */
  readonly actors: AnyActors
  /**
   * Keeps the activation until this promise settles: the actor is not put to sleep, moved or closed with its POP before, but for
   * `limits.waitUntilMsMax` at the most. The reply does not wait for it. For work that goes on after the turn; what that is to change of the
   * state, it changes by calling an action of the actor like anybody (`c.actors`, once the turn has ended).
   *
   * The work has no part in the turn: one that is rolled back has begun it all the same. A rejection, or that it took too long, is the event
   * `work.failed`, with an id; so it is never an unhandled rejection. A crash ends it unsaid: what must happen is an alarm's.
   *
   * Throws QUEUE_FULL at `limits.waitUntilsPerActorMax`.
   */
  waitUntil(promise: PromiseLike<unknown>): void
  /** Aborted when the turn is given up (deadline, shutdown); the turn then leaves nothing. */
  readonly signal: AbortSignal
}

/**
 * Why an activation ends: nobody has used it for `idleMs`; another needed its place (`limits.residentsMax`); the actor goes to another POP;
 * its POP closes.
 */
export type DeactivateReason = "idle" | "evicted" | "moved" | "stopping"

/** What `onDeactivate` sees: an action's context, but for what would outlive it. */
export type DeactivateContext<S, E extends EventTypes, P = AlarmPayloads> = Omit<
  ActionContext<S, E, P>,
  "moveTo" | "waitUntil"
>

interface Hooks<S, E extends EventTypes, P> {
  // Methods, for the reason that `AlarmHandlers` has.
  onDeactivate(c: DeactivateContext<S, E, P>, reason: DeactivateReason): unknown
}

export type Actions<S, E extends EventTypes, P = AlarmPayloads> = Readonly<
  Record<string, (c: ActionContext<S, E, P>, ...args: never[]) => unknown>
>
/** `who` is this POP: nobody called. */
export type AlarmHandlers<S, E extends EventTypes, P> = {
  // A method's parameters are bivariant: a handler that stands behind the actions, too late for them to know it, is accepted as well.
  readonly [K in keyof P]: { run(c: ActionContext<S, E>, payload: P[K]): unknown }["run"]
}
export type Queries<S> = Readonly<Record<string, (c: ReadContext<S>, ...args: never[]) => unknown>>

export interface ActorDefinition<
  S = unknown,
  A = Readonly<Record<string, (...args: never[]) => unknown>>,
  Q = Readonly<Record<string, (...args: never[]) => unknown>>,
  E = EventTypes,
> {
  /**
   * The state of an actor that has never been used. Runs once in its life, at its home; what it returns is committed.
   *
   * State is a tree of plain objects and arrays, Maps and Sets, and of what JSON and superjson carry: strings, numbers, booleans, null, undefined,
   * bigints, Dates, RegExps, URLs, typed arrays. A Map's keys are no objects. A turn that puts anything else into it, or one object in two
   * places, is refused with BAD_STATE and rolled back.
   */
  readonly state: () => S
  /** Exclusive turns: one at a time, each commits or rolls back as a whole. */
  readonly actions?: A
  /** Read-only, never journaled; run between turns. */
  readonly queries?: Q
  readonly events?: E
  /**
   * What runs when an alarm is due that an action set (`c.alarms.set`): an exclusive turn like an action, with what was given as payload.
   * Written before `actions`, so that their `c.alarms` knows the names.
   */
  readonly alarms?: Readonly<Record<string, (...args: never[]) => unknown>>
  /** Validators of an action's arguments (as one array), by the Standard Schema interface. Refusal: BAD_INPUT. */
  readonly input?: { readonly [K in keyof A]?: StandardSchemaV1 }
  /**
   * Actions whose reply leaves before what they did is durable, and says so: `{ moveCursor: "relaxed" }`. They are as atomic and as ordered as the
   * others; what is given up is that a crash, or a write that fails right afterwards, may take back what the caller was told. It is written as
   * always, and nothing else leaves earlier: events, live state, and the replies of other actions that build on it wait until it is durable. A
   * reply that follows one of those on its own session waits with it. A refusal, or a turn that changed nothing, is answered like any other.
   * Clients are told of each (`client.on("relaxed", …)`); server code and other actors, whose calls get such replies as well, are not.
   */
  readonly durability?: { readonly [K in keyof A]?: "relaxed" }
  /**
   * Whether `who` may use `what`: the name of an action, query or event, or "state" for live state. Default: every principal that
   * `authenticate` let in may. Asked again for each use, so keep it quick; for events and "state" it must not be async. Who may see "state" no
   * more while it is attached is sent no change of it, and must attach again.
   */
  readonly authorize?: (c: ReadContext<S>, who: Principal, what: string) => boolean | Promise<boolean>
  /**
   * The last turn of an activation that ends in an orderly way: exclusive, and committed or rolled back as a whole like an action's, before the
   * actor sleeps or is handed over. Calls that come meanwhile wait, in their order, for the next activation. `c.who` is this POP.
   *
   * One that throws is rolled back and reported as the event `deactivate.failed`, with an id. So is one that takes over
   * `limits.deactivateMsMax`: its `signal` aborts, and its activation ends without it. A move may fail after it ran: then the actor
   * goes on here with what it changed, and it runs again the next time.
   *
   * It does not run where nothing can be committed any more: after a crash, or when a write failed or was fenced. So nothing may
   * depend on it that is not in the state anyway.
   */
  readonly onDeactivate?: Hooks<S, E & EventTypes, AlarmPayloads>["onDeactivate"]
  /** Ms without calls until the activation is deactivated; overrides the node's `idleMs`. Attached clients stay attached. */
  readonly idleMs?: number
  /**
   * Regions whose POPs may hold an actor's state: globs like `"eu-*"`, for the whole class or by key and by the principal whose attach
   * creates the actor. Fixed for the actor's life when it comes into being. Clients at POPs outside are served through a POP inside, whose
   * frames only pass through. As a list it also chooses the homes, so a class that has actors must not change the homes inside it.
   * As a function it runs at the home, once; a throw refuses the creation, so refuse whoever must not choose. If the home is outside
   * what it returns, creation fails with RESIDENCY_DENIED: mint such keys with `create()` at a POP inside.
   */
  readonly residency?: ResidencyOption
  /** `"deny"`: not even relay from POPs outside the residency; clients there get RESIDENCY_DENIED. Default `"allow"`. */
  readonly relay?: "allow" | "deny"
  /**
   * Schema version of the state, from 1 (the default) on; raise it with each change that old state does not fit. A POP whose code knows
   * a lower version than what is stored never opens it.
   */
  readonly version?: number
  /** `migrate[n]` makes state of version `n` into state of `n + 1`. Runs before the first call sees the actor; its result is stored in one write. */
  readonly migrate?: Readonly<Record<number, MigrationStep>>
}

/**
 * Defines a class of actors. Everything else is inferred from this one object. Names of actions, queries and events must differ, and
 * none may be "state"; a clash is a TypeError here rather than a surprise in `authorize`, and so is what no definition has.
 */
export function actor<
  S extends object,
  // What `c` is comes from `Actions` below: a constraint here would fix the alarms' types before they are known.
  A extends Readonly<Record<string, (c: never, ...args: never[]) => unknown>>,
  Q extends Queries<S>,
  P extends AlarmPayloads,
  E extends EventTypes = Readonly<Record<never, never>>,
>(definition: {
  readonly state: () => S
  readonly events?: E
  readonly alarms?: AlarmHandlers<S, E, P>
  readonly actions?: A & Actions<S, E, P>
  readonly queries?: Q
  readonly input?: { readonly [K in keyof A]?: StandardSchemaV1 }
  readonly durability?: { readonly [K in keyof A]?: "relaxed" }
  readonly authorize?: (c: ReadContext<S>, who: Principal, what: string) => boolean | Promise<boolean>
  readonly onDeactivate?: Hooks<S, E, P>["onDeactivate"]
  readonly idleMs?: number
  readonly residency?: ResidencyOption
  readonly relay?: "allow" | "deny"
  readonly version?: number
  readonly migrate?: Readonly<Record<number, MigrationStep>>
}): ActorDefinition<S, A, Q, E> {
  checkDefinition(definition)
  return definition
}

type NamedParts = { readonly [K in "actions" | "queries" | "events" | "alarms" | "durability"]?: object }

/** Throws a TypeError naming what is wrong. */
function checkDefinition(definition: NamedParts & Ladder & { readonly residency?: ResidencyOption }): void {
  checkParts(definition)
  const seen = new Set(["state"])
  for (const part of [definition.actions, definition.queries, definition.events])
    for (const name of Object.keys(part ?? {})) {
      if (seen.has(name))
        throw new TypeError(
          `an actor's actions, queries and events need different names, none "state"; ${name} is taken`,
        )
      if (name.length > 64) throw new TypeError(`the name ${name.slice(0, 70)}… is over 64 characters`)
      if (part !== definition.events && uncallable.includes(name))
        throw new TypeError(`no handle can call an action or query named ${JSON.stringify(name)}: give it another name`)
      seen.add(name)
    }
  for (const name of Object.keys(definition.alarms ?? {}))
    if (name.length > 64) throw new TypeError(`the name ${name.slice(0, 70)}… is over 64 characters`)
  for (const [name, what] of Object.entries(definition.durability ?? {}) as [string, unknown][])
    if (what !== undefined && (what !== "relaxed" || !Object.hasOwn(definition.actions ?? {}, name)))
      throw new TypeError(
        `durability names actions that are "relaxed"; got ${JSON.stringify(name)}: ${JSON.stringify(what)}`,
      )
  if (definition.residency !== undefined && typeof definition.residency !== "function")
    checkResidency("an actor class", definition.residency)
  checkLadder(definition)
}

const functions = ["state", "authorize", "onDeactivate"]
const tables = ["actions", "queries", "alarms"]
/** A handle does not have them: whoever awaits it, or writes it to a log, would call them. */
const uncallable = ["then", "toJSON"]
const others = ["events", "input", "durability", "idleMs", "residency", "relay", "version", "migrate"]

/** Where types are not checked, a misspelt part would be as none: everybody authorized, nothing validated. Throws a TypeError. */
function checkParts(definition: unknown): void {
  if (typeof definition !== "object" || definition === null)
    throw new TypeError(`an actor's definition must be an object; got ${String(definition)}`)
  const parts = definition as Readonly<Record<string, unknown>>
  for (const name of Object.keys(parts))
    if (![...functions, ...tables, ...others].includes(name))
      throw new TypeError(`an actor's definition has no ${JSON.stringify(name)}`)
  for (const name of functions)
    if (typeof parts[name] !== "function" && (parts[name] !== undefined || name === "state"))
      throw new TypeError(`an actor's ${name} must be a function; got ${typeof parts[name]}`)
  for (const table of tables)
    for (const [name, run] of Object.entries(parts[table] ?? {}) as [string, unknown][])
      if (typeof run !== "function")
        throw new TypeError(`an actor's ${table} must be functions; ${JSON.stringify(name)} is of type ${typeof run}`)
  const { actions, input, relay, idleMs } = parts
  for (const [name, schema] of Object.entries(input ?? {}) as [string, unknown][]) {
    if (!Object.hasOwn(actions ?? {}, name))
      throw new TypeError(`input validates an action's arguments; there is no action ${JSON.stringify(name)}`)
    if (schema !== undefined && !isSchema(schema))
      throw new TypeError(
        `input must be validators with the Standard Schema interface (\`~standard\`); ${JSON.stringify(name)} has none`,
      )
  }
  if (relay !== undefined && relay !== "allow" && relay !== "deny")
    throw new TypeError(`an actor's relay must be "allow" or "deny"; got ${JSON.stringify(relay)}`)
  if (idleMs !== undefined && !(typeof idleMs === "number" && idleMs >= 0))
    throw new TypeError(
      `an actor's idleMs must be a number from 0 on; got ${typeof idleMs === "number" ? idleMs : typeof idleMs}`,
    )
}

/** Some libraries' schemas are functions. */
function isSchema(schema: unknown): boolean {
  const standard = (schema as { readonly "~standard"?: Partial<StandardSchemaV1["~standard"]> } | null)?.["~standard"]
  return typeof standard?.validate === "function"
}

export type ActorDefinitions = Readonly<Record<string, ActorDefinition>>

export interface App<D = ActorDefinitions> {
  readonly actors: D
}

// Any definition at all: `unknown` would refuse handlers whose context is narrower.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyDefinition = ActorDefinition<any, any, any, any>

/**
 * Collects the actor classes of an application. Servers import it; clients import its type. A definition that did not go through `actor` is
 * checked as it is there.
 */
export function setup<D extends Readonly<Record<string, AnyDefinition>>>(options: { readonly actors: D }): App<D> {
  checkActors(options)
  return { actors: options.actors }
}

function checkActors(options: { readonly actors?: object | null } | null | undefined): void {
  const actors = options?.actors
  if (typeof actors !== "object" || actors === null)
    throw new TypeError("setup needs the actor classes of an application: setup({ actors: { cart } })")
  for (const [name, definition] of Object.entries(actors) as [string, AnyDefinition][]) {
    if (!/^[a-z][A-Za-z0-9_-]{0,63}$/.test(name))
      throw new TypeError(
        `an actor class must be named like "cart": a lower-case letter, then up to 63 letters, digits, _ or -; got ${JSON.stringify(name)}`,
      )
    checkDefinition(definition)
  }
}

/** The definition as the runtime calls it, its type parameters erased. */
export interface ErasedDefinition {
  readonly state: () => unknown
  readonly actions?: Readonly<Record<string, (c: unknown, ...args: unknown[]) => unknown>>
  readonly queries?: Readonly<Record<string, (c: unknown, ...args: unknown[]) => unknown>>
  readonly events?: EventTypes
  readonly input?: Readonly<Record<string, StandardSchemaV1 | undefined>>
  readonly durability?: Readonly<Record<string, "relaxed" | undefined>>
  readonly alarms?: Readonly<Record<string, (c: unknown, ...args: unknown[]) => unknown>>
  readonly authorize?: (c: unknown, who: Principal, what: string) => boolean | Promise<boolean>
  readonly onDeactivate?: (c: unknown, reason: DeactivateReason) => unknown
  readonly idleMs?: number
  readonly residency?: ResidencyOption
  readonly relay?: "allow" | "deny"
  readonly version?: number
  readonly migrate?: Readonly<Record<number, MigrationStep>>
}

/** The class of this name, or undefined. Own properties only: a class is never found on a prototype. */
export function definitionOf(app: App<unknown>, name: string): ErasedDefinition | undefined {
  const actors = app.actors as Readonly<Record<string, ErasedDefinition>>
  return Object.hasOwn(actors, name) ? actors[name] : undefined
}
