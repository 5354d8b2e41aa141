/**
 * The hand-off of one actor at one POP, as a pure step function: `step(state, input) → { state, effects }`. No clock, no promise, no
 * store and no network in it; `host.ts` performs the effects and feeds back what came of them. The protocol is in docs/handoff.md.
 *
 * What is decided here is only whom to ask and in which order. Safety does not rest on it: every message may be lost, repeated,
 * delayed or overtaken and every hint may be wrong, because the store's record (`record.ts`) decides each step atomically:
 *
 *   T (here)                      S (owner)                      what a crash leaves
 *   ── PULL ────────────────────▶                                nothing happened
 *                                 drain: turn ends, writes flush  nothing happened
 *                                 seal: OWNED(e) → GRANTED(e+1,T) GRANTED + body at S; S answers T's next PULL with it again
 *   ◀──────────────── GRANT ──                                    the same
 *   install: OWNED(e+1) + claim (+ first turn), one write          T owns; S holds a useless body until the next CONFIRM
 *   ── CONFIRM ─────────────────▶ PTR(e+1,T), body dropped          done
 *   ── HOMEUPD ─────────▶ home: PTR, merged by the higher epoch     lookups through home take one more hop
 *
 * The five rules (docs/handoff.md) and where they live: a seal is irrevocable (`decidePull` has no way back, and nothing here reacts to
 * a silent grantee but sending the GRANT again); the body stays until CONFIRM (`decideConfirm`), which is an effect of `installed` alone;
 * install only upward (`decideInstall`); everything that leaves passes fence and gate (`journal-writer.ts`, `gate.ts`); only the home creates
 * (`home` in `decideClaim` and `decidePull`).
 *
 * Finding the actor: the highest epoch among the record's own pointer, what was heard (`belief`) and a signed ticket is asked first,
 * then an unsigned hint, then home. A POP that only has a pointer forwards the PULL, and the GRANT comes straight back. Pointers are
 * followed with strictly growing epochs, so there are no loops; a search that makes no progress asks home once and then fails with a
 * retryable error. `via` names a POP whose record granted the actor to the one that is asked: if that one has not installed yet, it
 * pulls from there first ("in transit").
 *
 * A belief is routing advice in memory. It never reaches `learn`, which runs for CONFIRM and HOMEUPD of an installer alone.
 *
 * Not handled here: two processes of one POP (the store's fence does), relays themselves (`relays.ts`), a lost disk.
 */
import type { ErrorCode, WireError } from "@sojourn/protocol"
import type { OwnershipRecord } from "./record.ts"

/** Somebody's request for the actor, as it came over the mesh. */
export interface Pull {
  readonly origin: string
  readonly nonce: string
  readonly session: string | undefined
  /** What the last forwarder believes this POP's epoch to be; below it, this POP is in transit. */
  readonly epoch: number
  readonly hops: number
  readonly relay: boolean
  readonly via: string | undefined
  /** The copy sent ahead that the origin holds. */
  readonly have: string | undefined
  /** Schema version that the origin's code knows: below what is stored, it is served by relay. */
  readonly version: number
}

/** What a local client needs: the actor here (`relay: false`), or only to reach it. */
export interface Want {
  readonly relay: boolean
  readonly session: string | undefined
  readonly ticket: { readonly pop: string; readonly epoch: number } | undefined
  readonly hint: string | undefined
}

/** A question to one POP, and how far the search has come. */
export interface Ask {
  readonly nonce: string
  readonly pop: string
  /** Highest epoch seen in this search: an answer must exceed it. */
  readonly epoch: number
  readonly usedHome: boolean
  readonly hops: number
  readonly relay: boolean
  readonly session: string | undefined
  /** The copy sent ahead that is complete here. */
  readonly have?: string
  readonly by: "ticket" | "pointer" | "hint" | "home" | "offer"
}

