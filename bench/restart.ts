// Restart: clients call one at a time, the server's process is killed and started again, and each client goes on with the call that was not
// answered. Timed from the moment in which the server listens again to each client's next reply.
//
// Of ours the client package, with its own waits. The hand-written client tries again each 100 ms and sends its call again; nothing there knows
// whether that was applied already.
import { createClient } from "@sojourn/client"
import { quantile } from "@sojourn/testkit"
import { setTimeout as delay } from "node:timers/promises"
import { WebSocket } from "ws"
import type { app } from "./app.ts"
import { Measured, round } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { wsSocket } from "./ws-socket.ts"

const clients = 200
const retryMs = 100
/** How long they call before each kill. */
const beforeMs = 500

/** A client that calls until it is closed: `replied` is told what its counter is now. */
interface Caller {
  close(): Promise<void>
}
type StartCaller = (url: string, key: string, replied: (n: number) => void) => Caller

const handWritten: StartCaller = (url, key, replied) => {
  let closed = false
  let c = 0
  let socket: WebSocket | undefined
  const connect = (): void => {
    const ws = (socket = new WebSocket(url, { perMessageDeflate: false }))
    const call = (): void => {
      ws.send(JSON.stringify({ c, x: key }))
    }
    ws.on("open", call)
    ws.on("message", (data) => {
      replied((JSON.parse((data as Buffer).toString()) as { readonly n: number }).n)
      c += 1
      if (!closed) call()
    })
    ws.on("error", () => undefined)
    ws.on("close", () => {
      if (!closed) setTimeout(connect, retryMs)
    })
  }
  connect()
  return {
    async close() {
      closed = true
      socket?.terminate()
    },
  }
}

const sojourn: StartCaller = (url, key, replied) => {
  const client = createClient<typeof app>({ url, token: key, socket: wsSocket })
  const { call } = client.counter.get(key)
  let closed = false
  const calling = async (): Promise<void> => {
    while (!closed) replied(await call.add(1))
  }
  const ended = calling().catch((error: unknown) => {
    if (!closed) throw error
  })
  return {
    async close() {
      closed = true
      await client.close()
      await ended
    },
  }
}

interface Figure {
  readonly downMs: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Calls of all runs together. */
interface Wrong {
  lost: number
  twice: number
}

/** What one client was told, and when it was served for the first time since the server listens again. */
class Account {
  backAt: number | undefined
  lost = 0
  twice = 0
  #told = 0
  readonly #back: () => void

  constructor(back: () => void) {
    this.#back = back
  }

  /** From now on the next reply is the first. */
  wait(): void {
    this.backAt = undefined
  }

  replied(n: number): void {
    const more = n - this.#told - 1
    this.#told = n
    if (more < 0) this.lost -= more
    else this.twice += more
    if (this.backAt !== undefined) return
    this.backAt = performance.now()
    this.#back()
  }
}

async function measure(
  servers: Servers,
  kind: "accounts" | "sojourn",
  start: StartCaller,
  wrong: Wrong,
): Promise<Figure> {
  const server = await servers.start(kind)
  let waiting = clients
  let all = Promise.withResolvers<void>()
  const accounts = Array.from({ length: clients }, () => new Account(() => --waiting === 0 && all.resolve()))
  const callers = accounts.map((account, i) => start(server.url, `client${i}`, (n) => account.replied(n)))
  await all.promise
  await delay(beforeMs)
  const killedAt = performance.now()
  await server.restart()
  const upAt = performance.now()
  waiting = clients
  all = Promise.withResolvers()
  for (const account of accounts) account.wait()
  await all.promise
  const back = accounts.map(({ backAt }) => (backAt ?? NaN) - upAt)
  for (const caller of callers) await caller.close()
  await server.stop()
  for (const { lost, twice } of accounts) {
    wrong.lost += lost
    wrong.twice += twice
  }
  return {
    downMs: upAt - killedAt,
    p50: quantile(back, 0.5),
    p99: quantile(back, 0.99),
    max: Math.max(...back),
  }
}

const cases = [
  { kind: "accounts", name: "hand-written ws + LMDB", start: handWritten },
  { kind: "sojourn", name: "Sojourn, client package", start: sojourn },
] as const

export async function benchRestart(servers: Servers, { runs }: BenchOptions): Promise<readonly Row[]> {
  const measured = new Measured<keyof Figure>()
  const wrong = { accounts: { lost: 0, twice: 0 }, sojourn: { lost: 0, twice: 0 } }
  for (let run = 0; run < runs; run++)
    for (const { kind, start } of cases) measured.add(kind, await measure(servers, kind, start, wrong[kind]))
  return cases.map(({ kind, name }) => {
    const { downMs, p50, p99, max } = measured.of(kind)
    return {
      server: name,
      clients,
      downMs: round(downMs, 0),
      backP50Ms: round(p50, 0),
      backP99Ms: round(p99, 0),
      backMaxMs: round(max, 0),
      maxOfHandWritten: round(max / measured.of("accounts").max, 2),
      ...wrong[kind],
    }
  })
}
