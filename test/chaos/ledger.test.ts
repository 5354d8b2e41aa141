// The judge of `npm run chaos` must be able to fail: a good account is tampered with, and each tampering is found by its name.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { Account, Run } from "./app.ts"
import { faultsOfJudge, judge, type Entry, type Judgement, type Told } from "./ledger.ts"

const actor = "shared0~bos"
let at = 0
const made = (client: string, n: number, refuse = false): Entry => ({
  t: "made",
  at: ++at,
  call: { client, actor, n },
  refuse,
})
const told = (client: string, n: number, told: Told, total?: number): Entry => ({
  t: "told",
  at: ++at,
  call: { client, actor, n },
  told,
  ...(total === undefined ? {} : { total }),
})
const asked = (query: number): Entry => ({ t: "asked", at: ++at, query, actor, client: "a" })
const answered = (query: number, total: number): Entry => ({
  t: "answered",
  at: ++at,
  query,
  actor,
  state: { total, runs: {} },
})
const shown = (total: number): Entry => ({ t: "shown", at: ++at, actor, client: "a", total })

/** Two clients: `a` made six calls, of which the fourth has an unknown end and the fifth was refused; `b` made two. */
const entries: readonly Entry[] = [
  made("a", 1),
  told("a", 1, "ok", 1),
  made("b", 1),
  told("b", 1, "ok", 2),
  asked(1),
  answered(1, 2),
  shown(2),
  made("a", 2),
  made("a", 3),
  told("a", 2, "ok", 3),
  told("a", 3, "ok", 4),
  shown(4),
  made("a", 4),
  told("a", 4, "unknown"),
  made("a", 5, true),
  told("a", 5, "refused"),
  made("b", 2),
  told("b", 2, "not-executed"),
  made("a", 6),
  told("a", 6, "executed"),
]
/** Calls that are applied, as runs: `1-4 6`. */
function account(a: string, b: string, total?: number): Account {
  const runs = (text: string): Run[] =>
    text.split(" ").map((run) => {
      const [from = 0, to = from] = run.split("-").map(Number)
      return [from, to]
    })
  const count = [...runs(a), ...runs(b)].reduce((sum, [from, to]) => sum + to - from + 1, 0)
  return { runs: { a: runs(a), b: runs(b) }, total: total ?? count }
}

function judged(list: readonly Entry[], final: Account | undefined): Judgement {
  return judge(list, new Map(final === undefined ? [] : [[actor, final]]))
}

/** Found as this and nothing else. */
function found(judgement: Judgement, what: Partial<Record<(typeof faultsOfJudge)[number], number>>): void {
  for (const name of faultsOfJudge)
    assert.equal(judgement[name], what[name] ?? 0, `${name}: ${judgement.findings.join("; ")}`)
}

/** With each entry that matches replaced. */
const tampered = (match: (entry: Entry) => boolean, by: (entry: Entry) => readonly Entry[]): Entry[] =>
  entries.flatMap((entry) => (match(entry) ? by(entry) : [entry]))
const isTold = (client: string, n: number) => (entry: Entry) =>
  entry.t === "told" && entry.call.client === client && entry.call.n === n

describe("the judge of npm run chaos", () => {
  test("finds nothing where a call of unknown outcome was applied, and nothing where it was not", () => {
    found(judged(entries, account("1-4 6", "1")), {})
    found(judged(entries, account("1-3 6", "1")), {})
  })

  test("finds an acknowledged call that is not applied", () => {
    found(judged(entries, account("1 3-4 6", "1")), { lost: 1 })
    found(judged(entries, account("1-4", "1")), { lost: 1 })
    found(judged(entries, undefined), { lost: 1 })
  })

  test("finds a call that is applied twice, and one that was answered twice", () => {
    found(judged(entries, account("1-3 3-4 6", "1")), { duplicated: 1 })
    const twice = tampered(isTold("a", 4), (entry) => [entry, entry])
    found(judged(twice, account("1-4 6", "1")), { duplicated: 1 })
  })

  test("finds calls that are applied in another order than they were made", () => {
    found(judged(entries, account("1 3 2 4 6", "1")), { disordered: 1 })
  })

  test("finds a call whose place is before that of a call which was acknowledged before it was made", () => {
    const early = tampered(isTold("a", 2), () => [told("a", 2, "ok", 1.5)])
    found(judged(early, account("1-4 6", "1")), { disordered: 1 })
  })

  test("finds two calls that were told the same place", () => {
    const same = tampered(isTold("a", 3), () => [told("a", 3, "ok", 3)])
    found(judged(same, account("1-4 6", "1")), { lost: 1 })
  })

  test("finds effects of calls that were said to have none, refused or never made, and a count that is not theirs", () => {
    found(judged(entries, account("1-4 6", "1-2")), { untrue: 1 })
    found(judged(entries, account("1-6", "1")), { untrue: 1 })
    found(judged(entries, account("1-4 6-7", "1")), { untrue: 1 })
    found(judged(entries, account("1-4 6", "1", 9)), { untrue: 1 })
    const refusedWell = tampered(isTold("a", 5), () => [told("a", 5, "ok", 9)])
    found(judged(refusedWell, account("1-4 6", "1")), { untrue: 1 })
    found(judged([...entries, told("c", 1, "ok", 9)], account("1-4 6", "1")), { untrue: 1 })
  })

  test("finds a query that shows less than was acknowledged before it was asked, and a live state that goes back", () => {
    const old = tampered(
      (entry) => entry.t === "answered",
      () => [answered(1, 1)],
    )
    found(judged(old, account("1-4 6", "1")), { stale: 1 })
    // What one query showed, a later one must.
    found(judged([...entries, asked(2), answered(2, 5), asked(3), answered(3, 4)], account("1-4 6", "1")), { stale: 1 })
    found(judged([...entries, shown(3)], account("1-4 6", "1")), { stale: 1 })
  })
})
