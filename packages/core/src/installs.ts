import { SojournError } from "@sojourn/protocol"
import type { Activator } from "./activator.ts"
import type { AlarmClock } from "./alarm-clock.ts"
import type { Attaches } from "./attaches.ts"
import type { HandInput } from "./handoff.ts"
import { assertWhole } from "./journal.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Clock, EventSink, Primitives } from "./ports.ts"
import type { HomeRole } from "./record.ts"
import type { Residents } from "./residents.ts"
import type { Incoming, Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import type { Store } from "./store.ts"

/**
 * The grant at hand (`Slot.incoming`) becomes the record of this POP.
 *
 * Where a client waits, an activation is made of it and the calls that wait run, before anything is durable: the install is that
 * activation's first write. Where nobody does, or it cannot be activated here, it is installed as it came: the state is safe where it lands.
 * Only what is damaged is not installed; its owner keeps it until this POP confirms, and sends it again.
 */
export interface InstallPorts {
  readonly store: Pick<Store, "install">
  readonly clock: Clock
  readonly primitives: Primitives
  readonly events: EventSink
  readonly pop: string
  readonly slots: Slots
  readonly residents: Residents
  readonly alarms: AlarmClock
  readonly attaches: Attaches
  readonly activator: Activator
  send(pop: string, message: MeshMessage): boolean
  input(slot: Slot, input: HandInput): void
  /** What was begun for this slot failed. */
  failed(slot: Slot, cause: unknown): void
}

export class Installs {
  readonly #o: InstallPorts

  constructor(ports: InstallPorts) {
    this.#o = ports
  }

  install(slot: Slot, activate: boolean): void {
    const { slots, residents } = this.#o
    const { incoming } = slot
    if (!incoming) return
    const home = slots.homeRole(slot)
    this.#arrived(slot, incoming)
    if (activate && residents.makeRoom() && this.#activated(slot, incoming, home)) return
    this.#asItCame(slot, incoming, home)
  }

  #arrived(slot: Slot, { grant, from, hops, bytes }: Incoming): void {
    const { clock, pop, send } = this.#o
    const { search } = slot
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
  }

  #activated(slot: Slot, { grant, ahead }: Incoming, home: HomeRole): boolean {
    const { events, attaches, activator } = this.#o
    const { e, h, v, cuts, body } = grant
    try {
      const activation = activator.activate(slot, body, v, { epoch: e, fence: 1, hash: h, home, cuts, grant, ahead })
      attaches.admit(slot)
      activation.begin()
      return true
    } catch (error) {
      // Activating it once it is installed says why not.
      activator.end(slot)
      events({ type: "activation.failed", actor: slot.id, error })
      return false
    }
  }

  #asItCame(slot: Slot, { grant, from, bytes }: Incoming, home: HomeRole): void {
    const { store, clock, primitives, events, alarms, input, failed } = this.#o
    try {
      assertWhole(slot.id, grant.body, grant.v, primitives)
    } catch (error) {
      slot.incoming = undefined
      events({ type: "grant.refused", actor: slot.id, from, error })
      failed(
        slot,
        new SojournError("POP_UNREACHABLE", `${slot.id} came damaged from POP ${from}, which sends it again`, {
          retryAfterMs: 250,
          cause: error,
        }),
      )
      return
    }
    const began = clock.mono()
    store.install(slot.id, home, grant, undefined).then(
      (answer) => {
        slot.incoming = undefined
        if (answer.kind === "ignored") {
          input(slot, { type: "ignored", e: grant.e })
          return
        }
        events({ type: "actor.arrived", actor: slot.id, epoch: grant.e, from, bytes, ms: clock.mono() - began })
        alarms.changed(slot.id, answer.record.due)
        const { phase } = slot.state
        // Installed without an activation: settle at rest; whoever waits opens it from there.
        if (phase.at === "installing") slot.state = { ...slot.state, phase: { ...phase, activate: false } }
        input(slot, { type: "installed", e: grant.e })
      },
      (cause: unknown) => {
        failed(slot, cause)
      },
    )
  }
}
