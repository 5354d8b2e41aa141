import type { CallBody, QueryBody } from "@sojourn/protocol"
import { placesOf, type Attached, type SessionFrame } from "./attach.ts"
import type { Session } from "./sessions.ts"

export type Item =
  | { readonly kind: "call"; readonly att: Attached; readonly session: Session; readonly call: CallBody }
  | { readonly kind: "query"; readonly att: Attached; readonly session: Session; readonly query: QueryBody }
  /** Whichever alarm is due when its turn comes; at most one waits, so that alarms and calls take turns. */
  | { readonly kind: "alarm" }

/**
 * What waits for its turn in one activation, in the order in which it came. Whoever adds a call or a query looks at the bound before
 * (`limits.mailboxMax`): past it the attach ends, and its client sends again. A long one counts for several (`placesOf`).
 *
 * Closed, it takes nothing and gives nothing. What waits then is kept, for a drained activation opens again where it was not sealed after
 * all, and where it was, those sessions that stay attached have their frames handed on.
 */
export class Mailbox {
  #items: Item[] = []
  /** For how many these count. */
  #places = 0
  /** What waited when it was set aside. */
  readonly #unrun: Item[] = []
  #closed = false

  get size(): number {
    return this.#places
  }

  get closed(): boolean {
    return this.#closed
  }

  add(item: Item): void {
    this.#items.push(item)
    this.#places += placesIn(item)
  }

  addAlarm(): void {
    if (!this.#items.some(({ kind }) => kind === "alarm")) this.add({ kind: "alarm" })
  }

  take(): Item | undefined {
    const item = this.#items.shift()
    if (item) this.#places -= placesIn(item)
    return item
  }

  /** Of this session; 0: none waits. */
  highestCall(sid: string): number {
    let highest = 0
    for (const item of this.#items)
      if (item.kind === "call" && item.session.id === sid) highest = Math.max(highest, item.call.c)
    return highest
  }

  close(): void {
    this.#closed = true
  }

  /** None of what waits is run here, unless it opens again. */
  setAside(): void {
    this.#unrun.push(...this.#items.splice(0))
    this.#places = 0
  }

  /** What was set aside is before anything that came since. */
  reopen(): void {
    this.#closed = false
    this.#items.unshift(...this.#unrun.splice(0))
    this.#places = this.#items.reduce((sum, item) => sum + placesIn(item), 0)
  }

  clear(): void {
    this.#items = []
    this.#places = 0
  }

  /** What was set aside of this session, in its order. */
  unrun(att: Attached): SessionFrame[] {
    return this.#unrun.flatMap((item): SessionFrame[] => {
      if (item.kind === "alarm" || item.att !== att) return []
      const { ch } = att
      return [item.kind === "call" ? { t: "call", ch, ...item.call } : { t: "query", ch, ...item.query }]
    })
  }
}

function placesIn(item: Item): number {
  return item.kind === "alarm" ? 1 : placesOf(item.kind === "call" ? item.call : item.query)
}
