import type { Goal, PackedModel } from "./explore-packed.ts"

/**
 * The hand-off of one actor as it is built (docs/handoff.md): mode P, permanent tombstones, the epoch as the only guard of an install.
 *
 * What is in a state:
 *   records      one a POP, as its store has it. POP 0 is the home: without a record it owns the actor, at epoch 0 and empty
 *   processes    of each POP, one or two that compete for its store: what an activation holds in memory, and the fence that it claimed.
 *                One that lost its fence goes on with what it has, for as long as it likes: it was stalled, or its write was on its way
 *   clients      each has numbered calls and sends those that were not acknowledged again and again, to any POP
 *   bodies       which calls had their effect, and which ones the sessions say were applied. They travel together
 *   the network  whatever was sent can be delivered, at any later time, any number of times, to whoever it was for. In lossy configurations
 *                it may also lose everything that it holds, after which only what is sent again can arrive
 *
 * A PULL is no message of its own: any POP may ask any other at any time. That covers lost, repeated, late and forged ones, and every ticket,
 * hint and belief that leads somewhere. So MOVED and NONE are advice without an effect on safety; that they lead to the actor is
 * checked of every state, by `search`, which asks as `handoff.ts` asks.
 *
 * With `reduced`, states that no rule and no property can tell apart are one. What is forgotten then: a message that can have no effect
 * any more, as epochs and fences only grow (which is checked of every step); what an activation holds that lost its fence, as nothing of it
 * can get past a store any more; and which of two POPs, processes or clients is which, where they are alike. Without `reduced` nothing is
 * forgotten, and every rule left out is looked for that way.
 */
export interface HandoffBounds {
  /** Processes of each POP, 0 to 2; the first POP is the home. All 0: records and messages alone. */
  readonly processes: readonly number[]
  readonly epochMax: number
  /** Claims within an epoch. */
  readonly fenceMax: number
  /** How many calls each client makes. */
  readonly calls: readonly number[]
  /** The network may lose everything. */
  readonly lossy: boolean
  /** Who held which epoch is remembered, and every search is also begun with each ticket that was ever signed. */
  readonly tickets: boolean
  /** Searches are also begun with every POP believing whatever was once true, or nothing. Needs `tickets`. */
  readonly beliefs?: boolean
  readonly reduced: boolean
}

/** A rule left out. Each must lead to a counterexample, or it is not needed. The M's are those of docs/handoff.md. */
export const mutants = {
  M1: "a store compares neither epoch nor fence",
  M2: "a store compares the epoch alone: activations of one POP share a fence",
  M3: "the source takes a grant back on a timeout",
  M5: "an install does not compare epochs",
  M8: "the source drops the body at the seal",
  M9: "the grantee confirms before its install is durable",
  M10: "a call is acknowledged before its write is durable",
  M11: "every POP creates an actor that it does not know",
  M12: "a store takes back its last write",
  M12b: "a store takes back its last write, if that was a seal",
  M15: "the home is told of a grant that is not installed",
  M16: "the home takes a lower epoch for a higher one",
  "repeated-to-anyone": "a grant is repeated to whoever pulls",
  "same-epoch": "a seal does not raise the epoch",
  "claim-shares-fence": "a claim does not raise the fence",
  "confirm-any-epoch": "a confirm does not compare epochs",
  "learn-over-owner": "an owner takes a pointer in place of its record",
  "sessions-stay": "the sessions do not travel with the state",
  "revision-not-compared":
    "a store does not compare revisions, and a command that is sent again by its connection is run again",
  "goes-on-after-unknown": "an activation goes on after a write of unknown outcome, as if it had not happened",
  "reads-ungated": "what only reads leaves without a check of its fence",
  "not-sent-again": "the source sends a grant once",
  "not-confirmed-again": "a repeated grant is not confirmed again",
  "not-announced-again": "the home is told once",
  "home-not-asked": "a search that made no progress does not ask the home",
  "via-not-named": "a question does not name the granter",
  "told-of-itself": "whoever asks is told that it has the actor itself, if that was heard",
} as const
export type HandoffMutant = keyof typeof mutants

const NONE = 0
const OWNED = 1
const GRANTED = 2
const PTR = 3
const kinds = ["none", "OWNED", "GRANTED", "PTR"] as const

/** Fields of a record, then of a process. */
const [K, E, TO, F, BODY] = [0, 1, 2, 3, 4]
const recordBytes = 5
/** `ON`: 0 no activation, 1 an activation, 2 one that lost its fence and of which the rest is forgotten. */
const [ON, PE, PF, PBODY] = [0, 1, 2, 3]
const processBytes = 4

/** What can happen, by the number that `next` gives it. */
export const steps = [
  "claim",
  "late claim",
  "end",
  "commit",
  "refused",
  "answer",
  "announce",
  "seal",
  "resend",
  "install",
  "ignore",
  "confirm",
  "learn",
  "lose",
  "broken rule",
] as const
export type StepName = (typeof steps)[number]
const stepOf = Object.fromEntries(steps.map((name, i) => [name, i])) as Record<StepName, number>

