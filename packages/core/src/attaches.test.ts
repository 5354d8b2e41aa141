import assert from "node:assert/strict"
import { test } from "node:test"
import { SojournError, type ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { waitingFramesMax } from "./attach.ts"
import { Attaches, type AttachPorts } from "./attaches.ts"
import type { Host } from "./host.ts"
import { defaultLimits } from "./limits.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { isSpent } from "./slot.ts"
import { Slots } from "./slots.ts"
import { attachTo, bareHost } from "./testing/bare-host.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

/** An attach to an actor that nobody goes to fetch. */
function waiting(out: (frame: ServerFrame) => void = () => undefined) {
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
    out,
    ended: () => undefined,
  })
  const slot = slots.get("note/a")
  assert.ok(slot)
  return { attaches, slot, att }
}

// An activation ends an attach when the last of its replies leaves: the slot of an actor whose client did not come back was kept for ever.
void test("an attach that its activation has ended is not kept", () => {
  const { slot, att } = waiting()
  assert.ok(!isSpent(slot))
  att.end(new SojournError("CALL_ORDER"))
  assert.ok(isSpent(slot))
})

void test("frames that wait for an actor count as long as they wait", () => {
  const told: string[] = []
  const { attaches, att } = waiting((frame) => told.push(frame.t === "detached" ? frame.err.code : frame.t))
  const send = (count: number): void => {
    for (let q = 1; q <= count; q++) attaches.receive(att, { t: "query", ch: 1, q, after: 0, n: "look", p: { v: [] } })
  }
  send(waitingFramesMax)
  // It was let in, and the actor has gone to sleep since.
  att.queue = []
  send(waitingFramesMax)
  assert.deepEqual(told, [])
  send(1)
  assert.deepEqual(told, ["MAILBOX_FULL"])
})

// The clients behind it were let into an activation that was over: nothing came of their calls, and they were told nothing.
for (const [how, at, action, expected] of [
  ["is claimed, dropped at once", "bos", "fail", "dropped"],
  ["is installed, dropped at once", "fra", "fail", "dropped"],
  ["is claimed, retired", "bos", "spoil", "retired"],
  ["is installed, retired", "fra", "spoil", "retired"],
] as const)
  void test(`a call that ends the activation as it ${how}, takes nobody's with it who was still to be let in`, async () => {
    const note = actor({
      state: () => ({ n: 0, at: new Date(0) }),
      actions: {
        add: (c) => ++c.state.n,
        spoil(c) {
          c.state.at.setTime(1)
        },
        fail() {
          throw new Error("no reason")
        },
      },
    })
    const clock = new VirtualClock()
    const hosts = new Map<string, Host>()
    for (const pop of ["bos", "fra"]) {
      const more: Parameters<typeof bareHost>[3] = {
        clock,
        send: (to, message, body) => {
          clock.after(10, () => hosts.get(to)?.message(pop, message, body))
          return true
        },
        events({ type }) {
          // In the midst of the turn's end: nobody knows then what of it is in memory.
          if (type === "turn.threw") throw new Error("the log takes nothing")
        },
      }
      hosts.set(pop, bareHost(pop, setup({ actors: { note } }), memoryStore({ disk: memoryDisk(pop) }), more))
    }
    const told: string[] = []
    for (const [sid, called] of [
      ["first", "add"],
      ["second", action],
      ["third", "add"],
      ["fourth", "add"],
    ] as const)
      attachTo(hosts.get(at) as Host, "k", sid, called, (kind) => told.push(`${sid} ${kind}`))
    await clock.advance(1_000)
    const each = (kinds: readonly string[], ...sids: readonly string[]): string[] =>
      sids.flatMap((sid) => kinds.map((kind) => `${sid} ${kind}`))
    const [served, sent] = [
      ["attached", "reply"],
      ["detached", "ended"],
    ]
    assert.deepEqual(
      told,
      expected === "dropped"
        ? [...each(sent, "first", "second"), ...each(served, "third", "fourth")]
        : [...each(served, "first", "second"), ...each(sent, "first", "second", "third", "fourth")],
    )
    await Promise.all([...hosts.values()].map((host) => host.stop()))
  })

// Each left its session in the actor's table for as long as that stayed awake, and the table was full of sessions without a call.
void test("a session without calls goes with its attach, also where the activation ends that", async () => {
  const note = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })
  const clock = new VirtualClock()
  const limits = { ...defaultLimits, sessionsPerActorMax: 3 }
  const host = bareHost("bos", setup({ actors: { note } }), memoryStore({ disk: memoryDisk("bos") }), { clock, limits })
  const told: string[] = []
  attachTo(host, "k", "stays", "add", (kind) => told.push(kind))
  await clock.advance(10)
  for (let i = 0; i < 5; i++) {
    const sid = `leaves ${i}`
    const body = { ch: 1, actor: ["note", "k"] as const, sid, acked: 0, live: false }
    const attach = host.attach({
      actor: "note/k",
      who: { id: "ann" },
      mintedAt: 1_700_000_000_000,
      body,
      ticket: undefined,
      hint: undefined,
      stay: false,
      localOnly: false,
      out: (frame) => told.push(frame.t === "detached" ? frame.err.code : frame.t),
      ended: () => undefined,
    })
    await clock.advance(10)
    host.receive(attach, { t: "call", ch: 1, c: 2, a: "add", p: { v: [] } })
    await clock.advance(10)
  }
  assert.deepEqual(told, ["attached", "reply", ...Array.from({ length: 5 }, () => ["attached", "CALL_ORDER"]).flat()])
  await host.stop()
})
