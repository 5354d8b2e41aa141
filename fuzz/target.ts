import { Random } from "../packages/testkit/src/sim/random.ts"
import { assertUnpolluted, Finding } from "./oracle.ts"

/** One parser, codec or whole node under attack. */
export interface Target {
  readonly name: string
  /** Its part of all inputs, against the others' parts. */
  readonly share: number
  open(): Bench | Promise<Bench>
}

export interface Bench {
  /**
   * One case, a function of its chance alone. `count` says what came of one input; a case of a parser has one, of a connection many. Throws a
   * `Finding` for what must not be.
   */
  run(r: Random, count: (outcome: string) => void): void | Promise<void>
  close?(): void | Promise<void>
}

export interface TargetResult {
  readonly target: string
  readonly cases: number
  readonly inputs: number
  readonly outcomes: ReadonlyMap<string, number>
  readonly slowestMs: number
  readonly finding: { readonly message: string; readonly input: number } | undefined
}

export interface TargetRun {
  readonly seed: number
  readonly inputs: number
  /** Only this case. */
  readonly input?: number | undefined
  /** Ends by then, `performance.now()`. */
  readonly endAt?: number
  /** Told before each case: what a watchdog needs to name the one that never ends. */
  readonly begins?: (input: number) => void
}

/** A case that takes longer has found something; far above what a busy machine makes of an honest one. */
export const caseMsMax = 10_000

export async function runTarget(target: Target, options: TargetRun): Promise<TargetResult> {
  const outcomes = new Map<string, number>()
  let inputs = 0
  let cases = 0
  let slowestMs = 0
  let finding: TargetResult["finding"]
  let loose: unknown
  const onLoose = (error: unknown): void => {
    loose ??= error
  }
  process.on("unhandledRejection", onLoose)
  process.on("uncaughtException", onLoose)
  const bench = await target.open()
  const count = (outcome: string): void => {
    inputs++
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  try {
    const first = options.input ?? 0
    for (let i = first; finding === undefined; i++) {
      if (options.input === undefined ? inputs >= options.inputs : i > first) break
      if (options.endAt !== undefined && performance.now() > options.endAt) break
      options.begins?.(i)
      const began = performance.now()
      try {
        const running = bench.run(new Random(options.seed * 0x1_0000_0000 + i, target.name), count)
        if (running) await running
        if (loose !== undefined) throw new Finding(`nobody caught: ${said(loose)}`)
        assertUnpolluted()
        const ms = performance.now() - began
        slowestMs = Math.max(slowestMs, ms)
        if (ms > caseMsMax) throw new Finding(`took ${Math.round(ms)} ms`)
      } catch (error) {
        finding = { input: i, message: error instanceof Finding ? error.message : `threw ${said(error)}` }
      }
      cases++
    }
  } finally {
    await bench.close?.()
    process.off("unhandledRejection", onLoose)
    process.off("uncaughtException", onLoose)
  }
  return { target: target.name, cases, inputs, outcomes, slowestMs, finding }
}

function said(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

export function replayCommand(target: string, seed: number, input: number): string {
  return `npm run fuzz -- --target ${target} --seed ${seed} --input ${input}`
}
