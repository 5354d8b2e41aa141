import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"

/**
 * What must be said again until the other side confirms it: unconfirmed grants, and the home's pointer. One message an actor, the latest
 * epoch; the pause between repetitions doubles from `resendMs` to `resendMsMax`; at most `resendBatchMax` go at once.
 *
 * In memory only: grants are found again in the store at start, and a home that misses an update merely points one hop behind.
 */
export interface Owed {
  readonly to: string
  readonly e: number
}

interface Entry {
  readonly owed: Owed
  readonly since: number
  due: number
  pause: number
}

export class Resend {
  readonly #clock: Clock
  readonly #limits: Limits
  readonly #send: (actor: string, owed: Owed) => void
  readonly #room: (to: string) => boolean
  readonly #entries = new Map<string, Entry>()
  #timer: Undo | undefined
  #stopped = false

  /** `room`: false while it is too early to say more to that POP; what is due stays due. */
  constructor(
    clock: Clock,
    limits: Limits,
    send: (actor: string, owed: Owed) => void,
    room: (to: string) => boolean = () => true,
  ) {
    this.#clock = clock
    this.#limits = limits
    this.#send = send
    this.#room = room
  }

  get size(): number {
    return this.#entries.size
  }

  /** It was just sent; repeat it until confirmed. A repetition of the same keeps its growing pause. */
  add(actor: string, owed: Owed): void {
    const known = this.#entries.get(actor)
    if (known && known.owed.e > owed.e) return
    if (known && known.owed.e === owed.e && known.owed.to === owed.to) return
    const since = this.#clock.mono()
    const pause = this.#limits.resendMs
    this.#entries.set(actor, { owed, since, due: since + pause, pause })
    this.#schedule()
  }

  confirmed(actor: string, from: string, e: number): void {
    const known = this.#entries.get(actor)
    if (known && ((known.owed.to === from && known.owed.e <= e) || known.owed.e < e)) this.#entries.delete(actor)
  }

  remove(actor: string): void {
    this.#entries.delete(actor)
  }

  /** That POP is given up: nothing is said to it any more. */
  forget(to: string): void {
    for (const [actor, { owed }] of this.#entries) if (owed.to === to) this.#entries.delete(actor)
  }

  /** Whether one of these POPs is owed anything since less than `ms`. */
  owes(ms: number, to: (pop: string) => boolean): boolean {
    const now = this.#clock.mono()
    for (const { owed, since } of this.#entries.values()) if (now - since < ms && to(owed.to)) return true
    return false
  }

  /** A link to that POP came up: what it is owed is due now. */
  hurry(to: string): void {
    const now = this.#clock.mono()
    let any = false
    for (const entry of this.#entries.values())
      if (entry.owed.to === to) {
        entry.due = now
        entry.pause = this.#limits.resendMs
        any = true
      }
    if (any) {
      this.#timer?.()
      this.#timer = undefined
      this.#schedule(0)
    }
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.()
    this.#entries.clear()
  }

  #schedule(ms = this.#limits.resendMs): void {
    if (this.#timer || this.#stopped || this.#entries.size === 0) return
    this.#timer = this.#clock.after(ms, () => {
      this.#timer = undefined
      const now = this.#clock.mono()
      let sent = 0
      for (const [actor, entry] of this.#entries) {
        if (entry.due > now || !this.#room(entry.owed.to)) continue
        if (++sent > this.#limits.resendBatchMax) break
        entry.pause = Math.min(entry.pause * 2, this.#limits.resendMsMax)
        entry.due = now + entry.pause
        this.#send(actor, entry.owed)
      }
      this.#schedule(sent > this.#limits.resendBatchMax ? 10 : this.#limits.resendMs)
    })
  }
}
