// Actors that call each other: a chain of calls that comes back to a turn in it would wait for itself.
import assert from "node:assert/strict"
import { patientLimits } from "./behaviours/limits.ts"
import { behaviour, callBody, until, within, type World } from "./behaviours/world.ts"

/** No turn is ever given up for its time: what ends in these tests ends by itself, or not within the test's. */
const limits = { turnMsMax: 3_600_000 }

const refusedChain = (chain: readonly string[]) => (error: unknown) => {
  const { code, outcome, message } = error as { code: string; outcome: string; message: string }
  assert.deepEqual([code, outcome], ["CALL_CHAIN", "not-executed"])
  assert.ok(message.includes(chain.map((key) => `hop/${key}`).join(" → ")), message)
  return true
}

/** A key whose actor comes into being, and stays, at the `n`th POP. */
const at = (world: World, n: number, name: string): string =>
  `${name}~${world.seats[Math.min(n, world.seats.length - 1)]?.id}`

async function doneOf(world: World, ...keys: string[]): Promise<string[][]> {
  const { hop } = world.here.pop.actors
  return within(5_000, "all of them answer", Promise.all(keys.map((key) => hop.get(key).query.done())))
}

/** Each of them runs another turn, asked from each POP. */
async function allServe(world: World, ...keys: string[]): Promise<void> {
  for (const { pop } of world.seats)
    for (const key of keys) await within(5_000, `${key} serves`, pop.actors.hop.get(key).run("after", []))
}

behaviour(
  "C52 a call chain that comes back fails at once with a named error, and every turn in it rolls back",
  { limits },
  async (world) => {
    const [a, b] = [at(world, 0, "a"), at(world, 2, "b")]
    const hop = world.client("alice").hop.get(a)
    // The second time the calls go over attaches that are open.
    for (const id of ["first", "second"]) {
      await assert.rejects(
        hop.run(id, [{ id: `${id} at b`, to: b, then: [{ id: "never", to: a }] }]),
        refusedChain([a, b, a]),
      )
      assert.deepEqual(world.probe.ran.splice(0), [`bos runs ${id}`, `${world.home.id} runs ${id} at b`])
    }
    assert.deepEqual(await doneOf(world, a, b), [[], []])
    // What was refused was not sent.
    const back = world.tap.notes.filter(
      ({ t, actor, to }) => t === "RELAY_OPEN" && actor === `hop/${a}` && to === "bos",
    )
    assert.deepEqual(back, [])
    await allServe(world, a, b)
  },
)

behaviour("C52 whoever catches the error goes on, and what it did commits", { limits }, async (world) => {
  const [a, b] = [at(world, 0, "a"), at(world, 2, "b")]
  const hop = world.client("alice").hop.get(a)
  await hop.run("one", [{ id: "b1", to: b, then: [{ id: "back", to: a }], caught: true }])
  assert.deepEqual(await doneOf(world, a, b), [["one", "b1: CALL_CHAIN"], []])
  await hop.run("two", [{ id: "b2", to: b, then: [{ id: "back", to: a, caught: true }] }])
  assert.deepEqual(await doneOf(world, a, b), [
    ["one", "b1: CALL_CHAIN", "two"],
    ["b2", "back: CALL_CHAIN"],
  ])
  await allServe(world, a, b)
})

behaviour(
  "C52 an actor in its turn can neither call nor query itself, nor be queried by whom it calls",
  { limits },
  async (world) => {
    const [a, b] = [at(world, 0, "a"), at(world, 2, "b")]
    const hop = world.client("alice").hop.get(a)
    await assert.rejects(hop.run("x", [{ id: "self", to: a }]), refusedChain([a, a]))
    await assert.rejects(hop.run("x", [{ id: "self", to: a, query: true }]), refusedChain([a, a]))
    await assert.rejects(
      hop.run("x", [{ id: "b", to: b, then: [{ id: "back", to: a, query: true }] }]),
      refusedChain([a, b, a]),
    )
    assert.deepEqual(await doneOf(world, a, b), [[], []])
    await allServe(world, a, b)
  },
)

behaviour("C52 two ways to one actor are no chain that comes back", { limits }, async (world) => {
  const [a, b, c] = [at(world, 0, "a"), at(world, 1, "b"), at(world, 2, "c")]
  await world
    .client("alice")
    .hop.get(a)
    .run("a", [
      { id: "b1", to: b },
      {
        id: "c",
        to: c,
        then: [
          { id: "b2", to: b },
          { id: "asked", to: b, query: true },
        ],
      },
      { id: "b3", to: b },
    ])
  assert.deepEqual(await doneOf(world, a, b, c), [["a"], ["b1", "b2", "b3"], ["c"]])
})

behaviour("C52 a call chain has a length that it may have", { limits }, async (world) => {
  const keys = Array.from({ length: 18 }, (_, i) => at(world, i % 3, `d${i}`))
  const [first = "", ...rest] = keys
  const hop = world.client("alice").hop.get(first)
  assert.equal(await hop.down(rest.slice(0, 16)), 17)
  await assert.rejects(hop.down(rest), refusedChain(keys))
  assert.deepEqual(await doneOf(world, first, rest[15] as string, rest[16] as string), [["down"], ["down"], []])
})

