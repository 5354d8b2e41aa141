// Moves of actors whose clients stay attached: what begins them, what is relayed, what nobody notices.
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import type { Grant } from "@sojourn/core"
import { patientLimits } from "./behaviours/limits.ts"
import { behaviour, until, within } from "./behaviours/world.ts"

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
    // What waited went along with the install: one flush until the first reply.
    const install = fra.store.steps.find(({ op }) => op === "install")
    assert.equal((install?.args[3] as { entries: unknown[] }).entries.length, 3)
    assert.equal(fra.store.count("commit", `ledger/${key}`), 0)
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

behaviour(
  "what a client acknowledges while its actor is sealed counts where the actor goes: its window is open there, and nobody is told to attach again (C12, C14)",
  { pops: [3], limits: { ...patientLimits, repliesPerSessionMax: 4 } },
  async (world) => {
    const bos = world.seat("bos")
    const key = "acked~bos"
    const typist = await world.session("typist")
    await typist.attach(["ledger", key])
    for (const c of [1, 2, 3]) {
      typist.call(c, "add", `a${c}`)
      await typist.reply(c)
    }
    const seal = bos.store.hold({ op: "pull", actor: `ledger/${key}`, at: "before" })
    const moved = bos.pop.move(["ledger", key], "fra")
    await within(5_000, "the seal", seal.reached)
    typist.raw.send({ t: "ack", ch: 1, c: 3, r: 0 })
    await typist.raw.flushed()
    seal.pass()
    await within(10_000, "the move", moved)
    // Four more than were acknowledged.
    for (const c of [4, 5, 6, 7]) typist.call(c, "add", `a${c}`)
    for (const c of [4, 5, 6, 7]) assert.equal((await typist.reply(c)).err, undefined)
    assert.equal(typist.raw.all("detached").length, 0)
    assert.equal(typist.raw.all("attached").length, 1)
  },
)

/** A state of about `bytes`, of which every byte is checked. */
function filler(bytes: number): string {
  let text = ""
  for (let i = 0; text.length < bytes; i++) text += `${i.toString(36)}.`
  return text.slice(0, bytes)
}

const sizes = [1_024, 262_144, 8_200_000]
for (const bytes of sizes)
  behaviour(`C27 a state of ${bytes} bytes moves, idle and in use`, three, async (world) => {
    const key = "big~bos"
    const alice = world.client("alice")
    const ledger = alice.ledger.get(key)
    const value = filler(bytes)
    await ledger.put([])
    for (let at = 0; at < bytes; at += 900_000) await ledger.append(value.slice(at, at + 900_000))
    // In use: alice stays attached at bos, and calls while the copy is under way.
    const moved = world.seat("bos").pop.move(["ledger", key], "fra")
    await ledger.add("while it moves")
    await within(20_000, "the move", moved)
    assert.equal((await world.seat("fra").record(`ledger/${key}`))?.k, "OWNED")
    await ledger.add("after")
    // Idle: nobody is attached; the next one comes at a third POP.
    await alice.close()
    const bob = world.client("bob", world.seat("nrt"))
    const there = bob.ledger.get(key)
    assert.equal(await there.query.blobHash(), createHash("sha256").update(value).digest("hex"))
    assert.deepEqual(await there.query.ids(), ["while it moves", "after"])
    assert.equal((await world.seat("nrt").record(`ledger/${key}`))?.k, "OWNED")
  })

behaviour(
  "C27 a body past what may be moved is refused with a named error, and the actor stays and serves",
  { pops: [3], limits: { ...patientLimits, snapshotBytesMax: 40_000, tailBytesMax: 20_000, journalBytesMax: 20_000 } },
  async (world) => {
    const key = "stays~bos"
    const bos = world.seat("bos")
    // Replies that its client never acknowledges count to the body, and not to the state.
    const hoarder = await world.session("hoarder")
    await hoarder.attach(["ledger", key])
    for (let c = 1; c <= 5; c++) {
      hoarder.call(c, "echo", filler(20_000))
      await hoarder.reply(c)
    }
    await assert.rejects(bos.pop.move(["ledger", key], "fra"), (error: { code: string; message: string }) => {
      assert.equal(error.code, "SNAPSHOT_TOO_LARGE")
      return /limits\.snapshotBytesMax is 40000/.test(error.message)
    })
    hoarder.call(6, "add", "still here")
    assert.equal((await hoarder.reply(6)).err, undefined)
    assert.equal(hoarder.raw.all("detached").length, 0)
    // Asleep it stays as well.
    await hoarder.raw.close()
    const there = world.client("bob", world.seat("fra")).ledger.get(key)
    await assert.rejects(within(10_000, "a refusal", there.add("never")), { code: "SNAPSHOT_TOO_LARGE" })
    assert.equal((await bos.record(`ledger/${key}`))?.k, "OWNED")
  },
)

