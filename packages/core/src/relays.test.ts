import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"

const app = setup({ actors: { note: actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } }) } })

function opens(relay: number, key: string): MeshMessage {
  const attach = { ch: 1, actor: ["note", key] as const, sid: `s${key}.loyw3v28.mac`, acked: 0, live: true }
  return { t: "RELAY_OPEN", relay, actor: `note/${key}`, principal: { id: "ann" }, attach }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await setImmediate()
}

// Pins a defect: the first session stayed attached for ever, and was told on under the number of the second.
test("a relay's number that comes for another session ends the one before", async () => {
  const told: string[] = []
  const host = bareHost("bos", app, memoryStore({ disk: memoryDisk("bos") }), {
    send: (_to, m) => told.push(m.t === "FRAME" ? `${m.frame.t} ${m.relay}` : m.t) > 0,
  })
  host.message("fra", opens(1, "a"), undefined)
  host.message("fra", opens(2, "b"), undefined)
  await settle()
  assert.deepEqual(told.splice(0), ["attached 1", "attached 2"])
  host.message("fra", opens(1, "c"), undefined)
  await settle()
  assert.deepEqual(told.splice(0), ["attached 1"])
  for (const key of ["a", "b", "c"]) attachTo(host, key, "here", "add", () => undefined)
  await settle()
  assert.deepEqual(told.splice(0).sort(), ["out 1", "out 2"])
  host.link("fra", false)
  for (const key of ["a", "b", "c"]) attachTo(host, key, "again", "add", () => undefined)
  await settle()
  assert.deepEqual(told, [])
  await host.stop()
})
