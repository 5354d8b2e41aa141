import type { Resumed } from "@sojourn/protocol"
import type { Link } from "./link.ts"
import type { Request } from "./session.ts"
import type { ActorHandle, ActorShape, CallOptions, ResumeInfo } from "./types.ts"

type Method = (...args: unknown[]) => Promise<unknown>

/**
 * Any name is a method; each is made once. `then` is none: an awaited object must not look like a promise. Members of `own` (and what
 * every object has) come first.
 */
function methods(own: object | null, make: (name: string) => Method): object {
  const target = own ?? (Object.create(null) as object)
  const made = new Map<string, Method>()
  return new Proxy(target, {
    get(_, name) {
      if (typeof name !== "string" || name === "then" || name in target) return Reflect.get(target, name)
      let method = made.get(name)
      if (!method) made.set(name, (method = make(name)))
      return method
    },
  })
}

function requests(link: Link, kind: Request["kind"], options: CallOptions | undefined) {
  return (name: string): Method =>
    (...args) =>
      link.request(kind, name, args, options)
}

/** What an app holds of an actor: members, and every other name an action. */
export function createHandle(link: Link, ticket: () => string | undefined, close: () => void): ActorHandle<ActorShape> {
  const call = requests(link, "call", undefined)
  const withOptions = (options: CallOptions): object => {
    const made = requests(link, "call", options)
    return methods({ query: methods(null, requests(link, "query", options)), call: methods(null, made) }, made)
  }
  const members = {
    actor: link.actor,
    on: (name: string, listener: (payload: never) => void) => link.on(name, listener),
    onResume: (listener: (how: Resumed, info: ResumeInfo) => void) =>
      link.onResume(([how, info]: [Resumed, ResumeInfo]) => listener(how, info)),
    state: {
      get: () => link.live.value,
      subscribe: (listener: (state: never) => void) => link.subscribe(listener),
    },
    query: methods(null, requests(link, "query", undefined)),
    call: methods(null, call),
    with: withOptions,
    get position() {
      return link.position
    },
    get ticket() {
      return ticket()
    },
    get pop() {
      return link.pop
    },
    ready: () => link.ready(),
    close,
  }
  return methods(members, call) as ActorHandle<ActorShape>
}

/** `client.cart.get("alice")`: any name is a class. */
export function createClasses<T extends object>(own: T, get: (name: string, key: string) => unknown): T {
  const made = new Map<string, object>()
  return new Proxy(own, {
    get(target, name) {
      if (typeof name !== "string" || name === "then" || name in target) return Reflect.get(target, name)
      let actorClass = made.get(name)
      if (!actorClass) made.set(name, (actorClass = { get: (key: string) => get(name, key) }))
      return actorClass
    },
  })
}