export type Phase =
  /** Nothing in memory; the store's record decides. Next: opening, asking (in transit), sealing, installing (unasked grant). */
  | { readonly at: "rest" }
  /** The record is being read or claimed. Next: resident, asking, rest. */
  | { readonly at: "opening" }
  /** A PULL is out. Next: installing, rest, another asking. */
  | { readonly at: "asking"; readonly ask: Ask }
  /** A grant is being written. `activate`: with an activation whose first write it is. Next: resident, rest. */
  | { readonly at: "installing"; readonly e: number; readonly from: string; readonly activate: boolean }
  /** Owner, with an activation. Next: draining, rest (dropped). */
  | { readonly at: "resident"; readonly e: number }
  /** The activation's last turn ends. `pull`: for whom; undefined: it goes to sleep. Next: sealing, rest. */
  | { readonly at: "draining"; readonly e: number; readonly pull: Pull | undefined }
  /** The store is granting. Next: rest. */
  | { readonly at: "sealing"; readonly pull: Pull }

export interface HandState {
  readonly phase: Phase
  /** Local clients wait for the actor. */
  readonly want: Want | undefined
  /** PULLs that wait until this POP knows what to answer; bounded by `parkedMax`. */
  readonly parked: readonly Pull[]
}

export const restState: HandState = { phase: { at: "rest" }, want: undefined, parked: [] }

/** PULLs that wait at one actor; the oldest is dropped and its sender asks again. */
export const parkedMax = 16

export type HandInput =
  | { readonly type: "need"; readonly want: Want }
  /** The owner asks to be pulled from: it drains, or its author or operator moves the actor. */
  | { readonly type: "offered"; readonly from: string; readonly e: number }
  /** Alarms of the actor are due, as far as the store's index says: it is activated if this POP owns it, and never fetched for that. */
  | { readonly type: "wake" }
  | { readonly type: "record"; readonly record: OwnershipRecord | undefined }
  | { readonly type: "claimed"; readonly e: number }
  | { readonly type: "pull"; readonly pull: Pull }
  /** What the store answered to a pull that was executed while this POP was asking. */
  | { readonly type: "pointed"; readonly pull: Pull; readonly answer: Pointed }
  /** `declined`: nothing was sealed, the stored state may not go there. */
  | {
      readonly type: "sealed"
      readonly answer: Pointed | { readonly kind: "grant" } | { readonly kind: "declined"; readonly e: number }
    }
  /**
   * The actor was not sealed; `e`: its activation goes on. `err`: it is too large, or cannot be written down; undefined: it has work to do
   * first, and is served by relay.
   */
  | { readonly type: "kept"; readonly e: number | undefined; readonly err: WireError | undefined }
  /** The copy that the owner, `from`, sent ahead is complete. It need not be who was asked: that one forwarded. */
  | { readonly type: "precopied"; readonly nonce: string; readonly from: string; readonly have: string }
  | { readonly type: "drained" }
  | { readonly type: "grant"; readonly from: string; readonly e: number }
  | { readonly type: "installed"; readonly e: number }
  | { readonly type: "ignored"; readonly e: number }
  | {
      readonly type: "moved"
      readonly nonce: string
      readonly from: string
      readonly to: string
      readonly e: number
      readonly inTransit: boolean
      readonly hops: number
    }
  | { readonly type: "none"; readonly nonce: string }
  | {
      readonly type: "relayMe"
      readonly nonce: string
      readonly from: string
      readonly e: number
      readonly hops: number
    }
  | { readonly type: "refused"; readonly nonce: string; readonly err: WireError }
  | { readonly type: "silence"; readonly nonce: string }
  /** A store operation failed. */
  | { readonly type: "failed"; readonly err: WireError }
  /** The activation has ended (fenced, unknown outcome, a turn that never ended). */
  | { readonly type: "dropped" }
  | { readonly type: "sleep" }

export type Pointed =
  | { readonly kind: "moved"; readonly to: string; readonly e: number; readonly inTransit: boolean }
  | { readonly kind: "none" }

