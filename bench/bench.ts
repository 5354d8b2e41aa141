// `npm run bench`: this framework beside servers written by hand on the same parts, in one run on one machine. What a part measures is said at
// the head of its file. Absolute figures are the machine's; ratios are to the hand-written server of the same run.
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism } from "node:os"
import { benchOptions, usage, type BenchOptions, type PartName } from "./options.ts"
import { Servers } from "./servers.ts"
import { table, type Row } from "./table.ts"

type Part = (servers: Servers, options: BenchOptions, folder: string) => Promise<readonly Row[]>

/** Loaded when they run: a wrong option is answered at once. */
const parts: Readonly<Record<PartName, () => Promise<Part>>> = {
  calls: async () => (await import("./calls.ts")).benchCalls,
  moves: async () => (await import("./moves.ts")).benchMoves,
  wake: async () => (await import("./wake.ts")).benchWake,
  memory: async () => (await import("./memory.ts")).benchMemory,
  fanout: async () => (await import("./fanout.ts")).benchFanout,
  restart: async () => (await import("./restart.ts")).benchRestart,
}

async function run(options: BenchOptions): Promise<void> {
  const { runs, ms } = options
  const say = (text: string): void => {
    if (!options.json) process.stdout.write(`${text}\n`)
  }
  // In the working directory, because that is a disk where the temporary folder may not be one.
  const folder = mkdtempSync(".bench-")
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }))
  // Servers end when the channel to this process does.
  process.once("SIGINT", () => process.exit(130))
  process.once("SIGTERM", () => process.exit(143))
  const machine = { cores: availableParallelism(), node: process.versions.node }
  say(`${machine.cores} cores, Node ${machine.node}, loopback; medians of ${runs} runs, ${ms} ms a case\n`)
  const measured: Partial<Record<PartName, readonly Row[]>> = {}
  for (const name of options.only) {
    // A part's servers end with it: the next one has the machine to itself.
    await using servers = new Servers(folder)
    const part = await parts[name]()
    const rows = await part(servers, options, folder)
    say(`${name}\n${table(rows)}\n`)
    measured[name] = rows
  }
  process.stdout.write(`${JSON.stringify({ ...machine, runs, ms, ...measured })}\n`)
}

/** Undefined: there is nothing to run, and what to say about it was said. */
function asked(): BenchOptions | undefined {
  try {
    const options = benchOptions(process.argv.slice(2))
    if (options === undefined) process.stdout.write(`${usage}\n`)
    return options
  } catch (error) {
    process.stderr.write(`Sojourn bench: ${(error as Error).message}\n`)
    process.exitCode = 1
    return undefined
  }
}

const options = asked()
if (options !== undefined) await run(options)
