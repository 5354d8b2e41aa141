import { addressId } from "./address.ts"
import type { Caller, CallerSession } from "./caller.ts"

/**
 * The callers of a node: one for each actor that server code, or a turn, has called of late. Past `max` an idle one is let go.
 *
 * Its session is kept: what an actor knows of a session lasts for a day, so a caller that comes back with another each time would fill the
 * actor's table, and nobody could call it any more.
 */
export class Callers {
  readonly #make: (id: string, actor: readonly [string, string], session: CallerSession | undefined) => Caller
  readonly #max: number
  readonly #sessionsMax: number
  readonly #callers = new Map<string, Caller>()
  /** Of callers that were let go, the last `sessionsMax`. */
  readonly #sessions = new Map<string, CallerSession>()

  constructor(
    make: (id: string, actor: readonly [string, string], session: CallerSession | undefined) => Caller,
    max = 10_000,
    sessionsMax = 100_000,
  ) {
    this.#make = make
    this.#max = max
    this.#sessionsMax = sessionsMax
  }

  of(name: string, key: string): Caller {
    const id = addressId(name, key)
    const known = this.#callers.get(id)
    if (known) return known
    if (this.#callers.size >= this.#max) this.#letGo()
    const caller = this.#make(id, [name, key], this.#sessions.get(id))
    this.#sessions.delete(id)
    this.#callers.set(id, caller)
    return caller
  }

  close(): void {
    for (const caller of this.#callers.values()) caller.close()
    this.#callers.clear()
    this.#sessions.clear()
  }

  #letGo(): void {
    for (const [id, caller] of this.#callers) {
      if (!caller.idle) continue
      caller.close()
      this.#callers.delete(id)
      const { session } = caller
      if (session) this.#keep(id, session)
      return
    }
  }

  #keep(id: string, session: CallerSession): void {
    this.#sessions.set(id, session)
    if (this.#sessions.size <= this.#sessionsMax) return
    for (const oldest of this.#sessions.keys()) {
      this.#sessions.delete(oldest)
      return
    }
  }
}
