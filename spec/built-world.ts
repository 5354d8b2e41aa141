import {
  memoryDisk,
  memoryStore,
  restState,
  SojournError,
  step,
  type Fence,
  type HandEffect,
  type HandInput,
  type HandState,
  type HandStep,
  type HandView,
  type MemoryDisk,
  type OwnershipRecord,
  type OwnershipRules,
  type Store,
} from "@sojourn/core"
import type { HandoffState, ModelActivation, ModelBody, ModelRecord } from "./handoff-model.ts"

/**
 * What is built, as far as `handoff-model.ts` models it: the real step function and the real store operations, with a host around them that
 * does one thing at a time, when a test says so. One actor; a memory store a POP, shared by its processes; a network that keeps what was sent.
 *
 * `abstraction` tells the world in the model's words. Phases, searches, wants and beliefs are not in it: they decide what is done next, and
 * whatever they decide must be a step of the model.
 */
export type Pull = Extract<HandInput, { type: "pull" }>["pull"]
export type Want = Extract<HandInput, { type: "need" }>["want"]

export type Message =
  | { readonly t: "PULL"; readonly to: string; readonly pull: Pull }
  | { readonly t: "GRANT"; readonly from: string; readonly to: string; readonly grant: SentGrant }
  | { readonly t: "CONFIRM" | "HOMEUPD"; readonly from: string; readonly to: string; readonly e: number }
  /** Answers to a question: inputs of the step function as they are. */
  | {
      readonly t: "ANSWER"
      readonly to: string
      readonly input: Extract<HandInput, { type: "moved" | "none" | "relayMe" | "refused" }>
    }

interface SentGrant {
  readonly e: number
  readonly v: number
  readonly h: string
  readonly entries: readonly Uint8Array[]
}

interface Activation {
  readonly e: number
  readonly f: number
  v: number
  h: string
  entries: readonly Uint8Array[]
}

/** Something that was asked of the store, or of the activation, and has not happened yet. */
export interface Operation {
  readonly name: "peek" | "claim" | "install" | "pull" | "drain" | "regrant"
  /** What the process hears of it. */
  readonly run: () => Promise<HandInput | undefined>
}

export interface Process {
  readonly pop: string
  readonly index: number
  state: HandState
  activation: Activation | undefined
  belief: { readonly pop: string; readonly epoch: number } | undefined
  pending: Operation[]
  incoming: { readonly from: string; readonly grant: SentGrant } | undefined
  sealed: { readonly to: string; readonly grant: SentGrant } | undefined
  /** The epoch that it tells the home again and again. */
  announces: number | undefined
}

export interface BuiltOptions {
  readonly processes: readonly number[]
  readonly calls: readonly number[]
  /** Wrong rules, planted to see them caught. */
  readonly rules?: Partial<OwnershipRules>
  readonly step?: typeof step
}

export const actor = "model/one"
export const nameOf = (pop: number): string => `p${pop}`
export const indexOf = (pop: string): number => Number(pop.slice(1))
const home = nameOf(0)
const noParts = (calls: readonly number[]): (readonly [number, number])[] => calls.map(() => [0, 0] as const)

export class BuiltWorld {
  readonly #o: BuiltOptions
  readonly #step: typeof step
  readonly #disks: MemoryDisk[]
  readonly stores: Store[]
  readonly processes: Process[][]
  readonly acked: number[]
  network: Message[] = []
  /** Whether an owner declines a move or sends a copy ahead, and a link is down: nothing of it may matter. */
  whim: () => boolean = () => false
  #nonces = 0

