import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, event } from "./actor.ts"

void test("alarms are inferred from the definition: their names, and what each is given", () => {
  const definition = actor({
    state: () => ({ n: 0 }),
    events: { rang: event<{ id: string }>() },
    alarms: {
      wake(c, payload: { id: string }) {
        const n: number = c.state.n
        c.state.n = n + 1
        c.broadcast("rang", payload)
        c.alarms.set("plain", { afterMs: 5 })
        // @ts-expect-error the state is the actor's
        c.state.other = 1
      },
      plain(c) {
        c.state.n += 1
      },
    },
    actions: {
      start(c, id: string) {
        c.alarms.set("wake", { afterMs: 1_000 }, { id })
        c.alarms.set("wake", 1_800_000_000_000, { id }, { id })
        c.alarms.set("plain", 5)
        c.alarms.set("plain", { afterMs: 5 }, undefined, { id })
        const was: boolean = c.alarms.cancel("wake", id)
        // @ts-expect-error there is no such alarm
        c.alarms.set("other", 5)
        // @ts-expect-error its payload is missing
        c.alarms.set("wake", 5)
        // @ts-expect-error its payload is of another type
        c.alarms.set("wake", 5, { id: 1 })
        // @ts-expect-error there is no such alarm
        c.alarms.cancel("other")
        return was
      },
    },
  })
  const other = actor({
    state: () => ({ n: 0 }),
    actions: {
      start(c, at: number) {
        c.alarms.set("wake", at, at)
      },
    },
    alarms: {
      wake(c, n: number) {
        c.state.n += n
      },
    },
  })
  assert.deepEqual(Object.keys(other.alarms ?? {}), ["wake"])
  assert.deepEqual(Object.keys(definition.alarms ?? {}), ["wake", "plain"])
})
