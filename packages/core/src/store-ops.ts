import { SojournError } from "@sojourn/protocol"

import {
  decideCheck,
  decideClaim,
  decideClaimSeen,
  decideCommit,
  decideConfirm,
  decideInstall,
  decideLearn,
  decidePull,
  decideRevive,
  type ClaimAnswer,
  type CommitAnswer,
  type Decision,
  type Fence,
  type HomeRole,
  type InstallDecision,
  type OwnershipRecord,
  type SeenRecord,
} from "./record.ts"
import {
  emptyBody,
  type Body,
  type Compacted,
  type FirstClaim,
  type FirstWrite,
  type Grant,
  type PullAnswer,
  type Write,
} from "./store.ts"

/**
 * The ownership operations for engines that can run code inside their atomic step (memory, LMDB): what of an actor's rows each one
 * reads and writes once `record.ts` has decided. An engine brings `ActorRows` and the atomic, durable step around the call; it decides
 * nothing itself.
 *
 * Each function reads and decides before its first write, so that whatever it throws (a corrupt row, a broken invariant) leaves the
 * actor as it was.
 */
export interface ActorRows {
  record(): OwnershipRecord | undefined
  /** Empty where none is stored; `ahead`: without the snapshot, if it is of that revision. Throws CORRUPT_RECORD where parts are missing. */
  body(ahead?: number): Body
  /** Revision of the stored snapshot: the first journal entry is the next one. */
  snapshotRevision(): number
  putRecord(record: OwnershipRecord): void
  /** Replaces the whole body; its last entry is of revision `v`. */
  putBody(body: Body, v: number): void
  /** Adds the entries of revisions `after + 1`, `after + 2`, … */
  append(after: number, entries: readonly Uint8Array[]): void
  /** Replaces the snapshot and removes the entries up to its revision. */
  putSnapshot(snapshot: Uint8Array, revision: number): void
  /** Whether that POP was forgotten: read in this very step, so that nothing of it that was under way slips past. */
  refuses(pop: string): boolean
  /** Removes every byte of the body, and what is staged. */
  dropBody(): void
  /** Revision of what is staged; undefined: nothing is. */
  stagedRevision(): number | undefined
  putStaged(snapshot: Uint8Array | undefined, revision: number): void
  /** Makes what is staged the snapshot of a body with these entries, the last of revision `v`. */
  adoptStaged(entries: readonly Uint8Array[], v: number): void
}

/**
 * The decisions, as a value: a test or the simulator plants a wrong one to see that it is caught. Production engines take `ownershipRules`.
 */
export interface OwnershipRules {
  readonly claim: typeof decideClaim
  readonly commit: typeof decideCommit
  readonly check: typeof decideCheck
  readonly pull: typeof decidePull
  readonly install: typeof decideInstall
  readonly confirm: typeof decideConfirm
  readonly learn: typeof decideLearn
  readonly revive: typeof decideRevive
  /** Whether the body stays beside this record. A tombstone keeps none; GRANTED keeps it until the grantee confirmed (M8). */
  readonly keepsBody: (record: OwnershipRecord) => boolean
}

export const ownershipRules: OwnershipRules = {
  claim: decideClaim,
  commit: decideCommit,
  check: decideCheck,
  pull: decidePull,
  install: decideInstall,
  confirm: decideConfirm,
  learn: decideLearn,
  revive: decideRevive,
  keepsBody: (record) => record.k !== "PTR",
}

export function claimIn(
  rows: ActorRows,
  rules: OwnershipRules,
  home: HomeRole,
  first?: FirstClaim,
): ClaimAnswer & { readonly body: Body } {
  if (first) {
    const { seen, entries, h, due } = first
    assertDue(due)
    const decision = decideClaimSeen(rows.record(), home, seen, entries.length, h, due, rules)
    write(rows, rules, decision)
    const { answer } = decision
    if (answer.kind === "claimed" && entries.length > 0) rows.append(answer.record.v - entries.length, entries)
    return { ...answer, body: emptyBody }
  }
  const decision = rules.claim(rows.record(), home)
  const body = decision.answer.kind === "claimed" ? rows.body() : emptyBody
  write(rows, rules, decision)
  return { ...decision.answer, body }
}

export function commitIn(
  rows: ActorRows,
  rules: OwnershipRules,
  fence: Fence,
  { entries, h, due }: Write,
): CommitAnswer {
  if (entries.length === 0) throw new RangeError("a commit has at least one journal entry")
  assertDue(due)
  const decision = rules.commit(rows.record(), fence, entries.length, h, due)
  write(rows, rules, decision)
  if (decision.answer.kind === "committed") rows.append(fence.v, entries)
  return decision.answer
}

export function checkIn(rows: ActorRows, rules: OwnershipRules, fence: Omit<Fence, "v">): boolean {
  return rules.check(rows.record(), fence)
}

