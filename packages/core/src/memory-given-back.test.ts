import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { actor, setup } from "./actor.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { createNode } from "./node.ts"
import { defaultLimits } from "./limits.ts"
import type { Clock } from "./ports.ts"
import { primitives } from "./testing/alone.ts"

/** All that is due happens at once: one turn of the event loop for each actor would be most of the time. */
class CoarseClock implements Clock {
  #mono = 0
  readonly #timers = new Set<{ readonly at: number; readonly fn: () => void }>()

  now(): number {
    return 1_700_000_000_000 + this.#mono
  }
  mono(): number {
    return this.#mono
  }
  after(ms: number, fn: () => void): () => void {
    const timer = { at: this.#mono + ms, fn }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }
  async pass(ms: number): Promise<void> {
    this.#mono += ms
    for (const timer of this.#timers)
      if (timer.at <= this.#mono) {
        this.#timers.delete(timer)
        timer.fn()
      }
    for (let i = 0; i < 3; i++) await setImmediate()
  }
}

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as () => void
setFlagsFromString("--no-expose_gc")

/** Code that is not run any more goes too, some collections later: before the first measure there are as many as it takes. */
function heapBytes(collections = 2): number {
  for (let i = 0; i < collections; i++) collect()
  return process.memoryUsage().heapUsed
}

/**
 * As many as the behaviour says take half a minute, so `SOJOURN_ACTORS=100000` does. Half of the bound is for what is no actor's; with the default number the
 * rest is 26 bytes an actor, less than a table's entry.
 */
const actors = Number(process.env["SOJOURN_ACTORS"] ?? 20_000)
const keptMax = actors < 100_000 ? 1_048_576 : 2 * 1_048_576

const counter = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })

test(`C47 ${actors.toLocaleString("en-US")} actors, each touched once by a client and idle since, leave the heap within ${keptMax / 1_048_576} MiB of where it was (memory, 1 POP)`, async (t) => {
  const clock = new CoarseClock()
  const disk = memoryDisk("disk")
  const node = createNode({
    app: setup({ actors: { counter } }),
    pop: "bos",
    node: "bos-1",
    region: "us-east",
    store: memoryStore({ disk }),
    clock,
    chance: { random: () => 0.5, id: () => "id" },
    primitives,
    limits: { ...defaultLimits, idleMs: 10 },
    authenticate: () => ({ id: "ann" }),
    events: () => undefined,
  })
  await node.start()
  let sid = ""
  let replies = 0
  let closed = ""
  const reader = node.acceptClient(
    {
      send: (text) => {
        if (text.startsWith(`{"t":"reply"`)) replies++
        else if (text.startsWith(`{"t":"welcome"`)) sid = (JSON.parse(text) as { sessions: string[] }).sessions[0] ?? ""
        else if (text.startsWith(`{"t":"detached"`)) assert.fail(text)
      },
      buffered: () => 0,
      close: (code, reason) => {
        closed = `${code} ${reason}`
      },
    },
    { url: "", headers: {}, ip: "" },
  )
  reader.message(`{"t":"hello","client":"c"}`)
  await clock.pass(1)

  const channels = 250
  let touched = 0
  let resident = 0
  const touch = async (actors: number): Promise<void> => {
    for (let i = 0; i < actors; i++) {
      const attach = { t: "attach", ch: i % channels, actor: ["counter", `k${touched++}`], sid, acked: 0, live: false }
      reader.message(JSON.stringify({ ...attach, calls: [{ c: 1, a: "add", p: { v: [] } }] }))
      if (i % channels !== channels - 1) continue
      await clock.pass(1)
      resident = Math.max(resident, node.stats().residents)
      for (let ch = 0; ch < channels; ch++) reader.message(`{"t":"detach","ch":${ch}}`)
      // They fall asleep; the connection is heard of meanwhile, and its rate is kept.
      await clock.pass(200)
    }
    // Whatever else is kept for a while.
    for (let i = 0; i < 40; i++) {
      await clock.pass(15_000)
      reader.message(`{"t":"ping"}`)
    }
    assert.equal(closed, "")
    assert.equal(replies, touched)
    assert.equal(node.stats().residents, 0)
    assert.equal(disk.actors.size, touched)
  }
  // Code is compiled, and tables have their first sizes.
  await touch(5_000)
  disk.actors.clear()
  touched = replies = 0
  const before = heapBytes(10)
  await touch(actors)
  assert.equal(resident, channels)
  // What a disk holds is no memory of the node; this one is a Map.
  disk.actors.clear()
  const grown = heapBytes() - before
  t.diagnostic(`heap: ${before} bytes before, ${grown} more after`)
  assert.ok(grown < keptMax, `${grown} bytes are kept, of at most ${keptMax}`)
  await node.stop({ drainMs: 0 })
})
