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
  const sent: string[] = []
  const client = createClient({
    url: "ws://pop",
    clock,
    chance: { random: () => 0.5, id: () => "id" },
    socket: (_url, _protocols, reader) => {
      readers.push(reader)
      return {
        send: (text) => sent.push(text),
        buffered: () => 0,
        close: (code, reason) => queueMicrotask(() => reader.closed(code, reason)),
      }
    },
  })
  client.on("error", ({ code }) => errors.push(code))
  return { client, clock, readers, errors, sent }
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

/** Deeper than the stack of whoever would write it down again. */
const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`

test("session ids and numbers that are none are never said again to anybody", async () => {
  for (const [sessions, attached] of [
    [`["s1",${deep}]`, `"r":1`],
    [`[${deep},"s1"]`, `"r":${deep}`],
    [`["s1"]`, `"last":${deep}`],
  ] as const) {
    const { client, clock, readers, errors } = meet()
    client.connect()
    await setImmediate()
    readers[0]?.open()
    readers[0]?.message(JSON.stringify({ ...welcome, sessions: [] }).replace("[]", sessions))
    const handles = ["a", "b"].map(
      (key) => client.actor("list", key) as unknown as { add(n: number): Promise<unknown> },
    )
    const calls = handles.map((handle) => handle.add(1).catch(() => undefined))
    await clock.advance(1, settled)
    readers[0]?.message(
      `{"t":"attached","ch":1,"sid":"s1","pop":"bos","e":1,"r":0,"resumed":"new","last":0,"ticket":"",${attached}}`,
    )
    readers[0]?.message(`{"t":"reply","ch":1,"c":1,"r":${deep},"ok":{"v":1}}`)
    await clock.advance(5_000, settled)
    assert.ok(errors.includes("BAD_FRAME"), errors.join())
    await client.close()
    await Promise.all(calls)
  }
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

for (const retryAfterMs of [-5, 0, "soon"])
  test(`an actor that is said to be there again after ${retryAfterMs} ms is asked for again, and not in a tight loop`, async () => {
    const { client, clock, readers, sent } = meet()
    const call = client.actor("list", "a").call["add"]?.(1)
    call?.catch(() => undefined)
    await settled()
    readers[0]?.open()
    readers[0]?.message(JSON.stringify(welcome))
    let attaches = 0
    const answer = async (): Promise<void> => {
      await settled()
      for (const text of sent.splice(0)) {
        const { t, ch } = JSON.parse(text) as { t: string; ch?: number }
        if (t !== "attach") continue
        attaches++
        const err = { code: "MAILBOX_FULL", message: "", retry: "later", outcome: "not-executed", retryAfterMs }
        readers[0]?.message(JSON.stringify({ t: "detached", ch, err }))
      }
    }
    for (let i = 0; i < 20; i++) await answer()
    assert.equal(attaches, 1)
    await clock.advance(1_000, answer)
    assert.ok(attaches > 1 && attaches < 10, `${attaches} attaches`)
    await client.close()
  })

test("a frame that is not known is ignored, whatever its fields are", async () => {
  const { client, readers, errors } = meet()
  client.connect()
  await setImmediate()
  readers[0]?.open()
  readers[0]?.message(JSON.stringify(welcome))
  for (const frame of [
    { t: "news", r: "new" },
    { t: "news", ch: 7, c: ["c"] },
    { t: "sessions", sessions: [], q: "a" },
  ])
    readers[0]?.message(JSON.stringify(frame))
  assert.deepEqual(errors, [])
  assert.equal(client.status, "connected")
  await client.close()
})
