import assert from "node:assert/strict"
import { describe, test } from "node:test"

import type { Granted, Owned, OwnershipRecord, Pointer } from "./record.ts"
import {
  decideCheck,
  decideClaim,
  decideCommit,
  decideConfirm,
  decideInstall,
  decideLearn,
  decidePull,
} from "./record.ts"
import { ownershipRules, type OwnershipRules } from "./store-ops.ts"

const owned: Owned = { k: "OWNED", e: 3, f: 2, v: 7, h: "h7" }
const granted: Granted = { k: "GRANTED", e: 4, to: "fra", v: 7, h: "h7" }
const pointer: Pointer = { k: "PTR", e: 4, to: "fra" }
const unchanged = undefined

describe("the transitions of the ownership record", () => {
  test("claim: only OWNED, or nothing at the home, is taken; the fence grows and nothing else changes", () => {
    const created: Owned = { k: "OWNED", e: 0, f: 1, v: 0, h: "" }
    assert.deepEqual(decideClaim(undefined, true), { record: created, answer: { kind: "claimed", record: created } })
    const next = { ...owned, f: 3 }
    for (const home of [true, false]) {
      assert.deepEqual(decideClaim(owned, home), { record: next, answer: { kind: "claimed", record: next } })
      for (const record of [granted, pointer])
        assert.deepEqual(decideClaim(record, home), { record: unchanged, answer: { kind: "elsewhere", record } })
    }
    const answer = { kind: "elsewhere", record: undefined }
    assert.deepEqual(decideClaim(undefined, false), { record: unchanged, answer })
  })

  test("C35 commit: every field of the fence is compared, lower and higher", () => {
    const fence = { e: 3, f: 2, v: 7 }
    assert.deepEqual(decideCommit(owned, fence, 2, "h9"), {
      record: { ...owned, v: 9, h: "h9" },
      answer: { kind: "committed", v: 9 },
    })
    for (const field of ["e", "f", "v"] as const)
      for (const by of [-2, -1, 1, 2]) {
        const wrong = { ...fence, [field]: fence[field] + by }
        const answer = { kind: "fenced", record: owned }
        assert.deepEqual(decideCommit(owned, wrong, 1, "x"), { record: unchanged, answer }, `${field} by ${by}`)
      }
    for (const record of [granted, pointer, undefined])
      for (const e of [3, 4])
        assert.deepEqual(decideCommit(record, { ...fence, e }, 1, "x"), {
          record: unchanged,
          answer: { kind: "fenced", record },
        })
  })

  test("commit: the same commit again is recognized only by fence, revision and hash together", () => {
    const sent = { e: 3, f: 2, v: 5 }
    assert.deepEqual(decideCommit(owned, sent, 2, "h7"), { record: unchanged, answer: { kind: "already", v: 7 } })
    assert.equal(decideCommit(owned, sent, 2, "other").answer.kind, "fenced")
    assert.equal(decideCommit(owned, sent, 1, "h7").answer.kind, "fenced")
    assert.equal(decideCommit(owned, { ...sent, f: 1 }, 2, "h7").answer.kind, "fenced")
  })

  test("check: the owner's epoch and fence, nothing else", () => {
    assert.equal(decideCheck(owned, { e: 3, f: 2 }), true)
    for (const wrong of [
      { e: 2, f: 2 },
      { e: 4, f: 2 },
      { e: 3, f: 1 },
      { e: 3, f: 3 },
    ])
      assert.equal(decideCheck(owned, wrong), false)
    for (const record of [granted, pointer, undefined]) assert.equal(decideCheck(record, { e: 4, f: 2 }), false)
  })

  test("pull: OWNED is sealed at the next epoch with its revision and hash; a grant is repeated to its grantee alone", () => {
    const sealed: Granted = { k: "GRANTED", e: 4, to: "nrt", v: 7, h: "h7" }
    assert.deepEqual(decidePull(owned, false, "nrt"), { record: sealed, answer: { kind: "grant", record: sealed } })
    assert.deepEqual(decidePull(granted, false, "fra"), {
      record: unchanged,
      answer: { kind: "grant", record: granted },
    })
    const moved = { kind: "moved", to: "fra", e: 4 }
    const inTransit = { ...moved, inTransit: true }
    assert.deepEqual(decidePull(granted, true, "nrt"), { record: unchanged, answer: inTransit })
    for (const to of ["fra", "nrt"]) {
      const answer = { ...moved, inTransit: false }
      assert.deepEqual(decidePull(pointer, true, to), { record: unchanged, answer })
    }
    assert.deepEqual(decidePull(undefined, false, "nrt"), { record: unchanged, answer: { kind: "none" } })
    const first: Granted = { k: "GRANTED", e: 1, to: "nrt", v: 0, h: "" }
    assert.deepEqual(decidePull(undefined, true, "nrt"), { record: first, answer: { kind: "grant", record: first } })
  })

  test("install: only upward, over a tombstone, an own grant or nothing away from the home", () => {
    const head = { e: 5, v: 9, h: "h9" }
    for (const record of [granted, pointer, undefined]) {
      const arrived: Owned = { k: "OWNED", e: 5, f: 0, v: 9, h: "h9" }
      assert.deepEqual(decideInstall(record, false, head, false), {
        record: arrived,
        answer: { kind: "installed", record: arrived },
      })
      const running: Owned = { k: "OWNED", e: 5, f: 1, v: 11, h: "h11" }
      assert.deepEqual(decideInstall(record, false, head, true, 2, "h11").record, running)
    }
    for (const record of [granted, pointer, { ...owned, e: 4 }])
      for (const e of [1, 3, 4])
        assert.deepEqual(decideInstall(record, true, { ...head, e }, true), {
          record: unchanged,
          answer: { kind: "ignored", record },
        })
    for (const home of [true, false]) assert.throws(() => decideInstall(owned, home, head, true), RangeError)
    assert.throws(() => decideInstall(undefined, true, head, true), RangeError)
  })

  test("confirm: only the grantee's own epoch turns the grant into a tombstone", () => {
    const done = { record: pointer, answer: { acked: true } }
    assert.deepEqual(decideConfirm(granted, "fra", 4), done)
    assert.deepEqual(decideConfirm(granted, "fra", 3), { record: unchanged, answer: { acked: true } })
    assert.deepEqual(decideConfirm(granted, "fra", 5), { record: unchanged, answer: { acked: false } })
    for (const record of [granted, owned, pointer, undefined])
      assert.deepEqual(decideConfirm(record, "nrt", 4), { record: unchanged, answer: { acked: true } })
  })

  test("learn: the higher epoch wins, equal confirms a grant, an owner and an unknown actor stay", () => {
    const newer: Pointer = { k: "PTR", e: 6, to: "nrt" }
    for (const record of [granted, pointer])
      assert.deepEqual(decideLearn(record, "nrt", 6), { record: newer, answer: { e: 6 } })
    assert.deepEqual(decideLearn(granted, "fra", 4), { record: pointer, answer: { e: 4 } })
    assert.deepEqual(decideLearn(pointer, "nrt", 4), { record: unchanged, answer: { e: 4 } })
    for (const record of [granted, pointer, { ...owned, e: 4 }])
      assert.deepEqual(decideLearn(record, "nrt", 3), { record: unchanged, answer: { e: 4 } })
    assert.deepEqual(decideLearn(owned, "nrt", 9), { record: unchanged, answer: { e: 3 } })
    assert.deepEqual(decideLearn(undefined, "nrt", 9), { record: unchanged, answer: { e: 0 } })
  })
})

