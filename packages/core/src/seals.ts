import { SojournError } from "@sojourn/protocol"
import type { Activator } from "./activator.ts"
import type { Attaches } from "./attaches.ts"
import type { Borders } from "./borders.ts"
import type { Failures } from "./failures.ts"
import type { Grants } from "./grants.ts"
import type { HandInput, Pull } from "./handoff.ts"
import { readNeeds } from "./journal.ts"
import type { Limits } from "./limits.ts"
import { versionOf } from "./migrate.ts"
import type { Offers } from "./offers.ts"
import type { Clock, EventSink, Primitives, Undo } from "./ports.ts"
import type { Precopies } from "./precopies.ts"
import { decidePull } from "./record.ts"
import type { Refusals } from "./refusals.ts"
import { needsOf } from "./residency.ts"
import type { Precopy, Slot } from "./slot.ts"
import type { Slots } from "./slots.ts"
import { emptyBody, type Compacted, type PullAnswer, type Store } from "./store.ts"

/**
 * PULLs executed in the store: the seal of an actor that is this POP's, and the answer from its record where it is not.
 *
 * A seal is irrevocable once it is durable. So everything that speaks against it comes before: work under way, a body too large, a state
 * that cannot be written down, a border. After it the activation has ended, whatever the store answered but "too large": where the outcome
 * is unknown the actor may be sealed, which is looked at later (`Grants.doubt`).
 */
export interface SealPorts {
  readonly store: Pick<Store, "pull" | "load">
  readonly clock: Clock
  readonly primitives: Primitives
  readonly limits: Limits
  readonly events: EventSink
  readonly slots: Slots
  readonly borders: Borders
  readonly offers: Offers
  readonly refusals: Refusals
  readonly precopies: Precopies
  readonly activator: Activator
  readonly attaches: Attaches
  readonly grants: Grants
  readonly failures: Failures
  input(slot: Slot, input: HandInput): void
  /** What was begun for this slot failed. */
  failed(slot: Slot, cause: unknown): void
}

/** `declined`: nothing was sealed, the stored state may not go there. */
type Pulled = PullAnswer | { readonly kind: "declined"; readonly e: number }

export class Seals {
  readonly #o: SealPorts
  readonly #underWay = new Set<Promise<void>>()

  constructor(ports: SealPorts) {
    this.#o = ports
  }

