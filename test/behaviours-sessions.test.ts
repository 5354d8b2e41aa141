// Sessions: calls applied once and in order, whatever the connection does, and what becomes of a session in the end.
import assert from "node:assert/strict"
import { mock, test, describe } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { asleep } from "./behaviours/settled.ts"
import { behaviour, callBody, createWorld, within, type Session, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

const outcomeOf = (error: unknown): [string, string] => {
  assert.ok(error instanceof SojournError, String(error))
  return [error.code, error.outcome]
}

/** The same session on a socket of its own, as after a reconnect. */
async function again(world: World, who: string, session: Session, key: string, calls: unknown[][], more = {}) {
  const next = await world.session(who)
  next.raw.send({
    t: "attach",
    ch: 1,
    actor: ledgerOf(key),
    sid: session.sid,
    acked: 0,
    live: false,
    calls: calls.map(([c, a, ...args]) => callBody(c as number, a as string, ...args)),
    ...more,
  })
  return next
}

behaviour("C48 one session's calls keep their order across reconnects", {}, async (world) => {
  const key = world.key()
  const alice = world.client("alice")
  const ledger = alice.ledger.get(key)
  const ids = Array.from({ length: 120 }, (_, i) => `t${i}`)
  const order: string[] = []
  const calls: Promise<unknown>[] = []
  for (const [i, id] of ids.entries()) {
    calls.push(ledger.add(id).then(() => order.push(id)))
    // The line breaks while some are queued, some under way and some answered.
    if (i % 30 === 20) {
      await calls[i - 10]
      world.here.proxy.cut()
    }
  }
  await within(20_000, "every call", Promise.all(calls))
  assert.deepEqual(await ledger.query.ids(), ids)
  assert.deepEqual(order, ids, "and the replies come in that order")
  assert.ok(alice.stats.connects >= 4)
})

behaviour("C48 one session's calls keep their order across moves", { pops: [3] }, async (world) => {
  const key = world.key()
  const alice = world.client("alice")
  const ledger = alice.ledger.get(key)
  const ids = Array.from({ length: 120 }, (_, i) => `t${i}`)
  const calls: Promise<unknown>[] = []
  for (const [i, id] of ids.entries()) {
    calls.push(ledger.add(id))
    if (i % 20 === 10) {
      await calls[i - 5]
      alice.switchTo(world.seats[((i / 10) % 3) | 0]?.url as string)
    }
  }
  await within(20_000, "every call", Promise.all(calls))
  assert.deepEqual(await ledger.query.ids(), ids)
})

behaviour(
  "C49 a call sent again while it runs, while it is queued and when it is done is executed once and gets the same reply",
  {},
  async (world) => {
    const key = world.key()
    const gate = Promise.withResolvers<void>()
    const entered = Promise.withResolvers<void>()
    world.probe.gate = () => {
      entered.resolve()
      return gate.promise
    }
    const first = await world.session("alice")
    await first.attach(ledgerOf(key))
    const calls = [
      [1, "slow", "runs"],
      [2, "add", "queued"],
    ]
    for (const [c, a, id] of calls) first.call(c as number, a as string, id)
    await within(5_000, "the first call runs", entered.promise)
    // On the same socket, and on another one; the first socket is still there, and then is not.
    for (const [c, a, id] of calls) first.call(c as number, a as string, id)
    await first.raw.flushed()
    const second = await again(world, "alice", first, key, calls)
    await second.raw.flushed()
    first.raw.cut()
    const third = await again(world, "alice", first, key, calls)
    await third.raw.flushed()
    assert.deepEqual(world.probe.ran, ["slow runs"])
    assert.deepEqual([third.raw.all("reply"), third.raw.all("detached")], [[], []])
    gate.resolve()
    const replies = [await third.reply(1), await third.reply(2)]
    assert.deepEqual(
      replies.map(({ ok }) => ok?.v),
      world.probe.returned,
    )
    await third.raw.flushed()
    assert.deepEqual(
      third.raw.all("reply").map(({ c }) => c),
      [1, 2],
      "one reply each",
    )
    // Done: sent again on the same attach and by another one.
    for (const [c, a, id] of calls) third.call(c as number, a as string, id)
    await third.nth("reply", 4)
    assert.deepEqual(third.raw.all("reply").slice(2), replies)
    const fourth = await again(world, "alice", first, key, calls)
    assert.deepEqual((await fourth.reply(1)).ok, replies[0]?.ok)
    assert.deepEqual((await fourth.reply(2)).ok, replies[1]?.ok)
    // Other arguments under a number that is used up change nothing.
    fourth.call(2, "add", "something else")
    assert.deepEqual((await fourth.nth("reply", 3)).ok, replies[1]?.ok)
    assert.deepEqual(world.probe.ran, ["slow runs", "add queued"])
    // Once acknowledged the reply is gone, and that is said.
    fourth.raw.send({ t: "ack", ch: 1, c: 2, r: 0 })
    fourth.call(1, "slow", "runs")
    const gone = await within(
      5_000,
      "the refusal",
      fourth.raw.find("reply", ({ err }) => err !== undefined),
    )
    assert.deepEqual([gone.err?.code, gone.err?.outcome], ["REPLY_GONE", "executed"])
    assert.deepEqual(world.probe.ran, ["slow runs", "add queued"])
  },
)

behaviour(
  "C49 it is the same after the actor slept and after its POP was restarted",
  { limits: { idleMs: 30 } },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const { here } = world
    const first = await world.session("alice")
    await first.attach(ledgerOf(key))
    first.call(1, "add", "a")
    const { ok } = await first.reply(1)
    await asleep(here, actor)
    first.call(1, "add", "a")
    await first.nth("reply", 2)
    await first.raw.flushed()
    assert.deepEqual(
      first.raw.all("reply").map((frame) => frame.ok),
      [ok, ok],
    )
    await here.crash()
    await world.start(here.id)
    const next = await again(world, "alice", first, key, [[1, "add", "a"]])
    assert.deepEqual((await next.reply(1)).ok, ok)
    assert.deepEqual(
      world.probe.ran.filter((one) => one === "add a"),
      ["add a"],
    )
  },
)

