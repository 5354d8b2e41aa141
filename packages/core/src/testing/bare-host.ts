import type { App } from "../actor.ts"
import { Host, type HostOptions } from "../host.ts"
import { defaultLimits } from "../limits.ts"
import type { Store } from "../store.ts"
import { primitives } from "./alone.ts"

/** The host role of one of the POPs bos and fra, bos being every actor's home; time stands still. */
export function bareHost(
  pop: string,
  app: App<unknown>,
  store: Store,
  more: Partial<Pick<HostOptions, "send" | "linked" | "room" | "clock" | "events" | "limits">> = {},
): Host {
  let ids = 0
  return new Host({
    app,
    pop,
    pops: new Set(["bos", "fra"]),
    regions: new Map(),
    homes: ["bos"],
    homeNow: (home) => ({ pop: home, role: true }),
    store,
    clock: { now: () => 1_700_000_000_000, mono: () => 0, after: () => () => undefined },
    chance: { random: () => 0.5, id: () => `id${++ids}` },
    primitives,
    limits: defaultLimits,
    events: () => undefined,
    tickets: { sign: () => "", verify: () => undefined },
    actors: { knows: () => false, newKey: () => "", call: () => Promise.reject(new Error("no calls")) },
    send: () => false,
    linked: () => true,
    room: () => true,
    wrote: () => undefined,
    rtt: () => undefined,
    ...more,
  })
}

/** A client attaches to that key of the class `note`, and calls `action` once. `out`: the kinds of frames it is sent. */
export function attachTo(host: Host, key: string, sid: string, action: string, out: (kind: string) => void): void {
  host.attach({
    actor: `note/${key}`,
    who: { id: "ann" },
    mintedAt: 1_700_000_000_000,
    body: { ch: 1, actor: ["note", key], sid, acked: 0, live: false, calls: [{ c: 1, a: action, p: { v: [] } }] },
    ticket: undefined,
    hint: undefined,
    stay: false,
    localOnly: false,
    out: ({ t }) => {
      out(t)
    },
    ended: () => {
      out("ended")
    },
  })
}
