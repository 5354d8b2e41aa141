import assert from "node:assert/strict"
import { test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { createClient } from "./client.ts"
import { FakeWorld, type FakeSocket } from "./testing/fake-world.ts"
import { ManualClock } from "./testing/manual-clock.ts"

/** Mulberry32: small, seeded, good enough to pick faults. */
function chanceOf(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), a | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Made {
  readonly value: string
  readonly key: string
  ended: "pending" | "resolved" | "not-executed" | "unknown" | "executed"
}

async function play(seed: number): Promise<Record<string, number>> {
  const random = chanceOf(seed)
  const world = new FakeWorld()
  world.tailMax = 1 + Math.floor(random() * 30)
  world.spares = Math.floor(random() * 3)
  const clock = new ManualClock()
  const client = createClient({
    url: random() < 0.5 ? "ws://bos" : ["ws://bos", "ws://fra", "ws://nrt"],
    clock,
    chance: { random, id: () => "c" },
    socket: world.factory,
    page: { hidden: () => false, watch: () => () => {} },
    limits: { queueCallsMax: 60, windowCallsMax: 1 + Math.floor(random() * 40), ackFrames: 1 },
  })
  const made: Made[] = []
  const counts: Record<string, number> = {}
  const keys = ["a", "b"]
  const streams = new Map(keys.map((key) => [key, { last: undefined as number | undefined, told: 0 }]))
  const handles = new Map(keys.map((key) => [key, client.actor("list", key)]))
  for (const key of keys) {
    const handle = handles.get(key)
    const stream = streams.get(key)
    assert.ok(handle && stream)
    handle.onResume((how) => {
      counts[how] = (counts[how] ?? 0) + 1
      if (how !== "replay") stream.last = undefined
    })
    ;(handle.on as (name: string, fn: (value: string) => void) => void)("pushed", (value) => {
      const at = world.actor(`list/${key}`).list.indexOf(value)
      assert.ok(stream.last === undefined || at === stream.last + 1, `event ${at} came after ${stream.last}`)
      stream.last = at
      stream.told++
    })
    handle.state.subscribe(() => {})
  }
  const urls = ["ws://bos", "ws://fra", "ws://nrt"]
  const pick = (): string => urls[Math.floor(random() * urls.length)] ?? ""
  const any = (): FakeSocket | undefined => {
    const alive = world.sockets.filter((socket) => !socket.isClosed)
    return alive[Math.floor(random() * alive.length)]
  }
  const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const faults: Record<string, () => void> = {
    cut: () => any()?.cut(),
    // Switching takes a few steps: while two or three sockets are there, each may be cut, held or sent away.
    move: () => client.switchTo(pick()),
    goaway: () => any()?.send({ t: "goaway", retryAfterMs: random() * 500 }),
    down: () => {
      const url = pick()
      if (!world.unreachable.delete(url)) world.unreachable.add(url)
    },
    hold: () => {
      const socket = any()
      if (socket) socket.held = !socket.held
    },
    away: () => {
      for (const key of keys)
        for (const attach of world.actor(`list/${key}`).attaches) {
          attach.socket.send({ t: "moved", ch: attach.ch, to: "fra", e: 1 })
          world.actor(`list/${key}`).attaches.delete(attach)
        }
    },
    other: () =>
      world.commit(
        world.actor(`list/${keys[Math.floor(random() * 2)]}`),
        `other-${made.length}-${clock.mono()}-${random()}`,
      ),
    lose: () => {
      // An output that never comes: the next one shows the gap.
      const actor = world.actor("list/a")
      const attaches = [...actor.attaches]
      actor.attaches.clear()
      world.commit(actor, `lost-${made.length}-${clock.mono()}-${random()}`)
      for (const attach of attaches) {
        attach.prev = actor.r
        actor.attaches.add(attach)
      }
    },
    busy: () => {
      const until = clock.mono() + 500
      world.refuseCall = () =>
        clock.mono() < until ? new SojournError("MAILBOX_FULL", "full", { retryAfterMs: 50 }) : undefined
    },
    refuse: () => {
      const until = clock.mono() + 500
      world.refuseAttach = () => (clock.mono() < until ? new SojournError("NOT_FOUND_YET") : undefined)
    },
  }
  for (let step = 0; step < 300; step++) {
    const dice = random()
    if (dice < 0.45) {
      const key = keys[Math.floor(random() * 2)] ?? "a"
      const call: Made = { value: `v${made.length}`, key, ended: "pending" }
      made.push(call)
      const options = random() < 0.2 ? { timeoutMs: 20 + Math.floor(random() * 300) } : { timeoutMs: 600_000 }
      const promise = handles.get(key)?.with(options).call["push"]?.(call.value)
      promise?.then(
        () => (call.ended = "resolved"),
        (error: unknown) => (call.ended = error instanceof SojournError ? error.outcome : assert.fail(String(error))),
      )
    } else if (dice < 0.55) {
      const names = Object.keys(faults)
      const name = names[Math.floor(random() * names.length)] ?? "cut"
      counts[name] = (counts[name] ?? 0) + 1
      faults[name]?.()
    } else if (dice < 0.8) {
      await tick()
      world.step()
    } else await clock.advance(random() * 400, async () => void (await tick(), world.step()))
  }
  for (const socket of world.sockets) socket.held = false
  world.unreachable.clear()
  world.refuseCall = () => undefined
  world.refuseAttach = () => undefined
  // What was lost last shows with the next output.
  await clock.advance(5_000, () => world.run())
  for (const key of keys) world.commit(world.actor(`list/${key}`), "end")
  for (let i = 0; i < 40; i++) await clock.advance(1_000, () => world.run())
  for (const key of keys) {
    const actor = world.actor(`list/${key}`)
    const pushed = actor.list.filter((value) => typeof value === "string" && value.startsWith("v"))
    assert.equal(new Set(pushed).size, pushed.length, "a call was applied twice")
    const mine = made.filter((call) => call.key === key)
    const order = mine.map((call) => call.value)
    assert.deepEqual(
      pushed,
      order.filter((value) => pushed.includes(value)),
      "calls were applied out of order",
    )
    for (const call of mine) {
      assert.notEqual(call.ended, "pending", `${call.value} never ended`)
      if (call.ended === "resolved")
        assert.ok(pushed.includes(call.value), `${call.value} was acknowledged and not applied`)
      if (call.ended === "not-executed") assert.ok(!pushed.includes(call.value), `${call.value} was applied and denied`)
      counts[call.ended] = (counts[call.ended] ?? 0) + 1
    }
    assert.deepEqual(handles.get(key)?.state.get(), { list: actor.list }, "live state differs")
    assert.ok((streams.get(key)?.told ?? 0) > 0)
  }
  counts["gaps"] = client.stats.gaps
  await client.close()
  assert.equal(clock.timers, 0)
  return counts
}

test("C48 C49 C51 C57 C59 C70 under random cuts, moves, drains, refusals and gaps each call is applied at most once, in order, and told truly", async () => {
  const total: Record<string, number> = {}
  for (let seed = 1; seed <= 60; seed++)
    try {
      for (const [name, n] of Object.entries(await play(seed))) total[name] = (total[name] ?? 0) + n
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error })
    }
  for (const name of [
    "cut",
    "move",
    "goaway",
    "down",
    "hold",
    "away",
    "lose",
    "busy",
    "refuse",
    "gaps",
    "replay",
    "snapshot",
    "unknown",
    "not-executed",
  ])
    assert.ok((total[name] ?? 0) > 10, `${name} occurred ${total[name] ?? 0} times: ${JSON.stringify(total)}`)
})