behaviour(
  "a copy goes ahead of an actor in use, and what comes after it is all that its seal sends: chunks lost, repeated and overtaken do no harm (C20, C27)",
  {
    pops: [3],
    limits: {
      precopyBytesMin: 10_000,
      chunkBytes: 20_000,
      chunkStallMs: 50,
      resendMs: 5_000,
      resendMsMax: 5_000,
      followQuietMs: 0.001,
    },
  },
  async (world) => {
    const key = "ahead~bos"
    const actor = `ledger/${key}`
    const ledger = world.client("alice").ledger.get(key)
    await ledger.put(filler(200_000))
    const watcher = await world.session("watcher")
    await watcher.attach(["ledger", key], { live: true })
    // The third chunk is lost, the second comes again at the end, the fourth is overtaken by all others.
    let lost = 0
    const heal = world.tap.drop(({ t, head }) => t === "CHUNK" && head["at"] === 2 && lost++ === 0)
    const late = world.tap.catch(({ t, head }) => t === "CHUNK" && head["at"] === 3)
    const announced = world.tap.seen(({ t }) => t === "PRECOPY")
    const granted = world.tap.seen(({ t, actor: of }) => t === "GRANT" && of === actor)
    const moved = world.seat("bos").pop.move(["ledger", key], "fra")
    await within(5_000, "the copy", announced)
    const caught = await within(5_000, "the fourth chunk", late.reached)
    const second = world.tap.notes.find(({ t, head }) => t === "CHUNK" && head["at"] === 1)
    assert.ok(second)
    world.tap.inject("bos", "fra", second.frame)
    // It serves while its copy is under way.
    await ledger.add("during")
    late.pass()
    const { head, frame } = await within(10_000, "the grant", granted)
    await within(10_000, "the move", moved)
    heal()
    assert.equal(typeof head["base"], "string")
    assert.ok(frame.length < 10_000, `the grant has ${frame.length} bytes`)
    assert.ok(lost > 0 && caught.t === "CHUNK")
    // The target had it on its disk before the seal: its install writes none of it.
    const install = world.seat("fra").store.steps.find(({ op, actor: of }) => op === "install" && of === actor)
    assert.equal(typeof (install?.args[2] as Grant).staged, "number")
    await ledger.add("after")
    const reader = world.client("bob", world.seat("fra")).ledger.get(key)
    assert.equal(await reader.query.blob(), filler(200_000))
    assert.deepEqual(await reader.query.ids(), ["during", "after"])
    assert.equal(watcher.raw.all("detached").length, 0)
  },
)

behaviour(
  "a copy goes ahead also to who asked a POP with only a pointer, and asked no further: the owner is pulled from as soon as it is there (C20, C27)",
  { pops: [3], limits: { ...patientLimits, precopyBytesMin: 10_000, followQuietMs: 1 } },
  async (world) => {
    const key = "forwarded~nrt"
    const ledger = world.client("alice").ledger.get(key)
    await ledger.put(filler(50_000))
    await ledger.add("before")
    assert.equal((await world.seat("bos").record(`ledger/${key}`))?.k, "OWNED")
    const granted = world.tap.seen(({ t, to }) => t === "GRANT" && to === "fra")
    // Nobody told fra of bos: it asks the home, which forwards.
    const reader = world.client("bob", world.seat("fra")).ledger.get(key)
    await within(5_000, "a call at fra", reader.add("at fra"))
    const { head } = await within(5_000, "the grant", granted)
    assert.equal(typeof head["base"], "string", "the copy that went ahead is used")
    const ahead = world.tap.notes.filter(({ t, to }) => t === "PRECOPY" && to === "fra")
    assert.equal(ahead.length, 1)
    const pulls = world.tap.notes.filter(({ t, from }) => t === "PULL" && from === "fra")
    assert.deepEqual(
      pulls.map(({ to }) => to),
      ["nrt", "bos"],
    )
    assert.deepEqual(await ledger.query.ids(), ["before", "at fra"])
  },
)

for (const dies of ["bos", "fra"])
  behaviour(
    `C19 a process that dies while a copy is under way (${dies}) loses nothing, and the actor moves when it is back`,
    { pops: [3], limits: { precopyBytesMin: 10_000, chunkBytes: 20_000, chunkWindowBytes: 40_000, moveMsMax: 2_000 } },
    async (world) => {
      const key = "dies~bos"
      const ledger = world.client("alice", world.seat("nrt")).ledger.get(key)
      await ledger.put(filler(200_000))
      const bos = world.seat("bos")
      // It is owned where its client is; the move begins there.
      const owner = world.seat("nrt")
      const to = dies === "bos" ? "bos" : "fra"
      await within(5_000, "it settles", world.tap.read("nrt", "bos"))
      const held = world.tap.catch(({ t, from }) => t === "CHUNK" && from === "nrt")
      const moved = owner.pop.move(["ledger", key], to).catch((error: unknown) => error)
      await within(5_000, "a chunk", held.reached)
      await world.seat(to).crash()
      held.drop()
      await ledger.add("during")
      await world.start(to)
      await within(20_000, "an end of the move", moved)
      await within(20_000, "the second try", owner.pop.move(["ledger", key], to)).catch((error: { code?: string }) => {
        // The first one may have gone through after all.
        assert.equal(error.code, "MOVED")
      })
      await ledger.add("after")
      assert.deepEqual(await ledger.query.ids(), ["during", "after"])
      assert.equal(await ledger.query.blob(), filler(200_000))
      assert.ok(bos.up)
    },
  )
