import { SojournError } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"

/**
 * Moves that begin here: the owner asks another POP to pull (OFFER), because its author, its operator or its own end wants the actor there.
 *
 * An offer changes nothing by itself: it is repeated until the other POP's PULL comes and its CONFIRM says that the actor is durable there,
 * for `moveMsMax` at the most. While one is open, the PULL of that POP is granted whoever else uses the actor.
 */
export interface MoveDone {
  /** The actor's epoch at its new POP. */
  readonly epoch: number
  /** From the offer to the confirm. */
  readonly ms: number
}

interface Offer {
  readonly to: string
  readonly startedAt: number
  readonly done: PromiseWithResolvers<MoveDone>
  /** It was granted to somebody: only the confirm is waited for. */
  epoch: number | undefined
  repeat: Undo
  readonly deadline: Undo
}

export class Offers {
  readonly #clock: Clock
  readonly #limits: Limits
  readonly #send: (actor: string, to: string) => void
  readonly #open = new Map<string, Offer>()

  constructor(clock: Clock, limits: Limits, send: (actor: string, to: string) => void) {
    this.#clock = clock
    this.#limits = limits
    this.#send = send
  }

  /** The POP that this actor is offered to. */
  to(actor: string): string | undefined {
    return this.#open.get(actor)?.to
  }

  /** The link to that POP is down: for moves that are not worth the wait. */
  linkDown(pop: string): void {
    for (const [actor, offer] of this.#open)
      if (offer.to === pop && offer.epoch === undefined)
        this.fail(actor, new SojournError("POP_UNREACHABLE", `${actor} was offered to POP ${pop}, whose link is down`))
  }

  /** Rejects with POP_UNREACHABLE after `moveMsMax`; the actor may still go there if it was granted by then. */
  begin(actor: string, to: string): Promise<MoveDone> {
    const known = this.#open.get(actor)
    if (known?.to === to) return known.done.promise
    if (known)
      return Promise.reject(
        new SojournError("MOVED", `${actor} is on its way to POP ${known.to}`, { retry: "later", retryAfterMs: 500 }),
      )
    if (this.#open.size >= this.#limits.movesMax)
      return Promise.reject(
        new SojournError("RATE_LIMITED", `${this.#open.size} actors are on their way (limits.movesMax)`, {
          retryAfterMs: 500,
        }),
      )
    const { moveMsMax } = this.#limits
    const done = Promise.withResolvers<MoveDone>()
    const offer: Offer = {
      to,
      startedAt: this.#clock.mono(),
      done,
      epoch: undefined,
      repeat: () => undefined,
      deadline: this.#clock.after(moveMsMax, () => {
        const how = offer.epoch === undefined ? "did not fetch it" : "has not confirmed it"
        this.fail(
          actor,
          new SojournError("POP_UNREACHABLE", `${actor} was offered to POP ${to}, which ${how} in ${moveMsMax} ms`),
        )
      }),
    }
    this.#open.set(actor, offer)
    this.#tell(actor, offer)
    return done.promise
  }

  granted(actor: string, to: string, epoch: number): void {
    const offer = this.#open.get(actor)
    if (!offer) return
    offer.repeat()
    if (offer.to === to) offer.epoch = epoch
    else this.fail(actor, new SojournError("MOVED", `${actor} went to POP ${to}, which asked for it first`))
  }

  confirmed(actor: string, from: string, epoch: number): void {
    const offer = this.#open.get(actor)
    // A later epoch, whoever has it, comes of the one that was granted.
    if (offer?.epoch === undefined || epoch < offer.epoch || (epoch === offer.epoch && offer.to !== from)) return
    const ms = this.#clock.mono() - offer.startedAt
    this.#close(actor, offer)
    offer.done.resolve({ epoch: offer.epoch, ms })
  }

  fail(actor: string, error: SojournError): void {
    const offer = this.#open.get(actor)
    if (!offer) return
    this.#close(actor, offer)
    offer.done.reject(error)
  }

  /** A link to that POP came up: what is offered to it is said now. */
  hurry(pop: string): void {
    for (const [actor, offer] of this.#open)
      if (offer.to === pop && offer.epoch === undefined) {
        offer.repeat()
        this.#tell(actor, offer)
      }
  }

  stop(): void {
    for (const actor of [...this.#open.keys()])
      this.fail(actor, new SojournError("NOT_SERVING", `${actor} was offered when this POP stopped`))
  }

  #close(actor: string, offer: Offer): void {
    offer.repeat()
    offer.deadline()
    this.#open.delete(actor)
  }

  #tell(actor: string, offer: Offer): void {
    this.#send(actor, offer.to)
    offer.repeat = this.#clock.after(this.#limits.resendMs, () => {
      this.#tell(actor, offer)
    })
  }
}