  constructor(options: BuiltOptions, from?: HandoffState) {
    this.#o = options
    this.#step = options.step ?? step
    this.#disks = options.processes.map((_, p) => memoryDisk(nameOf(p)))
    if (from) this.#restore(from)
    this.stores = this.#disks.map((disk, p) =>
      memoryStore({ disk, pop: nameOf(p), ...(options.rules ? { rules: options.rules } : {}) }),
    )
    this.processes = options.processes.map((n, p) =>
      Array.from({ length: n }, (_, index) => newProcess(p, index, from?.processes[p]?.[index])),
    )
    this.acked = from ? [...from.acked] : options.calls.map(() => 0)
    if (from) this.network = messagesOf(from)
  }

  #restore({ records }: HandoffState): void {
    for (const [p, record] of records.entries()) {
      if (record.k === "none") continue
      const entries = record.k === "PTR" ? [] : entriesOf(record.body)
      const [v, h] = [entries.length, hashOf(entries)]
      const { e, f } = record
      const to = nameOf(record.to)
      const stored: OwnershipRecord =
        record.k === "OWNED"
          ? { k: "OWNED", e, f, v, h }
          : record.k === "GRANTED"
            ? { k: "GRANTED", e, to, v, h }
            : { k: "PTR", e, to }
      this.#disks[p]?.actors.set(actor, { record: stored, snapshot: undefined, entries })
    }
  }

  record(pop: number): OwnershipRecord | undefined {
    return this.#disks[pop]?.actors.get(actor)?.record
  }

  store(process: Process): Store {
    return this.stores[indexOf(process.pop)] as Store
  }

  // ── what happens ──

  input(process: Process, input: HandInput): readonly HandEffect[] {
    const { state, effects } = this.#take(process, input)
    process.state = state
    for (const effect of effects) this.#perform(process, effect)
    return effects
  }

  #take(process: Process, input: HandInput): HandStep {
    const all = this.processes.map((_, p) => nameOf(p))
    const view: HandView = {
      self: process.pop,
      home,
      hopsMax: 8,
      belief: process.belief,
      nonce: `n${this.#nonces++}`,
      known: (pop) => all.includes(pop),
      linked: () => !this.whim(),
      needsWho: false,
      declines: this.whim,
      precopies: this.whim,
    }
    return this.#step(process.state, input, view)
  }

  /** Takes the oldest operation of a process; its answer is the process's next input. */
  async run(process: Process): Promise<Operation | undefined> {
    const operation = process.pending.shift()
    if (!operation) return undefined
    const heard = await operation.run()
    if (heard) this.input(process, heard)
    return operation
  }

  /** The oldest operation fails: it was done all the same, or not, and the process cannot know. */
  async fail(process: Process, done: boolean): Promise<Operation | undefined> {
    const operation = process.pending.shift()
    if (!operation) return undefined
    const sent = [...this.network]
    if (done) await operation.run()
    this.network = sent
    process.sealed = undefined
    if (operation.name === "regrant") return operation
    if (operation.name === "drain") {
      this.drop(process)
      return operation
    }
    process.incoming = undefined
    process.activation = undefined
    if (operation.name !== "pull" || process.state.phase.at === "sealing") {
      const err = new SojournError("STORE_UNAVAILABLE", "the store failed", { outcome: "unknown" }).toWire()
      this.input(process, { type: "failed", err })
    }
    return operation
  }

  /** The process is gone, with everything in its memory, and another one starts. What it had asked of its store may still happen. */
  crash(process: Process): Operation[] {
    const p = indexOf(process.pop)
    this.processes[p] = (this.processes[p] as Process[]).with(process.index, newProcess(p, process.index, undefined))
    return process.pending
  }

  /** The activation ends: it was fenced, or a write had an unknown outcome. */
  drop(process: Process): void {
    process.activation = undefined
    this.input(process, { type: "dropped" })
  }

  async deliver(process: Process, message: Message): Promise<void> {
    switch (message.t) {
      case "PULL":
        this.input(process, { type: "pull", pull: message.pull })
        return
      case "GRANT": {
        const { at } = process.state.phase
        if (at === "rest" || at === "asking") process.incoming = { from: message.from, grant: message.grant }
        this.input(process, { type: "grant", from: message.from, e: message.grant.e })
        return
      }
      case "CONFIRM":
        await this.store(process).confirm(actor, message.from, message.e)
        return
      case "HOMEUPD":
        await this.store(process).learn(actor, message.from, message.e)
        return
      case "ANSWER":
        this.input(process, message.input)
    }
  }

  /** The next call of a client, run and written. False: the store refused it, and the activation is gone. */
  async commit(process: Process, client: number): Promise<boolean> {
    const a = process.activation
    if (!a) throw new Error("there is no activation")
    const entry = Uint8Array.of(client, lastOf(a.entries, client) + 1)
    const fence: Fence = { e: a.e, f: a.f, v: a.v }
    const h = hashOf([entry], a.h)
    const answer = await this.store(process).commit(actor, fence, { entries: [entry], h })
    if (answer.kind === "fenced") {
      this.drop(process)
      return false
    }
    Object.assign(a, { v: answer.v, h, entries: [...a.entries, entry] })
    return true
  }

  /** Acknowledges a call, if the gate lets it out. */
  async answer(process: Process, client: number): Promise<boolean> {
    const a = process.activation
    if (!a || !(await this.store(process).check(actor, { e: a.e, f: a.f }))) return false
    const acked = this.acked[client] as number
    if (lastOf(a.entries, client) > acked) this.acked[client] = acked + 1
    return true
  }

  /** Tells the home again, as an owner does until it is heard. */
  announceAgain(process: Process): void {
    if (process.announces !== undefined) this.#send({ t: "HOMEUPD", from: process.pop, to: home, e: process.announces })
  }

  /** The source sends its grant again, if it still is one. */
  async regrant(process: Process): Promise<void> {
    const stored = await this.store(process).load(actor)
    if (stored?.record.k !== "GRANTED") return
    const { to, e, v, h } = stored.record
    this.#send({ t: "GRANT", from: process.pop, to, grant: { e, v, h, entries: stored.body.entries } })
  }

  #send(message: Message): void {
    const text = JSON.stringify(message)
    if (!this.network.some((one) => JSON.stringify(one) === text)) this.network.push(message)
  }

  #perform(process: Process, effect: HandEffect): void {
    const { pop } = process
    const isHome = pop === home
    const store = this.store(process)
    const later = (name: Operation["name"], run: Operation["run"]): void => {
      process.pending.push({ name, run })
    }
    switch (effect.type) {
      case "peek":
        later("peek", async () => ({ type: "record", record: await store.peek(actor) }))
        return
      case "claim":
        later("claim", async () => {
          const answer = await store.claim(actor, isHome)
          if (answer.kind !== "claimed") return { type: "record", record: answer.record }
          const { e, f, v, h } = answer.record
          process.activation = { e, f, v, h, entries: answer.body.entries }
          return { type: "claimed", e }
        })
        return
      case "ask": {
        const { nonce, session, relay, hops, have } = effect.ask
        const epoch = Math.max(0, effect.ask.epoch)
        const pull: Pull = { origin: pop, nonce, session, epoch, hops, relay, via: effect.via, have, version: 1 }
        this.#send({ t: "PULL", to: effect.ask.pop, pull })
        return
      }
      case "install":
        this.#install(process, effect.activate, later)
        return
      case "drain":
        later("drain", async () => ({ type: "drained" }))
        return
      case "seal":
        later("pull", async () => {
          const answer = await store.pull(actor, isHome, effect.pull.origin)
          if (answer.kind === "too-large") throw new Error("no bound was set")
          if (answer.kind !== "grant") {
            // Another process of this POP had taken the actor and given it away.
            process.activation = undefined
            return { type: "sealed", answer }
          }
          const { to, e, v, h } = answer.record
          process.sealed = { to, grant: { e, v, h, entries: answer.body.entries } }
          return { type: "sealed", answer: { kind: "grant" } }
        })
        return
      case "answer":
        later("pull", async () => {
          const answer = await store.pull(actor, isHome, effect.pull.origin)
          if (answer.kind === "too-large") throw new Error("no bound was set")
          if (answer.kind !== "grant") return { type: "pointed", pull: effect.pull, answer }
          const { to, e, v, h } = answer.record
          this.#send({ t: "GRANT", from: pop, to, grant: { e, v, h, entries: answer.body.entries } })
          return undefined
        })
        return
      case "grant": {
        const { sealed } = process
        process.sealed = undefined
        process.activation = undefined
        if (!sealed) throw new Error("a grant is sent that nobody sealed")
        this.#send({ t: "GRANT", from: pop, to: sealed.to, grant: sealed.grant })
        this.#hear(process, sealed.to, sealed.grant.e)
        return
      }
      case "sleep":
        process.activation = undefined
        return
      case "confirm":
        this.#send({ t: "CONFIRM", from: pop, to: effect.to, e: effect.e })
        return
      case "announce":
        if (isHome || effect.e === 0) return
        process.announces = effect.e
        this.announceAgain(process)
        return
      case "regrant":
        later("regrant", async () => {
          await this.regrant(process)
          return undefined
        })
        return
      case "forward":
        this.#send({ t: "PULL", to: effect.to, pull: effect.pull })
        return
      case "tellMoved": {
        const { pull, to, e, inTransit } = effect
        const { nonce, hops, origin } = pull
        this.#send({
          t: "ANSWER",
          to: origin,
          input: { type: "moved", nonce, from: pop, to, e, inTransit, hops },
        })
        return
      }
      case "tellNone":
        this.#send({ t: "ANSWER", to: effect.pull.origin, input: { type: "none", nonce: effect.pull.nonce } })
        return
      case "tellRelay": {
        const { nonce, hops, origin } = effect.pull
        this.#send({ t: "ANSWER", to: origin, input: { type: "relayMe", nonce, from: pop, e: effect.e, hops } })
        return
      }
      case "tellRefused": {
        const { nonce, origin } = effect.pull
        this.#send({ t: "ANSWER", to: origin, input: { type: "refused", nonce, err: effect.err } })
        return
      }
      case "fail":
        process.belief = undefined
        return
      case "believe":
        this.#hear(process, effect.pop, effect.epoch)
        return
      case "admit":
      case "reopen":
      case "precopy":
      case "relay":
        return
    }
  }

  /** What the first turn writes joins the install. Whose call it is, if any, a test says by `firstTurn`. */
  firstTurn: number | undefined

  #install(process: Process, activate: boolean, later: (name: Operation["name"], run: Operation["run"]) => void): void {
    const { incoming } = process
    if (!incoming) throw new Error("an install without a grant")
    const { grant, from } = incoming
    later("install", async () => {
      const client = activate ? this.firstTurn : undefined
      const seq = client === undefined ? 0 : lastOf(grant.entries, client) + 1
      const runs =
        client !== undefined && seq <= (this.#o.calls[client] as number) && seq > (this.acked[client] as number)
      const turn = runs ? [Uint8Array.of(client, seq)] : []
      const h = hashOf(turn, grant.h)
      const answer = await this.store(process).install(
        actor,
        process.pop === home,
        { e: grant.e, v: grant.v, h: grant.h, from, body: { snapshot: undefined, entries: grant.entries } },
        activate ? { entries: turn, h } : undefined,
      )
      process.incoming = undefined
      if (answer.kind === "ignored") return { type: "ignored", e: grant.e }
      const { e, f, v } = answer.record
      if (activate) process.activation = { e, f, v, h, entries: [...grant.entries, ...turn] }
      return { type: "installed", e }
    })
  }

  #hear(process: Process, pop: string, epoch: number): void {
    if (pop !== process.pop && (process.belief?.epoch ?? -1) < epoch) process.belief = { pop, epoch }
  }

  // ── in the model's words ──

  abstraction(): HandoffState {
    const { calls } = this.#o
    const grants = new Map<string, HandoffState["grants"][number]>()
    const confirms = new Map<string, HandoffState["confirms"][number]>()
    const updates = new Map<string, HandoffState["updates"][number]>()
    for (const m of this.network) {
      if (m.t === "GRANT") {
        const one = { e: m.grant.e, to: indexOf(m.to), body: bodyOf(m.grant.entries, calls) }
        grants.set(JSON.stringify(one), one)
      } else if (m.t === "CONFIRM") confirms.set(`${m.e} ${m.from}`, { e: m.e, from: indexOf(m.from) })
      else if (m.t === "HOMEUPD") updates.set(`${m.e} ${m.from}`, { e: m.e, at: indexOf(m.from) })
    }
    const records = this.#disks.map((disk): ModelRecord => {
      const row = disk.actors.get(actor)
      if (!row) return { k: "none", e: 0, to: 0, f: 0, body: noParts(calls) }
      const { record: r, entries } = row
      if (r.k === "PTR" && entries.length > 0) throw new Error("a pointer with a body")
      if (r.k !== "PTR" && entries.length !== r.v) throw new Error(`${entries.length} entries at revision ${r.v}`)
      return {
        k: r.k,
        e: r.e,
        to: r.k === "OWNED" ? 0 : indexOf(r.to),
        f: r.k === "OWNED" ? r.f : 0,
        body: bodyOf(entries, calls),
      }
    })
    const processes = this.processes.map((of) =>
      of.map(({ activation: a }): ModelActivation => {
        if (!a) return { on: false, e: 0, f: 0, body: noParts(calls) }
        return { on: true, e: a.e, f: a.f, body: bodyOf(a.entries, calls) }
      }),
    )
    const byEpoch = <T extends { e: number }>(of: Map<string, T>): T[] => [...of.values()].sort((a, b) => a.e - b.e)
    return {
      records,
      processes,
      acked: [...this.acked],
      grants: byEpoch(grants),
      confirms: byEpoch(confirms),
      updates: byEpoch(updates),
    }
  }
}

