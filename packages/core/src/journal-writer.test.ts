import assert from "node:assert/strict"
import { test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// The hash of what is stored, fences and the names of POPs: it concerns whoever runs the POP.
void test("what a store's record says when a write is fenced goes to the log alone", async () => {
  const note = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })
  const clock = new VirtualClock()
  const disk = memoryDisk("bos")
  const logged: unknown[] = []
  const said: ServerFrame[] = []
  const hosts = [1, 2].map(() =>
    bareHost("bos", setup({ actors: { note } }), memoryStore({ disk }), {
      clock,
      events: ({ type, error }) => {
        if (type === "activation.dropped") logged.push((error as Error).cause)
      },
    }),
  )
  const attaches = hosts.map((host, i) =>
    host.attach({
      actor: "note/k",
      who: { id: "ann" },
      mintedAt: clock.now(),
      body: { ch: 1, actor: ["note", "k"], sid: `s${i}`, acked: 0, live: false },
      ticket: undefined,
      hint: undefined,
      stay: false,
      localOnly: false,
      out: (frame) => said.push(frame),
      ended: () => undefined,
    }),
  )
  for (const [i, c] of [
    [0, 1],
    [1, 1],
    [0, 2],
  ] as const) {
    const [host, attach] = [hosts[i], attaches[i]]
    assert.ok(host && attach)
    host.receive(attach, { t: "call", ch: 1, c, a: "add", p: { v: [] } })
    await clock.advance(10)
  }
  const told = said.find((frame) => frame.t === "detached")
  assert.ok(told?.t === "detached" && told.err.code === "FENCED")
  assert.doesNotMatch(told.err.message, /"h":/)
  assert.match(String(logged[0]), /"h":/)
  await Promise.all(hosts.map((host) => host.stop()))
})
