import { fork, type ChildProcess } from "node:child_process"
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
}

/** Ends every server that it started, in the reverse order. */
export class Servers implements AsyncDisposable {
  readonly #folder: string
  readonly #running: BenchServer[] = []

  /** Stores are made in `folder`. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** `idleMs`: of this framework's, after how long without a call its actors sleep. */
  async start(kind: ServerKind, idleMs = 30_000): Promise<BenchServer> {
    const module = kind === "sojourn" ? "./sojourn.ts" : "./hand-written.ts"
    const store = join(this.#folder, `${kind}-${this.#running.length}`)
    const child = fork(fileURLToPath(new URL(module, import.meta.url)), [kind, store, String(idleMs)], {
      execArgv: process.execArgv,
      // A test runner's variable would make the child report to it.
      env: { ...process.env, NODE_ENV: "production", NODE_TEST_CONTEXT: undefined },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    })
    const server = serverOf(kind, child, ((await answerOf(kind, child)) as { port: number }).port)
    this.#running.push(server)
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#running.splice(0).reverse()) await server.stop()
  }
}

async function answerOf(kind: ServerKind, child: ChildProcess): Promise<unknown> {
  const answer = await Promise.race([once(child, "message"), once(child, "exit").then(() => undefined)])
  if (answer === undefined) throw new Error(`the server ${kind} ended with ${child.exitCode ?? child.signalCode}`)
  return answer[0]
}

/** It is asked one thing at a time. */
function serverOf(kind: ServerKind, child: ChildProcess, port: number): BenchServer {
  const ask = async (order: Order): Promise<unknown> => {
    const answer = answerOf(kind, child)
    child.send(order)
    return answer
  }
  return {
    port,
    url: `ws://127.0.0.1:${port}`,
    memory: async () => (await ask("memory")) as Memory,
    asleep: async () => void (await ask("asleep")),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, "exit")
      child.kill("SIGKILL")
      await gone
    },
  }
}
