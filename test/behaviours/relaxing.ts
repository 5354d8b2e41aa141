// An actor with an action whose reply does not wait until it is durable.
import { ActorError, actor, event } from "@sojourn/core"
import type { Probe } from "./app.ts"

export function relaxing(probe: Probe) {
  return {
    diary: actor({
      state: (): { ids: string[] } => ({ ids: [] }),
      events: { written: event<string>() },
      durability: { jot: "relaxed", note: "relaxed", jotNothing: "relaxed", jotBadly: "relaxed" },
      actions: {
        add(c, id: string) {
          probe.ran.push(`add ${id}`)
          c.state.ids.push(id)
          return c.state.ids.length
        },
        async slow(c, id: string) {
          await probe.gate?.(id)
          c.state.ids.push(id)
          return c.state.ids.length
        },
        jot(c, id: string) {
          probe.ran.push(`jot ${id}`)
          c.state.ids.push(id)
          c.broadcast("written", id)
          return c.state.ids.length
        },
        /** Without an event: who does not follow the state hears nothing of it. */
        note(c, id: string) {
          c.state.ids.push(id)
          return c.state.ids.length
        },
        jotNothing: (c) => c.state.ids.length,
        jotBadly(c) {
          c.state.ids.push("never")
          throw new ActorError("no", "rolled back")
        },
      },
      queries: { ids: (c) => c.state.ids },
    }),
  }
}
