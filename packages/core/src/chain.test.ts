import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError, type AttachBody } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import type { AttachRequest } from "./attach.ts"
import { Caller } from "./caller.ts"
import { assertMayCall, chainMax } from "./chain.ts"
import { encodeText } from "./encoded-text.ts"
import type { AnyActors } from "./handles.ts"
import type { Host } from "./host.ts"
import { defaultLimits } from "./limits.ts"
import { alone } from "./testing/alone.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const chainError = { name: "SojournError", code: "CALL_CHAIN", outcome: "not-executed", retry: "never" }

interface Other {
  add(id: string, back?: string): Promise<void>
  readonly query: { ids(): Promise<string[]> }
}

function noteOf(actors: AnyActors, key: string): Other {
  const { note } = actors
  assert.ok(note)
  return note.get<Other>(key)
}

interface Probe {
  /** What an action left running, and when that goes on. */
  background?: Promise<unknown>
  readonly goesOn: PromiseWithResolvers<void>
}

function makeApp(probe: Probe) {
  const inBackground = (c: { actors: AnyActors; key: string }, id: string): void => {
    probe.background = probe.goesOn.promise.then(() => noteOf(c.actors, c.key).add(id))
  }
  const note = actor({
    state: () => ({ ids: [] as string[] }),
    alarms: {
      async ring(c, to: string) {
        c.state.ids.push("rung")
        await noteOf(c.actors, to).add("from an alarm", c.key)
      },
    },
    actions: {
      async add(c, id: string, back?: string): Promise<void> {
        c.state.ids.push(id)
        if (back !== undefined) await noteOf(c.actors, back).add(id)
      },
      remind(c, to: string) {
        c.alarms.set("ring", { afterMs: 1_000 }, to)
      },
      later(c, id: string) {
        inBackground(c, id)
      },
      laterAndThrow(c, id: string) {
        inBackground(c, id)
        throw new Error("at once")
      },
      async callLate(c, id: string, to: string) {
        probe.background = probe.goesOn.promise.then(() => noteOf(c.actors, to).add(id))
        await probe.background
      },
    },
    queries: { ids: (c) => c.state.ids },
  })
  return setup({ actors: { note } })
}

async function world(options: Parameters<typeof alone>[1] = {}) {
  const probe: Probe = { goesOn: Promise.withResolvers<void>() }
  return { probe, ...(await alone(makeApp(probe), options)) }
}

describe("a call chain (C52)", () => {
  test("may not come back to any actor in it, nor be longer than its bound", () => {
    const waiting = Array.from({ length: chainMax }, (_, i) => `cart/${i}`)
    assertMayCall("cart/x", waiting)
    for (const id of waiting) assert.throws(() => assertMayCall(id, waiting), chainError)
    assert.throws(() => assertMayCall("cart/x", [...waiting, "cart/y"]), {
      ...chainError,
      message: /cart\/y → cart\/x is too long/,
    })
    assert.throws(() => assertMayCall("cart/0", ["cart/0", "cart/1"]), {
      message: /^the call chain cart\/0 → cart\/1 → cart\/0 comes back to cart\/0/,
    })
  })

  test("belongs to one call, and goes with it when it is sent again", async () => {
    const clock = new VirtualClock()
    const attached: AttachRequest[] = []
    const received: object[] = []
    const host = {
      attach: (request: AttachRequest) => (attached.push(request), {}),
      receive: (_: unknown, frame: object) => received.push(frame),
      leave: () => undefined,
    } as unknown as Host
    let minted = 0
    const caller = new Caller("cart/b", ["cart", "b"], {
      host,
      clock,
      sessionIds: { mint: () => `s${++minted}`, verify: () => ({ mintedAt: 0 }) },
      who: { id: "server:bos" },
      limits: defaultLimits,
      callMsMax: 60_000,
    })
    const chain = ["cart/a", "cart/c"]
    const calls = [caller.call("add", [1], chain), caller.call("add", [2]), caller.call("add", [3], ["cart/d"])]
    const first = { c: 1, a: "add", p: encodeText([1]), chain }
    const second = { c: 2, a: "add", p: encodeText([2]) }
    const third = { c: 3, a: "add", p: encodeText([3]), chain: ["cart/d"] }
    const body = (): AttachBody | undefined => attached.at(-1)?.body
    // The first one opened the attach; the others found it open.
    assert.deepEqual(body()?.calls, [first])
    assert.deepEqual(received, [
      { t: "call", ch: 0, ...second },
      { t: "call", ch: 0, ...third },
    ])
    attached[0]?.out({ t: "detached", ch: 0, err: new SojournError("SLEPT").toWire() })
    attached[0]?.ended()
    await clock.advance(1)
    assert.equal(attached.length, 2)
    assert.deepEqual(body()?.calls, [first, second, third])
    assert.equal(minted, 1)
    for (const c of [1, 2, 3]) attached[1]?.out({ t: "reply", ch: 0, c, r: c, ok: { v: c } })
    assert.deepEqual(await Promise.all(calls), [1, 2, 3])
    caller.close()
  })

  for (const [how, action] of [
    ["ended", "later"],
    ["thrown", "laterAndThrow"],
  ] as const)
    test(`is none once the turn has ${how}: what it left running may call its own actor`, async () => {
      const { node, probe } = await world()
      const alice = node.actors.note.get("alice")
      await alice[action]("afterwards").catch(() => undefined)
      probe.goesOn.resolve()
      await probe.background
      assert.deepEqual(await alice.query.ids(), ["afterwards"])
    })

  test("is refused in an alarm's handler as in an action, and the alarm is run again later", async () => {
    const clock = new VirtualClock()
    const { node, events } = await world({ clock })
    const [alice, bob] = [node.actors.note.get("alice"), node.actors.note.get("bob")]
    await alice.remind("bob")
    await clock.advance(1_000)
    const failures = (): unknown[] =>
      events.filter(({ type }) => type === "alarm.failed").map(({ error }) => (error as SojournError).code)
    assert.deepEqual(failures(), ["CALL_CHAIN"])
    assert.deepEqual([await alice.query.ids(), await bob.query.ids()], [[], []])
    await clock.advance(1_250)
    assert.deepEqual(failures(), ["CALL_CHAIN", "CALL_CHAIN"])
  })
})

test("a turn that was given up calls nobody any more", async () => {
  const clock = new VirtualClock()
  const { node, probe, events } = await world({ clock, limits: { turnMsMax: 500 } })
  const call = node.actors.note.get("alice").callLate("late", "bob")
  call.catch(() => undefined)
  await clock.advance(500)
  assert.ok(events.some(({ type }) => type === "activation.dropped"))
  probe.goesOn.resolve()
  await assert.rejects(probe.background ?? Promise.resolve(), { code: "UNKNOWN_OUTCOME" })
  assert.deepEqual(await node.actors.note.get("bob").query.ids(), [])
})