/**
 * One actor's world: a record at each POP (the first is the home) and every grant ever made. Epochs are unique, so a grant names its
 * messages: GRANT may be delivered whenever it exists, CONFIRM and HOMEUPD whenever it was installed, all of them any number of times, in
 * any order, for ever. Any POP may pull from any other at any time. Bounds: epochs, claims within an epoch, commits in all.
 */
interface World {
  readonly records: readonly (OwnershipRecord | undefined)[]
  readonly grants: readonly MadeGrant[]
  /** The last commit in the world, which the token must hold: the judge's own memory. */
  readonly v: number
}

interface MadeGrant {
  readonly from: number
  readonly to: number
  readonly e: number
  readonly v: number
  readonly h: string
  readonly installed: boolean
}

interface Bounds {
  readonly pops: number
  readonly epochs: number
  readonly fences: number
  readonly commits: number
}

const hashOf = (v: number): string => (v === 0 ? "" : `h${v}`)

/** Every world that follows in one step, with the step's name. Throws where a step itself breaks an invariant. */
function* successors(world: World, bounds: Bounds, rules: OwnershipRules): Generator<readonly [string, World]> {
  const { records, grants } = world
  const at = (pop: number, record: OwnershipRecord | undefined, change: Partial<World> = {}): World => {
    if (record === undefined) return { ...world, ...change }
    const before = records[pop]
    assert.ok(
      before === undefined || record.e >= before.e,
      `the epoch at ${pop} shrinks from ${before?.e} to ${record.e}`,
    )
    return { ...world, ...change, records: records.with(pop, record) }
  }
  for (const [pop, record] of records.entries()) {
    const home = pop === 0
    const claim = rules.claim(record, home)
    if (claim.answer.kind === "claimed" && claim.answer.record.f <= bounds.fences)
      yield [`claim at ${pop}`, at(pop, claim.record)]

    // Every fence that anybody could hold, stale ones included: only the newest activation on the last revision may write.
    for (let e = 0; e <= bounds.epochs; e++)
      for (let f = 0; f <= bounds.fences; f++) {
        const commit = rules.commit(record, { e, f, v: world.v }, 1, hashOf(world.v + 1))
        if (commit.answer.kind !== "committed") continue
        assert.ok(record?.k === "OWNED" && record.e === e && record.f === f, `a write of ${e}.${f} lands at ${pop}`)
        if (world.v < bounds.commits) yield [`commit at ${pop}`, at(pop, commit.record, { v: world.v + 1 })]
      }

    for (let to = 0; to < bounds.pops; to++) {
      if (to === pop || (record?.e ?? 0) >= bounds.epochs) continue
      const pull = rules.pull(record, home, String(to))
      if (pull.answer.kind !== "grant" || pull.record === undefined) continue
      const { e, v, h } = pull.answer.record
      const made: MadeGrant = { from: pop, to, e, v, h, installed: false }
      yield [`${to} pulls from ${pop}`, at(pop, pull.record, { grants: [...grants, made] })]
    }
  }
  for (const [i, grant] of grants.entries()) {
    for (const claims of [true, false]) {
      const install = rules.install(records[grant.to], grant.to === 0, grant, claims)
      if (install.answer.kind !== "installed") continue
      assert.ok(!grant.installed, `epoch ${grant.e} is installed twice`)
      const installed = grants.with(i, { ...grant, installed: true })
      yield [`grant ${grant.e} at ${grant.to}`, at(grant.to, install.record, { grants: installed })]
    }
    if (!grant.installed) continue
    const confirm = rules.confirm(records[grant.from], String(grant.to), grant.e)
    yield [`confirm ${grant.e} at ${grant.from}`, at(grant.from, confirm.record)]
    // Only the home is told.
    const learn = rules.learn(records[0], String(grant.to), grant.e)
    yield [`homeupd ${grant.e}`, at(0, learn.record)]
  }
}

