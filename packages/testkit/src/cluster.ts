import { fork, type ChildProcess } from "node:child_process"
import { randomBytes, randomInt } from "node:crypto"
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { FromPop, PopProcessConfig, ToPop } from "./cluster-pop.ts"
import { createProxy, type Proxy } from "./proxy.ts"

/**
 * A cluster of real POPs on one machine: each its own operating-system process with its own folder and port, and a delaying proxy on every
 * line: one for each pair of POPs, one for each place that clients are at and each POP. Nothing reaches a POP past its proxies.
 *
 * Of two POPs the one whose id sorts lower dials, so the pair's proxy stands before the higher one. A POP that is down has no target
 * behind its proxies: connections to it are reset at once, as by a machine whose process died.
 *
 * Everything that was started ends with `stop()`, with this process's SIGINT, SIGTERM or SIGHUP, with its exit, and with its death: the
 * children watch the channel to it (cluster-pop.ts).
 */
export interface ClusterOptions {
  readonly pops: readonly { readonly id: string; readonly region: string }[]
  /** Module that each POP's process runs: it calls `servePop`. */
  readonly entry: URL | string
  /** Each POP gets `<folder>/<id>` and writes its output to `<folder>/<id>.log`. Made if missing. */
  readonly folder: string
  readonly meshRttMs: (a: string, b: string) => number
  /** Names of the places that clients connect from. Default: one, "client". */
  readonly places?: readonly string[]
  readonly clientRttMs: (pop: string, place: string) => number
  readonly jitterMs?: number
  /** The proxies see WebSocket messages, for rules. Default false. */
  readonly messages?: boolean
  /** Default: every POP. */
  readonly homes?: readonly string[]
  /** Default: random. A folder kept across runs needs the same one only as long as tickets are to stay valid. */
  readonly secret?: string
  /** Plain JSON for every POP's process. */
  readonly options?: unknown
  /** Over this process's own environment. */
  readonly env?: Readonly<Record<string, string>>
  /** A POP's process ended although nobody stopped or killed it. */
  readonly onCrash?: (pop: string, how: string, log: string) => void
  /** Time for a POP to be ready, and to stop before it is killed. Default 30 s and 10 s. */
  readonly startMsMax?: number
  readonly stopMsMax?: number
}

export interface Cluster extends AsyncDisposable {
  readonly pops: readonly string[]
  /** ws:// URL of a POP for clients at a place. It stays the same over kill and restart. */
  url(pop: string, place?: string): string
  clientProxy(pop: string, place?: string): Proxy
  meshProxy(a: string, b: string): Proxy
  /** Port of the POP itself, without delay. */
  port(pop: string): number
  pid(pop: string): number | undefined
  running(pop: string): boolean
  /**
   * Asks the POP's module (`RunningPop.answer`). Rejects with what it threw, its `code` included, and when the process is not there or
   * ends before it has answered.
   */
  ask(pop: string, what: unknown): Promise<unknown>
  /** SIGKILL; resolves when the process is gone. */
  kill(pop: string): Promise<void>
  /** Starts a POP that is down, on its folder and port; resolves when it is ready. */
  restart(pop: string): Promise<void>
  /** SIGTERM, as a deploy sends it; resolves when the process is gone: by itself (0), otherwise, or killed after `stopMsMax` (null). */
  drain(pop: string): Promise<number | null>
  /** SIGSTOP: the process stands still, its sockets stay open. SIGCONT: it goes on. */
  pause(pop: string): void
  resume(pop: string): void
  /** Stops every POP and frees every port. */
  stop(): Promise<void>
}

interface Seat {
  readonly id: string
  readonly region: string
  readonly log: string
  port: number
  child: ChildProcess | undefined
  gone: Promise<void>
  /** Proxies that stand before this POP. */
  readonly proxies: Proxy[]
  expected: boolean
  /** What the process was asked and has not answered yet. */
  readonly asked: Map<number, PromiseWithResolvers<unknown>>
}

