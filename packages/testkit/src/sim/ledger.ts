import { ERRORS, SojournError } from "@sojourn/protocol"
import { violated, type ActorHistory, type Oracle } from "./oracle.ts"
import { readMark } from "./marks.ts"
import { canonical } from "./stored.ts"

/**
 * What the users of the client SDK were told, judged against what was committed:
 *
 * - a call that succeeded is in the list once, at the index it was told; one reported `not-executed` is never in it, one `executed` is (G3);
 * - the calls of one client on one actor are applied in the order they were made; a call made after another was acknowledged comes after
 *   it, whoever made it (G8, G1);
 * - live state is always a committed, durable state and never goes back; events come in order and without a gap that was not told (G8);
 * - every call is answered in bounded time, with a named error if it fails (G10).
 */
export interface CallRecord {
  readonly client: string
  readonly actor: string
  readonly id: string
  readonly name: string
  /** Order in which this client made its calls on this actor. */
  readonly n: number
  readonly madeAt: number
  /** True time by which it must be answered, as far as its client was running. */
  readonly boundMs: number
  settledAt: number | undefined
  told: "ok" | "not-executed" | "executed" | "unknown" | undefined
}

const writes = new Set(["add", "slow", "later", "cancel", "pass", "ask"])

/** Where each call of a list had its effect: a call's own mark, for `ask` what it noted of the other actor. */
function effectsOf(list: readonly string[], nameOf: (id: string) => string | undefined): Map<string, number> {
  const effects = new Map<string, number>()
  for (const [i, text] of list.entries()) {
    const { kind, id } = readMark(text)
    const name = nameOf(id)
    if (kind === "call" ? name !== "ask" && name !== "cancel" : kind === (name === "ask" ? "passed" : "cancel"))
      effects.set(id, i)
  }
  return effects
}

export class Ledger {
  readonly #oracle: Oracle
  readonly calls: CallRecord[] = []
  acknowledged = 0
  readonly refusals = new Map<string, number>()

  constructor(oracle: Oracle) {
    this.#oracle = oracle
  }

  made(call: CallRecord): void {
    this.calls.push(call)
  }

  succeeded(call: CallRecord, value: unknown, at: number): void {
    this.#settled(call, at, "ok")
    this.acknowledged++
    if (!writes.has(call.name)) {
      if (call.name === "refuse" || call.name === "fail") violated("G3", `${call.name}(${call.id}) succeeded`)
      return
    }
    const history = this.#oracle.history(call.actor)
    const list = history.revisions[history.durable]?.state?.list ?? []
    const text = list[value as number]
    const mark = text === undefined ? undefined : readMark(text)
    const kind = call.name === "ask" ? "passed" : call.name === "cancel" ? "cancel" : "call"
    if (mark?.id !== call.id || mark.kind !== kind)
      violated(
        "G2",
        `${call.client} was told that ${call.id} is at ${String(value)} of ${call.actor}; there is ${String(text)}`,
      )
  }

  failed(call: CallRecord, error: unknown, at: number): void {
    if (!(error instanceof SojournError) || !Object.hasOwn(ERRORS, error.code))
      violated("G10", `${call.name}(${call.id}) failed with no named error: ${String(error)}`)
    this.#settled(call, at, error.outcome)
    this.refusals.set(error.code, (this.refusals.get(error.code) ?? 0) + 1)
    if (error.message.includes("a defect of"))
      violated("G5", `the error of ${call.id} shows the application's: ${error.message}`)
    if (
      call.name === "refuse" &&
      error.code === "ACTOR_ERROR" &&
      (error.ref !== "REFUSED" || canonical(error.data) !== canonical({ id: call.id }))
    )
      violated("G3", `the refusal of ${call.id} came as ${String(error.ref)} ${canonical(error.data)}`)
  }

