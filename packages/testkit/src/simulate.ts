import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { faultKinds } from "./sim/faults.ts"
import { hunt } from "./sim/hunt.ts"
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
  --jobs J      processes that share the seeds (default 1)
  --seed S      this one seed
  --story       tell what happened in it, last events last
  --lines N     lines of a story (default 60; 0: all)
  --mutants     planted defects instead: each must be found
  --mutant NAME this one defect (part of its name), with --seed or --seeds`

function wholeOf(name: string, text: string | undefined, otherwise: number, least: number): number {
  const value = text === undefined ? otherwise : Number(text)
  // A run over nothing would find nothing.
  if (text?.trim() === "" || !Number.isSafeInteger(value) || value < least)
    throw new RangeError(`--${name} must be a whole number from ${least}, got ${JSON.stringify(text)}`)
  return value
}

function minutesOf(text: string | undefined): number {
  const value = text === undefined ? 1e6 : Number(text)
  if (!Number.isFinite(value) || value <= 0)
    throw new RangeError(`--minutes must be a number above 0, got ${JSON.stringify(text)}`)
  return value
}

function report(result: RunResult, command: string): string {
  const { finding, seed, steps, digest } = result
  return finding === undefined
    ? `seed ${seed}: ${steps} steps, nothing found, digest ${digest}`
    : `seed ${seed}: found after ${steps} steps\n  ${finding.message}\n  replay: ${command}`
}

function addCounts(sum: Map<string, number>, counts: Iterable<readonly [string, number]>): void {
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

async function huntAll(hunted: readonly Mutant[], steps: number, from: number): Promise<boolean> {
  let all = true
  for (const mutant of hunted) {
    const { tried, message } = await hunt(mutant, steps, from)
    console.log(
      message === undefined
        ? `NOT FOUND in ${mutant.seedsMax} seeds: ${mutant.name} (${mutant.breaks})`
        : `found in ${tried} of at most ${mutant.seedsMax} seeds: ${mutant.name}\n    ${message.slice(0, 300)}`,
    )
    all &&= message !== undefined
  }
  return all
}

/** Throws a RangeError or TypeError saying which option is wrong. */
function asked() {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      from: { type: "string" },
      steps: { type: "string" },
      minutes: { type: "string" },
      jobs: { type: "string" },
      stride: { type: "string" },
      seed: { type: "string" },
      lines: { type: "string" },
      mutant: { type: "string" },
      story: { type: "boolean" },
      mutants: { type: "boolean" },
      help: { type: "boolean" },
    },
  })
  const mutant =
    values.mutant === undefined ? undefined : mutants.find(({ name }) => name.includes(values.mutant ?? ""))
  if (values.mutant !== undefined && mutant === undefined)
    throw new RangeError(`--mutant must name one of: ${mutants.map(({ name }) => name).join(", ")}`)
  const steps = wholeOf("steps", values.steps, 2_000, 1)
  const from = wholeOf("seed", values.seed, wholeOf("from", values.from, 1, 0), 0)
  const seeds = wholeOf("seeds", values.seeds, 20, 1)
  const to = from + (values.seed === undefined ? seeds : 1)
  const stride = wholeOf("stride", values.stride, 1, 1)
  const range: Range = { from, to, stride, minutes: minutesOf(values.minutes), steps }
  return {
    help: values.help,
    all: values.mutants,
    mutant,
    range,
    // More than seeds would have nothing to do.
    jobs: Math.min(wholeOf("jobs", values.jobs, 1, 1), to - from),
    lines: wholeOf("lines", values.lines, 60, 0),
    story: values.story,
  }
}

async function main({ help, all, mutant, range, jobs, lines, story }: ReturnType<typeof asked>): Promise<void> {
  if (help) return console.log(usage)
  const { steps, from } = range
  if (all) {
    if (mutant && process.send) return void process.send(await hunt(mutant, steps, from))
    if (!(await huntAll(mutant ? [mutant] : mutants, steps, from))) process.exitCode = 1
    return
  }
  const total = jobs > 1 ? await share(range, jobs, mutant) : await runRange(range, mutant, story ? lines : undefined)
  if (process.send) return void process.send({ ...total, counts: [...total.counts] })
  console.log(countLines(total.counts).join("\n"))
  const { counts: _counts, ...sum } = total
  console.log(JSON.stringify(sum))
  if (total.failing.length > 0) process.exitCode = 1
}

/** Seeds `from`, `from + stride` … below `to`. */
interface Range {
  readonly from: number
  readonly to: number
  readonly stride: number
  readonly minutes: number
  readonly steps: number
}

interface Total {
  seeds: number
  readonly failing: number[]
  steps: number
  calls: number
  acknowledged: number
  moves: number
  readonly counts: Map<string, number>
}

const nothing = (): Total => ({
  seeds: 0,
  failing: [],
  steps: 0,
  calls: 0,
  acknowledged: 0,
  moves: 0,
  counts: new Map(),
})

function add(
  total: Total,
  more: Omit<Total, "counts"> & { readonly counts: Iterable<readonly [string, number]> },
): void {
  total.seeds += more.seeds
  total.failing.push(...more.failing)
  total.steps += more.steps
  total.calls += more.calls
  total.acknowledged += more.acknowledged
  total.moves += more.moves
  addCounts(total.counts, more.counts)
}

async function runRange(range: Range, mutant: Mutant | undefined, storyLines: number | undefined): Promise<Total> {
  const { from, to, stride, minutes, steps } = range
  const end = Date.now() + minutes * 60_000
  const total = nothing()
  for (let seed = from; seed < to && Date.now() < end; seed += stride) {
    const result =
      storyLines === undefined
        ? await run({ seed, steps, ...(mutant === undefined ? {} : { mutant }) })
        : await tell(seed, steps, storyLines, mutant)
    add(total, { ...result, seeds: 1, failing: result.finding === undefined ? [] : [seed] })
    if (result.finding === undefined && to - from > 1) continue
    console.log(report(result, replay(seed, steps, mutant)))
    if (result.finding !== undefined && storyLines !== undefined) console.log(result.finding.stack)
  }
  return total
}

/** The same seeds, shared by so many processes: each seed is a world of its own. */
async function share({ from, to, minutes, steps }: Range, jobs: number, mutant: Mutant | undefined): Promise<Total> {
  const total = nothing()
  const parts = Array.from({ length: jobs }, (_, job) => {
    const args = { from: from + job, seeds: to - from - job, stride: jobs, minutes, steps }
    const texts = Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)])
    const child = fork(fileURLToPath(import.meta.url), [...texts, ...(mutant ? ["--mutant", mutant.name] : [])])
    return new Promise<void>((resolve, reject) => {
      let told = false
      child.on("message", (part: Parameters<typeof add>[1]) => {
        told = true
        add(total, part)
      })
      child.on("exit", (code) => {
        if (told) resolve()
        else reject(new Error(`a simulating process ended with exit code ${String(code)} and said nothing`))
      })
    })
  })
  await Promise.all(parts)
  total.failing.sort((a, b) => a - b)
  return total
}

let options: ReturnType<typeof asked> | undefined
try {
  options = asked()
} catch (error) {
  console.error(`Sojourn simulate: ${(error as Error).message}`)
  process.exitCode = 1
}
if (options) await main(options)
