import { parseArgs } from "node:util"
import { faultKinds } from "./sim/faults.ts"
import { mutants, type Mutant } from "./sim/mutants.ts"
import { run, type RunResult } from "./sim/run.ts"

/**
 * `npm run simulate`: whole-cluster simulations from the command line.
 *
 *   npm run simulate -- --seeds 1000 --from 1 --steps 2000 [--minutes M]
 *   npm run simulate -- --seed 17 --story
 *   npm run simulate -- --mutants
 */
const usage = `npm run simulate -- [options]
  --seeds N     seeds to run (default 20)
  --from S      the first of them (default 1)
  --steps N     steps with faults in each (default 2000)
  --minutes M   stop after so long
  --seed S      this one seed
  --story       tell what happened in it, last events last
  --lines N     lines of a story (default 60; 0: all)
  --mutants     planted defects instead: each must be found
  --mutant NAME this one defect (part of its name), with --seed or --seeds`

function numberOf(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (!Number.isFinite(value) || value < 0) throw new RangeError(`--${name} must be a number, got ${text}`)
  return value
}

function report(result: RunResult, command: string): string {
  const { finding, seed, steps, digest } = result
  return finding === undefined
    ? `seed ${seed}: ${steps} steps, nothing found, digest ${digest}`
    : `seed ${seed}: found after ${steps} steps\n  ${finding.message}\n  replay: ${command}`
}

function addCounts(sum: Map<string, number>, counts: ReadonlyMap<string, number>): void {
  for (const [what, n] of counts) sum.set(what, (sum.get(what) ?? 0) + n)
}

/** Every count by its name, the kinds of fault also where they never occurred. */
function countLines(counts: ReadonlyMap<string, number>): string[] {
  const all = new Map(counts)
  for (const kind of faultKinds) if (!all.has(`fault: ${kind}`)) all.set(`fault: ${kind}`, 0)
  return [...all].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, n]) => `  ${String(n).padStart(9)}  ${what}`)
}

const replay = (seed: number, steps: number, mutant?: Mutant): string =>
  `npm run simulate -- --seed ${seed} --steps ${steps}${mutant === undefined ? "" : ` --mutant "${mutant.name}"`} --story`

async function tell(seed: number, steps: number, lines: number, mutant?: Mutant): Promise<RunResult> {
  const result = await run({
    seed,
    steps,
    verbose: true,
    storyMax: lines === 0 ? 1_000_000 : lines,
    ...(mutant === undefined ? {} : { mutant }),
  })
  console.log((lines === 0 ? result.story : result.story.slice(-lines)).join("\n"))
  return result
}

async function hunt(steps: number, from: number): Promise<boolean> {
  let all = true
  for (const mutant of mutants) {
    let found: RunResult | undefined
    let seed = from
    for (; seed < from + mutant.seedsMax && found === undefined; seed++) {
      const result = await run({ seed, steps, mutant })
      if (result.finding !== undefined) found = result
    }
    const tried = seed - from
    console.log(
      found === undefined
        ? `NOT FOUND in ${mutant.seedsMax} seeds: ${mutant.name} (${mutant.breaks})`
        : `found in ${tried} of at most ${mutant.seedsMax} seeds: ${mutant.name}\n    ${found.finding?.message.slice(0, 300) ?? ""}`,
    )
    all &&= found !== undefined
  }
  return all
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      from: { type: "string" },
      steps: { type: "string" },
      minutes: { type: "string" },
      seed: { type: "string" },
      lines: { type: "string" },
      mutant: { type: "string" },
      story: { type: "boolean" },
      mutants: { type: "boolean" },
      help: { type: "boolean" },
    },
  })
  if (values.help) return console.log(usage)
  const steps = numberOf("steps", values.steps, 2_000)
  const lines = numberOf("lines", values.lines, 60)
  const mutant =
    values.mutant === undefined ? undefined : mutants.find(({ name }) => name.includes(values.mutant ?? ""))
  if (values.mutant !== undefined && mutant === undefined)
    throw new RangeError(`--mutant must name one of: ${mutants.map(({ name }) => name).join(", ")}`)
  if (values.mutants) {
    if (!(await hunt(steps, numberOf("from", values.from, 1)))) process.exitCode = 1
    return
  }
  const from = numberOf("seed", values.seed, numberOf("from", values.from, 1))
  const seeds = values.seed === undefined ? numberOf("seeds", values.seeds, 20) : 1
  const end = Date.now() + numberOf("minutes", values.minutes, 1e6) * 60_000
  const counts = new Map<string, number>()
  const failing: number[] = []
  let done = 0
  let sum = { steps: 0, calls: 0, acknowledged: 0, moves: 0 }
  for (let seed = from; seed < from + seeds && Date.now() < end; seed++) {
    const result = values.story
      ? await tell(seed, steps, lines, mutant)
      : await run({ seed, steps, ...(mutant === undefined ? {} : { mutant }) })
    done++
    addCounts(counts, result.counts)
    sum = {
      steps: sum.steps + result.steps,
      calls: sum.calls + result.calls,
      acknowledged: sum.acknowledged + result.acknowledged,
      moves: sum.moves + result.moves,
    }
    if (result.finding === undefined && seeds > 1) continue
    console.log(report(result, replay(seed, steps, mutant)))
    if (result.finding !== undefined) {
      failing.push(seed)
      if (values.story) console.log(result.finding.stack)
    }
  }
  console.log(countLines(counts).join("\n"))
  console.log(JSON.stringify({ seeds: done, failing, ...sum }))
  if (failing.length > 0) process.exitCode = 1
}

await main()