  #settled(call: CallRecord, at: number, told: CallRecord["told"]): void {
    if (call.settledAt !== undefined) violated("G3", `${call.id} was answered twice`)
    call.settledAt = at
    call.told = told
  }

  /** `lost`: ms for which the client did not run. */
  late(call: CallRecord, now: number, lost: number): void {
    if (call.settledAt === undefined && now > call.madeAt + call.boundMs + lost)
      violated(
        "G10",
        `${call.name}(${call.id}) has no answer after ${Math.round(now - call.madeAt)} ms; its time was ${call.boundMs} ms`,
      )
  }

  /** At the end, against what is durable. */
  close(): void {
    const byActor = new Map<string, CallRecord[]>()
    for (const call of this.calls) {
      const calls = byActor.get(call.actor) ?? []
      if (calls.length === 0) byActor.set(call.actor, calls)
      calls.push(call)
    }
    const to = (short: string): readonly CallRecord[] =>
      [...byActor].find(([actor]) => actor.startsWith(`ledger/${short}.`))?.[1] ?? []
    for (const [actor, calls] of byActor) this.#closeActor(this.#oracle.history(actor), calls, to)
  }

  /** `byActor`: the calls of the actor whose key begins with this. */
  #closeActor(
    history: ActorHistory,
    calls: readonly CallRecord[],
    byActor: (short: string) => readonly CallRecord[],
  ): void {
    const list = history.revisions[history.durable]?.state?.list ?? []
    const byId = new Map(calls.map((call) => [call.id, call]))
    const index = effectsOf(list, (id) => byId.get(id)?.name)
    const texts = new Set(list)
    if (texts.size !== list.length) violated("G3", `the final list of ${history.actor} holds something twice`)
    for (const call of calls) {
      const applied = index.has(call.id)
      if (applied && !writes.has(call.name)) violated("G3", `${call.name}(${call.id}) left an effect`)
      if (!writes.has(call.name)) continue
      if (!applied && (call.told === "ok" || call.told === "executed"))
        violated("G3", `${call.id} was acknowledged and is lost`)
      if (applied && call.told === "not-executed")
        violated("G3", `${call.id} was reported not-executed and was applied`)
    }
    const last = new Map<string, number>()
    const cancelled = new Set<string>()
    const noted = new Set<string>()
    for (const text of list) {
      const mark = readMark(text)
      if (mark.kind === "relayed") {
        const from = byActor(mark.other ?? "").find(({ id }) => id.endsWith(`|${mark.id}`))
        if (from?.name !== (mark.attempt === undefined ? "pass" : "ask"))
          violated("G3", `${history.actor} holds ${text}, which nobody passed on`)
        continue
      }
      const call = byId.get(mark.id)
      if (call === undefined) violated("G3", `${history.actor} holds ${text}, which nobody called`)
      if (mark.kind === "cancel" && mark.of !== undefined) cancelled.add(mark.of)
      if (mark.kind === "passed") noted.add(mark.id)
      const wanted = { call: "", rang: "later", cancel: "cancel", passed: mark.attempt === undefined ? "pass" : "ask" }
      if (wanted[mark.kind] !== "" && wanted[mark.kind] !== call.name)
        violated("G3", `${history.actor} holds ${text} of a call of ${call.name}`)
      if (index.get(call.id) === undefined || list[index.get(call.id) ?? -1] !== text) continue
      if (call.n < (last.get(call.client) ?? -1))
        violated("G8", `${text} was applied after a later call of ${call.client}`)
      last.set(call.client, call.n)
    }
    for (const id of index.keys()) {
      const name = byId.get(id)?.name
      if (name === "later" && !cancelled.has(id) && !texts.has(`${id}!`))
        violated("G4", `the alarm that ${id} set on ${history.actor} never rang`)
      if (name === "pass" && !noted.has(id)) violated("G4", `${id} of ${history.actor} was never passed on`)
    }
    const applied = calls.filter((call) => index.has(call.id))
    const acked = applied.filter((call) => call.told === "ok").sort((a, b) => (a.settledAt ?? 0) - (b.settledAt ?? 0))
    let seen = 0
    let highest = -1
    for (const call of [...applied].sort((a, b) => a.madeAt - b.madeAt)) {
      for (let next = acked[seen]; next !== undefined && (next.settledAt ?? 0) < call.madeAt; next = acked[++seen])
        highest = Math.max(highest, index.get(next.id) ?? -1)
      if ((index.get(call.id) ?? 0) < highest)
        violated("G1", `${call.id} was made after another call was acknowledged, and applied before it`)
    }
  }
}

/** One client's view of one actor: its events and its live state. */
export class Observer {
  readonly #history: ActorHistory
  readonly #who: string
  #nextEvent: number | undefined
  #turns = -1
  /** Events of the actor in their order, with their revision; read from the history as it grows. */
  readonly #events: { readonly r: number; readonly text: string }[] = []
  #read = 0
  heard = 0
  states = 0

  constructor(who: string, history: ActorHistory) {
    this.#who = who
    this.#history = history
  }

  #catchUp(): void {
    for (; this.#read < this.#history.durable;) {
      const revision = this.#history.revisions[++this.#read]
      for (const event of revision?.events ?? []) this.#events.push({ r: this.#read, text: canonical(event) })
    }
  }

  resumed(how: string, revision: number): void {
    this.#catchUp()
    if (how === "replay") return
    const at = this.#events.findIndex(({ r }) => r > revision)
    const next = at === -1 ? this.#events.length : at
    if (this.#nextEvent !== undefined && next < this.#nextEvent)
      violated("G8", `${this.#who} resumed ${this.#history.actor} at revision ${revision}, before what it had heard`)
    this.#nextEvent = next
  }

  event(name: string, payload: unknown): void {
    this.#catchUp()
    this.heard++
    const text = canonical([name, payload])
    const expected = this.#events[this.#nextEvent ?? 0]
    if (this.#nextEvent === undefined) violated("G8", `${this.#who} heard ${text} before it was attached`)
    if (expected?.text !== text)
      violated(
        "G8",
        `${this.#who} heard ${text} of ${this.#history.actor}; next was ${expected?.text ?? "nothing that is durable"}`,
      )
    this.#nextEvent++
  }

  state(state: unknown): void {
    this.states++
    const { turns } = state as { turns: number }
    const { revisions, durable } = this.#history
    const committed = revisions.slice(1, durable + 1).find((revision) => revision.state?.turns === turns)
    if (canonical(committed?.state) !== canonical(state))
      violated(
        "G2",
        `${this.#who} shows ${canonical(state)} of ${this.#history.actor}; durable with ${turns} turns is ${canonical(committed?.state)}`,
      )
    if (turns < this.#turns)
      violated("G8", `${this.#who}'s state of ${this.#history.actor} went from ${this.#turns} turns back to ${turns}`)
    this.#turns = turns
  }

  /** When all is calm: nothing is missing. */
  close(live: unknown): void {
    this.#catchUp()
    if (this.#nextEvent !== undefined && this.#nextEvent !== this.#events.length)
      violated(
        "G8",
        `${this.#who} never heard ${this.#events.length - this.#nextEvent} events of ${this.#history.actor}`,
      )
    if (live === undefined) return
    const { state } = this.#history.tip
    if (canonical(live) !== canonical(state))
      violated("G8", `${this.#who} ends with ${canonical(live)} of ${this.#history.actor}; it is ${canonical(state)}`)
  }
}
