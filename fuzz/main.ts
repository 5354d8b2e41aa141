import { parseArgs } from "node:util"
import { Worker } from "node:worker_threads"
import { growth } from "./growth.ts"
import { plantedParser, plantedRejection } from "./planted.ts"
import { caseMsMax, replayCommand, runTarget, type TargetResult } from "./target.ts"
import { targets } from "./targets.ts"

/**
 * `npm run fuzz`: hostile input for every parser, codec and stored form, and for whole nodes.
 *
 *   npm run fuzz -- --inputs 1000000 [--seed S] [--target NAME] [--minutes M]
 *   npm run fuzz -- --target NAME --seed S --input I
 *   npm run fuzz -- --growth
 */
const usage = `npm run fuzz -- [options]
  --inputs N    inputs of all targets together (default 100000)
  --seed S      what chance begins with (default 1)
  --target NAME only this one
  --input I     only this case of it: what a finding prints
  --minutes M   stop after so long
  --growth      only the check that time grows no faster than the input
  --list        the targets`

function numberOf(name: string, text: string | undefined, otherwise: number, least = 0): number {
  const value = text === undefined ? otherwise : Number(text)
  if (text?.trim() === "" || !Number.isFinite(value) || value < least)
    throw new RangeError(`--${name} must be a number from ${least}, got ${JSON.stringify(text)}`)
  return value
}

/** Ends the process where a case never ends: its loop would let nothing else be heard. */
function watch(): { begins(target: string, seed: number, input: number): void; end(): Promise<unknown> } {
  const shared = new SharedArrayBuffer(24)
  const worker = new Worker(new URL("watchdog.ts", import.meta.url), {
    workerData: { shared, msMax: 3 * caseMsMax, names: targets.map(({ name }) => name) },
  })
  worker.unref()
  const cells = new Float64Array(shared)
  return {
    begins(target, seed, input) {
      cells[1] = targets.findIndex(({ name }) => name === target)
      cells[2] = seed
      cells[0] = input + 1
    },
    end: () => worker.terminate(),
  }
}

function lineOf({ target, cases, inputs, outcomes, slowestMs }: TargetResult): string {
  const said = [...outcomes].sort(([, a], [, b]) => b - a).map(([outcome, n]) => `${outcome} ${n}`)
  return `${target.padEnd(15)} ${String(inputs).padStart(8)} inputs in ${String(cases).padStart(7)} cases, slowest ${slowestMs.toFixed(0).padStart(4)} ms: ${said.join(", ")}`
}

/** Throws a RangeError or TypeError saying which option is wrong. */
function asked() {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string" },
      seed: { type: "string" },
      target: { type: "string" },
      input: { type: "string" },
      minutes: { type: "string" },
      growth: { type: "boolean" },
      list: { type: "boolean" },
      help: { type: "boolean" },
    },
  })
  const chosen =
    values.target === undefined
      ? targets
      : [...targets, plantedParser, plantedRejection].filter(({ name }) => name === values.target)
  if (chosen.length === 0) throw new RangeError(`--target is one of: ${targets.map(({ name }) => name).join(", ")}`)
  const { help, list, growth } = values
  return {
    help,
    list,
    growth,
    chosen,
    seed: numberOf("seed", values.seed, 1),
    // None would find nothing.
    inputs: numberOf("inputs", values.inputs, 100_000, 1),
    input: values.input === undefined ? undefined : numberOf("input", values.input, 0),
    minutes: numberOf("minutes", values.minutes, 1e6),
  }
}

async function main({ chosen, seed, inputs, input, ...options }: ReturnType<typeof asked>): Promise<void> {
  if (options.help) return console.log(usage)
  if (options.list) return console.log(targets.map(({ name }) => name).join("\n"))
  const began = performance.now()
  const endAt = began + options.minutes * 60_000
  const results: TargetResult[] = []
  const findings: string[] = []
  if (!options.growth) {
    const whole = chosen.reduce((sum, { share }) => sum + share, 0)
    const dog = watch()
    for (const target of chosen) {
      const result = await runTarget(target, {
        seed,
        inputs: Math.ceil((inputs * target.share) / whole),
        input,
        endAt,
        begins: (i) => dog.begins(target.name, seed, i),
      })
      results.push(result)
      console.log(lineOf(result))
      if (!result.finding) continue
      findings.push(
        `${target.name}: ${result.finding.message}\n  replay: ${replayCommand(target.name, seed, result.finding.input)}`,
      )
    }
    await dog.end()
  }
  if (options.growth || (chosen === targets && input === undefined))
    for (const { name, ratio, ok, ms } of growth()) {
      console.log(
        `growth ${name.padEnd(32)} 8 times the size takes ${ratio.toFixed(1)} times as long (${ms.toFixed(1)} ms)`,
      )
      if (!ok) findings.push(`growth: ${name}: 8 times the size takes ${ratio.toFixed(1)} times as long`)
    }
  for (const finding of findings) console.log(`FOUND ${finding}`)
  const sum = results.reduce((all, one) => all + one.inputs, 0)
  console.log(
    JSON.stringify({
      seed,
      inputs: sum,
      findings: findings.length,
      seconds: Math.round((performance.now() - began) / 1_000),
    }),
  )
  if (findings.length > 0) process.exitCode = 1
}

let options: ReturnType<typeof asked> | undefined
try {
  options = asked()
} catch (error) {
  console.error(`Sojourn fuzz: ${(error as Error).message}`)
  process.exitCode = 1
}
if (options) await main(options)
