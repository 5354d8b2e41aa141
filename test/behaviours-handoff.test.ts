// Moves and hints: what a POP asks whom, what it believes, and what a client's hint can and cannot do.
import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer, type AddressInfo } from "node:net"
import { createHmac, hkdfSync } from "node:crypto"
import type { MeshNote } from "@sojourn/testkit"
import { patientLimits } from "./behaviours/limits.ts"
import { settled } from "./behaviours/settled.ts"
import { behaviour, callBody, meshSecret, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** Messages about this actor since the `from`th. */
function notesOf(world: World, actor: string, from = 0): MeshNote[] {
  return world.tap.notes.slice(from).filter((note) => note.actor === actor)
}

function brief(notes: readonly MeshNote[]): string[] {
  return notes.map(({ t, from, to }) => `${t} ${from}>${to}`)
}

/** Calls through this POP with an SDK client of its own, which arrives there and leaves. Returns the ticket that it got. */
async function visit(world: World, at: Seat, key: string, id: string, ticket?: string): Promise<string> {
  const client = world.client("traveller", at)
  if (ticket !== undefined) client.setTickets([{ actor: ledgerOf(key), ticket }])
  const ledger = client.ledger.get(key)
  await within(10_000, `${at.id} serves ${id}`, ledger.add(id))
  const held = ledger.ticket ?? ""
  await client.close()
  await settled(world, `ledger/${key}`)
  return held
}

/** A ticket as any POP of this mesh would sign it, with fields that none would. */
function forge(
  fields: readonly [actor: string, pop: string, epoch: number, revision: number, principal: string],
  secret = meshSecret,
): string {
  const derive = (use: string): string => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url")
  const packed = Buffer.from(JSON.stringify([...fields, "no session", Date.now() + 60_000])).toString("base64url")
  const id = derive("sojourn ticket v1 key id").slice(0, 8)
  const mac = createHmac("sha256", derive("sojourn ticket v1")).update(`${packed}.${id}`).digest("base64url")
  return `${packed}.${id}.${mac}`
}

/** Tells `to`, as advice and falsely, that the actor is at `at`. */
function lie(world: World, actor: string, to: string, at: string, e: number): void {
  const head = { t: "MOVED", actor, nonce: "none", to: at, e, inTransit: false, hops: 0 }
  const json = Buffer.from(JSON.stringify(head))
  const frame = Buffer.alloc(5 + json.length)
  frame[0] = 2
  frame.writeUInt32BE(json.length, 1)
  json.copy(frame, 5)
  world.tap.inject("fra", to, frame)
}

behaviour(
  "C10 a message of a lower epoch than is known is ignored everywhere",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const ids: string[] = []
    for (const pop of ["bos", "fra", "nrt", "bos", "nrt", "fra"]) {
      ids.push(`at ${pop} ${ids.length}`)
      await visit(world, world.seat(pop), key, ids.at(-1) as string)
    }
    const records = async () => Promise.all(world.seats.map((seat) => seat.record(actor)))
    const before = await records()
    assert.deepEqual(
      before.map((record) => record?.k),
      ["PTR", "OWNED", "PTR"],
    )
    const old = notesOf(world, actor).filter(({ t, head }) => t !== "PULL" && (head["e"] as number) < 6)
    for (const t of ["GRANT", "CONFIRM", "HOMEUPD", "MOVED"])
      assert.ok(old.length > 0 && old.some((note) => note.t === t), t)
    // Each message that was ever sent, to each POP as if from each other one, in the order of before and then backwards.
    for (const notes of [old, [...old].reverse()])
      for (const { frame } of notes)
        for (const from of world.seats)
          for (const to of world.seats) if (from !== to) world.tap.inject(from.id, to.id, frame)
    await settled(world, actor)
    assert.deepEqual(await records(), before)
    // While it is resident and being called, too.
    const alice = world.client("alice", world.seat("fra"))
    const ledger = alice.ledger.get(key)
    const calls: Promise<unknown>[] = []
    for (const { frame, to } of old) {
      const from = world.seats.find(({ id }) => id !== to) as Seat
      ids.push(`during ${calls.length}`)
      calls.push(ledger.add(ids.at(-1) as string))
      world.tap.inject(from.id, to, frame)
    }
    await within(10_000, "the calls", Promise.all(calls))
    assert.deepEqual(await ledger.query.ids(), ids)
    await settled(world, actor)
    assert.equal((await world.seat("fra").record(actor))?.k, "OWNED")
  },
)

