import assert from "node:assert/strict"
import { createServer, request, type Server } from "node:http"
import { connect } from "node:net"
import { once } from "node:events"
import { afterEach, describe, test } from "node:test"
import { setTimeout as delay } from "node:timers/promises"
import { SojournError, SUBPROTOCOL, TICKET_PREFIX } from "@sojourn/protocol"
import { withLimits, type CoreEvent, type Limits, type Pipe } from "@sojourn/core"
import { WebSocket } from "ws"
import { createFront, FORGET_PATH, type AdminDesk, type ClientUpgrade, type Front } from "./front.ts"
import { createMeshDialer, MESH_SUBPROTOCOL } from "./mesh-dialer.ts"
import type { OriginPolicy } from "./origin.ts"

/** A node that echoes, and keeps what it was told. */
function echoNode() {
  const upgrades: ClientUpgrade[] = []
  const early: string[] = []
  const closed: [number, string][] = []
  const order: string[] = []
  const pipes: Pipe<string>[] = []
  const read: string[] = []
  const closures: (() => void)[] = []
  const over = (code: number, reason: string): void => {
    closed.push([code, reason])
    for (const done of closures.splice(0)) done()
  }
  return {
    upgrades,
    tickets: early,
    closed,
    order,
    pipes,
    read,
    /** Once the next connection has ended here too. */
    ended: () => new Promise<void>((resolve) => closures.push(resolve)),
    node: {
      serving: () => true,
      early: (ticket: string) => {
        order.push("early")
        early.push(ticket)
      },
      acceptClient: (pipe: Pipe<string>, upgrade: ClientUpgrade) => {
        order.push("accept")
        upgrades.push(upgrade)
        pipes.push(pipe)
        return {
          message: (text: string) => {
            read.push(text)
            if (text === "throw") throw new Error("a defect")
            if (text === "close") pipe.close(4002, "SLOW_READER: " + "ж".repeat(200))
            else if (text !== "wait") pipe.send(text)
          },
          closed: over,
        }
      },
      acceptMesh: (pipe: Pipe<Uint8Array>) => ({
        message: (bytes: Uint8Array) => pipe.send(bytes),
        closed: over,
      }),
    },
  }
}

