// One turn, from the call to the disk and back: loading, output gate, group commit, rollback, sleep, compaction.
import assert from "node:assert/strict"
import { SojournError } from "@sojourn/protocol"
import { patientLimits } from "./behaviours/limits.ts"
import { asleep } from "./behaviours/settled.ts"
import { behaviour, callBody, within, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** An actor that has `ids`, owned by `here` and resident there. */
async function grown(world: World, ids: readonly string[], key = world.key()): Promise<string> {
  const first = world.client("founder")
  for (const id of ids) await first.ledger.get(key).add(id)
  await first.close()
  return key
}

behaviour(
  "C1 no call reaches user code before the actor is loaded, and first callers at once cause one load",
  {},
  async (world) => {
    const key = await grown(world, ["a", "b"])
    const actor = `ledger/${key}`
    const { here, probe } = world
    await here.crash()
    await world.start(here.id)
    probe.ran.length = 0
    const load = here.store.hold({ op: "load", actor, at: "after" })
    const clients = Array.from({ length: 5 }, (_, i) => world.client(`user${i}`))
    const calls = clients.flatMap((client, i) => [
      client.ledger.get(key).add(`c${i}`),
      client.ledger.get(key).add(`d${i}`),
    ])
    const asked = clients.map((client) => client.ledger.get(key).query.ids())
    const fromServer = here.pop.actors.ledger.get(key).add("server")
    await within(5_000, "the load begins", load.reached)
    const barrier = await world.session("barrier")
    await barrier.raw.flushed()
    assert.deepEqual(probe.ran, [])
    load.pass()
    const replies = await Promise.all([...calls, fromServer])
    assert.deepEqual(
      replies.map(({ n }) => n).sort((a, b) => a - b),
      Array.from({ length: 11 }, (_, i) => i + 3),
    )
    for (const ids of await Promise.all(asked)) assert.deepEqual(ids.slice(0, 2), ["a", "b"])
    assert.deepEqual([here.store.count("load", actor), here.store.count("claim", actor)], [1, 1])
    assert.equal(probe.ran.filter((one: string) => one.startsWith("add")).length, 11)
  },
)

behaviour(
  "C1 first callers at once of an actor that is elsewhere cause one fetch and one install",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const fra = world.seat("fra")
    world.probe.ran.length = 0
    const grant = world.tap.catch(({ t, to }) => t === "GRANT" && to === "fra")
    const clients = Array.from({ length: 5 }, (_, i) => world.client(`user${i}`, fra))
    const calls = clients.map((client, i) => client.ledger.get(key).add(`c${i}`))
    await within(5_000, "the grant comes", grant.reached)
    const barrier = await world.session("barrier", fra)
    await barrier.raw.flushed()
    assert.deepEqual(world.probe.ran, [])
    grant.pass()
    const replies = await Promise.all(calls)
    assert.deepEqual(replies.map(({ n }) => n).sort(), [2, 3, 4, 5, 6])
    assert.equal(fra.store.count("install", actor), 1)
    assert.equal(world.tap.notes.filter(({ t, to }) => t === "GRANT" && to === "fra").length, 1)
  },
)

behaviour(
  "C2 a failed load fails the callers with that error, and the next call tries again from scratch",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here } = world
    await here.crash()
    await world.start(here.id)
    const load = here.store.hold({ op: "load", actor, at: "before" })
    const alice = world.client("alice").ledger.get(key)
    const calls: Promise<unknown>[] = [alice.add("never"), alice.query.ids()]
    await within(5_000, "the load begins", load.reached)
    calls.push(here.pop.actors.ledger.get(key).add("never"))
    const settled = Promise.allSettled(calls)
    load.fail(new SojournError("CORRUPT_RECORD", "the record is damaged"))
    for (const one of await within(5_000, "the callers fail", settled)) {
      assert.equal(one.status, "rejected")
      assert.equal(one.reason.code, "CORRUPT_RECORD")
      assert.equal(one.reason.outcome, "not-executed")
    }
    assert.deepEqual(await alice.query.ids(), ["a"])
    assert.equal((await alice.add("b")).n, 2)
    assert.deepEqual([here.store.count("load", actor), here.store.count("claim", actor)], [2, 1])
    assert.equal(world.probe.ran.includes("add never"), false)
  },
)

