import assert from "node:assert/strict"
import { test } from "node:test"
import { actor, setup } from "./actor.ts"
import type { Host } from "./host.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const app = setup({ actors: { note: actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } }) } })

// Pins a defect: it was fetched again at once, with its body, for the client that had been told; 184 times a second on a line of 10 ms, until
// the disk could be written again.
test("an actor that cannot be written where it comes is not fetched again for who was told so", async () => {
  const clock = new VirtualClock()
  const hosts = new Map<string, Host>()
  const sent: string[] = []
  let full = true
  for (const pop of ["bos", "fra"]) {
    const store = memoryStore({ disk: memoryDisk(pop) })
    const disk = {
      ...store,
      install: (...args: Parameters<typeof store.install>) =>
        pop === "fra" && full ? Promise.reject(new Error("no space left on device")) : store.install(...args),
    }
    const host = bareHost(pop, app, disk, {
      clock,
      send: (to, message, body) => {
        sent.push(message.t)
        clock.after(10, () => hosts.get(to)?.message(pop, message, body))
        return true
      },
    })
    hosts.set(pop, host)
  }
  const told: string[] = []
  const attach = (pop: string, sid: string): void => {
    attachTo(hosts.get(pop) as Host, "k", sid, "add", (kind) => told.push(`${sid} ${kind}`))
  }
  attach("bos", "s1")
  await clock.advance(100)
  hosts.get("bos")?.letGo()
  attach("fra", "s2")
  await clock.advance(10_000)
  assert.ok(told.includes("s2 detached"), told.join(", "))
  // The source says its grant again after growing pauses, and that is all.
  assert.ok(sent.filter((t) => t === "PULL").length <= 2, sent.join(", "))
  assert.ok(sent.filter((t) => t === "GRANT").length <= 8, sent.join(", "))
  full = false
  attach("fra", "s3")
  await clock.advance(1_000)
  assert.ok(told.includes("s3 reply"), told.join(", "))
  await Promise.all([...hosts.values()].map((host) => host.stop()))
})
