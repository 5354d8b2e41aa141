import { parseArgs } from "node:util"

export const partNames = ["calls", "moves", "wake", "memory", "fanout", "restart"] as const
export type PartName = (typeof partNames)[number]

export interface BenchOptions {
  readonly only: readonly PartName[]
  /** Of each part; figures are medians over them. */
  readonly runs: number
  /** How long each case is measured in each run. */
  readonly ms: number
  /** Idle clients whose memory is measured, and sleeping actors. */
  readonly clients: number
  readonly actors: number
  readonly json: boolean
}

export const usage = `npm run bench [-- options]

  --only PART     ${partNames.join(", ")}; may be given several times (default: all)
  --runs N        runs of each part; figures are medians over them (default 5)
  --ms N          ms for which each case is measured in each run (default 2000)
  --clients N     idle clients whose memory is measured (default 2000)
  --actors N      sleeping actors whose memory is measured (default 20000)
  --json          print the last line only
  --help          this`

/** Undefined: help was asked for. Throws a RangeError or TypeError saying which option is wrong. */
export function benchOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string", multiple: true, default: [] },
      runs: { type: "string", default: "5" },
      ms: { type: "string", default: "2000" },
      clients: { type: "string", default: "2000" },
      actors: { type: "string", default: "20000" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  })
  if (values.help) return undefined
  const only = values.only.map((name) => {
    const part = partNames.find((known) => known === name)
    if (part === undefined) throw new RangeError(`--only takes ${partNames.join(", ")}, not ${JSON.stringify(name)}`)
    return part
  })
  return {
    only: only.length === 0 ? partNames : partNames.filter((name) => only.includes(name)),
    runs: whole("--runs", values.runs, 1, 100),
    ms: whole("--ms", values.ms, 100, 60_000),
    clients: whole("--clients", values.clients, 10, 15_000),
    actors: whole("--actors", values.actors, 10, 1_000_000),
    json: values.json,
  }
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text.trim() === "" || !Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`${name} takes ${least} to ${most}, not ${text}`)
  return value
}