behaviour(
  "C2 a load that fails for a passing reason is named to the caller, and tells nothing of the machine",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const { here } = world
    await here.crash()
    await world.start(here.id)
    const load = here.store.hold({ op: "load", at: "before" })
    const alice = await world.session("alice")
    alice.sendAttach(ledgerOf(key))
    await within(5_000, "the load begins", load.reached)
    load.fail(new Error("EIO: /var/lib/private/data.mdb"))
    const { err } = await alice.detached()
    assert.deepEqual([err.code, err.retry], ["STORE_UNAVAILABLE", "later"])
    assert.equal(JSON.stringify(alice.raw.frames).includes("private"), false)
    assert.ok(
      here.events.all.some(({ error }) => String((error as Error | undefined)?.cause ?? error).includes("data.mdb")),
      "the log has the cause",
    )
    assert.equal((await world.client("bob").ledger.get(key).add("b")).n, 2)
  },
)

behaviour(
  "C2 a class whose first state throws fails its callers masked, and the next call tries again",
  {},
  async (world) => {
    const key = world.key()
    world.probe.onState = () => {
      throw new Error("password=hunter2")
    }
    const alice = await world.session("alice", world.home)
    alice.sendAttach(ledgerOf(key), { calls: [callBody(1, "add", "a")] })
    const { err } = await alice.detached()
    assert.equal(err.code, "INTERNAL")
    assert.equal(JSON.stringify(alice.raw.frames).includes("hunter2"), false)
    const logged = world.home.events.all.find(({ ref }) => ref === err.ref && ref !== undefined)
    assert.match(String(logged?.["error"]), /hunter2/)
    world.probe.onState = undefined
    assert.equal((await world.client("bob").ledger.get(key).add("b")).n, 1)
  },
)

behaviour(
  "an actor is woken, or comes into being, by one write, which its first call goes along with",
  {},
  async (world) => {
    const { here } = world
    const key = await grown(world, ["a"])
    await here.crash()
    await world.start(here.id)
    for (const [one, seat] of [
      [key, here],
      [world.key(), world.home],
    ] as const) {
      const alice = await world.session("alice", seat)
      alice.sendAttach(ledgerOf(one), { calls: [callBody(1, "add", "b")] })
      await within(5_000, "the reply", alice.raw.find("reply"))
      const of = (op: "claim" | "commit"): number => seat.store.count(op, `ledger/${one}`)
      assert.deepEqual([of("claim"), of("commit")], [1, 0])
    }
  },
)

behaviour(
  "C35 an activation whose actor another one claims between its load and its own claim sends nothing; its call is applied once, by the next",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here } = world
    await here.crash()
    await world.start(here.id)
    const claim = here.store.hold({ op: "claim", actor, at: "before" })
    const call = world.client("alice").ledger.get(key).add("b")
    await within(5_000, "the claim begins", claim.reached)
    // As another process of this POP would.
    assert.equal((await here.store.inner.claim(actor, true)).kind, "claimed")
    claim.pass()
    assert.equal((await call).n, 2)
    assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), ["a", "b"])
    assert.equal(here.store.count("claim", actor), 2)
  },
)

behaviour(
  "C31 no reply, event, state update, query answer or attach leaves before the write that it shows is flushed",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here } = world
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key), { live: true })
    const bob = await world.session("bob")
    await bob.attach(ledgerOf(key))
    const sessions = [alice, bob]
    if (world.seats.length > 1) {
      // Served by relay: what goes through the mesh is held back too.
      const dave = await world.session("dave", world.seat("fra"))
      const { pop } = await dave.attach(ledgerOf(key), { live: true, stay: true })
      assert.equal(pop, "bos")
      sessions.push(dave)
    }
    const flush = here.holdFlush()
    const begun = here.store.begun("commit", actor)
    bob.call(1, "add", "b")
    bob.query(1, "ids", 1)
    await within(5_000, "the write begins", begun)
    const carol = await world.session("carol")
    carol.sendAttach(ledgerOf(key), { live: true })
    sessions.push(carol)
    const server = here.pop.actors.ledger.get(key).add("server")
    let serverTold = false
    void server.then(() => (serverTold = true))
    for (const { raw } of sessions) await raw.flushed()
    assert.ok(world.probe.ran.includes("add b"), "the turn has run")
    for (const { raw } of [alice, bob]) {
      assert.deepEqual(raw.all("out"), [])
      assert.deepEqual(raw.all("reply"), [])
      assert.deepEqual(raw.all("answer"), [])
    }
    assert.deepEqual(sessions[2]?.raw.all("out"), [])
    assert.deepEqual(carol.raw.all("attached"), [])
    assert.equal(serverTold, false)
    flush.release()
    assert.deepEqual((await bob.reply(1)).ok?.v, world.probe.returned.at(1))
    const answer = await within(5_000, "the answer", bob.raw.find("answer"))
    assert.deepEqual((answer.ok?.v as string[]).slice(0, 2), ["a", "b"])
    const out = await within(5_000, "the event", alice.raw.find("out"))
    assert.deepEqual(out.ev?.[0]?.[1].v, { id: "b", n: 2 })
    assert.ok(out.pt)
    const attached = await within(5_000, "the attach", carol.raw.find("attached"))
    assert.deepEqual((attached.state?.v as { ids: string[] }).ids.slice(0, 2), ["a", "b"])
    assert.equal((await server).n, 3)
  },
)

