import assert from "node:assert/strict"
import { test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import type { Authenticate } from "./gateway.ts"
import { defaultLimits } from "./limits.ts"
import type { Principal } from "./mesh-messages.ts"
import { alone } from "./testing/alone.ts"
import { linked } from "./testing/linked.ts"
import { VirtualClock } from "./testing/virtual-clock.ts"

const note = actor({ state: () => ({ n: 0 }), actions: { add: (c) => ++c.state.n } })

function nested(levels: number): unknown {
  return levels === 0 ? 1 : { at: nested(levels - 1) }
}

/** What such a client is sent that calls an actor of another POP, and how its connection and the link end. */
async function visit(who: Principal): Promise<{ told: string[]; closed: string | undefined; linkDown: boolean }> {
  const clock = new VirtualClock()
  const at = linked(setup({ actors: { note } }), ["bos", "fra"], { clock, authenticate: () => who })
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.start()))
  await clock.advance(1_000)
  const { node, events } = at("bos")
  const told: ServerFrame[] = []
  let closed: string | undefined
  const reader = node.acceptClient(
    {
      send: (data) => void told.push(JSON.parse(data) as ServerFrame),
      buffered: () => 0,
      close: (_code, reason) => void (closed = reason),
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  reader.message(JSON.stringify({ t: "hello", client: "one", token: "ann" }))
  await clock.advance(10)
  const [welcome] = told
  if (welcome?.t === "welcome") {
    const [sid] = welcome.sessions
    const calls = [{ c: 1, a: "add", p: { v: [] } }]
    const attach = { ch: 1, actor: ["note", "k~fra"], sid, acked: 0, live: false, stay: true, calls }
    reader.message(JSON.stringify({ t: "attach", ...attach }))
    await clock.advance(1_000)
  }
  const seen = { told: told.map(({ t }) => t), closed, linkDown: events.some(({ type }) => type === "mesh.down") }
  await Promise.all(["bos", "fra"].map((pop) => at(pop).node.stop({ drainMs: 0 })))
  return seen
}

// Pins a defect: a client whose id was longer than a peer takes cost the link to that peer each time it attached to an actor there.
test("a principal that no peer would take, or that JSON cannot carry, is let in nowhere", async () => {
  const circle: Record<string, unknown> = {}
  circle["itself"] = circle
  for (const who of [
    { id: "a".repeat(513) },
    { id: "" },
    { id: "ann", balance: 1n },
    { id: "ann", circle },
    { id: "ann", claims: nested(512) },
  ]) {
    const { told, closed, linkDown } = await visit(who)
    assert.deepEqual([told, linkDown], [[], false])
    assert.match(String(closed), /^UNAUTHORIZED/)
  }
  for (const who of [{ id: "a".repeat(512) }, { id: "ann", claims: nested(500) }]) {
    const { told, linkDown } = await visit(who)
    assert.deepEqual([told, linkDown], [["welcome", "attached", "reply"], false])
  }
})

// A BigInt in a principal broke the relay to another POP as an INVARIANT, which dropped the actor there for everybody; a Date was a text there.

/** Who the actor is told has called it, or the code that the connection was closed with and the event of it. */
async function meet(who: unknown): Promise<unknown> {
  let tell: (what: unknown) => void
  const told = new Promise<unknown>((resolve) => (tell = resolve))
  const door = actor({
    state: () => ({}),
    actions: { knock: () => undefined },
    authorize: (_, principal) => {
      tell(principal)
      return true
    },
  })
  const authenticate = (() => who) as Authenticate
  const { node, events } = await alone(setup({ actors: { door } }), { authenticate })
  const reader = node.acceptClient(
    {
      send: (data) => {
        const frame = JSON.parse(data) as ServerFrame
        if (frame.t !== "welcome") return
        const calls = [{ c: 1, a: "knock", p: { v: [] } }]
        const attach = {
          t: "attach",
          ch: 1,
          actor: ["door", "a"],
          sid: frame.sessions[0],
          acked: 0,
          live: false,
          calls,
        }
        reader.message(JSON.stringify(attach))
      },
      buffered: () => 0,
      close: (code) => {
        tell([code, ...events.filter(({ type }) => type === "authenticate.failed").map(({ error }) => String(error))])
      },
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  reader.message(JSON.stringify({ t: "hello", client: "test", token: "t" }))
  const what = await told
  await node.stop()
  return what
}

void test("a principal is what JSON carries of it, here as where it is relayed to", async () => {
  const since = new Date(0)
  assert.deepEqual(await meet({ id: "ann", since, roles: ["a"], left: undefined, can: () => true }), {
    id: "ann",
    since: since.toISOString(),
    roles: ["a"],
  })
})

void test("who is no principal is refused, and the log says why", async () => {
  assert.deepEqual(await meet(null), [4502])
  for (const [who, why] of [
    [{ id: "ann", number: 5n }, /BigInt/],
    ["ann", /authenticate must return null, or an object with an id/],
    [{ id: "" }, /authenticate must return null, or an object with an id/],
  ] as const) {
    const [code, event] = (await meet(who)) as [number, string]
    assert.equal(code, 4502)
    assert.match(event, why)
  }
})

// Each of a connection's thousands of frames called authenticate at once, and an old token's answer could replace a newer one's.
void test("a connection's tokens are looked at one at a time, the last one of those that wait", async () => {
  const asked: (string | undefined)[] = []
  const answers: (() => void)[] = []
  let told = (): void => undefined
  const next = (): Promise<void> => new Promise((resolve) => (told = resolve))
  const { node } = await alone(setup({ actors: {} }), {
    authenticate: (_, token) => {
      asked.push(token)
      told()
      return token === "first" ? { id: "ann" } : new Promise((resolve) => answers.push(() => resolve({ id: "ann" })))
    },
  })
  const welcome = next()
  const reader = node.acceptClient(
    {
      send: () => {
        told()
      },
      buffered: () => 0,
      close: () => undefined,
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = (t: string, token: string): void => {
    reader.message(JSON.stringify({ t, client: "test", token }))
  }
  say("hello", "first")
  await welcome
  await next()
  for (const token of ["second", "third", "fourth"]) say("token", token)
  assert.deepEqual(asked, ["first", "second"])
  const again = next()
  answers[0]?.()
  await again
  assert.deepEqual(asked, ["first", "second", "fourth"])
  await node.stop()
})

// Those that came after one that was never answered waited for ever, and the connection stayed as it was.
void test("a connection whose token authenticate never answers is closed in time", async () => {
  const clock = new VirtualClock()
  const { node } = await alone(setup({ actors: {} }), {
    clock,
    authenticate: (_, token) => (token === "stuck" ? new Promise(() => undefined) : { id: "ann" }),
  })
  const closed: string[] = []
  const reader = node.acceptClient(
    { send: () => undefined, buffered: () => 0, close: (_code, reason) => closed.push(reason) },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  const say = (t: string, token: string): void => {
    reader.message(JSON.stringify({ t, client: "test", token }))
  }
  say("hello", "first")
  await clock.advance(1)
  say("token", "good")
  await clock.advance(defaultLimits.helloMsMax - 1)
  say("token", "stuck")
  say("token", "good")
  await clock.advance(defaultLimits.helloMsMax - 1)
  assert.deepEqual(closed, [])
  await clock.advance(1)
  assert.deepEqual(closed, ["HANDSHAKE_TIMEOUT"])
  await node.stop()
})