export type HandEffect =
  | { readonly type: "peek" }
  /** `fresh`: nothing was ever committed of it. */
  | { readonly type: "claim"; readonly fresh: boolean }
  | { readonly type: "ask"; readonly ask: Ask; readonly via: string | undefined }
  /** Write the grant that is at hand. */
  | { readonly type: "install"; readonly activate: boolean; readonly from: string; readonly e: number }
  /** Local clients may attach to the activation. */
  | { readonly type: "admit" }
  | { readonly type: "drain"; readonly sleep: boolean }
  | { readonly type: "seal"; readonly pull: Pull }
  /** Execute the pull in the store without a seal being possible: this POP does not own the actor. Answer: `pointed`. */
  | { readonly type: "answer"; readonly pull: Pull }
  /** The activation serves on, and a copy of it goes ahead. */
  | { readonly type: "precopy"; readonly pull: Pull }
  /** The drained activation opens its input again. */
  | { readonly type: "reopen" }
  /** The seal's GRANT goes to its grantee; whoever is attached here is told. */
  | { readonly type: "grant"; readonly pull: Pull }
  /** The drained activation is forgotten: it sleeps. */
  | { readonly type: "sleep" }
  | { readonly type: "confirm"; readonly to: string; readonly e: number }
  | { readonly type: "announce"; readonly e: number }
  /** The grant that `to` has not confirmed is said again. */
  | { readonly type: "regrant"; readonly to: string; readonly e: number }
  | { readonly type: "forward"; readonly to: string; readonly pull: Pull }
  | {
      readonly type: "tellMoved"
      readonly pull: Pull
      readonly to: string
      readonly e: number
      readonly inTransit: boolean
    }
  | { readonly type: "tellNone"; readonly pull: Pull }
  | { readonly type: "tellRelay"; readonly pull: Pull; readonly e: number }
  | { readonly type: "tellRefused"; readonly pull: Pull; readonly err: WireError }
  /** Waiting clients attach through `to`. `asked`: whether the search was for a relay, or the owner declined a move. */
  | { readonly type: "relay"; readonly to: string; readonly e: number; readonly asked: boolean }
  | { readonly type: "fail"; readonly code: ErrorCode; readonly message: string; readonly err?: WireError }
  | { readonly type: "believe"; readonly pop: string; readonly epoch: number }

/** What the decisions look at besides the state: data, gathered by the host before each step. */
export interface HandView {
  readonly self: string
  readonly home: string
  readonly hopsMax: number
  readonly belief: { readonly pop: string; readonly epoch: number } | undefined
  /** For this step's PULL, should one leave. */
  readonly nonce: string
  known(pop: string): boolean
  linked(pop: string): boolean
  /** Only a client here can bring the actor into being: who it is decides where the state may be. */
  readonly needsWho: boolean
  /** The activation serves another session than this one, or must not leave: the owner declines. */
  declines(pull: Pull): boolean
  /** The activation is large and in use: a copy should go ahead of the seal, so that its pause does not grow with its size. */
  precopies(pull: Pull): boolean
}

export interface HandStep {
  readonly state: HandState
  readonly effects: readonly HandEffect[]
}

export function step(state: HandState, input: HandInput, view: HandView): HandStep {
  const first = decide(state, input, view)
  // A settled phase answers the PULLs that waited, oldest first, until one of them unsettles it again.
  const effects = [...first.effects]
  let now = first.state
  while (now.parked.length > 0 && (now.phase.at === "rest" || now.phase.at === "resident")) {
    const [pull, ...parked] = now.parked
    if (pull === undefined) break
    const next = decide({ ...now, parked }, { type: "pull", pull }, view)
    effects.push(...next.effects)
    if (next.state.parked.length >= now.parked.length && next.state.phase.at === now.phase.at) {
      now = next.state
      break
    }
    now = next.state
  }
  // Clients still wait and nothing is under way for them: look again.
  if (now.phase.at === "rest" && now.want) {
    const next = decide(now, { type: "need", want: now.want }, view)
    effects.push(...next.effects)
    now = next.state
  }
  return { state: now, effects }
}

