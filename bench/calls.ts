// Calls over WebSocket: this framework beside what one would write by hand on the same parts.
//
// Stateless: an echo; of ours a query, which is answered once its owner is proved still to be one. Durable: a counter of each client, its
// reply sent after the flush; of ours with session, exactly-once, fence and gate on.
import type { ServerFrame } from "@sojourn/protocol"
import { Measured, round, spread } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { BenchServer, ServerKind, Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { openSocket, Wire } from "./wire.ts"

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

/** Clients, and calls in flight of each: 1, 64 and 1,024 in flight. */
const loads = [
  [1, 1],
  [64, 1],
  [64, 16],
] as const

/** One connection that speaks one server's language: `call` sends one, `answered` is told of each answer in order. */
interface Caller {
  call(): void
  answered: () => void
  close(): void
}

/** After how many replies they are acknowledged: sessions keep the others for whoever asks again. */
const ackEach = 32

async function handWritten(url: string): Promise<Caller> {
  const ws = await openSocket(url, (text) => {
    JSON.parse(text)
    caller.answered()
  })
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
  return caller
}

async function sojourn(url: string, work: Work, key: string): Promise<Caller> {
  const wire = await Wire.open(url)
  const { sessions } = await wire.hello(key)
  await wire.attach(1, ["counter", key], sessions[0] as string)
  let c = 0
  let q = 0
  const caller: Caller = {
    call: () => {
      if (work === "durable") wire.send({ t: "call", ch: 1, c: ++c, a: "add", p: { v: [1] } })
      else wire.send({ t: "query", ch: 1, q: ++q, after: 0, n: "echo", p: { v: ["hello"] } })
    },
    answered: () => undefined,
    close: () => void wire.close(),
  }
  wire.heard = (frame: ServerFrame) => {
    if (frame.t === "reply" || frame.t === "answer") {
      if (frame.err) throw new Error(`${frame.err.code}: ${frame.err.message}`)
      if (frame.t === "reply" && frame.c % ackEach === 0) wire.send({ t: "ack", ch: 1, c: frame.c, r: frame.r })
      caller.answered()
    } else if (frame.t !== "out") throw new Error(`unexpected: ${JSON.stringify(frame)}`)
  }
  return caller
}

interface Figure {
  readonly callsPerSecond: number
  readonly p50: number
  readonly p99: number
}

/**
 * Keeps `inFlight` calls of each client under way for `ms`, after a tenth of that to begin with; on a machine that is too busy for that, until as
 * many as are in flight were measured.
 */
async function load(callers: readonly Caller[], inFlight: number, ms: number): Promise<Figure> {
  const took: number[] = []
  const least = callers.length * inFlight
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
          if (now >= until && took.length < least) until = now + ms
          if (now < until) next()
          else if (head === sent.length) resolve()
        }
        for (let i = 0; i < inFlight; i++) next()
      }),
  )
  from = performance.now() + ms / 10
  until = from + ms
  await Promise.all(done)
  return { callsPerSecond: (took.length / (until - from)) * 1000, ...spread(took) }
}

const keyOf = ({ server, work }: Pick<Case, "server" | "work">, clients: number, each: number): string =>
  `${work} ${server} ${clients}x${each}`

export async function benchCalls(servers: Servers, { runs, ms }: BenchOptions): Promise<readonly Row[]> {
  const running = await servers.startAll(cases.map(({ server }) => server))
  const measured = new Measured<keyof Figure>()
  for (let run = 0; run < runs; run++)
    for (const [clients, each] of loads)
      for (const one of cases) {
        const { url } = running.get(one.server) as BenchServer
        const callers = await Promise.all(
          Array.from({ length: clients }, (_, i) =>
            one.server === "sojourn" ? sojourn(url, one.work, `client${i}`) : handWritten(url),
          ),
        )
        const figure = await load(callers, each, ms)
        for (const caller of callers) caller.close()
        measured.add(keyOf(one, clients, each), { ...figure })
      }
  return cases.flatMap((one) =>
    loads.map(([clients, each]) => {
      const figure = measured.of(keyOf(one, clients, each))
      const peer = measured.of(keyOf({ server: one.peer, work: one.work }, clients, each))
      return {
        work: one.work,
        server: one.name,
        clients,
        inFlight: clients * each,
        callsPerSecond: Math.round(figure.callsPerSecond),
        ofHandWritten: round(figure.callsPerSecond / peer.callsPerSecond, 3),
        p50Ms: round(figure.p50, 3),
        p99Ms: round(figure.p99, 3),
        p50OfHandWritten: round(figure.p50 / peer.p50, 2),
      }
    }),
  )
}
