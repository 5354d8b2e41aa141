import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { ActorError } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { alone } from "./testing/alone.ts"

interface Held {
  map: Map<string, number>
  set: Set<string>
  when: Date
  bytes: Uint8Array
  a: { n: number }
  b: { n: number } | undefined
  list: { n: number }[]
}

let kept: { n: number } | undefined
let keptDate: Date | undefined
const said: number[] = []
const box = actor({
  state: (): Held => ({
    map: new Map([
      ["x", 1],
      ["y", 2],
    ]),
    set: new Set(["p", "q"]),
    when: new Date(0),
    bytes: new Uint8Array([1, 2, 3]),
    a: { n: 1 },
    b: undefined,
    list: [{ n: 1 }, { n: 2 }, { n: 3 }],
  }),
  actions: {
    reorder(c) {
      c.state.map.delete("x")
      c.state.map.set("x", 3)
      return [...c.state.map.keys()]
    },
    giveDraft: (c) => {
      c.state.a.n++
      return c.state
    },
    say() {
      said.push(said.length + 1)
      return said
    },
    share(c) {
      c.state.b = c.state.a
    },
    move(c) {
      const { a } = c.state
      c.state.a = { n: 9 }
      c.state.b = a
    },
    shift(c) {
      c.state.list.shift()
      c.state.list.push({ n: 4 })
    },
    cycle(c) {
      const loop: { n: number; self?: unknown } = { n: 1 }
      loop.self = loop
      c.state.b = loop
    },
    setDateInPlace(c) {
      c.state.when.setFullYear(2000)
    },
    setByteInPlace(c) {
      c.state.bytes[0] = 9
    },
    replaceDate(c) {
      c.state.when = new Date(7)
    },
    storeFunction(c) {
      c.state.b = { n: (() => 1) as never }
    },
    keepDate(c, at: number) {
      keptDate = new Date(at)
      kept = { n: at }
      c.state.when = keptDate
      c.state.b = kept
      return "x".repeat(at)
    },
    keep(c, given: { n: number }) {
      c.state.b = given
      kept = given
    },
    throwAfter(c) {
      c.state.a.n = 100
      throw new ActorError("FULL", "no room", { left: 0 })
    },
    defect(c) {
      c.state.a.n = 100
      throw new Error("the password is 1234")
    },
  },
  queries: {
    look: (c) => ({
      keys: [...c.state.map.keys()],
      a: c.state.a.n,
      b: c.state.b?.n,
      when: c.state.when.getTime(),
      byte: c.state.bytes[0],
      list: c.state.list.map(({ n }) => n),
    }),
    spoil: (c) => {
      c.state.a.n = 50
    },
  },
})
const app = setup({ actors: { box } })

