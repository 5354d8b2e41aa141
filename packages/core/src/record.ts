/**
 * The ownership record and its transitions: the whole safety argument of Sojourn is in these few pure functions, told in docs/handoff.md.
 *
 * For every actor exactly one record in the world is the token: an `OWNED(e)`, or a `GRANTED(e)` whose epoch is not yet installed. A
 * store holds at most one record an actor; each function below decides one store operation: it takes the record that the store holds
 * (undefined: none) and returns the record to write and the answer to give. A store applies it in one atomic step and answers only
 * when the result is durable; what the function returns as `record: undefined` means "write nothing".
 *
 *   none ──(home only: claim or pull)──▶ OWNED(e, f, v) ──pull──▶ GRANTED(e+1, to) ──confirm──▶ PTR(e+1, to)
 *                                          ▲                                                        │
 *                                          └──────────────────── install(e' > e) ◀─────────────────┘
 *
 * What holds after every transition, and what breaks without it (docs/handoff.md, "Broken rules"):
 *
 * - A seal is irrevocable: nothing takes GRANTED(e) back to OWNED but the install of a higher epoch (M3: two owners).
 * - The body stays with GRANTED until the grantee confirmed that its own copy is durable (M8, M9: state lost).
 * - Install only upward (M5: a re-sent grant installs an epoch twice).
 * - Every write compares epoch, fence and revision (M1, M2: a write on a sealed record; two processes of one POP both write).
 * - Only the home creates: an actor without a record is OWNED(0), empty, at its home and PTR(0, home) elsewhere (M11: two owners).
 * - A pointer is merged by the higher epoch (M16: the actor cannot be found).
 *
 * Tombstones (PTR) are permanent, so `e > record.e` is the only guard that an install needs (model-checked: docs/handoff.md).
 *
 * Not handled here: whether the store keeps what it acknowledged. A store that takes back an acknowledged write breaks all of this
 * (M12) and must come back under a new POP id; peers notice it by its id and watermark.
 */

/** This POP owns the actor. */
export interface Owned {
  readonly k: "OWNED"
  /** Epoch: one more at each hand-off, so unique in the world for this actor. Advanced by `pull` alone. */
  readonly e: number
  /** Fence: number of the activation within the epoch. Advanced by `claim`; every earlier activation is thereby fenced. */
  readonly f: number
  /** Revision of the state: one more a committed turn. Advanced by `commit` alone; moves carry it over. */
  readonly v: number
  /** Hash of the last commit: after an unknown outcome it tells whether that commit was applied. "" at revision 0. */
  readonly h: string
  /** When the next alarm is due, ms since 1970; absent: none is set. Part of the state at `v`, kept here so that a store can find it. */
  readonly due?: number
  /** What was lost when a POP was forgotten; absent: nothing ever. Carried over by moves. */
  readonly cuts?: readonly Cut[]
}

/** Sealed and given to `to`; the body stays until `to` confirms. */
export interface Granted {
  readonly k: "GRANTED"
  readonly e: number
  readonly to: string
  readonly v: number
  readonly h: string
  /** Travels with the grant. Nobody runs alarms of a sealed actor. */
  readonly due?: number
  readonly cuts?: readonly Cut[]
}

/** "It went over there": a tombstone that forwards. */
export interface Pointer {
  readonly k: "PTR"
  readonly e: number
  readonly to: string
}

export type OwnershipRecord = Owned | Granted | Pointer

/** The actor went on at epoch `e` from revision `v`, with a POP forgotten that may have had more: what epochs below knew past `v` is lost. */
export interface Cut {
  readonly e: number
  readonly v: number
}

/** Cuts that a record keeps; past it the oldest two become one that covers both. */
export const cutsMax = 16

/** Whether what a ticket of epoch `e` knows of revision `v` is not in the history of an actor with these cuts. */
export function isCutOff(cuts: readonly Cut[] | undefined, e: number, v: number): boolean {
  return cuts?.some((cut) => e < cut.e && v > cut.v) ?? false
}

/**
 * Whether this POP is the actor's home: only then does an absent record own it. A number: as the heir of a home that was forgotten, where
 * what has no record begins at that epoch, past every epoch that the destroyed home can have signed a ticket for.
 */
export type HomeRole = boolean | number

/** What an activation proves with each write. */
export interface Fence {
  readonly e: number
  readonly f: number
  readonly v: number
}

export type ClaimAnswer =
  | { readonly kind: "claimed"; readonly record: Owned }
  /** Not here: `record` says where, or is undefined where this POP knows nothing. */
  | { readonly kind: "elsewhere"; readonly record: Granted | Pointer | undefined }
  /** The record is not the one that was seen; nothing was done. */
  | { readonly kind: "changed"; readonly record: OwnershipRecord | undefined }

