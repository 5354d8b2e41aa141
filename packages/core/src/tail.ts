import type { Output, Position, TailEntry } from "./journal.ts"
import type { Limits } from "./limits.ts"

const goneMax = 64

/**
 * The journal's tail, kept for resume: the last entries, bounded by number, bytes and age. Within it a client that comes back is sent
 * exactly what it missed; past it, it gets a snapshot and is told so.
 *
 * What is stored of it is only what some client may still miss: positions say how far each session's client has come. A session that has
 * been gone for longer than the tail is kept holds nothing back.
 */
export class Tail {
  readonly #limits: Limits
  /** Those below `first` are gone: taken out many at a time, for each time moves all the others. */
  readonly #entries: (Output | undefined)[]
  #first = 0
  readonly #bytes: number[]
  #total: number
  readonly #positions = new Map<string, { r: number; at: number }>()

  constructor(tail: readonly TailEntry[], positions: readonly Position[], limits: Limits) {
    this.#limits = limits
    this.#entries = tail.map(({ entry }) => entry)
    this.#bytes = tail.map(({ bytes }) => bytes)
    this.#total = this.#bytes.reduce((a, b) => a + b, 0)
    for (const [sid, r, at] of positions) this.#positions.set(sid, { r, at })
  }

  /** The client of this session has everything up to revision `r`. */
  seen(sid: string, r: number, now: number): void {
    const known = this.#positions.get(sid)
    this.#positions.delete(sid)
    this.#positions.set(sid, { r: Math.max(known?.r ?? 0, r), at: now })
    // The one not heard of for longest holds nothing back any more: at worst it gets a snapshot.
    if (this.#positions.size > this.#limits.sessionsPerActorMax)
      for (const oldest of this.#positions.keys()) {
        this.#positions.delete(oldest)
        break
      }
  }

  /** The client has said nothing new; `r`: where nothing was known of it. */
  stays(sid: string, r: number, now: number): void {
    this.seen(sid, this.#positions.get(sid)?.r ?? r, now)
  }

  /** What a snapshot keeps: the entries above the lowest position of a client that is attached or may come back, and the positions. */
  unacknowledged(
    attached: ReadonlySet<string>,
    now: number,
  ): { readonly tail: readonly Output[]; readonly positions: readonly Position[] } {
    this.trim(now)
    let floor = Infinity
    const positions: Position[] = []
    for (const [sid, position] of this.#positions) {
      if (attached.has(sid)) position.at = now
      else if (position.at < now - this.#limits.tailMsMax) {
        this.#positions.delete(sid)
        continue
      }
      floor = Math.min(floor, position.r)
      positions.push([sid, position.r, position.at])
    }
    return { tail: this.#kept(0).filter(({ r }) => r > floor), positions }
  }

  push(entry: Output, bytes: number, now: number): void {
    this.#entries.push(entry)
    this.#bytes.push(bytes)
    this.#total += bytes
    this.trim(now)
  }

  /** No client can be brought up to date by what came before: a migration leads nowhere by patches. */
  clear(): void {
    this.#entries.length = 0
    this.#bytes.length = 0
    this.#first = 0
    this.#total = 0
  }

  /** Drops what is past a bound; the newest entry stays. */
  trim(now: number): void {
    const { tailEntriesMax, tailBytesMax, tailMsMax } = this.#limits
    while (this.#first < this.#entries.length - 1) {
      const entry = this.#entries[this.#first]
      if (entry === undefined) break
      const fits = this.#entries.length - this.#first <= tailEntriesMax && this.#total <= tailBytesMax
      if (fits && entry.t >= now - tailMsMax) break
      this.#total -= this.#bytes[this.#first] ?? 0
      this.#entries[this.#first] = undefined
      this.#first++
    }
    if (this.#first < goneMax) return
    this.#entries.splice(0, this.#first)
    this.#bytes.splice(0, this.#first)
    this.#first = 0
  }

  /** What a client at `position` has missed of an actor at `revision`; undefined where that reaches back past the tail. */
  since(position: number, revision: number): readonly Output[] | undefined {
    if (position > revision) return undefined
    if (position === revision) return []
    const first = this.#entries[this.#first]
    if (first === undefined || first.r > position + 1) return undefined
    return this.#kept(position + 1 - first.r)
  }

  #kept(from: number): readonly Output[] {
    return this.#entries.slice(this.#first + from) as Output[]
  }
}
