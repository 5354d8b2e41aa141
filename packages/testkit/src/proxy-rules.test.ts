import assert from "node:assert/strict"
import { once } from "node:events"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import { describe, test } from "node:test"
import { WebSocket, WebSocketServer } from "ws"
import { createProxy, type Proxy } from "./proxy.ts"
import type { ProxyMessage } from "./proxy-messages.ts"
import type { ProxyRule } from "./proxy-rules.ts"

interface Ends {
  readonly proxy: Proxy
  readonly near: WebSocket
  readonly far: WebSocket
  /** What came to either, in order. */
  readonly up: string[]
  readonly down: string[]
  /** Both have read everything that was sent so far, as far as the line lets it pass. */
  settled(): Promise<void>
}

/** A client, a server and the proxy between them. */
async function ends(run: (ends: Ends) => Promise<void>): Promise<void> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })
  await once(server, "listening")
  const proxy = await createProxy({
    rttMs: 0,
    messages: true,
    target: { host: "127.0.0.1", port: (server.address() as AddressInfo).port },
  })
  const near = new WebSocket(`ws://127.0.0.1:${proxy.port}`, { perMessageDeflate: false })
  const [[far]] = (await Promise.all([once(server, "connection"), once(near, "open")])) as [[WebSocket], unknown]
  const up: string[] = []
  const down: string[] = []
  for (const [socket, into] of [
    [far, up],
    [near, down],
  ] as const) {
    socket.on("message", (data: Buffer) => into.push(String(data)))
    socket.on("error", () => undefined)
  }
  const ping = async (socket: WebSocket): Promise<void> => {
    socket.ping()
    await once(socket, "pong")
  }
  try {
    await run({
      proxy,
      near,
      far,
      up,
      down,
      async settled() {
        await ping(near)
        await ping(far)
      },
    })
  } finally {
    near.terminate()
    far.terminate()
    await proxy.close()
    server.close()
  }
}

const says = (text: string) => (message: ProxyMessage) => message.payload.toString() === text