behaviour(
  "a call whose number leaves a hole is refused and nothing runs; the hole filled, all run in order",
  {},
  async (world) => {
    const key = world.key()
    const first = await world.session("alice")
    await first.attach(ledgerOf(key))
    first.call(2, "add", "b")
    const { err } = await first.detached()
    assert.deepEqual([err.code, err.outcome], ["CALL_ORDER", "not-executed"])
    const next = await again(world, "alice", first, key, [
      [1, "add", "a"],
      [2, "add", "b"],
    ])
    await next.reply(2)
    assert.deepEqual(
      world.probe.ran.filter((one) => one.startsWith("add")),
      ["add a", "add b"],
    )
  },
)

behaviour(
  "C51 a call that timed out is reported unknown, one that was never sent not-executed, and never runs",
  {},
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const { here } = world
    const alice = world.client("alice")
    const ledger = alice.ledger.get(key)
    await ledger.add("a")
    // Sent, and its write hangs.
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    const sent = ledger.with({ timeoutMs: 150 }).add("b")
    const queued = ledger.with({ timeoutMs: 150 }).query.ids()
    await within(5_000, "the write begins", write.reached)
    const timedOut = await Promise.allSettled([sent, queued])
    assert.deepEqual(
      timedOut.map((one) => outcomeOf((one as PromiseRejectedResult).reason)),
      [
        ["CALL_TIMEOUT", "unknown"],
        ["CALL_TIMEOUT", "not-executed"],
      ],
    )
    write.pass()
    assert.equal((await ledger.add("c")).n, 3, "unknown: here it was applied")
    // Never sent: the line is down for the whole of its time.
    here.proxy.setTarget(undefined)
    here.proxy.cut()
    const down = new Promise<void>((resolve) => {
      if (alice.status !== "connected") resolve()
      alice.on("status", ({ to }) => {
        if (to !== "connected") resolve()
      })
    })
    await within(5_000, "the client notices", down)
    const never = ledger.with({ timeoutMs: 100 }).add("never")
    await assert.rejects(never, (error) => {
      assert.deepEqual(outcomeOf(error), ["CALL_NOT_SENT", "not-executed"])
      return true
    })
    // Aborted before it was sent, and after.
    const abort = new AbortController()
    const aborted = ledger.with({ signal: abort.signal }).add("aborted")
    abort.abort()
    await assert.rejects(aborted, (error) => {
      assert.deepEqual(outcomeOf(error), ["CALL_ABORTED", "not-executed"])
      return true
    })
    await within(10_000, "the POP is back", restore(world))
    assert.equal((await ledger.add("d")).n, 4)
    assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d"])
    const held = here.store.hold({ op: "commit", actor, at: "before" })
    const late = new AbortController()
    const running = ledger.with({ signal: late.signal }).add("e")
    await within(5_000, "the write begins", held.reached)
    late.abort()
    await assert.rejects(running, (error) => {
      assert.deepEqual(outcomeOf(error), ["CALL_ABORTED", "unknown"])
      return true
    })
    held.pass()
    assert.equal((await ledger.add("f")).n, 6)
  },
)

/** The POP was unreachable and is not restarted: its port is asked for again by closing and starting it. */
async function restore(world: World): Promise<void> {
  await world.here.crash()
  await world.start(world.here.id)
}

