import { describeRecord, type Change, type Stored } from "./disk.ts"
import { readMark, relayedMark, type Mark } from "./marks.ts"
import { canonical, read, Reading, type Turn } from "./stored.ts"

/**
 * Judges the stores. It shares no code with the product: it reads records and bytes itself, keeps its own history of each actor, and after
 * every change of any store checks
 *
 * - the token: over all POPs, the OWNED records plus the GRANTED ones whose epoch is not installed are exactly one, both in what the
 *   stores show and in what would survive a power cut (I1, G1); an absent record at the home counts as OWNED(0);
 * - epochs: a POP's only grow, and each epoch is installed once, at the POP it was granted to (I2);
 * - histories: each commit extends the last commit, its revisions have no gap, and its state follows from its patches; a snapshot, a
 *   sealed body and an installed body hold exactly the last committed state and every session's last call (I5, G1, G3, G4);
 * - order of the hand-off: a body is let go only when its installation is durable (rules 1 and 2 in docs/handoff.md).
 */
export class Violation extends Error {
  readonly rule: string
  constructor(rule: string, message: string) {
    super(`${rule}: ${message}`)
    this.name = "Violation"
    this.rule = rule
  }
}

/** Throws: the run ends at the step that broke the rule. */
export function violated(rule: string, message: string): never {
  throw new Violation(rule, message)
}

interface Revision extends Turn {
  readonly h: string
  durable: boolean
  /** True ms at which it was committed. */
  readonly at: number
}

export class ActorHistory {
  readonly actor: string
  /** Where it may come into being; unknown until it did, where the key does not say. */
  home: string | undefined
  /** By revision; [0] is the state of an actor that was never used. */
  readonly revisions: Revision[] = [
    {
      r: 0,
      h: "",
      state: undefined,
      events: [],
      patches: undefined,
      lasts: new Map(),
      alarms: new Map(),
      durable: true,
      at: 0,
    },
  ]
  readonly installed = new Set<number>()
  /** Highest revision that survives anything. */
  durable = 0
  moves = 0

  constructor(actor: string, home: string | undefined) {
    this.actor = actor
    this.home = home
  }

  get tip(): Revision {
    return this.revisions[this.revisions.length - 1] as Revision
  }
}

