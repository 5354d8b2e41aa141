import { ActorError, actor, event, setup } from "@sojourn/core"

/** Whose state is told from anyone else's: no hostile client may ever be sent it. */
export const marker = "MARKER-of-the-victim-5c1e"

/** An actor a person; only that person may do anything with it. */
const note = actor({
  state: (): { n: number; any: unknown; secret: string } => ({ n: 0, any: undefined, secret: "" }),
  events: { added: event<unknown>() },
  authorize: (c, who) => c.key === `${who.id}~bos`,
  actions: {
    put(c, value: unknown) {
      c.state.any = value
      c.broadcast("added", value)
    },
    echo: (_, value: unknown) => value,
    add(c, secret: string) {
      c.state.n += 1
      c.state.secret = secret
      c.broadcast("added", secret)
      return { n: c.state.n, secret }
    },
    refuse(_, value: unknown) {
      throw new ActorError("no", "refused", value)
    },
    leave(c, pop: string) {
      c.moveTo(pop)
    },
  },
  queries: { read: (c) => c.state },
})

export const huntedApp = setup({ actors: { note } })