const rest: Phase = { at: "rest" }

function to(
  state: HandState,
  phase: Phase,
  effects: readonly HandEffect[] = [],
  more: Partial<HandState> = {},
): HandStep {
  return { state: { ...state, phase, ...more }, effects }
}

function decide(s: HandState, i: HandInput, v: HandView): HandStep {
  const p = s.phase
  switch (i.type) {
    case "need":
      if (p.at === "resident") return to(s, p, [{ type: "admit" }], { want: undefined })
      if (p.at === "rest") return to(s, { at: "opening" }, [{ type: "peek" }], { want: merge(s.want, i.want) })
      // An activation whose install is being written takes calls; what they answer waits in its gate.
      return to(s, p, p.at === "installing" && p.activate ? [{ type: "admit" }] : [], { want: merge(s.want, i.want) })

    case "offered": {
      if (p.at !== "rest" || !v.known(i.from) || i.from === v.self) return to(s, p)
      const ask: Ask = {
        nonce: v.nonce,
        pop: i.from,
        epoch: i.e,
        usedHome: true,
        hops: 0,
        relay: false,
        session: undefined,
        by: "offer",
      }
      // Wanted, so that the install brings an activation: the source's clients are relayed to it at once.
      const want: Want = { relay: false, session: undefined, ticket: undefined, hint: undefined }
      return to(s, { at: "asking", ask }, [{ type: "ask", ask, via: undefined }], { want: merge(s.want, want) })
    }

    case "wake":
      return p.at === "rest" ? to(s, { at: "opening" }, [{ type: "peek" }]) : to(s, p)

    case "record":
      if (p.at !== "opening") return to(s, p)
      if (i.record?.k === "OWNED" || (i.record === undefined && v.home === v.self)) {
        const fresh = i.record === undefined || i.record.v === 0
        if (fresh && v.needsWho && !s.want) {
          const e = i.record?.e ?? 0
          return to(
            s,
            rest,
            s.parked.map((pull) => ({ type: "tellRelay", pull, e })),
            { parked: [] },
          )
        }
        return to(s, p, [{ type: "claim", fresh }])
      }
      if (s.want) return search(s, s.want, i.record, v)
      return answerParked(to(s, rest), i.record, v)

    case "claimed":
      if (p.at !== "opening") return to(s, p)
      return to(s, { at: "resident", e: i.e }, [{ type: "admit" }, { type: "announce", e: i.e }], { want: undefined })

    case "pull":
      return pull(s, i.pull, v)

    case "pointed":
      return redirect(s, i.pull, i.answer, v)

    case "precopied": {
      if (p.at !== "asking" || p.ask.nonce !== i.nonce) return to(s, p)
      const ask: Ask = { ...p.ask, pop: i.from, have: i.have }
      return to(s, { at: "asking", ask }, [{ type: "ask", ask, via: undefined }])
    }

    case "kept": {
      if (p.at !== "sealing") return to(s, p)
      const refused: HandEffect = i.err
        ? { type: "tellRefused", pull: p.pull, err: i.err }
        : { type: "tellRelay", pull: p.pull, e: i.e ?? 0 }
      return i.e === undefined
        ? to(s, rest, [refused])
        : to(s, { at: "resident", e: i.e }, [refused, { type: "reopen" }, { type: "admit" }])
    }

    case "drained":
      if (p.at !== "draining") return to(s, p)
      return p.pull
        ? to(s, { at: "sealing", pull: p.pull }, [{ type: "seal", pull: p.pull }])
        : to(s, rest, [{ type: "sleep" }])

    case "sealed": {
      if (p.at !== "sealing") return to(s, p)
      if (i.answer.kind === "grant") return to(s, rest, [{ type: "grant", pull: p.pull }], { want: undefined })
      if (i.answer.kind === "declined") return to(s, rest, [{ type: "tellRelay", pull: p.pull, e: i.answer.e }])
      return redirect({ ...s, phase: rest }, p.pull, i.answer, v)
    }

    case "grant":
      if (p.at === "rest" || p.at === "asking") {
        const activate = s.want !== undefined
        return to(s, { at: "installing", e: i.e, from: i.from, activate }, [
          { type: "install", activate, from: i.from, e: i.e },
        ])
      }
      if ((p.at === "resident" || p.at === "draining") && i.e <= p.e)
        return to(s, p, [{ type: "confirm", to: i.from, e: i.e }])
      return to(s, p)

    case "installed":
      if (p.at !== "installing") return to(s, p)
      return to(
        s,
        p.activate ? { at: "resident", e: i.e } : rest,
        [
          { type: "confirm", to: p.from, e: p.e },
          { type: "announce", e: i.e },
          ...(p.activate ? [{ type: "admit" } as const] : []),
        ],
        p.activate ? { want: undefined } : {},
      )

    case "ignored":
      // The record here has this epoch or a later one, so the install of this epoch was durable before.
      if (p.at !== "installing") return to(s, p)
      return to(s, rest, [{ type: "confirm", to: p.from, e: p.e }])

    case "moved": {
      if (p.at !== "asking" || p.ask.nonce !== i.nonce) return to(s, p, [{ type: "believe", pop: i.to, epoch: i.e }])
      const effects: HandEffect[] = [{ type: "believe", pop: i.to, epoch: i.e }]
      if (i.to === v.self || i.e <= p.ask.epoch || !v.known(i.to)) return noProgress(s, p.ask, v, effects)
      const hops = Math.max(p.ask.hops, i.hops) + 1
      if (hops > v.hopsMax)
        return give(s, effects, "NOT_FOUND_YET", `the search followed ${hops} pointers (limits.hopsMax)`)
      const ask: Ask = { ...p.ask, nonce: v.nonce, pop: i.to, epoch: i.e, hops }
      return to(s, { at: "asking", ask }, [...effects, { type: "ask", ask, via: i.inTransit ? i.from : undefined }])
    }

    case "none":
      return p.at === "asking" && p.ask.nonce === i.nonce ? noProgress(s, p.ask, v, []) : to(s, p)

    case "relayMe": {
      const effects: HandEffect[] = [{ type: "believe", pop: i.from, epoch: i.e }]
      if (p.at !== "asking" || p.ask.nonce !== i.nonce) return to(s, p, effects)
      return to(s, rest, [...effects, { type: "relay", to: i.from, e: i.e, asked: p.ask.relay }], { want: undefined })
    }

    case "refused":
      if (p.at !== "asking" || p.ask.nonce !== i.nonce) return to(s, p)
      return p.ask.usedHome || p.ask.pop === v.home
        ? to(s, rest, [{ type: "fail", code: i.err.code, message: i.err.message, err: i.err }], { want: undefined })
        : noProgress(s, p.ask, v, [])

    case "silence":
      return p.at === "asking" && p.ask.nonce === i.nonce ? unreachable(s, p.ask, v) : to(s, p)

    case "failed": {
      const parked = p.at === "sealing" ? [p.pull, ...s.parked] : s.parked
      return to(
        s,
        rest,
        [
          { type: "fail", code: i.err.code, message: i.err.message, err: i.err },
          ...parked.map((pull): HandEffect => ({ type: "tellRefused", pull, err: i.err })),
        ],
        { want: undefined, parked: [] },
      )
    }

    case "dropped": {
      if (p.at === "draining" && p.pull) return to(s, rest, [], { parked: park(s.parked, p.pull) })
      // Whoever waited was let in, and was told with it. To look again for nobody would fetch the body again at once, and for as long as
      // it cannot be written here.
      if (p.at === "installing") return to(s, rest, [], { want: undefined })
      if (p.at === "resident" || p.at === "draining") return to(s, rest)
      return to(s, p)
    }

    case "sleep":
      return p.at === "resident"
        ? to(s, { at: "draining", e: p.e, pull: undefined }, [{ type: "drain", sleep: true }])
        : to(s, p)
  }
}

