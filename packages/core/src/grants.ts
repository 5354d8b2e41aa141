import { SojournError } from "@sojourn/protocol"
import type { Activator } from "./activator.ts"
import { hasGone, type Attaches } from "./attaches.ts"
import type { Beliefs } from "./beliefs.ts"
import { Doubts } from "./doubts.ts"
import type { Failures } from "./failures.ts"
import type { Pull } from "./handoff.ts"
import type { Limits } from "./limits.ts"
import { packBody } from "./mesh-codec.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Offers } from "./offers.ts"
import type { Clock, EventSink } from "./ports.ts"
import type { Granted } from "./record.ts"
import { Resend, type Owed } from "./resend.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import type { Body, Store } from "./store.ts"
import type { Transfers } from "./transfers.ts"

/**
 * Actors that this POP has sealed for another, until that one confirms.
 *
 * The store's `GRANTED` and its body are what counts; nothing kept here is needed to be right. A GRANT is said when the seal is durable, and
 * again until CONFIRM (`resend.ts`): after a restart for every `GRANTED` that is found (`start`), and after a seal of unknown outcome as
 * soon as it shows (`doubts.ts`). Only a CONFIRM that the store took ends it. Its body is not read while there is no link to send it on.
 */
export interface GrantPorts {
  readonly store: Pick<Store, "list" | "load" | "peek" | "confirm">
  readonly clock: Clock
  readonly limits: Limits
  readonly events: EventSink
  readonly slots: Slots
  readonly beliefs: Beliefs
  readonly offers: Offers
  readonly transfers: Transfers
  readonly activator: Activator
  readonly attaches: Attaches
  readonly failures: Failures
  send(pop: string, message: MeshMessage, body?: Uint8Array): boolean
  linked(pop: string): boolean
  /** False: too much waits for that POP already. */
  room(pop: string): boolean
  stopped(): boolean
}

export class Grants {
  readonly #o: GrantPorts
  readonly #resend: Resend
  readonly #doubts: Doubts
  /** Whoever waits until what was given has arrived. */
  #waiting: (() => void)[] = []

  constructor(ports: GrantPorts) {
    this.#o = ports
    const { clock, limits, room } = ports
    const again = (actor: string, { to, e }: Owed): void => {
      this.repeat(actor, to, e)
      this.#look()
    }
    this.#resend = new Resend(clock, limits, again, room)
    this.#doubts = new Doubts(clock, limits, (actor) => this.#wasSealed(actor))
  }

  /** Finds the grants that were never confirmed, and begins to send them again. */
  async start(): Promise<void> {
    let after: string | undefined
    for (;;) {
      const page = await this.#o.store.list({ k: "GRANTED", limit: 1_000, ...(after === undefined ? {} : { after }) })
      for (const { actor, record } of page)
        if (record.k === "GRANTED") this.#resend.add(actor, { to: record.to, e: record.e })
      after = page[page.length - 1]?.actor
      if (page.length < 1_000 || after === undefined) return
    }
  }

  stop(): void {
    this.#resend.stop()
    this.#doubts.stop()
    this.#look()
  }

  linkUp(pop: string): void {
    this.#resend.hurry(pop)
  }

  linkDown(): void {
    this.#look()
  }

  /** That POP is given up: what it was granted goes on from here, or from another copy. */
  forget(pop: string): void {
    this.#resend.forget(pop)
    this.#look()
  }

  /** Resolves when each POP that there is a link to has confirmed what it was granted, but for what it has not confirmed for `moveMsMax`. */
  async delivered(): Promise<void> {
    if (this.#undelivered())
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
  }

  #undelivered(): boolean {
    const { limits, linked } = this.#o
    return this.#resend.owes(limits.moveMsMax, linked)
  }

