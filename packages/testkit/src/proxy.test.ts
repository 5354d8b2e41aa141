import assert from "node:assert/strict"
import { once } from "node:events"
import { connect, createServer, type AddressInfo, type LookupFunction, type Server, type Socket } from "node:net"
import { describe, test } from "node:test"
import { createProxy, type Proxy, type ProxyOptions, type ProxyTarget } from "./proxy.ts"

interface Stage {
  readonly proxy: Proxy
  readonly target: ProxyTarget
  /** Sockets that reached the target, in order. */
  readonly arrivals: AsyncIterator<Socket>
  dial(): Promise<Socket>
}

async function stage(options: Omit<ProxyOptions, "target">, run: (stage: Stage) => Promise<void>): Promise<void> {
  const sockets: Socket[] = []
  const keep = (socket: Socket): Socket => {
    socket.on("error", () => undefined)
    sockets.push(socket)
    return socket
  }
  const server: Server = createServer({ allowHalfOpen: true })
  const seen: Socket[] = []
  const wanted: ((socket: Socket) => void)[] = []
  server.on("connection", (socket: Socket) => {
    keep(socket)
    const next = wanted.shift()
    if (next === undefined) seen.push(socket)
    else next(socket)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const target = { host: "127.0.0.1", port: (server.address() as AddressInfo).port }
  const proxy = await createProxy({ ...options, target })
  try {
    await run({
      proxy,
      target,
      arrivals: {
        next: async () => ({
          value: seen.shift() ?? (await new Promise<Socket>((resolve) => wanted.push(resolve))),
        }),
      },
      async dial() {
        const socket = keep(connect({ host: proxy.host, port: proxy.port, noDelay: true, allowHalfOpen: true }))
        await once(socket, "connect")
        return socket
      },
    })
  } finally {
    await proxy.close()
    for (const socket of sockets) socket.destroy()
    server.close()
  }
}

async function arrival(stage: Stage): Promise<Socket> {
  return (await stage.arrivals.next()).value
}

/** Resolves with what arrived once `length` bytes did. */
function bytes(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let got = 0
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk)
      got += chunk.length
      if (got < length) return
      socket.off("data", onData)
      resolve(Buffer.concat(chunks))
    }
    socket.on("data", onData)
  })
}

