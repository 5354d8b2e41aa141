import { SojournError, type WireError } from "@sojourn/protocol"
import { Activation, type Attached } from "./activation.ts"
import type { App } from "./actor.ts"
import { AlarmClock } from "./alarm-clock.ts"
import { Beliefs } from "./beliefs.ts"
import { Borders } from "./borders.ts"
import { Doubts } from "./doubts.ts"
import { HostAttach, waitingFramesMax, type AttachRequest, type SessionFrame } from "./attach.ts"
import { Failures } from "./failures.ts"
import type { ActorPorts } from "./handles.ts"
import { restState, step, type Ask, type HandEffect, type HandInput, type Pull } from "./handoff.ts"
import { assertWhole, readAhead, readBody, readNeeds, type Loaded } from "./journal.ts"
import type { Limits } from "./limits.ts"
import { packBody, unpackBody } from "./mesh-codec.ts"
import type { Blob, MeshMessage } from "./mesh-messages.ts"
import { versionOf } from "./migrate.ts"
import type { Chance, Clock, EventSink, Primitives, Undo } from "./ports.ts"
import { pullMessage, pullOf } from "./pull-message.ts"
import { Offers, type MoveDone } from "./offers.ts"
import { Residents } from "./residents.ts"
import { Relays } from "./relays.ts"
import { Resend } from "./resend.ts"
import { created, decidePull, type Cut, type Granted, type HomeRole, type OwnershipRecord } from "./record.ts"
import { needsOf, type Residency } from "./residency.ts"
import { emptyBody, type Body, type Compacted, type Grant, type PullAnswer, type Store } from "./store.ts"
import type { Precopy, Slot } from "./slot.ts"
import { Slots } from "./slots.ts"
import type { Tickets } from "./tickets.ts"
import { Transfers } from "./transfers.ts"

/**
 * The host role of a node: it keeps a slot for each actor that something is going on with, performs the effects of `handoff.ts` on store,
 * mesh and activation, and feeds back what came of them. It decides nothing about ownership itself.
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
  /** A write is durable; the first turn in it ended `waitedMs` before. */
  wrote(waitedMs: number): void
  /** Lowest round trip of late, ms. */
  rtt(pop: string): number | undefined
}

export class Host {
  readonly #o: HostOptions
  readonly #slots: Slots
  readonly #failures: Failures
  readonly #borders: Borders
  readonly #residents: Residents
  readonly #beliefs: Beliefs
  readonly #relays: Relays
  readonly #grants: Resend
  readonly #doubts: Doubts
  readonly #announcements: Resend
  readonly #offers: Offers
  readonly #transfers: Transfers
  readonly #alarms: AlarmClock
  #stopped = false
  #leaving = false
  /** Peers that are about to close. */
  readonly #leavers = new Set<string>()

