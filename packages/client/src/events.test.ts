import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { setUp, watch } from "./testing/set-up.ts"

describe("events and live state", () => {
  test("patches are applied, then events told, then subscribers; a listener that throws disturbs nobody", async () => {
    const { world, client, run, errors } = setUp()
    const handle = client.list.get("a")
    const seen: string[] = []
    handle.on("pushed", () => {
      throw new Error("mine")
    })
    handle.on("pushed", (value) => seen.push(`event ${value} of ${handle.state.get()?.list.length}`))
    handle.state.subscribe(({ list }) => seen.push(`state ${list.join("")}`))
    await run()
    world.commit(world.actor("list/a"), "x")
    await run()
    assert.deepEqual(seen, ["state ", "event x of 1", "state x"])
    assert.equal((errors[0]?.cause as Error).message, "mine")
    assert.equal(errors.length, 1)
    await client.close()
  })

  test("C57 a gap leads to a resync that loses nothing; a duplicate is dropped", async () => {
    const { world, client, run } = setUp()
    const handle = client.list.get("a")
    const events: string[] = []
    const resumes: string[] = []
    handle.on("pushed", (value) => events.push(value))
    handle.onResume((how) => resumes.push(how))
    await run()
    const actor = world.actor("list/a")
    const [attach] = actor.attaches
    assert.ok(attach)
    actor.attaches.clear()
    world.commit(actor, "lost")
    actor.attaches.add(attach)
    attach.prev = actor.r
    world.commit(actor, "after")
    await run()
    assert.deepEqual(events, ["lost", "after"])
    assert.deepEqual(resumes, ["new", "replay"])
    assert.equal(client.stats.gaps, 1)
    const [now] = actor.attaches
    assert.ok(now)
    world.socket.send({ t: "out", ch: now.ch, r: actor.r, prev: actor.r - 1, ev: [["pushed", { v: "again" }]] })
    await run()
    assert.deepEqual(events, ["lost", "after"])
    assert.equal(client.stats.duplicates, 1)
    await client.close()
  })

  test("C57 patches that do not fit, or a gap right after a gap, lead to a snapshot that the app is told of", async () => {
    const { world, client, run, advance } = setUp()
    const handle = client.list.get("a")
    const resumes: string[] = []
    handle.onResume((how) => resumes.push(how))
    handle.state.subscribe(() => {})
    await run()
    const actor = world.actor("list/a")
    const ch = [...actor.attaches][0]?.ch ?? 0
    world.commit(actor, "x")
    await run()
    world.socket.send({
      t: "out",
      ch,
      r: actor.r + 1,
      prev: actor.r,
      pt: { v: [{ op: "add", path: ["list", 99], value: 1 }] },
    })
    await advance(1_000)
    assert.deepEqual(resumes, ["new", "snapshot"])
    assert.deepEqual(handle.state.get(), { list: ["x"] })
    await client.close()
  })

  /** What this client's codec cannot decode: of a later version of the server, or broken. */
  const strange = { v: 1, m: { values: [["custom", "of no codec"]] } }

  test("C57 patches that cannot be decoded lead to a snapshot, an event that cannot is told of and the next ones come", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    const resumes: string[] = []
    const events: string[] = []
    handle.onResume((how) => resumes.push(how))
    handle.on("pushed", (value) => events.push(value))
    handle.state.subscribe(() => {})
    await run()
    const actor = world.actor("list/a")
    const [attach] = actor.attaches
    assert.ok(attach)
    const out = { t: "out", ch: attach.ch, r: actor.r + 1, prev: actor.r } as const
    world.socket.send({
      ...out,
      ev: [
        ["pushed", strange],
        ["pushed", { v: "next" }],
      ],
    })
    await run()
    assert.deepEqual(events, ["next"])
    assert.deepEqual(
      errors.map(({ code, message }) => `${code}: ${message}`),
      ["INTERNAL: the event pushed cannot be decoded"],
    )
    assert.deepEqual(errors[0]?.details, { actor: ["list", "a"] })
    actor.r++
    world.socket.send({ ...out, r: actor.r + 1, prev: actor.r, pt: strange })
    await advance(1_000)
    assert.deepEqual(resumes, ["new", "snapshot"])
    assert.equal(errors.length, 1)
    await client.close()
  })

  test("C57 a state that cannot be decoded leaves the one before, at its position; nothing is applied to the wrong one", async () => {
    const { world, client, run, advance, errors } = setUp()
    const handle = client.list.get("a")
    const states: string[] = []
    handle.state.subscribe(({ list }) => states.push(list.join("")))
    await run()
    const actor = world.actor("list/a")
    world.commit(actor, "x")
    await run()
    const encode = world.stateOf
    world.stateOf = () => strange
    world.socket.cut()
    for (const item of "123") world.commit(actor, item)
    actor.tail.length = 0
    const other = client.list.get("b")
    const call = watch(other.push("b"))
    await advance(10_000)
    assert.equal(errors.at(-1)?.message, "the state of list/a cannot be decoded")
    assert.ok(errors.length > 1 && errors.length < 20, `${errors.length} attempts in 10 s`)
    assert.deepEqual(handle.state.get(), { list: ["x"] })
    assert.equal(call.how(), "= 1", "other actors are served")
    assert.equal(world.sockets.length, 2, "over the same socket")
    world.stateOf = encode
    await advance(60_000)
    assert.deepEqual(
      new Set(
        world.sockets.flatMap(({ frames }) =>
          frames
            .flatMap((f) => (f.t === "hello" ? (f.attach ?? []) : f.t === "attach" ? [f] : []))
            .map(({ pos }) => pos),
        ),
      ),
      new Set([undefined, 2]),
      "it goes on from what it has",
    )
    assert.deepEqual(handle.state.get(), { list: ["x", "1", "2", "3"] })
    assert.deepEqual(states, ["", "x", "x123"])
    await client.close()
  })

  test("subscribing later attaches again, live, and the state comes", async () => {
    const { world, client, run, kinds } = setUp()
    const handle = client.list.get("a")
    await Promise.all([handle.push("x"), run()])
    const states: string[] = []
    const undo = handle.state.subscribe(({ list }) => states.push(list.join("")))
    await run()
    assert.deepEqual(kinds(), ["hello", "attach", "detach", "attach"])
    assert.deepEqual(states, ["x"])
    handle.state.subscribe(({ list }) => states.push(`second ${list.join("")}`))
    undo()
    world.commit(world.actor("list/a"), "y")
    await run()
    assert.deepEqual(states, ["x", "second x", "second xy"])
    await client.close()
  })

  test("many actors share a socket, and sessions beyond the spare ones are asked for", async () => {
    const { world, client, run } = setUp()
    world.spares = 2
    const calls = Array.from({ length: 12 }, (_, i) => watch(client.list.get(`k${i}`).push("x")))
    await run()
    assert.deepEqual(new Set(calls.map((call) => call.how())), new Set(["= 1"]))
    assert.equal(world.sockets.length, 1)
    await client.close()
  })
})
