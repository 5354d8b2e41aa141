// Calls over WebSocket: this framework beside what one would write by hand on the same parts, in one run.
//
//   npm run bench [-- --runs 5] [--ms 2000] [--json]
//
// Stateless: an echo; of ours a query, which is answered once its owner is proved still to be one. Durable: a counter of each client, its
// reply sent after the flush; of ours with session, exactly-once, fence and gate on. Loads are clients times calls in flight of each. Every
// run measures all of them one after another; the figures are medians over the runs, and their ratios to the hand-written server's.
import { fork, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import type { ClientFrame, ServerFrame } from "@sojourn/protocol"
import { SUBPROTOCOL } from "@sojourn/protocol"
import { WebSocket } from "ws"
import type { ServerKind } from "./servers.ts"

type Work = "stateless" | "durable"

interface Case {
  readonly server: ServerKind
  readonly work: Work
  readonly name: string
  /** Compared with this one of the same work. */
  readonly peer: ServerKind
}

const cases: readonly Case[] = [
  { server: "raw", work: "stateless", name: "ws, frames echoed", peer: "json" },
  { server: "json", work: "stateless", name: "hand-written ws + JSON", peer: "json" },
  { server: "sojourn", work: "stateless", name: "Sojourn, query", peer: "json" },
  { server: "lmdb", work: "durable", name: "hand-written ws + LMDB", peer: "lmdb" },
  { server: "sojourn", work: "durable", name: "Sojourn, action", peer: "lmdb" },
]

/** Clients, and calls in flight of each. */
const loads = [
  [1, 1],
  [64, 1],
  [64, 16],
] as const

interface Figure {
  readonly callsPerSecond: number
  readonly p50: number
  readonly p99: number
}

/** One connection that speaks one server's language: `call` sends one, `answered` is told of each answer in order. */
interface Caller {
  call(): void
  answered: () => void
  close(): void
}

/** After how many replies they are acknowledged: sessions keep the others for whoever asks again. */
const ackEach = 32

async function handWritten(url: string): Promise<Caller> {
  const ws = new WebSocket(url, { perMessageDeflate: false })
  await once(ws, "open")
  let c = 0
  const caller: Caller = {
    call: () => {
      ws.send(JSON.stringify({ c: ++c, x: "hello" }))
    },
    answered: () => undefined,
    close: () => {
      ws.terminate()
    },
  }
  ws.on("message", (data) => {
    JSON.parse((data as Buffer).toString())
    caller.answered()
  })
  return caller
}

async function sojourn(url: string, work: Work, key: string): Promise<Caller> {
  const ws = new WebSocket(`${url}/v1/connect`, [SUBPROTOCOL], { perMessageDeflate: false })
  await once(ws, "open")
  const send = (frame: ClientFrame): void => {
    ws.send(JSON.stringify(frame))
  }
  const attached = Promise.withResolvers<unknown>()
  let c = 0
  let q = 0
  const caller: Caller = {
    call: () => {
      if (work === "durable") send({ t: "call", ch: 1, c: ++c, a: "add", p: { v: [1] } })
      else send({ t: "query", ch: 1, q: ++q, after: 0, n: "echo", p: { v: ["hello"] } })
    },
    answered: () => undefined,
    close: () => {
      ws.terminate()
    },
  }
  ws.on("message", (data) => {
    const frame = JSON.parse((data as Buffer).toString()) as ServerFrame
    if (frame.t === "welcome")
      send({ t: "attach", ch: 1, actor: ["counter", key], sid: frame.sessions[0] as string, acked: 0, live: false })
    else if (frame.t === "attached") attached.resolve(undefined)
    else if (frame.t === "ping") send({ t: "pong" })
    else if (frame.t === "reply" || frame.t === "answer") {
      if (frame.err) throw new Error(`${frame.err.code}: ${frame.err.message}`)
      if (frame.t === "reply" && frame.c % ackEach === 0) send({ t: "ack", ch: 1, c: frame.c, r: frame.r })
      caller.answered()
    } else if (frame.t !== "out") throw new Error(`unexpected: ${JSON.stringify(frame)}`)
  })
  send({ t: "hello", client: "bench", token: key })
  await attached.promise
  return caller
}

/** Keeps `inFlight` calls of each client under way for `ms`, after a tenth of that to begin with. */
async function load(callers: readonly Caller[], inFlight: number, ms: number): Promise<Figure> {
  const took: number[] = []
  let until = Infinity
  let from = Infinity
  const done = callers.map(
    (caller) =>
      new Promise<void>((resolve) => {
        const sent: number[] = []
        let head = 0
        const next = (): void => {
          sent.push(performance.now())
          caller.call()
        }
        caller.answered = () => {
          const now = performance.now()
          const at = sent[head++] as number
          if (at >= from && now <= until) took.push(now - at)
          if (now < until) next()
          else if (head === sent.length) resolve()
        }
        for (let i = 0; i < inFlight; i++) next()
      }),
  )
  from = performance.now() + ms / 10
  until = from + ms
  await Promise.all(done)
  took.sort((a, b) => a - b)
  const at = (share: number): number => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? NaN
  return { callsPerSecond: (took.length / ms) * 1000, p50: at(0.5), p99: at(0.99) }
}

interface Running {
  readonly url: string
  readonly child: ChildProcess
}

async function startServer(kind: ServerKind, folder: string): Promise<Running> {
  const child = fork(fileURLToPath(new URL("servers.ts", import.meta.url)), [kind, join(folder, kind)], {
    execArgv: process.execArgv,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  })
  const told = await Promise.race([once(child, "message"), once(child, "exit").then(() => undefined)])
  if (!told) throw new Error(`the server ${kind} did not start`)
  return { url: `ws://127.0.0.1:${(told[0] as { port: number }).port}`, child }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    ms: { type: "string", default: "2000" },
    json: { type: "boolean", default: false },
  },
})
const runs = Number(values.runs)
const ms = Number(values.ms)
if (!(Number.isInteger(runs) && runs >= 1 && runs <= 100))
  throw new RangeError(`--runs takes 1 to 100, not ${values.runs}`)
