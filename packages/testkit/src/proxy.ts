import { createServer, connect, type AddressInfo, type Server, type Socket } from "node:net"
import { MessageCutter, type Piece } from "./proxy-messages.ts"
import {
  checkRule,
  checkSide,
  ProxyRules,
  type ProxyAction,
  type ProxyRule,
  type ProxyRuleHandle,
} from "./proxy-rules.ts"

/**
 * A TCP proxy on loopback that stands for a long line: bytes arrive half an RTT after they were sent, in order, however many are under
 * way. It holds all of the delay there is in tests and demos; the product contains none.
 *
 * What it models: propagation delay each way, TCP's handshake (the first byte of a connection waits one RTT more), jitter without
 * reordering, back-pressure (a reader that stops reading stops the writer, `bytesMax` under way at most), resets, and lines that go
 * silent; and what rules do to what passes (`proxy-rules.ts`), a narrow line among it. What it does not: loss with its slow start, and the
 * handshake's refusal (a connection is accepted, then reset, when there is nobody behind the proxy).
 *
 * Timers of Node count whole milliseconds; bytes leave at the timer nearest to their time, so a direction is less than a millisecond
 * early or late on an idle machine and right on average, and the errors of several do not add up: each byte's time is absolute.
 */
export interface ProxyOptions {
  /** Where connections go; absent: nobody is there yet, connections are reset until `setTarget`. */
  readonly target?: ProxyTarget
  /** Round trip added, ms. 0 passes bytes straight through. */
  readonly rttMs: number
  /** Each direction's delay is longer by up to half of this, ms, at random. Order is kept. Default 0. */
  readonly jitterMs?: number
  /** Port to listen on; 0, the default, lets the system choose. */
  readonly port?: number
  /** Bytes under way in one direction of one connection before its writer is held back. Default 32 MiB. */
  readonly bytesMax?: number
  /** Source of jitter, in [0, 1). Default Math.random. */
  readonly random?: () => number
  /** WebSocket messages are seen as such, so that rules can match, drop and duplicate them; each then passes whole. Default false: bytes. */
  readonly messages?: boolean
  /** Each event as it happens. Must not throw. */
  readonly onEvent?: (event: ProxyEvent) => void
}

/** What was done to connections, and by rules to what passes on them. */
export interface ProxyEvent {
  /** Ms on the clock of `performance.now()`. */
  readonly at: number
  readonly what: "open" | "close" | "refused" | "hold" | "release" | "strand" | ProxyAction
  readonly side?: ProxySide
  /** Of what a rule acted on. */
  readonly bytes?: number
}

export interface ProxyTarget {
  readonly host: string
  readonly port: number
}

/** `up` is from who connected to the target; `down` is back. */
export type ProxySide = "up" | "down" | "both"

export interface Proxy extends AsyncDisposable {
  readonly host: string
  readonly port: number
  readonly rttMs: number
  /** Open connections, and bytes taken in since the start: shows who talked to whom. */
  readonly counts: { readonly connections: number; readonly opened: number; readonly up: number; readonly down: number }
  /** For bytes that come from now on; those under way keep their time, and order is kept. */
  setRtt(rttMs: number, jitterMs?: number): void
  /** For connections opened from now on; undefined: they are reset at once. */
  setTarget(target: ProxyTarget | undefined): void
  /** Resets every open connection on both sides (RST); bytes under way are lost. New ones are accepted. */
  cut(): void
  /**
   * The line goes silent, as when a cable is pulled: nothing moves, no end and no reset is passed on, new connections hang. Both
   * ends can still write until their own buffers are full. Nothing is lost: after `release` the connections that both ends kept go on.
   */
  hold(side?: ProxySide): void
  release(): void
  /**
   * Connections that are open now are forgotten, as by a router that lost its table: whatever either end still sends vanishes, and neither is told.
   * New ones work. For good: `release` does not bring them back.
   */
  strand(): void
  /** Until it is removed. Throws a RangeError or TypeError naming what is wrong with it. */
  addRule(rule: ProxyRule): ProxyRuleHandle
  /** The last thousand, oldest first. */
  readonly events: readonly ProxyEvent[]
  /** Stops listening and resets what is open. Resolves when the port is free. */
  close(): Promise<void>
}

const END = Symbol("end")
const RESET = Symbol("reset")
type Item = Buffer | typeof END | typeof RESET

const eventsMax = 1_000
/** Bytes leave when their time is at most this far away. */
const grainMs = 0.75
/** What a timer of Node, which counts whole milliseconds and never fires early, is late by on average, with the way to the next process. */
const lateMs = 0.75

interface Settings {
  delayMs: number
  jitterMs: number
  readonly bytesMax: number
  readonly random: () => number
  readonly rules: ProxyRules
  readonly messages: boolean
}

