// Moves of actors whose clients stay attached: what begins them, what is relayed, what nobody notices.
import assert from "node:assert/strict"
import { patientLimits } from "./behaviours/limits.ts"
import { behaviour, within } from "./behaviours/world.ts"

const three = { pops: [3], limits: patientLimits }

behaviour(
  "an actor moves under attached clients, which keep their attaches: calls go on in order, outputs have no gap (C12, C14)",
  three,
  async (world) => {
    const [bos, fra] = [world.seat("bos"), world.seat("fra")]
    const key = "live~bos"
    const typist = await world.session("typist")
    const watcher = await world.session("watcher")
    await typist.attach(["ledger", key])
    await watcher.attach(["ledger", key], { live: true })
    typist.call(1, "add", "a1")
    const first = await typist.reply(1)
    // A turn that runs when the move begins, and calls that wait behind it.
    let open = (): void => undefined
    world.probe.gate = () => new Promise((resolve) => (open = resolve))
    typist.call(2, "slow", "a2")
    await within(
      5_000,
      "the turn runs",
      until(() => world.probe.ran.includes("slow a2")),
    )
    const pulled = world.tap.seen(({ t, to }) => t === "PULL" && to === "bos")
    const moved = bos.pop.move(["ledger", key], "fra")
    await within(5_000, "the PULL", pulled)
    // The input is closed from here on: what comes now waits for the target.
    await world.tap.read("fra", "bos")
    typist.call(3, "add", "a3")
    typist.query(1, "ids", 3)
    typist.call(4, "add", "a4")
    watcher.call(1, "add", "w1")
    await typist.raw.flushed()
    await watcher.raw.flushed()
    open()
    const { epoch } = await within(10_000, "the move", moved)
    assert.equal(epoch, 1)
    assert.deepEqual(
      (await Promise.all([2, 3, 4].map((c) => typist.reply(c)))).map(({ err }) => err),
      [undefined, undefined, undefined],
    )
    await watcher.reply(1)
    for (const client of [typist, watcher]) {
      const { to, stays } = await within(5_000, "moved", client.raw.find("moved"))
      assert.deepEqual([to, stays], ["fra", true])
    }
    typist.call(5, "add", "a5")
    const last = await typist.reply(5)
    await within(
      5_000,
      "the last output",
      watcher.raw.find("out", ({ r }) => r === last.r),
    )
    assert.equal((await fra.record(`ledger/${key}`))?.k, "OWNED")
    // Nobody attached again, or was told to.
    for (const client of [typist, watcher]) {
      assert.equal(client.raw.frames.filter(({ t }) => t === "attached").length, 1)
      assert.equal(client.raw.frames.filter(({ t }) => t === "detached").length, 0)
    }
    // Outputs form one chain, from before the move to after it.
    const outs = watcher.raw.frames.flatMap((frame) => (frame.t === "out" ? [frame] : []))
    assert.equal(outs.length, 6)
    for (const [i, out] of outs.entries()) if (i > 0) assert.equal(out.prev, outs[i - 1]?.r)
    assert.ok(last.r > first.r)
    const order = world.probe.ran.filter((what) => /^(add|slow) a/.test(what))
    assert.deepEqual(order, ["add a1", "slow a2", "add a3", "add a4", "add a5"])
  },
)

function until(what: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (what()) resolve()
      else setImmediate(look)
    }
    look()
  })
}