if (!(ms >= 100 && ms <= 60_000)) throw new RangeError(`--ms takes 100 to 60000, not ${values.ms}`)

// In the working directory, because that is a disk where the temporary folder may not be one.
const folder = mkdtempSync(".bench-calls-")
const servers = new Map<ServerKind, Running>()
const measured = new Map<string, Figure[]>()
const keyOf = ({ server, work }: Pick<Case, "server" | "work">, clients: number, inFlight: number): string =>
  `${work} ${server} ${clients}x${inFlight}`
try {
  for (const { server } of cases) if (!servers.has(server)) servers.set(server, await startServer(server, folder))
  for (let run = 0; run < runs; run++)
    for (const [clients, inFlight] of loads)
      for (const one of cases) {
        const { url } = servers.get(one.server) as Running
        const callers = await Promise.all(
          Array.from({ length: clients }, (_, i) =>
            one.server === "sojourn" ? sojourn(url, one.work, `client${i}`) : handWritten(url),
          ),
        )
        const figure = await load(callers, inFlight, ms)
        for (const caller of callers) caller.close()
        const key = keyOf(one, clients, inFlight)
        measured.set(key, [...(measured.get(key) ?? []), figure])
      }
} finally {
  for (const { child } of servers.values()) {
    const gone = once(child, "exit")
    child.kill("SIGKILL")
    await gone
  }
  rmSync(folder, { recursive: true, force: true })
}

const figureOf = (key: string): Figure => {
  const all = measured.get(key) ?? []
  const of = (what: keyof Figure): number => median(all.map((figure) => figure[what]))
  return { callsPerSecond: of("callsPerSecond"), p50: of("p50"), p99: of("p99") }
}
const rows = cases.flatMap((one) =>
  loads.map(([clients, inFlight]) => {
    const figure = figureOf(keyOf(one, clients, inFlight))
    const peer = figureOf(keyOf({ server: one.peer, work: one.work }, clients, inFlight))
    return {
      work: one.work,
      name: one.name,
      clients,
      inFlight,
      callsPerSecond: Math.round(figure.callsPerSecond),
      p50Ms: Number(figure.p50.toFixed(3)),
      p99Ms: Number(figure.p99.toFixed(3)),
      throughputRatio: Number((figure.callsPerSecond / peer.callsPerSecond).toFixed(3)),
      p50Ratio: Number((figure.p50 / peer.p50).toFixed(2)),
    }
  }),
)
if (!values.json) {
  console.log(
    `${availableParallelism()} cores, Node ${process.versions.node}, loopback; medians of ${runs} runs of ${ms} ms`,
  )
  console.log(
    `${"work".padEnd(10)} ${"server".padEnd(24)} ${"clients".padStart(7)} ${"each".padStart(5)} ${"calls/s".padStart(9)} ${"of hand".padStart(8)} ${"p50 ms".padStart(8)} ${"p99 ms".padStart(8)} ${"p50 of hand".padStart(12)}`,
  )
  for (const r of rows)
    console.log(
      `${r.work.padEnd(10)} ${r.name.padEnd(24)} ${String(r.clients).padStart(7)} ${String(r.inFlight).padStart(5)} ${String(r.callsPerSecond).padStart(9)} ${r.throughputRatio.toFixed(2).padStart(8)} ${r.p50Ms.toFixed(3).padStart(8)} ${r.p99Ms.toFixed(3).padStart(8)} ${r.p50Ratio.toFixed(2).padStart(12)}`,
    )
}
console.log(JSON.stringify({ runs, ms, rows }))