/** Two waiting clients: the one that wants the actor here wins; whoever has a ticket lends it. */
function merge(a: Want | undefined, b: Want): Want {
  if (!a) return b
  return {
    relay: a.relay && b.relay,
    session: a.relay && !b.relay ? b.session : (a.session ?? b.session),
    ticket: (a.ticket?.epoch ?? -1) >= (b.ticket?.epoch ?? -1) ? a.ticket : b.ticket,
    hint: a.hint ?? b.hint,
  }
}

function park(parked: readonly Pull[], pull: Pull): readonly Pull[] {
  const others = parked.filter((one) => one.origin !== pull.origin)
  return [...others.slice(-(parkedMax - 1)), pull]
}

/** Whom to ask first: the highest epoch of own pointer, belief and ticket; then an unsigned hint; then home. */
function search(s: HandState, want: Want, record: OwnershipRecord | undefined, v: HandView): HandStep {
  const own = record && record.k !== "OWNED" ? { pop: record.to, epoch: record.e, by: "pointer" as const } : undefined
  const heard = v.belief ? { ...v.belief, by: "pointer" as const } : undefined
  const ticket = want.ticket ? { ...want.ticket, by: "ticket" as const } : undefined
  let best: { pop: string; epoch: number; by: Ask["by"] } | undefined
  for (const one of [ticket, own, heard])
    if (one && one.pop !== v.self && v.known(one.pop) && (!best || one.epoch > best.epoch)) best = one
  if (!best && want.hint !== undefined && want.hint !== v.self && v.known(want.hint))
    best = { pop: want.hint, epoch: -1, by: "hint" }
  best ??= { pop: v.home, epoch: -1, by: "home" }
  if (best.pop === v.self)
    return give(s, [], "NOT_FOUND_YET", "no POP but this one was left to ask, and it only has a pointer")
  const ask: Ask = {
    nonce: v.nonce,
    pop: best.pop,
    epoch: best.epoch,
    usedHome: best.pop === v.home,
    hops: 0,
    relay: want.relay,
    session: want.session,
    by: best.by,
  }
  const via = record?.k === "GRANTED" && record.to === best.pop && record.e === best.epoch ? v.self : undefined
  return to(s, { at: "asking", ask }, [{ type: "ask", ask, via }])
}

