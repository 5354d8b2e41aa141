import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer } from "node:net"
import { describe, test } from "node:test"
import {
  actor,
  emptyBody,
  memory,
  memoryDisk,
  setup,
  type CoreEvent,
  type PeerMemory,
  type Store,
  type StoreOpener,
} from "@sojourn/core"
import { SUBPROTOCOL, SojournError } from "@sojourn/protocol"
import { WebSocket } from "ws"
import { createPop, type Pop } from "./pop.ts"
import type { PopOptions } from "./pop-options.ts"

/** A store without actors: enough for a POP that only finds its peers. */
function emptyStore(id: string, memory: [string, PeerMemory][] = []) {
  let closed = 0
  const peers = new Map(memory)
  const none = (): never => {
    throw new SojournError("STORE_UNAVAILABLE")
  }
  const store: Store = {
    id,
    durability: "flushed",
    watermark: () => 5,
    claim: () => Promise.resolve({ kind: "elsewhere", record: undefined, body: emptyBody }),
    commit: none,
    check: none,
    pull: none,
    install: none,
    stage: none,
    confirm: none,
    learn: none,
    revive: none,
    forgotten: () => Promise.resolve(new Map()),
    forget: none,
    load: () => Promise.resolve(undefined),
    peek: () => Promise.resolve(undefined),
    compact: none,
    list: () => Promise.resolve([]),
    due: () => Promise.resolve([]),
    peers: () => Promise.resolve(peers),
    rememberPeer: (pop, it) => {
      peers.set(pop, it)
      return Promise.resolve()
    },
    close: () => {
      closed++
      return Promise.resolve()
    },
  }
  return { opener: { kind: "empty", open: () => Promise.resolve(store) }, peers, closed: () => closed }
}

const app = setup({ actors: {} })
type Options = Partial<PopOptions<typeof app.actors>>
const pop = (
  id: string,
  storage: PopOptions<unknown>["storage"],
  options: Options = {},
): Promise<Pop<typeof app.actors>> => createPop({ app, id, region: "eu", storage, logLevel: "silent", ...options })

