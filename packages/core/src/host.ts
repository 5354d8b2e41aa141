import { SojournError } from "@sojourn/protocol"
import { Activator } from "./activator.ts"
import type { App } from "./actor.ts"
import { AlarmClock } from "./alarm-clock.ts"
import { Announcements } from "./announcements.ts"
import { Arrivals } from "./arrivals.ts"
import type { AttachRequest, HostAttach, SessionFrame } from "./attach.ts"
import { Attaches } from "./attaches.ts"
import { Beliefs } from "./beliefs.ts"
import { Borders } from "./borders.ts"
import { Failures } from "./failures.ts"
import { Grants } from "./grants.ts"
import { restState, step, type HandEffect, type HandInput, type HandView } from "./handoff.ts"
import type { ActorPorts } from "./handles.ts"
import { Installs } from "./installs.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage, Principal } from "./mesh-messages.ts"
import { Moves } from "./moves.ts"
import { Offers, type MoveDone } from "./offers.ts"
import type { Chance, Clock, EventSink, Primitives } from "./ports.ts"
import { Precopies } from "./precopies.ts"
import { pullMessage, pullOf } from "./pull-message.ts"
import type { HomeRole } from "./record.ts"
import { Refusals } from "./refusals.ts"
import { Residents } from "./residents.ts"
import { Seals } from "./seals.ts"
import { Searches } from "./searches.ts"
import type { Slot } from "./slot.ts"
import { Slots } from "./slots.ts"
import type { Store } from "./store.ts"
import type { Tickets } from "./tickets.ts"
import { Transfers } from "./transfers.ts"

/**
 * The host role of a node: it feeds what happens to an actor here (a client's need, a peer's message, the outcome of an effect) to
 * `handoff.ts`, one input after another, and has the effects of each performed. It decides nothing about ownership itself.
 *
 * `#perform` says who performs what. An effect that takes time feeds back what came of it as another input; one that needs nothing but a
 * message is performed on the spot.
 *
 *   sessions and their frames      attaches.ts, relays.ts
 *   to find and fetch an actor     searches.ts, beliefs.ts, arrivals.ts, transfers.ts, installs.ts, announcements.ts
 *   to have it in memory           slots.ts, activator.ts, residents.ts, alarm-clock.ts
 *   to give it, or keep it         precopies.ts, seals.ts, grants.ts, refusals.ts
 *   to send it away from here      moves.ts, offers.ts
 *
 * A file over 400 lines, which holds one idea: the order of inputs, and the two tables by which messages come in and effects go out.
 */
export interface HostOptions {
  readonly app: App<unknown>
  readonly pop: string
  /** Every configured POP but the forgotten ones, this one included. */
  readonly pops: ReadonlySet<string>
  /** Of every configured POP, the forgotten ones too. */
  readonly regions: ReadonlyMap<string, string>
  readonly homes: readonly string[]
  /** Who stands for that home now. */
  homeNow(home: string): { readonly pop: string; readonly role: HomeRole }
  readonly store: Store
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  readonly events: EventSink
  readonly tickets: Tickets
  /** What turns call other actors through. */
  readonly actors: ActorPorts
  send(pop: string, message: MeshMessage, body?: Uint8Array): boolean
  linked(pop: string): boolean
  /** A body may be sent there. False: so much waits already that more of them could cost the link, and with it what waits. */
  room(pop: string): boolean
  /** A write is durable; the first turn in it ended `waitedMs` before. */
  wrote(waitedMs: number): void
  /** Lowest round trip of late, ms. */
  rtt(pop: string): number | undefined
}

