import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { actor, setup } from "./actor.ts"
import type { Host } from "./host.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { Grant } from "./store.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as () => void
setFlagsFromString("--no-expose_gc")

const note = actor({ state: () => ({ text: "x".repeat(10_000) }), actions: { read: (c) => c.state.text.length } })

// Pins a defect: what an activation tells its host kept the install's grant, so an actor that had come by a move was in memory twice.
test("an activation that came by a move does not keep the grant that brought it", async () => {
  const hosts = new Map<string, Host>()
  const grants: WeakRef<Grant>[] = []
  for (const pop of ["bos", "fra"]) {
    const store = memoryStore({ disk: memoryDisk(pop) })
    const keeping = {
      ...store,
      install: (...[id, home, grant, first]: Parameters<typeof store.install>) => {
        grants.push(new WeakRef(grant))
        return store.install(id, home, grant, first)
      },
    }
    const host = bareHost(pop, setup({ actors: { note } }), keeping, {
      send: (to, message, body) => {
        queueMicrotask(() => hosts.get(to)?.message(pop, message, body))
        return true
      },
    })
    hosts.set(pop, host)
  }
  const replies: string[] = []
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await setImmediate()
  }
  const call = async (pop: string, sid: string): Promise<void> => {
    attachTo(hosts.get(pop) as Host, "k", sid, "read", (kind) => replies.push(`${pop} ${kind}`))
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
