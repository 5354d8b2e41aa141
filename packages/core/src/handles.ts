import { addressId } from "./address.ts"
import type { Chain } from "./chain.ts"

type Handler = (c: never, ...args: never[]) => unknown
type ArgsOf<F> = F extends (c: never, ...args: infer A) => unknown ? A : never
type ResultOf<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never

interface HandleMembers<D> {
  /** Every action, also those whose name a member of the handle takes. */
  readonly call: {
    readonly [K in keyof ActionsOf<D>]: (...args: ArgsOf<ActionsOf<D>[K]>) => Promise<ResultOf<ActionsOf<D>[K]>>
  }
  readonly query: {
    readonly [K in keyof QueriesOf<D>]: (...args: ArgsOf<QueriesOf<D>[K]>) => Promise<ResultOf<QueriesOf<D>[K]>>
  }
  readonly key: string
}
/** An actor as server code calls it: actions on the handle, queries under `query`. */
export type ServerHandle<D> = HandleMembers<D> & Omit<HandleMembers<D>["call"], keyof HandleMembers<unknown>>
type ActionsOf<D> = D extends { readonly actions?: infer A } ? NonNullable<A> : Readonly<Record<string, Handler>>
type QueriesOf<D> = D extends { readonly queries?: infer Q } ? NonNullable<Q> : Readonly<Record<string, Handler>>

export interface ServerActors<D> {
  /** The actor of this key, wherever it is. Nothing happens until it is called. */
  get(key: string): ServerHandle<D>
  /** A new actor whose home is this POP. */
  create(): ServerHandle<D>
}

/** The actors of an app, typed: `pop.actors` is this, and an action's `c.actors` may be cast to it. */
export type ActorsOf<A> = A extends { readonly actors: infer D }
  ? { readonly [K in keyof D]: ServerActors<D[K]> }
  : never

// An action's parameters are its author's: `unknown` would refuse to be cast to what they are.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyMethods = Readonly<Record<string, (...args: any[]) => Promise<unknown>>>
/** An actor of a class that is not known here: any name is an action, and what it returns is unknown. */
export type AnyHandle = AnyMethods & { readonly call: AnyMethods; readonly query: AnyMethods; readonly key: string }

/** The actors of an app that is not known here: a definition cannot name the app that it is a part of without going round in a circle. */
export type AnyActors = Readonly<
  Record<
    string,
    {
      /** `H`: its type, where it is known: `ServerHandle<typeof cart>`. */
      get<H = AnyHandle>(key: string): H
      create<H = AnyHandle>(): H
    }
  >
>

/** One call or query that was made through a handle. */
export interface ActorCall {
  readonly actor: readonly [name: string, key: string]
  readonly kind: "call" | "query"
  readonly name: string
  readonly args: readonly unknown[]
}

/** What handles need of a node. */
export interface ActorPorts {
  /** Whether there is such a class. */
  knows(name: string): boolean
  /** A key that nobody has used, whose home is this POP. */
  newKey(): string
  /** What a turn asks of another actor. `chain`: the turns that wait for it, none where its own has ended. */
  call(call: ActorCall, chain: Chain): Promise<unknown>
}

/** Whatever is called on these handles goes to `run`. */
export function actorHandles(
  { knows, newKey }: Pick<ActorPorts, "knows" | "newKey">,
  run: (call: ActorCall) => Promise<unknown>,
): AnyActors {
  const handle = (name: string, key: string): object => {
    addressId(name, key)
    const actor = [name, key] as const
    const act = (action: string, args: unknown[]): Promise<unknown> => run({ actor, kind: "call", name: action, args })
    return methods(act, {
      key,
      call: methods(act, {}),
      query: methods((query, args) => run({ actor, kind: "query", name: query, args }), {}),
    })
  }
  return new Proxy(
    {},
    {
      get: (_, name) =>
        typeof name !== "string" || !knows(name)
          ? undefined
          : {
              get: (key: string) => handle(name, key),
              create: () => handle(name, newKey()),
            },
    },
  )
}

/** Any name is one, except what is looked for and called on whatever is awaited, or written to a log. */
function methods(
  run: (name: string, args: unknown[]) => Promise<unknown>,
  own: Readonly<Record<string, unknown>>,
): object {
  return new Proxy(own, {
    get: (target, name) =>
      typeof name !== "string" || name === "then" || name === "toJSON"
        ? undefined
        : Object.hasOwn(target, name)
          ? target[name]
          : (...args: unknown[]) => run(name, args),
  })
}