export class Oracle {
  readonly histories = new Map<string, ActorHistory>()
  readonly #pops: readonly string[]
  readonly #kept: (ageMs: number, revisions: number) => boolean
  readonly #now: () => number
  readonly #views: Record<"visible" | "durable", Map<string, ReadonlyMap<string, Stored>>> = {
    visible: new Map(),
    durable: new Map(),
  }

  /** `kept`: whether an owner is to keep the outputs of a revision for clients that come back. */
  constructor(pops: readonly string[], kept: (age: number, revisions: number) => boolean, now: () => number) {
    this.#pops = pops
    this.#kept = kept
    this.#now = now
  }

  watchDisk(pop: string, visible: ReadonlyMap<string, Stored>, durable: ReadonlyMap<string, Stored>): void {
    this.#views.visible.set(pop, visible)
    this.#views.durable.set(pop, durable)
  }

  history(actor: string): ActorHistory {
    let history = this.histories.get(actor)
    if (history === undefined)
      this.histories.set(actor, (history = new ActorHistory(actor, /~(\w+)$/.exec(actor)?.[1])))
    return history
  }

  record(view: "visible" | "durable", pop: string, actor: string): Stored["record"] | undefined {
    return this.#views[view].get(pop)?.get(actor)?.record
  }

  /** Where the token is, as it would survive a power cut. */
  tokens(view: "visible" | "durable", actor: string): string[] {
    const found: string[] = []
    for (const pop of this.#pops) {
      const record = this.record(view, pop, actor)
      if (record === undefined) {
        if (pop === this.history(actor).home) found.push(`${pop}: none at home`)
      } else if (record.k === "OWNED") found.push(`${pop}: ${describeRecord(record)}`)
      else if (record.k === "GRANTED") {
        const theirs = this.record(view, record.to, actor)
        if (theirs === undefined || theirs.e < record.e) found.push(`${pop}: ${describeRecord(record)}`)
      }
    }
    return found
  }

  #checkToken(view: "visible" | "durable", actor: string): void {
    if (this.history(actor).home === undefined) return
    const tokens = this.tokens(view, actor)
    if (tokens.length !== 1)
      violated("G1", `${actor} has ${tokens.length} owners in what is ${view}: ${tokens.join("; ") || "none"}`)
  }

  visible(change: Change): void {
    const { actor, before, after, pop } = change
    const history = this.history(actor)
    const old = before?.record
    const now = after.record
    if (old === undefined && (now.k === "OWNED" ? now.e === 0 : now.k === "GRANTED")) {
      history.home ??= pop
      if (history.home !== pop) violated("G1", `${actor} came into being at ${pop}; its home is ${history.home}`)
    }
    if (old !== undefined && now.e < old.e)
      violated("G1", `${pop} went from epoch ${old.e} of ${actor} back to ${now.e}`)
    if (now.k === "OWNED") {
      this.#owned(history, change)
      this.#due(history, after)
    } else if (now.k === "GRANTED") {
      if (old?.k === "OWNED" && (now.e !== old.e + 1 || now.v !== old.v || now.h !== old.h))
        violated("G1", `a seal of ${actor} at ${pop} made ${describeRecord(now)} of ${describeRecord(old)}`)
      this.#complete(history, after, `sealed at ${pop}`)
    } else this.#pointed(history, change)
    this.#checkToken("visible", actor)
  }

  /** A snapshot keeps of what was kept what some client has not acknowledged: else that one would be told of a gap for nothing (G8). */
  #outbox({ actor, revisions }: ActorHistory, before: Stored | undefined, { body }: Stored): void {
    if (body.snapshot === undefined) return
    const [old, now] = [new Reading(), new Reading()]
    if (before?.body.snapshot !== undefined) old.snapshot(before.body.snapshot)
    now.snapshot(body.snapshot)
    for (let r = Math.max(2, now.floor + 1); r <= now.r; r++) {
      const due = this.#kept(this.#now() - (revisions[r]?.at ?? 0), now.r - r + 1)
      if (due && !now.outbox.includes(r) && (r > old.r || old.outbox.includes(r)))
        violated("G8", `a snapshot of ${actor} at ${now.r} drops revision ${r}; a client is at ${now.floor}`)
    }
  }

  /** When the next alarm is due is written beside the record, where a store finds sleeping actors by it. */
  #due({ actor, tip }: ActorHistory, { record }: Stored): void {
    if (record.k !== "OWNED") return
    const next = tip.alarms.size === 0 ? undefined : Math.min(...[...tip.alarms.values()].map(({ at }) => at))
    if (record.due !== next)
      violated("G4", `${actor} is due at ${String(record.due)}; its next alarm is at ${String(next)}`)
  }

  #owned(history: ActorHistory, { pop, actor, before, after, op }: Change): void {
    const now = after.record
    const old = before?.record
    if (now.k !== "OWNED") return
    if (old === undefined || old.k !== "OWNED") {
      if (old !== undefined || now.e !== 0) {
        if (history.installed.has(now.e)) violated("G1", `epoch ${now.e} of ${actor} was installed again, at ${pop}`)
        if (old !== undefined && now.e <= old.e)
          violated("G1", `${pop} made ${describeRecord(now)} of ${describeRecord(old)} for ${actor}`)
        const source = this.#pops.find((other) => {
          const record = this.record("durable", other, actor)
          return record?.k === "GRANTED" && record.to === pop && record.e === now.e
        })
        if (source === undefined)
          violated("G1", `${pop} installed epoch ${now.e} of ${actor}, which no durable grant gives it`)
        history.installed.add(now.e)
        history.moves++
      }
      this.#extend(history, after, `installed at ${pop}`, undefined)
      return
    }
    if (op === "commit" || now.v !== old.v) {
      // A claim that has its first commit with it takes the next fence.
      if (now.e !== old.e || now.f !== old.f + (op === "claim" ? 1 : 0))
        violated("G1", `a commit on ${actor} at ${pop} changed its epoch or fence`)
      this.#extend(history, after, `committed at ${pop}`, before)
    } else if (op === "compact") {
      this.#complete(history, after, `compacted at ${pop}`)
      this.#outbox(history, before, after)
    } else if (now.e !== old.e) violated("G1", `${pop} raised its own epoch of ${actor} from ${old.e} to ${now.e}`)
  }

  /** Takes what is new in a body into the history: the rest must be the history's. */
  #extend(history: ActorHistory, after: Stored, what: string, before: Stored | undefined): void {
    const now = after.record
    if (now.k !== "OWNED") return
    const { tip } = history
    const from = before?.record.k === "OWNED" ? before.record.v : tip.r
    if (from !== tip.r)
      violated("G1", `${history.actor} ${what}: revision ${from} was continued, the last committed is ${tip.r}`)
    if (now.v < tip.r) violated("G1", `${history.actor} ${what} at revision ${now.v}; the last committed is ${tip.r}`)
    const added = now.v - tip.r
    const reading = new Reading()
    if (before === undefined && (after.body.snapshot !== undefined || after.body.entries.length > added)) {
      const entries = after.body.entries.slice(0, after.body.entries.length - added)
      this.#same(history, read({ ...after, body: { ...after.body, entries } }), what)
    } else if (before === undefined && tip.r > 0)
      violated("G4", `${history.actor} ${what} with an empty body; the last committed revision is ${tip.r}`)
    if (after.body.entries.length < added) violated("G1", `${history.actor} ${what} lacks journal entries`)
    reading.r = tip.r
    reading.state = tip.state
    reading.lasts = new Map(tip.lasts)
    reading.alarms = new Map(tip.alarms)
    for (const bytes of added === 0 ? [] : after.body.entries.slice(-added)) {
      const turn = reading.entry(bytes)
      if (turn.r !== history.tip.r + 1)
        violated("G1", `${history.actor} ${what}: revision ${turn.r} follows ${history.tip.r}`)
      this.#turn(history, turn, what)
      history.revisions.push({ ...turn, h: now.h, durable: false, at: this.#now() })
    }
    if (added === 0 && now.h !== tip.h) violated("G1", `${history.actor} ${what} with hash ${now.h}, not ${tip.h}`)
    if (added > 0 && now.h === tip.h) violated("G1", `${history.actor} ${what}: the hash did not change with the state`)
  }

  /** What the simulated application promises of each turn: the list only grows, holds nothing twice, and the sum is the list's. */
  #turn(history: ActorHistory, turn: Turn, what: string): void {
    const old = history.tip.state ?? { list: [], turns: 0, sum: 0 }
    const now = turn.state
    if (now === undefined) violated("G1", `${history.actor} ${what}: revision ${turn.r} has no state`)
    const added = now.list.slice(old.list.length)
    if (added.length > 1 || now.turns !== old.turns + added.length)
      violated(
        "G3",
        `${history.actor} ${what}: a turn appended ${added.length} and went from ${old.turns} to ${now.turns} turns`,
      )
    const [id] = added
    this.#rings(history, turn, id, what)
    if (id === undefined) return
    if (old.list.includes(id)) violated("G3", `${history.actor} ${what}: ${id} was applied twice`)
    if (now.sum - old.sum !== id.length) violated("G3", `${history.actor} ${what}: a turn's changes were not atomic`)
  }

  /**
   * An alarm is set by the turn of its call, is put off by a turn that has no other effect, and goes in the very turn that has its effect or
   * that cancelled it. What a turn did to another actor is durable there.
   */
  #rings(history: ActorHistory, turn: Turn, text: string | undefined, what: string): void {
    const mark = text === undefined ? undefined : readMark(text)
    const before = history.tip.alarms
    for (const [key, alarm] of turn.alarms) {
      const known = before.get(key)
      if (known === alarm || (known !== undefined && canonical(known) === canonical(alarm))) continue
      const set = known === undefined && mark?.kind === "call" && mark.id === alarm.id && alarm.attempts === 0
      const putOff = known !== undefined && mark === undefined && alarm.attempts === known.attempts + 1
      if (!set && !putOff)
        violated("G3", `${history.actor} ${what}: revision ${turn.r} made ${canonical(alarm)} of ${canonical(known)}`)
    }
    for (const [key, { name, id }] of before) {
      if (turn.alarms.has(key)) continue
      const effect = mark?.kind === (name === "rang" ? "rang" : "passed") && mark.id === id
      if (!effect && !(mark?.kind === "cancel" && mark.of === id))
        violated("G3", `${history.actor} ${what}: alarm ${key} is gone with revision ${turn.r}, and had no effect`)
    }
    const of = mark?.kind === "rang" ? `rang ${mark.id}` : mark?.kind === "cancel" ? `rang ${mark.of ?? ""}` : undefined
    if (of !== undefined && turn.alarms.has(of)) violated("G3", `${history.actor} ${what}: ${of} is still set`)
    if (mark?.kind === "rang" && !before.has(of ?? ""))
      violated("G3", `${history.actor} ${what}: ${of ?? ""} rang and was not set`)
    if (mark?.kind === "passed") this.#passed(history, mark, what)
  }

  #passed({ actor }: ActorHistory, { id, other = "", index = -1, attempt }: Mark, what: string): void {
    const there = [...this.histories.values()].find((one) => one.actor.startsWith(`ledger/${other}.`))
    const { list } = there?.revisions[there.durable]?.state ?? { list: [] }
    const told = there === undefined ? "" : relayedMark(id, there.actor.slice("ledger/".length), attempt)
    if (list[index] !== told)
      violated(
        "G2",
        `${actor} ${what}: it was told that ${told} is at ${index} of ${there?.actor ?? other}; durable is ${String(list[index])}`,
      )
  }

  #complete(history: ActorHistory, stored: Stored, what: string): void {
    if (stored.record.k === "PTR") return
    const { tip } = history
    if (stored.record.v !== tip.r)
      violated("G4", `${history.actor} ${what} at revision ${stored.record.v}; the last committed is ${tip.r}`)
    if (tip.r > 0) this.#same(history, read(stored), what)
  }

  #same(history: ActorHistory, reading: Reading, what: string): void {
    const { tip } = history
    if (reading.r !== tip.r)
      violated(
        "G4",
        `the body of ${history.actor} ${what} ends at revision ${reading.r}; the last committed is ${tip.r}`,
      )
    if (canonical(reading.state) !== canonical(tip.state))
      violated(
        "G4",
        `the body of ${history.actor} ${what} holds ${canonical(reading.state)}, not ${canonical(tip.state)}`,
      )
    if (canonical([...reading.alarms].sort()) !== canonical([...tip.alarms].sort()))
      violated(
        "G4",
        `the body of ${history.actor} ${what} has the alarms ${canonical([...reading.alarms.keys()])}, not ${canonical([...tip.alarms.keys()])}`,
      )
    for (const [sid, last] of tip.lasts)
      if ((reading.lasts.get(sid) ?? 0) < last)
        violated("G3", `the body of ${history.actor} ${what} has lost session ${sid}'s last call ${last}`)
  }

  #pointed(history: ActorHistory, { pop, actor, before, after }: Change): void {
    const now = after.record
    const old = before?.record
    if (now.k !== "PTR") return
    if (old?.k === "OWNED") violated("G1", `${pop} made ${describeRecord(now)} of ${describeRecord(old)} for ${actor}`)
    const there = this.record("durable", now.to, actor)
    if (there === undefined || there.e < now.e)
      violated(
        "G4",
        `${pop} let ${actor} go to ${now.to} at epoch ${now.e}, where ${there ? describeRecord(there) : "nothing"} is durable`,
      )
    void history
  }

  /** A POP says this on the mesh: what it promises must be durable there (seal before transfer, install before CONFIRM and HOMEUPD). */
  said(from: string, to: string, message: { readonly [field: string]: unknown }): void {
    const { t, actor, e } = message
    if (typeof actor !== "string" || typeof e !== "number") return
    const record = this.record("durable", from, actor)
    if (t === "GRANT" && (record === undefined || record.e < e || (record.k === "OWNED" && record.e === e)))
      violated(
        "G1",
        `${from} sends ${to} a grant of epoch ${e} of ${actor}; durable is ${record ? describeRecord(record) : "nothing"}`,
      )
    if ((t === "CONFIRM" || t === "HOMEUPD") && (record === undefined || record.e < e))
      violated(
        "G4",
        `${from} sends ${t} of epoch ${e} of ${actor}; durable is ${record ? describeRecord(record) : "nothing"}`,
      )
  }

  durable(change: Change): void {
    const history = this.history(change.actor)
    const { record } = change.after
    if (record.k === "OWNED")
      for (let r = history.durable + 1; r <= record.v; r++) {
        const revision = history.revisions[r]
        if (revision !== undefined) revision.durable = true
        history.durable = r
      }
    this.#checkToken("durable", change.actor)
  }

  /** A power cut took these back, latest first: nobody may have been told of any of them. */
  undone(changes: readonly Change[]): void {
    for (const { actor, before, after } of changes) {
      const history = this.history(actor)
      const old = before?.record
      const now = after.record
      if (now.k !== "OWNED") continue
      const from = old?.k === "OWNED" ? old.v : history.durable
      history.revisions.length = Math.max(from, history.durable) + 1
      if (old?.k !== "OWNED" && now.e > 0) history.installed.delete(now.e)
    }
    for (const { actor } of changes) {
      this.#checkToken("visible", actor)
      this.#checkToken("durable", actor)
    }
  }
}
