import { SojournError } from "@sojourn/protocol"
import { Activation, type ActivationPorts } from "./activation.ts"
import type { Attached } from "./attach.ts"
import type { AlarmClock } from "./alarm-clock.ts"
import { hasGone, type Attaches } from "./attaches.ts"
import type { Borders } from "./borders.ts"
import type { Failures } from "./failures.ts"
import type { HandInput } from "./handoff.ts"
import type { ActorPorts } from "./handles.ts"
import { readBody, type Loaded } from "./journal.ts"
import type { Limits } from "./limits.ts"
import type { Moves } from "./moves.ts"
import type { Chance, Clock, EventSink, Primitives } from "./ports.ts"
import { created, type Cut, type HomeRole, type OwnershipRecord } from "./record.ts"
import type { Residency } from "./residency.ts"
import type { Residents } from "./residents.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import { emptyBody, type Body, type Grant, type Store } from "./store.ts"

/**
 * The activations of this node, from the claim of what is stored here to their end, and what each of them tells the host on the way.
 *
 * An activation exists before it owns anything: its first write is the claim (`claim`) or the install (`installs.ts`), and until that is
 * durable nothing leaves it. `begin` starts that write; whoever is let in before it goes along with it.
 *
 * It ends by `end` alone, whatever the reason: asleep, sealed, or dropped by itself. An activation that drops itself says so once
 * (`dropped`), and only the one that is the slot's is listened to.
 */
export interface ActivatorPorts {
  readonly store: Store
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  readonly events: EventSink
  readonly pop: string
  readonly pops: ReadonlySet<string>
  /** What turns call other actors through. */
  readonly actors: ActorPorts
  readonly slots: Slots
  readonly residents: Residents
  readonly alarms: AlarmClock
  readonly attaches: Attaches
  readonly borders: Borders
  readonly moves: Moves
  readonly failures: Failures
  /** A write is durable; the first turn in it ended `waitedMs` before. */
  wrote(waitedMs: number): void
  stopped(): boolean
  input(slot: Slot, input: HandInput): void
  /** What was begun for this slot failed. */
  failed(slot: Slot, cause: unknown): void
}

/** By what an activation owns its actor, or is to. */
export interface Ownership {
  readonly epoch: number
  readonly fence: number
  readonly hash: string
  readonly home: HomeRole
  readonly cuts?: readonly Cut[] | undefined
  /** It is to be installed. `ahead`: the snapshot in it, read before it came. */
  readonly grant?: Grant
  readonly ahead?: Loaded | undefined
  /** It is to be claimed: the record that was seen. */
  readonly seen?: { readonly record: OwnershipRecord | undefined }
  /** What `Borders.genesis` said, if it was asked. */
  readonly residency?: Residency | undefined
}

export class Activator {
  readonly #o: ActivatorPorts

  constructor(ports: ActivatorPorts) {
    this.#o = ports
  }

  /** `fresh`: nothing was ever committed of it. */
  claim(slot: Slot, fresh: boolean): void {
    const { residents, borders, failures, store, slots, stopped, input, failed } = this.#o
    const home = slots.homeRole(slot)
    if (!residents.makeRoom()) {
      failed(
        slot,
        new SojournError(
          "RESIDENTS_FULL",
          `${residents.size} activations are resident and none is idle (limits.residentsMax)`,
          { retryAfterMs: 500 },
        ),
      )
      return
    }
    let residency: Residency | undefined
    if (fresh) {
      // Before anything is written: a creation that is refused leaves no record.
      try {
        residency = borders.genesis(slot)
      } catch (error) {
        failed(slot, failures.masked(slot.id, error))
        return
      }
    }
    // The claim is the activation's first write, so that the first calls go along with it; until it is durable nothing leaves.
    store.load(slot.id).then(
      (stored) => {
        // Nobody would drain it, and its claim would fence whoever opens the store next.
        if (stopped()) return
        const record = stored?.record ?? created(home)
        if (record?.k !== "OWNED") {
          input(slot, { type: "record", record })
          return
        }
        const { e, f, v, h, cuts } = record
        const seen = { record: stored?.record }
        const owner = { epoch: e, fence: f, hash: h, home, cuts, residency, seen }
        try {
          this.activate(slot, stored?.body ?? emptyBody, v, owner)
        } catch (error) {
          failed(slot, failures.masked(slot.id, error))
          return
        }
        input(slot, { type: "claimed", e })
        slot.activation?.begin()
      },
      (cause: unknown) => {
        failed(slot, cause)
      },
    )
  }

