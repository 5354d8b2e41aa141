import type { Moved } from "@sojourn/client"
import { median, quantile } from "@sojourn/testkit"
import { killName, type Leg } from "./itinerary.ts"
import type { JourneyEnd } from "./travel-journey.ts"
import type { TravelOptions } from "./travel-options.ts"

/** What was measured of one leg. */
export interface LegResult {
  readonly leg: Leg
  /** The actor went ahead, under the open sockets. */
  readonly live: boolean
  readonly clientRttMs: number
  /** Between the POP that had the actor and the one that was gone to. */
  readonly meshRttMs: number
  /** From `hello` sent to the first reply; not of a live leg. */
  readonly firstReplyMs: number | undefined
  readonly floorMs: number
  readonly moved: Moved | undefined
  /** The owner gave it to the leg's end; not where it was there already. */
  readonly given: boolean
  /** The longest that a call waited around a live move, minus the usual; not where somebody was killed. */
  readonly pauseMs: number | undefined
  /** When the move began, the typist's socket was at the POP that had the actor. */
  readonly servedAtSource: boolean
  /** Acknowledged on this leg. */
  readonly calls: number
}

const columns = [
  ["leg", 4],
  ["from→to", 8],
  ["hint", 8],
  ["asked by", 8],
  ["client rtt", 10],
  ["mesh rtt", 9],
  ["fetch", 7],
  ["bytes", 8],
  ["durable", 7],
  ["first reply", 11],
  ["floor", 7],
  ["ratio", 6],
  ["pause", 7],
  ["calls", 6],
  ["killed", 0],
] as const

export function tableHead(): string {
  return row(columns.map(([name]) => name))
}

export function tableRow(number: number, r: LegResult): string {
  const report = r.moved?.report
  const ms = (value: number | undefined): string => (value === undefined ? "-" : value.toFixed(1))
  const { kill } = r.leg
  return row([
    String(number),
    `${r.leg.from}→${r.leg.to}`,
    r.leg.hint,
    r.live ? (r.given ? "owner" : "nobody") : (report?.by ?? (r.moved ? "?" : "stayed")),
    ms(r.clientRttMs),
    ms(r.meshRttMs),
    ms(report?.fetchMs),
    report === undefined ? "-" : String(report.bytes),
    ms(report?.durableMs),
    ms(r.firstReplyMs),
    ms(r.firstReplyMs === undefined ? undefined : r.floorMs),
    r.firstReplyMs === undefined ? "-" : (r.firstReplyMs / r.floorMs).toFixed(2),
    ms(r.pauseMs),
    String(r.calls),
    kill === undefined ? "" : killName(kill),
  ])
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => {
      const width = columns[i]?.[1] ?? 0
      return i === 1 || i === 2 || i === 3 || i === 14 ? cell.padEnd(width) : cell.padStart(width)
    })
    .join("  ")
    .trimEnd()
}

/** The last line. Times in ms, to a hundredth. What an option asks for is in it when the option was given. */
export function summary(
  { results: legs, moves, outcome, textMatches, devices, kills }: JourneyEnd,
  options: TravelOptions,
): Record<string, unknown> {
  const moved = legs.flatMap((leg) =>
    leg.moved === undefined || leg.firstReplyMs === undefined
      ? []
      : [{ firstReplyMs: leg.firstReplyMs, floorMs: leg.floorMs }],
  )
  return {
    legs: legs.length,
    callsAcked: outcome.acked,
    callsApplied: outcome.applied,
    lost: outcome.lost,
    duplicated: outcome.duplicated,
    textMatches,
    moves: moves.length,
    moveMs: spread(moves.map((move) => move.ms)),
    firstReplyMs: spread(moved.map((leg) => leg.firstReplyMs)),
    floorMs: { p50: rounded(median(moved.map((leg) => leg.floorMs))) },
    overFloor: rounded(median(moved.map((leg) => leg.firstReplyMs / leg.floorMs)), 3),
    ...(options.live || options.pause
      ? { liveMoves: legs.filter((leg) => leg.given).length, pauseMs: spread(pauses(legs)) }
      : {}),
    ...(options.devices > 1
      ? {
          gaps: outcome.gaps,
          resyncs: outcome.resyncs,
          devices: devices.map(({ device, moves: went, textMatches: matches, outcome: own }) => ({
            device,
            moves: went,
            callsAcked: own.acked,
            callsApplied: own.applied,
            lost: own.lost,
            duplicated: own.duplicated,
            gaps: own.gaps,
            resyncs: own.resyncs,
            textMatches: matches,
          })),
        }
      : {}),
    ...(options.kill ? { kills: Object.fromEntries([...kills.occurred].sort()), stepsMissed: kills.missed } : {}),
  }
}

/** Of the live moves that a client saw whose socket was at the source. */
export function pauses(legs: readonly LegResult[]): number[] {
  return legs.flatMap(({ pauseMs, servedAtSource }) => (pauseMs === undefined || !servedAtSource ? [] : [pauseMs]))
}

function spread(values: readonly number[]): { p50: number | null; p99: number | null } {
  return { p50: rounded(median(values)), p99: rounded(quantile(values, 0.99)) }
}

/** Null where there is nothing to measure: JSON has no NaN. */
export function rounded(value: number, digits = 2): number | null {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : null
}
