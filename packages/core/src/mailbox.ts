import type { CallBody, QueryBody } from "@sojourn/protocol"
import type { Attached, SessionFrame } from "./attach.ts"
import type { Session } from "./sessions.ts"

export type Item =
  | { readonly kind: "call"; readonly att: Attached; readonly session: Session; readonly call: CallBody }
  | { readonly kind: "query"; readonly att: Attached; readonly session: Session; readonly query: QueryBody }
  /** Whichever alarm is due when its turn comes; at most one waits, so that alarms and calls take turns. */
  | { readonly kind: "alarm" }

/**
 * What waits for its turn in one activation, in the order in which it came. Whoever adds a call or a query looks at the bound before
 * (`limits.mailboxMax`): past it the attach ends, and its client sends again.
 *
 * Closed, it takes nothing and gives nothing. What waits then is kept, for a drained activation opens again where it was not sealed after
 * all, and where it was, those sessions that stay attached have their frames handed on.
 */
export class Mailbox {
  #items: Item[] = []
  /** What waited when it was set aside. */
  readonly #unrun: Item[] = []
  #closed = false

  get size(): number {
    return this.#items.length
  }

  get closed(): boolean {
    return this.#closed
  }

  add(item: Item): void {
    this.#items.push(item)
  }

  addAlarm(): void {
    if (!this.#items.some(({ kind }) => kind === "alarm")) this.#items.push({ kind: "alarm" })
  }

  take(): Item | undefined {
    return this.#items.shift()
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
  }

  /** What was set aside is before anything that came since. */
  reopen(): void {
    this.#closed = false
    this.#items.unshift(...this.#unrun.splice(0))
  }

  clear(): void {
    this.#items = []
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