behaviour(
  "C11 a forward goes to a higher epoch only: a search visits no POP twice, however long the chain of stale pointers",
  { pops: [6], limits: patientLimits },
  async (world) => {
    const key = `chain~bos`
    const actor = `ledger/${key}`
    // Nobody hears where the actor went but who gave it away: each POP points to the next, and home to the second.
    const deaf = world.tap.drop(({ t, to }) => (t === "HOMEUPD" && to === "bos") || t === "MOVED")
    const path = ["bos", "fra", "nrt", "sin", "gru"]
    const tickets: string[] = []
    for (const pop of path) tickets.push(await visit(world, world.seat(pop), key, pop))
    const from = world.tap.notes.length
    // From the sixth, with the oldest hint of all. Home stays deaf until then: updates are sent again until they are heard.
    const last = await visit(world, world.seat("jnb"), key, "jnb", tickets[0])
    deaf()
    assert.ok(last)
    const pulls = notesOf(world, actor, from).filter(({ t }) => t === "PULL")
    assert.deepEqual(
      pulls.map(({ to }) => to),
      path,
    )
    const epochs = pulls.slice(1).map(({ head }) => head["epoch"] as number)
    assert.deepEqual(epochs, [1, 2, 3, 4])
    // Each forwarder's own record, as it then was, is below the epoch that it forwarded with, and above what came to it.
    for (const [i, pull] of pulls.slice(1).entries())
      assert.ok((pull.head["epoch"] as number) > (pulls[i]?.head["epoch"] as number), "strictly up")
    assert.deepEqual(await world.client("x", world.seat("jnb")).ledger.get(key).query.ids(), [...path, "jnb"])
  },
)

behaviour(
  "C11 beliefs that point at each other do not make a search go round",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    await visit(world, world.seat("bos"), key, "a")
    await visit(world, world.seat("fra"), key, "b")
    // bos and nrt each take the other for the owner, at epochs that are far up.
    lie(world, actor, "bos", "nrt", 40)
    lie(world, actor, "nrt", "bos", 41)
    await settled(world, actor)
    for (const pop of ["bos", "nrt", "bos"]) {
      const from = world.tap.notes.length
      await visit(world, world.seat(pop), key, `from ${pop}`)
      const pulls = notesOf(world, actor, from).filter(({ t }) => t === "PULL")
      const steps = pulls.map(({ head, to }) => `${String(head["nonce"])} ${String(head["epoch"])} to ${to}`)
      assert.equal(new Set(steps).size, steps.length, `a PULL went round: ${steps.join(", ")}`)
      assert.ok(pulls.length <= 8, `${pulls.length} pulls`)
    }
    assert.deepEqual(await world.client("x").ledger.get(key).query.ids(), [
      "a",
      "b",
      "from bos",
      "from nrt",
      "from bos",
    ])
  },
)

behaviour(
  "C11 a search sent into a ring of wrong beliefs climbs out of it: each forward is of a higher epoch than the last",
  { pops: [6], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    // Each of them had it: a POP without any record has another guard.
    for (const pop of ["bos", "nrt", "gru"]) await visit(world, world.seat(pop), key, pop)
    lie(world, actor, "bos", "nrt", 40)
    lie(world, actor, "nrt", "bos", 41)
    await settled(world, actor)
    const from = world.tap.notes.length
    // A ticket that sends it there, as if bos had been the owner at epoch 39.
    await visit(world, world.seat("sin"), key, "b", forge([actor, "bos", 39, 0, "traveller"]))
    const pulls = notesOf(world, actor, from).filter(({ t }) => t === "PULL")
    const climbs = new Map<unknown, number[]>()
    for (const { head } of pulls)
      climbs.set(head["nonce"], [...(climbs.get(head["nonce"]) ?? []), head["epoch"] as number])
    assert.ok(
      pulls.some(({ from: a, to }) => a === "bos" && to === "nrt"),
      "the ring was entered",
    )
    for (const epochs of climbs.values())
      assert.deepEqual(
        epochs,
        [...new Set(epochs)].sort((a, b) => a - b),
      )
    assert.ok(pulls.length <= 8, `${pulls.length} pulls`)
    assert.deepEqual(await world.client("x", world.seat("sin")).ledger.get(key).query.ids(), ["bos", "nrt", "gru", "b"])
  },
)

