/**
 * The child's side of a test cluster: a module that runs one POP calls `servePop` and does nothing else. The process lives exactly as long as
 * the channel to its parent: when the parent stops it, exits, crashes or is killed, the channel closes and the process ends.
 */
export interface PopProcessConfig {
  readonly id: string
  readonly region: string
  readonly port: number
  /** This POP's own folder for its store. */
  readonly folder: string
  readonly mesh: {
    readonly secret: string
    readonly peers: readonly { readonly id: string; readonly region: string; readonly url: string }[]
    readonly homes: readonly string[]
  }
  /** What the one who started the cluster gave for every POP: plain JSON. */
  readonly options: unknown
}

export type ToPop =
  | { readonly t: "start"; readonly config: PopProcessConfig }
  | { readonly t: "stop" }
  | { readonly t: "ask"; readonly id: number; readonly what: unknown }
export type FromPop =
  | { readonly t: "ready" }
  | { readonly t: "failed"; readonly message: string; readonly code?: string }
  | { readonly t: "answer"; readonly id: number; readonly value?: unknown; readonly error?: AskError }

interface AskError {
  readonly message: string
  readonly code?: string
}

/** What `start` returns: `close` drains and stops the POP (`drainMs: 0`: stops it at once); the process exits after it. */
export interface RunningPop {
  close(options?: { readonly drainMs?: number }): Promise<void>
  /** Answers `Cluster.ask`: whatever the one who started the cluster and this POP's module agree on, in plain JSON. */
  answer?(what: unknown): unknown
}

/** `start` must have the POP listening on `config.port` when it resolves. */
export function servePop(start: (config: PopProcessConfig) => Promise<RunningPop>): void {
  if (process.send === undefined)
    throw new Error("this module is one POP of a test cluster: start it with startCluster")
  const tell = (message: FromPop): Promise<void> =>
    new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve()))
  let pop: Promise<RunningPop> | undefined

  const stop = async (drainMs?: number): Promise<void> => {
    try {
      await (await pop)?.close(drainMs === undefined ? undefined : { drainMs })
      process.exit(0)
    } catch (cause) {
      process.stderr.write(`${String(cause instanceof Error ? cause.stack : cause)}\n`)
      process.exit(1)
    }
  }
  const run = async (config: PopProcessConfig): Promise<void> => {
    pop = start(config)
    try {
      await pop
    } catch (cause) {
      process.stderr.write(`${String(cause instanceof Error ? cause.stack : cause)}\n`)
      const code = portTaken(cause) ? "EADDRINUSE" : undefined
      const message = cause instanceof Error ? cause.message : String(cause)
      await tell({ t: "failed", message, ...(code === undefined ? {} : { code }) })
      process.exit(1)
    }
    await tell({ t: "ready" })
  }

  const answer = async (id: number, what: unknown): Promise<void> => {
    try {
      const running = await pop
      if (running?.answer === undefined) throw new Error("this POP answers nothing")
      await tell({ t: "answer", id, value: await running.answer(what) })
    } catch (cause) {
      const { message, code } = cause as { message: string; code?: string }
      await tell({ t: "answer", id, error: { message, ...(code === undefined ? {} : { code }) } })
    }
  }

  // A terminal's interrupt reaches the whole group: the parent decides the order in which its POPs stop.
  for (const signal of ["SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined)
  // Somebody means this POP alone.
  process.on("SIGTERM", () => void stop())
  process.on("disconnect", () => process.exit(0))
  process.on("message", (message: ToPop) => {
    if (message.t === "start" && pop === undefined) void run(message.config)
    // All of them stop: there is nobody to hand anything to.
    else if (message.t === "stop") void stop(0)
    else if (message.t === "ask") void answer(message.id, message.what)
  })
}

function portTaken(cause: unknown): boolean {
  for (let error = cause; error instanceof Error; error = error.cause)
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return true
  return false
}