/** Flags of Node under which the children must run too; a test runner's own must not reach them. */
const passedOn = /^(--conditions|-C|--import|--max-old-space-size|--enable-source-maps|--no-warnings|--disable-warning)/
const portAttempts = 3

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const places = options.places ?? ["client"]
  const secret = options.secret ?? randomBytes(32).toString("base64url")
  const { jitterMs = 0, messages = false, startMsMax = 30_000, stopMsMax = 10_000 } = options
  mkdirSync(options.folder, { recursive: true })

  const seats = new Map<string, Seat>()
  for (const { id, region } of options.pops)
    seats.set(id, {
      id,
      region,
      log: join(options.folder, `${id}.log`),
      port: 0,
      child: undefined,
      gone: Promise.resolve(),
      proxies: [],
      expected: true,
      asked: new Map(),
    })
  if (seats.size !== options.pops.length) throw new RangeError("two POPs of a cluster have the same id")
  const seatOf = (id: string): Seat => {
    const seat = seats.get(id)
    if (seat === undefined)
      throw new RangeError(`no POP ${JSON.stringify(id)} in this cluster; it has ${[...seats.keys()].join(", ")}`)
    return seat
  }

  const mesh = new Map<string, Proxy>()
  const clients = new Map<string, Proxy>()
  const closeLines = async (): Promise<void> => {
    await Promise.all([...mesh.values(), ...clients.values()].map((proxy) => proxy.close()))
  }
  const pair = (a: string, b: string): string => [a, b].sort().join("\0")
  try {
    for (const a of seats.values()) {
      for (const place of places) {
        const proxy = await createProxy({ rttMs: options.clientRttMs(a.id, place), jitterMs, messages })
        clients.set(`${a.id}\0${place}`, proxy)
        a.proxies.push(proxy)
      }
      for (const b of seats.values()) {
        if (a.id >= b.id) continue
        const proxy = await createProxy({ rttMs: options.meshRttMs(a.id, b.id), jitterMs, messages })
        mesh.set(pair(a.id, b.id), proxy)
        b.proxies.push(proxy)
      }
    }
  } catch (cause) {
    await closeLines()
    throw cause
  }
  const proxyOf = (map: Map<string, Proxy>, key: string): Proxy => {
    const proxy = map.get(key)
    if (proxy === undefined) throw new RangeError(`no line ${JSON.stringify(key.split("\0"))} in this cluster`)
    return proxy
  }

  const configOf = (seat: Seat): PopProcessConfig => ({
    id: seat.id,
    region: seat.region,
    port: seat.port,
    folder: join(options.folder, seat.id),
    mesh: {
      secret,
      homes: options.homes ?? [...seats.keys()],
      peers: [...seats.values()]
        .filter((peer) => peer !== seat)
        .map(({ id, region }) => ({ id, region, url: `ws://127.0.0.1:${proxyOf(mesh, pair(seat.id, id)).port}` })),
    },
    options: options.options ?? null,
  })

  const launch = async (seat: Seat): Promise<void> => {
    for (let attempt = 1; ; attempt++) {
      if (seat.port === 0) seat.port = await freePort()
      const target = { host: "127.0.0.1", port: seat.port }
      for (const proxy of seat.proxies) proxy.setTarget(target)
      try {
        await begin(seat)
        return
      } catch (cause) {
        await seat.gone
        if ((cause as { code?: string }).code !== "EADDRINUSE" || attempt === portAttempts) throw cause
        seat.port = 0
      }
    }
  }

  const begin = (seat: Seat): Promise<void> => {
    const log = openSync(seat.log, "a")
    const child = fork(typeof options.entry === "string" ? options.entry : fileURLToPath(options.entry), [], {
      stdio: ["ignore", log, log, "ipc"],
      execArgv: process.execArgv.filter((flag) => passedOn.test(flag)),
      // NODE_TEST_CONTEXT would make the child report to a test runner that does not know it.
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env },
    })
    closeSync(log)
    seat.child = child
    seat.expected = false
    return new Promise((resolve, reject) => {
      let ready = false
      const fail = (why: string, code?: string): void => {
        seat.expected = true
        child.kill("SIGKILL")
        reject(Object.assign(new Error(`POP ${seat.id} did not start: ${why}`), code === undefined ? {} : { code }))
      }
      const timer = setTimeout(() => fail(`not ready within ${startMsMax} ms; see ${seat.log}`), startMsMax)
      child.on("message", (message: FromPop) => {
        if (message.t === "failed") return fail(message.message, message.code)
        if (message.t === "answer") {
          const asked = seat.asked.get(message.id)
          seat.asked.delete(message.id)
          if (message.error) asked?.reject(Object.assign(new Error(message.error.message), message.error))
          else asked?.resolve(message.value)
          return
        }
        ready = true
        clearTimeout(timer)
        resolve()
      })
      child.on("error", (error) => fail(error.message))
      seat.gone = new Promise((gone) => {
        child.once("exit", (code, signal) => {
          clearTimeout(timer)
          seat.child = undefined
          for (const proxy of seat.proxies) proxy.setTarget(undefined)
          gone()
          for (const { reject } of seat.asked.values()) reject(new Error(`POP ${seat.id} ended before it answered`))
          seat.asked.clear()
          const how = signal === null ? `exit code ${code}` : signal
          if (!ready)
            reject(new Error(`POP ${seat.id} did not start: its process ended with ${how}\n${tail(seat.log)}`))
          else if (!seat.expected) options.onCrash?.(seat.id, how, tail(seat.log))
        })
      })
      child.send({ t: "start", config: configOf(seat) } satisfies ToPop)
    })
  }

  const killAll = (): void => {
    for (const seat of seats.values()) seat.child?.kill("SIGKILL")
  }
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => (stopping ??= stopAll())
  const stopAll = async (): Promise<void> => {
    await Promise.all(
      [...seats.values()].map(async (seat) => {
        seat.expected = true
        const { child } = seat
        if (child === undefined) return
        if (child.connected) child.send({ t: "stop" } satisfies ToPop, () => undefined)
        const timer = setTimeout(() => child.kill("SIGKILL"), stopMsMax)
        await seat.gone
        clearTimeout(timer)
      }),
    )
    await closeLines()
    process.off("exit", killAll)
    for (const signal of signals) process.off(signal, onSignal)
  }
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const
  // Stops, then lets the signal do what it does without a handler. A second one does not wait: `exit` kills what is left.
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping !== undefined) process.exit(1)
    void stop().then(() => process.kill(process.pid, signal))
  }
  process.on("exit", killAll)
  for (const signal of signals) process.on(signal, onSignal)

  try {
    await Promise.all([...seats.values()].map(launch))
  } catch (cause) {
    await stop()
    throw cause
  }

  let asks = 0
  const clientProxy = (pop: string, place = places[0] ?? "client"): Proxy =>
    proxyOf(clients, `${seatOf(pop).id}\0${place}`)
  return {
    pops: [...seats.keys()],
    url: (pop, place) => `ws://127.0.0.1:${clientProxy(pop, place).port}`,
    clientProxy,
    meshProxy: (a, b) => proxyOf(mesh, pair(a, b)),
    port: (pop) => seatOf(pop).port,
    pid: (pop) => seatOf(pop).child?.pid,
    running: (pop) => seatOf(pop).child !== undefined,
    ask(pop, what) {
      const { child, asked } = seatOf(pop)
      if (child === undefined || !child.connected) return Promise.reject(new Error(`POP ${pop} is not running`))
      const id = (asks += 1)
      const answer = Promise.withResolvers<unknown>()
      asked.set(id, answer)
      child.send({ t: "ask", id, what } satisfies ToPop, (error) => {
        if (error && asked.delete(id)) answer.reject(error)
      })
      return answer.promise
    },
    async kill(pop) {
      const seat = seatOf(pop)
      seat.expected = true
      seat.child?.kill("SIGKILL")
      await seat.gone
    },
    async restart(pop) {
      const seat = seatOf(pop)
      if (stopping !== undefined) throw new Error(`POP ${pop} cannot start: the cluster is stopping`)
      if (seat.child !== undefined) throw new Error(`POP ${pop} is running; kill it first`)
      await launch(seat)
    },
    async drain(pop) {
      const seat = seatOf(pop)
      const { child } = seat
      if (child === undefined) throw new Error(`POP ${pop} is not running`)
      seat.expected = true
      child.kill("SIGTERM")
      const timer = setTimeout(() => child.kill("SIGKILL"), stopMsMax)
      await seat.gone
      clearTimeout(timer)
      return child.exitCode
    },
    pause: (pop) => void seatOf(pop).child?.kill("SIGSTOP"),
    resume: (pop) => void seatOf(pop).child?.kill("SIGCONT"),
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

/**
 * A port that nobody listens on now, below the range from which Linux takes the ports of outgoing connections: so no connection of a peer
 * that dials a dead POP can come to sit on the POP's own port.
 */
async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(20_000, 32_000)
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
      probe.once("error", () => resolve(false))
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
  throw new Error("no free port between 20000 and 32000 in 100 attempts")
}

function tail(file: string): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-20).join("\n")
  } catch {
    return ""
  }
}
