import { workerData } from "node:worker_threads"
import { replayCommand } from "./target.ts"

/** Beside the fuzzer's thread: names the case that does not end, and ends the process. */
const { shared, msMax, names } = workerData as {
  readonly shared: SharedArrayBuffer
  readonly msMax: number
  readonly names: readonly string[]
}
const cells = new Float64Array(shared)
let last = 0
let since = performance.now()
setInterval(() => {
  const [at = 0, target = 0, seed = 0] = cells
  const now = performance.now()
  if (at !== last) {
    last = at
    since = now
  } else if (at > 0 && now - since > msMax) {
    process.stdout.write(
      `FOUND a case that does not end\n  replay: ${replayCommand(names[target] ?? "", seed, at - 1)}\n`,
      () => process.kill(process.pid, "SIGKILL"),
    )
  }
}, 1_000)
