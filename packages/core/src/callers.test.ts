import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import { Caller } from "./caller.ts"
import { Callers } from "./callers.ts"
import { defaultLimits } from "./limits.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { createSessionIds } from "./session-ids.ts"
import { primitives } from "./testing/alone.ts"
import { bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// Each time round it was another session, whose record stays in the actor for a day: the actor then refused everybody with SESSIONS_FULL.
for (const [what, asleep] of [
  ["are awake", false],
  ["have slept meanwhile", true],
] as const)
  void test(`more actors than there are callers can be called one after another as often as one likes: those that ${what}`, async () => {
    const note = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })
    const clock = new VirtualClock()
    const limits = { ...defaultLimits, sessionsPerActorMax: 4 }
    const store = memoryStore({ disk: memoryDisk("bos") })
    const host = bareHost("bos", setup({ actors: { note } }), store, { clock, limits })
    await host.start()
    let ids = 0
    const chance = { id: () => `id${++ids}` }
    const sessionIds = createSessionIds({ secrets: ["a secret"], primitives, clock, chance, limits })
    const common = { host, clock, sessionIds, who: { id: "server:bos" }, limits, callMsMax: 30_000 }
    const callers = new Callers((id, address, session) => new Caller(id, address, { ...common, session }), 2, 10)
    for (let round = 1; round <= 10; round++)
      for (const key of ["a", "b", "c", "d"]) {
        let said: unknown
        callers
          .of("note", key)
          .call("add", [])
          .then(
            (n) => (said = n),
            (error: unknown) => (said = error),
          )
        await clock.advance(asleep ? 2 * limits.idleMs : 1_000)
        assert.equal(said, round)
      }
    callers.close()
    await host.stop()
  })
