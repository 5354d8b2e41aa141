// What a server may say that is not of the protocol. Found by the fuzzer (`npm run fuzz -- --target server-frame`).
import assert from "node:assert/strict"
import { setImmediate } from "node:timers/promises"
import { test } from "node:test"
import { Alarm } from "./alarm.ts"
import { createClient } from "./client.ts"
import { ManualClock } from "./testing/manual-clock.ts"
import type { SocketReader } from "./types.ts"

const welcome = { t: "welcome", pop: "bos", node: "n", sessions: ["s1"], heartbeatMs: 20_000, principal: "ann" }

const settled = async (): Promise<void> => {
  await setImmediate()
}

function meet() {
  const clock = new ManualClock()
  const readers: SocketReader[] = []
  const errors: string[] = []
  const client = createClient({
    url: "ws://pop",
    clock,
    chance: { random: () => 0.5, id: () => "id" },
    socket: (_url, _protocols, reader) => {
      readers.push(reader)
      return {
        send: () => undefined,
        buffered: () => 0,
        close: (code, reason) => queueMicrotask(() => reader.closed(code, reason)),
      }
    },
  })
  client.on("error", ({ code }) => errors.push(code))
  return { client, clock, readers, errors }
}

test("what is no number arms no timer, and does not keep another from being armed", async () => {
  const clock = new ManualClock()
  let sweeps = 0
  const alarm = new Alarm(clock, () => sweeps++)
  alarm.at(NaN)
  assert.equal(clock.timers, 0)
  alarm.at(clock.mono() + 5)
  alarm.at(NaN)
  await clock.advance(5, settled)
  assert.equal(sweeps, 1)
})

test("a goaway after what is no number is one at once: the client goes, and comes back", async () => {
  const { client, clock, readers } = meet()
  client.connect()
  await setImmediate()
  readers[0]?.open()
  readers[0]?.message(JSON.stringify(welcome))
  readers[0]?.message(`{"t":"goaway","retryAfterMs":"soon"}`)
  await clock.advance(1, settled)
  assert.equal(readers.length, 2, "another socket is opened")
  await client.close()
})

test("session ids that are no list are no error of the next attach", async () => {
  const { client, clock, readers } = meet()
  void client.connect()
  await setImmediate()
  readers[0]?.open()
  readers[0]?.message(JSON.stringify({ ...welcome, sessions: "text" }))
  const handle = client.actor("list", "a") as unknown as { add(n: number): Promise<unknown> }
  const call = handle.add(1)
  call.catch(() => undefined)
  readers[0]?.closed(1006, "")
  for (let i = 0; i < 20 && readers.length < 2; i++) {
    await clock.advance(1_000, settled)
  }
  readers[1]?.open()
  readers[1]?.message(JSON.stringify(welcome))
  assert.equal(client.status, "connected")
  await client.close()
  await assert.rejects(call, { code: "CLIENT_CLOSED" })
})
