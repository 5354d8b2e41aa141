import { ActorError, SojournError, type WireError } from "@sojourn/protocol"
import type { Chance, EventSink } from "./ports.ts"
import { refusalOf } from "./turn.ts"

/**
 * What failed in the code of one actor's author. The log gets all of it, as an event; a client gets what was meant for it, and of anything
 * else no more than an id that finds it in the log: messages and stacks of foreign errors are not for clients.
 */
export interface AuthorErrorPorts {
  readonly chance: Chance
  readonly events: EventSink
}

export class AuthorErrors {
  readonly #actor: string
  readonly #ports: AuthorErrorPorts

  constructor(actor: string, ports: AuthorErrorPorts) {
    this.#actor = actor
    this.#ports = ports
  }

  report(type: string, cause: unknown, more: Record<string, unknown> = {}): void {
    this.#ports.events({ type, actor: this.#actor, error: cause, ...more })
  }

  /** The author's own refusals cross as they are; the framework's too; anything else is masked. `what`: the action or query that failed. */
  wireError(error: unknown, what: string): WireError {
    let cause = error
    if (error instanceof ActorError)
      try {
        return refusalOf(error)
      } catch (unsaid) {
        cause = unsaid
      }
    if (cause instanceof SojournError) return cause.toWire()
    const ref = this.#ports.chance.id()
    this.report("turn.threw", cause, { what, ref })
    return new SojournError("INTERNAL", `${what} failed; the server's log has it under ${ref}`, { ref }).toWire()
  }
}
