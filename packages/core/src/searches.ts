import { SojournError } from "@sojourn/protocol"
import type { Ask, HandInput, Pull } from "./handoff.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { versionOf } from "./migrate.ts"
import type { Clock, Undo } from "./ports.ts"
import { pullMessage } from "./pull-message.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"

/**
 * The questions that are out: whom `handoff.ts` decided to ask for an actor, said as a PULL.
 *
 * Each question has `askMsMax` (then `silence`: another is asked), a search as a whole `locateMsMax` (then it has failed). Both begin anew
 * with every part of the answer that comes, so that a large body is not given up while it moves. A PULL may be repeated at will.
 */
export interface SearchPorts {
  readonly pop: string
  readonly clock: Clock
  readonly limits: Limits
  readonly slots: Slots
  send(pop: string, message: MeshMessage): boolean
  input(slot: Slot, input: HandInput): void
}

export class Searches {
  readonly #o: SearchPorts

  constructor(ports: SearchPorts) {
    this.#o = ports
  }

  ask(slot: Slot, ask: Ask, via: string | undefined): void {
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
    this.#send(slot)
  }

  /** A part of what is asked for came: the rest has its time again. */
  extend(slot: Slot): void {
    if (!slot.search) return
    slot.search.undo()
    slot.search.undo = this.#searchTimer(slot)
    this.#awaitAnswer(slot)
  }

  end(slot: Slot): void {
    slot.askTimer?.()
    slot.askTimer = undefined
    slot.search?.undo()
    slot.search = undefined
  }

  /** A link came up: what is asked of that POP may have been lost with the one before. */
  linkUp(pop: string): void {
    for (const slot of this.#o.slots.all()) if (slot.search?.ask.pop === pop) this.#send(slot)
  }

  #awaitAnswer(slot: Slot): void {
    const { clock, limits } = this.#o
    const nonce = slot.search?.ask.nonce
    slot.askTimer?.()
    slot.askTimer = clock.after(limits.askMsMax, () => {
      if (nonce !== undefined) this.#o.input(slot, { type: "silence", nonce })
    })
  }

  #searchTimer(slot: Slot): Undo {
    const { clock, limits } = this.#o
    return clock.after(limits.locateMsMax, () => {
      const error = new SojournError(
        "POP_UNREACHABLE",
        `${slot.id} was not reached within limits.locateMsMax (${limits.locateMsMax} ms)`,
      )
      this.#o.input(slot, { type: "failed", err: error.toWire() })
    })
  }

  #send(slot: Slot): void {
    if (!slot.search) return
    const { ask, via } = slot.search
    const { nonce, session, relay, hops } = ask
    const epoch = Math.max(0, ask.epoch)
    const version = versionOf(slot.def)
    const pull: Pull = { origin: this.#o.pop, nonce, session, epoch, hops, relay, via, have: ask.have, version }
    this.#o.send(ask.pop, pullMessage(slot.id, pull))
  }
}