behaviour(
  "C12 a directed move keeps identity, state, revision and session, a hundred times in a row",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const alice = world.client("alice")
    const ledger = alice.ledger.get(key)
    const events: string[] = []
    ledger.on("added", ({ id }) => events.push(id))
    const ids: string[] = []
    const resumes: string[] = []
    ledger.onResume((how) => resumes.push(how))
    let revision = 0
    for (let i = 0; i < 100; i++) {
      const seat = world.seats[i % 3] as Seat
      if (i > 0) await world.travel(alice, seat)
      ids.push(`t${i}`)
      assert.equal((await ledger.add(`t${i}`)).n, i + 1)
      assert.equal(ledger.pop, seat.id)
      const record = await seat.record(actor)
      assert.ok(record?.k === "OWNED", `${seat.id} owns it`)
      assert.equal(record.e, i + 1, "one epoch a move")
      if (i > 0) assert.equal(record.v, revision + 1, "one revision a turn")
      revision = record.v
    }
    const whole = await ledger.query.whole()
    assert.deepEqual(whole, { n: 100, ids, blob: undefined })
    assert.deepEqual(events, ids)
    assert.deepEqual(new Set(resumes), new Set(["new", "replay"]))
    assert.equal(alice.stats.gaps, 0)
    assert.equal(world.probe.ran.filter((one) => one.startsWith("add")).length, 100)
  },
)

behaviour(
  "C12 a session goes on at the next POP: its numbers, its unacknowledged replies and its position move along",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    const at = ["bos", "fra", "nrt", "bos"]
    const first = await world.session("alice", world.seat("bos"))
    await first.attach(ledgerOf(key))
    const replies: unknown[] = []
    for (const [i, pop] of at.entries()) {
      const next = i === 0 ? first : await world.session("alice", world.seat(pop))
      if (i > 0) {
        next.raw.send({
          t: "attach",
          ch: 1,
          actor: ledgerOf(key),
          sid: first.sid,
          acked: 0,
          live: false,
          pos: i + 1,
          calls: Array.from({ length: i }, (_, c) => callBody(c + 1, "add", `t${c}`)),
        })
        const attached = await within(10_000, "the attach", next.raw.find("attached"))
        assert.deepEqual([attached.last, attached.resumed, attached.pop, attached.e], [i, "replay", pop, i + 1])
        for (let c = 1; c <= i; c++) assert.deepEqual((await next.reply(c)).ok?.v, replies[c - 1])
      }
      next.call(i + 1, "add", `t${i}`)
      replies.push((await next.reply(i + 1)).ok?.v)
      next.raw.cut()
    }
    assert.equal(world.probe.ran.filter((one) => one.startsWith("add")).length, at.length)
  },
)

behaviour(
  "C21 with the right ticket there is one fetch, from that POP, and no other is asked or needed before the first reply",
  { pops: [3], limits: patientLimits },
  async (world) => {
    // Home is nrt, the owner bos; nrt is silent, as if it was far away, until the reply is there.
    const key = world.key()
    const actor = `ledger/${key}`
    const ticket = await visit(world, world.seat("bos"), key, "a")
    world.tap.silence("bos", "nrt")
    world.tap.silence("fra", "nrt")
    const from = world.tap.notes.length
    const client = world.client("traveller", world.seat("fra"))
    client.setTickets([{ actor: ledgerOf(key), ticket }])
    const moved = new Promise<{ report: unknown }>((resolve) => client.on("moved", resolve))
    assert.equal((await within(5_000, "the first reply", client.ledger.get(key).add("b"))).n, 2)
    const until = world.tap.notes.length
    const notes = notesOf(world, actor, from)
    assert.deepEqual(
      brief(notes).filter((line) => line.startsWith("PULL") || line.startsWith("GRANT")),
      ["PULL fra>bos", "GRANT bos>fra"],
    )
    // The home is told where the actor is now, which nobody waits for; nothing asks it anything.
    assert.deepEqual(
      brief(world.tap.notes.slice(from, until).filter(({ from: a, to: b }) => a === "nrt" || b === "nrt")).filter(
        (line) => line !== "HOMEUPD fra>nrt",
      ),
      [],
    )
    const { by, hops, early } = (await moved).report as { by: string; hops: number; early: boolean }
    assert.deepEqual([by, hops, early], ["ticket", 1, true])
    world.tap.release("bos", "nrt")
    world.tap.release("fra", "nrt")
    await settled(world, actor)
    assert.deepEqual(await world.seat("nrt").record(actor), { k: "PTR", e: 2, to: "fra" })
  },
)