const fronts: Front[] = []
const others: Server[] = []
afterEach(async () => {
  for (const front of fronts.splice(0)) await front.close(50)
  for (const server of others.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

interface FrontSetUp {
  policy?: Partial<OriginPolicy>
  limits?: Partial<Limits>
  take?: (chars: number, run: () => void) => void
  accepted?: () => void
  admin?: AdminDesk
}
function makeFront(options: FrontSetUp = {}) {
  const echo = echoNode()
  const events: CoreEvent[] = []
  const front = createFront({
    take: options.take ?? ((_chars, run) => run()),
    accepted: options.accepted ?? (() => undefined),
    node: echo.node,
    limits: withLimits(options.limits),
    identity: { pop: "bos", node: "n1", region: "us-east" },
    events: (event) => void events.push(event),
    policy: { origins: [], publicUrl: undefined, loopback: false, ...options.policy },
    ...(options.admin && { admin: options.admin }),
  })
  fronts.push(front)
  return { ...echo, front, events }
}
const listen = async (options: Parameters<typeof makeFront>[0] = {}) => {
  const made = makeFront(options)
  const { port } = await made.front.listen(0, "127.0.0.1")
  return { ...made, port, url: `ws://127.0.0.1:${port}/v1/connect` }
}
async function open(url: string, protocols: string[] = [SUBPROTOCOL], headers: Record<string, string> = {}) {
  const ws = new WebSocket(url, protocols, { headers })
  const closed = new Promise<[number, string]>((resolve) => {
    ws.on("close", (code, reason) => resolve([code, reason.toString()]))
  })
  await once(ws, "open")
  return { ws, closed }
}
const upgradeHead = [
  "GET /v1/connect HTTP/1.1",
  "Host: x",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
]
/** A socket that upgrades, if it writes all of it, and then answers nothing. */
async function deafTo(port: number, head: readonly string[]) {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
  socket.on("error", () => undefined)
  const closed = once(socket, "close")
  if (head.length > 0) socket.write(head.join("\r\n"))
  if (head.at(-1) === "\r\n") await once(socket, "data")
  socket.resume()
  socket.once("end", () => socket.end())
  return { socket, closed }
}
/** A whole text frame of a client. */
function textFrame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
}
async function refusedWith(url: string, protocols: string[], headers: Record<string, string> = {}): Promise<number> {
  const ws = new WebSocket(url, protocols, { headers })
  ws.on("error", () => undefined)
  const [, response] = (await once(ws, "unexpected-response")) as [unknown, { statusCode: number }]
  ws.terminate()
  return response.statusCode
}

describe("the front door", () => {
  test("C21 hands over the ticket before the upgrade is answered, and the answer names only sojourn.v1", async () => {
    const { url, order, tickets, upgrades } = await listen()
    const { ws } = await open(`${url}?at=fra`, [SUBPROTOCOL, `${TICKET_PREFIX}cGF5.k3y.bWFj`])
    assert.equal(ws.protocol, SUBPROTOCOL)
    assert.deepEqual(order, ["early", "accept"])
    assert.deepEqual(tickets, ["cGF5.k3y.bWFj"])
    const [upgrade] = upgrades
    assert.equal(upgrade?.at, "fra")
    assert.equal(upgrade.ticket, "cGF5.k3y.bWFj")
    assert.equal(upgrade.ip, "127.0.0.1")
    assert.ok(!JSON.stringify(upgrade.headers).includes("cGF5"), "the ticket is not among the headers")
    ws.send("ping")
    const [data] = (await once(ws, "message")) as [Buffer]
    assert.equal(data.toString(), "ping")
  })

  test("C68 closes a foreign page with 4503 before the node hears of it, its ticket included", async () => {
    const { url, upgrades, tickets, events } = await listen()
    const { closed } = await open(url, [SUBPROTOCOL, `${TICKET_PREFIX}a.b.c`], { origin: "https://evil.example" })
    assert.equal((await closed)[0], 4503)
    assert.deepEqual([upgrades, tickets], [[], []])
    assert.equal(events[0]?.["code"], "FOREIGN_ORIGIN")
  })

  test("C68 takes the same origin, listed ones, and none at all", async () => {
    const { url, port, upgrades } = await listen({ policy: { origins: ["https://app.example.com"] } })
    for (const headers of [{}, { origin: `http://127.0.0.1:${port}` }, { origin: "https://app.example.com" }])
      await open(url, [SUBPROTOCOL], headers)
    assert.equal(upgrades.length, 3)
  })

  test("C69 closes an oversized frame with 4501, whichever bound it passes, and disturbs no other connection", async () => {
    const { url } = await listen({ limits: { frameCharsMax: 10_000 } })
    const calm = await open(url)
    calm.ws.send("hello")
    await once(calm.ws, "message")
    for (const text of ["x".repeat(10_001), "x".repeat(40_000)]) {
      const big = await open(url)
      big.ws.send("hello")
      await once(big.ws, "message")
      big.ws.send(text)
      assert.equal((await big.closed)[0], 4501)
    }
    calm.ws.send("y".repeat(10_000))
    const [data] = (await once(calm.ws, "message")) as [Buffer]
    assert.equal(data.length, 10_000)
  })

  test("C69 buffers no more than a first frame may have for a stranger, however long a frame it announces", async () => {
    const { url, ended, closed } = await listen()
    const { ws } = await open(url)
    const over = ended()
    const header = Buffer.alloc(14)
    header[0] = 0x81
    header[1] = 0x80 | 127
    header.writeBigUInt64BE(3_000_000n, 2)
    const socket = (ws as unknown as { _socket: { write(data: Buffer): void } })._socket
    socket.write(header)
    socket.write(Buffer.alloc(20_000))
    await over
    assert.equal(closed.length, 1)
  })

  // What was read of a frame was kept for as long as `authenticate` took, and for 30 s after the connection was closed.
  for (const [who, head, greeting] of [
    ["who is not welcomed yet", [], ["wait"]],
    ["who was refused", [], ["close"]],
    ["a foreign page", ["Origin: https://evil.example"], []],
  ] as const)
    test(`C69 nor for ${who}`, async () => {
      const { port } = await listen({ limits: { helloMsMax: 60_000 } })
      const { socket, closed } = await deafTo(port, [...upgradeHead, ...head, "\r\n"])
      for (const text of greeting) socket.write(textFrame(text))
      const header = Buffer.alloc(14)
      header[0] = 0x81
      header[1] = 0x80 | 127
      header.writeBigUInt64BE(3_000_000n, 2)
      socket.write(Buffer.concat([header, Buffer.alloc(20_000)]))
      await closed
    })

  test("C69 who does not answer a close, or sends half a request or none, is cut off", async () => {
    const { port } = await listen({ limits: { helloMsMax: 50 } })
    const foreign = [...upgradeHead, "Origin: https://evil.example", "\r\n"]
    const all = await Promise.all([foreign, upgradeHead, []].map((head) => deafTo(port, head)))
    await Promise.all(all.map(({ closed }) => closed))
  })

  test("C69 closes binary, broken UTF-8 and broken framing as BAD_FRAME", async () => {
    const { url } = await listen()
    const binary = await open(url)
    binary.ws.send(Buffer.from([1, 2]))
    assert.equal((await binary.closed)[0], 4500)
    for (const bytes of [Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff]), Buffer.from([0xf3, 0x80, 0, 0, 0, 0])]) {
      const raw = await open(url)
      ;(raw.ws as unknown as { _socket: { write(data: Buffer): void } })._socket.write(bytes)
      assert.equal((await raw.closed)[0], 4500)
    }
  })

  test("a reader that throws costs its own connection only", async () => {
    const { url, events } = await listen()
    const [bad, good] = [await open(url), await open(url)]
    bad.ws.send("throw")
    assert.equal((await bad.closed)[0], 1011)
    assert.equal(events.at(-1)?.["code"], "INVARIANT")
    good.ws.send("still here")
    await once(good.ws, "message")
  })

  test("a close reason that is too long is cut at a character, and the code arrives", async () => {
    const { url } = await listen()
    const { ws, closed } = await open(url)
    ws.send("close")
    const [code, reason] = await closed
    assert.equal(code, 4002)
    assert.match(reason, /^SLOW_READER: ж+$/)
  })

  test("reads the frames of one message in order, each with its own length, and answers so where that is taken", async () => {
    const { url, pipes, read } = await listen({ limits: { frameCharsMax: 1_000 } })
    const { ws } = await open(url)
    const messages: string[] = []
    ws.on("message", (data: Buffer) => messages.push(data.toString()))
    ws.send("a\nb")
    await once(ws, "message")
    if (messages.length < 2) await once(ws, "message")
    assert.deepEqual(messages, ["a", "b"])
    pipes[0]?.batch?.(10_000)
    const long = "l".repeat(900)
    ws.send(["c", long, long, "d"].join("\n"))
    await once(ws, "message")
    assert.deepEqual(messages.slice(2), [["c", long, long, "d"].join("\n")])
    assert.deepEqual(read, ["a", "b", "c", long, long, "d"])
  })

  test("says what was said before it closes a connection, in the same turn as well", async () => {
    const { url, pipes } = await listen()
    const { ws, closed } = await open(url)
    const messages: string[] = []
    ws.on("message", (data: Buffer) => messages.push(data.toString()))
    pipes[0]?.batch?.(10_000)
    ws.send("a\nb\nclose\nc")
    const [code] = await closed
    assert.equal(code, 4002)
    assert.deepEqual(messages, ["a\nb"])
  })

  test("closes a connection whose message has too many frames, or is too long for several, and no other", async () => {
    const { url, read } = await listen({ limits: { frameCharsMax: 100_000 } })
    const good = await open(url)
    for (const message of ["\n".repeat(200_000), "\n".repeat(1_024), `a\n${"x".repeat(70_000)}`]) {
      const { ws, closed } = await open(url)
      ws.send("greeting")
      await once(ws, "message")
      ws.send(message)
      const [code] = await closed
      assert.equal(code, 4500, `${message.length} characters`)
    }
    assert.deepEqual(read, ["greeting", "greeting", "greeting"])
    good.ws.send("still here")
    await once(good.ws, "message")
  })

  test("a pipe tells when a frame has left the process, and how much waits", async () => {
    const { url, pipes } = await listen()
    await open(url)
    const [pipe] = pipes as [Pipe<string>]
    await new Promise<void>((done) => {
      pipe.send("z".repeat(500_000), done)
      assert.ok(pipe.buffered() >= 0)
    })
    assert.equal(pipe.buffered(), 0)
  })

  test("refuses an upgrade without the subprotocol, to an unknown path, or past connectionsMax", async () => {
    const { url, port, events } = await listen({ limits: { connectionsMax: 1 } })
    assert.equal(await refusedWith(url, ["other"]), 400)
    assert.equal(await refusedWith(`ws://127.0.0.1:${port}/elsewhere`, [SUBPROTOCOL]), 404)
    const { ws } = await open(url)
    assert.equal(await refusedWith(url, [SUBPROTOCOL]), 503)
    assert.equal(events.at(-1)?.["code"], "RATE_LIMITED")
    ws.close()
    await once(ws, "close")
  })

  test("reads a client's frames when they are let in, a bad one too, and its end behind them", async () => {
    const waiting: { chars: number; run: () => void }[] = []
    const came = Promise.withResolvers<void>()
    const { url, ended } = await listen({
      take: (chars, run) => {
        if (waiting.push({ chars, run }) === 4) came.resolve()
      },
    })
    const { ws, closed } = await open(url)
    let over = false
    const end = ended().then(() => {
      over = true
    })
    ws.send("one")
    ws.send("three")
    ws.send(Buffer.from([1]))
    ws.close()
    await closed
    await came.promise
    assert.deepEqual([waiting.map(({ chars }) => chars), over], [[3, 5, 0, 0], false])
    for (const { run } of waiting) run()
    await end
  })

  for (const [what, bad] of [
    ["is binary", Buffer.from([1])],
    ["its reader failed on", "throw"],
  ] as const)
    test(`drops what waits behind a frame that ${what}`, async () => {
      const waiting: (() => void)[] = []
      const came = Promise.withResolvers<void>()
      const { url, read } = await listen({
        take: (_chars, run) => {
          if (waiting.push(run) === 3) came.resolve()
        },
      })
      const { ws } = await open(url)
      for (const data of ["before", bad, "behind"]) ws.send(data)
      await came.promise
      for (const run of waiting) run()
      assert.deepEqual(read, bad === "throw" ? ["before", "throw"] : ["before"])
    })

  test("takes mesh links in binary, from no page", async () => {
    const { port } = await listen()
    const url = `ws://127.0.0.1:${port}/v1/mesh`
    assert.equal(await refusedWith(url, [MESH_SUBPROTOCOL], { origin: `http://127.0.0.1:${port}` }), 403)
    assert.equal(await refusedWith(url, [SUBPROTOCOL]), 400)
    const heard: Uint8Array[] = []
    let arrived: () => void = () => undefined
    const answer = new Promise<void>((resolve) => (arrived = resolve))
    const reader = {
      message: (bytes: Uint8Array) => {
        heard.push(bytes)
        arrived()
      },
      closed: () => undefined,
    }
    const dialer = createMeshDialer(withLimits(), () => undefined)
    const pipe = await dialer.dial(`ws://127.0.0.1:${port}`, reader, new AbortController().signal)
    pipe.send(new Uint8Array(70_000).fill(9))
    await answer
    assert.equal(heard[0]?.length, 70_000)
  })

  test("a dial that is given up, or refused, rejects", async () => {
    const { port } = await listen()
    const dialer = createMeshDialer(withLimits(), () => undefined)
    const reader = { message: () => undefined, closed: () => undefined }
    const abort = new AbortController()
    const dialing = dialer.dial(`ws://127.0.0.1:${port}`, reader, abort.signal)
    abort.abort()
    await assert.rejects(dialing)
    await assert.rejects(dialer.dial(`ws://127.0.0.1:${port}/nowhere`, reader, new AbortController().signal))
  })
})

