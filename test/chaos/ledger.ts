import type { Account } from "./app.ts"

/**
 * The account that is kept outside of the product: what each client asked for and what it was told, in the order in which that happened
 * here. It is only ever added to. `judge` compares it with what the actors hold in the end:
 *
 * - `lost`: a call was acknowledged, or said to be executed, and is not applied; or two were told to be the same one of all
 * - `duplicated`: a call is applied more than once
 * - `disordered`: a client's calls are applied in another order than it made them, or a call that was made after another had been
 *   acknowledged comes before it
 * - `untrue`: a call is applied that was said to be not executed, was refused, or was never made
 * - `stale`: a query or a live state that is older than what had been acknowledged, or shown, before it was asked for
 */
export type Told = "ok" | "refused" | "not-executed" | "executed" | "unknown"

export type Entry =
  | { readonly t: "made"; readonly at: number; readonly call: CallId; readonly refuse: boolean }
  /** `total`: what a call that is `ok` answered: the how-manieth it is of all calls of its actor. */
  | { readonly t: "told"; readonly at: number; readonly call: CallId; readonly told: Told; readonly total?: number }
  | {
      readonly t: "asked"
      readonly at: number
      readonly query: number
      readonly actor: string
      readonly client: string
    }
  | {
      readonly t: "answered"
      readonly at: number
      readonly query: number
      readonly actor: string
      readonly state: Account
    }
  /** A subscriber is shown a state. */
  | {
      readonly t: "shown"
      readonly at: number
      readonly actor: string
      readonly client: string
      readonly total: number
    }

/** `n` numbers the calls of one client on one actor. */
export interface CallId {
  readonly client: string
  readonly actor: string
  readonly n: number
}

export const faultsOfJudge = ["lost", "duplicated", "disordered", "untrue", "stale"] as const
export type Judgement = Readonly<Record<(typeof faultsOfJudge)[number], number>> & {
  /** What is wrong, in words: the first hundred. */
  readonly findings: readonly string[]
}

const findingsMax = 100
const nameOf = ({ client, actor, n }: CallId): string => `call ${n} of ${client} on ${actor}`

class Finder {
  readonly counts = { lost: 0, duplicated: 0, disordered: 0, untrue: 0, stale: 0 }
  readonly findings: string[] = []

  found(what: keyof Finder["counts"], words: string): void {
    this.counts[what] += 1
    if (this.findings.length < findingsMax) this.findings.push(`${what}: ${words}`)
  }
}

export function judge(entries: Iterable<Entry>, finals: ReadonlyMap<string, Account>): Judgement {
  const finder = new Finder()
  const calls = new Map<string, Map<string, CallNote[]>>()
  judgeTold(entries, calls, finder)
  for (const [actor, byClient] of calls) {
    const state = finals.get(actor)
    if (state === undefined) finder.found("lost", `${actor} has no state in the end`)
    else judgeApplied(actor, state, byClient, finder)
  }
  return { ...finder.counts, findings: finder.findings }
}

interface CallNote {
  readonly id: CallId
  readonly refuse: boolean
  /** The highest total that anybody had been told when it was made. */
  readonly floor: number
  told: Told | undefined
}

/** What was said while it went on, in its order. */
function judgeTold(entries: Iterable<Entry>, calls: Map<string, Map<string, CallNote[]>>, finder: Finder): void {
  const floors = new Map<string, number>()
  const totals = new Map<string, Map<number, CallId>>()
  const asked = new Map<number, number>()
  const shown = new Map<string, number>()
  const raise = (actor: string, total: number): void => {
    floors.set(actor, Math.max(floors.get(actor) ?? 0, total))
  }
  for (const entry of entries)
    switch (entry.t) {
      case "made": {
        const { client, actor, n } = entry.call
        const notes = at(
          at(calls, actor, () => new Map<string, CallNote[]>()),
          client,
          () => [],
        )
        notes[n] = { id: entry.call, refuse: entry.refuse, floor: floors.get(actor) ?? 0, told: undefined }
        break
      }
      case "told": {
        const { client, actor, n } = entry.call
        const note = calls.get(actor)?.get(client)?.[n]
        if (note === undefined) {
          finder.found("untrue", `${nameOf(entry.call)} was answered and never made`)
          break
        }
        if (note.told !== undefined) finder.found("duplicated", `${nameOf(entry.call)} was answered twice`)
        note.told = entry.told
        if (entry.told !== "ok") break
        if (note.refuse) finder.found("untrue", `${nameOf(entry.call)} refuses and was answered`)
        const total = entry.total ?? 0
        const known = at(totals, actor, () => new Map<number, CallId>())
        const other = known.get(total)
        if (other !== undefined)
          finder.found("lost", `${nameOf(entry.call)} and ${nameOf(other)} were both told to be number ${total}`)
        known.set(total, entry.call)
        if (total <= note.floor)
          finder.found("disordered", `${nameOf(entry.call)} is number ${total}, and ${note.floor} had been told before`)
        raise(actor, total)
        break
      }
      case "asked":
        asked.set(entry.query, floors.get(entry.actor) ?? 0)
        break
      case "answered": {
        const floor = asked.get(entry.query) ?? 0
        if (entry.state.total < floor)
          finder.found(
            "stale",
            `a query of ${entry.actor} shows ${entry.state.total} calls after ${floor} had been told`,
          )
        raise(entry.actor, entry.state.total)
        break
      }
      case "shown": {
        const key = `${entry.client} ${entry.actor}`
        const before = shown.get(key) ?? 0
        if (entry.total < before)
          finder.found("stale", `${entry.client} was shown ${entry.total} calls of ${entry.actor} after ${before}`)
        shown.set(key, entry.total)
        break
      }
    }
}

/** What the actor holds in the end. */
function judgeApplied(
  actor: string,
  state: Account,
  calls: ReadonlyMap<string, readonly CallNote[]>,
  finder: Finder,
): void {
  let applied = 0
  for (const client of new Set([...calls.keys(), ...Object.keys(state.runs)])) {
    const notes = calls.get(client) ?? []
    const seen = new Set<number>()
    let last = 0
    for (const [from, to] of state.runs[client] ?? [])
      for (let n = from; n <= to; n++) {
        applied += 1
        const name = nameOf({ client, actor, n })
        const note = notes[n]
        if (seen.has(n)) finder.found("duplicated", `${name} is applied again after ${last}`)
        else if (n < last) finder.found("disordered", `${name} is applied after ${last}`)
        seen.add(n)
        last = n
        if (note === undefined) finder.found("untrue", `${name} is applied and was never made`)
        else if (note.refuse || note.told === "not-executed" || note.told === "refused")
          finder.found("untrue", `${name} is applied and ${note.refuse ? "refuses" : "was said to be not executed"}`)
      }
    for (const note of notes)
      if (
        note !== undefined &&
        !note.refuse &&
        (note.told === "ok" || note.told === "executed") &&
        !seen.has(note.id.n)
      )
        finder.found("lost", `${nameOf(note.id)} was told ${note.told} and is not applied`)
  }
  if (applied !== state.total) finder.found("untrue", `${actor} counts ${state.total} calls and holds ${applied}`)
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) map.set(key, (value = make()))
  return value
}
