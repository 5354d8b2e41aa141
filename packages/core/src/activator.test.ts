import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { actor, setup } from "./actor.ts"
import { Host } from "./host.ts"
import { defaultLimits } from "./limits.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { Grant } from "./store.ts"
import { primitives } from "./testing/alone.ts"

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as () => void
setFlagsFromString("--no-expose_gc")

const note = actor({ state: () => ({ text: "x".repeat(10_000) }), actions: { read: (c) => c.state.text.length } })

// Pins a defect: what an activation tells its host kept the install's grant, so an actor that had come by a move was in memory twice.
test("an activation that came by a move does not keep the grant that brought it", async () => {
  const hosts = new Map<string, Host>()
  const grants: WeakRef<Grant>[] = []
  let ids = 0
  for (const pop of ["bos", "fra"]) {
    const store = memoryStore({ disk: memoryDisk(pop) })
    const host = new Host({
      app: setup({ actors: { note } }),
      pop,
      pops: new Set(["bos", "fra"]),
      regions: new Map(),
      homes: ["bos"],
      homeNow: (home) => ({ pop: home, role: true }),
      store: {
        ...store,
        install: (id, home, grant, first) => {
          grants.push(new WeakRef(grant))
          return store.install(id, home, grant, first)
        },
      },
      clock: { now: () => 1_700_000_000_000, mono: () => 0, after: () => () => undefined },
      chance: { random: () => 0.5, id: () => `id${++ids}` },
      primitives,
      limits: defaultLimits,
      events: () => undefined,
      tickets: { sign: () => "", verify: () => undefined },
      actors: { knows: () => false, newKey: () => "", call: () => Promise.reject(new Error("no calls")) },
      send: (to, message, body) => {
        queueMicrotask(() => hosts.get(to)?.message(pop, message, body))
        return true
      },
      linked: () => true,
      wrote: () => undefined,
      rtt: () => undefined,
    })
    hosts.set(pop, host)
  }
  const replies: string[] = []
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await setImmediate()
  }
  const call = async (pop: string, sid: string): Promise<void> => {
    const calls = [{ c: 1, a: "read", p: { v: [] } }]
    hosts.get(pop)?.attach({
      actor: "note/k",
      who: { id: "ann" },
      mintedAt: 1_700_000_000_000,
      body: { ch: 1, actor: ["note", "k"], sid, acked: 0, live: false, calls },
      ticket: undefined,
      hint: undefined,
      stay: false,
      localOnly: false,
      out: ({ t }) => void replies.push(`${pop} ${t}`),
      ended: () => undefined,
    })
    await settle()
  }
  await call("bos", "s1")
  hosts.get("bos")?.letGo()
  await call("fra", "s2")
  assert.ok(replies.includes("fra reply"), replies.join(", "))
  assert.equal(hosts.get("fra")?.residents, 1)
  assert.equal(grants.length, 1)
  collect()
  await setImmediate()
  collect()
  assert.equal(grants[0]?.deref(), undefined)
  await Promise.all([...hosts.values()].map((host) => host.stop()))
})
