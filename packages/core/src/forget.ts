import { SojournError } from "@sojourn/protocol"
import { actorKey } from "./address.ts"
import {
  forgetBatchMax,
  surveyed,
  type ForgetReply,
  type ForgetStep,
  type ReviveOrder,
  type Surveyed,
  type Told,
} from "./forget-steps.ts"
import type { ForgottenPops } from "./forgotten.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Chance, Clock, EventSink } from "./ports.ts"
import type { Forgotten, Store } from "./store.ts"

/**
 * Giving up a POP that an operator knows to be destroyed (docs/handoff.md, "Forgetting a destroyed POP"; modelled in `spec/forget-model.ts`).
 *
 *   refuse   every POP that is not forgotten refuses it durably; nothing else begins before all have said so
 *   survey   the records of all, actor by actor in the order of their ids. If the highest epoch points to a forgotten POP, the newest
 *            surviving copy is ordered to go on; a home that knows less than the survey is told. Repeated until it finds nothing to do
 *   inherit  the heir takes the role of home, then everybody else sends what is asked of that home to it
 *
 * The POP that is asked coordinates and keeps nothing: if it stops anywhere, whoever is asked again begins again. Every step may be repeated, come
 * late and overlap with those of another coordinator: an order names the record that it replaces, and the record decides.
 */
export interface ForgetReport {
  readonly pop: string
  readonly heir: string
  /** All was done. False: what is missing is in `pops` and `reason`; ask again. */
  readonly complete: boolean
  readonly reason?: string
  /** Each other POP, and whether it refuses the forgotten one now. */
  readonly pops: readonly { readonly pop: string; readonly refuses: boolean; readonly reason?: string }[]
  /** Actors that go on from a surviving copy, or empty. */
  readonly revived: number
  /** Pointers that homes were told of. */
  readonly told: number
  readonly inherited: boolean
}

export interface ForgettingOptions {
  readonly pop: string
  /** Every configured POP, this one included. */
  readonly pops: ReadonlySet<string>
  readonly store: Pick<Store, "forget" | "list" | "revive" | "learn">
  readonly forgotten: ForgottenPops
  readonly clock: Clock
  readonly chance: Chance
  readonly limits: Limits
  readonly events: EventSink
  send(pop: string, message: MeshMessage): boolean
  /** The last heir of the actor's home, or the home. */
  heirOf(actor: string): string
  /** Whether this POP is the actor's home now, so that an absent record owns it. */
  isHome(actor: string): boolean
  /** Has become durable here: links, searches and homes are to follow. */
  applied(pop: string): void
  /** That actor is this POP's now. */
  revived(): void
}

/** Surveys until one finds nothing to do: revive, tell, and what moved meanwhile. */
const surveysMax = 8

export class Forgetting {
  readonly #o: ForgettingOptions
  readonly #waiting = new Map<string, (reply: ForgetReply) => void>()
  #busy = false

  constructor(options: ForgettingOptions) {
    this.#o = options
  }