function assertSafe(world: World): void {
  const tokens = world.records.filter((record, pop) => isToken(world, pop, record))
  assert.equal(tokens.length, 1, "exactly one record is the token")
  const [token] = tokens
  const [v, h] = token === undefined || token.k === "PTR" ? [0, ""] : [token.v, token.h]
  assert.deepEqual([v, h], [world.v, hashOf(world.v)], "the token holds the last commit")
  for (let pop = 0; pop < world.records.length; pop++) assertFound(world, pop)
}

function isToken(world: World, pop: number, record: OwnershipRecord | undefined): boolean {
  if (record === undefined) return pop === 0
  if (record.k === "OWNED") return true
  return record.k === "GRANTED" && !world.grants.some((grant) => grant.e === record.e && grant.installed)
}

/** Whoever asks follows pointers while their epochs grow, and asks the home once: that ends at the token. */
function assertFound(world: World, asker: number): void {
  let at = asker
  let last = -1
  let askedHome = false
  for (;;) {
    const record = world.records[at]
    if (isToken(world, at, record)) return
    if (record !== undefined && record.k !== "OWNED" && record.e > last) {
      last = record.e
      at = Number(record.to)
      continue
    }
    assert.ok(!askedHome, `asked from ${asker}, the actor is not found`)
    askedHome = true
    last = -1
    at = 0
  }
}

