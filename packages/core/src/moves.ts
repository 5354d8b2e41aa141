import { SojournError } from "@sojourn/protocol"
import type { Borders } from "./borders.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { MoveDone, Offers } from "./offers.ts"
import type { EventSink } from "./ports.ts"
import type { Residents } from "./residents.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import type { Store } from "./store.ts"

/**
 * Moves that this POP wants: of one actor, because its author or operator says where to, or of all that are in use, because this POP is
 * about to close. Either is an offer (`offers.ts`): the other POP pulls, and the hand-off is the same as ever.
 *
 * A POP that leaves tells its peers (LEAVING): they offer it nothing, and it grants whatever they pull, whoever else uses it.
 */
export interface MovePorts {
  readonly pop: string
  readonly pops: ReadonlySet<string>
  readonly limits: Limits
  readonly store: Pick<Store, "peek">
  readonly events: EventSink
  readonly slots: Slots
  readonly residents: Residents
  readonly borders: Borders
  readonly offers: Offers
  send(pop: string, message: MeshMessage): boolean
  linked(pop: string): boolean
  /** Lowest round trip of late, ms. */
  rtt(pop: string): number | undefined
  stopped(): boolean
}

/** Moves under way at once while a POP closes. */
const handOffsAtOnce = 32

export class Moves {
  readonly #o: MovePorts
  #leaving = false
  /** Peers that are about to close. */
  readonly #leavers = new Set<string>()

  constructor(ports: MovePorts) {
    this.#o = ports
  }

  get leaving(): boolean {
    return this.#leaving
  }

  /**
   * Moves an actor that this POP owns to another, with the clients that are attached to it. Resolves when it is durable there.
   *
   * Rejects with MOVED where this POP does not own it, RESIDENCY_DENIED or SCHEMA_NEWER where the other may not hold it, POP_UNREACHABLE
   * where it does not take it in time; it then stays, or arrives later if it was granted by then.
   */
  async move(actor: string, to: string): Promise<MoveDone> {
    const { pop, pops, store, slots, offers } = this.#o
    const slot = slots.open(actor)
    if (!pops.has(to) || to === pop) {
      slots.giveBack(slot)
      throw new RangeError(`${actor} can move to another configured POP, not to ${JSON.stringify(to)}`)
    }
    const record = await store.peek(actor).finally(() => {
      slots.giveBack(slot)
    })
    if (this.#o.stopped()) throw new SojournError("NOT_SERVING", `POP ${pop} is stopping`)
    if (record?.k !== "OWNED" && !(record === undefined && slot.home === pop))
      throw new SojournError("MOVED", `${actor} is not owned by POP ${pop}: ${JSON.stringify(record ?? null)}`)
    return offers.begin(actor, to)
  }

  /** Where nobody waits for the move: why it stayed is an event. */
  moveOrStay(actor: string, to: string): Promise<unknown> {
    return this.move(actor, to).catch((error: unknown) => {
      this.#o.events({ type: "actor.stayed", actor, to, error })
    })
  }

  // ── this POP leaves ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** This POP is about to close: from now on whoever pulls an actor gets it, whoever else uses it. */
  letGo(): void {
    const { pop, pops, send } = this.#o
    this.#leaving = true
    for (const other of pops) if (other !== pop) send(other, { t: "LEAVING" })
  }

  /** Hands every actor that is in use to another POP, as far as one can be reached. What stays is put to sleep by `Host.stop`. */
  async handOff(): Promise<void> {
    const { residents, limits, stopped } = this.#o
    const waiting = residents.all().filter((slot) => {
      for (const att of slot.attached.values()) if (att.open) return true
      return slot.activation?.busyBesides(undefined, limits.followQuietMs) ?? false
    })
    const worker = async (): Promise<void> => {
      for (let slot = waiting.pop(); slot && !stopped(); slot = waiting.pop()) {
        const to = this.#successor(slot)
        if (to !== undefined) await this.moveOrStay(slot.id, to)
      }
    }
    await Promise.all(Array.from({ length: handOffsAtOnce }, worker))
  }

  /** Where an actor goes when this POP closes: to the POP most of its sessions come through, else home, else to the nearest. */
  #successor(slot: Slot): string | undefined {
    const { pops, pop, borders, linked, rtt } = this.#o
    const through = new Map<string, number>()
    for (const { request } of slot.attached.values())
      if (request.relayedBy !== undefined) through.set(request.relayedBy, (through.get(request.relayedBy) ?? 0) + 1)
    let best: string | undefined
    let bestRank: readonly [number, number, number] = [0, 0, 0]
    for (const one of pops) {
      if (one === pop || this.#leavers.has(one) || !linked(one)) continue
      if (!borders.inside(slot.activation?.needs.residency, one)) continue
      const rank = [-(through.get(one) ?? 0), one === slot.home ? 0 : 1, rtt(one) ?? Infinity] as const
      if (best === undefined || before(rank, bestRank)) {
        best = one
        bestRank = rank
      }
    }
    return best
  }

  // ── peers come and go ────────────────────────────────────────────────────────────────────────────────────────────────────────

  peerLeaves(pop: string): void {
    this.#leavers.add(pop)
    this.#o.offers.linkDown(pop)
  }

  /** Before anything else is said to it. */
  linkUp(pop: string): void {
    this.#leavers.delete(pop)
    if (this.#leaving) this.#o.send(pop, { t: "LEAVING" })
  }

  linkDown(pop: string): void {
    if (this.#leaving) this.#o.offers.linkDown(pop)
  }
}

function before(a: readonly number[], b: readonly number[]): boolean {
  for (const [i, x] of a.entries()) if (x !== b[i]) return x < (b[i] ?? 0)
  return false
}
