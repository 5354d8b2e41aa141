import assert from "node:assert/strict"
import { test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { Attaches, type AttachPorts } from "./attaches.ts"
import type { Host } from "./host.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { isSpent } from "./slot.ts"
import { Slots } from "./slots.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

// An activation ends an attach when the last of its replies leaves: the slot of an actor whose client did not come back was kept for ever.
void test("an attach that its activation has ended is not kept", () => {
  const note = actor({ state: () => ({}) })
  const homeNow = (home: string) => ({ pop: home, role: true as const })
  const slots = new Slots({ app: setup({ actors: { note } }), pop: "bos", homes: ["bos"], regions: new Map(), homeNow })
  const attaches = new Attaches({ slots, limits: {}, input: () => undefined } as unknown as AttachPorts)
  const att = attaches.attach({
    actor: "note/a",
    who: { id: "ann" },
    mintedAt: 0,
    body: { ch: 1, actor: ["note", "a"], sid: "s", acked: 0, live: false },
    ticket: undefined,
    hint: undefined,
    stay: false,
    localOnly: false,
    out: () => undefined,
    ended: () => undefined,
  })
  const slot = slots.get("note/a")
  assert.ok(slot && !isSpent(slot))
  att.end(new SojournError("CALL_ORDER"))
  assert.ok(isSpent(slot))
})

// The clients behind it were let into an activation that was over: nothing came of their calls, and they were told nothing.
for (const [how, at] of [
  ["claimed", "bos"],
  ["installed", "fra"],
] as const)
  void test(`a call that ends the activation as it is ${how} takes nobody's with it who was still to be let in`, async () => {
    const note = actor({
      state: () => ({ n: 0, at: new Date(0) }),
      actions: {
        add: (c) => ++c.state.n,
        spoil(c) {
          c.state.at.setTime(1)
        },
      },
    })
    const clock = new VirtualClock()
    const hosts = new Map<string, Host>()
    for (const pop of ["bos", "fra"]) {
      const send: Parameters<typeof bareHost>[3] = {
        clock,
        send: (to, message, body) => {
          clock.after(10, () => hosts.get(to)?.message(pop, message, body))
          return true
        },
      }
      hosts.set(pop, bareHost(pop, setup({ actors: { note } }), memoryStore({ disk: memoryDisk(pop) }), send))
    }
    const told: string[] = []
    for (const [sid, action] of [
      ["first", "add"],
      ["second", "spoil"],
      ["third", "add"],
      ["fourth", "add"],
    ] as const)
      attachTo(hosts.get(at) as Host, "k", sid, action, (kind) => told.push(`${sid} ${kind}`))
    await clock.advance(1_000)
    assert.deepEqual(told, [
      ...["second detached", "second ended", "first detached", "first ended"],
      ...["third attached", "third reply", "fourth attached", "fourth reply"],
    ])
    await Promise.all([...hosts.values()].map((host) => host.stop()))
  })
