// More than a POP can take, from all sides: what it refuses, in which words, with how much memory, and what becomes of everybody else.
//
//   npm run overload [-- --only NAME] [--bounds default] [--json] [--brief]
//
// The bounds of an overload are those of a node that is to answer within milliseconds ("tight"); by default a node waits for a longer queue.
//
// One real POP with LMDB for each scenario, clients in other processes, everything on loopback. Figures are goals that are met or missed; a
// run fails where something must be so on any machine (a lost call, an unnamed refusal) and is not.
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism, loadavg } from "node:os"
import { parseArgs } from "node:util"
import { overloadedCalls } from "./overload-calls.ts"
import { jitter } from "./overload-jitter.ts"
import { PopProcess, type Report } from "./overload-parts.ts"
import { largeFrames, silentSockets, slowReaders } from "./overload-sockets.ts"
import { reconnectStorm } from "./overload-storm.ts"

const scenarios: Readonly<Record<string, (folder: string, brief: boolean) => Promise<Report>>> = {
  calls: (folder, brief) => overloadedCalls(folder, { clients: 64, ms: brief ? 1_000 : 10_000, times: 2 }),
  slow: (folder, brief) => slowReaders(folder, brief ? 3 : 20),
  storm: (folder, brief) => (brief ? reconnectStorm(folder, 100, 1) : reconnectStorm(folder, 5_000, 2)),
  jitter: (folder, brief) =>
    jitter(
      folder,
      brief
        ? { clients: 100, processes: 1, rooms: 2, cutEachMs: 1_000, sayEachMs: 200, ms: 2_000 }
        : { clients: 10_000, processes: 2, rooms: 10, cutEachMs: 15_000, sayEachMs: 1_000, ms: 45_000 },
    ),
  frames: (folder, brief) => largeFrames(folder, brief ? 5 : 50),
  silent: (folder, brief) => silentSockets(folder, brief ? 200 : 10_000, brief),
}

/** A node that is to answer within milliseconds. */
const tight = { lateMsMax: 10, overloadMsMin: 10 }

const usage = `npm run overload [-- options]

  --only NAME     ${Object.keys(scenarios).join(", ")}; may be given several times (default: all)
  --bounds B      tight (${JSON.stringify(tight)}) or default: the limits of the POP (default: tight)
  --json          print the last line only
  --brief         a tenth of it, for a look at whether all of it runs
  --help          this`

/** Throws a RangeError or TypeError saying which option is wrong. */
function asked() {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      bounds: { type: "string", default: "tight" },
      json: { type: "boolean", default: false },
      brief: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  })
  if (values.bounds !== "tight" && values.bounds !== "default")
    throw new RangeError(`--bounds takes tight or default, not ${values.bounds}`)
  const names = Object.keys(scenarios)
  for (const name of values.only ?? [])
    if (!names.includes(name)) throw new RangeError(`--only takes ${names.join(", ")}, not ${name}`)
  return { ...values, only: values.only ?? names }
}

let values: ReturnType<typeof asked>
try {
  values = asked()
} catch (error) {
  console.error(`Sojourn overload: ${(error as Error).message}`)
  process.exit(1)
}
if (values.help) {
  console.log(usage)
  process.exit()
}
if (values.bounds === "tight") PopProcess.bounds = tight

// In the working directory, because that is a disk where the temporary folder may not be one.
const folder = mkdtempSync(".bench-overload-")
const reports: Report[] = []
try {
  for (const name of values.only) {
    const report = await (scenarios[name] as (typeof scenarios)[string])(folder, values.brief)
    reports.push(report)
    if (values.json) continue
    console.log(`\n${name}`)
    for (const [what, figure] of Object.entries(report.figures)) console.log(`  ${what}: ${JSON.stringify(figure)}`)
    for (const { what, met, must } of report.checks)
      console.log(`  ${met ? "met   " : must ? "FAILED" : "missed"} ${what}`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
const machine = { cores: availableParallelism(), load: loadavg().map((load) => Number(load.toFixed(1))) }
if (!values.json)
  console.log(`\n${machine.cores} cores, load ${machine.load.join(" ")}, Node ${process.versions.node}, loopback`)
console.log(JSON.stringify({ machine, bounds: values.bounds, reports }))
if (reports.some(({ checks }) => checks.some(({ must, met }) => must && !met))) process.exitCode = 1