behaviour(
  "C31 no grant leaves before its seal is flushed, and no confirm or reply before the install is",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here, tap } = world
    const fra = world.seat("fra")
    const about = (t: string) => tap.notes.filter((note) => note.t === t && note.actor === actor && note.to !== "bos")
    await here.store.idle()
    const seal = here.holdFlush()
    const sealing = here.store.begun("pull", actor)
    const call = world.client("alice", fra).ledger.get(key).add("b")
    await within(5_000, "the seal begins", sealing)
    for (const side of ["bos", "fra"]) {
      await tap.read("nrt", side)
      await tap.read(side === "bos" ? "fra" : "bos", side)
    }
    assert.deepEqual(about("GRANT"), [])
    const install = fra.holdFlush()
    const installing = fra.store.begun("install", actor)
    seal.release()
    await within(5_000, "the install begins", installing)
    assert.equal(about("GRANT").length, 1)
    let told = false
    void call.then(() => (told = true))
    const barrier = await world.session("barrier", fra)
    await barrier.raw.flushed()
    await tap.read("bos", "fra")
    const confirms = () => tap.notes.filter((note) => note.t === "CONFIRM" && note.from === "fra")
    assert.deepEqual(confirms(), [])
    assert.equal(tap.notes.filter((note) => note.t === "HOMEUPD" && note.from === "fra").length, 0)
    assert.equal(told, false)
    install.release()
    assert.equal((await call).n, 2)
    assert.equal(confirms().length, 1)
  },
)

behaviour(
  "C32 a failing write discards what its turn held back, fails the caller, and the next call sees the last durable state",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here } = world
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key), { live: true })
    const bob = await world.session("bob")
    await bob.attach(ledgerOf(key))
    const write = here.store.hold({ op: "commit", actor, at: "before" })
    bob.call(1, "add", "b")
    await within(5_000, "the write begins", write.reached)
    write.fail(new Error("EIO: the disk is on fire"))
    const { err } = await bob.detached()
    assert.deepEqual([err.code, err.outcome], ["UNKNOWN_OUTCOME", "unknown"])
    await alice.detached()
    await here.events.until("activation.dropped", actor)
    const carol = await world.session("carol")
    const { state, r } = await carol.attach(ledgerOf(key), { live: true })
    assert.deepEqual((state?.v as { ids: string[] }).ids, ["a"])
    assert.deepEqual(bob.raw.all("reply"), [])
    assert.deepEqual(alice.raw.all("out"), [])
    // The caller's resumed session sends it again: it was not applied, so it runs now.
    const again = await world.session("bob")
    const resumed = { raw: again.raw, sid: bob.sid }
    again.raw.send({
      t: "attach",
      ch: 1,
      actor: ledgerOf(key),
      sid: resumed.sid,
      acked: 0,
      live: false,
      calls: [callBody(1, "add", "b")],
    })
    assert.equal(((await again.reply(1)).ok?.v as { n: number }).n, 2)
    assert.equal((await again.reply(1)).r, r + 1)
  },
)

behaviour(
  "C32 a write that fails after it took effect is found by claiming anew: its call is answered, not run again",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here, probe } = world
    const alice = world.client("alice").ledger.get(key)
    await alice.ready()
    const claims = here.store.count("claim", actor)
    const write = here.store.hold({ op: "commit", actor, at: "after" })
    const call = alice.add("b")
    await within(5_000, "the write begins", write.reached)
    write.fail(new Error("the connection to the disk was lost"))
    assert.deepEqual(await call, probe.returned.at(-1))
    assert.deepEqual(await alice.query.ids(), ["a", "b"])
    assert.equal(probe.ran.filter((one) => one === "add b").length, 1)
    assert.equal(here.store.count("claim", actor), claims + 1)
  },
)

