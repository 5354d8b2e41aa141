import { SojournError } from "@sojourn/protocol"
import { definitionOf, type App } from "./actor.ts"
import { homeOf, parseAddress } from "./address.ts"
import type { HomeRole } from "./record.ts"
import { homeWithin } from "./residency.ts"
import { isSpent, newSlot, type Slot } from "./slot.ts"

/**
 * The slots of a node: one for each actor that something is going on with, and what its home is.
 *
 * A slot is given back when nothing is resident, attached, waiting or asked. An attached session outlives activations: while the actor
 * sleeps its socket costs the socket and the slot, and its next call wakes the actor.
 */
export interface SlotPorts {
  readonly app: App<unknown>
  readonly pop: string
  readonly homes: readonly string[]
  /** Of every configured POP, the forgotten ones too. */
  readonly regions: ReadonlyMap<string, string>
  /** Who stands for that home now. */
  homeNow(home: string): { readonly pop: string; readonly role: HomeRole }
}

export class Slots {
  readonly #o: SlotPorts
  readonly #slots = new Map<string, Slot>()

  constructor(ports: SlotPorts) {
    this.#o = ports
  }

  get(actor: string): Slot | undefined {
    return this.#slots.get(actor)
  }

  /** Throws UNKNOWN_ACTOR, BAD_KEY or RESIDENCY_DENIED. */
  open(actor: string): Slot {
    const known = this.#slots.get(actor)
    if (known) return known
    const { name } = parseAddress(actor)
    const def = definitionOf(this.#o.app, name)
    if (!def)
      throw new SojournError("UNKNOWN_ACTOR", `no actor class ${JSON.stringify(name)} is set up at POP ${this.#o.pop}`)
    const slot = newSlot(actor, def, this.#o.homeNow(this.homeOf(actor)))
    this.#slots.set(actor, slot)
    return slot
  }

  giveBack(slot: Slot): void {
    if (!isSpent(slot) || this.#slots.get(slot.id) !== slot) return
    slot.search?.undo()
    slot.askTimer?.()
    this.#slots.delete(slot.id)
  }

  all(): Iterable<Slot> {
    return this.#slots.values()
  }

  clear(): void {
    this.#slots.clear()
  }

  /** The actor's home for ever, whoever stands for it now. Throws BAD_KEY or RESIDENCY_DENIED. */
  homeOf(actor: string): string {
    const { homes, regions, app } = this.#o
    const residency = definitionOf(app, parseAddress(actor).name)?.residency
    return typeof residency === "object"
      ? homeWithin(actor, homes, regions, residency)
      : homeOf(actor, homes, new Set(regions.keys()))
  }

  /** As what this POP stands in the place of the actor's home, if it does. */
  homeRole(slot: Slot): HomeRole {
    return slot.home === this.#o.pop && slot.homeRole
  }

  /** A POP was forgotten, or its heir has inherited: whoever waits looks again from who stands for it now. */
  homesChanged(): void {
    for (const slot of this.#slots.values()) {
      const { pop, role } = this.#o.homeNow(this.homeOf(slot.id))
      slot.home = pop
      slot.homeRole = role
    }
  }
}
