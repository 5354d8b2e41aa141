import type { Moved } from "@sojourn/client"
import { median, quantile } from "@sojourn/testkit"
import type { Leg } from "./itinerary.ts"
import type { Outcome } from "./traveller.ts"

/** What was measured of one leg. */
export interface LegResult {
  readonly leg: Leg
  readonly clientRttMs: number
  /** Between the POP that had the actor and the one that was gone to. */
  readonly meshRttMs: number
  /** From `hello` sent to the first reply. */
  readonly firstReplyMs: number
  readonly floorMs: number
  readonly moved: Moved | undefined
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
    report?.by ?? (r.moved ? "?" : "stayed"),
    ms(r.clientRttMs),
    ms(r.meshRttMs),
    ms(report?.fetchMs),
    report === undefined ? "-" : String(report.bytes),
    ms(report?.durableMs),
    ms(r.firstReplyMs),
    ms(r.floorMs),
    (r.firstReplyMs / r.floorMs).toFixed(2),
    String(r.calls),
    kill === undefined ? "" : `${kill.who} in ${kill.when}`,
  ])
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => {
      const width = columns[i]?.[1] ?? 0
      return i === 1 || i === 2 || i === 3 || i === 13 ? cell.padEnd(width) : cell.padStart(width)
    })
    .join("  ")
    .trimEnd()
}

/** The last line. Times in ms, to a hundredth. */
export function summary(
  legs: readonly LegResult[],
  moves: readonly Moved[],
  outcome: Outcome,
  textMatches: boolean,
): string {
  const moved = legs.filter((leg) => leg.moved !== undefined)
  const firstReplies = moved.map((leg) => leg.firstReplyMs)
  return JSON.stringify({
    legs: legs.length,
    callsAcked: outcome.acked,
    callsApplied: outcome.applied,
    lost: outcome.lost,
    duplicated: outcome.duplicated,
    textMatches,
    moves: moves.length,
    moveMs: spread(moves.map((move) => move.ms)),
    firstReplyMs: spread(firstReplies),
    floorMs: { p50: rounded(median(moved.map((leg) => leg.floorMs))) },
    overFloor: rounded(median(moved.map((leg) => leg.firstReplyMs / leg.floorMs)), 3),
  })
}

function spread(values: readonly number[]): { p50: number | null; p99: number | null } {
  return { p50: rounded(median(values)), p99: rounded(quantile(values, 0.99)) }
}

/** Null where there is nothing to measure: JSON has no NaN. */
function rounded(value: number, digits = 2): number | null {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : null
}