behaviour(
  "C52 a client brings no chain: what it sends as one is not read, at its gateway or beyond",
  { limits },
  async (world) => {
    const [a, b] = [at(world, 2, "a"), at(world, 0, "b")]
    const alice = await world.session("alice")
    const chain = [`hop/${b}`]
    const call = (c: number) => ({ ...callBody(c, "run", `call ${c}`, [{ id: `b${c}`, to: b }]), chain })
    // Where there are more POPs the actor stays where it is, and is reached by relay.
    alice.sendAttach(["hop", a], { stay: true, calls: [call(1)] })
    assert.deepEqual((await alice.reply(1)).err, undefined)
    alice.raw.send({ t: "call", ch: 1, ...call(2) })
    assert.deepEqual((await alice.reply(2)).err, undefined)
    assert.deepEqual(await doneOf(world, a, b), [
      ["call 1", "call 2"],
      ["b1", "b2"],
    ])
  },
)

behaviour(
  "C52 a call that is sent again after its POP crashed carries its chain still",
  { pops: [3], limits },
  async (world) => {
    const [a, b] = [at(world, 0, "a"), at(world, 2, "b")]
    const nrt = world.seat("nrt")
    const held = Promise.withResolvers<void>()
    world.probe.gate = (id) => (id === "b" ? held.promise : Promise.resolve())
    const refused = assert.rejects(
      world
        .client("alice")
        .hop.get(a)
        .run("a", [{ id: "b", to: b, then: [{ id: "never", to: a }] }]),
      refusedChain([a, b, a]),
    )
    const entered = (times: number) => () => world.probe.ran.filter((one) => one === "nrt runs b").length === times
    await within(5_000, "the turn of b runs", until(entered(1)))
    await nrt.crash()
    world.probe.gate = undefined
    await world.start("nrt")
    await within(10_000, "the chain is refused", refused)
    assert.ok(entered(2)())
    held.resolve()
    assert.deepEqual(await doneOf(world, a, b), [[], []])
  },
)

behaviour(
  "C52 a call that waits while its actor moves carries its chain to the other POP",
  { pops: [3], limits: { ...limits, ...patientLimits } },
  async (world) => {
    const [a, b] = [at(world, 0, "a"), at(world, 0, "b")]
    const { here, probe } = world
    const held = Promise.withResolvers<void>()
    probe.gate = (id) => (id === "busy" ? held.promise : Promise.resolve())
    const busy = here.pop.actors.hop.get(b).run("busy", [])
    await within(
      5_000,
      "b is busy",
      until(() => probe.ran.includes("bos runs busy")),
    )
    const refused = assert.rejects(
      world
        .client("alice")
        .hop.get(a)
        .run("a", [{ id: "b", to: b, then: [{ id: "never", to: a }] }]),
      refusedChain([a, b, a]),
    )
    await within(
      5_000,
      "a has called b",
      until(() => probe.ran.includes("bos runs a")),
    )
    const pull = world.tap.catch(({ t, to }) => t === "PULL" && to === "bos")
    const moved = here.pop.move(["hop", b], "nrt")
    await within(5_000, "nrt takes the offer", pull.reached)
    pull.pass()
    // It drains from here on: what waits for its turn goes along.
    await world.tap.read("nrt", "bos")
    held.resolve()
    await within(10_000, "b moves", Promise.all([busy, moved]))
    await within(10_000, "the chain is refused", refused)
    assert.equal((await world.seat("nrt").record(`hop/${b}`))?.k, "OWNED")
    assert.ok(probe.ran.includes("nrt runs b"), probe.ran.join())
    assert.deepEqual(await doneOf(world, a, b), [[], ["busy"]])
  },
)

behaviour(
  "C70 a turn that was begun before its POP closes can still call other actors",
  { pops: [3], limits: { ...limits, ...patientLimits, goAwaySpreadMs: 10, drainMsMax: 20_000 } },
  async (world) => {
    const [a, b] = [at(world, 0, "a"), at(world, 2, "b")]
    const { here, probe } = world
    const held = Promise.withResolvers<void>()
    probe.gate = (id) => (id === "a" ? held.promise : Promise.resolve())
    const alice = await world.session("alice", world.seat("fra"))
    alice.sendAttach(["hop", a], { stay: true, calls: [callBody(1, "run", "a", [{ id: "b", to: b }])] })
    await within(
      5_000,
      "the turn runs",
      until(() => probe.ran.includes("bos runs a")),
    )
    assert.equal((await here.record(`hop/${a}`))?.k, "OWNED")
    const closed = here.close()
    await here.events.until("node.draining")
    held.resolve()
    assert.equal((await alice.reply(1)).err, undefined)
    await within(20_000, "the POP closes", closed)
    const { hop } = world.seat("fra").pop.actors
    assert.deepEqual(await hop.get(b).query.done(), ["b"])
    // Handed to where its session is.
    assert.deepEqual(await hop.get(a).query.done(), ["a"])
  },
)