behaviour(
  "C21 the fetch of a right ticket leaves with the upgrade, and nothing is released before its principal is proved",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const ticket = await visit(world, world.seat("bos"), key, "a")
    const fra = world.seat("fra")
    const arrived = fra.events.until("actor.arrived", actor)
    const raw = await world.raw(fra, { ticket })
    // No hello yet.
    await arrived
    await settled(world, actor)
    assert.deepEqual(raw.frames, [])
    raw.send({ t: "hello", client: "x", token: "traveller" })
    const welcome = await within(5_000, "welcome", raw.find("welcome"))
    assert.deepEqual(
      raw.frames.map(({ t }) => t),
      ["welcome"],
    )
    const from = world.tap.notes.length
    raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: welcome.sessions[0] as string, acked: 0, live: true })
    const attached = await within(5_000, "attached", raw.find("attached"))
    assert.deepEqual((attached.state?.v as { ids: string[] }).ids, ["a"])
    assert.deepEqual(brief(notesOf(world, actor, from)), [])
  },
)

behaviour(
  "C21 a ticket that hello brings is the hint of the attach that hello brings",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    const ticket = await visit(world, world.seat("bos"), key, "a")
    // The home could tell where the actor is, and is silent.
    world.tap.silence("bos", "nrt")
    world.tap.silence("fra", "nrt")
    const { sid } = await world.session("traveller", world.seat("fra"))
    const from = world.tap.notes.length
    const raw = await world.raw(world.seat("fra"))
    raw.send({
      t: "hello",
      client: "x",
      token: "traveller",
      at: [ticket],
      attach: [{ ch: 1, actor: ledgerOf(key), sid, acked: 0, live: true }],
    })
    const attached = await within(5_000, "attached", raw.find("attached"))
    assert.deepEqual((attached.state?.v as { ids: string[] }).ids, ["a"])
    assert.deepEqual(
      brief(notesOf(world, actor, from)).filter((line) => line.startsWith("PULL")),
      ["PULL fra>bos"],
    )
    world.tap.release("bos", "nrt")
    world.tap.release("fra", "nrt")
    await settled(world, actor)
  },
)

for (const waiting of [true, false])
  behaviour(
    `C20 a grant that comes damaged is refused: its owner keeps the actor and sends it again (${waiting ? "a client waits" : "nobody waits"})`,
    { pops: [3] },
    async (world) => {
      const [bos, fra] = world.seats as [Seat, Seat, Seat]
      const key = world.key()
      const actor = `ledger/${key}`
      await visit(world, bos, key, "a")
      const good = world.tap.catch(({ t, actor: id }) => t === "GRANT" && id === actor)
      const moved = waiting
        ? world.client("alice", fra).ledger.get(key).add("b")
        : within(10_000, "the move", bos.pop.move(["ledger", key], "fra"))
      const { frame } = await within(5_000, "the grant", good.reached)
      const damaged = Uint8Array.from(frame)
      damaged[damaged.length - 3] = (damaged.at(-3) as number) ^ 1
      world.tap.inject("bos", "fra", damaged)
      await fra.events.until("grant.refused", actor)
      assert.deepEqual([(await bos.record(actor))?.k, await fra.record(actor)], ["GRANTED", undefined])
      good.drop()
      await moved
      await settled(world, actor)
      assert.deepEqual([(await bos.record(actor))?.k, (await fra.record(actor))?.k], ["PTR", "OWNED"])
      const ids = await world.client("reader", fra).ledger.get(key).query.ids()
      assert.deepEqual(ids, waiting ? ["a", "b"] : ["a"])
    },
  )

behaviour(
  "C22 a stale hint is followed along the pointers, and the chain is shorter for the next one",
  { pops: [6], limits: patientLimits },
  async (world) => {
    const key = `stale~jnb`
    const actor = `ledger/${key}`
    const pulls = (from: number) =>
      notesOf(world, actor, from)
        .filter(({ t }) => t === "PULL")
        .map(({ from: a, to }) => `${a}>${to}`)
    const old = await visit(world, world.seat("bos"), key, "a")
    await visit(world, world.seat("fra"), key, "b")
    await visit(world, world.seat("nrt"), key, "c")
    let from = world.tap.notes.length
    await visit(world, world.seat("sin"), key, "d", old)
    // bos knows fra, which knows nrt. The grant comes straight back.
    assert.deepEqual(pulls(from), ["sin>bos", "bos>fra", "fra>nrt"])
    assert.deepEqual(
      notesOf(world, actor, from)
        .filter(({ t }) => t === "GRANT")
        .map(({ from: a, to }) => `${a}>${to}`),
      ["nrt>sin"],
    )
    from = world.tap.notes.length
    await visit(world, world.seat("gru"), key, "e", old)
    assert.deepEqual(pulls(from), ["gru>bos", "bos>sin"])
    assert.deepEqual(await world.client("x", world.seat("gru")).ledger.get(key).query.ids(), ["a", "b", "c", "d", "e"])
  },
)

