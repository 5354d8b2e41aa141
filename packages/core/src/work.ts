import { SojournError } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"

/**
 * What turns of one activation left running (`c.waitUntil`), each until it settles or `waitUntilMsMax` has passed: as long as any of it is
 * under way, the activation is not given back in an orderly way. It has no part in a commit, so a turn that rolls back leaves it as it is.
 *
 * Waiting is all that is bounded: a promise cannot be ended from outside, and how it ends later is reported all the same.
 */
export interface WorkPorts {
  readonly clock: Clock
  readonly limits: Limits
  /** It rejected, or was given up. `what`: the action or alarm that left it. */
  failed(what: string, error: unknown): void
  /** Nothing is under way any more. */
  ended(): void
}

export class Work {
  readonly #ports: WorkPorts
  readonly #under = new Map<object, { readonly what: string; readonly undo: Undo }>()

  constructor(ports: WorkPorts) {
    this.#ports = ports
  }

  get size(): number {
    return this.#under.size
  }

  /** Throws QUEUE_FULL at `waitUntilsPerActorMax`. Also then a rejection is reported, and never unhandled. */
  add(promise: PromiseLike<unknown>, what: string): void {
    const { clock, limits } = this.#ports
    const one = {}
    Promise.resolve(promise).then(
      () => {
        this.#end(one)
      },
      (error: unknown) => {
        this.#ports.failed(what, error)
        this.#end(one)
      },
    )
    if (this.#under.size >= limits.waitUntilsPerActorMax)
      throw new SojournError(
        "QUEUE_FULL",
        `${this.#under.size} promises are waited for already (limits.waitUntilsPerActorMax)`,
      )
    const undo = clock.after(limits.waitUntilMsMax, () => {
      this.#giveUp(one, what, `within limits.waitUntilMsMax (${limits.waitUntilMsMax} ms)`)
    })
    this.#under.set(one, { what, undo })
  }

  /** The POP closes: what is still under way is reported, and waited for no more. */
  abandon(): void {
    for (const [one, { what }] of this.#under) this.#giveUp(one, what, "before its POP closed")
  }

  /** The activation is over; there is nothing to wait for. */
  stop(): void {
    for (const { undo } of this.#under.values()) undo()
    this.#under.clear()
  }

  #giveUp(one: object, what: string, when: string): void {
    const message = `what ${what} left to waitUntil did not settle ${when}; it is waited for no more`
    this.#ports.failed(what, new SojournError("CALL_TIMEOUT", message))
    this.#end(one)
  }

  #end(one: object): void {
    this.#under.get(one)?.undo()
    if (this.#under.delete(one) && this.#under.size === 0) this.#ports.ended()
  }
}
