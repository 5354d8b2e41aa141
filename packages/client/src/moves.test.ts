import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { setUp, watch } from "./testing/set-up.ts"

describe("moves", () => {
  test("C48 switchTo keeps session, order and unacknowledged calls, and tells the move", async () => {
    const { world, client, run, advance, applied, moves, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.socket.held = true
    const unanswered = watch(handle.push("2"))
    await run()
    client.switchTo("ws://fra")
    const queued = watch(handle.push("3"))
    await advance(0)
    assert.deepEqual([unanswered.how(), queued.how()], ["= 2", "= 3"])
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.equal(moves.length, 1)
    assert.deepEqual(moves[0]?.actor, ["list", "a"])
    assert.deepEqual([moves[0]?.from, moves[0]?.to, moves[0]?.report?.by], ["bos", "fra", "ticket"])
    assert.deepEqual(world.socket.protocols, ["sojourn.v1", "sojourn.at.list.a.bos.1"])
    assert.equal(handle.pop, "fra")
    await client.close()
  })

  test("C55 C70 until the new POP has welcomed the client all goes on over the old socket, which is closed after the new attach", async () => {
    const { world, client, run, applied, kinds, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.holding = true
    client.switchTo("ws://fra")
    const during = watch(handle.push("2"))
    // Used at the very moment when the new socket opens.
    const other = watch(client.list.get("b").push("x"))
    world.step()
    await run()
    assert.deepEqual([during.how(), other.how()], ["= 2", "= 1"])
    assert.equal(statuses.at(-1), "moving")
    assert.equal(client.pop, "bos")
    const fresh = world.socket
    assert.ok(!fresh.texts[0]?.includes("attach"), "what is served stays where it is")
    assert.deepEqual(kinds(fresh), ["hello"])
    fresh.release()
    assert.equal(statuses.at(-1), "connected")
    const after = watch(handle.push("3"))
    await run()
    assert.deepEqual(kinds(fresh), ["hello", "attach", "attach", "call"])
    fresh.release()
    await run()
    assert.ok(old.isOpen, "the second attach is not answered yet")
    assert.ok(!kinds(old).includes("detach"))
    fresh.release()
    await run()
    assert.equal(old.closedBy, "client")
    assert.equal(after.how(), "pending")
    fresh.held = false
    await run()
    assert.equal(after.how(), "= 3")
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    await client.close()
  })

  test("C48 C57 what the old socket says before the new attach is answered counts: replies once, outputs without a gap", async () => {
    const { world, client, run, applied } = setUp({ limits: { windowCallsMax: 2, ackFrames: 1 } })
    const handle = client.list.get("a")
    const heard: (string | undefined)[] = []
    handle.on("pushed", (value) => heard.push(value))
    handle.state.subscribe(() => {})
    const resumes: string[] = []
    handle.onResume((how) => resumes.push(how))
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    old.held = true
    const calls = ["1", "2", "3"].map((value) => watch(handle.push(value)))
    await run()
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    const fresh = world.socket
    fresh.release()
    await run()
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["pending", "pending", "pending"],
    )
    old.held = false
    await run()
    assert.deepEqual(
      calls.map((call) => call.how()),
      ["= 1", "= 2", "pending"],
    )
    assert.deepEqual(heard, ["1", "2"])
    assert.deepEqual(handle.state.get(), { list: ["1", "2"] })
    assert.ok(old.isOpen)
    fresh.held = false
    await run()
    // The window opens by what the trail brought: nothing else comes that could be acknowledged.
    assert.equal(calls[2]?.how(), "= 3")
    assert.deepEqual(heard, ["1", "2", "3"])
    assert.deepEqual(resumes, ["new", "replay"])
    assert.deepEqual(applied(), ["push(1)", "push(2)", "push(3)"])
    assert.equal(client.stats.gaps, 0)
    await client.close()
  })

  test("C57 an output that the old socket leaves out is made up for by the new attach, not taken for the next one", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    const heard: (string | undefined)[] = []
    handle.on("pushed", (value) => heard.push(value))
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    world.commit(world.actor("list/a"), "1")
    old.sayLate({ t: "out", ch, r: 3, prev: 2, ev: [["pushed", { v: "wrong" }]] })
    world.socket.held = false
    await run()
    assert.deepEqual(heard, ["1"])
    assert.equal(client.stats.gaps, 0)
    await client.close()
  })

  test("C54 an error on the old socket that may be retried is not the call's reply: the call has gone again", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const old = world.socket
    old.held = true
    world.refuseCall = () => new SojournError("MAILBOX_FULL")
    const call = watch(handle.push("1"))
    await run()
    world.refuseCall = () => undefined
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    old.held = false
    await run()
    assert.equal(call.how(), "pending")
    world.socket.held = false
    await run()
    assert.equal(call.how(), "= 1")
    await client.close()
  })

  test("C59 a POP that does not answer is tried again with pauses while the old one serves, and comes in when it can", async () => {
    const { world, client, run, advance, statuses, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.unreachable.add("ws://fra")
    client.switchTo("ws://fra")
    await advance(20_000)
    const tries = world.sockets.length - 1
    assert.ok(tries >= 4 && tries <= 10, `${tries} tries`)
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    assert.ok(old.isOpen)
    assert.deepEqual(statuses, ["connecting", "connected", "moving"])
    assert.equal(client.url, "ws://fra")
    world.unreachable.clear()
    await advance(15_000)
    assert.equal(client.pop, "fra")
    assert.equal(statuses.at(-1), "connected")
    assert.ok(old.isClosed)
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("a new socket that dies before its attach is answered leaves the client on the old one, where the actor stays put", async () => {
    const { world, client, run, advance, applied, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.holding = true
    client.switchTo("ws://fra")
    await run()
    world.socket.release()
    const call = watch(handle.push("2"))
    await run()
    world.unreachable.add("ws://fra")
    world.socket.cut()
    await run()
    assert.equal(call.how(), "= 2")
    assert.equal(client.pop, "bos")
    assert.equal(statuses.at(-1), "moving")
    const again = old.frames.at(-1)
    assert.ok(again?.t === "attach" && again.stay === true, JSON.stringify(again))
    world.unreachable.clear()
    world.holding = false
    await advance(15_000)
    assert.equal(client.pop, "fra")
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("the old socket dying on the way is no more than a reconnect: the attach goes with hello if that was not sent yet", async () => {
    const { world, client, run, applied, statuses } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.stalled = true
    client.switchTo("ws://fra")
    await run()
    world.sockets[0]?.cut()
    const call = watch(handle.push("2"))
    world.stalled = false
    await run()
    assert.equal(call.how(), "= 2")
    assert.equal(world.sockets.length, 2)
    const [hello] = world.socket.frames
    assert.ok(hello?.t === "hello" && hello.attach?.length === 1)
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("C65 a POP that refuses the client for good is not tried again; the client stays where it is", async () => {
    const { world, client, run, advance, errors, statuses } = setUp({ token: "t" })
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    world.principalOf = () => undefined
    client.switchTo("ws://fra")
    await advance(60_000)
    assert.equal(world.sockets.length, 2)
    assert.deepEqual(statuses, ["connecting", "connected", "moving", "connected"])
    assert.deepEqual(
      errors.map(({ code }) => code),
      ["UNAUTHORIZED"],
    )
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    assert.ok(old.isOpen)
    await client.close()
  })

  test("what was made as one principal is not sent again over a new socket that is another's", async () => {
    let token = "alice"
    const { world, client, run, applied } = setUp({ token: () => token })
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    world.socket.held = true
    const call = watch(handle.push("alice's"))
    await run()
    token = "bob"
    client.switchTo("ws://fra")
    await run()
    assert.equal(call.how(), "UNAUTHORIZED unknown")
    assert.deepEqual(applied(), ["push(alice's)"])
    assert.ok(world.sockets[0]?.isClosed)
    await client.close()
  })

  test("a client that changes its mind on the way leaves at most one socket behind", async () => {
    const { world, client, run, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    for (let i = 0; i < 12; i++) {
      client.switchTo(`ws://${["fra", "nrt", "bos"][i % 3]}`)
      void handle.push(`${i + 2}`)
      for (let n = 0; n < i; n++) world.step()
      await Promise.resolve()
      assert.ok(world.sockets.filter((socket) => !socket.isClosed).length <= 3)
    }
    await run()
    assert.equal(client.pop, "bos")
    assert.equal(world.sockets.filter((socket) => !socket.isClosed).length, 1)
    assert.deepEqual(
      applied(),
      Array.from({ length: 13 }, (_, i) => `push(${i + 1})`),
    )
    await client.close()
  })

  test("an actor that moves while its attach stays is told, and nothing is sent again", async () => {
    const { world, client, run, moves, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
    const sent = kinds().length
    world.socket.send({ t: "moved", ch, to: "nrt", e: 2, ticket: "fresh", stays: true })
    await run()
    assert.equal(kinds().length, sent)
    assert.deepEqual([handle.pop, handle.ticket], ["nrt", "fresh"])
    assert.deepEqual(moves, [{ actor: ["list", "a"], from: "bos", to: "nrt", ms: 0, report: undefined }])
    const call = watch(handle.push("2"))
    await run()
    assert.equal(call.how(), "= 2")
    await client.close()
  })

  test("hints are advice that an app may keep, change or withhold", async () => {
    const kept = new Map<string, string>()
    const storage = {
      getItem: (k: string) => kept.get(k) ?? null,
      setItem: (k: string, v: string) => void kept.set(k, v),
    }
    const first = setUp({ storage })
    await Promise.all([first.client.list.get("a").push("1"), first.run()])
    assert.equal(first.client.list.get("a").ticket, "list.a.bos.1")
    await first.client.close()
    const second = setUp({
      storage,
      ticketFor: (actor, ticket) => (actor[1] === "b" ? undefined : `${ticket}-changed`),
    })
    void second.client.list.get("a").push("2")
    await second.run()
    assert.deepEqual(second.world.socket.protocols, ["sojourn.v1", "sojourn.at.list.a.bos.1-changed"])
    second.client.forgetTickets()
    assert.deepEqual(second.client.tickets(), [])
    second.client.setTickets([{ actor: ["list", "a"], ticket: "forged" }])
    assert.equal(second.client.list.get("a").ticket, "forged")
    await second.client.close()
  })

  test("a moved actor is attached again at once on the same socket, and not in a tight loop", async () => {
    const { world, client, run, advance, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.ready(), run()])
    const sendAway = (): void => {
      const ch = [...world.actor("list/a").attaches][0]?.ch ?? 0
      world.socket.send({ t: "moved", ch, to: "fra", e: 2 })
      world.actor("list/a").attaches.clear()
    }
    sendAway()
    const call = watch(handle.push("x"))
    await run()
    assert.equal(call.how(), "= 1")
    assert.equal(world.sockets.length, 1)
    for (let i = 0; i < 8; i++) {
      sendAway()
      await run()
    }
    const attaches = (): number => kinds().filter((kind) => kind === "attach").length
    assert.equal(attaches(), 4, "after three in a row there is a pause")
    await advance(20_000)
    assert.equal(attaches(), 5)
    await client.close()
  })

  test("only the first attach on a socket is an arrival: later ones leave the actor where it is", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    handle.state.subscribe(() => {})
    await run()
    client.switchTo("ws://fra")
    await run()
    const stays = world.sockets.flatMap(({ frames }) =>
      frames.flatMap((f) =>
        f.t === "attach" ? [f.stay ?? false] : f.t === "hello" ? (f.attach ?? []).map((a) => a.stay ?? false) : [],
      ),
    )
    assert.deepEqual(stays, [false, true, false])
    await client.close()
  })

  test("what a closed socket still had to say is ignored", async () => {
    const { world, client, run, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    const old = world.socket
    client.switchTo("ws://fra")
    const call = watch(handle.push("2"))
    await run()
    const events: string[] = []
    handle.on("pushed", (value) => events.push(value))
    for (let ch = 1; ch < 5; ch++) {
      old.sayLate({ t: "reply", ch, c: 2, r: 9, ok: { v: "wrong" } })
      old.sayLate({ t: "out", ch, r: 9, prev: world.actor("list/a").r, ev: [["pushed", { v: "wrong" }]] })
    }
    old.sayLate({ t: "goaway", retryAfterMs: 0 })
    await run()
    assert.equal(call.how(), "= 2")
    assert.deepEqual(events, [])
    assert.equal(world.sockets.length, 2)
    assert.deepEqual(applied(), ["push(1)", "push(2)"])
    await client.close()
  })

  test("C65 a refused attach: never rejects with its outcome, later waits as told", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    world.refuseAttach = () => new SojournError("FORBIDDEN")
    const refused = watch(handle.push("1"))
    await run()
    assert.equal(refused.how(), "FORBIDDEN not-executed")
    assert.deepEqual(
      errors.map((error) => error.code),
      ["FORBIDDEN"],
    )
    world.refuseAttach = () => new SojournError("POP_UNREACHABLE", "not now", { retryAfterMs: 700 })
    const waiting = watch(handle.push("2"))
    await run()
    world.refuseAttach = () => undefined
    await advance(699)
    assert.equal(waiting.how(), "pending")
    await advance(1)
    assert.equal(waiting.how(), "= 1")
    await client.close()
  })

  test("a session that the server forgot: what may have been applied is unknown, the rest goes on under a fresh one", async () => {
    const { world, client, run, advance, applied } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("1"), run()])
    world.deaf = true
    const sent = watch(handle.push("2"))
    await run()
    const [sid] = world.actor("list/a").sessions.keys()
    world.forgotten.add(sid ?? "")
    world.deaf = false
    world.socket.cut()
    const unsent = watch(handle.push("3"))
    await advance(1_000)
    assert.equal(sent.how(), "SESSION_UNKNOWN unknown")
    assert.equal(unsent.how(), "= 2")
    assert.deepEqual(applied(), ["push(1)", "push(3)"])
    await client.close()
  })

  test("an attach that is never answered is made again", async () => {
    const { world, client, advance, run } = setUp()
    const handle = client.list.get("a")
    world.refuseAttach = () => new SojournError("SLEPT")
    client.connect()
    await run()
    world.socket.held = true
    const call = watch(handle.with({ timeoutMs: 60_000 }).push("x"))
    await advance(15_000)
    world.refuseAttach = () => undefined
    world.socket.held = false
    await advance(15_000)
    assert.equal(call.how(), "= 1")
    await client.close()
  })
})
