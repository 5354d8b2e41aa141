import { ActorError, SojournError, jsonDepthMax, nestsDeeper, type WireError } from "@sojourn/protocol"
import type { Chance, EventSink } from "./ports.ts"
import { named } from "./turn.ts"

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

  /** `what`: the action or query that failed. */
  wireError(error: unknown, what: string): WireError {
    const { wire, cause } = told(error)
    if (wire) return wire
    const ref = this.#ports.chance.id()
    this.report("turn.threw", cause, { what, ref })
    return new SojournError("INTERNAL", `${what} failed; the server's log has it under ${ref}`, { ref }).toWire()
  }
}

/** The author's own refusals and the framework's are for the client as they are: `wire`. Anything else, or one of these that cannot cross, is for the log. */
export function told(error: unknown): { readonly wire?: WireError; readonly cause?: unknown } {
  try {
    if (error instanceof ActorError) return { wire: refusalOf(error) }
    if (error instanceof SojournError) return { wire: crossing(error) }
  } catch (cause) {
    return { cause }
  }
  return { cause: error }
}

/** An author's refusal as it crosses. Throws as `crossing` does. */
export function refusalOf({ message, code, data }: ActorError): WireError {
  return crossing(new SojournError("ACTOR_ERROR", message, { ref: code, data }))
}

/**
 * Stored like any reply: a copy, which shares nothing with the author. Throws where its data is no JSON (a bigint, a cycle) or nests too deeply
 * to be read again: what cannot be stored must not cost the activation, with every call sent again the same.
 */
function crossing(error: SojournError): WireError {
  const what = error.code === "ACTOR_ERROR" ? `ActorError ${named(error.ref)}` : `SojournError ${error.code}`
  let copy: WireError
  try {
    copy = JSON.parse(JSON.stringify(error.toWire())) as WireError
  } catch (cause) {
    throw new TypeError(`the data of ${what} is no JSON`, { cause })
  }
  if (typeof copy.message !== "string") throw new TypeError(`the message of ${what} is no text`)
  if (nestsDeeper(copy)) throw new RangeError(`the data of ${what} nests deeper than ${jsonDepthMax} levels`)
  return copy
}
