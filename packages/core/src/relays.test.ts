import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

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

// Pins a defect: the sessions of all links were counted as those of each.
test("relaysPerLinkMax bounds the sessions of one link, and those that have gone make room", async () => {
  const clock = new VirtualClock()
  const pops = ["bos", "fra", "nrt"]
  const at = linked(app, pops, { clock, limits: { relaysPerLinkMax: 2 } })
  await Promise.all(pops.map((pop) => at(pop).node.start()))
  await clock.advance(2_000)
  const told: ServerFrame[] = []
  const reader = at("bos").node.acceptClient(
    { send: (data) => void told.push(JSON.parse(data) as ServerFrame), buffered: () => 0, close: () => undefined },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = async (frame: object): Promise<string[]> => {
    reader.message(JSON.stringify(frame))
    await clock.advance(100)
    return told.splice(0).map((one) => (one.t === "detached" ? one.err.code : one.t))
  }
  reader.message(JSON.stringify({ t: "hello", client: "one", token: "ann" }))
  await clock.advance(10)
  const [welcome] = told.splice(0)
  assert.ok(welcome?.t === "welcome")
  const [sid] = welcome.sessions
  const attach = (ch: number, key: string): Promise<string[]> =>
    say({ t: "attach", ch, actor: ["note", key], sid, acked: 0, live: false, stay: true })
  assert.deepEqual(await attach(1, "a~fra"), ["attached"])
  assert.deepEqual(await attach(2, "b~fra"), ["attached"])
  assert.deepEqual(await attach(3, "c~nrt"), ["attached"])
  assert.deepEqual(await attach(4, "d~fra"), ["RATE_LIMITED"])
  assert.deepEqual(await say({ t: "detach", ch: 1 }), [])
  assert.deepEqual(await attach(4, "d~fra"), ["attached"])
  assert.deepEqual(await attach(5, "e~fra"), ["RATE_LIMITED"])
  at("bos").cut()
  await clock.advance(2_000)
  told.length = 0
  for (const [ch, key] of ["f~fra", "g~fra", "h~nrt"].entries()) assert.deepEqual(await attach(ch, key), ["attached"])
  const stopped = Promise.all(pops.map((pop) => at(pop).node.stop({ drainMs: 0 })))
  await clock.advance(10_000)
  await stopped
})
