import assert from "node:assert/strict"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { after, before, describe, test } from "node:test"
import type { SocketPort } from "@sojourn/client"
import { WebSocketServer, type WebSocket as ServerSocket } from "ws"
import { tappedSocket, type Tap } from "./tap.ts"

describe("the tap on a traveller's sockets", () => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 })
  let url = ""
  const arrivals: string[] = []
  const said: string[] = []
  /** What the client was given, and how many frames had been told of by then. */
  const read: string[] = []
  const tap: Tap = {
    arriving: () => arrivals.push("arriving"),
    helloSent: () => arrivals.push("hello"),
    heard: (type) => said.push(type),
  }
  const dial = tappedSocket(tap)
  const ports: SocketPort[] = []

  before(async () => {
    await once(server, "listening")
    url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(() => {
    for (const client of server.clients) client.terminate()
    server.close()
  })

  /** Opens one and says hello on it; the test has the server's end. */
  async function hello(): Promise<{
    readonly far: ServerSocket
    readonly closed: Promise<void>
    heard(n: number): Promise<void>
  }> {
    const accepted = once(server, "connection")
    const closed = Promise.withResolvers<void>()
    let count = 0
    let look = (): void => undefined
    const opened = new Promise<void>((resolve) => {
      const port = dial(url, [], {
        open: () => {
          port.send('{"t":"hello"}')
          resolve()
        },
        message: (data) => {
          read.push(`${said.length} ${data}`)
          count += 1
          look()
        },
        closed: () => {
          closed.resolve()
        },
      })
      ports.push(port)
    })
    const [far] = (await accepted) as [ServerSocket]
    await opened
    return {
      far,
      closed: closed.promise,
      heard: (n) =>
        new Promise((resolve) => {
          look = () => {
            if (count >= n) resolve()
          }
          look()
        }),
    }
  }

  test("a call is asked for where the client's calls go: with the first hello, else with the welcome, also after one that died between", async () => {
    const first = await hello()
    assert.deepEqual(arrivals.splice(0), ["arriving", "hello"])
    first.far.send('{"t":"welcome"}')
    await first.heard(1)
    // Dead before its welcome: the first still serves, so a call made now would not arrive anywhere.
    const dead = await hello()
    dead.far.terminate()
    await dead.closed
    assert.deepEqual(arrivals.splice(0), ["hello"])
    const second = await hello()
    assert.deepEqual(arrivals.splice(0), ["hello"])
    second.far.send('{"t":"welcome"}')
    second.far.send('{"t":"reply"}')
    first.far.send('{"t":"reply"}')
    await Promise.all([second.heard(2), first.heard(2)])
    assert.deepEqual(arrivals.splice(0), ["arriving"])
    assert.deepEqual(said, ["welcome", "welcome", "reply"], "what the one before still says is not counted")
    // None serves any more: the next one takes a call along with its hello.
    first.far.terminate()
    second.far.terminate()
    await Promise.all([first.closed, second.closed])
    await hello()
    assert.deepEqual(arrivals.splice(0), ["arriving", "hello"])
  })

  test("of several frames in one message each is told of right before the client reads it", async () => {
    const { far, heard } = await hello()
    said.length = 0
    read.length = 0
    far.send('{"t":"welcome"}\n{"t":"attached"}\n{"t":"reply"}')
    await heard(3)
    assert.deepEqual(said, ["welcome", "attached", "reply"])
    assert.deepEqual(read, ['1 {"t":"welcome"}', '2 {"t":"attached"}', '3 {"t":"reply"}'])
  })
})
