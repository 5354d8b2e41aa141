import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { frameLimits, SojournError } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import type { AttachRequest } from "./attach.ts"
import { Caller } from "./caller.ts"
import type { AnyActors } from "./handles.ts"
import type { Host } from "./host.ts"
import { defaultLimits, type Limits } from "./limits.ts"
import { alone } from "./testing/alone.ts"
import { linked, type Linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const note = actor({
  state: () => ({ texts: 0, chars: 0 }),
  actions: {
    add(c, text: string) {
      c.state.chars += text.length
      return ++c.state.texts
    },
  },
  queries: { chars: (c) => c.state.chars },
})
const app = setup({ actors: { note } })

describe("calls from server code", () => {
  // Pins a defect: the first query after a day was refused with SESSION_UNKNOWN, and the one after it was answered.
  test("are answered however long the last one is past", async () => {
    const clock = new VirtualClock()
    const { node } = await alone(app, { clock })
    const handle = node.actors.note.get("k")
    /** And then the actor sleeps. */
    const settled = async <T>(work: Promise<T>): Promise<T> => {
      work.catch(() => undefined)
      await clock.advance(2 * defaultLimits.idleMs)
      return work
    }
    for (const days of [0, 0.4, 0.5, 1, 2]) {
      clock.jump(days * defaultLimits.sessionTtlMs)
      assert.equal(await settled(handle.query.chars()), 0, `${days} days later`)
    }
    assert.equal(await settled(handle.add("one")), 1)
    clock.jump(defaultLimits.sessionTtlMs)
    assert.equal(await settled(handle.add("two")), 2)
  })

  // Pins a defect: with a session's time little longer than clocks may differ by, each call was a session of its own, and the table was soon full.
  test("go on in a session that the actor has a record of, however soon its id is past opening another", async () => {
    const clock = new VirtualClock()
    const sessionTtlMs = defaultLimits.clockSkewMsMax + 1_000
    const { node } = await alone(app, { clock, limits: { sessionTtlMs, sessionsPerActorMax: 20 } })
    const handle = node.actors.note.get("k")
    for (let n = 1; n <= 100; n++) {
      const call = handle.add("one")
      call.catch(() => undefined)
      await clock.advance(2_000)
      assert.equal(await call, n)
      const query = handle.query.chars()
      query.catch(() => undefined)
      await clock.advance(2_000)
      assert.equal(await query, 3 * n)
    }
  })

  // All that its author learned was that there was no reply: that the actor's state is of a later schema was nowhere.
  test("that have no reply in time say what was in the way", async () => {
    const clock = new VirtualClock()
    const versioned = (version: number) =>
      setup({ actors: { note: actor({ state: () => ({ n: 0 }), version, queries: { n: (c) => c.state.n } }) } })
    const { node, again } = await alone(versioned(2), { clock })
    assert.equal(await node.actors.note.get("k").query.n(), 0)
    await node.stop({ drainMs: 0 })
    const older = await again(versioned(1))
    const asked = assert.rejects(older.actors.note.get("k").query.n(), (error: SojournError) => {
      assert.deepEqual([error.code, error.outcome], ["CALL_TIMEOUT", "not-executed"])
      assert.equal((error.cause as SojournError | undefined)?.code, "SCHEMA_NEWER")
      return true
    })
    await clock.advance(60_000)
    await asked
  })

  const limits: Partial<Limits> = {
    meshMessageBytesMax: 1_000_000,
    snapshotBytesMax: 400_000,
    outputCharsMax: 100_000,
    frameCharsMax: 100_000,
  }
  const pair = async (
    more: Partial<Limits> = {},
  ): Promise<{ at: (pop: string) => Linked<typeof app.actors>; clock: VirtualClock }> => {
    const clock = new VirtualClock()
    const at = linked(app, ["bos", "fra"], { clock, limits: { ...limits, ...more } })
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
    await clock.advance(1_000)
    return { at, clock }
  }

  // Pins a defect: it was sent again until CALL_TIMEOUT, whole, and refused each time for its length.
  test("that are longer than a message are refused at once", async () => {
    const { at, clock } = await pair()
    const handle = at("bos").node.actors.note.get("k~fra")
    await assert.rejects(handle.add("é".repeat(500_000)), { code: "FRAME_TOO_LARGE", outcome: "not-executed" })
    const fits = handle.add("é".repeat(460_000))
    await clock.advance(100)
    assert.equal(await fits, 1)
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })

  // Pins a defect: the peer closed the link over it, each time it was sent, until CALL_TIMEOUT.
  test("of an action or query whose name is too long for a frame are refused at once, and cost no link", async () => {
    const { at, clock } = await pair()
    const { note: notes } = at("bos").node.actors as AnyActors
    const handle = notes?.get("k~fra")
    const name = "x".repeat(frameLimits.nameCharsMax)
    for (const named of [name, `${name}x`])
      for (const call of [() => handle?.[named]?.(), () => handle?.query[named]?.()]) {
        const refused = assert.rejects(call() ?? Promise.resolve(), { code: "UNKNOWN_ACTION", outcome: "not-executed" })
        await clock.advance(100)
        await refused
      }
    assert.ok(!at("bos").events.some(({ type }) => type === "mesh.down"))
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })

  // Pins a defect: those that were under way were sent together in one message, which was too long, until CALL_TIMEOUT.
  test("that a broken link left unanswered are sent again, however much they are together, each once and in order", async () => {
    const { at, clock } = await pair()
    const handle = at("bos").node.actors.note.get("k~fra")
    const first = handle.add("")
    await clock.advance(100)
    assert.equal(await first, 1)
    const calls = Promise.all(Array.from({ length: 20 }, (_, i) => handle.add("x".repeat(90_000 + i))))
    const chars = handle.query.chars()
    at("bos").cut()
    await clock.advance(5_000)
    assert.deepEqual(
      await calls,
      Array.from({ length: 20 }, (_, i) => i + 2),
    )
    assert.equal(await chars, 20 * 90_000 + 190)
    assert.ok(at("bos").events.filter(({ type }) => type === "mesh.up").length > 1)
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })

  // Pins a defect: they were handed to the link all at once, which was closed for it, with all sessions on it, each time they were sent again.
  test("that are more together than may wait for a peer go as replies come, and cost no link", async () => {
    const { at, clock } = await pair({ meshQueueBytesMax: 1_000_000 })
    const handle = at("bos").node.actors.note.get("k~fra")
    const calls = Promise.all(Array.from({ length: 20 }, () => handle.add("x".repeat(90_000))))
    const chars = handle.query.chars()
    for (const work of [calls, chars]) work.catch(() => undefined)
    await clock.advance(5_000)
    assert.ok(!at("bos").events.some(({ type }) => type === "mesh.queue-full"))
    assert.deepEqual(
      await calls,
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
    assert.equal(await chars, 20 * 90_000)
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })

  // Pins a defect: whatever else was under way to its actor failed with it, calls with an unknown outcome.
  test("are answered whatever becomes of a query that is not", async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const slow = actor({
      state: () => ({ n: 0 }),
      actions: {
        async add(c) {
          await promise
          return ++c.state.n
        },
      },
      queries: { hangs: () => new Promise<number>(() => undefined), n: (c) => c.state.n },
    })
    const clock = new VirtualClock()
    const { node } = await alone(setup({ actors: { slow } }), { clock })
    const handle = node.actors.slow.get("k")
    const hangs = assert.rejects(handle.query.hangs(), { code: "CALL_TIMEOUT", outcome: "not-executed" })
    await clock.advance(20_000)
    const calls = Promise.all([handle.add(), handle.add(), handle.query.n()])
    calls.catch(() => undefined)
    await clock.advance(10_000)
    await hangs
    resolve(undefined)
    await clock.advance(1_000)
    assert.deepEqual(await calls, [1, 2, 2])
    await node.stop()
  })

  // Pins a defect: the error's own outcome was told, that of the last attach: not executed.
  test("that may have run in an attach before say so when a later one is refused", async () => {
    const clock = new VirtualClock()
    const attached: AttachRequest[] = []
    const host = {
      attach: (request: AttachRequest) => (attached.push(request), {}),
      receive: () => undefined,
      leave: () => undefined,
    } as unknown as Host
    const caller = new Caller("note/k", ["note", "k"], {
      host,
      clock,
      sessionIds: { mint: () => "sid", verify: () => ({ mintedAt: 0 }) },
      who: { id: "server:bos" },
      limits: defaultLimits,
      callMsMax: 60_000,
    })
    const outcomes = async (made: readonly Promise<unknown>[]): Promise<unknown[]> =>
      (await Promise.allSettled(made)).map((one) => one.status === "rejected" && (one.reason as SojournError).outcome)
    const end = (error: SojournError): void => {
      attached.at(-1)?.out({ t: "detached", ch: 0, err: error.toWire() })
      attached.at(-1)?.ended()
    }
    const accept = (): void => {
      attached.at(-1)?.out({ t: "reply", ch: 0, c: 0, r: 0 })
    }
    const corrupt = new SojournError("CORRUPT_RECORD")
    assert.equal(corrupt.outcome, "not-executed")

    let made = [caller.call("add", []), caller.query("chars", [])]
    end(corrupt)
    assert.deepEqual(await outcomes(made), ["not-executed", "not-executed"], "the first attach was refused")

    made = [caller.call("add", []), caller.call("add", []), caller.query("chars", [])]
    end(new SojournError("POP_UNREACHABLE"))
    made.push(caller.call("add", []))
    await clock.advance(1_000)
    end(corrupt)
    assert.deepEqual(await outcomes(made), ["unknown", "unknown", "not-executed", "not-executed"], "the second was")

    made = [caller.call("add", [])]
    accept()
    end(corrupt)
    assert.deepEqual(await outcomes(made), ["unknown"], "it was let in, and ended")
    caller.close()
  })
})