/** Breadth first. Returns how many worlds there are; throws with the shortest way to a broken one. */
function walk(bounds: Bounds, rules: OwnershipRules = ownershipRules): number {
  const start: World = { records: Array.from({ length: bounds.pops }, () => undefined), grants: [], v: 0 }
  const seen = new Set([key(start)])
  const cameFrom = new Map<World, readonly [string, World]>()
  const trace = (world: World): string[] => {
    const way = cameFrom.get(world)
    return way === undefined ? [] : [...trace(way[1]), way[0]]
  }
  const queue = [start]
  for (let i = 0; i < queue.length; i++) {
    const world = queue[i] as World
    try {
      assertSafe(world)
      for (const [step, next] of successors(world, bounds, rules)) {
        const id = key(next)
        if (seen.has(id)) continue
        seen.add(id)
        cameFrom.set(next, [step, world])
        queue.push(next)
      }
    } catch (cause) {
      throw new Error(`after ${trace(world).join(", ")}: ${(cause as Error).message}`, { cause })
    }
  }
  return queue.length
}

function key({ records, grants, v }: World): string {
  const record = records.map((r) =>
    r === undefined
      ? "-"
      : r.k === "OWNED"
        ? `O${r.e}.${r.f}.${r.v}`
        : r.k === "GRANTED"
          ? `G${r.e}${r.to}.${r.v}`
          : `P${r.e}${r.to}`,
  )
  const made = grants.map((grant) => `${grant.from}${grant.to}${grant.e}.${grant.v}${grant.installed ? "!" : "?"}`)
  return `${record.join()}|${made.join()}|${v}`
}

describe("every reachable world, with messages lost, repeated and reordered", () => {
  for (const bounds of [
    { pops: 2, epochs: 7, fences: 2, commits: 2 },
    { pops: 3, epochs: 5, fences: 2, commits: 2 },
    { pops: 4, epochs: 4, fences: 1, commits: 1 },
  ])
    test(`C20 ${bounds.pops} POPs to epoch ${bounds.epochs} keep one token, with the last commit, found from everywhere`, (t) => {
      const worlds = walk(bounds)
      t.diagnostic(`${worlds} worlds`)
      assert.ok(worlds > 1_000, String(worlds))
    })

  const bounds = { pops: 3, epochs: 4, fences: 2, commits: 1 }
  const mutants: Record<string, readonly [Partial<OwnershipRules>, RegExp]> = {
    "the source takes a seal back (M3)": [
      {
        claim: (record, home) =>
          decideClaim(
            record?.k === "GRANTED" ? { k: "OWNED", e: record.e, f: 0, v: record.v, h: record.h } : record,
            home,
          ),
      },
      /one record is the token|installed twice|owns the actor/,
    ],
    "an install is not guarded by the epoch (M5)": [
      { install: (_, ...others) => decideInstall(undefined, ...others) },
      /installed twice|shrinks|its home/,
    ],
    "every POP creates (M11)": [{ claim: (record) => decideClaim(record, true) }, /one record is the token/],
    "the store does not compare the fence (M2)": [
      {
        commit: (record, fence, turns, h) =>
          decideCommit(record, record?.k === "OWNED" ? { ...fence, f: record.f } : fence, turns, h),
      },
      /lands/,
    ],
    "the store does not compare epochs (M1)": [
      {
        commit: (record, fence, turns, h) =>
          decideCommit(record, record?.k === "OWNED" ? { ...fence, e: record.e } : fence, turns, h),
      },
      /lands/,
    ],
    "a pointer is not merged by the higher epoch (M16)": [
      {
        learn: (record, to, e) => {
          const before = decideLearn(record, to, e)
          if (record?.k !== "PTR" || e >= record.e) return before
          return { record: { k: "PTR", e, to }, answer: { e } }
        },
      },
      /shrinks|not found/,
    ],
    "a learned pointer overwrites an owner": [
      { learn: (_, to, e) => ({ record: { k: "PTR", e, to }, answer: { e } }) },
      /one record is the token|shrinks/,
    ],
    "a pull grants at the same epoch": [
      {
        pull: (record, home, to) => {
          const decision = decidePull(record, home, to)
          if (decision.record?.k !== "GRANTED" || record?.k !== "OWNED") return decision
          const same: Granted = { ...decision.record, e: record.e }
          return { record: same, answer: { kind: "grant", record: same } }
        },
      },
      /one record is the token|installed twice|not found/,
    ],
  }
  for (const [defect, [wrong, broken]] of Object.entries(mutants))
    test(`the walk finds it when ${defect}`, () => {
      assert.throws(() => walk(bounds, { ...ownershipRules, ...wrong }), broken)
    })
})