behaviour("C51 a call given up before it ran is skipped, and one that had run keeps its reply", {}, async (world) => {
  const key = world.key()
  const gate = Promise.withResolvers<void>()
  const entered = Promise.withResolvers<void>()
  world.probe.gate = () => {
    entered.resolve()
    return gate.promise
  }
  const first = await world.session("alice")
  await first.attach(ledgerOf(key))
  first.call(1, "slow", "runs")
  await within(5_000, "it runs", entered.promise)
  // Its caller gave up 1 and 2; 2 was lost on the way.
  const next = await world.session("alice")
  const skip = { p: { v: null }, a: "", skip: true }
  const calls = [{ c: 1, ...skip }, { c: 2, ...skip }, callBody(3, "add", "next")]
  next.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: first.sid, acked: 0, live: false, calls })
  await next.raw.flushed()
  gate.resolve()
  assert.deepEqual((await next.reply(1)).ok?.v, world.probe.returned[0])
  const { err } = await next.reply(2)
  assert.deepEqual([err?.code, err?.outcome], ["CALL_SKIPPED", "not-executed"])
  assert.equal(((await next.reply(3)).ok?.v as { n: number }).n, 2)
  assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["runs", "next"])
})

const hour = 3_600_000

describe("sessions expire with their dedupe record", () => {
  for (const store of ["memory", "lmdb"] as const)
    for (const pops of [1, 3])
      test(
        `an expired session's late call is refused, never run a second time; an attached one never expires (${store}, ${pops} POPs)`,
        {
          timeout: 60_000,
        },
        async () => {
          await using world = await createWorld({ store, pops, limits: { idleMs: 30 } })
          const key = world.key()
          const actor = `ledger/${key}`
          const { here } = world
          const leaver = await world.session("leaver")
          await leaver.attach(ledgerOf(key))
          leaver.call(1, "add", "a")
          await leaver.reply(1)
          const stayer = await world.session("stayer")
          await stayer.attach(ledgerOf(key))
          stayer.call(1, "add", "b")
          await stayer.reply(1)
          leaver.raw.send({ t: "detach", ch: 1 })
          // Seen to have left before the jump: a session's life is counted from there.
          leaver.raw.send({ t: "ping", n: 7 })
          await within(10_000, "the answer", leaver.raw.find("pong"))
          leaver.raw.cut()
          const now = Date.now()
          mock.timers.enable({ apis: ["Date"], now: now + 26 * hour })
          try {
            // The next sleep writes a snapshot, and what has expired is not in it.
            stayer.call(2, "add", "c")
            await stayer.reply(2)
            await asleep(here, actor)
            const stored = await here.store.inner.load(actor)
            const text = [stored?.body.snapshot ?? new Uint8Array(), ...(stored?.body.entries ?? [])]
              .map((bytes) => Buffer.from(bytes).toString())
              .join()
            assert.equal(text.includes(leaver.sid), false, "the record is gone")
            assert.equal(text.includes(stayer.sid), true, "the attached one's is kept")
            const late = await again(world, "leaver", leaver, key, [[1, "add", "a"]])
            assert.equal((await late.detached()).err.code, "SESSION_UNKNOWN")
            assert.deepEqual(late.raw.all("reply"), [])
            stayer.call(2, "add", "c")
            stayer.call(3, "add", "d")
            assert.equal(((await stayer.reply(3)).ok?.v as { n: number }).n, 4)
            assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["a", "b", "c", "d"])
          } finally {
            mock.timers.reset()
          }
        },
      )
})

behaviour(
  "a full session table refuses the new session by name and evicts no live one",
  { limits: { sessionsPerActorMax: 3 } },
  async (world) => {
    const key = world.key()
    const live: Session[] = []
    for (let i = 0; i < 3; i++) {
      const session = await world.session(`user${i}`)
      await session.attach(ledgerOf(key))
      session.call(1, "add", `a${i}`)
      await session.reply(1)
      live.push(session)
    }
    const late = await world.session("late")
    late.sendAttach(ledgerOf(key), { calls: [callBody(1, "add", "late")] })
    const { err } = await late.detached()
    assert.deepEqual([err.code, err.retry, err.outcome], ["SESSIONS_FULL", "later", "not-executed"])
    // Not even those whose clients are away, for their calls may come again.
    live[0]?.raw.cut()
    const still = await world.session("still")
    still.sendAttach(ledgerOf(key))
    assert.equal((await still.detached()).err.code, "SESSIONS_FULL")
    const back = await again(world, "user0", live[0] as Session, key, [
      [1, "add", "a0"],
      [2, "add", "b0"],
    ])
    assert.equal(((await back.reply(2)).ok?.v as { n: number }).n, 4)
    assert.equal(world.probe.ran.filter((one) => one.startsWith("add")).length, 4)
  },
)