  #look(): void {
    if (this.#waiting.length === 0 || this.#undelivered()) return
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** What the seal gave (`Slot.sealed`) goes to who pulled, and whoever is attached here goes along. */
  give(slot: Slot, pull: Pull): void {
    const { events, beliefs, offers, activator, attaches } = this.#o
    const { sealed, activation } = slot
    slot.sealed = undefined
    if (!sealed) return
    activator.end(slot)
    const { to, e, v } = sealed.record
    beliefs.hear(slot.id, to, e)
    // Relays first: their calls are then there when the grant comes, and join its install's write.
    attaches.handOver(slot, activation, pull, sealed.record)
    this.send(slot.id, sealed, pull, sealed.base)
    offers.granted(slot.id, to, e)
    events({ type: "actor.granted", actor: slot.id, to, epoch: e, revision: v })
  }

  /** `base`: the copy that is there already, and is not in the body. */
  send(actor: string, answer: { record: Omit<Granted, "k">; body: Body }, pull?: Pull, base?: string): void {
    const { limits, transfers, room, send } = this.#o
    const { to, e, v, h, cuts, due } = answer.record
    this.#resend.add(actor, { to, e })
    // It would cost the link, and all that waits on it: said when there is room.
    if (!room(to)) return
    const { sizes, bytes } = packBody(answer.body)
    const head = { t: "GRANT" as const, actor, e, v, h, hops: pull?.hops ?? 0, sizes }
    const more = {
      ...(due === undefined ? {} : { due }),
      ...(pull ? { nonce: pull.nonce } : {}),
      ...(base === undefined ? {} : { base }),
      ...(cuts ? { cuts } : {}),
    }
    if (bytes.length <= limits.inlineBytesMax) {
      send(to, { ...head, ...more }, bytes)
      return
    }
    const blob = transfers.blob(bytes)
    if (send(to, { ...head, ...more, blob })) transfers.push(actor, to, blob, bytes)
  }

  /** Sends an unconfirmed GRANT again, if it still is one; where there is no link, when there is one. */
  repeat(actor: string, to: string, e: number): void {
    const { store, failures, linked, room } = this.#o
    this.#resend.add(actor, { to, e })
    if (!linked(to) || !room(to)) return
    store.load(actor).then((stored) => {
      if (stored?.record.k === "GRANTED" && stored.record.to === to)
        this.send(actor, { record: stored.record, body: stored.body })
      else {
        this.#resend.remove(actor)
        this.#look()
      }
    }, failures.logged(actor))
  }

  /** The bytes that were announced to `to`; undefined: nothing is granted to it any more. */
  async bytes(actor: string, to: string): Promise<Uint8Array | undefined> {
    const { store } = this.#o
    // A body may be large, and who asks for it may ask amiss.
    const record = await store.peek(actor)
    if (record?.k !== "GRANTED" || record.to !== to) return undefined
    const stored = await store.load(actor)
    return stored?.record.k === "GRANTED" && stored.record.to === to ? packBody(stored.body).bytes : undefined
  }

  confirm(from: string, actor: string, e: number): void {
    const { store, failures, send } = this.#o
    store.confirm(actor, from, e).then(({ acked }) => {
      if (!acked) return
      this.arrived(from, actor, e)
      send(from, { t: "CONFIRM_ACK", actor, e })
    }, failures.logged(actor))
  }

  /** It is durable at `from`, which said so itself. */
  arrived(from: string, actor: string, e: number): void {
    const { offers, transfers } = this.#o
    this.#resend.confirmed(actor, from, e)
    offers.confirmed(actor, from, e)
    transfers.sent(actor)
    this.#look()
  }

  /** The outcome of a seal is not known. */
  doubt(actor: string): void {
    this.#doubts.add(actor)
  }

  /** Whether the actor is sealed by now; then its GRANT is said like any that was not confirmed. */
  async #wasSealed(actor: string): Promise<boolean> {
    const { store, events, slots, attaches, stopped } = this.#o
    try {
      const record = await store.peek(actor)
      if (record?.k !== "GRANTED" || stopped()) return false
      this.#resend.add(actor, { to: record.to, e: record.e })
      const slot = slots.get(actor)
      if (slot?.activation) {
        // One of a later epoch is the actor's that has come back.
        if (slot.activation.epoch < record.e)
          slot.activation.drop(new SojournError("FENCED", `${actor} was sealed by a write that landed late`))
      } else if (slot) attaches.endLocal(slot, hasGone(actor))
      return true
    } catch (error) {
      events({ type: "store.failed", actor, error })
      return false
    }
  }
}