function noProgress(s: HandState, ask: Ask, v: HandView, effects: readonly HandEffect[]): HandStep {
  if (!ask.usedHome && v.home !== v.self) return askHome(s, ask, v, effects)
  return give(s, effects, "NOT_FOUND_YET", `${ask.pop} does not know where the actor is; it may be on its way`)
}

function unreachable(s: HandState, ask: Ask, v: HandView): HandStep {
  if (!ask.usedHome && v.home !== v.self && ask.pop !== v.home) return askHome(s, ask, v, [])
  return give(s, [], "POP_UNREACHABLE", `POP ${ask.pop} did not answer; the actor is there or passes through it`)
}

function askHome(s: HandState, ask: Ask, v: HandView, effects: readonly HandEffect[]): HandStep {
  const next: Ask = { ...ask, nonce: v.nonce, pop: v.home, epoch: -1, usedHome: true, hops: ask.hops + 1, by: "home" }
  return to(s, { at: "asking", ask: next }, [...effects, { type: "ask", ask: next, via: undefined }])
}

function give(s: HandState, effects: readonly HandEffect[], code: ErrorCode, message: string): HandStep {
  // A PULL that waited for this search would start it again and again: its origin hears that nothing came of it.
  const told = s.parked.map((pull): HandEffect => ({ type: "tellNone", pull }))
  return to(s, rest, [...effects, { type: "fail", code, message }, ...told], { want: undefined, parked: [] })
}