  /** Throws where the body cannot be read or may not be here. The caller lets in who waits, then begins it. */
  activate(slot: Slot, body: Body, revision: number, owner: Ownership): Activation {
    const { primitives, borders, attaches, residents } = this.#o
    const stored = readBody(slot.id, body, revision, primitives, owner.ahead)
    const loaded = stored.fresh ? { ...stored, residency: owner.residency ?? borders.genesis(slot) } : stored
    borders.assertInside(slot, loaded.residency)
    // Another process had the actor since: what it did would be missing from the outputs of whoever stayed attached, with no gap to see.
    if (slot.left !== undefined && slot.left !== revision) attaches.endLocal(slot, hasGone(slot.id))
    const activation: Activation = new Activation(
      slot.id,
      slot.def,
      loaded,
      owner,
      this.#portsOf(slot, owner.epoch, revision, () => activation),
    )
    slot.activation = activation
    residents.add(slot)
    return activation
  }

  /** `self`: the activation that they are given to, whose epoch may grow with its claim. They keep nothing large: they live as long as it. */
  #portsOf(slot: Slot, epoch: number, revision: number, self: () => Activation): ActivationPorts {
    const { store, clock, chance, primitives, limits, events, pop, pops, actors, attaches, alarms, input } = this.#o
    return {
      store,
      clock,
      chance,
      primitives,
      limits,
      events,
      pop,
      pops,
      actors,
      moveTo: (to) => {
        this.#moveTo(slot, to)
      },
      workEnded: () => {
        const { owed } = slot
        slot.owed = undefined
        if (owed) this.#moveTo(slot, owed.origin)
      },
      attached: () => localOf(slot),
      ticket: (att, e, rev) => attaches.ticket(slot.id, att, pop, e, rev),
      takeMoveReport: () => {
        const { report } = slot
        slot.report = undefined
        return report
      },
      claimed: (fence) => {
        events({ type: "actor.activated", actor: slot.id, epoch: self().epoch, fence, revision })
      },
      installed: (bytes, ms) => {
        const from = slot.incoming?.from ?? ""
        const e = self().epoch
        if (slot.report) slot.report = { ...slot.report, durableMs: ms }
        events({ type: "actor.arrived", actor: slot.id, epoch: e, from, bytes, ms })
        slot.incoming = undefined
        input(slot, { type: "installed", e })
      },
      alarmsChanged: (due) => {
        alarms.changed(slot.id, due)
      },
      wrote: (waitedMs) => {
        this.#o.wrote(waitedMs)
      },
      installIgnored: () => {
        this.end(slot)
        attaches.endLocal(slot, new SojournError("SLEPT", "the grant was a repetition; attach again"))
        slot.incoming = undefined
        input(slot, { type: "ignored", e: epoch })
      },
      dropped: (error, told) => {
        if (slot.activation !== self()) return
        events({ type: "activation.dropped", actor: slot.id, error })
        this.end(slot)
        attaches.endLocal(slot, told)
        input(slot, { type: "dropped" })
      },
    }
  }

  #moveTo(slot: Slot, to: string): void {
    if (to !== this.#o.pop) void this.#o.moves.moveOrStay(slot.id, to)
  }

  drain(slot: Slot, sleep: boolean): void {
    const { failures, input } = this.#o
    const { activation } = slot
    if (!activation) return
    activation
      .drain(sleep ? slot.sleepsFor : "moved")
      .then(() => (sleep ? activation.compactForSleep() : undefined))
      .then(
        () => {
          if (slot.activation === activation) input(slot, { type: "drained" })
        },
        (cause: unknown) => {
          activation.drop(failures.ofStore(slot.id, cause))
        },
      )
  }

  sleep(slot: Slot): void {
    const { events, alarms } = this.#o
    this.end(slot)
    events({ type: "actor.slept", actor: slot.id })
    alarms.slept(slot.id)
  }

  /** Whoever is attached stays so: what becomes of them is the caller's to say. */
  end(slot: Slot): void {
    const { activation } = slot
    slot.activation = undefined
    slot.precopies.clear()
    slot.owed = undefined
    if (activation) slot.left = activation.revision
    this.#o.residents.remove(slot)
    activation?.drop(new SojournError("SLEPT"))
  }
}

function localOf(slot: Slot): readonly Attached[] {
  const local: Attached[] = []
  for (const att of slot.attached.values()) if (att.status === "local") local.push(att)
  return local
}