export function pullIn(
  rows: ActorRows,
  rules: OwnershipRules,
  home: HomeRole,
  to: string,
  compacted?: Compacted,
  bytesMax = Infinity,
  ahead?: number,
): PullAnswer {
  const record = rows.record()
  assertNotForgotten(rows, to)
  const decision = rules.pull(record, home, to)
  const { answer } = decision
  if (answer.kind !== "grant") return write(rows, rules, { ...decision, answer })
  const whole =
    compacted && record?.k === "OWNED" && rules.check(record, compacted.fence) && record.v === compacted.fence.v
      ? compacted
      : undefined
  const body: Body = whole ? { snapshot: whole.snapshot, entries: [] } : rows.body(ahead)
  if (decision.record !== undefined) {
    const bytes = bytesOf(body)
    if (bytes > bytesMax) return { kind: "too-large", bytes }
  }
  write(rows, rules, decision)
  if (whole && rules.keepsBody(answer.record)) rows.putSnapshot(whole.snapshot, whole.fence.v)
  return { ...answer, body }
}

export function bytesOf({ snapshot, entries }: Body): number {
  return entries.reduce((sum, entry) => sum + entry.length, snapshot?.length ?? 0)
}

export function installIn(
  rows: ActorRows,
  rules: OwnershipRules,
  home: HomeRole,
  grant: Grant,
  first: FirstWrite | undefined,
): InstallDecision {
  if (grant.from !== undefined) assertNotForgotten(rows, grant.from)
  assertDue(grant.due)
  assertDue(first?.due)
  if (grant.v < grant.body.entries.length)
    throw new RangeError(`a body of revision ${grant.v} cannot have ${grant.body.entries.length} journal entries`)
  const entries = first?.entries ?? []
  const h = first !== undefined && entries.length > 0 ? first.h : grant.h
  let decision: Decision<InstallDecision>
  try {
    decision = rules.install(rows.record(), home, grant, first !== undefined, entries.length, h, first?.due)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new SojournError("INVARIANT", cause.message, { outcome: "not-executed", cause })
  }
  if (decision.answer.kind === "installed" && grant.staged !== undefined && rows.stagedRevision() !== grant.staged)
    throw new SojournError("STORE_UNAVAILABLE", "the copy that was sent ahead of a grant is not here any more", {
      outcome: "not-executed",
      retryAfterMs: 100,
    })
  write(rows, rules, decision)
  if (decision.answer.kind === "installed") {
    const { snapshot } = grant.body
    const all = [...grant.body.entries, ...entries]
    const { v } = decision.answer.record
    if (grant.staged === undefined) rows.putBody({ snapshot, entries: all }, v)
    else rows.adoptStaged(all, v)
  }
  return decision.answer
}

/** Only where no body lies: a sealed one may be the only copy there is, and its snapshot may be an earlier staged one. */
export function stageIn(rows: ActorRows, snapshot: Uint8Array | undefined, revision: number): boolean {
  const record = rows.record()
  if (record !== undefined && record.k !== "PTR") return false
  if (snapshot !== undefined || rows.stagedRevision() !== undefined) rows.putStaged(snapshot, revision)
  return true
}

export function confirmIn(
  rows: ActorRows,
  rules: OwnershipRules,
  from: string,
  e: number,
): { readonly acked: boolean } {
  if (rows.refuses(from)) return { acked: false }
  return write(rows, rules, rules.confirm(rows.record(), from, e))
}

export function learnIn(
  rows: ActorRows,
  rules: OwnershipRules,
  to: string,
  e: number,
  told = false,
): { readonly e: number } {
  if (rows.refuses(to)) return { e: 0 }
  return write(rows, rules, rules.learn(rows.record(), to, e, told))
}

export function reviveIn(
  rows: ActorRows,
  rules: OwnershipRules,
  seen: SeenRecord | undefined,
  e: number,
): { readonly revived: boolean } {
  return write(rows, rules, rules.revive(rows.record(), seen, e))
}

/** An engine has an index by it, and would fail after its first write. */
function assertDue(due: number | null | undefined): void {
  if (due !== undefined && due !== null && !(Number.isSafeInteger(due) && due >= 0))
    throw new RangeError(`an alarm is due at a whole number of ms since 1970, got ${due}`)
}

function assertNotForgotten(rows: ActorRows, pop: string): void {
  if (rows.refuses(pop))
    throw new SojournError(
      "POP_FORGOTTEN",
      `POP ${pop} was forgotten as destroyed; nothing goes there or comes from there`,
    )
}

/** `upTo` is the snapshot's revision: not past what is committed, not before what the stored snapshot already covers. */
export function compactIn(
  rows: ActorRows,
  rules: OwnershipRules,
  fence: Omit<Fence, "v">,
  snapshot: Uint8Array,
  upTo: number,
): boolean {
  const record = rows.record()
  if (!rules.check(record, fence) || record?.k !== "OWNED") return false
  const from = rows.snapshotRevision()
  if (upTo < from || upTo > record.v)
    throw new RangeError(`a snapshot of revision ${upTo} cannot replace the journal from ${from} to ${record.v}`)
  rows.putSnapshot(snapshot, upTo)
  return true
}

export function loadIn(rows: ActorRows): { readonly record: OwnershipRecord; readonly body: Body } | undefined {
  const record = rows.record()
  return record === undefined ? undefined : { record, body: record.k === "PTR" ? emptyBody : rows.body() }
}

function write<A>(rows: ActorRows, rules: OwnershipRules, { record, answer }: Decision<A>): A {
  if (record !== undefined) {
    rows.putRecord(record)
    if (!rules.keepsBody(record)) rows.dropBody()
  }
  return answer
}