behaviour("C32 a flush that fails is survived: every call is applied once", {}, async (world) => {
  const key = await grown(world, ["a"])
  const actor = `ledger/${key}`
  const { here } = world
  const alice = world.client("alice").ledger.get(key)
  await alice.ready()
  const events: string[] = []
  alice.on("added", ({ id }) => events.push(id))
  await here.store.idle()
  const flush = here.holdFlush()
  const begun = here.store.begun("commit", actor)
  const calls = ["b", "c", "d"].map((id) => alice.add(id))
  await within(5_000, "the write begins", begun)
  flush.fail(new Error("EIO"))
  await Promise.all(calls)
  assert.deepEqual(await alice.query.ids(), ["a", "b", "c", "d"])
  assert.deepEqual(events, ["b", "c", "d"])
})

behaviour(
  "C33 turns that end while a write is under way share the next one, and a reply waits for its own write only",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here, probe } = world
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key))
    const writesBefore = here.store.writes(actor).length
    const first = here.store.hold({ op: "commit", actor, at: "before" })
    alice.call(1, "add", "c1")
    await within(5_000, "the first write begins", first.reached)
    for (let c = 2; c <= 10; c++) alice.call(c, "add", `c${c}`)
    await alice.raw.flushed()
    assert.equal(probe.ran.at(-1), "add c10")
    assert.deepEqual(alice.raw.all("reply"), [])
    const second = here.store.hold({ op: "commit", actor, at: "before" })
    first.pass()
    await within(5_000, "the second write begins", second.reached)
    await alice.reply(1)
    await alice.raw.flushed()
    assert.deepEqual(
      alice.raw.all("reply").map(({ c }) => c),
      [1],
    )
    second.pass()
    await alice.reply(10)
    assert.deepEqual(
      alice.raw.all("reply").map(({ c }) => c),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    )
    assert.deepEqual(here.store.writes(actor).slice(writesBefore), [1, 9])
  },
)

behaviour(
  "C33 what one turn writes is atomic: after a crash before its write is done there is all of it or nothing",
  {},
  async (world) => {
    const { here } = world
    for (const at of ["before", "after"] as const) {
      const key = await grown(world, ["a"])
      const actor = `ledger/${key}`
      const alice = await world.session("alice")
      await alice.attach(ledgerOf(key))
      const write = here.store.hold({ op: "commit", actor, at })
      alice.call(1, "add", "b")
      await within(5_000, "the write begins", write.reached)
      await here.crash()
      await world.start(here.id)
      const bob = await world.session("alice")
      bob.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: alice.sid, acked: 0, live: true, pos: 0 })
      const { state, last, r } = await within(10_000, "the attach", bob.raw.find("attached"))
      // Revisions: 1 the initial state, 2 the add of a.
      const done = at === "after"
      assert.deepEqual([last, r], done ? [1, 3] : [0, 2], `${at}: dedupe record and revision`)
      const ids = done ? ["a", "b"] : ["a"]
      if (state) assert.deepEqual(state.v, { n: ids.length, ids, blob: undefined })
      const whole = await world.client("carol").ledger.get(key).query.whole()
      assert.deepEqual([whole.n, whole.ids], [ids.length, ids], at)
    }
  },
)