const broken = [
  "",
  "a commit does not extend the last one: two histories",
  "a write landed on a record that is not owned",
  "an epoch was installed twice",
  "an install met an owner, or a home that never gave the actor away",
  "the epoch of a record shrank",
]

/** A state, for tests and for people. */
export interface HandoffState {
  readonly records: readonly ModelRecord[]
  readonly processes: readonly (readonly ModelActivation[])[]
  readonly acked: readonly number[]
  readonly grants: readonly { readonly e: number; readonly to: number; readonly body: ModelBody }[]
  readonly confirms: readonly { readonly e: number; readonly from: number }[]
  readonly updates: readonly { readonly e: number; readonly at: number }[]
}
export interface ModelRecord {
  readonly k: (typeof kinds)[number]
  readonly e: number
  readonly to: number
  readonly f: number
  readonly body: ModelBody
}
export interface ModelActivation {
  readonly on: boolean
  readonly e: number
  readonly f: number
  readonly body: ModelBody
}
/** Of each client: how often a call of it had its effect, and the last call that its session says was applied. */
export type ModelBody = readonly (readonly [effects: number, last: number])[] | "lost"

export interface HandoffModel extends PackedModel {
  readonly bounds: HandoffBounds
  decode(s: Uint8Array): HandoffState
  /** The state that `decode` told, without what only properties look at (installed epochs that no record names, tickets). */
  encode(state: HandoffState): Uint8Array
  /** Where a search from a POP asks, in order, with a ticket or (epoch -1) a hint, and what each POP believes; `found`: whether it ends at the actor. */
  search(
    s: Uint8Array,
    asker: number,
    ticket?: Advice,
    beliefs?: readonly (Advice | undefined)[],
  ): { readonly found: boolean; readonly asked: readonly number[] }
}

/** "The actor came to `pop` at `epoch`": a ticket, or what a POP has heard. */
export interface Advice {
  readonly pop: number
  readonly epoch: number
}