  constructor(options: HostOptions) {
    this.#o = options
    const { clock, limits } = options
    this.#slots = new Slots(options)
    this.#failures = new Failures(options.chance, options.events)
    this.#borders = new Borders(options.pop, options.regions)
    this.#residents = new Residents(clock, limits, (slot, why) => {
      slot.sleepsFor = why
      this.#input(slot, { type: "sleep" })
    })
    this.#beliefs = new Beliefs(options.pop, (pop) => options.pops.has(pop))
    this.#grants = new Resend(clock, limits, (actor, { to }) => {
      this.#regrant(actor, to)
    })
    this.#doubts = new Doubts(clock, limits, (actor) => this.#wasSealed(actor))
    this.#relays = new Relays({
      limits,
      tickets: options.tickets,
      send: (pop, message) => options.send(pop, message),
      attach: (request) => this.attach(request),
      receive: (att, frame) => {
        this.receive(att, frame)
      },
      leave: (att) => {
        this.leave(att)
      },
      end: (att, error) => {
        const slot = this.#slots.get(att.request.actor)
        if (slot) this.#endAttach(slot, att, error)
      },
    })
    this.#offers = new Offers(clock, limits, (actor, to) => {
      options.send(to, { t: "OFFER", actor, e: this.#slots.get(actor)?.activation?.epoch ?? 0 })
    })
    this.#transfers = new Transfers({
      clock,
      limits,
      primitives: options.primitives,
      events: options.events,
      send: (pop, message, body) => options.send(pop, message, body),
      progressed: (actor) => {
        const slot = this.#slots.get(actor)
        if (slot?.search) this.#extend(slot)
      },
      again: async (actor, pop) => {
        const stored = await options.store.load(actor)
        return stored?.record.k === "GRANTED" && stored.record.to === pop ? packBody(stored.body).bytes : undefined
      },
    })
    this.#alarms = new AlarmClock({
      store: options.store,
      clock,
      limits,
      wake: (actor) => {
        this.#wake(actor)
      },
      failed: (error) => {
        options.events({ type: "store.failed", error })
      },
    })
    this.#announcements = new Resend(clock, limits, (actor, { to, e }) => {
      options.send(to, { t: "HOMEUPD", actor, e })
    })
  }

  /** Finds the grants that were never confirmed, and begins to send them again. */
  async start(): Promise<void> {
    let after: string | undefined
    for (;;) {
      const page = await this.#o.store.list({ k: "GRANTED", limit: 1_000, ...(after === undefined ? {} : { after }) })
      for (const { actor, record } of page)
        if (record.k === "GRANTED") this.#grants.add(actor, { to: record.to, e: record.e })
      after = page[page.length - 1]?.actor
      if (page.length < 1_000 || after === undefined) break
    }
    // It may have been stopped while it read.
    if (this.#stopped) return
    this.#residents.start()
    this.#alarms.start()
  }

  /** Activations in memory. */
  get residents(): number {
    return this.#residents.size
  }

  /** See `Slots.homeOf`. */
  homeOf(actor: string): string {
    return this.#slots.homeOf(actor)
  }

  /** See `Slots.homesChanged`. */
  homesChanged(): void {
    this.#slots.homesChanged()
  }

  // ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Throws UNKNOWN_ACTOR, BAD_KEY or RESIDENCY_DENIED; everything later comes as a frame. */
  attach(request: AttachRequest): HostAttach {
    const slot = this.#slots.open(request.actor)
    const { residency } = slot.def
    // Known here without asking the owner, who would refuse it all the same.
    if (typeof residency === "object") {
      try {
        this.#borders.assertMayRelay(slot, residency, this.#o.pop)
      } catch (error) {
        this.#slots.giveBack(slot)
        throw error
      }
    }
    const att = new HostAttach(request)
    const before = slot.attached.get(att.sid)
    // Not silently: a relay that was opened late may be the older of the two, and then it is the living client that is told to
    // attach again. Whoever has really left hears nothing.
    if (before) {
      if (before.status === "local") slot.activation?.detach(before)
      before.end(new SojournError("SLEPT", "another attach has taken the session over; attach again"))
      this.#leave(slot, before, true)
    }
    slot.attached.set(att.sid, att)
    this.#need(slot, att)
    return att
  }

  receive(att: HostAttach, frame: SessionFrame): void {
    const slot = this.#slots.get(att.request.actor)
    if (!slot || att.status === "ended" || att.status === "refused") return
    // Also where no activation hears it: the client counts on having said it, and says it once.
    if (frame.t === "ack") att.acked = Math.max(att.acked, frame.c)
    if (att.status === "relayed") {
      this.#relays.forward(att, frame)
      return
    }
    if (att.status === "local" && this.#open(slot)) {
      this.#feed(slot, att, frame)
      return
    }
    if (frame.t === "ack") return
    if (att.queue.length >= waitingFramesMax) {
      this.#endAttach(
        slot,
        att,
        new SojournError("MAILBOX_FULL", `${att.queue.length} frames wait for ${slot.id}`, { retryAfterMs: 200 }),
      )
      return
    }
    att.queue.push(frame)
    if (att.status === "local") this.#need(slot, att)
  }

  /** The client detached or its socket is gone. */
  leave(att: HostAttach): void {
    const slot = this.#slots.get(att.request.actor)
    if (slot) this.#leave(slot, att, false)
  }

  /** A valid ticket came with an upgrade: bring the actor here while the client is still shaking hands. Nothing is released by it. */
  early(actor: string, ticket: { readonly pop: string; readonly epoch: number; readonly session: string }): void {
    const slot = this.#slots.open(actor)
    if (slot.state.phase.at !== "rest") return
    this.#input(slot, {
      type: "need",
      want: {
        relay: false,
        session: ticket.session,
        ticket: { pop: ticket.pop, epoch: ticket.epoch },
        hint: undefined,
      },
    })
  }

  #wake(actor: string): void {
    try {
      const slot = this.#slots.open(actor)
      if (slot.state.phase.at === "resident") slot.activation?.ring()
      else this.#input(slot, { type: "wake" })
    } catch (error) {
      // A class that is set up here no more. The alarm stays.
      this.#event("alarm.failed", actor, { error })
    }
  }

  #need(slot: Slot, att: HostAttach): void {
    const { ticket, hint, stay, localOnly } = att.request
    this.#input(slot, {
      type: "need",
      want: {
        relay: stay || localOnly,
        session: att.sid,
        ticket: ticket && { pop: ticket.pop, epoch: ticket.epoch },
        hint,
      },
    })
  }

  #leave(slot: Slot, att: HostAttach, replaced: boolean): void {
    this.#relays.close(att)
    if (att.status === "local") slot.activation?.detach(att)
    att.endWith(undefined)
    if (slot.attached.get(att.sid) === att) slot.attached.delete(att.sid)
    if (!replaced) this.#slots.giveBack(slot)
  }

  #endAttach(slot: Slot, att: HostAttach, error: SojournError): void {
    if (att.status === "local") slot.activation?.detach(att)
    att.end(error)
    this.#leave(slot, att, false)
  }

  #open(slot: Slot): boolean {
    const { phase } = slot.state
    return slot.activation !== undefined && (phase.at === "resident" || (phase.at === "installing" && phase.activate))
  }

  #feed(slot: Slot, att: HostAttach, frame: SessionFrame): void {
    const { activation } = slot
    if (!activation) return
    try {
      if (frame.t === "call") activation.call(att, frame)
      else if (frame.t === "query") activation.query(att, frame)
      else activation.acknowledge(att, frame.c, frame.r)
    } catch (error) {
      this.#endAttach(slot, att, this.#failures.masked(slot.id, error))
    }
    if (!att.open) this.#leave(slot, att, true)
  }

  /** Lets everyone who waits into the activation. */
  #admit(slot: Slot): void {
    const { activation } = slot
    if (!activation) return
    for (const att of [...slot.attached.values()]) {
      if (att.status === "waiting") {
        att.status = "local"
        try {
          this.#borders.assertMayRelay(slot, activation.needs.residency, att.request.relayedBy ?? this.#o.pop)
          activation.attach(att, { ...att.request.body, acked: att.acked }, att.request.ticket, att.request.seen)
        } catch (error) {
          // A refusal is a read: until the activation is proved to hold the owner's state, it may be the activation that is wrong
          // (a grant that came late, another process's actor).
          const named = this.#failures.masked(slot.id, error)
          att.status = "refused"
          activation.refuse(() => {
            if (named.code === "HISTORY_LOST") this.#event("history.lost", slot.id, { error: named })
            this.#endAttach(slot, att, named)
          })
          continue
        }
        if (!att.open) this.#leave(slot, att, true)
      } else if (att.status !== "local" || att.queue.length === 0) continue
      else att.queued = 0
      const queue = att.queue
      att.queue = []
      for (const frame of queue) this.#feed(slot, att, frame)
    }
  }

  // ── hand-off: inputs and effects ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Inputs of one actor are taken one after another: an effect that feeds back at once waits its turn. */
  #input(slot: Slot, input: HandInput): void {
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

  /** An invariant of this code does not hold: this actor's activation is dropped, not the node. The store's record decides what is next. */
  #abandon(slot: Slot, input: HandInput, error: unknown): void {
    this.#event("invariant.broken", slot.id, { error, phase: slot.state.phase.at, input: input.type })
    this.#endActivation(slot)
    slot.state = restState
    slot.incoming = undefined
    const told = new SojournError("INVARIANT", `${slot.id} was dropped; the server's log says why`, {
      retryAfterMs: 500,
    })
    for (const att of [...slot.attached.values()]) this.#endAttach(slot, att, told)
  }

  #step(slot: Slot, input: HandInput): void {
    const { pop, pops, limits, chance } = this.#o
    const { state, effects } = step(slot.state, input, {
      self: pop,
      home: slot.home,
      hopsMax: limits.hopsMax,
      belief: this.#belief(slot.id),
      nonce: chance.id(),
      known: (id) => pops.has(id),
      linked: (id) => this.#o.linked(id),
      needsWho: typeof slot.def.residency === "function",
      declines: (pull) =>
        slot.activation !== undefined &&
        (!this.#borders.mayGo(slot.activation.needs, pull) || slot.activation.working || this.#inUse(slot, pull)),
      precopies: (pull) => this.#precopies(slot, pull),
    })
    slot.state = state
    for (const effect of effects) this.#perform(slot, effect)
  }

  /** By others than who asks for it, so that it stays. */
  #inUse({ id, activation }: Slot, pull: Pull): boolean {
    if (this.#leaving || this.#offers.to(id) === pull.origin) return false
    return activation?.busyBesides(pull.session, this.#o.limits.followQuietMs) ?? false
  }

  #belief(actor: string): { readonly pop: string; readonly epoch: number } | undefined {
    const belief = this.#beliefs.get(actor)
    return belief && this.#o.pops.has(belief.pop) ? belief : undefined
  }

  #endSearch(slot: Slot): void {
    slot.askTimer?.()
    slot.askTimer = undefined
    slot.search?.undo()
    slot.search = undefined
    if (slot.base?.staged) this.#unstage(slot.id)
    slot.base = undefined
  }

  #perform(slot: Slot, effect: HandEffect): void {
    const { store, send, pop } = this.#o
    const home = this.#slots.homeRole(slot)
    const failed = (cause: unknown): void => {
      this.#input(slot, { type: "failed", err: this.#failures.ofStore(slot.id, cause).toWire() })
    }
    switch (effect.type) {
      case "peek":
        store.peek(slot.id).then((record) => {
          this.#input(slot, { type: "record", record })
        }, failed)
        return
      case "claim":
        this.#claim(slot, home, effect.fresh, failed)
        return
      case "ask":
        this.#ask(slot, effect.ask, effect.via)
        return
      case "install":
        this.#install(slot, home, effect.activate, failed)
        return
      case "admit":
        this.#admit(slot)
        return
      case "drain":
        this.#drain(slot, effect.sleep)
        return
      case "precopy":
        this.#precopy(slot, effect.pull)
        return
      case "reopen":
        slot.activation?.reopen()
        return
      case "seal": {
        if (slot.activation?.working) {
          // The turn that the drain waited for has left work to do.
          this.#input(slot, { type: "kept", e: slot.activation.epoch, err: undefined })
          return
        }
        const kept = (error: SojournError): void => {
          this.#event("actor.stayed", slot.id, { to: effect.pull.origin, error })
          this.#offers.fail(slot.id, error)
          this.#input(slot, { type: "kept", e: slot.activation?.epoch, err: error.toWire() })
        }
        // Where the copy that went ahead is still the stored snapshot, what came after it is all that travels.
        const ahead = this.#aheadOf(slot, effect.pull)
        let compacted: Compacted | undefined
        try {
          if (!ahead) compacted = slot.activation?.compacted()
        } catch (error) {
          kept(this.#failures.masked(slot.id, error))
          return
        }
        this.#pull(slot, effect.pull, compacted, ahead).then(
          (answer) => {
            if (answer.kind === "too-large") {
              kept(tooLarge(slot.id, answer.bytes + (ahead?.bytes ?? 0), this.#o.limits))
              return
            }
            if (answer.kind === "grant") slot.sealed = { ...answer, base: ahead?.id }
            else if (slot.activation) {
              // Another process of this POP had taken the actor and given it away.
              this.#endActivation(slot)
              this.#endLocal(slot, new SojournError("FENCED"))
            }
            this.#input(slot, { type: "sealed", answer: answer.kind === "grant" ? { kind: "grant" } : answer })
          },
          (cause: unknown) => {
            const error = this.#failures.ofStore(slot.id, cause)
            if (error.outcome !== "not-executed") this.#doubts.add(slot.id)
            this.#endActivation(slot)
            this.#endLocal(slot, error)
            failed(error)
          },
        )
        return
      }
      case "answer":
        slot.answering++
        this.#pull(slot, effect.pull).then(
          (answer) => {
            slot.answering--
            if (answer.kind === "too-large")
              this.#tellRefused(slot, effect.pull, tooLarge(slot.id, answer.bytes, this.#o.limits).toWire())
            else if (answer.kind === "grant") {
              // It was here after all, asleep, while something sent this POP to look for it elsewhere: as after any seal.
              if (slot.activation) this.#sendGrant(slot.id, answer, effect.pull)
              else {
                slot.sealed = { ...answer, base: undefined }
                this.#granted(slot, effect.pull)
              }
            } else if (answer.kind === "declined") this.#tellRelay(slot, effect.pull, answer.e)
            else this.#input(slot, { type: "pointed", pull: effect.pull, answer })
            this.#slots.giveBack(slot)
          },
          (cause: unknown) => {
            slot.answering--
            const error = this.#failures.ofStore(slot.id, cause)
            if (error.outcome !== "not-executed") this.#doubts.add(slot.id)
            this.#tellRefused(slot, effect.pull, error.toWire())
            this.#slots.giveBack(slot)
          },
        )
        return
      case "grant":
        this.#granted(slot, effect.pull)
        return
      case "sleep":
        this.#endActivation(slot)
        this.#event("actor.slept", slot.id)
        this.#alarms.slept(slot.id)
        return
      case "confirm":
        send(effect.to, { t: "CONFIRM", actor: slot.id, e: effect.e })
        return
      case "announce":
        if (slot.home !== pop && effect.e > 0) {
          this.#announcements.add(slot.id, { to: slot.home, e: effect.e })
          send(slot.home, { t: "HOMEUPD", actor: slot.id, e: effect.e })
        }
        return
      case "regrant":
        this.#regrant(slot.id, undefined)
        return
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
        this.#tellRelay(slot, effect.pull, effect.e)
        return
      case "tellRefused":
        this.#tellRefused(slot, effect.pull, effect.err)
        return
      case "relay":
        this.#relay(slot, effect.to, effect.asked)
        return
      case "fail": {
        const error = effect.err
          ? SojournError.fromWire(effect.err)
          : new SojournError(effect.code, `${slot.id}: ${effect.message}`, { retryAfterMs: 250 })
        this.#event("actor.unreached", slot.id, { error })
        // What was heard led nowhere: the next search begins from the record again, so wrong advice heals itself.
        this.#beliefs.forget(slot.id)
        for (const att of [...slot.attached.values()])
          if (att.status === "waiting" || (att.status === "local" && att.queue.length > 0))
            this.#endAttach(slot, att, error)
        return
      }
      case "believe":
        this.#beliefs.hear(slot.id, effect.pop, effect.epoch)
    }
  }

  #tellRefused(slot: Slot, pull: Pull, err: WireError): void {
    this.#o.send(pull.origin, { t: "REFUSED", actor: slot.id, nonce: pull.nonce, err })
  }

  #tellRelay(slot: Slot, pull: Pull, e: number): void {
    const { origin, nonce, hops, version } = pull
    this.#o.send(origin, { t: "RELAY_ME", actor: slot.id, nonce, e, hops })
    if (pull.relay) return
    if (slot.activation?.working && this.#borders.mayGo(slot.activation.needs, pull)) {
      if (!this.#inUse(slot, pull)) slot.owed = pull
      return
    }
    // It was offered the actor and may not hold it: nothing else makes the owner decline its own offer.
    if (this.#offers.to(slot.id) !== origin) return
    const code = version < versionOf(slot.def) ? "SCHEMA_NEWER" : "RESIDENCY_DENIED"
    this.#offers.fail(slot.id, new SojournError(code, `${slot.id} may not go to POP ${origin}, and stays`))
  }

  // ── borders ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Executes a PULL in the store, unless what is stored may not go to its origin: then nothing is sealed. What an activation holds
   * has been asked before it drained. Needs never change once something is stored, so reading them first is no race.
   */
  async #pull(
    slot: Slot,
    pull: Pull,
    compacted?: Compacted,
    ahead?: Precopy,
  ): Promise<PullAnswer | { readonly kind: "declined"; readonly e: number }> {
    const { store, primitives, limits } = this.#o
    const home = this.#slots.homeRole(slot)
    const seal = (): Promise<PullAnswer> =>
      store.pull(slot.id, home, pull.origin, compacted, movableBytesMax(limits) - (ahead?.bytes ?? 0), ahead?.revision)
    const { residency } = slot.def
    if (slot.activation || (residency === undefined && pull.version >= versionOf(slot.def))) return seal()
    const stored = await store.load(slot.id)
    if (stored === undefined ? !home : stored.record.k !== "OWNED") {
      // Not ours when it was read. Nothing is asked of the store again: by now an install may have made it ours, and it would be sealed.
      const { answer } = decidePull(stored?.record, home, pull.origin)
      return answer.kind === "grant" ? { ...answer, body: stored?.body ?? emptyBody } : answer
    }
    const needs = needsOf(residency, stored && readNeeds(slot.id, stored.body, primitives))
    return needs && this.#borders.mayGo(needs, pull) ? seal() : { kind: "declined", e: stored?.record.e ?? 0 }
  }

  #claim(slot: Slot, home: HomeRole, fresh: boolean, failed: (cause: unknown) => void): void {
    if (!this.#residents.makeRoom()) {
      failed(
        new SojournError(
          "RESIDENTS_FULL",
          `${this.#residents.size} activations are resident and none is idle (limits.residentsMax)`,
          { retryAfterMs: 500 },
        ),
      )
      return
    }
    let residency: Residency | undefined
    if (fresh) {
      // Before anything is written: a creation that is refused leaves no record.
      try {
        residency = this.#borders.genesis(slot)
      } catch (error) {
        failed(this.#failures.masked(slot.id, error))
        return
      }
    }
    // The claim is the activation's first write, so that the first calls go along with it; until it is durable nothing leaves.
    this.#o.store.load(slot.id).then((stored) => {
      const record = stored?.record ?? created(home)
      if (record?.k !== "OWNED") {
        this.#input(slot, { type: "record", record })
        return
      }
      const { e, f, v, h, cuts } = record
      const seen = { record: stored?.record }
      try {
        this.#activate(slot, stored?.body ?? emptyBody, v, { epoch: e, fence: f, hash: h, home, cuts, residency, seen })
      } catch (error) {
        failed(this.#failures.masked(slot.id, error))
        return
      }
      this.#input(slot, { type: "claimed", e })
      slot.activation?.begin()
    }, failed)
  }

  #activate(
    slot: Slot,
    body: Body,
    revision: number,
    owner: {
      epoch: number
      fence: number
      hash: string
      home: HomeRole
      cuts?: readonly Cut[] | undefined
      grant?: Grant
      ahead?: Loaded | undefined
      seen?: { readonly record: OwnershipRecord | undefined }
      /** What `Borders.genesis` said, if it was asked. */
      residency?: Residency | undefined
    },
  ): Activation {
    const { store, clock, chance, primitives, limits, events, pop, pops } = this.#o
    const stored = readBody(slot.id, body, revision, primitives, owner.ahead)
    const loaded = stored.fresh ? { ...stored, residency: owner.residency ?? this.#borders.genesis(slot) } : stored
    this.#borders.assertInside(slot, loaded.residency)
    // Another process had the actor since: what it did would be missing from the outputs of whoever stayed attached, with no gap to see.
    if (slot.left !== undefined && slot.left !== revision) this.#endLocal(slot, hasGone(slot.id))
    const moveTo = (to: string): void => {
      if (to === pop) return
      this.move(slot.id, to).catch((error: unknown) => {
        this.#event("actor.stayed", slot.id, { to, error })
      })
    }
    const activation: Activation = new Activation(slot.id, slot.def, loaded, owner, {
      store,
      clock,
      chance,
      primitives,
      limits,
      events,
      pop,
      pops,
      actors: this.#o.actors,
      moveTo,
      workEnded: () => {
        const { owed } = slot
        slot.owed = undefined
        if (owed) moveTo(owed.origin)
      },
      attached: () => localOf(slot),
      ticket: (att, epoch, rev) => this.#ticket(slot.id, att, pop, epoch, rev),
      takeMoveReport: () => {
        const { report } = slot
        slot.report = undefined
        return report
      },
      claimed: (fence) => {
        this.#event("actor.activated", slot.id, { epoch: activation.epoch, fence, revision })
      },
      installed: (bytes, ms) => {
        const from = slot.incoming?.from ?? ""
        if (slot.report) slot.report = { ...slot.report, durableMs: ms }
        this.#event("actor.arrived", slot.id, { epoch: activation.epoch, from, bytes, ms })
        slot.incoming = undefined
        this.#input(slot, { type: "installed", e: activation.epoch })
      },
      alarmsChanged: (due) => {
        this.#alarms.changed(slot.id, due)
      },
      wrote: (waitedMs) => {
        this.#o.wrote(waitedMs)
      },
      installIgnored: () => {
        this.#endActivation(slot)
        this.#endLocal(slot, new SojournError("SLEPT", "the grant was a repetition; attach again"))
        slot.incoming = undefined
        this.#input(slot, { type: "ignored", e: owner.epoch })
      },
      dropped: (error) => {
        if (slot.activation !== activation) return
        this.#event("activation.dropped", slot.id, { error })
        this.#endActivation(slot)
        this.#endLocal(slot, error)
        this.#input(slot, { type: "dropped" })
      },
    })
    slot.activation = activation
    this.#residents.add(slot)
    return activation
  }

  #ticket(actor: string, att: Attached, pop: string, epoch: number, revision: number): string {
    const { tickets, clock, limits } = this.#o
    const exp = clock.now() + limits.ticketTtlMs
    return tickets.sign({ actor, pop, epoch, revision, principal: att.who.id, session: att.sid, exp })
  }

  #endActivation(slot: Slot): void {
    const { activation } = slot
    slot.activation = undefined
    slot.precopies.clear()
    slot.owed = undefined
    if (activation) slot.left = activation.revision
    this.#residents.remove(slot)
    activation?.drop(new SojournError("SLEPT"))
  }

  /** Everyone whose frames went to the activation must attach again: calls in its mailbox were not run. */
  #endLocal(slot: Slot, error: SojournError): void {
    for (const att of [...slot.attached.values()])
      if (att.status === "local" || att.status === "refused") this.#endAttach(slot, att, error)
  }

  #drain(slot: Slot, sleep: boolean): void {
    const { activation } = slot
    if (!activation) return
    activation
      .drain(sleep ? slot.sleepsFor : "moved")
      .then(() => (sleep ? activation.compactForSleep() : undefined))
      .then(
        () => {
          if (slot.activation === activation) this.#input(slot, { type: "drained" })
        },
        (cause: unknown) => {
          activation.drop(this.#failures.ofStore(slot.id, cause))
        },
      )
  }

  // ── finding and fetching ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #ask(slot: Slot, ask: Ask, via: string | undefined): void {
    const { clock } = this.#o
    const began = slot.search
    slot.search = began
      ? Object.assign(began, { ask, via })
      : {
          ask,
          via,
          first: ask.pop,
          firstNonce: ask.nonce,
          by: ask.by,
          startedAt: clock.mono(),
          early: slot.attached.size === 0,
          undo: this.#searchTimer(slot),
        }
    this.#awaitAnswer(slot)
    this.#sendAsk(slot)
  }

  #awaitAnswer(slot: Slot): void {
    const { clock, limits } = this.#o
    const nonce = slot.search?.ask.nonce
    slot.askTimer?.()
    slot.askTimer = clock.after(limits.askMsMax, () => {
      if (nonce !== undefined) this.#input(slot, { type: "silence", nonce })
    })
  }

  #searchTimer(slot: Slot): Undo {
    const { clock, limits } = this.#o
    return clock.after(limits.locateMsMax, () => {
      const error = new SojournError(
        "POP_UNREACHABLE",
        `${slot.id} was not reached within limits.locateMsMax (${limits.locateMsMax} ms)`,
      )
      this.#input(slot, { type: "failed", err: error.toWire() })
    })
  }

  /** A part of what is asked for came: the rest has its time again. */
  #extend(slot: Slot): void {
    if (!slot.search) return
    slot.search.undo()
    slot.search.undo = this.#searchTimer(slot)
    this.#awaitAnswer(slot)
  }

  /** Also when a link comes up: a PULL may be repeated at will. */
  #sendAsk(slot: Slot): void {
    if (!slot.search) return
    const { ask, via } = slot.search
    const { nonce, session, relay, hops } = ask
    const epoch = Math.max(0, ask.epoch)
    const version = versionOf(slot.def)
    const pull: Pull = { origin: this.#o.pop, nonce, session, epoch, hops, relay, via, have: ask.have, version }
    this.#o.send(ask.pop, pullMessage(slot.id, pull))
  }

  #install(slot: Slot, home: HomeRole, activate: boolean, failed: (cause: unknown) => void): void {
    const { incoming, search } = slot
    if (!incoming) return
    const { grant, from, hops, bytes } = incoming
    const { clock, pop, send } = this.#o
    slot.report = {
      from,
      to: pop,
      epoch: grant.e,
      by: search?.by ?? "pointer",
      hops: hops + 1,
      bytes,
      fetchMs: search ? clock.mono() - search.startedAt : 0,
      durableMs: 0,
      early: search?.early ?? false,
    }
    // Whoever was asked first and only had a pointer learns, as advice, where its pointer leads now.
    if (search && search.first !== from)
      send(search.first, {
        t: "MOVED",
        actor: slot.id,
        nonce: search.firstNonce,
        to: pop,
        e: grant.e,
        inTransit: false,
        hops: 0,
      })
    if (activate && this.#residents.makeRoom()) {
      try {
        const activation = this.#activate(slot, grant.body, grant.v, {
          epoch: grant.e,
          fence: 1,
          hash: grant.h,
          home,
          cuts: grant.cuts,
          grant,
          ahead: incoming.ahead,
        })
        this.#admit(slot)
        activation.begin()
        return
      } catch (error) {
        // The state is safe where it lands even if it cannot be activated here: install it as it is; activating it then says why not.
        this.#endActivation(slot)
        this.#event("activation.failed", slot.id, { error })
      }
    }
    try {
      assertWhole(slot.id, grant.body, grant.v, this.#o.primitives)
    } catch (error) {
      // Not what was sealed. Its owner keeps it until this POP confirms, and sends it again.
      slot.incoming = undefined
      this.#event("grant.refused", slot.id, { from, error })
      failed(
        new SojournError("POP_UNREACHABLE", `${slot.id} came damaged from POP ${from}, which sends it again`, {
          retryAfterMs: 250,
          cause: error,
        }),
      )
      return
    }
    const from0 = clock.mono()
    this.#o.store.install(slot.id, home, grant, undefined).then((answer) => {
      slot.incoming = undefined
      if (answer.kind === "ignored") {
        this.#input(slot, { type: "ignored", e: grant.e })
        return
      }
      this.#event("actor.arrived", slot.id, { epoch: grant.e, from, bytes, ms: clock.mono() - from0 })
      this.#alarms.changed(slot.id, answer.record.due)
      const { phase } = slot.state
      // Installed without an activation: settle at rest; whoever waits opens it from there.
      if (phase.at === "installing") slot.state = { ...slot.state, phase: { ...phase, activate: false } }
      this.#input(slot, { type: "installed", e: grant.e })
    }, failed)
  }

  #granted(slot: Slot, pull: Pull): void {
    const { sealed, activation } = slot
    slot.sealed = undefined
    if (!sealed) return
    this.#endActivation(slot)
    const { to, e, v } = sealed.record
    this.#beliefs.hear(slot.id, to, e)
    // Relays first: their calls are then there when the grant comes, and join its install's write.
    for (const att of [...slot.attached.values()]) this.#handOver(slot, att, activation, pull, sealed.record)
    this.#sendGrant(slot.id, sealed, pull, sealed.base)
    this.#offers.granted(slot.id, to, e)
    this.#event("actor.granted", slot.id, { to, epoch: e, revision: v })
  }

  /**
   * The actor goes to another POP while this session is attached here. This gateway stays the client's and relays from now on, from the
   * last frame sent and with the calls that were not run; the client keeps its attach. Who cannot be served so is told to attach again:
   * the traveller itself, whose old socket this is, and a session that another gateway relays to here (relays form no chains).
   */
  #handOver(
    slot: Slot,
    att: HostAttach,
    activation: Activation | undefined,
    pull: Pull,
    { to, e, v }: { to: string; e: number; v: number },
  ): void {
    const here = !att.request.localOnly && att.sid !== pull.session && this.#o.linked(to)
    if (here && att.status === "waiting") {
      this.#relays.open(att, to)
      return
    }
    // Where another process of this POP has committed since, this session has not seen all that the grant holds, and says so itself.
    if (here && att.status === "local" && activation?.revision === v && att.ready) {
      att.queue.unshift(...activation.unrun(att))
      this.#relays.open(att, to, v)
      return
    }
    att.endWith({ t: "moved", ch: att.ch, to, e, ticket: this.#ticket(slot.id, att, to, e, v) })
    this.#leave(slot, att, true)
  }

  /**
   * Moves an actor that this POP owns to another, with the clients that are attached to it. Resolves when it is durable there.
   *
   * Rejects with MOVED where this POP does not own it, RESIDENCY_DENIED or SCHEMA_NEWER where the other may not hold it, POP_UNREACHABLE
   * where it does not take it in time; it then stays, or arrives later if it was granted by then.
   */
  async move(actor: string, to: string): Promise<MoveDone> {
    const { pop, pops, store } = this.#o
    const slot = this.#slots.open(actor)
    if (!pops.has(to) || to === pop) {
      this.#slots.giveBack(slot)
      throw new RangeError(`${actor} can move to another configured POP, not to ${JSON.stringify(to)}`)
    }
    const record = await store.peek(actor).finally(() => {
      this.#slots.giveBack(slot)
    })
    if (this.#stopped) throw new SojournError("NOT_SERVING", `POP ${pop} is stopping`)
    if (record?.k !== "OWNED" && !(record === undefined && slot.home === pop))
      throw new SojournError("MOVED", `${actor} is not owned by POP ${pop}: ${JSON.stringify(record ?? null)}`)
    return this.#offers.begin(actor, to)
  }

  #sendGrant(actor: string, answer: { record: Omit<Granted, "k">; body: Body }, pull?: Pull, base?: string): void {
    const { to, e, v, h, cuts, due } = answer.record
    const { sizes, bytes } = packBody(answer.body)
    this.#grants.add(actor, { to, e })
    const head = { t: "GRANT" as const, actor, e, v, h, hops: pull?.hops ?? 0, sizes }
    const more = {
      ...(due === undefined ? {} : { due }),
      ...(pull ? { nonce: pull.nonce } : {}),
      ...(base === undefined ? {} : { base }),
      ...(cuts ? { cuts } : {}),
    }
    if (bytes.length <= this.#o.limits.inlineBytesMax) {
      this.#o.send(to, { ...head, ...more }, bytes)
      return
    }
    const blob = this.#transfers.blob(bytes)
    if (this.#o.send(to, { ...head, ...more, blob })) this.#transfers.push(actor, to, blob, bytes)
  }

  // ── copies ahead ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The copy that the origin of this PULL holds, if it is the snapshot that is stored here. */
  #aheadOf(slot: Slot, { have, origin }: Pull): Precopy | undefined {
    const { precopies, activation } = slot
    const precopy = precopies.get(origin)
    if (precopy?.id === undefined || precopy.id !== have) return undefined
    if (precopy.activation !== activation || activation.snapshotRevision !== precopy.revision) return undefined
    return precopy
  }

  #precopies(slot: Slot, pull: Pull): boolean {
    const { precopyBytesMin, precopyRoundsMax } = this.#o.limits
    const { activation } = slot
    if (!activation || activation.bodyBytes < precopyBytesMin || this.#aheadOf(slot, pull)) return false
    const precopy = slot.precopies.get(pull.origin)
    if (precopy?.activation === activation && precopy.rounds >= precopyRoundsMax) return false
    // Nobody but the traveller is here: there is no pause to keep short, and one trip is faster than two.
    for (const att of slot.attached.values()) if (att.open && att.sid !== pull.session) return true
    return this.#offers.to(slot.id) === pull.origin
  }

  #precopy(slot: Slot, pull: Pull): void {
    const { activation } = slot
    if (!activation) return
    const { precopies } = slot
    const known = precopies.get(pull.origin)
    const before = known?.activation === activation ? known : undefined
    // It is being written: the PULL's repetition asks for nothing new.
    if (before && before.id === undefined) return
    const { origin: to, nonce } = pull
    const announce = (bytes: Uint8Array, revision: number, rounds: number): void => {
      const blob = this.#transfers.blob(bytes)
      precopies.set(to, { activation, id: blob.id, revision, bytes: bytes.length, rounds })
      const { epoch } = activation
      if (this.#o.send(to, { t: "PRECOPY", actor: slot.id, nonce, e: epoch, v: revision, blob }))
        this.#transfers.push(slot.id, to, blob, bytes)
      this.#event("actor.copied-ahead", slot.id, { to, bytes: bytes.length, revision })
    }
    const rounds = (before?.rounds ?? 0) + 1
    precopies.set(to, { activation, id: undefined, revision: -1, bytes: 0, rounds })
    activation.snapshot().then(
      ({ bytes, revision }) => {
        if (slot.activation === activation) announce(bytes, revision, rounds)
      },
      () => {
        // The activation has ended, and whoever asked asks again.
        if (precopies.get(to)?.activation === activation) precopies.delete(to)
      },
    )
  }

  /** The copy that this POP asked for is on its way, ahead of the grant; from the owner, whoever was asked and forwarded. */
  #precopied(from: string, m: Extract<MeshMessage, { t: "PRECOPY" }>): void {
    const slot = this.#slots.get(m.actor)
    const waits = (): boolean => {
      const phase = slot?.state.phase
      return phase?.at === "asking" && phase.ask.nonce === m.nonce
    }
    if (!slot || !waits()) return
    this.#extend(slot)
    this.#transfers.expect(m.actor, from, m.blob, (bytes) => {
      if (!waits()) return
      const loaded = readAhead(m.actor, bytes, this.#o.primitives)
      const ready = (staged: boolean): void => {
        if (waits()) {
          slot.base = { id: m.blob.id, from, bytes, loaded, staged }
          this.#input(slot, { type: "precopied", nonce: m.nonce, from, have: m.blob.id })
        } else if (staged) this.#unstage(m.actor)
      }
      // On the disk before the pause begins; where it cannot be kept, the install writes it.
      this.#o.store.stage(m.actor, bytes, m.v).then(ready, (error: unknown) => {
        this.#failures.logged(m.actor)(error)
        ready(false)
      })
    })
  }

  #unstage(actor: string): void {
    this.#o.store.stage(actor, undefined, 0).catch(this.#failures.logged(actor))
  }

  /** A GRANT whose body comes in chunks: complete, it is as any other. */
  #expectGrant(from: string, m: Extract<MeshMessage, { t: "GRANT" }>, blob: Blob): void {
    this.#o.store.peek(m.actor).then((record) => {
      if (this.#stopped) return
      if (record !== undefined && record.e >= m.e) {
        // Installed before, and repeated since its CONFIRM was lost.
        this.#o.send(from, { t: "CONFIRM", actor: m.actor, e: m.e })
        return
      }
      const slot = this.#slots.get(m.actor)
      if (slot?.search) this.#extend(slot)
      try {
        this.#transfers.expect(m.actor, from, blob, (bytes) => {
          this.#grantCame(from, m, bytes)
        })
      } catch (error) {
        this.#event("mesh.refused", m.actor, { from, error })
      }
    }, this.#failures.logged(m.actor))
  }

  #grantCame(from: string, m: Extract<MeshMessage, { t: "GRANT" }>, bytes: Uint8Array): void {
    const slot = this.#slots.open(m.actor)
    const { at } = slot.state.phase
    if (at === "rest" || at === "asking") {
      const entries = unpackBody(m.sizes, bytes)
      const base = m.base === undefined ? undefined : slot.base
      if (m.base !== undefined && (base?.id !== m.base || base.from !== from)) {
        // What it builds on is gone here (a restart). The grant is repeated whole, to who has nothing.
        this.#slots.giveBack(slot)
        this.#o.send(from, {
          t: "PULL",
          actor: m.actor,
          nonce: this.#o.chance.id(),
          origin: this.#o.pop,
          epoch: 0,
          hops: 0,
          relay: false,
        })
        return
      }
      slot.base = undefined
      this.#transfers.forget(m.actor)
      const body = base ? { ...entries, snapshot: base.bytes } : entries
      const staged = base?.staged ? { staged: base.loaded.revision } : {}
      slot.incoming = {
        from,
        grant: {
          e: m.e,
          v: m.v,
          h: m.h,
          body,
          from,
          ...(m.cuts ? { cuts: m.cuts } : {}),
          ...(m.due === undefined ? {} : { due: m.due }),
          ...staged,
        },
        hops: m.hops,
        bytes: bytes.length,
        ahead: base?.loaded,
      }
    }
    this.#input(slot, { type: "grant", from, e: m.e })
  }

  /** Whether the actor is sealed by now; then its GRANT is said like any that was not confirmed. */
  async #wasSealed(actor: string): Promise<boolean> {
    try {
      const record = await this.#o.store.peek(actor)
      if (record?.k !== "GRANTED" || this.#stopped) return false
      this.#grants.add(actor, { to: record.to, e: record.e })
      const slot = this.#slots.get(actor)
      if (slot?.activation) {
        // One of a later epoch is the actor's that has come back.
        if (slot.activation.epoch < record.e)
          slot.activation.drop(new SojournError("FENCED", `${actor} was sealed by a write that landed late`))
      } else if (slot) this.#endLocal(slot, hasGone(actor))
      return true
    } catch (error) {
      this.#event("store.failed", actor, { error })
      return false
    }
  }

  /** Sends an unconfirmed GRANT again, if it still is one. */
  #regrant(actor: string, to: string | undefined): void {
    this.#o.store.load(actor).then(
      (stored) => {
        if (stored?.record.k === "GRANTED" && (to === undefined || stored.record.to === to))
          this.#sendGrant(actor, { record: stored.record, body: stored.body })
        else this.#grants.remove(actor)
      },
      (error: unknown) => {
        this.#event("store.failed", actor, { error })
      },
    )
  }

  // ── relays ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #relay(slot: Slot, to: string, asked: boolean): void {
    let again: HostAttach | undefined
    for (const att of [...slot.attached.values()]) {
      // It was served here until the actor slept, and nobody knew that it has gone since (a seal that landed late).
      if (att.status === "local") this.#endAttach(slot, att, hasGone(slot.id))
      if (att.status !== "waiting") continue
      if (att.request.localOnly) {
        this.#endAttach(slot, att, new SojournError("MOVED", `${slot.id} is owned by POP ${to}`))
        continue
      }
      // The search was for a relay; this client wants the actor here, and the owner has not been asked that yet.
      if (asked && !att.request.stay) {
        again = att
        continue
      }
      this.#relays.open(att, to)
    }
    if (again) this.#need(slot, again)
  }

  // ── mesh ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  message(from: string, m: MeshMessage, body: Uint8Array | undefined): void {
    if (this.#stopped) return
    try {
      this.#message(from, m, body)
    } catch (error) {
      // A malformed address or body of a peer: it concerns that message only.
      this.#event("mesh.refused", "actor" in m ? m.actor : undefined, { from, error })
    }
  }

  #message(from: string, m: MeshMessage, body: Uint8Array | undefined): void {
    const { store, send, pops, pop } = this.#o
    switch (m.t) {
      case "PULL": {
        if (!pops.has(m.origin) || m.origin === pop) return
        this.#input(this.#slots.open(m.actor), { type: "pull", pull: pullOf(m) })
        return
      }
      case "GRANT": {
        if (m.blob) this.#expectGrant(from, m, m.blob)
        else this.#grantCame(from, m, body ?? new Uint8Array(0))
        return
      }
      case "PRECOPY":
        this.#precopied(from, m)
        return
      case "CHUNK":
        this.#transfers.chunk(m.actor, m.blob, m.at, body ?? new Uint8Array(0))
        return
      case "FETCH":
        this.#transfers.fetch(from, m.actor, m.blob, m.missing)
        return
      case "MOVED": {
        const { nonce, to, e, inTransit, hops } = m
        this.#input(this.#slots.open(m.actor), { type: "moved", nonce, from, to, e, inTransit, hops })
        return
      }
      case "NONE":
        this.#input(this.#slots.open(m.actor), { type: "none", nonce: m.nonce })
        return
      case "RELAY_ME":
        this.#input(this.#slots.open(m.actor), { type: "relayMe", nonce: m.nonce, from, e: m.e, hops: m.hops })
        return
      case "LEAVING":
        this.#leavers.add(from)
        this.#offers.linkDown(from)
        return
      case "OFFER": {
        if (this.#leaving) return
        const slot = this.#slots.open(m.actor)
        // Nothing of it in memory for long: an offer that does not fit is said again by its owner.
        this.#input(slot, { type: "offered", from, e: m.e })
        return
      }
      case "REFUSED":
        this.#input(this.#slots.open(m.actor), { type: "refused", nonce: m.nonce, err: m.err })
        return
      case "CONFIRM":
        store.confirm(m.actor, from, m.e).then(({ acked }) => {
          if (!acked) return
          this.#grants.confirmed(m.actor, from, m.e)
          this.#offers.confirmed(m.actor, from, m.e)
          this.#transfers.sent(m.actor)
          send(from, { t: "CONFIRM_ACK", actor: m.actor, e: m.e })
        }, this.#failures.logged(m.actor))
        return
      case "CONFIRM_ACK":
        return
      case "HOMEUPD":
        store.learn(m.actor, from, m.e).then(({ e }) => {
          this.#grants.confirmed(m.actor, from, m.e)
          if (e >= m.e) send(from, { t: "HOMEUPD_ACK", actor: m.actor, e: m.e })
        }, this.#failures.logged(m.actor))
        return
      case "HOMEUPD_ACK":
        this.#announcements.confirmed(m.actor, from, m.e)
        return
      case "FORGET":
      case "FORGET_ACK":
        // The node's, not an actor's: `forget.ts` has them.
        return
      case "RELAY_OPEN":
        this.#relays.opened(from, m)
        return
      case "FRAME":
        this.#relays.frame(from, m)
        return
      case "RELAY_CLOSE":
        this.#relays.closed(from, m)
    }
  }

  link(pop: string, up: boolean): void {
    if (up) {
      this.#leavers.delete(pop)
      if (this.#leaving) this.#o.send(pop, { t: "LEAVING" })
      for (const slot of this.#slots.all()) if (slot.search?.ask.pop === pop) this.#sendAsk(slot)
      this.#grants.hurry(pop)
      this.#announcements.hurry(pop)
      this.#offers.hurry(pop)
      this.#transfers.linkUp(pop)
      return
    }
    this.#relays.linkDown(pop)
    if (this.#leaving) this.#offers.linkDown(pop)
  }

  /** This POP is about to close: from now on whoever pulls an actor gets it, whoever else uses it. */
  letGo(): void {
    this.#leaving = true
    for (const pop of this.#o.pops) if (pop !== this.#o.pop) this.#o.send(pop, { t: "LEAVING" })
  }

  /** Hands every actor that is in use to another POP, as far as one can be reached. What stays is put to sleep by `stop`. */
  async handOff(): Promise<void> {
    const waiting = this.#residents.all().filter((slot) => {
      for (const att of slot.attached.values()) if (att.open) return true
      return slot.activation?.busyBesides(undefined, this.#o.limits.followQuietMs) ?? false
    })
    const worker = async (): Promise<void> => {
      for (let slot = waiting.pop(); slot && !this.#stopped; slot = waiting.pop()) {
        const to = this.#successor(slot)
        if (to === undefined) continue
        await this.move(slot.id, to).catch((error: unknown) => {
          this.#event("actor.stayed", slot.id, { to, error })
        })
      }
    }
    await Promise.all(Array.from({ length: handOffsAtOnce }, worker))
  }

  /** Where an actor goes when this POP closes: to the POP most of its sessions come through, else home, else to the nearest. */
  #successor(slot: Slot): string | undefined {
    const { pops, pop } = this.#o
    const through = new Map<string, number>()
    for (const { request } of slot.attached.values())
      if (request.relayedBy !== undefined) through.set(request.relayedBy, (through.get(request.relayedBy) ?? 0) + 1)
    let best: string | undefined
    let bestRank: readonly [number, number, number] = [0, 0, 0]
    for (const one of pops) {
      if (one === pop || this.#leavers.has(one) || !this.#o.linked(one)) continue
      if (!this.#borders.inside(slot.activation?.needs.residency, one)) continue
      const rank = [-(through.get(one) ?? 0), one === slot.home ? 0 : 1, this.#o.rtt(one) ?? Infinity] as const
      if (best === undefined || before(rank, bestRank)) {
        best = one
        bestRank = rank
      }
    }
    return best
  }

  /** Resolves when no activation here has work under way. */
  async worked(): Promise<void> {
    await Promise.all(this.#residents.all().map(async ({ activation }) => activation?.worked()))
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
          this.#event("store.failed", id, { error })
        }
      }),
    )
    this.#grants.stop()
    this.#doubts.stop()
    this.#announcements.stop()
    this.#offers.stop()
    this.#transfers.stop()
    for (const slot of [...this.#slots.all()]) {
      for (const att of [...slot.attached.values()])
        this.#endAttach(slot, att, new SojournError("NOT_SERVING", `POP ${this.#o.pop} is stopping`))
      this.#endActivation(slot)
      this.#endSearch(slot)
    }
    this.#slots.clear()
  }

  #event(type: string, actor: string | undefined, fields: Record<string, unknown> = {}): void {
    this.#o.events({ type, ...(actor === undefined ? {} : { actor }), ...fields })
  }
}

/** Moves under way at once while a POP closes. */
const handOffsAtOnce = 32

function before(a: readonly number[], b: readonly number[]): boolean {
  for (const [i, x] of a.entries()) if (x !== b[i]) return x < (b[i] ?? 0)
  return false
}

function* localOf(slot: Slot): Generator<Attached> {
  for (const att of slot.attached.values()) if (att.status === "local") yield att
}

/** The largest body that is moved: a state as large as it may be, with the journal and the outbox that may go along. */
function movableBytesMax({ snapshotBytesMax, tailBytesMax, journalBytesMax }: Limits): number {
  return snapshotBytesMax + tailBytesMax + journalBytesMax
}

function hasGone(actor: string): SojournError {
  return new SojournError("SLEPT", `${actor} has been elsewhere; attach again`)
}

function tooLarge(actor: string, bytes: number, { snapshotBytesMax }: Limits): SojournError {
  return new SojournError(
    "SNAPSHOT_TOO_LARGE",
    `${actor} is stored in ${bytes} bytes; limits.snapshotBytesMax is ${snapshotBytesMax}, so it stays where it is`,
    { details: { actor, bytes } },
  )
}
