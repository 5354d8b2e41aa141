import { SojournError, type WireError } from "@sojourn/protocol"
import type { Borders } from "./borders.ts"
import type { Pull } from "./handoff.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { versionOf } from "./migrate.ts"
import type { Offers } from "./offers.ts"
import type { Slot } from "./slot.ts"

/**
 * An owner that keeps the actor, and what it then says to who has pulled: RELAY_ME where it serves the other's client from here, REFUSED
 * where something failed.
 *
 * It keeps the actor while others use it, while it has work under way, and where the asker may not hold it. The first two only save moves.
 * The third is a promise (`residency.ts`); of an actor that sleeps, nobody asks here, and `seals.ts` keeps it.
 */
export interface RefusalPorts {
  readonly limits: Limits
  readonly borders: Borders
  readonly offers: Offers
  send(pop: string, message: MeshMessage): boolean
  /** This POP is about to close: it keeps nothing for its users' sake. */
  leaving(): boolean
}

export class Refusals {
  readonly #o: RefusalPorts

  constructor(ports: RefusalPorts) {
    this.#o = ports
  }

  declines(slot: Slot, pull: Pull): boolean {
    const { activation } = slot
    return (
      activation !== undefined &&
      (!this.#o.borders.mayGo(activation.needs, pull) || activation.working || this.#inUse(slot, pull))
    )
  }

  /** By others than who asks for it, so that it stays. */
  #inUse({ id, activation }: Slot, pull: Pull): boolean {
    const { offers, limits, leaving } = this.#o
    if (leaving() || offers.to(id) === pull.origin) return false
    return activation?.busyBesides(pull.session, limits.followQuietMs) ?? false
  }

  tellRelay(slot: Slot, pull: Pull, e: number): void {
    const { send, borders, offers } = this.#o
    const { origin, nonce, hops, version } = pull
    send(origin, { t: "RELAY_ME", actor: slot.id, nonce, e, hops })
    if (pull.relay) return
    if (slot.activation?.working && borders.mayGo(slot.activation.needs, pull)) {
      if (!this.#inUse(slot, pull)) slot.owed = pull
      return
    }
    // It was offered the actor and may not hold it: nothing else makes the owner decline its own offer.
    if (offers.to(slot.id) !== origin) return
    const code = version < versionOf(slot.def) ? "SCHEMA_NEWER" : "RESIDENCY_DENIED"
    offers.fail(slot.id, new SojournError(code, `${slot.id} may not go to POP ${origin}, and stays`))
  }

  tellRefused(slot: Slot, pull: Pull, err: WireError): void {
    this.#o.send(pull.origin, { t: "REFUSED", actor: slot.id, nonce: pull.nonce, err })
  }
}