export class Host {
  readonly #o: HostOptions
  readonly #slots: Slots
  readonly #failures: Failures
  readonly #residents: Residents
  readonly #alarms: AlarmClock
  readonly #beliefs: Beliefs
  readonly #attaches: Attaches
  readonly #offers: Offers
  readonly #moves: Moves
  readonly #transfers: Transfers
  readonly #searches: Searches
  readonly #arrivals: Arrivals
  readonly #activator: Activator
  readonly #installs: Installs
  readonly #precopies: Precopies
  readonly #refusals: Refusals
  readonly #grants: Grants
  readonly #seals: Seals
  readonly #announcements: Announcements
  #stopped = false
  /** What was under way when it stopped comes to nothing: the slots are gone. */
  #ended = false

  constructor(options: HostOptions) {
    this.#o = options
    const { pop, pops, regions, store, clock, chance, limits, events, send } = options
    const slots = (this.#slots = new Slots(options))
    const failures = (this.#failures = new Failures(chance, events))
    const borders = new Borders(pop, regions)
    // What the parts share. Each names of it what it uses, and no part knows this class.
    const shared = {
      ...options,
      slots,
      failures,
      borders,
      stopped: () => this.#stopped,
      input: (slot: Slot, input: HandInput) => {
        this.#input(slot, input)
      },
      failed: (slot: Slot, cause: unknown) => {
        this.#failed(slot, cause)
      },
    }
    const residents = (this.#residents = new Residents(clock, limits, (slot, why) => {
      slot.sleepsFor = why
      this.#input(slot, { type: "sleep" })
    }))
    const alarms = (this.#alarms = new AlarmClock({
      store,
      clock,
      limits,
      wake: (actor) => {
        this.#wake(actor)
      },
      failed: (error) => {
        events({ type: "store.failed", error })
      },
    }))
    const beliefs = (this.#beliefs = new Beliefs(pop, (id) => pops.has(id)))
    const attaches = (this.#attaches = new Attaches(shared))
    const offers = (this.#offers = new Offers(clock, limits, (actor, to) => {
      send(to, { t: "OFFER", actor, e: slots.get(actor)?.activation?.epoch ?? 0 })
    }))
    const moves = (this.#moves = new Moves({ ...shared, residents, offers }))
    const searches = (this.#searches = new Searches(shared))
    const transfers = (this.#transfers = new Transfers({
      ...options,
      progressed: (actor) => {
        const slot = slots.get(actor)
        if (slot?.search) searches.extend(slot)
      },
      again: (actor, to) => this.#grants.bytes(actor, to),
    }))
    this.#arrivals = new Arrivals({ ...shared, searches, transfers })
    const activator = (this.#activator = new Activator({ ...shared, residents, alarms, attaches, moves }))
    this.#installs = new Installs({ ...shared, residents, alarms, attaches, activator })
    const precopies = (this.#precopies = new Precopies({ ...shared, offers, transfers }))
    const refusals = (this.#refusals = new Refusals({ ...shared, offers, leaving: () => moves.leaving }))
    const grants = (this.#grants = new Grants({ ...shared, beliefs, offers, transfers, activator, attaches }))
    this.#seals = new Seals({ ...shared, offers, refusals, precopies, activator, attaches, grants })
    this.#announcements = new Announcements({ ...shared, grants })
  }

  async start(): Promise<void> {
    await this.#grants.start()
    // It may have been stopped while it read.
    if (this.#stopped) return
    this.#residents.start()
    this.#alarms.start()
  }

  /** Puts every actor to sleep, within `drainMsMax` and `deactivateMsMax`. Clients are the gateway's to send away first. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#alarms.stop()
    this.#residents.stop()
    await Promise.all(
      this.#residents.all().map(async ({ id, activation }) => {
        if (!activation) return
        try {
          await activation.drain("stopping")
          await activation.compactForSleep()
        } catch (error) {
          this.#o.events({ type: "store.failed", actor: id, error })
        }
      }),
    )
    await this.#seals.settled()
    this.#end(`POP ${this.#o.pop} is stopping`)
  }

  /** The store is not the one that counts: nothing of it is run, written or said any more. */
  halt(): void {
    this.#stopped = true
    this.#alarms.stop()
    this.#residents.stop()
    this.#end(`POP ${this.#o.pop} serves no more`)
  }

  #end(why: string): void {
    this.#grants.stop()
    this.#announcements.stop()
    this.#offers.stop()
    this.#transfers.stop()
    for (const slot of [...this.#slots.all()]) {
      this.#attaches.endAll(slot, new SojournError("NOT_SERVING", why))
      this.#activator.end(slot)
      this.#endSearch(slot)
    }
    this.#slots.clear()
    this.#ended = true
  }

  // ── for the node ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Activations in memory. */
  get residents(): number {
    return this.#residents.size
  }

  /** See `Slots.homeOf`. */
  homeOf(actor: string): string {
    return this.#slots.homeOf(actor)
  }

  /** That POP is given up (`forget.ts`), or its heir has inherited. */
  forget(pop: string): void {
    this.#grants.forget(pop)
    this.#announcements.forget(pop)
    this.#slots.homesChanged()
  }

  /** The actor goes on from the copy that is here: nothing else tells that its alarms are this POP's. */
  revived(): void {
    this.#alarms.more()
  }

  /** See `Moves.move`. */
  move(actor: string, to: string): Promise<MoveDone> {
    return this.#moves.move(actor, to)
  }

  /** See `Moves.letGo`. */
  letGo(): void {
    this.#moves.letGo()
  }

  /**
   * See `Moves.handOff`. Also waits for what others have pulled by themselves, as a client does that goes elsewhere: sealed here and not
   * there yet, it would be nowhere until this POP is back.
   */
  async handOff(): Promise<void> {
    await this.#moves.handOff()
    await this.#seals.settled()
    await this.#grants.delivered()
  }

  /** Resolves when no activation here has work under way. */
  async worked(): Promise<void> {
    await Promise.all(this.#residents.all().map(async ({ activation }) => activation?.worked()))
  }

  // ── for gateway and server code ──────────────────────────────────────────────────────────────────────────────────────────────

  /** See `Attaches.attach`. */
  attach(request: AttachRequest): HostAttach {
    return this.#attaches.attach(request)
  }

  receive(att: HostAttach, frame: SessionFrame): void {
    this.#attaches.receive(att, frame)
  }

  /** See `Attaches.renew`. */
  renew(att: HostAttach, who: Principal): void {
    this.#attaches.renew(att, who)
  }

  /** The client detached or its socket is gone. */
  leave(att: HostAttach): void {
    this.#attaches.leave(att)
  }

  /** A valid ticket came with an upgrade: bring the actor here while the client is still shaking hands. Nothing is released by it. */
  early(actor: string, ticket: { readonly pop: string; readonly epoch: number; readonly session: string }): void {
    const slot = this.#slots.open(actor)
    if (slot.state.phase.at !== "rest") return
    const { pop, epoch, session } = ticket
    const want = { relay: false, session, ticket: { pop, epoch }, hint: undefined }
    this.#input(slot, { type: "need", want })
  }

  #wake(actor: string): void {
    try {
      const slot = this.#slots.open(actor)
      if (slot.state.phase.at === "resident") slot.activation?.ring()
      else this.#input(slot, { type: "wake" })
    } catch (error) {
      // A class that is set up here no more. The alarm stays.
      this.#o.events({ type: "alarm.failed", actor, error })
    }
  }

  // ── hand-off: inputs and effects ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Inputs of one actor are taken one after another: an effect that feeds back at once waits its turn. */
  #input(slot: Slot, input: HandInput): void {
    if (this.#ended) return
    slot.inputs.push(input)
    if (slot.stepping) return
    slot.stepping = true
    for (let next = slot.inputs.shift(); next; next = slot.inputs.shift()) {
      try {
        this.#step(slot, next)
      } catch (error) {
        this.#abandon(slot, next, error)
      }
    }
    slot.stepping = false
    if (slot.state.phase.at !== "asking") this.#endSearch(slot)
    this.#slots.giveBack(slot)
  }

  #step(slot: Slot, input: HandInput): void {
    const { state, effects } = step(slot.state, input, this.#view(slot))
    slot.state = state
    for (const effect of effects) this.#perform(slot, effect)
  }

  #view(slot: Slot): HandView {
    const { pop, pops, limits, chance } = this.#o
    const belief = this.#beliefs.get(slot.id)
    return {
      self: pop,
      home: slot.home,
      hopsMax: limits.hopsMax,
      belief: belief && pops.has(belief.pop) ? belief : undefined,
      nonce: chance.id(),
      known: (id) => pops.has(id),
      linked: (id) => this.#o.linked(id),
      needsWho: typeof slot.def.residency === "function",
      declines: (pull) => this.#refusals.declines(slot, pull),
      precopies: (pull) => this.#precopies.wanted(slot, pull),
    }
  }

  /** An invariant of this code does not hold: this actor's activation is dropped, not the node. The store's record decides what is next. */
  #abandon(slot: Slot, input: HandInput, error: unknown): void {
    const { id, state } = slot
    this.#o.events({ type: "invariant.broken", actor: id, error, phase: state.phase.at, input: input.type })
    this.#activator.end(slot)
    slot.state = restState
    slot.incoming = undefined
    const told = new SojournError("INVARIANT", `${id} was dropped; the server's log says why`, { retryAfterMs: 500 })
    this.#attaches.endAll(slot, told)
  }

  #perform(slot: Slot, effect: HandEffect): void {
    const { store, send } = this.#o
    switch (effect.type) {
      case "peek":
        store.peek(slot.id).then(
          (record) => {
            this.#input(slot, { type: "record", record })
          },
          (cause: unknown) => {
            this.#failed(slot, cause)
          },
        )
        return
      case "claim":
        return this.#activator.claim(slot, effect.fresh)
      case "ask":
        return this.#searches.ask(slot, effect.ask, effect.via)
      case "install":
        return this.#installs.install(slot, effect.activate)
      case "admit":
        return this.#attaches.admit(slot)
      case "drain":
        return this.#activator.drain(slot, effect.sleep)
      case "precopy":
        return this.#precopies.make(slot, effect.pull)
      case "reopen":
        return slot.activation?.reopen()
      case "seal":
        return this.#seals.seal(slot, effect.pull)
      case "answer":
        return this.#seals.answer(slot, effect.pull)
      case "grant":
        return this.#grants.give(slot, effect.pull)
      case "sleep":
        return this.#activator.sleep(slot)
      case "confirm":
        send(effect.to, { t: "CONFIRM", actor: slot.id, e: effect.e })
        return
      case "announce":
        return this.#announcements.announce(slot, effect.e)
      case "regrant":
        return this.#grants.repeat(slot.id, effect.to, effect.e)
      case "forward":
        send(effect.to, pullMessage(slot.id, effect.pull))
        return
      case "tellMoved": {
        const { pull, to, e, inTransit } = effect
        send(pull.origin, { t: "MOVED", actor: slot.id, nonce: pull.nonce, to, e, inTransit, hops: pull.hops })
        return
      }
      case "tellNone":
        send(effect.pull.origin, { t: "NONE", actor: slot.id, nonce: effect.pull.nonce })
        return
      case "tellRelay":
        return this.#refusals.tellRelay(slot, effect.pull, effect.e)
      case "tellRefused":
        return this.#refusals.tellRefused(slot, effect.pull, effect.err)
      case "relay":
        return this.#attaches.relay(slot, effect.to, effect.asked)
      case "fail":
        return this.#unreached(slot, effect)
      case "believe":
        return this.#beliefs.hear(slot.id, effect.pop, effect.epoch)
    }
  }

  #failed(slot: Slot, cause: unknown): void {
    this.#input(slot, { type: "failed", err: this.#failures.ofStore(slot.id, cause).toWire() })
  }

  #unreached(slot: Slot, { err, code, message }: Extract<HandEffect, { type: "fail" }>): void {
    const error = err
      ? SojournError.fromWire(err)
      : new SojournError(code, `${slot.id}: ${message}`, { retryAfterMs: 250 })
    this.#o.events({ type: "actor.unreached", actor: slot.id, error })
    // What was heard led nowhere: the next search begins from the record again, so wrong advice heals itself.
    this.#beliefs.forget(slot.id)
    this.#attaches.endWaiting(slot, error)
  }

  #endSearch(slot: Slot): void {
    this.#searches.end(slot)
    this.#arrivals.dropBase(slot)
  }

  // ── mesh ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  message(from: string, m: MeshMessage, body: Uint8Array | undefined): void {
    if (this.#stopped) return
    try {
      this.#message(from, m, body)
    } catch (error) {
      // A malformed address or body of a peer: it concerns that message only.
      this.#o.events({ type: "mesh.refused", ...("actor" in m ? { actor: m.actor } : {}), from, error })
    }
  }

  #message(from: string, m: MeshMessage, body: Uint8Array | undefined): void {
    switch (m.t) {
      case "PULL":
        if (!this.#o.pops.has(m.origin) || m.origin === this.#o.pop) return
        return this.#input(this.#slots.open(m.actor), { type: "pull", pull: pullOf(m) })
      case "GRANT":
        return this.#arrivals.grant(from, m, body ?? new Uint8Array(0))
      case "PRECOPY":
        return this.#arrivals.precopy(from, m)
      case "CHUNK":
        return this.#transfers.chunk(m.actor, m.blob, m.at, body ?? new Uint8Array(0))
      case "FETCH":
        return this.#transfers.fetch(from, m.actor, m.blob, m.missing)
      case "MOVED": {
        const { nonce, to, e, inTransit, hops } = m
        return this.#input(this.#slots.open(m.actor), { type: "moved", nonce, from, to, e, inTransit, hops })
      }
      case "NONE":
        return this.#input(this.#slots.open(m.actor), { type: "none", nonce: m.nonce })
      case "RELAY_ME":
        return this.#input(this.#slots.open(m.actor), { type: "relayMe", nonce: m.nonce, from, e: m.e, hops: m.hops })
      case "REFUSED":
        return this.#input(this.#slots.open(m.actor), { type: "refused", nonce: m.nonce, err: m.err })
      case "LEAVING":
        return this.#moves.peerLeaves(from)
      case "OFFER":
        if (this.#moves.leaving) return
        // Nothing of it in memory for long: an offer that does not fit is said again by its owner.
        return this.#input(this.#slots.open(m.actor), { type: "offered", from, e: m.e })
      case "CONFIRM":
        return this.#grants.confirm(from, m.actor, m.e)
      case "CONFIRM_ACK":
        return
      case "HOMEUPD":
        return this.#announcements.learn(from, m.actor, m.e)
      case "HOMEUPD_ACK":
        return this.#announcements.confirmed(from, m.actor, m.e)
      case "FORGET":
      case "FORGET_ACK":
        // The node's, not an actor's: `forget.ts` has them.
        return
      case "RELAY_OPEN":
        return this.#attaches.relays.opened(from, m)
      case "FRAME":
        return this.#attaches.relays.frame(from, m)
      case "RELAY_CLOSE":
        return this.#attaches.relays.closed(from, m)
    }
  }

  link(pop: string, up: boolean): void {
    if (up) {
      this.#moves.linkUp(pop)
      this.#searches.linkUp(pop)
      this.#grants.linkUp(pop)
      this.#announcements.linkUp(pop)
      this.#offers.hurry(pop)
      this.#transfers.linkUp(pop)
      return
    }
    this.#attaches.relays.linkDown(pop)
    this.#moves.linkDown(pop)
    this.#grants.linkDown()
  }
}