export function handoffModel(bounds: HandoffBounds, mutant?: HandoffMutant): HandoffModel {
  const { processes, epochMax, fenceMax, calls, lossy, tickets, beliefs: believing = false, reduced } = bounds
  const pops = processes.length
  const clients = calls.length
  const home = 0
  const withProcesses = processes.some((n) => n > 0)
  const rollsBack = mutant === "M12" || mutant === "M12b"

  // ── bodies: one number each ──
  const sizes = calls.map((n) => (n + 2) * (n + 1))
  const bodies = sizes.reduce((product, size) => product * size, 1)
  const lost = bodies
  if (bodies > 250) throw new RangeError(`${bodies} different bodies do not fit into a byte`)
  const bodyParts = Array.from({ length: bodies }, (_, body) => {
    let rest = body
    return sizes.map((size, c) => {
      const code = rest % size
      rest = Math.floor(rest / size)
      const per = (calls[c] as number) + 1
      return [Math.floor(code / per), code % per] as const
    })
  })
  const bodyOf = (parts: readonly (readonly [number, number])[]): number =>
    parts.reduceRight((sum, [x, l], c) => sum * (sizes[c] as number) + x * ((calls[c] as number) + 1) + l, 0)
  const lastOf = bodyParts.map((parts) => parts.map(([, l]) => l))
  /** The revision: a commit each. */
  const revision = bodyParts.map((parts) => parts.reduce((sum, [x]) => sum + x, 0))
  const applied = bodyParts.map((parts) =>
    parts.map(([x, l], c) => {
      const n = calls[c] as number
      return l >= n || x > n ? lost : bodyOf(parts.with(c, [x + 1, l + 1]))
    }),
  )
  /** The command of a commit run again: the effect again, the session as it is. */
  const doubled = bodyParts.map((parts) =>
    parts.map(([x, l], c) => (x > (calls[c] as number) || l === 0 ? lost : bodyOf(parts.with(c, [x + 1, l])))),
  )
  const withoutSessions = bodyParts.map((parts) => bodyOf(parts.map(([x]) => [x, 0] as const)))
  const swappedBody =
    clients === 2 && calls[0] === calls[1] ? bodyParts.map((parts) => bodyOf([...parts].reverse())) : undefined

  // ── layout ──
  let bytes = 0
  const take = (n: number): number => {
    bytes += n
    return bytes - n
  }
  const rec = processes.map(() => take(recordBytes))
  const procs = processes.map((n) => Array.from({ length: n }, () => take(processBytes)))
  const ackedAt = take(clients)
  const truthAt = take(1)
  const grantAt = take((epochMax + 1) * pops)
  const confirmAt = take(epochMax + 1)
  const updateAt = take(epochMax + 1)
  const installedAt = take(epochMax + 1)
  const heldAt = tickets ? take(epochMax + 1) : -1
  const brokenAt = take(1)
  const before = rollsBack ? take(pops * recordBytes + 1) : -1
  const rollbacksAt = before + pops * recordBytes
  bytes = Math.ceil(bytes / 4) * 4

  const g = (e: number, to: number): number => grantAt + e * pops + to
  const byte = (s: Uint8Array, i: number): number => s[i] as number
  const record = (p: number): number => rec[p] as number
  const last = (body: number, c: number): number => (body === lost ? 0 : (lastOf[body]?.[c] as number))

  const owns = (s: Uint8Array, p: number): boolean => {
    const k = byte(s, record(p) + K)
    return k === OWNED || (k === NONE && p === home)
  }
  const holdsFence = (s: Uint8Array, p: number, q: number): boolean => {
    const r = record(p)
    return s[q + ON] === 1 && s[r + K] === OWNED && s[r + E] === s[q + PE] && s[r + F] === s[q + PF]
  }
  const grantedSomewhere = (s: Uint8Array, e: number): boolean => {
    for (let p = 0; p < pops; p++) if (s[record(p) + K] === GRANTED && s[record(p) + E] === e) return true
    return false
  }

  // ── steps ──
  const initial = new Uint8Array(bytes)
  if (rollsBack) initial[rollbacksAt] = 1

  const put = (t: Uint8Array, p: number, k: number, e: number, to: number, f: number, body: number): void => {
    const r = record(p)
    if (rollsBack) for (let i = 0; i < recordBytes; i++) t[before + p * recordBytes + i] = byte(t, r + i)
    if (e < byte(t, r + E)) t[brokenAt] = 5
    t[r + K] = k
    t[r + E] = e
    t[r + TO] = to
    t[r + F] = f
    t[r + BODY] = body
  }
  const activate = (t: Uint8Array, p: number, q: number): void => {
    const r = record(p)
    t[q + ON] = 1
    t[q + PE] = byte(t, r + E)
    t[q + PF] = byte(t, r + F)
    t[q + PBODY] = byte(t, r + BODY)
  }
  const end = (t: Uint8Array, q: number): void => {
    t[q + ON] = t[q + PE] = t[q + PF] = t[q + PBODY] = 0
  }
  const announce = (t: Uint8Array, p: number): void => {
    const e = byte(t, record(p) + E)
    if (p !== home && e > 0) t[updateAt + e] = p + 1
  }

  function next(s: Uint8Array, t: Uint8Array, emit: (step: number, a: number, b: number, c: number) => void): void {
    if (s[brokenAt] !== 0) return
    for (let p = 0; p < pops; p++) {
      const r = record(p)
      const [k, e, f] = [byte(s, r + K), byte(s, r + E), byte(s, r + F)]
      const owner = owns(s, p)

      for (const [at, q] of (procs[p] as number[]).entries()) {
        const on = byte(s, q + ON)
        if (on === 0) {
          if (!owner || f >= fenceMax) continue
          t.set(s)
          put(t, p, OWNED, e, 0, mutant === "claim-shares-fence" ? Math.max(1, f) : f + 1, byte(s, r + BODY))
          activate(t, p, q)
          if (mutant !== "not-announced-again") announce(t, p)
          emit(stepOf.claim, p, at, 0)
          continue
        }
        t.set(s)
        end(t, q)
        emit(stepOf.end, p, at, 0)
        if (on === 2) continue
        const holds = holdsFence(s, p, q)
        const memory = byte(s, q + PBODY)
        const truth = byte(s, truthAt)
        for (let c = 0; c < clients; c++) {
          const seq = last(memory, c) + 1
          const after = memory === lost ? lost : (applied[memory]?.[c] as number)
          // Calls are pipelined. One that was answered is not sent again.
          if (after !== lost && seq > byte(s, ackedAt + c)) {
            const epochIs = k === OWNED && e === s[q + PE]
            const lands = mutant === "M1" || (epochIs && (f === s[q + PF] || mutant === "M2"))
            const revisionIs =
              mutant === "M1" ||
              mutant === "M2" ||
              mutant === "revision-not-compared" ||
              revision[byte(s, r + BODY)] === revision[memory]
            if (lands && revisionIs) {
              t.set(s)
              if (k !== OWNED) t[brokenAt] = 2
              else if (s[r + BODY] !== truth || memory !== truth) t[brokenAt] = 1
              put(t, p, k, e, byte(s, r + TO), f, after)
              t[q + PBODY] = after
              t[truthAt] = after
              emit(stepOf.commit, p, at, c)
              if (mutant === "goes-on-after-unknown") {
                t[q + PBODY] = memory
                emit(stepOf["broken rule"], p, at, c)
              }
            } else {
              t.set(s)
              end(t, q)
              emit(stepOf.refused, p, at, c)
            }
            if (mutant === "M10") {
              t.set(s)
              t[ackedAt + c] = seq
              emit(stepOf["broken rule"], p, at, c)
            }
          }
          const twice = memory === lost ? lost : (doubled[memory]?.[c] as number)
          if (mutant === "revision-not-compared" && holds && twice !== lost) {
            t.set(s)
            put(t, p, OWNED, e, 0, f, twice)
            t[truthAt] = twice
            emit(stepOf["broken rule"], p, at, c)
          }
          if (holds && last(memory, c) > byte(s, ackedAt + c)) {
            t.set(s)
            t[ackedAt + c] = byte(s, ackedAt + c) + 1
            emit(stepOf.answer, p, at, c)
          }
        }
        if (holds && mutant !== "not-announced-again" && p !== home && e > 0 && s[updateAt + e] === 0) {
          t.set(s)
          announce(t, p)
          emit(stepOf.announce, p, 0, 0)
        }
      }
      if (!withProcesses && mutant !== "not-announced-again" && k === OWNED && p !== home && s[updateAt + e] === 0) {
        t.set(s)
        announce(t, p)
        emit(stepOf.announce, p, 0, 0)
      }

      // Of a process that is gone, or that hears no answer and does something else by now.
      if ((processes[p] as number) > 0 && owner && f < fenceMax && mutant !== "claim-shares-fence") {
        t.set(s)
        put(t, p, OWNED, e, 0, f + 1, byte(s, r + BODY))
        emit(stepOf["late claim"], p, 0, 0)
      }

      for (let to = 0; to < pops; to++) {
        if (to === p) continue
        if (owner && e < epochMax) {
          const raised = mutant === "same-epoch" ? e : e + 1
          t.set(s)
          put(t, p, GRANTED, raised, to, 0, mutant === "M8" ? lost : byte(s, r + BODY))
          const travels = byte(s, r + BODY)
          t[g(raised, to)] = (mutant === "sessions-stay" ? (withoutSessions[travels] as number) : travels) + 1
          if (tickets) t[heldAt + raised] = to + 1
          emit(stepOf.seal, p, to, raised)
        }
        if (k === GRANTED && s[g(e, to)] === 0 && (byte(s, r + TO) === to || mutant === "repeated-to-anyone")) {
          if (mutant === "not-sent-again") continue
          t.set(s)
          t[g(e, to)] = byte(s, r + BODY) + 1
          emit(stepOf.resend, p, to, e)
        }
      }

      if (k === NONE && p !== home && mutant === "M11") {
        t.set(s)
        put(t, p, OWNED, 0, 0, 0, 0)
        emit(stepOf["broken rule"], p, 0, 0)
      }
      if (k === GRANTED && mutant === "M3") {
        t.set(s)
        put(t, p, OWNED, e, 0, 0, byte(s, r + BODY))
        emit(stepOf["broken rule"], p, 0, e)
      }
      if (k === GRANTED && mutant === "M9") {
        t.set(s)
        put(t, p, PTR, e, byte(s, r + TO), 0, 0)
        emit(stepOf["broken rule"], p, 0, e)
      }
      if (rollsBack && s[rollbacksAt] === 1) {
        const old = before + p * recordBytes
        let differs = false
        for (let i = 0; i < recordBytes; i++) if (s[old + i] !== s[r + i]) differs = true
        if (differs && (mutant === "M12" || k === GRANTED)) {
          t.set(s)
          for (let i = 0; i < recordBytes; i++) t[r + i] = byte(s, old + i)
          t[rollbacksAt] = 0
          emit(stepOf["broken rule"], p, 0, e)
        }
      }

      for (let epoch = mutant === "same-epoch" ? 0 : 1; epoch <= epochMax; epoch++) {
        const grant = byte(s, g(epoch, p))
        if (grant > 0) {
          const upward = k === NONE || epoch > e || mutant === "M5"
          if (!upward) {
            if (s[confirmAt + epoch] === 0 && mutant !== "not-confirmed-again") {
              t.set(s)
              t[confirmAt + epoch] = p + 1
              emit(stepOf.ignore, p, 0, epoch)
            }
          } else {
            const meetsOwner = owner && mutant !== "M5"
            const own = procs[p] as number[]
            // Without an activation; with one of each process; and with one that is gone when it happens.
            for (let at = -1; at <= (own.length > 0 ? own.length : -1); at++) {
              const q = own[at]
              if (q !== undefined && s[q + ON] !== 0) continue
              t.set(s)
              if (meetsOwner) t[brokenAt] = 4
              else if (byte(s, installedAt + epoch) !== 0) t[brokenAt] = 3
              put(t, p, OWNED, epoch, 0, at < 0 ? 0 : 1, grant - 1)
              if (q !== undefined) activate(t, p, q)
              t[installedAt + epoch] = 1
              t[confirmAt + epoch] = p + 1
              announce(t, p)
              emit(stepOf.install, p, at + 1, epoch)
            }
          }
        }
        const confirmed = byte(s, confirmAt + epoch)
        if (
          confirmed > 0 &&
          k === GRANTED &&
          byte(s, r + TO) === confirmed - 1 &&
          (e === epoch || mutant === "confirm-any-epoch")
        ) {
          t.set(s)
          put(t, p, PTR, e, confirmed - 1, 0, 0)
          emit(stepOf.confirm, p, confirmed - 1, epoch)
        }
      }
    }

    const h = record(home)
    const [k, e] = [byte(s, h + K), byte(s, h + E)]
    for (let epoch = 1; epoch <= epochMax; epoch++) {
      const at = byte(s, updateAt + epoch) - 1
      if (at >= 0) {
        const takes =
          (k === PTR && (epoch > e || (mutant === "M16" && epoch < e))) ||
          (k === GRANTED && epoch >= e) ||
          (k === OWNED && mutant === "learn-over-owner")
        if (takes) {
          t.set(s)
          if (mutant === "M16") t[h + E] = 0
          put(t, home, PTR, epoch, at, 0, 0)
          emit(stepOf.learn, at, 0, epoch)
        }
      }
      if (mutant === "M15")
        for (let p = 0; p < pops; p++) {
          const r = record(p)
          if (s[r + K] !== GRANTED || s[r + E] !== epoch || s[r + TO] === home) continue
          if (!((k === PTR && epoch > e) || (k === GRANTED && epoch >= e))) continue
          t.set(s)
          put(t, home, PTR, epoch, byte(s, r + TO), 0, 0)
          emit(stepOf["broken rule"], p, 0, epoch)
        }
    }

    if (lossy) {
      t.set(s)
      let any = false
      for (let i = grantAt; i < installedAt; i++)
        if (s[i] !== 0) {
          any = true
          t[i] = 0
        }
      if (any) emit(stepOf.lose, 0, 0, 0)
    }
  }

  function name(step: number, a: number, b: number, c: number): string {
    const home0 = (p: number): string => (p === home ? "the home" : `POP ${p}`)
    const process = (p: number, q: number): string =>
      (processes[p] as number) > 1 ? `${home0(p)}, process ${q}` : home0(p)
    const activated = (p: number, which: number): string => {
      const n = processes[p] as number
      if (which === 0) return ""
      return which > n
        ? ", with an activation that is gone"
        : `, with an activation${n > 1 ? ` of process ${which - 1}` : ""}`
    }
    switch (steps[step] as StepName) {
      case "claim":
        return `${process(a, b)}: claims`
      case "late claim":
        return `${home0(a)}: a claim is done whose process hears nothing of it`
      case "end":
        return `${process(a, b)}: its activation ends`
      case "commit":
        return `${process(a, b)}: commits a call of client ${c}`
      case "refused":
        return `${process(a, b)}: the store refuses its commit, and its activation ends`
      case "answer":
        return `${process(a, b)}: acknowledges a call of client ${c}`
      case "announce":
        return `${home0(a)}: tells the home where the actor is, again`
      case "seal":
        return `${home0(a)}: is pulled from and seals epoch ${c} for ${home0(b)}`
      case "resend":
        return `${home0(a)}: sends the grant of epoch ${c} to ${home0(b)} again`
      case "install":
        return `${home0(a)}: installs epoch ${c}${activated(a, b)}`
      case "ignore":
        return `${home0(a)}: has epoch ${c} already, and confirms it again`
      case "confirm":
        return `${home0(a)}: hears that epoch ${c} is durable at ${home0(b)}, and drops the body`
      case "learn":
        return `the home: hears that epoch ${c} is at ${home0(a)}`
      case "lose":
        return "the network loses everything that is under way"
      case "broken rule":
        return `${home0(a)}: ${mutant === undefined ? "breaks a rule" : mutants[mutant]}`
    }
  }

  // ── one state for all that are the same ──
  let popsSwap = false
  const images: ((t: Uint8Array, into: Uint8Array) => void)[] = []
  if (reduced) {
    const alike = Array.from({ length: pops }, (_, p) => p).filter((p) => p !== home)
    for (const order of permutations(alike)) {
      if (order.some((p, i) => processes[p] !== processes[alike[i] as number])) continue
      const to = Array.from({ length: pops }, (_, p) => (p === home ? home : (order[alike.indexOf(p)] as number)))
      for (const swap of swappedBody ? [false, true] : [false])
        if (swap || to.some((p, i) => p !== i)) {
          images.push(imageOf(to, swap))
          popsSwap ||= to.some((p, i) => p !== i)
        }
    }
  }
  function imageOf(to: readonly number[], swap: boolean): (t: Uint8Array, into: Uint8Array) => void {
    const body = (b: number): number => (swap && b !== lost ? (swappedBody?.[b] as number) : b)
    const popNext = (n: number): number => (n === 0 ? 0 : (to[n - 1] as number) + 1)
    return (t, into) => {
      into.set(t)
      for (let p = 0; p < pops; p++) {
        const [r, x] = [record(p), record(to[p] as number)]
        const pointing = t[r + K] === GRANTED || t[r + K] === PTR
        into[x + K] = byte(t, r + K)
        into[x + E] = byte(t, r + E)
        into[x + TO] = pointing ? (to[byte(t, r + TO)] as number) : 0
        into[x + F] = byte(t, r + F)
        into[x + BODY] = body(byte(t, r + BODY))
        const [from, onto] = [procs[p] as number[], procs[to[p] as number] as number[]]
        for (let i = 0; i < from.length; i++) {
          const [q, y] = [from[i] as number, onto[i] as number]
          into[y + ON] = byte(t, q + ON)
          into[y + PE] = byte(t, q + PE)
          into[y + PF] = byte(t, q + PF)
          into[y + PBODY] = body(byte(t, q + PBODY))
        }
        for (let e = 0; e <= epochMax; e++) {
          const b = byte(t, g(e, p))
          into[g(e, to[p] as number)] = b === 0 ? 0 : body(b - 1) + 1
        }
      }
      for (let e = 0; e <= epochMax; e++) {
        into[confirmAt + e] = popNext(byte(t, confirmAt + e))
        into[updateAt + e] = popNext(byte(t, updateAt + e))
        if (tickets) into[heldAt + e] = popNext(byte(t, heldAt + e))
      }
      into[truthAt] = body(byte(t, truthAt))
      if (swap) {
        into[ackedAt] = byte(t, ackedAt + 1)
        into[ackedAt + 1] = byte(t, ackedAt)
      }
      sortProcesses(into)
    }
  }
  function sortProcesses(t: Uint8Array): void {
    for (let p = 0; p < pops; p++) {
      const [a, b] = procs[p] as number[]
      if (a === undefined || b === undefined) continue
      let i = 0
      while (i < processBytes && t[a + i] === t[b + i]) i++
      if (i === processBytes || byte(t, a + i) < byte(t, b + i)) continue
      for (let j = 0; j < processBytes; j++) {
        const kept = byte(t, a + j)
        t[a + j] = byte(t, b + j)
        t[b + j] = kept
      }
    }
  }
  const image = new Uint8Array(bytes)
  const least = new Uint8Array(bytes)

  function canonical(t: Uint8Array): void {
    if (!reduced) return
    const [homeKind, homeEpoch] = [byte(t, record(home) + K), byte(t, record(home) + E)]
    for (let e = 1; e <= epochMax; e++) {
      const granted = grantedSomewhere(t, e)
      if (!granted) {
        t[confirmAt + e] = 0
        t[installedAt + e] = 0
        for (let to = 0; to < pops; to++)
          if (t[record(to) + K] !== NONE && byte(t, record(to) + E) >= e) t[g(e, to)] = 0
      }
      if (e < homeEpoch || (e === homeEpoch && homeKind !== GRANTED)) t[updateAt + e] = 0
    }
    for (let p = 0; p < pops; p++)
      for (const q of procs[p] as number[])
        if (t[q + ON] === 1 && !holdsFence(t, p, q)) {
          t[q + ON] = 2
          t[q + PE] = t[q + PF] = t[q + PBODY] = 0
        }
    sortProcesses(t)
    if (images.length === 0) return
    least.set(t)
    for (const make of images) {
      make(t, image)
      let i = 0
      while (i < bytes && image[i] === least[i]) i++
      if (i < bytes && byte(image, i) < byte(least, i)) least.set(image)
    }
    t.set(least)
  }

  // ── properties ──
  function search(
    s: Uint8Array,
    asker: number,
    ticket?: Advice,
    beliefs?: readonly (Advice | undefined)[],
  ): { found: boolean; asked: number[] } {
    const asked: number[] = []
    const own = record(asker)
    const points = s[own + K] === GRANTED || s[own + K] === PTR
    let pop = -1
    let epoch = -1
    if (ticket && ticket.pop !== asker && ticket.epoch >= 0) [pop, epoch] = [ticket.pop, ticket.epoch]
    if (points && byte(s, own + E) > epoch) [pop, epoch] = [byte(s, own + TO), byte(s, own + E)]
    const believed = beliefs?.[asker]
    if (believed && believed.epoch > epoch) ({ pop, epoch } = believed)
    if (pop < 0 && ticket && ticket.pop !== asker) pop = ticket.pop
    if (pop < 0) pop = home
    if (pop === asker) return { found: false, asked }
    let usedHome = pop === home
    const fromOwn = points && s[own + K] === GRANTED && byte(s, own + TO) === pop && byte(s, own + E) === epoch
    let via = fromOwn && mutant !== "via-not-named" ? asker : -1
    /** What the question says, which grows when it is passed on; `epoch` is what the asker remembers. */
    let said = Math.max(0, epoch)
    for (let hop = 0; hop < 8 * pops; hop++) {
      asked.push(pop)
      const r = record(pop)
      const [k, e, to] = [byte(s, r + K), byte(s, r + E), byte(s, r + TO)]
      if (owns(s, pop)) return { found: true, asked }
      if (k === GRANTED && to === asker) return { found: true, asked }
      if (e < said && via >= 0 && via !== pop) {
        asked.push(via)
        const v = record(via)
        const fetched = owns(s, via) || (s[v + K] === GRANTED && byte(s, v + TO) === pop)
        return { found: fetched, asked }
      }
      // The grantee of a grant that is under way, by hearsay or a ticket: the source sends the grant until it is there.
      const heardOfIt = beliefs !== undefined || (ticket !== undefined && pop === ticket.pop && epoch === ticket.epoch)
      if (heardOfIt && comesTo(s, pop, beliefs ? said : epoch)) return { found: true, asked }
      let told = k === NONE ? undefined : { pop: to, epoch: e }
      let granter = k === GRANTED && mutant !== "via-not-named" ? pop : -1
      const heard = beliefs?.[pop]
      if (heard && heard.epoch > e && (heard.pop !== asker || mutant === "told-of-itself")) {
        told = heard
        granter = -1
        if (k === NONE && heard.epoch <= said) told = undefined
      }
      if (told && told.pop !== asker && told.epoch > epoch) {
        // News to the question: it is passed on, and the asker does not hear of it. Else the asker is told, and asks there.
        if (told.epoch <= said) epoch = told.epoch
        said = told.epoch
        pop = told.pop
        via = granter
        continue
      }
      if (usedHome || home === asker || mutant === "home-not-asked") return { found: false, asked }
      usedHome = true
      via = -1
      epoch = -1
      said = 0
      pop = home
    }
    return { found: false, asked }
  }

  /** A grant of that epoch to that POP is under way. */
  function comesTo(s: Uint8Array, pop: number, epoch: number): boolean {
    for (let p = 0; p < pops; p++) {
      const r = record(p)
      if (s[r + K] === GRANTED && byte(s, r + E) === epoch && byte(s, r + TO) === pop) return true
    }
    return false
  }

  function violation(s: Uint8Array): string | undefined {
    if (s[brokenAt] !== 0) return broken[byte(s, brokenAt)]
    let tokens = 0
    let token = -1
    let holders = 0
    for (let p = 0; p < pops; p++) {
      const r = record(p)
      if (owns(s, p) || (s[r + K] === GRANTED && s[installedAt + byte(s, r + E)] === 0)) {
        tokens++
        token = r
      }
      for (const q of procs[p] as number[]) {
        if (mutant === "reads-ungated" && s[q + ON] === 1)
          for (let c = 0; c < clients; c++)
            if (last(byte(s, q + PBODY), c) < byte(s, ackedAt + c))
              return `a read leaves without an acknowledged call of client ${c} (I4)`
        if (!holdsFence(s, p, q)) continue
        holders++
        if (s[q + PBODY] !== s[r + BODY])
          return "an activation that gets past the fence does not hold what is stored (I4)"
      }
    }
    if (tokens > 1) return "two owners (I1)"
    if (tokens === 0) return "nobody owns the actor, and nobody can come to (I1)"
    if (holders > 1) return "two activations get past the fence (I3)"
    const body = byte(s, token + BODY)
    if (body === lost) return "the body is lost (I5)"
    if (body !== s[truthAt]) return "the token's body is not what was committed last (I5)"
    const parts = bodyParts[body] as readonly (readonly [number, number])[]
    for (let c = 0; c < clients; c++) {
      const [effects, applies] = parts[c] as readonly [number, number]
      if (applies < byte(s, ackedAt + c)) return `an acknowledged call of client ${c} is lost (I5)`
      if (effects > applies) return `a call of client ${c} had its effect twice (I5)`
    }
    for (let p = 0; p < pops; p++) {
      if (owns(s, p)) continue
      if (!search(s, p).found) return `from POP ${p} the actor is not found (I6)`
      for (let hint = 0; hint < pops; hint++)
        if (!search(s, p, { pop: hint, epoch: -1 }).found)
          return `from POP ${p}, with the hint ${hint}, the actor is not found (I6)`
      if (tickets)
        for (let e = 1; e <= epochMax; e++) {
          const pop = byte(s, heldAt + e) - 1
          if (pop >= 0 && !search(s, p, { pop, epoch: e }).found)
            return `from POP ${p}, with the ticket for POP ${pop} at epoch ${e}, the actor is not found (I6)`
        }
      if (believing) {
        const lost = lostBelieving(s, p)
        if (lost) return lost
      }
    }
    return undefined
  }

  /** Searches from a POP, whatever it and the others believe of what was once true. */
  function lostBelieving(s: Uint8Array, asker: number): string | undefined {
    const truths: Advice[] = []
    for (let e = 1; e <= epochMax; e++) if (s[heldAt + e] !== 0) truths.push({ pop: byte(s, heldAt + e) - 1, epoch: e })
    const choices = truths.length + 1
    for (let n = 0; n < choices ** pops; n++) {
      const beliefs = Array.from({ length: pops }, (_, p) => {
        const truth = truths[(Math.floor(n / choices ** p) % choices) - 1]
        return truth?.pop === p ? undefined : truth
      })
      for (const ticket of [undefined, ...truths])
        if (!search(s, asker, ticket, beliefs).found)
          return `from POP ${asker}, where POPs believe ${JSON.stringify(beliefs)}, the actor is not found (I6)`
    }
    return undefined
  }

  /** Every call acknowledged, one owner, no move unfinished, and the home knows where it is. */
  const ownerOf = (s: Uint8Array): number => {
    let owner = -1
    for (let p = 0; p < pops; p++) {
      if (s[record(p) + K] === GRANTED) return -1
      if (owns(s, p)) owner = p
    }
    return owner
  }
  const finished = (s: Uint8Array): boolean => {
    const owner = ownerOf(s)
    if (owner < 0) return false
    for (let c = 0; c < clients; c++) if (byte(s, ackedAt + c) < (calls[c] as number)) return false
    return owner === home || byte(s, record(home) + E) === byte(s, record(owner) + E)
  }
  const tokenEpoch = (s: Uint8Array): number => {
    let e = 0
    for (let p = 0; p < pops; p++) e = Math.max(e, byte(s, record(p) + E))
    return e
  }
  /** Only the bounds end it here: no epoch and no fence is left, and nobody is active. */
  const atTheEnd = (s: Uint8Array): boolean => {
    if (!withProcesses) return false
    for (let p = 0; p < pops; p++) {
      const r = record(p)
      if (s[r + K] !== OWNED || s[r + E] !== epochMax || s[r + F] !== fenceMax) continue
      return !(procs[p] as number[]).some((q) => holdsFence(s, p, q))
    }
    return false
  }
  const goals: Goal[] = [
    { name: "every call acknowledged, and one owner that is found", must: (s) => !atTheEnd(s), reached: finished },
  ]
  if (!popsSwap)
    for (let p = 0; p < pops; p++)
      goals.push({
        name: `the same with the actor at POP ${p}`,
        must: (s) => tokenEpoch(s) <= epochMax - 2,
        reached: (s) => finished(s) && ownerOf(s) === p,
      })

  const bodyText = (body: ModelBody): string => (body === "lost" ? "lost" : body.map((one) => one.join("/")).join(" "))
  function decode(s: Uint8Array): HandoffState {
    const body = (b: number): ModelBody => (b === lost ? "lost" : (bodyParts[b] as ModelBody))
    const all = Array.from({ length: pops }, (_, p) => p)
    const epochs = Array.from({ length: epochMax }, (_, i) => i + 1)
    return {
      records: all.map((p) => {
        const r = record(p)
        const k = kinds[byte(s, r + K)] as ModelRecord["k"]
        return { k, e: byte(s, r + E), to: byte(s, r + TO), f: byte(s, r + F), body: body(byte(s, r + BODY)) }
      }),
      processes: procs.map((of) =>
        of.map((q) => ({
          on: s[q + ON] !== 0,
          e: byte(s, q + PE),
          f: byte(s, q + PF),
          body: body(byte(s, q + PBODY)),
        })),
      ),
      acked: calls.map((_, c) => byte(s, ackedAt + c)),
      grants: epochs.flatMap((e) =>
        all.flatMap((to) => (s[g(e, to)] === 0 ? [] : [{ e, to, body: body(byte(s, g(e, to)) - 1) }])),
      ),
      confirms: epochs.flatMap((e) => (s[confirmAt + e] === 0 ? [] : [{ e, from: byte(s, confirmAt + e) - 1 }])),
      updates: epochs.flatMap((e) => (s[updateAt + e] === 0 ? [] : [{ e, at: byte(s, updateAt + e) - 1 }])),
    }
  }
  function encode(state: HandoffState): Uint8Array {
    const s = new Uint8Array(bytes)
    const body = (parts: ModelBody): number => (parts === "lost" ? lost : bodyOf(parts))
    for (const [p, one] of state.records.entries()) {
      const r = record(p)
      s.set([kinds.indexOf(one.k), one.e, one.to, one.f, body(one.body)], r)
      const over = one.k === "GRANTED" && !isBelow(state.records[one.to] as ModelRecord, one.e)
      if (over) s[installedAt + one.e] = 1
      if (one.k === "OWNED" || (one.k === "GRANTED" && !over)) s[truthAt] = body(one.body)
      for (const [i, a] of (state.processes[p] as readonly ModelActivation[]).entries())
        s.set([a.on ? 1 : 0, a.e, a.f, body(a.body)], procs[p]?.[i])
    }
    s.set(state.acked, ackedAt)
    for (const { e, to, body: parts } of state.grants) s[g(e, to)] = body(parts) + 1
    for (const { e, from } of state.confirms) s[confirmAt + e] = from + 1
    for (const { e, at } of state.updates) s[updateAt + e] = at + 1
    return s
  }
  const isBelow = ({ k, e: known }: ModelRecord, e: number): boolean => k === "none" || known < e
  function describe(s: Uint8Array): string {
    const { records, processes: running, acked } = decode(s)
    return records
      .map(({ k, e, to, f, body }, p) => {
        const what = k === "none" ? "none" : `${k} ${e}${k === "OWNED" ? `.${f}` : ` to ${to}`}`
        const active = (running[p] ?? []).map((a) => (a.on ? ` [${a.e}.${a.f} ${bodyText(a.body)}]` : "")).join("")
        return `${p === home ? "home" : `POP ${p}`}: ${what}${k === "PTR" || k === "none" ? "" : ` (${bodyText(body)})`}${active}`
      })
      .concat(`acknowledged: ${acked.join(" ")}`)
      .join("; ")
  }

  return { bounds, bytes, initial, next, name, canonical, violation, goals, describe, decode, encode, search }
}

function permutations(of: readonly number[]): number[][] {
  if (of.length === 0) return [[]]
  return of.flatMap((first, i) => permutations(of.toSpliced(i, 1)).map((others) => [first, ...others]))
}