/** One direction of one connection: a queue ordered by the time at which each chunk arrives at the other end. */
class Line {
  readonly #from: Socket
  readonly #to: Socket
  readonly #settings: Settings
  readonly #items: { readonly due: number; readonly item: Item }[] = []
  #head = 0
  #bytes = 0
  #lastDue: number
  #timer: NodeJS.Timeout | undefined
  #held = false
  #blocked = false
  #closed = false
  /** What comes from now on goes nowhere; what is under way arrives. */
  #deaf = false
  readonly #side: "up" | "down"
  readonly #cutter: MessageCutter | undefined
  readonly #cut: () => void

  constructor(
    side: "up" | "down",
    [from, to]: readonly [from: Socket, to: Socket],
    settings: Settings,
    opensAt: number,
    held: boolean,
    on: { readonly bytes: (n: number) => void; readonly cut: () => void },
  ) {
    this.#side = side
    this.#from = from
    this.#to = to
    this.#settings = settings
    this.#lastDue = opensAt
    this.#cutter = settings.messages ? new MessageCutter(side) : undefined
    this.#cut = on.cut
    if (held) this.hold()
    from.on("data", (chunk) => {
      on.bytes(chunk.length)
      for (const piece of this.#cutter?.take(chunk) ?? [{ bytes: chunk }]) this.#judge(piece)
    })
    from.on("end", () => {
      for (const piece of this.#cutter?.end() ?? []) this.#judge(piece)
      this.#push(END)
    })
    from.on("error", () => this.#push(RESET))
    to.on("drain", () => {
      this.#blocked = false
      this.#flow()
    })
  }

  #judge(piece: Piece): void {
    if (this.#closed || this.#deaf) return
    const { copies, laterMs, busyMs, fate } = this.#settings.rules.judge(this.#side, piece)
    if (fate === "cut") this.#cut()
    else if (fate === "half-open") this.vanish()
    else for (let i = 0; i < copies; i++) this.#push(piece.bytes, laterMs, busyMs)
  }

  #push(item: Item, laterMs = 0, busyMs = 0): void {
    if (this.#closed || this.#deaf) return
    const { delayMs, jitterMs, random, bytesMax } = this.#settings
    const arrives = performance.now() + delayMs + (jitterMs > 0 ? (random() * jitterMs) / 2 : 0)
    const due = Math.max(this.#lastDue, arrives + laterMs) + busyMs
    this.#lastDue = due
    this.#items.push({ due, item })
    if (typeof item !== "symbol") this.#bytes += item.length
    if (this.#bytes > bytesMax) this.#from.pause()
    if (this.#timer === undefined) this.#flow()
  }

  #flow(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (!this.#held && !this.#blocked && !this.#closed) {
      const next = this.#items[this.#head]
      if (next === undefined) break
      const wait = next.due - performance.now()
      if (wait > grainMs) {
        this.#timer = setTimeout(() => this.#flow(), Math.max(1, Math.round(wait - lateMs)))
        break
      }
      this.#head += 1
      if (this.#head > 1024 || this.#head === this.#items.length) {
        this.#items.splice(0, this.#head)
        this.#head = 0
      }
      this.#deliver(next.item)
    }
    if (!this.#held && this.#bytes <= this.#settings.bytesMax / 2 && this.#from.isPaused()) this.#from.resume()
  }

  #deliver(item: Item): void {
    if (item === END) this.#to.end()
    else if (item === RESET) reset(this.#to)
    else {
      this.#bytes -= item.length
      if (this.#to.writable) this.#blocked = !this.#to.write(item)
    }
  }

  hold(): void {
    this.#held = true
    this.#from.pause()
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  release(): void {
    this.#held = false
    this.#flow()
  }

  close(): void {
    this.#closed = true
    this.#items.length = 0
    clearTimeout(this.#timer)
  }

  /** Whatever comes from now on is read, and goes nowhere. */
  vanish(): void {
    this.#deaf = true
    this.#from.resume()
    // Who ends its own side has given up and learns nothing by it.
    for (const socket of [this.#from, this.#to]) socket.on("end", () => socket.destroy())
  }
}

interface Connection {
  readonly up: Line
  readonly down: Line
  strand(): void
  reset(): void
}

export async function createProxy(options: ProxyOptions): Promise<Proxy> {
  const bytesMax = options.bytesMax ?? 33_554_432
  if (!(bytesMax >= 1)) throw new RangeError(`bytesMax must be a number of at least 1, got ${bytesMax}`)
  checkTarget(options.target)
  const settings: Settings = {
    ...delays(options.rttMs, options.jitterMs ?? 0),
    bytesMax,
    random: options.random ?? Math.random,
    rules: new ProxyRules((what, side, bytes) => log({ what, side, bytes })),
    messages: options.messages ?? false,
  }
  const events: ProxyEvent[] = []
  const log = (event: Omit<ProxyEvent, "at">): void => {
    const noted = { at: performance.now(), ...event }
    if (events.push(noted) > 2 * eventsMax) events.splice(0, eventsMax)
    options.onEvent?.(noted)
  }
  let target = options.target
  let rttMs = options.rttMs
  const held = { up: false, down: false }
  const waiting = new Set<() => void>()
  const connections = new Set<Connection>()
  /** Sockets to the target that are not connected yet. */
  const dialing = new Set<Socket>()
  const counts = { opened: 0, up: 0, down: 0 }

  const open = (near: Socket): void => {
    if (target === undefined) {
      log({ what: "refused" })
      near.on("error", () => undefined)
      near.resetAndDestroy()
      return
    }
    const far = connect({ ...target, noDelay: true, allowHalfOpen: true })
    dialing.add(far)
    for (const event of ["connect", "close"]) far.once(event, () => dialing.delete(far))
    const opensAt = settings.delayMs === 0 ? 0 : performance.now() + settings.delayMs * 3
    const cut = (): void => connection.reset()
    const up = new Line("up", [near, far], settings, opensAt, held.up, { bytes: (n) => (counts.up += n), cut })
    const down = new Line("down", [far, near], settings, 0, held.down, { bytes: (n) => (counts.down += n), cut })
    const connection: Connection = {
      up,
      down,
      strand() {
        for (const line of [up, down]) {
          line.close()
          line.vanish()
        }
      },
      reset() {
        for (const line of [up, down]) line.close()
        for (const socket of [near, far]) reset(socket)
        connections.delete(connection)
      },
    }
    connections.add(connection)
    counts.opened += 1
    log({ what: "open" })
    let open = 2
    const closed = (): void => {
      open -= 1
      if (open > 0) return
      for (const line of [up, down]) line.close()
      connections.delete(connection)
      log({ what: "close" })
    }
    for (const socket of [near, far]) socket.once("close", closed)
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (near) => {
    const start = (): void => {
      near.resume()
      open(near)
    }
    if (!held.up && !held.down) return start()
    const giveUp = (): boolean => waiting.delete(later)
    const later = (): void => {
      near.off("error", giveUp)
      waiting.delete(later)
      start()
    }
    near.on("error", giveUp)
    waiting.add(later)
  })
  await listening(server, options.port ?? 0)
  const { port } = server.address() as AddressInfo

  const sidesOf = (side: ProxySide): ("up" | "down")[] => (side === "both" ? ["up", "down"] : [side])
  let closing: Promise<void> | undefined
  const proxy: Proxy = {
    host: "127.0.0.1",
    port,
    get rttMs() {
      return rttMs
    },
    get counts() {
      return { connections: connections.size, ...counts }
    },
    setRtt(ms, jitterMs) {
      Object.assign(settings, delays(ms, jitterMs ?? settings.jitterMs))
      rttMs = ms
    },
    setTarget(next) {
      checkTarget(next)
      target = next
    },
    cut() {
      log({ what: "cut", side: "both" })
      for (const connection of connections) connection.reset()
    },
    hold(side = "both") {
      checkSide(side)
      log({ what: "hold", side })
      for (const one of sidesOf(side)) {
        held[one] = true
        for (const connection of connections) connection[one].hold()
      }
    },
    release() {
      log({ what: "release", side: "both" })
      held.up = held.down = false
      for (const connection of connections) {
        connection.up.release()
        connection.down.release()
      }
      for (const later of waiting) later()
    },
    strand() {
      log({ what: "strand", side: "both" })
      for (const connection of connections) connection.strand()
    },
    addRule(rule) {
      checkRule(rule, settings.messages)
      return settings.rules.add(rule)
    },
    get events() {
      return events.slice(-eventsMax)
    },
    close() {
      closing ??= new Promise<void>((resolve) => {
        server.close(() => resolve())
        target = undefined
        for (const later of waiting) later()
        proxy.cut()
        // They would be reset when they are connected, and until then keep the process, as long as the system tries.
        for (const far of dialing) far.destroy()
      })
      return closing
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  }
  return proxy
}

/** The first connection would throw where nobody can catch it. */
function checkTarget(target: ProxyTarget | undefined): void {
  if (target === undefined) return
  const { host, port } = target
  if (typeof host !== "string" || host === "" || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw new RangeError(`a proxy's target is a host and a port from 1 to 65535, got ${JSON.stringify(target)}`)
}

/**
 * RST, unless the socket's end is on its way: libuv then refuses to reset (uv_tcp_close_reset: EINVAL while shutting down), and Node
 * 24 leaves the handle open for ever, which keeps the process from exiting. One that is still connecting is reset when it is connected.
 */
function reset(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy()
  else socket.resetAndDestroy()
}

function delays(rttMs: number, jitterMs: number): { delayMs: number; jitterMs: number } {
  if (!Number.isFinite(rttMs) || rttMs < 0) throw new RangeError(`rttMs must be a number of at least 0, got ${rttMs}`)
  if (!Number.isFinite(jitterMs) || jitterMs < 0)
    throw new RangeError(`jitterMs must be a number of at least 0, got ${jitterMs}`)
  return { delayMs: rttMs / 2, jitterMs }
}

function listening(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why = cause.code === "EADDRINUSE" ? `port ${port} of 127.0.0.1 is in use by another process` : cause.message
      reject(new Error(`the proxy cannot listen: ${why}`, { cause }))
    })
    server.listen(port, "127.0.0.1", () => resolve())
  })
}
