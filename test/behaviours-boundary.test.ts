// What comes in at the boundary: bytes that rotted, frames that are none, pages and tokens that are not to be let through, sockets that
// nobody knows to be dead.
import assert from "node:assert/strict"
import { CLOSE_CODES, frameLimits, type SojournError } from "@sojourn/protocol"
import { connectRaw } from "@sojourn/testkit"
import { behaviour, callBody, Session, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** A snapshot in Sojourn's format whose checksum is of other bytes: a bit in it has changed, and it reads as quite another state. */
function rotten(r: number): Uint8Array {
  const text = JSON.stringify({ r, st: { v: { n: 700, ids: ["never"] } }, se: [], tail: [], po: [] })
  return Buffer.concat([Uint8Array.of(0x53, 1, 2, 0, 1, 2, 3, 4), Buffer.from(text)])
}

behaviour(
  "an actor whose stored state is corrupt fails with a named error, its bytes are left untouched, and other actors are served (C37)",
  {},
  async (world) => {
    const { here } = world
    const [bad, good] = [`bad~${here.id}`, `good~${here.id}`]
    const actor = `ledger/${bad}`
    const before = world.client("before")
    for (const key of [bad, good]) await before.ledger.get(key).add("a")
    await before.close()
    await here.crash()
    await world.start(here.id)
    // Through the store's own operation, so that the store itself has nothing to complain of.
    const { inner } = here.store
    const record = await inner.peek(actor)
    assert.ok(record?.k === "OWNED")
    assert.ok(await inner.compact(actor, { e: record.e, f: record.f }, rotten(record.v), record.v))
    const bytes = async () => (await inner.load(actor))?.body
    const kept = await bytes()
    const writes = (): number =>
      (["commit", "compact", "install", "confirm"] as const).reduce((sum, op) => sum + here.store.count(op, actor), 0)
    const written = writes()
    const alice = world.client("alice")
    for (let i = 0; i < 2; i++) {
      const asked: Promise<unknown> = i === 0 ? alice.ledger.get(bad).add("b") : alice.ledger.get(bad).query.ids()
      await assert.rejects(
        within(10_000, "the refusal", asked),
        (error: SojournError) =>
          error.code === "CORRUPT_RECORD" && error.retry === "never" && error.outcome === "not-executed",
      )
    }
    assert.equal((await within(10_000, "the other actor", alice.ledger.get(good).add("b"))).n, 2)
    assert.deepEqual(await bytes(), kept)
    assert.equal(writes(), written, "nothing was written to it")
    // The same after a restart.
    await here.crash()
    await world.start(here.id)
    await assert.rejects(
      within(10_000, "the refusal", world.client("bob").ledger.get(bad).add("c")),
      (error: SojournError) => error.code === "CORRUPT_RECORD",
    )
    assert.deepEqual((await here.store.inner.load(actor))?.body, kept)
    assert.deepEqual(await world.client("bob").ledger.get(good).query.ids(), ["a", "b"])
  },
)

behaviour(
  "a client that comes back before its old socket is known to be dead evicts the old attach: no call is lost or applied twice, no output is missed (C59)",
  {},
  async (world) => {
    const key = `half~${world.here.id}`
    const watcher = await world.session("watcher")
    await watcher.attach(ledgerOf(key))
    const old = await world.session("alice")
    await old.attach(ledgerOf(key))
    old.call(1, "add", "a")
    const first = await old.reply(1)
    // The old socket stands, as far as anyone knows. The client is back on another, at this POP and then at each other one.
    let newest = old
    let pos = first.r
    let c = 1
    for (const at of [world.here, ...world.seats]) {
      const next = await world.session("alice", at)
      // Under the session that it has, its last call sent again.
      const again = new Session(next.raw, old.sid)
      again.sendAttach(ledgerOf(key), {
        pos,
        stay: true,
        calls: [callBody(c, "add", "a"), callBody(c + 1, "add", `at ${at.id} ${c}`)],
      })
      const attached = await within(10_000, "the attach", again.raw.find("attached"))
      assert.deepEqual([attached.resumed, attached.last], ["replay", c])
      c++
      const reply = await again.reply(c)
      assert.equal((reply.ok?.v as { n: number }).n, c)
      // The older one is told, once, and hears nothing more of the actor.
      await within(5_000, "the eviction", newest.raw.find("detached"))
      const heard = newest.raw.frames.length
      // What it still had to say comes to nothing.
      newest.call(c + 1, "add", "from the dead")
      await newest.raw.flushed()
      assert.deepEqual(
        newest.raw.frames.slice(heard).filter(({ t }) => t !== "pong"),
        [],
      )
      newest = again
      pos = reply.r
    }
    const turns = c
    const last = await within(
      5_000,
      "the last output",
      watcher.raw.find("out", ({ r }) => r === pos),
    )
    const outs = watcher.raw.all("out")
    assert.equal(outs.length, turns, "one output a call, and none about who came and went")
    for (const [i, out] of outs.entries()) if (i > 0) assert.equal(out.prev, outs[i - 1]?.r)
    assert.equal(last.r, pos)
    assert.equal(world.probe.ran.filter((what) => what.startsWith("add")).length, turns)
    assert.ok(!world.probe.ran.includes("add from the dead"))
  },
)

const secretToken = "bearer-7c1f-do-not-tell"

behaviour(
  "a foreign page is refused before anything of it is looked at, and a bearer token is echoed to nobody, told to no peer and logged nowhere (C68)",
  {
    authenticate: (_, token) => {
      if (token === `${secretToken} that throws`) throw new Error("the directory is down")
      return token === secretToken ? { id: "alice" } : null
    },
  },
  async (world) => {
    const { here } = world
    for (const origin of ["https://evil.example", "null"]) {
      const page = await connectRaw({ url: here.url, headers: { origin } })
      const { code } = await within(5_000, "the refusal", page.closed)
      assert.equal(code, CLOSE_CODES.FOREIGN_ORIGIN[0])
      assert.deepEqual(page.frames, [])
    }
    const key = world.key()
    const said: unknown[] = []
    // Let in, and used by relay and by move; presented anew; refused; refused by an authenticate that throws.
    for (const at of world.seats) {
      const raw = await world.raw(at)
      raw.send({ t: "hello", client: "page", token: secretToken })
      const welcome = await within(5_000, "the welcome", raw.find("welcome"))
      const session = new Session(raw, welcome.sessions[0] as string)
      await session.attach(ledgerOf(key), { live: true })
      session.call(1, "add", at.id)
      await session.reply(1)
      raw.send({ t: "token", token: secretToken })
      await raw.flushed()
      said.push(raw.frames)
      raw.send({ t: "token", token: `${secretToken} of another` })
      said.push(await within(5_000, "the end", raw.closed), raw.frames)
    }
    for (const token of [`${secretToken}x`, `${secretToken} that throws`]) {
      const raw = await world.raw(here)
      raw.send({ t: "hello", client: "page", token })
      const closed = await within(5_000, "the refusal", raw.closed)
      assert.equal(closed.code, CLOSE_CODES.UNAUTHORIZED[0])
      said.push(closed, raw.frames)
    }
    // Where it must not be, a frame that is none may hold it too.
    const broken = await world.raw(here)
    broken.sendText(`{"t":"hello","token":"${secretToken}`)
    said.push(await within(5_000, "the end", broken.closed), broken.frames)
    const text = (what: unknown): string =>
      JSON.stringify(what, (_, value: unknown) =>
        value instanceof Error ? `${value.stack ?? ""} ${String(value.cause)}` : value,
      )
    assert.ok(!text(said).includes(secretToken), "echoed")
    for (const { events } of world.seats) assert.ok(!text(events.all).includes(secretToken), "logged")
    for (const { frame } of world.tap.notes) assert.ok(!Buffer.from(frame).includes(secretToken), "told to a peer")
  },
)

interface Bad {
  readonly what: string
  readonly code: keyof typeof CLOSE_CODES
  /** After `welcome`, or before. */
  readonly welcomed: boolean
  readonly text: string
}
const attachText = (fields: object): string =>
  JSON.stringify({ t: "attach", ch: 1, actor: ["ledger", "k"], sid: "x", acked: 0, live: false, ...fields })
const badFrames: readonly Bad[] = [
  { what: "no JSON", code: "BAD_FRAME", welcomed: true, text: "{" },
  { what: "no object", code: "BAD_FRAME", welcomed: true, text: "[1]" },
  { what: "no type", code: "BAD_FRAME", welcomed: true, text: "{}" },
  { what: "a second hello", code: "BAD_FRAME", welcomed: true, text: '{"t":"hello","client":"x"}' },
  {
    what: "a call without a number",
    code: "BAD_FRAME",
    welcomed: true,
    text: '{"t":"call","ch":1,"a":"add","p":{"v":[]}}',
  },
  {
    what: "a call of number 0",
    code: "BAD_FRAME",
    welcomed: true,
    text: '{"t":"call","ch":1,"c":0,"a":"add","p":{"v":[]}}',
  },
  { what: "a channel that is no number", code: "BAD_FRAME", welcomed: true, text: attachText({ ch: "1" }) },
  { what: "an actor of one part", code: "BAD_FRAME", welcomed: true, text: attachText({ actor: ["ledger"] }) },
  {
    what: "a name that is too long",
    code: "BAD_FRAME",
    welcomed: true,
    text: `{"t":"call","ch":1,"c":1,"a":"${"a".repeat(65)}","p":{"v":[]}}`,
  },
  {
    what: "too much after welcome",
    code: "FRAME_TOO_LARGE",
    welcomed: true,
    text: `{"t":"ping","x":"${"y".repeat(100_000)}"}`,
  },
  { what: "no hello first", code: "BAD_FRAME", welcomed: false, text: '{"t":"ping"}' },
  { what: "no JSON before welcome", code: "BAD_FRAME", welcomed: false, text: "hello" },
  {
    what: "too much before welcome",
    code: "FRAME_TOO_LARGE",
    welcomed: false,
    text: `{"t":"hello","client":"${"x".repeat(frameLimits.helloCharsMax)}"}`,
  },
]

behaviour(
  "a malformed or oversized frame closes its connection with the right code, and disturbs no other (C69)",
  { limits: { frameCharsMax: 100_000 } },
  async (world: World) => {
    const key = world.key()
    const [near, far] = [world.here, world.seats.at(-1) as Seat]
    const calm = [world.client("near", near), world.client("far", far)].map((client) => ({
      client,
      ledger: client.ledger.get(key),
    }))
    let calls = 0
    for (const { what, code, welcomed, text } of badFrames) {
      const raw = welcomed ? (await world.session("mallory")).raw : await world.raw()
      const pending = calm.map(({ ledger }) => ledger.add(`during ${what} ${calls++}`))
      raw.sendText(text)
      const closed = await within(5_000, `the end after ${what}`, raw.closed)
      assert.deepEqual([what, closed.code], [what, CLOSE_CODES[code][0]])
      await within(5_000, "the others' calls", Promise.all(pending))
    }
    // A frame of an unknown type is none of these: it is ignored by contract.
    const { raw } = await world.session("later version")
    raw.sendText('{"t":"a type of a later version","x":1}')
    await raw.flushed()
    for (const { client, ledger } of calm) {
      assert.equal((await ledger.query.ids()).length, calls)
      assert.equal(client.stats.connects, 1)
      assert.equal(client.stats.gaps, 0)
    }
  },
)