export type CommitAnswer =
  | { readonly kind: "committed"; readonly v: number }
  /** This very commit had been applied before. */
  | { readonly kind: "already"; readonly v: number }
  | { readonly kind: "fenced"; readonly record: OwnershipRecord | undefined }

export type PullDecision =
  | { readonly kind: "grant"; readonly record: Granted }
  | { readonly kind: "moved"; readonly to: string; readonly e: number; readonly inTransit: boolean }
  | { readonly kind: "none" }

export type InstallDecision =
  | { readonly kind: "installed"; readonly record: Owned }
  /** An install of this epoch or a later one was here before: the grant is a repetition. It may be confirmed. */
  | { readonly kind: "ignored"; readonly record: OwnershipRecord }

export interface Decision<A> {
  /** The record to write, or undefined: write nothing. */
  readonly record: OwnershipRecord | undefined
  readonly answer: A
}

const genesis: Owned = { k: "OWNED", e: 0, f: 0, v: 0, h: "" }

/** What an absent record stands for. */
export function created(home: HomeRole): Owned | undefined {
  if (home === false) return undefined
  return home === true ? genesis : { ...genesis, e: home, cuts: [{ e: home, v: 0 }] }
}

export function decideClaim(record: OwnershipRecord | undefined, home: HomeRole): Decision<ClaimAnswer> {
  const owned = record ?? created(home)
  if (owned?.k !== "OWNED") return { record: undefined, answer: { kind: "elsewhere", record: owned } }
  const next: Owned = { ...owned, f: owned.f + 1 }
  return { record: next, answer: { kind: "claimed", record: next } }
}

/**
 * The claim of an activation that was built before it, from the record `seen` (absent where there was none) and its body: only where that still
 * is the record. `turns` entries (none: a claim alone) are committed in the same step; `h` and `due` as in a commit.
 */
export function decideClaimSeen(
  record: OwnershipRecord | undefined,
  home: HomeRole,
  seen: OwnershipRecord | undefined,
  turns: number,
  h: string,
  due: number | null | undefined,
  rules: { readonly claim: typeof decideClaim; readonly commit: typeof decideCommit } = {
    claim: decideClaim,
    commit: decideCommit,
  },
): Decision<ClaimAnswer> {
  if (!isSame(record, seen)) return { record: undefined, answer: { kind: "changed", record } }
  const claim = rules.claim(record, home)
  if (claim.answer.kind !== "claimed" || turns === 0) return claim
  const { e, f, v } = claim.answer.record
  const { record: next, answer } = rules.commit(claim.record, { e, f, v }, turns, h, due)
  if (answer.kind !== "committed" || next?.k !== "OWNED")
    throw new RangeError(`the first commit of a claim is ${answer.kind}: ${JSON.stringify(claim.record)}`)
  return { record: next, answer: { kind: "claimed", record: next } }
}

function isSame(record: OwnershipRecord | undefined, seen: OwnershipRecord | undefined): boolean {
  if (record?.k !== "OWNED" || seen?.k !== "OWNED") return record === undefined && seen === undefined
  return record.e === seen.e && record.f === seen.f && record.v === seen.v && record.h === seen.h
}

/** `due` as a write gives it: null takes it away, undefined leaves `before`. */
function dueAfter(before: number | undefined, due: number | null | undefined): { readonly due?: number } {
  const next = due === undefined ? before : (due ?? undefined)
  return next === undefined ? {} : { due: next }
}

/** `turns` journal entries at once (at least 1); `h` is the hash after the last of them. */
export function decideCommit(
  record: OwnershipRecord | undefined,
  fence: Fence,
  turns: number,
  h: string,
  due?: number | null,
): Decision<CommitAnswer> {
  if (record?.k !== "OWNED" || record.e !== fence.e || record.f !== fence.f)
    return { record: undefined, answer: { kind: "fenced", record } }
  const v = fence.v + turns
  if (record.v === v && record.h === h) return { record: undefined, answer: { kind: "already", v } }
  if (record.v !== fence.v) return { record: undefined, answer: { kind: "fenced", record } }
  const { due: before, ...rest } = record
  return { record: { ...rest, v, h, ...dueAfter(before, due) }, answer: { kind: "committed", v } }
}

/** Whether what this activation holds in memory is still the owner's state: the gate of everything that only reads. */
export function decideCheck(record: OwnershipRecord | undefined, fence: Omit<Fence, "v">): boolean {
  return record?.k === "OWNED" && record.e === fence.e && record.f === fence.f
}

