import { actor, event, setup } from "@sojourn/core"
import { bodyOf } from "./body.ts"

/** What the bench calls. */
export const app = setup({
  actors: {
    counter: actor({
      state: () => ({ n: 0 }),
      // Not by the bench's own short time: its calls meet an actor that is awake.
      idleMs: 30_000,
      actions: {
        add(c, by: number) {
          c.state.n += by
          return c.state.n
        },
      },
      queries: { echo: (_c, text: string) => text },
    }),
    /** Has a body of so many bytes; sleeps after the server's `idleMs`. */
    box: actor({
      state: () => ({ n: 0, body: "" }),
      actions: {
        fill(c, bytes: number) {
          c.state.body = bodyOf(bytes)
        },
        add(c) {
          c.state.n += 1
          return c.state.body.length
        },
      },
      queries: { size: (c) => c.state.body.length },
    }),
    room: actor({
      state: () => ({ said: 0 }),
      idleMs: 30_000,
      events: { said: event<string>() },
      actions: {
        say(c, text: string) {
          c.state.said += 1
          c.broadcast("said", text)
        },
      },
    }),
  },
})
