import type { Resumed } from "@sojourn/protocol"
import type { Link } from "./link.ts"
import type { Request } from "./session.ts"
import type { ActorHandle, ActorShape, CallOptions, ResumeInfo } from "./types.ts"

type Method = (...args: unknown[]) => Promise<unknown>

/**
 * Any name is a member, made once, at first use. `then` and `toJSON` are none: whoever awaits the object, or writes it to a log, calls what
 * is there. Members of `own` (and what every object has) come first.
 */
export function anyName<T extends object>(own: T | null, make: (name: string) => object): T {
  const target = own ?? (Object.create(null) as T)
  const made = new Map<string, object>()
  return new Proxy(target, {
    get(_, name) {
      if (typeof name !== "string" || name === "then" || name === "toJSON" || name in target)
        return Reflect.get(target, name)
      let member = made.get(name)
      if (!member) made.set(name, (member = make(name)))
      return member
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
    return anyName({ query: anyName(null, requests(link, "query", options)), call: anyName(null, made) }, made)
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
    query: anyName(null, requests(link, "query", undefined)),
    call: anyName(null, call),
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
  return anyName(members, call) as ActorHandle<ActorShape>
}