describe("createProxy", () => {
  test("adds the round trip asked for, and one more to a connection's first byte", async () => {
    await stage({ rttMs: 40 }, async (s) => {
      const dialed = performance.now()
      const near = await s.dial()
      const far = await arrival(s)
      far.pipe(far)
      const trips: number[] = []
      for (let i = 0; i < 9; i++) {
        const sent = performance.now()
        near.write("x")
        await bytes(near, 1)
        trips.push(performance.now() - (i === 0 ? dialed : sent))
      }
      assert.ok(trips[0]! > 78, `connecting and the first trip took ${trips[0]} ms`)
      // A busy machine makes single trips late; none may be early, and the quickest shows the delay itself.
      const least = Math.min(...trips.slice(1))
      assert.ok(least > 38.5 && least < 44, `the quickest trip took ${least} ms`)
    })
  })

  test("passes straight through at 0", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      far.pipe(far)
      for (let i = 0; i < 200; i++) {
        near.write("x")
        await bytes(near, 1)
      }
      assert.equal(s.proxy.counts.up, 200)
      assert.equal(s.proxy.counts.down, 200)
    })
  })

  test("keeps many chunks under way at once: a hundred take one delay, not a hundred", async () => {
    await stage({ rttMs: 60 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      far.pipe(far)
      const back = bytes(near, 400)
      const sent = performance.now()
      for (let i = 0; i < 100; i++) {
        near.write(String(1000 + i))
        await new Promise((resolve) => setImmediate(resolve))
      }
      const text = String(await back)
      assert.ok(performance.now() - sent < 600)
      assert.equal(text, Array.from({ length: 100 }, (_, i) => 1000 + i).join(""))
    })
  })

  test("keeps order under jitter and when the round trip shrinks", async () => {
    await stage({ rttMs: 30, jitterMs: 30 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      const got = bytes(far, 120)
      for (let i = 0; i < 30; i++) {
        if (i === 15) s.proxy.setRtt(0, 0)
        near.write(String(1000 + i))
        await new Promise((resolve) => setImmediate(resolve))
      }
      assert.equal(String(await got), Array.from({ length: 30 }, (_, i) => 1000 + i).join(""))
    })
  })

  test("holds the writer back when the reader does not read, and loses nothing of 48 MiB", async () => {
    await stage({ rttMs: 4, bytesMax: 65_536 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      far.pause()
      const sent = Buffer.alloc(50_331_648, 7)
      near.write(sent)
      // Trips on a second connection: meanwhile the first one fills every buffer there is.
      const other = await s.dial()
      const otherFar = await arrival(s)
      otherFar.pipe(otherFar)
      for (let i = 0; i < 40; i++) {
        other.write("x")
        await bytes(other, 1)
      }
      assert.ok(s.proxy.counts.up < sent.length, "the proxy took in all bytes although nobody read")
      const all = bytes(far, sent.length)
      far.resume()
      const got = await all
      assert.ok(got.equals(sent))
    })
  })

  test("passes an end on after the bytes before it, and leaves the other direction open", async () => {
    await stage({ rttMs: 10 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      near.end("last")
      const [chunk] = (await once(far, "data")) as [Buffer]
      await once(far, "end")
      assert.equal(String(chunk), "last")
      far.end("answer")
      assert.equal(String(await bytes(near, 6)), "answer")
    })
  })

  test("cut resets both ends and takes new connections", async () => {
    await stage({ rttMs: 10 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      const errors = Promise.all([once(near, "error"), once(far, "error")])
      near.resume()
      far.resume()
      s.proxy.cut()
      const [[one], [two]] = (await errors) as [[NodeJS.ErrnoException], [NodeJS.ErrnoException]]
      assert.deepEqual([one.code, two.code], ["ECONNRESET", "ECONNRESET"])
      assert.equal(s.proxy.counts.connections, 0)
      const again = await s.dial()
      const againFar = await arrival(s)
      again.write("hello")
      assert.equal(String(await bytes(againFar, 5)), "hello")
    })
  })

  test("a reset of one end reaches the other", async () => {
    await stage({ rttMs: 6 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      near.resume()
      const error = once(near, "error")
      far.resetAndDestroy()
      assert.equal(((await error) as [NodeJS.ErrnoException])[0].code, "ECONNRESET")
    })
  })

  test("a held line moves nothing, tells nobody, and goes on after release with every byte", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      let heard = 0
      for (const socket of [near, far])
        for (const event of ["end", "error", "close"]) socket.on(event, () => (heard += 1))
      let arrived = ""
      far.on("data", (chunk: Buffer) => (arrived += String(chunk)))
      s.proxy.hold()
      near.write("held")
      const late = connect({ host: s.proxy.host, port: s.proxy.port })
      await once(late, "connect")
      late.write("late")
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
      assert.equal(arrived, "")
      assert.equal(heard, 0)
      assert.equal(s.proxy.counts.opened, 1, "a connection made while the line is silent reached the target")
      const lateFar = arrival(s)
      const all = bytes(far, 4)
      s.proxy.release()
      assert.equal(String(await all), "held")
      assert.equal(String(await bytes(await lateFar, 4)), "late")
      late.destroy()
    })
  })

  test("a stranded connection is dead and neither end is told, also after a release; new ones work", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      let heard = 0
      for (const socket of [near, far])
        for (const event of ["data", "end", "error", "close"]) socket.on(event, () => (heard += 1))
      s.proxy.strand()
      near.write("lost")
      far.write("lost")
      const again = await s.dial()
      const againFar = await arrival(s)
      again.write("hello")
      assert.equal(String(await bytes(againFar, 5)), "hello")
      s.proxy.hold()
      s.proxy.release()
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
      assert.equal(heard, 0)
      assert.equal(s.proxy.counts.connections, 2)
      const ended = once(near, "close")
      near.end()
      await ended
      assert.equal(far.readableEnded, false, "the other end was told")
    })
  })

  test("one direction alone can go silent", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      const near = await s.dial()
      const far = await arrival(s)
      s.proxy.hold("down")
      near.write("up")
      assert.equal(String(await bytes(far, 2)), "up")
      far.write("down")
      let heard = false
      near.on("data", () => (heard = true))
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
      assert.equal(heard, false)
      const down = once(near, "data")
      s.proxy.release()
      assert.equal(String(((await down) as [Buffer])[0]), "down")
    })
  })

  test("without a target a connection is reset, and one made after setTarget passes", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      s.proxy.setTarget(undefined)
      const refused = connect({ host: s.proxy.host, port: s.proxy.port })
      const [error] = (await once(refused, "error")) as [NodeJS.ErrnoException]
      assert.equal(error.code, "ECONNRESET")
      s.proxy.setTarget(s.target)
      await s.dial()
      await arrival(s)
    })
  })

  // Its socket waited to be connected first: closed, the proxy opened a connection, or kept the process for as long as the system tries.
  test("close ends also what is still on its way to the target", async () => {
    await stage({ rttMs: 0 }, async (s) => {
      const looked = Promise.withResolvers<() => void>()
      const lookup: LookupFunction = (_host, _options, found) => {
        looked.resolve(() => {
          found(null, [{ address: s.target.host, family: 4 }])
        })
      }
      await using proxy = await createProxy({ rttMs: 0, target: { ...s.target, host: "slow", lookup } as ProxyTarget })
      const near = connect(proxy.port, proxy.host)
      near.on("error", () => undefined)
      const goOn = await looked.promise
      await proxy.close()
      goOn()
      const mine = await s.dial()
      mine.write("mine")
      const [first] = (await once(await arrival(s), "data")) as [Buffer]
      assert.equal(String(first), "mine", "the first to arrive is not the closed proxy's")
    })
  })

  test("a busy port is named, and close frees the port", async () => {
    const first = await createProxy({ rttMs: 0 })
    await assert.rejects(createProxy({ rttMs: 0, port: first.port }), new RegExp(`port ${first.port} .* is in use`))
    await first.close()
    await using again = await createProxy({ rttMs: 0, port: first.port })
    assert.equal(again.port, first.port)
  })

  test("refuses a round trip that is no number, and what else cannot be", async () => {
    await assert.rejects(createProxy({ rttMs: -1 }), RangeError)
    await assert.rejects(createProxy({ rttMs: Number.NaN }), RangeError)
    await assert.rejects(createProxy({ rttMs: 0, bytesMax: Number.NaN }), /bytesMax must be a number of at least 1/)
    await using proxy = await createProxy({ rttMs: 0 })
    for (const target of ["127.0.0.1:80", { host: "", port: 80 }, { host: "127.0.0.1", port: "x" }] as never[]) {
      await assert.rejects(createProxy({ rttMs: 0, target }), /a proxy's target is a host and a port/)
      assert.throws(() => proxy.setTarget(target), /a proxy's target is a host and a port/)
    }
    assert.throws(() => proxy.hold("left" as never), /a side of a proxy is up, down, both; got left/)
    assert.deepEqual(proxy.events, [])
  })
})