  message(from: string, m: Extract<MeshMessage, { t: "FORGET" | "FORGET_ACK" }>): void {
    if (m.t === "FORGET_ACK") {
      this.#waiting.get(m.nonce)?.(m.reply)
      return
    }
    void this.#perform(m.step).then((reply) => {
      this.#o.send(from, { t: "FORGET_ACK", nonce: m.nonce, reply })
    })
  }

  /** @throws SojournError BAD_CONFIG where the names make no sense; what could not be done is in the report. */
  async forget(pop: string, heir: string): Promise<ForgetReport> {
    const { pops, forgotten, pop: self } = this.#o
    const bad = (message: string): never => {
      throw new SojournError("BAD_CONFIG", message)
    }
    if (!pops.has(pop)) bad(`${JSON.stringify(pop)} is no configured POP`)
    if (pop === self) bad(`POP ${pop} cannot forget itself: ask another POP`)
    if (!pops.has(heir) || heir === pop || forgotten.has(heir))
      bad(`the heir must be a configured POP that is not forgotten itself; got ${JSON.stringify(heir)}`)
    const known = forgotten.get(pop)
    if (known && known.heir !== heir) bad(`POP ${pop} was forgotten before, with the heir ${known.heir}; name that one`)
    if (this.#busy) throw new SojournError("RATE_LIMITED", "this POP is forgetting another one; ask again")
    this.#busy = true
    try {
      return await this.#run(pop, heir)
    } finally {
      this.#busy = false
    }
  }

  async #run(pop: string, heir: string): Promise<ForgetReport> {
    const inherited = this.#o.forgotten.get(pop)?.inherited ?? false
    const first = await this.#refuse(pop, { heir, inherited })
    const report = { pop, heir, pops: first, revived: 0, told: 0, inherited }
    const missing = first.filter(({ refuses }) => !refuses)
    if (missing.length > 0)
      return {
        ...report,
        complete: false,
        reason: `nothing was revived: ${missing.map((one) => one.pop).join(", ")} must refuse ${pop} first. Start it, or forget it too if it is destroyed`,
      }
    let { revived, told } = report
    try {
      for (let survey = 1; ; survey++) {
        const done = await this.#survey()
        revived += done.revived
        told += done.told
        if (done.orders === 0) {
          // Its heir might create anew what lies here.
          if (done.homeless)
            throw new Error(
              `nothing became of ${done.homeless.actor}, and ${heir} has not taken over: ${reasonOf(done.homeless.error)}`,
            )
          break
        }
        if (survey === surveysMax) throw new Error(`${surveysMax} surveys each found something to do; ask again`)
      }
      // The heir before all others: they ask it from then on.
      const others = this.#live().filter((one) => one !== heir)
      const failed: string[] = []
      for (const one of [heir, ...others]) {
        const reply = await this.#ask(one, { k: "refuse", pop, heir, inherited: true })
        if (reply.k === "refuse" && reply.inherited) continue
        failed.push(one)
        if (one === heir) break
      }
      if (failed.length > 0) throw new Error(`${failed.join(", ")} did not take over or learn the new home; ask again`)
      return { ...report, revived, told, inherited: true, complete: true }
    } catch (error) {
      const reason = reasonOf(error)
      return { ...report, revived, told, complete: false, reason }
    }
  }

  #live(): string[] {
    return [...this.#o.pops].filter((one) => !this.#o.forgotten.has(one))
  }

  async #refuse(pop: string, told: Forgotten): Promise<ForgetReport["pops"]> {
    // Here first: the list of who is asked follows from it.
    await this.#ask(this.#o.pop, { k: "refuse", pop, ...told })
    const steps = this.#o.forgotten.names().map((name) => {
      const known = this.#o.forgotten.get(name) as Forgotten
      return { k: "refuse" as const, pop: name, ...known }
    })
    return Promise.all(
      this.#live().map(async (one) => {
        // Every forgotten one, not only this: a POP that was down when an earlier one was forgotten hears of it now.
        for (const step of steps) {
          const reply = await this.#ask(one, step)
          if (reply.k === "failed") return { pop: one, refuses: false, reason: reply.reason }
          if (reply.k !== "refuse" || reply.heir !== step.heir)
            return { pop: one, refuses: false, reason: `it knows another heir of ${step.pop}` }
        }
        return { pop: one, refuses: true }
      }),
    )
  }

  /** One pass over all actors. `orders`: how many things it found to do; `homeless`: the first one that nothing can be said of here. */
  async #survey(): Promise<{ orders: number; revived: number; told: number; homeless: Homeless | undefined }> {
    const cursors = this.#live().map((pop) => new Cursor(pop, (step) => this.#must(pop, step)))
    const revives = new Map<string, ReviveOrder[]>()
    const tells = new Map<string, Told[]>()
    let homeless: Homeless | undefined
    let orders = 0
    let revived = 0
    let told = 0
    const flush = async (min: number): Promise<void> => {
      for (const [pop, batch] of revives)
        if (batch.length >= min) {
          revives.delete(pop)
          const reply = await this.#must(pop, { k: "revive", orders: batch })
          if (reply.k === "revive") revived += reply.revived
        }
      for (const [pop, batch] of tells)
        if (batch.length >= min) {
          tells.delete(pop)
          await this.#must(pop, { k: "tell", pointers: batch })
          told += batch.length
        }
    }
    for (;;) {
      for (const cursor of cursors) await cursor.fill()
      const actor = cursors.reduce<string | undefined>((least, { head }) => {
        return head && (least === undefined || isBefore(head.actor, least)) ? head.actor : least
      }, undefined)
      if (actor === undefined) break
      const records = cursors.flatMap((cursor) => {
        const record = cursor.take(actor)
        return record ? [{ pop: cursor.pop, record }] : []
      })
      let home: string
      try {
        home = this.#o.heirOf(actor)
      } catch (error) {
        // Its key names a POP that is not configured any more, or its class has other borders now: no reason to leave all others where they are.
        homeless ??= { actor, error }
        continue
      }
      const todo = conclude(records, home, (pop) => this.#o.forgotten.has(pop))
      if (!todo) continue
      orders++
      const { at, revive, tell } = todo
      if (revive) push(revives, at, { actor, ...revive })
      else push(tells, at, { actor, ...tell })
      await flush(forgetBatchMax)
    }
    await flush(1)
    return { orders, revived, told, homeless }
  }

  async #must(pop: string, step: ForgetStep): Promise<ForgetReply> {
    const reply = await this.#ask(pop, step)
    if (reply.k === "failed") throw new Error(`POP ${pop}: ${reply.reason}`)
    return reply
  }

  /** Repeated until it is answered: a message may be lost. */
  #ask(pop: string, step: ForgetStep): Promise<ForgetReply> {
    const { pop: self, clock, chance, limits } = this.#o
    if (pop === self) return this.#perform(step)
    const nonce = chance.id()
    return new Promise((resolve) => {
      let repeat: (() => void) | undefined
      const settle = (reply: ForgetReply): void => {
        this.#waiting.delete(nonce)
        repeat?.()
        expire()
        resolve(reply)
      }
      const expire = clock.after(limits.forgetStepMsMax, () => {
        settle({ k: "failed", reason: `no answer within limits.forgetStepMsMax (${limits.forgetStepMsMax} ms)` })
      })
      const say = (): void => {
        this.#o.send(pop, { t: "FORGET", nonce, step })
        repeat = clock.after(limits.resendMs, say)
      }
      this.#waiting.set(nonce, settle)
      say()
    })
  }

  async #perform(step: ForgetStep): Promise<ForgetReply> {
    try {
      return await this.#take(step)
    } catch (error) {
      this.#o.events({ type: "forget.failed", code: "STORE_UNAVAILABLE", step: step.k, error })
      return { k: "failed", reason: "its store failed; its log says why" }
    }
  }

  async #take(step: ForgetStep): Promise<ForgetReply> {
    const { store, forgotten, pops, pop: self, events } = this.#o
    switch (step.k) {
      case "refuse": {
        const { pop, heir, inherited } = step
        if (pop === self || !pops.has(pop) || !pops.has(heir))
          return { k: "failed", reason: `${pop} or its heir ${heir} is not among its peers` }
        if (!forgotten.mayInherit(heir, pop))
          return {
            k: "failed",
            reason: `${heir} cannot be the heir of ${pop}: it was forgotten itself, and ${pop} stands for it`,
          }
        const known = await store.forget(pop, { heir, inherited })
        forgotten.set(pop, known)
        events({ type: "pop.forgotten", pop, ...known })
        this.#o.applied(pop)
        return { k: "refuse", ...known }
      }
      case "survey": {
        const page = await store.list({
          limit: forgetBatchMax,
          ...(step.after === undefined ? {} : { after: step.after }),
        })
        return { k: "survey", records: page.map(surveyed), done: page.length < forgetBatchMax }
      }
      case "revive": {
        let revived = 0
        for (const { actor, seen, e } of step.orders) {
          const done = await store.revive(actor, seen, e)
          if (!done.revived) continue
          revived++
          // Also where the order came again.
          events({ type: "actor.revived", actor, epoch: e, from: seen?.k ?? "nothing" })
          this.#o.revived()
        }
        return { k: "revive", revived }
      }
      case "tell":
        for (const { actor, to, e } of step.pointers) await store.learn(actor, to, e, !this.#o.isHome(actor))
        return { k: "tell" }
    }
  }
}

