import { ticketCharsMax } from "@sojourn/protocol"
import type { TicketHint, TicketStorage } from "./types.ts"

const storageKey = "sojourn.tickets"

/**
 * Location hints: where each actor was last, as its server signed it. They change latency, never correctness. Kept bounded, the
 * least recently used first to go, and across page loads where a storage is given.
 */
export class Tickets {
  readonly #max: number
  readonly #storage: TicketStorage | undefined
  #byActor: Map<string, string> | undefined

  constructor(max: number, storage: TicketStorage | undefined) {
    this.#max = max
    this.#storage = storage
  }

  get(id: string): string | undefined {
    return this.#all().get(id)
  }

  /** An empty one says that there is no hint for this actor. */
  set(id: string, ticket: string): void {
    const all = this.#all()
    if (ticket.length > ticketCharsMax || all.get(id) === ticket) return
    all.delete(id)
    if (ticket !== "") all.set(id, ticket)
    for (const oldest of all.keys()) {
      if (all.size <= this.#max) break
      all.delete(oldest)
    }
    this.#save()
  }

  clear(): void {
    this.#all().clear()
    this.#save()
  }

  list(): TicketHint[] {
    return [...this.#all()].map(([id, ticket]) => {
      const slash = id.indexOf("/")
      return { actor: [id.slice(0, slash), id.slice(slash + 1)], ticket }
    })
  }

  #all(): Map<string, string> {
    if (this.#byActor) return this.#byActor
    this.#byActor = new Map()
    try {
      const stored: unknown = JSON.parse(this.#storage?.getItem(storageKey) ?? "[]")
      if (Array.isArray(stored))
        for (const pair of stored.slice(-this.#max) as unknown[])
          if (Array.isArray(pair) && typeof pair[0] === "string" && typeof pair[1] === "string")
            this.#byActor.set(pair[0], pair[1])
    } catch {
      // A storage that is damaged or refuses costs latency once: every actor is then looked for without a hint.
    }
    return this.#byActor
  }

  #save(): void {
    try {
      this.#storage?.setItem(storageKey, JSON.stringify([...this.#all()]))
    } catch {
      // Full or forbidden (private browsing): the hints live as long as the page.
    }
  }
}
