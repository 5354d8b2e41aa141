import { SojournError } from "@sojourn/protocol"
import { told } from "./author-errors.ts"
import type { Chance, EventSink } from "./ports.ts"

/**
 * What becomes of a failure. A client is told a code and a safe text; what user code or the engine under the store said stays in the log,
 * which an id finds.
 */
export class Failures {
  readonly #chance: Chance
  readonly #events: EventSink

  constructor(chance: Chance, events: EventSink) {
    this.#chance = chance
    this.#events = events
  }

  /** Of the author's code, or while a stored state was read. */
  masked(actor: string, error: unknown): SojournError {
    const { wire, cause } = told(error)
    if (wire) return error instanceof SojournError ? error : SojournError.fromWire(wire)
    const ref = this.#chance.id()
    this.#events({ type: "actor.failed", actor, error: cause, ref })
    return new SojournError("INTERNAL", `${actor} failed; the server's log has it under ${ref}`, { ref, cause })
  }

  /** Of a store operation that somebody waits for. */
  ofStore(actor: string, cause: unknown): SojournError {
    if (cause instanceof SojournError) return cause
    this.#events({ type: "store.failed", actor, error: cause })
    return new SojournError("STORE_UNAVAILABLE", "the store failed; the server's log says why", {
      cause,
      outcome: "unknown",
      retryAfterMs: 250,
    })
  }

  /** For a store operation that nobody waits for: what it was for is asked again, or found again. */
  logged(actor: string): (error: unknown) => void {
    return (error) => {
      this.#events({ type: "store.failed", actor, error })
    }
  }
}