interface Todo {
  readonly at: string
  readonly revive?: Omit<ReviveOrder, "actor">
  readonly tell?: Omit<Told, "actor">
}

/** What is to be done about one actor, whose records at all survivors these are; at least one. Pure: `conclude` of the model. */
export function conclude(
  records: readonly { readonly pop: string; readonly record: Surveyed }[],
  home: string,
  isForgotten: (pop: string) => boolean,
): (Todo & ({ readonly revive: object } | { readonly tell: object; readonly revive?: never })) | undefined {
  const top = records.reduce((best, one) => (one.record.e > best.record.e ? one : best))
  const standing = records.find(({ pop }) => pop === home)?.record
  const { k, e, to = top.pop } = top.record
  if (k !== "OWNED" && isForgotten(to)) {
    const copy = records
      .filter(({ record }) => record.k === "GRANTED")
      .reduce<(typeof records)[number] | undefined>((a, b) => (a && a.record.e >= b.record.e ? a : b), undefined)
    const from = copy?.record ?? standing
    const seen = from ? { seen: { k: from.k, e: from.e } } : {}
    // Two above: the forgotten one may have sealed `e + 1`, and signed tickets for it.
    return { at: copy?.pop ?? home, revive: { ...seen, e: e + 2 } }
  }
  // Only what is installed: a pointer past a grant that is under way would make the home ignore the grant, or drop its own copy.
  const owner = k === "GRANTED" ? { to: top.pop, e: e - 1 } : { to, e }
  if (owner.to === home || (standing?.e ?? -1) >= owner.e) return undefined
  return { at: home, tell: owner }
}

