// Clients that do not read, that send what is as large as it may be, and that say nothing; and what others notice of them.
import { connect, type Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { CLOSE_CODES, SUBPROTOCOL } from "@sojourn/protocol"
import { Bare, PopProcess, inMiB, mebibyte, quantile, round, until, type Check, type Report } from "./overload-parts.ts"

/** One client that makes a small call now and then, whatever happens: how long its calls took, and what failed. */
class Bystander {
  readonly took: number[] = []
  readonly failed: string[] = []
  readonly #client: Bare
  #stopped = false
  #done: Promise<void> | undefined

  private constructor(client: Bare) {
    this.#client = client
  }

  static async start(url: string): Promise<Bystander> {
    const client = new Bare(url, "bystander", ["counter", "bystander"])
    await client.ready
    const bystander = new Bystander(client)
    bystander.#done = bystander.#run()
    return bystander
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const began = performance.now()
      try {
        await this.#client.call("add", 1)
        this.took.push(performance.now() - began)
      } catch (error) {
        // It has been told to come back later: it does, as the client package would by itself.
        this.failed.push((error as Error).message)
        if ((error as Error).message !== "OVERLOADED") return
        await this.#client.again()
      }
      await sleep(20)
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
    this.#client.ws.terminate()
  }

  figures(): Record<string, unknown> {
    const sorted = [...this.took].sort((a, b) => a - b)
    return {
      others: sorted.length,
      othersP50Ms: round(quantile(sorted, 0.5)),
      othersP99Ms: round(quantile(sorted, 0.99)),
      othersRefused: this.failed.length,
    }
  }

  check(): Check {
    const named = this.failed.every((code) => code === "OVERLOADED")
    return { what: "others' calls go on meanwhile", must: true, met: this.took.length > 0 && named }
  }
}

const chars = 524_288

/** They show a large state to clients that have stopped reading, until each of those has more waiting than it may. */
export async function slowReaders(folder: string, readers: number): Promise<Report> {
  const pop = await PopProcess.start(folder, "slow")
  try {
    const before = await pop.watchMemory()
    const slow = Array.from({ length: readers }, (_, i) => new Bare(pop.url, `slow${i}`, ["feed", "shown"], true))
    await Promise.all(slow.map(({ ready }) => ready))
    const writer = new Bare(pop.url, "writer", ["feed", "shown"])
    await writer.ready
    const others = await Bystander.start(pop.url)
    for (const { ws } of slow) ws.pause()
    // The system's buffers take some megabytes of each before anything waits in the process.
    const shows = 48
    for (let i = 0; i < shows; i++) {
      await writer.call("show", "abcdefgh"[i % 8], chars)
      await sleep(5)
    }
    const peak = pop.peakRss
    for (const { ws } of slow) ws.resume()
    const closed = await until(() => slow.every(({ code }) => code !== undefined), 20_000)
    await others.stop()
    writer.ws.terminate()
    const codes = slow.map(({ code }) => code)
    // What waits, of each, and as much again while it is encoded.
    const boundBytes = readers * 2 * (8_388_608 + chars) + 128 * mebibyte
    return {
      name: "slow",
      figures: {
        readers,
        sentMiBEach: inMiB(shows * chars),
        slowReader: codes.filter((code) => code === CLOSE_CODES.SLOW_READER[0]).length,
        rssBeforeMiB: inMiB(before),
        rssPeakMiB: inMiB(peak),
        ...others.figures(),
      },
      checks: [
        {
          what: "each is closed as SLOW_READER",
          must: true,
          met: closed && codes.every((code) => code === CLOSE_CODES.SLOW_READER[0]),
        },
        { what: "memory is bounded by what may wait for each", must: true, met: peak - before < boundBytes },
        others.check(),
      ],
    }
  } finally {
    await pop.stop()
  }
}

/** Frames of 1 MiB: at the bound, over it, and from many clients at once. */
export async function largeFrames(folder: string, clients: number): Promise<Report> {
  const pop = await PopProcess.start(folder, "frames")
  try {
    const before = await pop.watchMemory()
    const empty = JSON.stringify({ t: "call", ch: 1, c: 1, a: "measure", p: { v: [""] } }).length
    const text = "x".repeat(1_048_576 - empty)
    const atBound = new Bare(pop.url, "at", ["counter", "at"])
    const over = new Bare(pop.url, "over", ["counter", "over"])
    await Promise.all([atBound.ready, over.ready])
    const served = await atBound.call("measure", text)
    over.call("measure", `${text}x`).catch(() => undefined)
    const code = await over.closed
    atBound.ws.terminate()

    const others = await Bystander.start(pop.url)
    const many = Array.from({ length: clients }, (_, i) => new Bare(pop.url, `many${i}`, ["counter", `many${i}`]))
    await Promise.all(many.map(({ ready }) => ready))
    const began = performance.now()
    const outcomes = await Promise.all(
      many.map((client) =>
        client.call("measure", text).then(
          (length) => (length === text.length ? "served" : "wrong"),
          (error: unknown) => (error as Error).message,
        ),
      ),
    )
    const ms = performance.now() - began
    await others.stop()
    for (const { ws } of many) ws.terminate()
    const count = (outcome: string): number => outcomes.filter((one) => one === outcome).length
    const peak = pop.peakRss
    return {
      name: "frames",
      figures: {
        clients,
        served: count("served"),
        refused: count("OVERLOADED"),
        allMs: round(ms),
        rssBeforeMiB: inMiB(before),
        rssPeakMiB: inMiB(peak),
        ...others.figures(),
      },
      checks: [
        { what: "a frame at the bound is served", must: true, met: served === text.length },
        { what: "one over it is FRAME_TOO_LARGE", must: true, met: code === CLOSE_CODES.FRAME_TOO_LARGE[0] },
        {
          what: "each of many at once is served or OVERLOADED",
          must: true,
          met: count("served") > 0 && count("served") + count("OVERLOADED") === clients,
        },
        // As bytes, as text, as what is parsed of it, and once more until the collector comes.
        {
          what: "memory is bounded by a few times the frames",
          must: true,
          met: peak - before < (clients * 6 + 128) * mebibyte,
        },
        others.check(),
      ],
    }
  } finally {
    await pop.stop()
  }
}

/** A socket that has become a WebSocket, or not even that, and says nothing more. */
class Silent {
  readonly #socket: Socket
  readonly upgrades: boolean
  open = false
  closed = false
  /** What the close frame says. */
  code: number | undefined

  constructor(port: number, upgrades: boolean) {
    this.upgrades = upgrades
    this.#socket = connect(port, "127.0.0.1", () => {
      if (!upgrades) this.open = true
      else
        this.#socket.write(
          `GET /v1/connect HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`,
        )
    })
    this.#socket.on("data", (data) => {
      if (data.toString("latin1").startsWith("HTTP/1.1 101")) this.open = true
      // A close frame: FIN and opcode 8, its length, the code.
      const at = data.indexOf(0x88)
      if (at >= 0 && data.length >= at + 4 && this.open) this.code = data.readUInt16BE(at + 2)
      if (this.code !== undefined) this.#socket.end()
    })
    this.#socket.on("error", () => undefined)
    this.#socket.on("close", () => (this.closed = true))
  }

  end(): void {
    this.#socket.destroy()
  }
}

