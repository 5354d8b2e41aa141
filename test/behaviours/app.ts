// The actors that the behaviours are shown on. Everything they are told is kept, so that what was applied can be counted.
import { createHash } from "node:crypto"
import { actor, event, setup, ActorError } from "@sojourn/core"
import type { AlarmSetter, AnyActors, DeactivateReason } from "@sojourn/core"
import { bordered } from "./bordered.ts"
import { hopping } from "./hops.ts"
import { leaving } from "./leaving.ts"
import { relaxing } from "./relaxing.ts"

/** What a test sees of, and decides in, user code of its own process. */
export interface Probe {
  /** `class action id` of each time that user code was entered. */
  readonly ran: string[]
  /** What `add` returned, in order. */
  readonly returned: unknown[]
  /** Throws or waits where a test says so. */
  onState?: (() => void) | undefined
  gate?: ((id: string) => Promise<void>) | undefined
  /** Told as the handler of an alarm is entered; what it throws, the handler throws after it has changed the state. */
  onAlarm?: ((id: string, pop: string) => void) | undefined
  /** What else the `onDeactivate` of a `lodger` does. */
  onDeactivate?: ((c: Ending, reason: DeactivateReason) => unknown) | undefined
  /** What the actions of a `lodger` leave to `waitUntil`. */
  work?: ((id: string, actors: AnyActors) => Promise<unknown>) | undefined
  /** What `plant` puts into the state, and then, by `held`, what the state has of it: an object that a test gets hold of. */
  leaf?: unknown
  /** Throws where a step of a migration, or the choice of a residency, is to fail. */
  onStep?: ((what: string) => void) | undefined
}

export interface Ending {
  readonly state: { since: Date }
  readonly signal: AbortSignal
  readonly alarms: AlarmSetter<{ ring: string }>
}

export function newProbe(): Probe {
  return { ran: [], returned: [] }
}

interface Added {
  readonly id: string
  readonly n: number
}

interface Ledger {
  n: number
  ids: string[]
  /** Whatever a test puts there. */
  blob: unknown
}

/** `schema`: of `card` alone, whose state says how it came to be what it is. */
export function makeApp(probe: Probe = newProbe(), schema = 1) {
  const ledger = actor({
    state: (): Ledger => {
      probe.onState?.()
      return { n: 0, ids: [], blob: undefined }
    },
    events: { added: event<Added>() },
    alarms: {
      ring(c, id: string) {
        probe.ran.push(`ring ${id}`)
        c.state.n += 1
        c.state.ids.push(id)
        probe.onAlarm?.(id, c.pop)
      },
    },
    actions: {
      /** Its alarm adds `id`. */
      remind(c, ms: number, id: string) {
        c.alarms.set("ring", { afterMs: ms }, id, { id })
      },
      remindAndThrow(c, ms: number, id: string, other: string) {
        c.alarms.set("ring", { afterMs: ms }, id, { id })
        c.alarms.cancel("ring", other)
        throw new ActorError("no", "rolled back")
      },
      /** Its reply holds chance: a second execution would return something else. */
      add(c, id: string) {
        probe.ran.push(`add ${id}`)
        c.state.n += 1
        c.state.ids.push(id)
        c.broadcast("added", { id, n: c.state.n })
        const reply = { n: c.state.n, chance: c.random() }
        probe.returned.push(reply)
        return reply
      },
      async slow(c, id: string) {
        probe.ran.push(`slow ${id}`)
        await probe.gate?.(id)
        c.state.n += 1
        c.state.ids.push(id)
        const reply = { n: c.state.n, chance: c.random() }
        probe.returned.push(reply)
        return reply
      },
      put(c, value: unknown) {
        c.state.blob = value
      },
      /** Adds a piece to what `put` began with an array. */
      append(c, text: string) {
        ;(c.state.blob as string[]).push(text)
      },
      /** Its reply is as large as what it was given, and stays until it is acknowledged. */
      echo(c, text: string) {
        c.state.n += 1
        return text
      },
      plant(c) {
        c.state.blob = probe.leaf
      },
      /** Changes nothing: no write. */
      nop(c) {
        probe.ran.push("nop")
        return c.state.n
      },
      /** Changes nothing: the actor is where its caller wants it. */
      go(c, pop: string) {
        c.moveTo(pop)
      },
      refuse(c) {
        c.state.n = -1
        c.broadcast("added", { id: "never", n: -1 })
        throw new ActorError("out-of-stock", "nothing is left", { left: 0 })
      },
      boom(c) {
        c.state.n = -1
        c.broadcast("added", { id: "never", n: -1 })
        throw new Error("password=hunter2")
      },
    },
    queries: {
      ids: (c) => {
        probe.ran.push("ids")
        return [...c.state.ids]
      },
      blob: (c) => c.state.blob,
      blobHash: (c) =>
        createHash("sha256")
          .update((c.state.blob as string[]).join(""))
          .digest("hex"),
      whole: (c) => c.state,
      held(c) {
        probe.leaf = c.state.blob
      },
    },
  })
  /** Only the principal whose name its key begins with may use it. */
  const vault = actor({
    state: () => ({ secret: "the combination is 12-34-56" }),
    authorize: (c, who) => c.key.split("~")[0] === who.id,
    actions: {
      set(c, secret: string) {
        probe.ran.push(`set ${c.who.id}`)
        c.state.secret = secret
      },
    },
    queries: { read: (c) => c.state.secret },
  })
  return setup({
    actors: { ledger, vault, ...bordered(probe, schema), ...hopping(probe), ...leaving(probe), ...relaxing(probe) },
  })
}

export type App = ReturnType<typeof makeApp>