describe("a front attached to somebody's server", () => {
  test("serves clients beside its routes and upgrades, and lets go of it on close", async () => {
    const { front, upgrades } = makeFront()
    const server = createServer((_, response) => response.end("mine"))
    others.push(server)
    let theirs = 0
    front.attach(server)
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as { port: number }
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/page`)).text(), "mine")
    assert.equal(await refusedWith(`ws://127.0.0.1:${port}/chat`, ["chat"]), 404)
    server.on("upgrade", (incoming, socket) => {
      if (incoming.url !== "/chat") return
      theirs++
      socket.end("HTTP/1.1 418 Teapot\r\n\r\n")
    })
    assert.equal(await refusedWith(`ws://127.0.0.1:${port}/chat`, ["chat"]), 418)
    assert.equal(theirs, 1)
    const { closed } = await open(`ws://127.0.0.1:${port}/v1/connect`)
    assert.equal(upgrades.length, 1)
    await front.close()
    assert.equal((await closed)[0], 4000)
    assert.equal(server.listenerCount("upgrade"), 1)
    assert.equal(
      await (await fetch(`http://127.0.0.1:${port}/page`)).text(),
      "mine",
      "the server is not the POP's to close",
    )
  })
})

describe("health and lifecycle", () => {
  test("answers health, readiness and 426 over HTTP and through fetch, and nothing else through fetch", async () => {
    const { port, front } = await listen()
    const base = `http://127.0.0.1:${port}`
    for (const [path, status] of [
      ["/v1/health", 200],
      ["/v1/ready", 200],
      ["/v1/connect", 426],
      ["/other", 404],
    ] as const)
      assert.equal((await fetch(base + path)).status, status, path)
    assert.equal((await fetch(`${base}/v1/health`, { method: "POST" })).status, 405)
    const health = front.fetch(new Request(`${base}/v1/health`))
    assert.deepEqual(await health?.json(), { status: "up", pop: "bos", node: "n1", region: "us-east", connections: 0 })
    assert.equal(front.fetch(new Request(`${base}/other`)), undefined)
    front.shut()
    const response = front.fetch(new Request(`${base}/v1/ready`))
    assert.equal(response?.status, 503)
    assert.equal(response.headers.get("retry-after"), "1")
  })

  // All of it was read, whoever sent it: the desk judges afterwards.
  test("C69 what is asked through fetch is read no further than it may be long", async () => {
    const asked: string[] = []
    const { front } = makeFront({
      admin: (_, body) => {
        asked.push(body)
        return Promise.resolve({ status: 200, body: {} })
      },
    })
    let pulled = 0
    const endless = new ReadableStream<Uint8Array>({
      pull(to) {
        to.enqueue(new Uint8Array(1_000))
        if (++pulled === 1_000) to.close()
      },
    })
    const post = (body: BodyInit) =>
      front.administer(new Request(`http://x${FORGET_PATH}`, { method: "POST", body, duplex: "half" } as RequestInit))
    assert.equal((await post(endless))?.status, 413)
    assert.ok(pulled < 10, `${pulled} were read`)
    assert.equal((await post("{ж}"))?.status, 200)
    assert.deepEqual(asked, ["{ж}"])
  })

  test("C66 close() ends every socket, also one that never answers, and frees the port", async () => {
    const { front, url, port } = await listen()
    const polite = await open(url)
    const { closed: gone } = await deafTo(port, [...upgradeHead, "\r\n"])
    await front.close(50)
    assert.equal((await polite.closed)[0], 4000)
    await gone
    const again = makeFront()
    assert.equal((await again.front.listen(port, "127.0.0.1")).port, port)
  })

  test("a port in use is named, with what to do, and the next listen may succeed", async () => {
    const { port } = await listen()
    const { front } = makeFront()
    await assert.rejects(front.listen(port, "127.0.0.1"), (error: unknown) => {
      assert.ok(error instanceof SojournError)
      assert.equal(error.code, "BAD_CONFIG")
      assert.match(error.message, new RegExp(`port ${port} on 127.0.0.1 is in use by another process`))
      return true
    })
    for (const wrong of [65_536, -1, 80.5, NaN, undefined, "pipe"])
      await assert.rejects(front.listen(wrong as number, "127.0.0.1"), { code: "BAD_CONFIG" })
    assert.ok((await front.listen(0, "127.0.0.1")).port > 0)
    await assert.rejects(front.listen(0, "127.0.0.1"), /listens already/)
  })

  // `listen(8080, process.env.HOST ?? "")` listened on every interface.
  test("a host that is none is refused, and not taken for all of them", async () => {
    const { front } = makeFront()
    for (const wrong of ["", 511, null, {}])
      await assert.rejects(front.listen(0, wrong as string), { code: "BAD_CONFIG", message: /"0.0.0.0" or "::"/ })
    assert.ok((await front.listen(0, "127.0.0.1")).port > 0)
  })

  // It was remembered all the same, and close() failed at it: sockets open, the store never closed.
  test("what is no server is not attached, and closing goes on as ever", async () => {
    const { front } = makeFront()
    const { port } = await front.listen(0, "127.0.0.1")
    const { closed } = await open(`ws://127.0.0.1:${port}/v1/connect`)
    for (const wrong of [undefined, null, {}, "server", 8080])
      assert.throws(() => front.attach(wrong as Server), { code: "BAD_CONFIG", message: /node:https/ })
    await front.close(50)
    assert.equal((await closed)[0], 4000)
  })

  test("what begins to listen while this closes is closed too, and nothing is opened afterwards", async () => {
    const { front } = makeFront()
    const opening = front.listen(0, "localhost")
    await front.close(50)
    const { port } = await opening
    await assert.rejects(fetch(`http://localhost:${port}/v1/health`))
    const server = createServer()
    assert.throws(() => front.attach(server), { code: "NOT_SERVING" })
    assert.equal(server.listenerCount("upgrade"), 0)
    const { front: second } = makeFront()
    second.shut()
    await assert.rejects(second.listen(0, "127.0.0.1"), { code: "NOT_SERVING" })
  })

  test("each connection is told of when it is accepted, whoever made the server, until this closes", async () => {
    let accepted = 0
    const { front, port } = await listen({ accepted: () => accepted++ })
    const server = createServer((_, response) => response.end("mine"))
    others.push(server)
    front.attach(server)
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const theirs = (server.address() as { port: number }).port
    await open(`ws://127.0.0.1:${port}/v1/connect`)
    assert.equal(accepted, 1)
    await open(`ws://127.0.0.1:${theirs}/v1/connect`)
    assert.equal(accepted, 2)
    await front.close(50)
    assert.equal((await fetch(`http://127.0.0.1:${theirs}/`)).status, 200)
    assert.equal(accepted, 2)
  })

  // Both answered the first client's upgrade, which ended the process.
  test("two POPs cannot be attached to one server at the same time", async () => {
    const [{ front: first }, { front: second }] = [makeFront(), makeFront()]
    const server = createServer()
    first.attach(server)
    first.attach(server)
    assert.throws(() => second.attach(server), { code: "BAD_CONFIG" })
    await first.close()
    second.attach(server)
    assert.equal(server.listenerCount("upgrade"), 1)
  })

  test("a request that is cut off half way is not waited for", async () => {
    const { front, port } = await listen()
    const half = request({ port, path: "/v1/connect", method: "GET", host: "127.0.0.1" })
    half.on("error", () => undefined)
    half.flushHeaders()
    await once(half, "response")
    const closing = front.close(50)
    assert.equal(await Promise.race([closing.then(() => "closed"), delay(5_000, "stuck", { ref: false })]), "closed")
    half.destroy()
  })
})
