import type { Failures } from "./failures.ts"
import type { HandInput } from "./handoff.ts"
import { readAhead } from "./journal.ts"
import { unpackBody } from "./mesh-codec.ts"
import type { Blob, MeshMessage } from "./mesh-messages.ts"
import { badMesh } from "./mesh-parse.ts"
import type { Chance, EventSink, Primitives } from "./ports.ts"
import type { Searches } from "./searches.ts"
import type { Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import type { Body, Store } from "./store.ts"
import type { Transfers } from "./transfers.ts"

/**
 * What comes to this POP of an actor: a copy ahead (PRECOPY), and the grant, at once or in chunks. Complete, it is told to `handoff.ts`,
 * which decides what becomes of it; the grant is then at hand as `Slot.incoming`, the copy as `Slot.base`.
 *
 * A grant may come unasked, late or twice, and a copy may be gone by the time its grant comes. Nothing is lost by dropping either: the
 * owner keeps the body, and says the grant again, until this POP has confirmed.
 */
export interface ArrivalPorts {
  readonly store: Pick<Store, "peek" | "stage">
  readonly chance: Chance
  readonly primitives: Primitives
  readonly events: EventSink
  readonly pop: string
  readonly slots: Slots
  readonly searches: Searches
  readonly transfers: Transfers
  readonly failures: Failures
  send(pop: string, message: MeshMessage): boolean
  stopped(): boolean
  input(slot: Slot, input: HandInput): void
}

/** No history gets as far: from here an epoch or revision is soon no whole number, and a peer closes the link over the GRANT that says it. */
const countMax = 2 ** 52

type GrantMessage = Extract<MeshMessage, { t: "GRANT" }>

export class Arrivals {
  readonly #o: ArrivalPorts

  constructor(ports: ArrivalPorts) {
    this.#o = ports
  }

  /** The copy that this POP asked for is on its way, ahead of the grant; from the owner, whoever was asked and forwarded. */
  precopy(from: string, m: Extract<MeshMessage, { t: "PRECOPY" }>): void {
    const { store, primitives, slots, searches, transfers, failures, input } = this.#o
    const slot = slots.get(m.actor)
    const waits = (): boolean => {
      const phase = slot?.state.phase
      return phase?.at === "asking" && phase.ask.nonce === m.nonce
    }
    if (!slot || !waits()) return
    searches.extend(slot)
    transfers.expect(m.actor, from, m.blob, (bytes) => {
      if (!waits()) return
      const loaded = readAhead(m.actor, bytes, primitives)
      const ready = (staged: boolean): void => {
        if (waits()) {
          slot.base = { id: m.blob.id, from, bytes, loaded, staged }
          input(slot, { type: "precopied", nonce: m.nonce, from, have: m.blob.id })
        } else if (staged) this.#unstage(m.actor)
      }
      // On the disk before the pause begins; where it cannot be kept, the install writes it.
      store.stage(m.actor, bytes, m.v).then(ready, (error: unknown) => {
        failures.logged(m.actor)(error)
        ready(false)
      })
    })
  }

  /** The search that the copy came for is over. */
  dropBase(slot: Slot): void {
    if (slot.base?.staged) this.#unstage(slot.id)
    slot.base = undefined
  }

  #unstage(actor: string): void {
    const { store, failures } = this.#o
    store.stage(actor, undefined, 0).catch(failures.logged(actor))
  }

  grant(from: string, m: GrantMessage, body: Uint8Array): void {
    if (m.e > countMax || m.v > countMax) badMesh(`a GRANT of epoch ${m.e} and revision ${m.v}`)
    if (m.blob) this.#expectGrant(from, m, m.blob)
    else this.#grantCame(from, m, body)
  }

  /** A GRANT whose body comes in chunks: complete, it is as any other. */
  #expectGrant(from: string, m: GrantMessage, blob: Blob): void {
    const { store, events, slots, searches, transfers, failures, send, stopped } = this.#o
    store.peek(m.actor).then((record) => {
      if (stopped()) return
      if (record !== undefined && record.e >= m.e) {
        // Installed before, and repeated since its CONFIRM was lost.
        send(from, { t: "CONFIRM", actor: m.actor, e: m.e })
        return
      }
      const slot = slots.get(m.actor)
      if (slot?.search) searches.extend(slot)
      try {
        transfers.expect(m.actor, from, blob, (bytes) => {
          this.#grantCame(from, m, bytes)
        })
      } catch (error) {
        events({ type: "mesh.refused", actor: m.actor, from, error })
      }
    }, failures.logged(m.actor))
  }

  #grantCame(from: string, m: GrantMessage, bytes: Uint8Array): void {
    const { slots, input } = this.#o
    // Before there is a slot for it: it throws where the sizes are not those of the bytes.
    const entries = unpackBody(m.sizes, bytes)
    const slot = slots.open(m.actor)
    const { at } = slot.state.phase
    if ((at === "rest" || at === "asking") && !this.#keep(slot, from, m, bytes, entries)) return
    input(slot, { type: "grant", from, e: m.e })
  }

  /** False: the copy that it builds on is gone here, and it was asked for whole. */
  #keep(slot: Slot, from: string, m: GrantMessage, bytes: Uint8Array, entries: Body): boolean {
    const { chance, pop, slots, transfers, send } = this.#o
    const base = m.base === undefined ? undefined : slot.base
    if (m.base !== undefined && (base?.id !== m.base || base.from !== from)) {
      // As after a restart. The grant is repeated whole, to who has nothing.
      const { actor } = m
      slots.giveBack(slot)
      send(from, { t: "PULL", actor, nonce: chance.id(), origin: pop, epoch: 0, hops: 0, relay: false })
      return false
    }
    slot.base = undefined
    transfers.forget(m.actor)
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
    return true
  }
}
