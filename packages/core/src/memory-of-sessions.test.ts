import assert from "node:assert/strict"
import { test } from "node:test"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { alone } from "./testing/alone.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as () => void
setFlagsFromString("--no-expose_gc")

function heapBytes(): number {
  for (let i = 0; i < 5; i++) collect()
  return process.memoryUsage().heapUsed
}

const batch = 64
const counter = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })

// Pins a defect: an activation remembered when each session had called last for as long as it was awake, also of those whose life had ended.
void test("an actor that never sleeps forgets the sessions whose life has ended", async (t) => {
  const clock = new VirtualClock()
  const limits = { sessionTtlMs: 1_000, clockSkewMsMax: 1, sessionsPerActorMax: 2 * batch, idleMs: 3_600_000 }
  const { node } = await alone(setup({ actors: { counter } }), { clock, limits })
  let ids: readonly string[] = []
  let replies = 0
  let closed = ""
  const reader = node.acceptClient(
    {
      send: (text) => {
        const frame = JSON.parse(text) as ServerFrame
        if (frame.t === "sessions") ids = frame.sessions
        else if (frame.t === "reply") replies++
        else if (frame.t === "detached") assert.fail(text)
      },
      buffered: () => 0,
      close: (_code, reason) => (closed = reason),
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = (frame: object): void => {
    reader.message(JSON.stringify(frame))
  }
  say({ t: "hello", client: "test", token: "ann" })
  await clock.advance(1)
  const visit = async (batches: number): Promise<void> => {
    for (let i = 0; i < batches; i++) {
      say({ t: "sessions", n: batch })
      const calls = [{ c: 1, a: "add", p: { v: [] } }]
      ids.forEach((sid, ch) => {
        say({ t: "attach", ch, actor: ["counter", "k"], sid, acked: 0, live: false, calls })
      })
      await clock.advance(1)
      ids.forEach((_, ch) => {
        say({ t: "detach", ch })
      })
      // Their life ends.
      await clock.advance(2_000)
    }
  }
  await visit(32)
  const before = heapBytes()
  await visit(160)
  const grown = heapBytes() - before
  assert.deepEqual([replies, closed], [192 * batch, ""])
  assert.equal(node.stats().residents, 1)
  t.diagnostic(`heap: ${grown} bytes more for ${160 * batch} sessions`)
  assert.ok(grown < 50 * 160 * batch, `${grown} bytes are kept`)
  await node.stop({ drainMs: 0 })
})
