// The child's side of a server of the bench: told by its arguments what to serve, it says its port, and answers what it is asked.
import { readFileSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** `memory`: what is in use after the garbage is gone. `asleep`: answered once no actor is awake. */
export type Order = "memory" | "asleep"

export interface Memory {
  /** The JavaScript heap, and what it holds outside of it (buffers). */
  readonly heap: number
  /** Pages of the process's own: without mapped files, since the store's are the system's to take back. */
  readonly resident: number
}

/** Linux tells the two kinds apart; elsewhere it is both. */
function resident(): number {
  let status = ""
  try {
    status = readFileSync("/proc/self/status", "utf8")
  } catch {
    // Not on Linux.
  }
  const kib = /^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]
  return kib === undefined ? process.memoryUsage.rss() : Number(kib) * 1_024
}

function memory(): Memory {
  setFlagsFromString("--expose-gc")
  const gc = runInNewContext("gc") as (how: object) => void
  // What a first round finalizes, a second can free; the last resort also gives empty pages back to the system.
  for (let i = 0; i < 3; i++) gc({ type: "major", execution: "sync", flavor: "last-resort" })
  const { heapUsed, external } = process.memoryUsage()
  return { heap: heapUsed + external, resident: resident() }
}

/** The process lives as long as the channel to its parent. */
export function serveBench(
  start: (kind: string, folder: string, idleMs: number, port: number) => Promise<number>,
  asleep: () => Promise<void> = () => Promise.resolve(),
): void {
  const [, , kind = "", folder = "", idleMs = "", port = ""] = process.argv
  if (process.send === undefined) throw new Error("this module is a server of the bench: npm run bench starts it")
  process.on("disconnect", () => process.exit(0))
  process.on("message", (order: Order) => {
    if (order === "memory") process.send?.(memory())
    else void asleep().then(() => process.send?.({}))
  })
  void start(kind, folder, Number(idleMs), Number(port)).then((port) => process.send?.({ port }))
}