function pull(s: HandState, pull: Pull, v: HandView): HandStep {
  const p = s.phase
  switch (p.at) {
    case "rest":
      // A relay needs an activation; a move needs only the store.
      return pull.relay
        ? to(s, { at: "opening" }, [{ type: "peek" }], { parked: park(s.parked, pull) })
        : to(s, { at: "sealing", pull }, [{ type: "seal", pull }])
    case "resident":
      if (pull.relay || v.declines(pull)) return to(s, p, [{ type: "tellRelay", pull, e: p.e }])
      return v.precopies(pull)
        ? to(s, p, [{ type: "precopy", pull }])
        : to(s, { at: "draining", e: p.e, pull }, [{ type: "drain", sleep: false }])
    case "asking":
      return to(s, p, [{ type: "answer", pull }])
    case "opening":
    case "installing":
    case "draining":
    case "sealing":
      return to(s, p, [], { parked: park(s.parked, pull) })
  }
}

/** This POP does not own the actor: answer a PULL by what it knows. */
function redirect(s: HandState, pull: Pull, answer: Pointed, v: HandView): HandStep {
  const e = answer.kind === "none" ? 0 : answer.e
  if (e < pull.epoch && pull.via !== undefined && pull.via !== v.self && v.known(pull.via)) {
    // `via` has granted the actor to this POP, which has not installed it yet: fetch it first, then serve the PULL.
    const parked = park(s.parked, pull)
    if (s.phase.at !== "rest") return to(s, s.phase, [], { parked })
    const ask: Ask = {
      nonce: v.nonce,
      pop: pull.via,
      epoch: e,
      usedHome: false,
      hops: 0,
      relay: false,
      session: undefined,
      by: "pointer",
    }
    return to(s, { at: "asking", ask }, [{ type: "ask", ask, via: undefined }], { parked })
  }
  // It was heard that the origin has it, and the origin asks: it has lost what it was about to install, and only the record leads to it.
  const heard = v.belief?.pop === pull.origin ? undefined : v.belief
  if (answer.kind === "none" && (heard?.epoch ?? 0) <= Math.max(0, pull.epoch))
    return to(s, s.phase, [{ type: "tellNone", pull }])
  const own =
    answer.kind === "none"
      ? { pop: "", epoch: 0, inTransit: false }
      : { pop: answer.to, epoch: answer.e, inTransit: answer.inTransit }
  const belief = heard && heard.epoch > own.epoch && heard.pop !== v.self ? { ...heard, inTransit: false } : undefined
  const target = belief ?? own
  const effects: HandEffect[] = own.inTransit ? [{ type: "regrant", to: own.pop, e: own.epoch }] : []
  if (
    target.epoch > pull.epoch &&
    target.pop !== pull.origin &&
    target.pop !== v.self &&
    v.linked(target.pop) &&
    pull.hops < v.hopsMax
  )
    effects.push({
      type: "forward",
      to: target.pop,
      pull: { ...pull, epoch: target.epoch, hops: pull.hops + 1, via: target.inTransit ? v.self : undefined },
    })
  else effects.push({ type: "tellMoved", pull, to: target.pop, e: target.epoch, inTransit: target.inTransit })
  return to(s, s.phase, effects)
}

/** Relay requests waited for a record that turned out not to be ours. */
function answerParked(step: HandStep, record: OwnershipRecord | undefined, v: HandView): HandStep {
  const answer: Pointed =
    record === undefined || record.k === "OWNED"
      ? { kind: "none" }
      : { kind: "moved", to: record.to, e: record.e, inTransit: record.k === "GRANTED" }
  let state: HandState = { ...step.state, parked: [] }
  const effects = [...step.effects]
  for (const one of step.state.parked) {
    const next = redirect(state, one, answer, v)
    state = next.state
    effects.push(...next.effects)
  }
  return { state, effects }
}
