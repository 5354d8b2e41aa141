import assert from "node:assert/strict"
import { test } from "node:test"
import { Doubts } from "./doubts.ts"
import { defaultLimits } from "./limits.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

function doubts(overAt = Infinity) {
  const clock = new VirtualClock()
  const looks: [string, number][] = []
  const began = clock.mono()
  const made = new Doubts(clock, { ...defaultLimits, resendMs: 500, resendMsMax: 4_000 }, (actor) => {
    const ms = clock.mono() - began
    looks.push([actor, ms])
    return Promise.resolve(ms >= overAt)
  })
  return { clock, looks, doubts: made }
}

void test("a seal in doubt is looked at after growing pauses, and then no more", async () => {
  const { clock, looks, doubts: made } = doubts()
  made.add("cart/alice")
  await clock.advance(60_000)
  assert.deepEqual(
    looks.map(([, ms]) => ms),
    [500, 1_500, 3_500, 7_500],
  )
})

void test("a doubt that is over is not looked at again; one that comes anew begins anew", async () => {
  const { clock, looks, doubts: made } = doubts(1_500)
  made.add("cart/alice")
  await clock.advance(1_000)
  made.add("cart/bob")
  await clock.advance(60_000)
  assert.deepEqual(looks, [
    ["cart/alice", 500],
    ["cart/alice", 1_500],
    ["cart/bob", 1_500],
  ])
  made.add("cart/alice")
  await clock.advance(500)
  assert.equal(looks.length, 4)
})

void test("nothing is looked at after stop, and no more than a thousand actors are", async () => {
  const { clock, looks, doubts: made } = doubts()
  for (let i = 0; i < 1_200; i++) made.add(`cart/${i}`)
  await clock.advance(500)
  assert.equal(looks.length, 1_000)
  made.stop()
  await clock.advance(60_000)
  assert.equal(looks.length, 1_000)
})