function newProcess(p: number, index: number, known: ModelActivation | undefined): Process {
  const entries = known?.on ? entriesOf(known.body) : []
  return {
    pop: nameOf(p),
    index,
    state: known?.on ? { ...restState, phase: { at: "resident", e: known.e } } : restState,
    activation: known?.on ? { e: known.e, f: known.f, v: entries.length, h: hashOf(entries), entries } : undefined,
    belief: undefined,
    pending: [],
    incoming: undefined,
    sealed: undefined,
    announces: known?.on && p !== 0 && known.e > 0 ? known.e : undefined,
  }
}

/** Whose grant it was no longer matters where no record says so: a confirm of it changes nothing anywhere. */
function messagesOf({ records, grants, confirms, updates }: HandoffState): Message[] {
  const sourceOf = (e: number, to: number): string => {
    const at = records.findIndex((r) => r.k === "GRANTED" && r.e === e)
    return nameOf(at >= 0 ? at : to === 0 ? 1 : 0)
  }
  return [
    ...grants.map(({ e, to, body }): Message => {
      const entries = entriesOf(body)
      const grant = { e, v: entries.length, h: hashOf(entries), entries }
      return { t: "GRANT", from: sourceOf(e, to), to: nameOf(to), grant }
    }),
    ...confirms.map(({ e, from }): Message => ({ t: "CONFIRM", from: nameOf(from), to: sourceOf(e, from), e })),
    ...updates.map(({ e, at }): Message => ({ t: "HOMEUPD", from: nameOf(at), to: home, e })),
  ]
}

/** A journal entry is the client and the number of its call. */
function entriesOf(body: ModelBody): Uint8Array[] {
  if (body === "lost") throw new Error("a lost body cannot be stored")
  return body.flatMap(([effects], client) => Array.from({ length: effects }, (_, i) => Uint8Array.of(client, i + 1)))
}

function bodyOf(entries: readonly Uint8Array[], calls: readonly number[]): ModelBody {
  return calls.map((_, client) => {
    const own = entries.filter((entry) => entry[0] === client)
    return [own.length, lastOf(entries, client)] as const
  })
}

function lastOf(entries: readonly Uint8Array[], client: number): number {
  return entries.reduce((last, [c, seq]) => (c === client ? Math.max(last, seq as number) : last), 0)
}

function hashOf(entries: readonly Uint8Array[], before = ""): string {
  return entries.reduce((h, entry) => `${h}${entry.join(".")};`, before)
}
