import { fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { HandWritten } from "./hand-written.ts"
import type { Memory, Order } from "./served.ts"

export type ServerKind = HandWritten | "sojourn"

/** A server of the bench in a process of its own. */
export interface BenchServer {
  readonly port: number
  readonly url: string
  memory(): Promise<Memory>
  /** Resolves when none of its actors is awake. */
  asleep(): Promise<void>
  stop(): Promise<void>
  /** Kills it and starts it again, on the same port and store; resolves when it listens. */
  restart(): Promise<void>
}

/** A process that serves. */
interface Child {
  readonly port: number
  ask(order: Order): Promise<unknown>
  stop(): Promise<void>
}

/** Ends every server that it started. */
export class Servers implements AsyncDisposable {
  readonly #folder: string
  readonly #running: BenchServer[] = []
  #stores = 0

  /** Stores are made in `folder`. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** `idleMs`: of this framework's, after how long without a call its actors sleep. */
  async start(kind: ServerKind, idleMs = 30_000): Promise<BenchServer> {
    const store = join(this.#folder, `${kind}-${this.#stores++}`)
    let child = await childOf(kind, store, idleMs, 0)
    const { port } = child
    const server: BenchServer = {
      port,
      url: `ws://127.0.0.1:${port}`,
      memory: async () => (await child.ask("memory")) as Memory,
      asleep: async () => void (await child.ask("asleep")),
      stop: () => child.stop(),
      async restart() {
        await child.stop()
        child = await childOf(kind, store, idleMs, port)
      },
    }
    this.#running.push(server)
    return server
  }

  /** One of each kind, all at once. */
  async startAll(kinds: Iterable<ServerKind>): Promise<ReadonlyMap<ServerKind, BenchServer>> {
    const started = [...new Set(kinds)].map(async (kind) => [kind, await this.start(kind)] as const)
    return new Map(await Promise.all(started))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#running.splice(0).map((server) => server.stop()))
  }
}

/** It is asked one thing at a time, and what it says first is its port. */
async function childOf(kind: ServerKind, store: string, idleMs: number, port: number): Promise<Child> {
  const module = kind === "sojourn" ? "./sojourn.ts" : "./hand-written.ts"
  const child = fork(fileURLToPath(new URL(module, import.meta.url)), [kind, store, String(idleMs), String(port)], {
    execArgv: process.execArgv,
    // A test runner's variable would make the child report to it.
    env: { ...process.env, NODE_ENV: "production", NODE_TEST_CONTEXT: undefined },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  })
  let answer = Promise.withResolvers<unknown>()
  const gone = once(child, "exit")
  child.on("message", (message) => answer.resolve(message))
  const failed = gone.then(([code, signal]: unknown[]) => {
    throw new Error(`the server ${kind} ended with ${String(code ?? signal)}`)
  })
  // Told to whoever waits for an answer, if anybody does.
  failed.catch(() => undefined)
  const ask = (order: Order): Promise<unknown> => {
    answer = Promise.withResolvers()
    child.send(order)
    return Promise.race([answer.promise, failed])
  }
  const listening = (await Promise.race([answer.promise, failed])) as { readonly port: number }
  return {
    port: listening.port,
    ask,
    async stop() {
      child.kill("SIGKILL")
      await gone
    },
  }
}