  /**
   * Resolves when what has been asked of the store is answered, and its GRANT is said: a POP that closes first would say it when it is back.
   * After `drainMsMax` at the latest, whatever the store does.
   */
  async settled(): Promise<void> {
    if (this.#underWay.size === 0) return
    const { clock, limits } = this.#o
    let undo: Undo | undefined
    const late = new Promise<void>((resolve) => (undo = clock.after(limits.drainMsMax, resolve)))
    await Promise.race([this.#answers(), late])
    undo?.()
  }

  async #answers(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay)
  }

  #begin(work: Promise<void>): void {
    this.#underWay.add(work)
    void work.finally(() => {
      this.#underWay.delete(work)
    })
  }

  /** The actor is this POP's: drained, or asleep. */
  seal(slot: Slot, pull: Pull): void {
    const { precopies, failures, input } = this.#o
    const { activation } = slot
    if (activation?.working) {
      // The turn that the drain waited for has left work to do.
      input(slot, { type: "kept", e: activation.epoch, err: undefined })
      return
    }
    if (activation && !activation.drained) {
      // It had, and that has ended since: the rest of the drain is still to be done.
      this.#begin(
        activation.drain("moved").then(() => {
          const { phase } = slot.state
          if (phase.at === "sealing" && phase.pull === pull) this.seal(slot, pull)
        }),
      )
      return
    }
    // Where the copy that went ahead is still the stored snapshot, what came after it is all that travels.
    const ahead = precopies.held(slot, pull)
    let compacted: Compacted | undefined
    try {
      if (!ahead) compacted = activation?.compacted()
    } catch (error) {
      this.#kept(slot, pull, failures.masked(slot.id, error))
      return
    }
    this.#begin(
      this.#pull(slot, pull, compacted, ahead).then(
        (answer) => {
          this.#sealed(slot, pull, ahead, answer)
        },
        (cause: unknown) => {
          this.#sealFailed(slot, cause)
        },
      ),
    )
  }

  #sealed(slot: Slot, pull: Pull, ahead: Precopy | undefined, answer: Pulled): void {
    const { limits, activator, attaches, input } = this.#o
    if (answer.kind === "too-large") {
      this.#kept(slot, pull, tooLarge(slot.id, answer.bytes + (ahead?.bytes ?? 0), limits))
      return
    }
    if (answer.kind === "grant") slot.sealed = { ...answer, base: ahead?.id }
    else if (slot.activation) {
      // Another process of this POP had taken the actor and given it away.
      activator.end(slot)
      attaches.endLocal(slot, new SojournError("FENCED"))
    }
    input(slot, { type: "sealed", answer: answer.kind === "grant" ? { kind: "grant" } : answer })
  }

  /** Nothing was sealed: the activation, if there is one, goes on. */
  #kept(slot: Slot, pull: Pull, error: SojournError): void {
    const { events, offers, input } = this.#o
    events({ type: "actor.stayed", actor: slot.id, to: pull.origin, error })
    offers.fail(slot.id, error)
    input(slot, { type: "kept", e: slot.activation?.epoch, err: error.toWire() })
  }

  #sealFailed(slot: Slot, cause: unknown): void {
    const { activator, attaches, failed } = this.#o
    const error = this.#failure(slot, cause)
    activator.end(slot)
    attaches.endLocal(slot, error)
    failed(slot, error)
  }

  /** This POP looks for the actor elsewhere: no seal is expected, and none made of what an activation holds. */
  answer(slot: Slot, pull: Pull): void {
    const { slots, refusals } = this.#o
    slot.answering++
    this.#begin(
      this.#pull(slot, pull).then(
        (answer) => {
          slot.answering--
          this.#answered(slot, pull, answer)
          slots.giveBack(slot)
        },
        (cause: unknown) => {
          slot.answering--
          refusals.tellRefused(slot, pull, this.#failure(slot, cause).toWire())
          slots.giveBack(slot)
        },
      ),
    )
  }

  #answered(slot: Slot, pull: Pull, answer: Pulled): void {
    const { limits, refusals, grants, input } = this.#o
    if (answer.kind === "too-large") refusals.tellRefused(slot, pull, tooLarge(slot.id, answer.bytes, limits).toWire())
    else if (answer.kind === "grant") {
      // It was here after all, asleep, while something sent this POP to look for it elsewhere: as after any seal.
      if (slot.activation) grants.send(slot.id, answer, pull)
      else {
        slot.sealed = { ...answer, base: undefined }
        grants.give(slot, pull)
      }
    } else if (answer.kind === "declined") refusals.tellRelay(slot, pull, answer.e)
    else input(slot, { type: "pointed", pull, answer })
  }

  #failure(slot: Slot, cause: unknown): SojournError {
    const { failures, grants } = this.#o
    const error = failures.ofStore(slot.id, cause)
    if (error.outcome !== "not-executed") grants.doubt(slot.id)
    return error
  }

  /**
   * Executes a PULL in the store, unless what is stored may not go to its origin: then nothing is sealed. What an activation holds
   * has been asked before it drained. Needs never change once something is stored, so reading them first is no race.
   */
  async #pull(slot: Slot, pull: Pull, compacted?: Compacted, ahead?: Precopy): Promise<Pulled> {
    const { store, primitives, limits, slots, borders } = this.#o
    const home = slots.homeRole(slot)
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
    return needs && borders.mayGo(needs, pull) ? seal() : { kind: "declined", e: stored?.record.e ?? 0 }
  }
}

/**
 * The largest body that is moved: a state as large as it may be, with the journal and the outbox that may go along. Never more than a peer
 * takes (`transfers.ts`): sealed, it would be nowhere.
 */
function movableBytesMax({ snapshotBytesMax, tailBytesMax, journalBytesMax, meshMessageBytesMax }: Limits): number {
  return Math.min(snapshotBytesMax + tailBytesMax + journalBytesMax, meshMessageBytesMax)
}

function tooLarge(actor: string, bytes: number, { snapshotBytesMax }: Limits): SojournError {
  return new SojournError(
    "SNAPSHOT_TOO_LARGE",
    `${actor} is stored in ${bytes} bytes; limits.snapshotBytesMax is ${snapshotBytesMax}, so it stays where it is`,
    { details: { actor, bytes } },
  )
}
