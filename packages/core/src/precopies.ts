import type { Pull } from "./handoff.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Offers } from "./offers.ts"
import type { EventSink } from "./ports.ts"
import type { Precopy, Slot } from "./slot.ts"
import type { Transfers } from "./transfers.ts"

/**
 * Copies of a large actor that its owner sends ahead of the seal, while it serves on (docs/handoff.md, "Large bodies"): the pause of a move
 * then grows with what happened meanwhile, not with the state's size.
 *
 * A copy says nothing about ownership. It is good for a grant only if it still is the stored snapshot when the seal comes (`held`); else the
 * grant carries the whole body, or the asker pulls once more and gets a newer copy, `precopyRoundsMax` times.
 */
export interface PrecopyPorts {
  readonly limits: Limits
  readonly events: EventSink
  readonly offers: Offers
  readonly transfers: Transfers
  send(pop: string, message: MeshMessage): boolean
}

export class Precopies {
  readonly #o: PrecopyPorts

  constructor(ports: PrecopyPorts) {
    this.#o = ports
  }

  /** The copy that the origin of this PULL holds, if it is the snapshot that is stored here. */
  held(slot: Slot, { have, origin }: Pull): Precopy | undefined {
    const { precopies, activation } = slot
    const precopy = precopies.get(origin)
    if (precopy?.id === undefined || precopy.id !== have) return undefined
    if (precopy.activation !== activation || activation.snapshotRevision !== precopy.revision) return undefined
    return precopy
  }

  /** A copy should go ahead of the grant that this PULL asks for. */
  wanted(slot: Slot, pull: Pull): boolean {
    const { limits, offers } = this.#o
    const { activation } = slot
    if (!activation || activation.bodyBytes < limits.precopyBytesMin || this.held(slot, pull)) return false
    const precopy = slot.precopies.get(pull.origin)
    if (precopy?.activation === activation && precopy.rounds >= limits.precopyRoundsMax) return false
    // Nobody but the traveller is here: there is no pause to keep short, and one trip is faster than two.
    for (const att of slot.attached.values()) if (att.open && att.sid !== pull.session) return true
    return offers.to(slot.id) === pull.origin
  }

  make(slot: Slot, { origin: to, nonce }: Pull): void {
    const { transfers, send, events } = this.#o
    const { activation, precopies } = slot
    if (!activation) return
    const known = precopies.get(to)
    const before = known?.activation === activation ? known : undefined
    // It is being written: the PULL's repetition asks for nothing new.
    if (before && before.id === undefined) return
    const rounds = (before?.rounds ?? 0) + 1
    precopies.set(to, { activation, id: undefined, revision: -1, bytes: 0, rounds })
    activation.snapshot().then(
      ({ bytes, revision }) => {
        if (slot.activation !== activation) return
        const blob = transfers.blob(bytes)
        precopies.set(to, { activation, id: blob.id, revision, bytes: bytes.length, rounds })
        if (send(to, { t: "PRECOPY", actor: slot.id, nonce, e: activation.epoch, v: revision, blob }))
          transfers.push(slot.id, to, blob, bytes)
        events({ type: "actor.copied-ahead", actor: slot.id, to, bytes: bytes.length, revision })
      },
      () => {
        // The activation has ended, and whoever asked asks again.
        if (precopies.get(to)?.activation === activation) precopies.delete(to)
      },
    )
  }
}
