import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { gunzipSync } from "node:zlib"
import { hintKinds, type HintKind } from "./itinerary.ts"
import { readTrace, type Trace } from "./trace.ts"

export interface TravelOptions {
  /** Random legs; absent: the grand tour. */
  readonly legs: number | undefined
  /** Calls a second; with a recording, keystrokes a second. */
  readonly rate: number
  readonly stateBytes: number
  /** All mesh lines, ms; absent: by the cities' coordinates. */
  readonly rttMs: number | undefined
  readonly seed: number
  readonly hint: HintKind | "mixed"
  readonly kill: boolean
  /** The typist's own included. */
  readonly devices: number
  /** Moves under attached clients, on two legs of three. */
  readonly live: boolean
  /** Live moves alone, at two sizes of state, side by side. */
  readonly pause: boolean
  /** The state stays in the United States; the POP in Tokyo serves by relay. */
  readonly residency: boolean
  readonly trace: Trace | undefined
  readonly json: boolean
}

export const usage = `npm run travel -- [options]

  --legs N            N legs between random POPs, instead of Boston to Tokyo and back
  --rate N            calls a second (default 50)
  --trace FILE        replay a recorded editing session (JSON, or gzip of it) and compare the final text
  --speed N           keystrokes a second of the recording (default 600)
  --state-bytes N     luggage: bytes of state besides the text (default 0, at most 7000000)
  --rtt MS            round trip of every mesh line; client lines 10 ms (default: by the cities' coordinates)
  --seed N            chooses the route, the hints, the edits and the kills (default: random)
  --hint KIND         right, stale, missing, forged or mixed (default right)
  --kill              SIGKILL POPs and restart them: source, target, home and gateway at each step of a move, and at any time
  --devices N         N devices (default 1): the first types; the others follow the live state at POPs of their own, call
                      now and then, and must end with the same text
  --live              on two legs of three the owner moves the actor while the client types over its open socket; the client
                      follows later, or stays where it is. Reported: the pause, which is the longest time that a call waited
                      around the move, minus the usual
  --pause             every leg is live and the client follows, with 1 KiB of state and then with 1 MiB: prints both median
                      pauses. It is what calls at the rate meet of it: up to one interval less than the whole
  --residency         the notebook's residency is the United States: the POP in Tokyo serves it by relay and keeps nothing of it.
                      In the end the POPs' folders are searched, byte by byte
  --json              print the last line only
  --help              this`

export const stateBytesMax = 7_000_000

/** Undefined: help was asked for. Throws a RangeError or TypeError saying which option is wrong. */
export function travelOptions(args: readonly string[]): TravelOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      legs: { type: "string" },
      rate: { type: "string" },
      speed: { type: "string", default: "600" },
      "state-bytes": { type: "string", default: "0" },
      rtt: { type: "string" },
      seed: { type: "string" },
      hint: { type: "string", default: "right" },
      kill: { type: "boolean", default: false },
      devices: { type: "string", default: "1" },
      live: { type: "boolean", default: false },
      pause: { type: "boolean", default: false },
      residency: { type: "boolean", default: false },
      trace: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  })
  if (values.help) return undefined
  const { hint } = values
  if (hint !== "mixed" && !hintKinds.some((kind) => kind === hint))
    throw new RangeError(`--hint must be ${hintKinds.join(", ")} or mixed, not ${hint}`)
  return {
    legs: values.legs === undefined ? undefined : whole("--legs", values.legs, 1, 100_000),
    rate: number(
      values.trace === undefined ? "--rate" : "--speed",
      values.trace === undefined ? (values.rate ?? "50") : values.speed,
      0.1,
      5_000,
    ),
    stateBytes: whole("--state-bytes", values["state-bytes"], 0, stateBytesMax),
    rttMs: values.rtt === undefined ? undefined : number("--rtt", values.rtt, 0, 10_000),
    seed:
      values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : whole("--seed", values.seed, 0, 2 ** 32 - 1),
    hint: hint as HintKind | "mixed",
    kill: values.kill,
    devices: whole("--devices", values.devices, 1, 16),
    live: values.live,
    pause: values.pause,
    residency: values.residency,
    trace: values.trace === undefined ? undefined : openTrace(values.trace),
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

function openTrace(path: string): Trace {
  let file: Uint8Array
  try {
    file = readFileSync(path)
  } catch (cause) {
    throw new TypeError(`--trace: ${path} cannot be read (${(cause as Error).message})`, { cause })
  }
  try {
    return readTrace(file[0] === 0x1f && file[1] === 0x8b ? gunzipSync(file) : file)
  } catch (cause) {
    throw new TypeError(`--trace: ${path} is no recording: ${(cause as Error).message}`, { cause })
  }
}