describe("the rules of a proxy", () => {
  test("drop loses the message that matches, in its direction, and none of its neighbours", async () => {
    await ends(async ({ proxy, near, far, up, down, settled }) => {
      const rule = proxy.addRule({ do: "drop", side: "up", match: says("b") })
      for (const text of ["a", "b", "c", "b"]) {
        near.send(text)
        far.send(text)
      }
      await settled()
      assert.deepEqual(up, ["a", "c"])
      assert.deepEqual(down, ["a", "b", "c", "b"])
      assert.equal(rule.acted, 2)
      rule.remove()
      near.send("b")
      await settled()
      assert.deepEqual(up, ["a", "c", "b"])
    })
  })

  test("duplicate brings a message twice, and stops after as many times as it was told", async () => {
    await ends(async ({ proxy, near, far, up, down, settled }) => {
      proxy.addRule({ do: "duplicate", side: "down", times: 1 })
      for (const text of ["a", "b"]) {
        near.send(text)
        far.send(text)
      }
      await settled()
      assert.deepEqual(up, ["a", "b"])
      assert.deepEqual(down, ["a", "a", "b"])
      assert.deepEqual(
        proxy.events.map(({ what, side }) => [what, side]),
        [
          ["open", undefined],
          ["duplicate", "down"],
        ],
      )
    })
  })

  test("delay holds back the message that matches and what is behind it, and keeps the order", async () => {
    await ends(async ({ proxy, near, up }) => {
      proxy.addRule({ do: "delay", ms: 80, match: says("late") })
      const begun = performance.now()
      for (const text of ["early", "late", "behind"]) near.send(text)
      while (up.length < 3) await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(up, ["early", "late", "behind"])
      assert.ok(performance.now() - begun > 78)
    })
  })

  test("throttle lets a direction carry so many bytes a second", async () => {
    await ends(async ({ proxy, near, far, up, down, settled }) => {
      const rule = proxy.addRule({ do: "throttle", side: "up", bytesPerSecond: 50_000 })
      const begun = performance.now()
      near.send("x".repeat(2_500))
      near.send("x".repeat(2_500))
      far.send("quick")
      while (down.length < 1) await new Promise((resolve) => setImmediate(resolve))
      assert.equal(up.length, 0, "the other direction waited too")
      while (up.length < 2) await new Promise((resolve) => setImmediate(resolve))
      assert.ok(performance.now() - begun > 98)
      rule.remove()
      await settled()
    })
  })

  test("cut resets the connection on which the message comes, and no other", async () => {
    await ends(async ({ proxy, near, far, up }) => {
      const other = new WebSocket(`ws://127.0.0.1:${proxy.port}`, { perMessageDeflate: false })
      await once(other, "open")
      proxy.addRule({ do: "cut", match: says("b") })
      const closed = Promise.all([once(near, "close"), once(far, "close")])
      near.send("a")
      near.send("b")
      const [[one], [two]] = (await closed) as [[number], [number]]
      assert.deepEqual([one, two], [1006, 1006])
      // What came before it may be lost with the reset, what comes with it is.
      assert.ok(!up.includes("b"))
      other.ping()
      await once(other, "pong")
      other.terminate()
    })
  })

  test("half-open in one direction: all that follows in it vanishes, the other goes on, and neither end is told", async () => {
    await ends(async ({ proxy, near, far, up, down }) => {
      let told = 0
      for (const socket of [near, far]) socket.on("close", () => (told += 1))
      proxy.addRule({ do: "half-open", side: "up", match: says("b") })
      for (const text of ["a", "b", "c"]) near.send(text)
      for (const text of ["1", "2"]) far.send(text)
      while (down.length < 2 || up.length < 1) await new Promise((resolve) => setImmediate(resolve))
      far.send("3")
      while (down.length < 3) await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(up, ["a"])
      assert.equal(told, 0)
      near.terminate()
      far.send("4")
      await once(near, "close")
      assert.equal(far.readyState, WebSocket.OPEN, "the other end was told")
    })
  })

  test("a message is one whatever it travels in: in frames of its own, in chunks of any size, with a ping between", async () => {
    const server = createServer()
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const proxy = await createProxy({
      rttMs: 0,
      messages: true,
      target: { host: "127.0.0.1", port: (server.address() as AddressInfo).port },
    })
    const seen: string[] = []
    proxy.addRule({ do: "drop", match: ({ payload, kind }) => seen.push(`${kind} ${payload}`) === 2 })
    const near = connect(proxy.port, "127.0.0.1")
    const [far] = (await once(server, "connection")) as [Socket]
    for (const socket of [near, far]) socket.on("error", () => undefined)
    let got = Buffer.alloc(0)
    far.on("data", (chunk: Buffer) => (got = Buffer.concat([got, chunk])))
    const frame = (first: number, text: string): Buffer => {
      const length = text.length < 126 ? [0x80 | text.length] : [0x80 | 126, text.length >> 8, text.length & 0xff]
      const mask = [7, 77, 177, 250]
      return Buffer.from([first, ...length, ...mask, ...[...Buffer.from(text)].map((x, i) => x ^ (mask[i & 3] ?? 0))])
    }
    const head = Buffer.from("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n\r\n")
    const long = "l".repeat(300)
    const bytes = Buffer.concat([
      head,
      frame(0x01, "be"),
      frame(0x89, "ping"),
      frame(0x80, "gun"),
      frame(0x82, "dropped"),
      frame(0x81, long),
    ])
    for (const byte of bytes) {
      near.write(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const expected = Buffer.concat([
      head,
      frame(0x89, "ping"),
      frame(0x01, "be"),
      frame(0x80, "gun"),
      frame(0x81, long),
    ])
    while (got.length < expected.length) await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(got, expected)
    assert.deepEqual(seen, ["text begun", "binary dropped", `text ${long}`])
    near.destroy()
    await proxy.close()
    server.close()
  })

  test("what is no WebSocket passes as it is, and is dropped by no rule", async () => {
    const server = createServer((socket) => socket.on("error", () => undefined).pipe(socket))
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    await using proxy = await createProxy({
      rttMs: 0,
      messages: true,
      target: { host: "127.0.0.1", port: (server.address() as AddressInfo).port },
    })
    proxy.addRule({ do: "drop" })
    for (const text of ["no head", "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody"]) {
      const near = connect(proxy.port, "127.0.0.1")
      near.on("error", () => undefined)
      near.write(text)
      let got = ""
      while (got.length < text.length) got += String(((await once(near, "data")) as [Buffer])[0])
      assert.equal(got, text)
      near.destroy()
    }
    server.close()
  })

  test("a rule that cannot be is refused by name", async () => {
    await using bytes = await createProxy({ rttMs: 0 })
    await using messages = await createProxy({ rttMs: 0, messages: true })
    const refused = (proxy: Proxy, rule: ProxyRule, why: RegExp): void => {
      assert.throws(() => proxy.addRule(rule), why)
    }
    refused(bytes, { do: "drop" }, /needs messages/)
    refused(bytes, { do: "cut", match: () => true }, /needs messages/)
    refused(messages, { do: "delay", ms: -1 }, /ms of a proxy's rule/)
    refused(messages, { do: "throttle", bytesPerSecond: 0 }, /bytesPerSecond of a proxy's rule/)
    refused(messages, { do: "drop", times: 0 }, /times of a proxy's rule/)
    // The first never ended, the next two never acted, and the last threw when the first message came.
    refused(messages, { do: "drop", times: 1.5 }, /times of a proxy's rule must be a whole number/)
    refused(
      messages,
      { do: "loose" } as never,
      /does one of delay, throttle, drop, duplicate, cut, half-open; got loose/,
    )
    refused(messages, { do: "drop", side: "left" } as never, /a side of a proxy is up, down, both; got left/)
    refused(messages, { do: "drop", match: /x/ } as never, /match of a proxy's rule must be a function/)
    bytes.addRule({ do: "throttle", bytesPerSecond: 1_000 }).remove()
  })
})