/** Free ports for POPs that must know each other's before they listen. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"))
  const ports: number[] = []
  for (const server of servers) {
    if (!server.listening) await once(server, "listening")
    ports.push((server.address() as { port: number }).port)
  }
  for (const server of servers) {
    server.close()
    await once(server, "close")
  }
  return ports
}
async function meshOf(ids: string[]) {
  const ports = await freePorts(ids.length)
  const peers = ids.map((id, i) => ({ id, region: "eu", url: `ws://127.0.0.1:${String(ports[i])}` }))
  return { ports, mesh: { secret: "a secret of the mesh of tests", peers, homes: ids } }
}
async function closeCode(port: number): Promise<number> {
  const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/connect`, [SUBPROTOCOL])
  ws.on("open", () => ws.send(JSON.stringify({ t: "hello", client: "test", token: "alice" })))
  const [code] = (await once(ws, "close")) as [number]
  return code
}

describe("createPop", () => {
  test("C66 a lone POP serves at once and, closed, leaves nothing and closes its store once", async () => {
    const { opener, closed } = emptyStore("s1")
    const bos = await pop("bos", opener, { dev: true })
    const { port } = await bos.listen(0)
    assert.equal((await fetch(`http://127.0.0.1:${port}/v1/ready`)).status, 200)
    assert.equal((await bos.fetch(new Request("http://x/v1/ready")))?.status, 200)
    assert.equal(await bos.fetch(new Request("http://x/mine")), undefined)
    const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/connect`, [SUBPROTOCOL])
    await once(ws, "open")
    ws.send(JSON.stringify({ t: "hello", client: "test", token: "alice" }))
    const [data] = (await once(ws, "message")) as [Buffer]
    const welcome = JSON.parse(data.toString()) as Record<string, unknown>
    assert.deepEqual([welcome["t"], welcome["pop"], welcome["principal"]], ["welcome", "bos", "alice"])
    const gone = once(ws, "close")
    await Promise.all([bos.close(), bos.close()])
    await gone
    assert.equal(closed(), 1)
    await assert.rejects(fetch(`http://127.0.0.1:${port}/v1/health`))
  })

  test("a client that takes several frames in one message is sent them so, and any client may send them", async () => {
    let ran = Promise.withResolvers<void>()
    const counter = actor({
      state: () => ({ n: 0 }),
      actions: {
        add(c) {
          if (++c.state.n === 20) ran.resolve()
          return c.state.n
        },
      },
    })
    // Nothing is durable before all of them have run: however the loop lets them in, their replies leave together.
    const { kind, open } = memory({ disk: memoryDisk("bos") })
    const storage: StoreOpener = {
      kind,
      async open() {
        const store = await open()
        const claim = store.claim.bind(store)
        store.claim = async (...args) => {
          await ran.promise
          return claim(...args)
        }
        return store
      },
    }
    const app = setup({ actors: { counter } })
    await using bos = await createPop({ id: "bos", region: "eu", storage, app, dev: true, logLevel: "silent" })
    const { port } = await bos.listen(0)
    for (const batch of [undefined, 65_536]) {
      ran = Promise.withResolvers()
      const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/connect`, [SUBPROTOCOL])
      await once(ws, "open")
      ws.send(JSON.stringify({ t: "hello", client: "test", token: "alice", batch }))
      const [data] = (await once(ws, "message")) as [Buffer]
      const welcome = JSON.parse(data.toString()) as { readonly batch: number; readonly sessions: readonly string[] }
      assert.equal(welcome.batch, 65_536)
      const messages: string[] = []
      const replied = new Promise<void>((resolve) =>
        ws.on("message", (more: Buffer) => {
          messages.push(more.toString())
          if (messages.join("\n").split("\n").length === 21) resolve()
        }),
      )
      const actorOf = ["counter", `k${String(batch)}`]
      const attach = { t: "attach", ch: 1, actor: actorOf, sid: welcome.sessions[0], acked: 0, live: false }
      const calls = Array.from({ length: 20 }, (_, i) => ({ t: "call", ch: 1, c: i + 1, a: "add", p: { v: [] } }))
      ws.send([attach, ...calls].map((frame) => JSON.stringify(frame)).join("\n"))
      await replied
      const frames = messages
        .flatMap((one) => one.split("\n"))
        .map((one) => JSON.parse(one) as { t: string; c?: number })
      assert.deepEqual(
        frames.map(({ t, c }) => c ?? t),
        ["attached", ...calls.map(({ c }) => c)],
      )
      if (batch === undefined) assert.equal(messages.length, 21)
      else assert.ok(messages.length < 5, `${messages.length} messages`)
      const gone = once(ws, "close")
      ws.close()
      await gone
    }
  })

  // Pins a defect: it threw within what it was told of, a claim or the end of a turn, and a rejection of its own ended the process.
  for (const [how, onEvent] of [
    ["throws", () => assert.fail("the hook")],
    ["rejects", () => Promise.reject(new Error("the hook"))],
  ] as const)
    test(`an onEvent that ${how} costs nothing`, async () => {
      const note = actor({
        state: () => ({ n: 0 }),
        actions: {
          add: (c) => ++c.state.n,
          refuse() {
            throw new Error("not this one")
          },
        },
      })
      const storage = memory({ disk: memoryDisk("bos") })
      const more = { app: setup({ actors: { note } }), dev: true, logLevel: "silent", onEvent } as const
      await using bos = await createPop({ id: "bos", region: "eu", storage, ...more })
      const handle = bos.actors.note.get("k")
      assert.equal(await handle.add(), 1)
      await assert.rejects(handle.refuse(), { code: "INTERNAL" })
      assert.equal(await handle.add(), 2)
      await bos.close()
    })

  test("without authenticate, and not in dev, every client is refused and told to stop", async () => {
    await using bos = await pop("bos", emptyStore("s1").opener)
    const { port } = await bos.listen(0)
    assert.equal(await closeCode(port), 4502)
  })

  test("authenticate sees the request and the token, and decides", async () => {
    const seen: unknown[] = []
    await using bos = await pop("bos", emptyStore("s1").opener, {
      authenticate: (request, token) => {
        seen.push(request.ip, request.headers["user-agent"] === undefined, token)
        return null
      },
    })
    const { port } = await bos.listen(0)
    assert.equal(await closeCode(port), 4502)
    assert.deepEqual(seen, ["127.0.0.1", true, "alice"])
  })

  test("a POP with peers serves when it has heard one, whichever starts first", async () => {
    const { ports, mesh } = await meshOf(["bos", "fra"])
    const events: CoreEvent[] = []
    const stores = [emptyStore("store-bos"), emptyStore("store-fra")] as const
    await using bos = await pop("bos", stores[0].opener, { mesh, onEvent: (event) => void events.push(event) })
    const { port } = await bos.listen(ports[0] as number)
    assert.equal((await fetch(`http://127.0.0.1:${port}/v1/ready`)).status, 503)
    await using fra = await pop("fra", stores[1].opener, { mesh })
    await fra.listen(ports[1] as number)
    await Promise.all([bos.ready(), fra.ready()])
    assert.equal((await fetch(`http://127.0.0.1:${port}/v1/ready`)).status, 200)
    assert.ok(events.some((event) => event.type === "mesh.up" && event["pop"] === "fra"))
    assert.deepEqual(stores[0].peers.get("fra"), { store: "store-fra", watermark: 5 })
  })

  test("a POP whose peer remembers another store of it never serves, and says why", async () => {
    const { ports, mesh } = await meshOf(["bos", "fra"])
    const memory: [string, PeerMemory][] = [["bos", { store: "the-old-store", watermark: 3 }]]
    await using fra = await pop("fra", emptyStore("store-fra", memory).opener, { mesh: { ...mesh, alone: true } })
    await fra.listen(ports[1] as number)
    await using bos = await pop("bos", emptyStore("a-new-store").opener, { mesh })
    const { port } = await bos.listen(ports[0] as number)
    await assert.rejects(bos.ready(), (error: unknown) => {
      assert.ok(error instanceof SojournError)
      assert.equal(error.code, "STORE_LOST")
      assert.match(error.message, /the-old-store.*new POP id/)
      return true
    })
    assert.equal((await fetch(`http://127.0.0.1:${port}/v1/ready`)).status, 503)
  })

  test("a POP that waits for its first peer can be closed", async () => {
    const { mesh } = await meshOf(["bos", "fra"])
    const { opener, closed } = emptyStore("s1")
    const events: string[] = []
    const bos = await pop("bos", opener, { mesh, onEvent: ({ type }) => void events.push(type) })
    const ready = assert.rejects(bos.ready(), { code: "NOT_SERVING" })
    await bos.close()
    await ready
    assert.ok(!events.includes("pop.started"), "it never served")
    assert.equal(closed(), 1)
    await assert.rejects(bos.listen(0), { code: "NOT_SERVING" })
  })

  test("a store that is refused is closed again, and one that cannot open says why", async () => {
    const { opener, closed } = emptyStore("s1")
    const volatile = {
      kind: "memory",
      open: async () => ({ ...(await opener.open()), durability: "volatile" as const }),
    }
    await assert.rejects(pop("bos", volatile), /the memory store forgets/)
    assert.equal(closed(), 1)
    const busy = { kind: "lmdb", open: () => Promise.reject(new SojournError("STORE_IN_USE")) }
    await assert.rejects(pop("bos", busy), { code: "STORE_IN_USE" })
  })
})
