import { parseArgs } from "node:util"
import { plants, type Plant } from "./app.ts"

export interface ChaosOptions {
  readonly minutes: number
  readonly seed: number
  readonly clients: number
  readonly pops: number
  readonly killsPerMinute: number
  /** Calls and queries a second, all clients together. */
  readonly rate: number
  readonly alone: boolean
  readonly plant: Plant | undefined
  readonly keep: boolean
  readonly json: boolean
}

export const usage = `npm run chaos -- [options]

  --minutes M           how long faults go on (default 1)
  --clients N           clients that travel and call (default 200)
  --pops N              POPs, each a process with a store of its own (default 4, from 3 to 8)
  --kills-per-minute N  SIGKILL and restart (default 12)
  --alone               one fault at a time, each kind in its turn: what each costs by itself
  --rate N              calls and queries a second, all clients together (default 50)
  --seed N              chooses faults, routes, hints and calls (default: random). The machine's own timing stays its own
  --plant KIND          a defect of the actors that the judge must find: ${plants.join(", ")}. The run then fails
  --keep                leave the POPs' logs and stores also when the run is good
  --json                print the last line only
  --help                this

The last line is JSON. Exit code 1 if a call was lost, repeated, reordered or answered untruly, or a client is not served in the end.`

/** Undefined: help was asked for. Throws a RangeError or TypeError saying which option is wrong. */
export function chaosOptions(args: readonly string[]): ChaosOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: "string", default: "1" },
      clients: { type: "string", default: "200" },
      pops: { type: "string", default: "4" },
      "kills-per-minute": { type: "string", default: "12" },
      rate: { type: "string", default: "50" },
      seed: { type: "string" },
      alone: { type: "boolean", default: false },
      plant: { type: "string" },
      keep: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  })
  if (values.help) return undefined
  const plant = plants.find((one) => one === values.plant)
  if (values.plant !== undefined && plant === undefined)
    throw new RangeError(`--plant must be ${plants.join(", ")}, not ${JSON.stringify(values.plant)}`)
  return {
    minutes: number("--minutes", values.minutes, 0.05, 1_440),
    clients: whole("--clients", values.clients, 2, 2_000),
    pops: whole("--pops", values.pops, 3, 8),
    killsPerMinute: number("--kills-per-minute", values["kills-per-minute"], 0, 60),
    rate: number("--rate", values.rate, 1, 5_000),
    seed:
      values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : whole("--seed", values.seed, 0, 2 ** 32 - 1),
    alone: values.alone,
    plant,
    keep: values.keep,
    json: values.json,
  }
}

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text.trim() === "" || !(value >= least && value <= most))
    throw new RangeError(`${name} must be a number from ${least} to ${most}, not ${JSON.stringify(text)}`)
  return value
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = number(name, text, least, most)
  if (!Number.isInteger(value)) throw new RangeError(`${name} must be a whole number, not ${text}`)
  return value
}
