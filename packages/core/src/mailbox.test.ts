import assert from "node:assert/strict"
import { test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { charsPerPlace, waitingFramesMax, weigh, type Attached } from "./attach.ts"
import { defaultLimits } from "./limits.ts"
import { Mailbox } from "./mailbox.ts"
import type { Session } from "./sessions.ts"
import { alone } from "./testing/alone.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// By their number alone a thousand calls of a MiB each would wait in memory, of one actor.
for (const [what, key, max] of [
  ["a turn", "near", defaultLimits.mailboxMax],
  ["its actor", "far", waitingFramesMax],
] as const)
  void test(`of long frames that wait for ${what} fewer are taken than of short ones`, async () => {
    const note = actor({
      state: () => ({ n: 0 }),
      actions: {
        wait: () => new Promise<void>(() => undefined),
        put(c, _text: string) {
          c.state.n += 1
        },
      },
    })
    const clock = new VirtualClock()
    const { node } = await alone(setup({ actors: { note } }), {
      clock,
      limits: { repliesPerSessionMax: 10_000 },
      store: (store) => ({
        ...store,
        watermark: () => store.watermark(),
        claim: (...args) => store.claim(...args),
        commit: (...args) => store.commit(...args),
        peers: () => store.peers(),
        forgotten: () => store.forgotten(),
        due: (options) => store.due(options),
        list: (options) => store.list(options),
        close: () => store.close(),
        load: (id) => (id === "note/far" ? new Promise(() => undefined) : store.load(id)),
      }),
    })
    const taken = async (sid: number, chars: number): Promise<number> => {
      const came: ServerFrame[] = []
      const pipe = {
        send: (data: string) => void came.push(JSON.parse(data) as ServerFrame),
        buffered: () => 0,
        close: () => undefined,
      }
      const reader = node.acceptClient(pipe, { url: "/v1/connect", headers: {}, ip: "127.0.0.1" })
      const send = (frame: object): void => reader.message(JSON.stringify(frame))
      send({ t: "hello", client: "c", token: "ada" })
      await clock.advance(1)
      const [welcome] = came
      assert.ok(welcome?.t === "welcome")
      const id = `${key}${key === "near" ? sid : ""}`
      send({ t: "attach", ch: 1, actor: ["note", id], sid: welcome.sessions[0], acked: 0, live: false })
      await clock.advance(1)
      let c = 1
      if (key === "near") send({ t: "call", ch: 1, c: c++, a: "wait", p: { v: [] } })
      const first = c
      const text = "x".repeat(chars)
      while (!came.some(({ t }) => t === "detached")) send({ t: "call", ch: 1, c: c++, a: "put", p: { v: [text] } })
      const end = came.find(({ t }) => t === "detached")
      assert.ok(end?.t === "detached")
      assert.equal(end.err.code, "MAILBOX_FULL")
      reader.closed(1000, "")
      // The last one was refused.
      return c - first - 1
    }
    assert.equal(await taken(1, 10), max)
    const chars = 10 * charsPerPlace
    assert.equal(await taken(2, chars), Math.ceil(max / 11))
  })

void test("the size of a mailbox is what waits in it, also what was set aside and came back", () => {
  const mailbox = new Mailbox()
  const add = (c: number, chars: number): void => {
    const call = { c, a: "put", p: { v: [] } }
    weigh(call, chars)
    mailbox.add({ kind: "call", att: {} as Attached, session: { id: "s" } as Session, call })
  }
  mailbox.addAlarm()
  mailbox.addAlarm()
  add(1, charsPerPlace)
  add(2, charsPerPlace + 1)
  assert.equal(mailbox.size, 4)
  assert.equal(mailbox.take()?.kind, "alarm")
  assert.equal(mailbox.size, 3)
  mailbox.close()
  mailbox.setAside()
  assert.equal(mailbox.size, 0)
  add(3, 1)
  mailbox.reopen()
  assert.equal(mailbox.size, 4)
  const calls = [mailbox.take(), mailbox.take(), mailbox.take(), mailbox.take()]
  assert.deepEqual(
    calls.map((item) => item?.kind === "call" && item.call.c),
    [1, 2, 3, false],
  )
  assert.equal(mailbox.size, 0)
  add(4, 1)
  mailbox.clear()
  assert.equal(mailbox.size, 0)
})