describe("an actor's state", () => {
  test("is after a restart what it was in memory, to the order of a Map's keys", async () => {
    const { node, again } = await alone(app)
    await node.actors.box.get("k").reorder()
    await node.actors.box.get("k").shift()
    const before = await node.actors.box.get("k").query.look()
    const after = await (await again()).actors.box.get("k").query.look()
    assert.deepEqual(after, before)
    assert.deepEqual(after.list, [2, 3, 4])
  })

  test("may be returned by an action: the reply is a copy of what it was at the turn's end", async () => {
    const { node } = await alone(app)
    const given = await node.actors.box.get("k").giveDraft()
    assert.equal(given.a.n, 2)
    assert.deepEqual(
      [...given.map],
      [
        ["x", 1],
        ["y", 2],
      ],
    )
    given.a.n = 77
    assert.equal((await node.actors.box.get("k").query.look()).a, 2)
  })

  test("is not the only thing that is copied: what an author goes on changing after a turn is not in its reply", async () => {
    const { node } = await alone(app)
    const handle = node.actors.box.get("k")
    assert.deepEqual(await Promise.all([handle.say(), handle.say()]), [[1], [1, 2]])
  })

  test("is a tree: a shared reference and a cycle are refused with their path and roll the turn back", async () => {
    const { node } = await alone(app)
    const handle = node.actors.box.get("k")
    await assert.rejects(handle.share(), { code: "BAD_STATE", message: /state\.(a|b) is a reference/ })
    await assert.rejects(handle.cycle(), { code: "BAD_STATE", message: /state\.b/ })
    await assert.rejects(handle.storeFunction(), { code: "BAD_STATE", message: /state\.b\.n is a function/ })
    assert.deepEqual((await handle.query.look()).b, undefined)
    await handle.move()
    assert.deepEqual((await handle.query.look()).b, 1)
  })

  const kinds: Readonly<Record<string, () => object>> = {
    "an object": () => ({ n: 1 }),
    "an object that its author froze": () => Object.freeze({ n: 1 }),
    "an array": () => [1],
    "a Map": () => new Map([["k", 1]]),
    "a Set": () => new Set([1]),
    "a Date": () => new Date(1),
    "a typed array": () => Uint8Array.of(1),
  }
  for (const [kind, make] of Object.entries(kinds))
    test(`is a tree: ${kind} that is in it already is refused at a second place, and may be moved there`, async () => {
      const made = make()
      const twice = actor({
        state: (): { one?: object | undefined; other?: object | undefined } => ({}),
        actions: {
          one(c) {
            c.state.one = made
          },
          again(c) {
            c.state.other = c.state.one
          },
          move(c) {
            const { one } = c.state
            delete c.state.one
            c.state.other = one
          },
        },
        queries: { held: (c) => Object.keys(c.state).sort() },
      })
      const { node } = await alone(setup({ actors: { twice } }))
      const handle = node.actors.twice.get("k")
      await handle.one()
      await assert.rejects(handle.again(), { code: "BAD_STATE", message: /state\.(one|other) is a reference/ })
      assert.deepEqual(await handle.query.held(), ["one"])
      await handle.move()
      assert.deepEqual(await handle.query.held(), ["other"])
    })

  test("is a tree: a new object that one turn puts in twice is refused, and so is one of the state inside of a Set's element", async () => {
    const twice = actor({
      state: () => ({
        list: [] as { n: number }[],
        one: undefined as { n: number } | undefined,
        other: undefined as { n: number } | undefined,
        held: { n: 1 },
        set: new Set<{ n: number; ref?: { n: number } }>([{ n: 1 }]),
      }),
      actions: {
        push(c) {
          const made = { n: 1 }
          c.state.list.push(made)
          c.state.list.push(made)
        },
        both(c) {
          const made = { n: 1 }
          c.state.one = made
          c.state.other = made
        },
        refer(c) {
          for (const element of c.state.set) element.ref = c.state.held
        },
      },
      queries: { untouched: ({ state }) => [state.list.length, state.one, [...state.set].map(({ ref }) => ref)] },
    })
    const { node } = await alone(setup({ actors: { twice } }))
    const handle = node.actors.twice.get("k")
    for (const refused of [handle.push(), handle.both(), handle.refer()])
      await assert.rejects(refused, { code: "BAD_STATE", message: /is a reference/ })
    assert.deepEqual(await handle.query.untouched(), [0, undefined, [undefined]])
  })

  test("cannot be changed by a query inside of a Set's element either, after a turn has changed that", async () => {
    const nested = actor({
      state: () => ({ set: new Set([{ inner: { n: 1 } }]) }),
      actions: {
        change(c) {
          for (const element of c.state.set) element.inner.n = 5
        },
      },
      queries: {
        spoil({ state }) {
          for (const element of state.set) element.inner.n = 99
        },
        look: ({ state }) => [...state.set].map(({ inner }) => inner.n),
      },
    })
    const { node } = await alone(setup({ actors: { nested } }))
    const handle = node.actors.nested.get("k")
    await handle.change()
    await assert.rejects(handle.query.spoil(), { code: "INTERNAL" })
    assert.deepEqual(await handle.query.look(), [5])
  })

  test("refuses a Date or typed array that was changed in place, and the change is gone; replacing it works", async () => {
    const { node } = await alone(app)
    const handle = node.actors.box.get("k")
    await handle.move()
    await assert.rejects(handle.setDateInPlace(), { code: "BAD_STATE" })
    await assert.rejects(handle.setByteInPlace(), { code: "BAD_STATE" })
    const look = await handle.query.look()
    assert.deepEqual([look.when, look.byte, look.b], [0, 1, 1])
    await handle.replaceDate()
    assert.equal((await handle.query.look()).when, 7)
  })

  test("cannot be changed by a query, nor through what an author or a caller kept", async () => {
    const { node } = await alone(app)
    const handle = node.actors.box.get("k")
    await assert.rejects(handle.query.spoil(), { code: "INTERNAL" })
    const given = { n: 5 }
    await handle.keep(given)
    given.n = 6
    assert.ok(kept)
    kept.n = 7
    assert.equal((await handle.query.look()).b, 5)
    assert.equal((await handle.query.look()).a, 1)
  })

  test("has nothing of what a turn put in, refused or not: that is the author's, to change as he likes", async () => {
    const { node, events } = await alone(app, { limits: { outputCharsMax: 10_000 } })
    const handle = node.actors.box.get("k")
    await assert.rejects(handle.keepDate(20_000), { code: "REPLY_TOO_LARGE" })
    keptDate?.setTime(0)
    assert.ok(kept)
    kept.n = 7
    await assert.rejects(handle.throwAfter(), { code: "ACTOR_ERROR" })
    assert.deepEqual(
      events.filter(({ type }) => type === "activation.dropped"),
      [],
    )
    await handle.keepDate(5)
    const { when } = await handle.query.look()
    keptDate?.setTime(0)
    await assert.rejects(handle.throwAfter(), { code: "ACTOR_ERROR" })
    assert.equal((await handle.query.look()).when, when)
  })

  test("rolls back when a turn throws; the author's error crosses, any other is masked and found in the log (C53)", async () => {
    const { node, events } = await alone(app)
    const handle = node.actors.box.get("k")
    await assert.rejects(handle.throwAfter(), {
      code: "ACTOR_ERROR",
      ref: "FULL",
      message: "no room",
      data: { left: 0 },
    })
    const masked = await handle.defect().then(
      () => assert.fail("it must fail"),
      (error: unknown) => error as { code: string; message: string; ref: string },
    )
    assert.equal(masked.code, "INTERNAL")
    assert.doesNotMatch(masked.message, /1234/)
    const logged = events.find((event) => event.type === "turn.threw" && event["ref"] === masked.ref)
    assert.match(String(logged?.["error"]), /1234/)
    assert.equal((await handle.query.look()).a, 1)
  })
})
