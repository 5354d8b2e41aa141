// What a client that is attached may see and do when that changes: with the state, and with what its token says of it.
import assert from "node:assert/strict"
import { test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, event, setup } from "./actor.ts"
import type { Principal } from "./mesh-messages.ts"
import type { CoreNode } from "./node.ts"
import { alone } from "./testing/alone.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const room = actor({
  state: () => ({ members: ["ann", "bob"], said: [] as string[] }),
  actions: {
    say(c, what: string) {
      c.state.said.push(what)
      c.broadcast("said", what)
    },
    remove(c, who: string) {
      c.state.members = c.state.members.filter((one) => one !== who)
    },
    close: () => "closed",
  },
  events: { said: event<string>() },
  authorize: (c, who, what) =>
    what === "close" ? who["role"] === "host" : c.state.members.includes(who.id) && who["role"] !== "muted",
})
const app = setup({ actors: { room } })

/** A token is an id and a role. */
function authenticate(_: unknown, token: string | undefined): Principal {
  const [id = "", role = ""] = (token ?? "").split(" ")
  return { id, role }
}

async function join(node: CoreNode<unknown>, clock: VirtualClock, token: string, key: string) {
  const told: ServerFrame[] = []
  const reader = node.acceptClient(
    {
      send: (data) => void told.push(JSON.parse(data) as ServerFrame),
      buffered: () => 0,
      close: () => void told.splice(0),
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = async (frame: object): Promise<void> => {
    reader.message(JSON.stringify(frame))
    await clock.advance(100)
  }
  await say({ t: "hello", client: "one", token })
  const [welcome] = told
  assert.ok(welcome?.t === "welcome")
  const attach = { ch: 1, actor: ["room", key], sid: welcome.sessions[0], acked: 0, live: true, stay: true }
  await say({ t: "attach", ...attach })
  /** What has come since it was asked last. */
  const heard = (): unknown[] =>
    told.splice(0).map((frame) => {
      if (frame.t === "detached" || frame.t === "reply") return `${frame.t} ${frame.err?.code ?? "ok"}`
      return frame.t === "out" ? `out${frame.ev ? " ev" : ""}${frame.pt === undefined ? "" : " pt"}` : frame.t
    })
  assert.deepEqual(heard(), ["welcome", "attached"])
  return { say, heard, attach }
}

void test("who may see the state no more gets none of its changes, and is told to ask anew", async () => {
  const clock = new VirtualClock()
  const { node } = await alone(app, { clock, authenticate })
  const bob = await join(node, clock, "bob", "a")
  const one = node.actors.room.get("a")
  await one.say("to both")
  await clock.advance(100)
  assert.deepEqual(bob.heard(), ["out ev pt"])
  await one.remove("bob")
  await one.say("to ann alone")
  await clock.advance(100)
  assert.deepEqual(bob.heard(), ["detached SLEPT"])
  await bob.say({ t: "attach", ...bob.attach, ch: 2 })
  assert.deepEqual(bob.heard(), ["detached FORBIDDEN"])
  await node.stop()
})

void test("who gives up by a call what it may see hears first how that came out", async () => {
  const clock = new VirtualClock()
  const { node } = await alone(app, { clock, authenticate })
  const bob = await join(node, clock, "bob", "a")
  await bob.say({ t: "call", ch: 1, c: 1, a: "remove", p: { v: ["bob"] } })
  assert.deepEqual(bob.heard(), ["reply ok", "detached SLEPT"])
  await node.stop()
})

for (const [where, key] of [
  ["here", "k~bos"],
  ["elsewhere", "k~fra"],
] as const)
  void test(`what a new token says counts for an attach that is open, of an actor that is ${where}`, async () => {
    const clock = new VirtualClock()
    const at = linked(app, ["bos", "fra"], { clock, authenticate })
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
    await clock.advance(1_000)
    const { node } = at("bos")
    const ann = await join(node, clock, "ann guest", key)
    const again = async (ch: number): Promise<unknown[]> => {
      const told = ann.heard()
      if (told.length === 0) return [ch]
      assert.deepEqual([where, told], ["elsewhere", ["detached SLEPT"]])
      await ann.say({ t: "attach", ...ann.attach, ch: ch + 1 })
      assert.deepEqual(ann.heard(), ["attached"])
      return [ch + 1]
    }
    await ann.say({ t: "call", ch: 1, c: 1, a: "close", p: { v: [] } })
    assert.deepEqual(ann.heard(), ["reply FORBIDDEN"])
    await ann.say({ t: "token", token: "ann guest" })
    assert.deepEqual(ann.heard(), [], "nothing is new")
    await ann.say({ t: "token", token: "ann host" })
    const [ch] = await again(1)
    await ann.say({ t: "call", ch, c: 2, a: "close", p: { v: [] } })
    assert.deepEqual(ann.heard(), ["reply ok"])
    await ann.say({ t: "token", token: "ann muted" })
    await at(key.slice(2)).node.actors.room.get(key).say("not to her")
    await clock.advance(100)
    assert.deepEqual(ann.heard(), ["detached SLEPT"])
    await ann.say({ t: "attach", ...ann.attach, ch: 9 })
    assert.deepEqual(ann.heard(), ["detached FORBIDDEN"])
    await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  })