/** `to` asks for the actor. The caller made sure that `to` is a configured POP and not this one. */
export function decidePull(record: OwnershipRecord | undefined, home: HomeRole, to: string): Decision<PullDecision> {
  const held = record ?? created(home)
  if (held === undefined) return { record: undefined, answer: { kind: "none" } }
  if (held.k === "OWNED") {
    const granted: Granted = {
      k: "GRANTED",
      e: held.e + 1,
      to,
      v: held.v,
      h: held.h,
      ...kept(held.cuts),
      ...dueAfter(held.due, undefined),
    }
    return { record: granted, answer: { kind: "grant", record: granted } }
  }
  if (held.k === "GRANTED" && held.to === to) return { record: undefined, answer: { kind: "grant", record: held } }
  return { record: undefined, answer: { kind: "moved", to: held.to, e: held.e, inTransit: held.k === "GRANTED" } }
}

export interface GrantHead {
  readonly e: number
  readonly v: number
  readonly h: string
  readonly due?: number
  readonly cuts?: readonly Cut[]
}

function kept(cuts: readonly Cut[] | undefined): { readonly cuts?: readonly Cut[] } {
  return cuts === undefined ? {} : { cuts }
}

/** `claim`: the installing activation takes the first fence in the same write; `turns`/`h`: its first commit joins the write. */
export function decideInstall(
  record: OwnershipRecord | undefined,
  home: HomeRole,
  grant: GrantHead,
  claim: boolean,
  turns = 0,
  h = grant.h,
  due?: number | null,
): Decision<InstallDecision> {
  if (record !== undefined && grant.e <= record.e) return { record: undefined, answer: { kind: "ignored", record } }
  if (record?.k === "OWNED" || (record === undefined && home !== false))
    throw new RangeError(
      `a grant of epoch ${grant.e} came to a POP that ${record ? `owns the actor at epoch ${record.e}` : "is its home and never gave it away"}: ` +
        "two histories exist, so a store lost data; compare the stores' ids and watermarks",
    )
  const next: Owned = {
    k: "OWNED",
    e: grant.e,
    f: claim ? 1 : 0,
    v: grant.v + turns,
    h,
    ...kept(grant.cuts),
    ...dueAfter(grant.due, due),
  }
  return { record: next, answer: { kind: "installed", record: next } }
}

/** The grantee says that epoch `e` is durable there. `dropBody` goes with the written record. */
export function decideConfirm(
  record: OwnershipRecord | undefined,
  from: string,
  e: number,
): Decision<{ readonly acked: boolean }> {
  if (record?.k !== "GRANTED" || record.to !== from) return { record: undefined, answer: { acked: true } }
  if (record.e === e) return { record: { k: "PTR", e, to: from }, answer: { acked: true } }
  return { record: undefined, answer: { acked: record.e > e } }
}

/**
 * The home hears from an installer that epoch `e` is at `to`: merged by the higher epoch; implies the confirm. `told`: this POP is to
 * become a home in place of one that was forgotten, and takes what the survey found also where it has no record.
 */
export function decideLearn(
  record: OwnershipRecord | undefined,
  to: string,
  e: number,
  told = false,
): Decision<{ readonly e: number }> {
  if (record === undefined)
    return told ? { record: { k: "PTR", e, to }, answer: { e } } : { record: undefined, answer: { e: 0 } }
  const takes = (record.k === "PTR" && e > record.e) || (record.k === "GRANTED" && e >= record.e)
  return takes ? { record: { k: "PTR", e, to }, answer: { e } } : { record: undefined, answer: { e: record.e } }
}

/** What a survey saw of a record: an order to revive names it, so that it does nothing where the record is another one by now. */
export interface SeenRecord {
  readonly k: OwnershipRecord["k"]
  readonly e: number
}

/**
 * A POP was forgotten that had this actor's token; every survivor refuses it, and the survey chose this record's body (none: the empty
 * actor) to go on from, at epoch `e`, which is the highest seen and two more: the forgotten one may have sealed one more.
 */
export function decideRevive(
  record: OwnershipRecord | undefined,
  seen: SeenRecord | undefined,
  e: number,
): Decision<{ readonly revived: boolean }> {
  // The order again: no other way leads to this epoch here.
  if (record?.k === "OWNED" && record.e === e) return { record: undefined, answer: { revived: true } }
  if (record?.k === "OWNED" || record?.k !== seen?.k || record?.e !== seen?.e || e <= (record?.e ?? 0))
    return { record: undefined, answer: { revived: false } }
  const { v, h, cuts, due } = record?.k === "GRANTED" ? record : { v: 0, h: "", cuts: undefined, due: undefined }
  return {
    record: { k: "OWNED", e, f: 0, v, h, ...dueAfter(due, undefined), cuts: withCut(cuts, { e, v }) },
    answer: { revived: true },
  }
}

function withCut(cuts: readonly Cut[] = [], cut: Cut): readonly Cut[] {
  const [first, second, ...rest] = [...cuts, cut]
  if (first === undefined || second === undefined || rest.length + 2 <= cutsMax) return [...cuts, cut]
  // May tell of a loss that did not happen, and never hides one.
  return [{ e: Math.max(first.e, second.e), v: Math.min(first.v, second.v) }, ...rest]
}