behaviour(
  "C35 a stale epoch or fence is refused on write, check and compaction, and changes nothing",
  { pops: [1] },
  async (world) => {
    const { inner: store } = world.here.store
    const write = { entries: [new Uint8Array([1])], h: "h1" }
    const actor = "ledger/stale~bos"
    assert.equal((await store.claim(actor, true)).kind, "claimed")
    assert.equal((await store.commit(actor, { e: 0, f: 1, v: 0 }, write)).kind, "committed")
    await store.claim(actor, true)
    const stale = async (fence: { e: number; f: number }, why: string): Promise<void> => {
      const before = await store.load(actor)
      for (const v of [0, 1, 2])
        assert.equal((await store.commit(actor, { ...fence, v }, { ...write, h: "late" })).kind, "fenced", why)
      assert.equal(await store.check(actor, fence), false, why)
      assert.equal(await store.compact(actor, fence, new Uint8Array([9]), 1), false, why)
      assert.deepEqual(await store.load(actor), before, why)
    }
    await stale({ e: 0, f: 1 }, "an earlier activation")
    await stale({ e: 1, f: 2 }, "an epoch that was never")
    assert.equal((await store.commit(actor, { e: 0, f: 2, v: 1 }, { ...write, h: "h2" })).kind, "committed")
    assert.equal((await store.pull(actor, true, "fra")).kind, "grant")
    await stale({ e: 0, f: 2 }, "sealed")
    await store.confirm(actor, "fra", 1)
    await stale({ e: 0, f: 2 }, "given away")
    const body = { snapshot: new Uint8Array([7]), entries: [] }
    assert.equal((await store.install(actor, true, { e: 2, v: 2, h: "h2", body }, undefined)).kind, "installed")
    await stale({ e: 0, f: 2 }, "come back at a higher epoch")
    assert.equal((await store.install(actor, true, { e: 2, v: 2, h: "x", body }, undefined)).kind, "ignored")
    assert.equal((await store.install(actor, true, { e: 1, v: 9, h: "x", body }, undefined)).kind, "ignored")
  },
)

behaviour(
  "C35 an activation that another has fenced cannot write or answer; its calls are applied once by the other",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here, probe } = world
    const watcher = await world.session("watcher")
    await watcher.attach(ledgerOf(key))
    const alice = world.client("alice").ledger.get(key)
    await alice.ready()
    // Behind this POP's back, as a second process on the same store would.
    assert.equal((await here.store.inner.claim(actor, here === world.home)).kind, "claimed")
    const { n } = await alice.add("b")
    assert.equal(n, 2)
    assert.equal((await here.events.until("activation.dropped", actor)).type, "activation.dropped")
    assert.equal(((await here.events.until("activation.dropped", actor))["error"] as SojournError).code, "FENCED")
    // The first execution's write was refused, and what it held back never left.
    assert.equal(probe.ran.filter((one) => one === "add b").length, 2)
    assert.deepEqual(watcher.raw.all("out"), [])
    assert.deepEqual(await alice.query.ids(), ["a", "b"])
    // A query of a fenced activation does not leave either.
    await here.store.inner.claim(actor, here === world.home)
    const drops = here.events.of("activation.dropped", actor).length
    assert.deepEqual(await alice.query.ids(), ["a", "b"])
    assert.equal(here.events.of("activation.dropped", actor).length, drops + 1)
  },
)

behaviour(
  "a turn that throws rolls back; the author's error crosses whole, any other masked with an id found in the log (C53)",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const watcher = await world.session("watcher")
    await watcher.attach(ledgerOf(key), { live: true })
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key))
    alice.call(1, "refuse")
    alice.call(2, "boom")
    alice.call(3, "add", "b")
    const refused = (await alice.reply(1)).err
    assert.deepEqual(
      [refused?.code, refused?.ref, refused?.message, refused?.data],
      ["ACTOR_ERROR", "out-of-stock", "nothing is left", { left: 0 }],
    )
    const masked = (await alice.reply(2)).err
    assert.equal(masked?.code, "INTERNAL")
    assert.match(masked?.message ?? "", new RegExp(masked?.ref ?? "no ref"))
    const threw = world.here.events.of("turn.threw").find(({ ref }) => ref === masked?.ref)
    assert.match(String(threw?.["error"]), /hunter2/)
    assert.equal(((await alice.reply(3)).ok?.v as { n: number }).n, 2)
    const out = await within(5_000, "the one event", watcher.raw.find("out"))
    await watcher.raw.flushed()
    assert.deepEqual(
      watcher.raw.all("out").map(({ ev }) => ev?.[0]?.[1].v),
      [{ id: "b", n: 2 }],
    )
    assert.equal(out.r, (await alice.reply(3)).r)
    for (const { raw } of [alice, watcher]) assert.doesNotMatch(JSON.stringify(raw.frames), /hunter2|at .*\.ts/)
    // Refusals used their numbers up: sent again, they get the same answers, and nothing runs.
    const again = await world.session("alice")
    again.raw.send({
      t: "attach",
      ch: 1,
      actor: ledgerOf(key),
      sid: alice.sid,
      acked: 0,
      live: false,
      calls: [callBody(1, "refuse"), callBody(2, "boom")],
    })
    assert.deepEqual((await again.reply(1)).err, refused)
    assert.deepEqual((await again.reply(2)).err, masked)
    assert.equal(world.here.events.of("turn.threw").length, 1)
  },
)

