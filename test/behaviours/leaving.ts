// An actor that does something as its activation ends, and whose actions leave work running.
import { ActorError, actor, event, type DeactivateReason } from "@sojourn/core"
import type { Probe } from "./app.ts"

interface Lodging {
  ids: string[]
  /** Why each activation ended, as far as its last turn held. */
  ends: string[]
  since: Date
}

export function leaving(probe: Probe) {
  return {
    lodger: actor({
      state: (): Lodging => ({ ids: [], ends: [], since: new Date(0) }),
      events: { left: event<DeactivateReason>() },
      alarms: {
        ring(c, id: string) {
          c.state.ids.push(id)
        },
      },
      onDeactivate(c, reason) {
        probe.ran.push(`deactivate ${reason}`)
        c.state.ends.push(reason)
        c.broadcast("left", reason)
        return probe.onDeactivate?.(c, reason)
      },
      actions: {
        add(c, id: string) {
          probe.ran.push(`add ${id}`)
          c.state.ids.push(id)
          return c.state.ids.length
        },
        /** Changes nothing: no write. */
        nop: (c) => c.state.ids.length,
        plant(c) {
          c.state.since = probe.leaf as Date
        },
        async slow(c, id: string) {
          await probe.gate?.(id)
          c.state.ids.push(id)
        },
        async slowWork(c, id: string) {
          await probe.gate?.(id)
          c.state.ids.push(id)
          c.waitUntil(probe.work?.(id, c.actors) ?? Promise.resolve())
        },
        /** Its reply stays until it is acknowledged. */
        echo(c, text: string) {
          c.state.ids.push("echo")
          return text
        },
        work(c, id: string) {
          c.state.ids.push(id)
          c.waitUntil(probe.work?.(id, c.actors) ?? Promise.resolve())
          return c.state.ids.length
        },
        workAndThrow(c, id: string) {
          c.state.ids.push(id)
          c.waitUntil(probe.work?.(id, c.actors) ?? Promise.resolve())
          throw new ActorError("no", "rolled back")
        },
      },
      queries: {
        ids: (c) => c.state.ids,
        ends: (c) => c.state.ends,
        since: (c) => c.state.since,
        held(c) {
          probe.leaf = c.state.since
        },
      },
    }),
  }
}