behaviour(
  "C22 without a hint an actor is found through its home",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const key = world.key()
    const actor = `ledger/${key}`
    await visit(world, world.seat("bos"), key, "a")
    const from = world.tap.notes.length
    await visit(world, world.seat("fra"), key, "b")
    assert.deepEqual(
      brief(notesOf(world, actor, from)).filter((line) => line.startsWith("PULL") || line.startsWith("GRANT")),
      ["PULL fra>nrt", "PULL nrt>bos", "GRANT bos>fra"],
    )
  },
)

behaviour(
  "C22 a hint that is forged, another's, for another actor, of an unknown POP or a URL is ignored: nothing moves by it, nothing leaks, and the rightful client is served",
  { pops: [3], limits: patientLimits },
  async (world) => {
    const alice = world.client("alice")
    const vault = alice.vault.get("alice~nrt")
    await vault.set("the real secret")
    const actor = "vault/alice~nrt"
    const aliceTicket = vault.ticket as string
    const other = await visit(world, world.seat("bos"), world.key(), "a")
    await settled(world, actor)
    let connections = 0
    const evil = createServer((socket) => {
      connections++
      socket.destroy()
    })
      .listen(0, "127.0.0.1")
      .unref()
    await once(evil, "listening")
    const evilUrl = `ws://127.0.0.1:${(evil.address() as AddressInfo).port}`
    const flipped = aliceTicket.slice(0, -1) + (aliceTicket.endsWith("A") ? "B" : "A")
    const hints: Record<string, { ticket?: string; at?: string }> = {
      garbage: { ticket: "garbage" },
      "one character changed": { ticket: flipped },
      "another mesh's secret": { ticket: forge([actor, "bos", 9, 0, "alice"], "the secret of quite another mesh") },
      "for another actor": { ticket: other },
      "an unknown POP, well signed": { ticket: forge([actor, "atlantis", 9, 0, "mallory"]) },
      "a URL, well signed": { ticket: forge([actor, evilUrl, 9, 0, "mallory"]) },
      "a URL as advice": { at: evilUrl },
      "an unknown POP as advice": { at: "atlantis" },
      "a path as advice": { at: "../bos" },
    }
    const fra = world.seat("fra")
    for (const [name, hint] of Object.entries(hints)) {
      const from = world.tap.notes.length
      const raw = await world.raw(fra, hint)
      raw.send({ t: "hello", client: "x", token: "mallory" })
      const welcome = await within(5_000, name, raw.find("welcome"))
      // Whatever the upgrade made this POP ask for has passed the tap.
      await fra.store.idle()
      await world.tap.read("bos", "fra")
      await world.tap.read("nrt", "fra")
      // By the hint alone nothing of alice's actor moves.
      if (name !== "a URL, well signed" && name !== "an unknown POP, well signed")
        assert.deepEqual(brief(notesOf(world, actor, from)), [], name)
      raw.send({
        t: "attach",
        ch: 1,
        actor: ["vault", "alice~nrt"],
        sid: welcome.sessions[0] as string,
        acked: 0,
        live: true,
        // So that it is still where it was when the next hint comes.
        stay: true,
        calls: [callBody(1, "set", "stolen")],
        queries: [{ q: 1, after: 0, n: "read", p: { v: [] } }],
        ...(hint.ticket === undefined ? {} : { ticket: hint.ticket }),
      })
      const { err } = await within(10_000, name, raw.find("detached"))
      assert.equal(err.code, "FORBIDDEN", name)
      await raw.flushed()
      assert.equal(JSON.stringify(raw.frames).includes("secret"), false, name)
      assert.deepEqual([raw.all("answer"), raw.all("attached"), raw.all("out")], [[], [], []], name)
      raw.cut()
      // A hint that is well signed moves the actor: the end of that is not the next one's.
      await settled(world, actor)
    }
    assert.equal(connections, 0, "nobody dialed a client's URL")
    assert.equal(world.probe.ran.includes("set mallory"), false)
    const ignored = fra.events.of("ticket.ignored", actor).length
    // Alice's own ticket in mallory's hands may at most bring the actor near; nothing of it is released.
    const raw = await world.raw(world.seat("fra"), { ticket: aliceTicket })
    raw.send({ t: "hello", client: "x", token: "mallory", at: [aliceTicket] })
    const welcome = await within(5_000, "welcome", raw.find("welcome"))
    raw.send({
      t: "attach",
      ch: 1,
      actor: ["vault", "alice~nrt"],
      sid: welcome.sessions[0] as string,
      acked: 0,
      live: false,
      ticket: aliceTicket,
      queries: [{ q: 1, after: 0, n: "read", p: { v: [] } }],
    })
    const answer = await within(10_000, "the refusal", raw.find("answer"))
    assert.equal(answer.err?.code, "FORBIDDEN")
    assert.equal(JSON.stringify(raw.frames).includes("real secret"), false)
    assert.equal(fra.events.of("ticket.ignored", actor).length, ignored + 1, "and it is in the log")
    assert.equal(await within(10_000, "alice is served", vault.query.read()), "the real secret")
    evil.close()
    await once(evil, "close")
  },
)