behaviour(
  "live state and events reach every attached client in order, each turn's events before its state",
  {},
  async (world) => {
    const key = await grown(world, ["a"])
    const at = world.seats.length > 1 ? [world.here, world.here, world.seat("fra")] : [world.here, world.here]
    const seen = at.map((seat, i) => {
      const ledger = world.client(`user${i}`, seat).ledger.get(key)
      const log: string[] = []
      const full = Promise.withResolvers<void>()
      ledger.on("added", ({ id }) => log.push(`event ${id}`))
      ledger.state.subscribe(({ ids }) => {
        log.push(`state ${ids.at(-1) ?? ""}`)
        if (ids.length === 11) full.resolve()
      })
      return { ledger, log, full: full.promise }
    })
    await Promise.all(seen.map(({ ledger }) => ledger.ready()))
    for (let i = 0; i < 10; i++) await seen[i % seen.length]?.ledger.add(`t${i}`)
    await within(10_000, "everyone sees everything", Promise.all(seen.map(({ full }) => full)))
    const expected = Array.from({ length: 10 }, (_, i) => [`event t${i}`, `state t${i}`]).flat()
    for (const { ledger, log } of seen) {
      // A client whose socket moved the actor attaches twice; each attach shows the state as it then is.
      assert.deepEqual(
        log.filter((line, i) => line.startsWith("event") || log[i - 1]?.startsWith("event")),
        expected,
      )
      for (let i = 0; i < 10; i++)
        assert.ok(log.indexOf(`event t${i}`) < log.indexOf(`state t${i}`), `t${i}: its event before its state`)
      assert.deepEqual(ledger.state.get(), await ledger.query.whole())
    }
  },
)

behaviour(
  "an idle actor sleeps while its clients stay attached, and wakes on the next call; nobody misses anything",
  { limits: { idleMs: 30 } },
  async (world) => {
    const key = await grown(world, ["a"])
    const actor = `ledger/${key}`
    const { here } = world
    const watcher = await world.session("watcher")
    const { r } = await watcher.attach(ledgerOf(key), { live: true })
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key))
    let position = r
    for (let c = 1; c <= 3; c++) {
      await asleep(here, actor)
      const woken = here.events.of("actor.activated", actor).length
      alice.call(c, "add", `c${c}`)
      const reply = await alice.reply(c)
      assert.equal((reply.ok?.v as { n: number }).n, c + 1)
      const out = await within(
        5_000,
        "the event",
        watcher.raw.find("out", (frame) => frame.r === reply.r),
      )
      assert.equal(out.prev, position)
      position = out.r
      assert.equal(here.events.of("actor.activated", actor).length, woken + 1)
    }
    for (const { raw } of [watcher, alice]) {
      assert.deepEqual(raw.all("detached"), [])
      assert.deepEqual(raw.all("moved"), [])
    }
  },
)

behaviour(
  "the journal is compacted into a snapshot past its limit; a crash around a compaction loses nothing",
  { limits: { journalEntriesMax: 8 } },
  async (world) => {
    const { here } = world
    const key = await grown(world, [])
    const actor = `ledger/${key}`
    const expected: string[] = []
    for (const crashAt of [undefined, "before", "after"] as const) {
      const alice = world.client("alice")
      const ledger = alice.ledger.get(key)
      const compact = crashAt && here.store.hold({ op: "compact", actor, at: crashAt })
      const ids = Array.from({ length: 12 }, (_, i) => `${String(crashAt)}${i}`)
      const calls = Promise.all(ids.map((id) => ledger.add(id)))
      expected.push(...ids)
      if (compact) {
        await within(5_000, "the compaction begins", compact.reached)
        await here.crash()
        await world.start(here.id)
      }
      await within(10_000, "the calls", calls)
      assert.deepEqual(await ledger.query.ids(), expected)
      await alice.close()
      await here.store.idle()
      const stored = await here.store.inner.load(actor)
      assert.ok((stored?.body.entries.length ?? 99) <= 12, "the journal is short")
      assert.ok(stored?.body.snapshot, "there is a snapshot")
    }
    await here.crash()
    await world.start(here.id)
    assert.deepEqual(await world.client("bob").ledger.get(key).query.ids(), expected)
  },
)