/** An actor that has no home with the configuration and the code of this POP. */
interface Homeless {
  readonly actor: string
  readonly error: unknown
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A POP's records, page by page. */
class Cursor {
  readonly pop: string
  readonly #ask: (step: ForgetStep) => Promise<ForgetReply>
  #page: readonly Surveyed[] = []
  #at = 0
  #after: string | undefined
  #done = false

  constructor(pop: string, ask: (step: ForgetStep) => Promise<ForgetReply>) {
    this.pop = pop
    this.#ask = ask
  }

  get head(): Surveyed | undefined {
    return this.#page[this.#at]
  }

  async fill(): Promise<void> {
    if (this.head || this.#done) return
    const after = this.#after
    const reply = await this.#ask({ k: "survey", ...(after === undefined ? {} : { after }) })
    if (reply.k !== "survey") throw new Error(`POP ${this.pop} answered a survey by ${reply.k}`)
    this.#page = reply.records
    this.#at = 0
    this.#after = reply.records.at(-1)?.actor
    this.#done = reply.done
  }

  take(actor: string): Surveyed | undefined {
    const { head } = this
    if (head?.actor !== actor) return undefined
    this.#at++
    return head
  }
}

function push<T>(batches: Map<string, T[]>, pop: string, one: T): void {
  const batch = batches.get(pop)
  if (batch) batch.push(one)
  else batches.set(pop, [one])
}

/** In the order in which stores list. */
function isBefore(a: string, b: string): boolean {
  const [left, right] = [actorKey(a), actorKey(b)]
  for (let i = 0; i < left.length && i < right.length; i++)
    if (left[i] !== right[i]) return (left[i] as number) < (right[i] as number)
  return left.length < right.length
}