behaviour(
  "C22 a session id of another principal is refused and its replies stay with their owner",
  {},
  async (world) => {
    const key = world.key()
    const alice = await world.session("alice")
    await alice.attach(ledgerOf(key))
    alice.call(1, "add", "hers")
    await alice.reply(1)
    const mallory = await world.session("mallory")
    mallory.raw.send({
      t: "attach",
      ch: 1,
      actor: ledgerOf(key),
      sid: alice.sid,
      acked: 0,
      live: false,
      calls: [callBody(1, "add", "hers")],
    })
    assert.equal((await mallory.detached()).err.code, "SESSION_UNKNOWN")
    await mallory.raw.flushed()
    assert.deepEqual(mallory.raw.all("reply"), [])
    alice.call(2, "add", "still hers")
    assert.equal(((await alice.reply(2)).ok?.v as { n: number }).n, 2)
  },
)

for (const how of ["dead", "silent"] as const)
  behaviour(
    `C23 when the hinted POP is ${how} the wait is bounded, the error named and retryable, and there is never an empty actor`,
    { pops: [3] },
    async (world) => {
      const key = world.key()
      const actor = `ledger/${key}`
      const bos = world.seat("bos")
      const fra = world.seat("fra")
      const ticket = await visit(world, bos, key, "a")
      if (how === "dead") await bos.crash()
      else for (const other of ["fra", "nrt"]) world.tap.silence("bos", other)
      const raw = await world.session("traveller", fra)
      const begun = performance.now()
      raw.sendAttach(ledgerOf(key), { ticket, live: true, calls: [callBody(1, "add", "b")] })
      const { err } = await raw.detached()
      const took = performance.now() - begun
      assert.ok(["POP_UNREACHABLE", "NOT_FOUND_YET"].includes(err.code), err.code)
      assert.deepEqual([err.retry, err.outcome], ["later", "not-executed"])
      // locateMsMax of this world, and what a busy machine adds.
      assert.ok(took < 1_500 + 2_000, `${took} ms`)
      assert.deepEqual(raw.raw.all("attached"), [])
      // A client whose patience ends is told so, with the reason.
      const client = world.client("traveller", fra)
      client.setTickets([{ actor: ledgerOf(key), ticket }])
      await assert.rejects(client.ledger.get(key).with({ timeoutMs: 1_000 }).add("late"), (error: unknown) => {
        const { code, cause } = error as { code: string; cause?: { code: string } }
        assert.ok(["CALL_TIMEOUT", "CALL_NOT_SENT"].includes(code), code)
        assert.ok(cause === undefined || ["POP_UNREACHABLE", "NOT_FOUND_YET"].includes(cause.code), cause?.code)
        return true
      })
      for (const seat of [fra, world.seat("nrt")]) assert.notEqual((await seat.record(actor))?.k, "OWNED", seat.id)
      // Back again, it is the actor that it was.
      const healed = client.ledger.get(key).add("c")
      if (how === "dead") await world.start("bos")
      else for (const other of ["fra", "nrt"]) world.tap.release("bos", other)
      const { n } = await within(15_000, "healed", healed)
      const ids = await client.ledger.get(key).query.ids()
      assert.deepEqual(
        ids.filter((id) => id === "a" || id === "c"),
        ["a", "c"],
      )
      assert.equal(n, ids.length)
    },
  )