const helloMsMax = 10_000

export async function silentSockets(folder: string, sockets: number, brief: boolean): Promise<Report> {
  const waitMs = brief ? 1_000 : helloMsMax
  const pop = await PopProcess.start(folder, "silent", { helloMsMax: waitMs, heartbeatMs: waitMs / 5 })
  const silent: Silent[] = []
  try {
    const others = await Bystander.start(pop.url)
    const before = await pop.watchMemory()
    const began = performance.now()
    const port = Number(new URL(pop.url).port)
    // In hundreds, so that none has to wait for the system to take it.
    while (silent.length < sockets) {
      for (let i = 0; i < 100 && silent.length < sockets; i++) silent.push(new Silent(port, true))
      const all = silent.length
      await until(() => silent.filter(({ open, closed }) => open || closed).length === all, 5_000)
    }
    const opened = silent.filter(({ open }) => open).length
    const held = await pop.ask("report")
    // These say hello, and nothing after it.
    const mute = Array.from(
      { length: brief ? 5 : 100 },
      (_, i) => new Bare(pop.url, `mute${i}`, ["counter", `mute${i}`]),
    )
    await Promise.all(mute.map(({ ready }) => ready))
    for (const { ws } of mute) ws.removeAllListeners("message")
    const closed = await until(() => silent.every((one) => one.closed), waitMs + 15_000)
    const ms = performance.now() - began
    const muteClosed = await until(() => mute.every(({ code }) => code !== undefined), waitMs + 15_000)
    await others.stop()
    const code = CLOSE_CODES.HANDSHAKE_TIMEOUT[0]
    return {
      name: "silent",
      figures: {
        sockets: opened,
        rssBeforeMiB: inMiB(before),
        rssHeldMiB: inMiB(held.rss),
        kibEach: round((held.rss - before) / 1024 / sockets),
        handshakeTimeout: silent.filter((one) => one.code === code).length,
        allClosedMs: Math.round(ms),
        muteClosed: mute.filter((one) => one.code === CLOSE_CODES.HEARTBEAT[0]).length,
        ...others.figures(),
      },
      checks: [
        { what: "every socket is taken", must: true, met: opened === sockets },
        {
          what: "each is closed as HANDSHAKE_TIMEOUT",
          must: true,
          met: closed && silent.every((one) => one.code === code),
        },
        {
          what: "those that said hello and nothing after it are closed as HEARTBEAT",
          must: true,
          met: muteClosed && mute.every((one) => one.code === CLOSE_CODES.HEARTBEAT[0]),
        },
        { what: "a silent socket costs less than 64 KiB", must: !brief, met: held.rss - before < sockets * 65_536 },
        others.check(),
      ],
    }
  } finally {
    for (const one of silent) one.end()
    await pop.stop()
  }
}
