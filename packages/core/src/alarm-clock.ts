import { retryMs } from "./alarms.ts"
import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"
import type { Due, Store } from "./store.ts"

/**
 * Wakes the actors of this node whose alarms are due. One timer; what is due it reads from the store each time (`Store.due`), so what it
 * keeps in memory may be lost, late or wrong: a restarted node looks and finds what became due meanwhile, a sealed actor is not listed.
 *
 * - The wall clock decides what is due, the monotonic one when to look; a wall clock that jumps is noticed within `alarmLookMsMax`.
 * - At most `alarmWakesMax` actors are being woken at once. One that is woken and whose alarms do not change (it cannot be activated, or
 *   its activation ends before the alarm's turn) is woken again after a growing pause; it holds no place meanwhile.
 *
 * Waking is only a push: the activation decides by its own, committed alarms what runs.
 */
export interface AlarmClockPorts {
  readonly store: Pick<Store, "due">
  readonly clock: Clock
  readonly limits: Limits
  wake(actor: string): void
  failed(error: unknown): void
}

const pageMax = 64

interface Wake {
  readonly failures: number
  /** Monotonic: it takes one of the places until then, and is not woken again before. */
  readonly busyUntil: number
  readonly quietUntil: number
}

export class AlarmClock {
  readonly #ports: AlarmClockPorts
  readonly #wakes = new Map<string, Wake>()
  #timer: Undo | undefined
  /** Monotonic time for which the timer is set. */
  #timerAt = Infinity
  #looking = false
  #again = false
  #running = false

  constructor(ports: AlarmClockPorts) {
    this.#ports = ports
  }

  start(): void {
    this.#running = true
    this.#look()
  }

  stop(): void {
    this.#running = false
    this.#timer?.()
    this.#timer = undefined
  }

  /** What the store holds of this actor's alarms has changed: the next is due at `due`. */
  changed(actor: string, due: number | undefined): void {
    const waited = this.#wakes.delete(actor)
    // If it was woken, its place is free for another.
    if (waited) this.#lookIn(0)
    else if (due !== undefined) this.#lookIn(due - this.#ports.clock.now())
  }

  /** The actor went to sleep: what it was told meanwhile is to be said again. */
  slept(actor: string): void {
    if (this.#wakes.delete(actor)) this.#lookIn(0)
  }

  #lookIn(ms: number): void {
    if (!this.#running) return
    if (this.#looking) {
      this.#again ||= ms <= 0
      // What is read now may be from before: the look's end sets a timer anyway, and this one may be sooner.
      if (ms > 0) this.#arm(ms)
      return
    }
    if (ms <= 0) this.#look()
    else this.#arm(ms)
  }

  #arm(ms: number): void {
    const { clock, limits } = this.#ports
    const wait = Math.min(Math.max(1, ms), limits.alarmLookMsMax)
    const at = clock.mono() + wait
    if (this.#timer && this.#timerAt <= at) return
    this.#timer?.()
    this.#timerAt = at
    this.#timer = clock.after(wait, () => {
      this.#timer = undefined
      this.#timerAt = Infinity
      this.#lookIn(0)
    })
  }

  #look(): void {
    this.#looking = true
    this.#again = false
    this.#pass().then(
      (next) => {
        this.#looking = false
        if (!this.#running) return
        if (this.#again) this.#look()
        else if (next !== undefined) this.#arm(next)
      },
      (error: unknown) => {
        this.#looking = false
        if (!this.#running) return
        this.#ports.failed(error)
        this.#arm(this.#ports.limits.alarmLookMsMax)
      },
    )
  }

  /** Wakes what is due. Answers in how many ms to look again; undefined: nothing is set. */
  async #pass(): Promise<number | undefined> {
    const { store, clock, limits, wake } = this.#ports
    const now = clock.now()
    let after: Due | undefined
    // Long past its pause and not woken since: it is not due here any more.
    for (const [actor, { quietUntil }] of this.#wakes)
      if (quietUntil + limits.alarmRetryMsMax < clock.mono()) this.#wakes.delete(actor)
    for (;;) {
      const page = await store.due({ before: Number.MAX_SAFE_INTEGER, limit: pageMax, ...(after && { after }) })
      if (!this.#running) return undefined
      const mono = clock.mono()
      for (const { actor, due } of page) {
        if (due > now) return due - now
        const known = this.#wakes.get(actor)
        if (known && known.quietUntil > mono) continue
        if (this.#busy(mono) >= limits.alarmWakesMax) return limits.alarmRetryMs
        const failures = (known?.failures ?? 0) + 1
        this.#wakes.set(actor, {
          failures,
          busyUntil: mono + limits.alarmRetryMs,
          quietUntil: mono + retryMs(failures, limits),
        })
        wake(actor)
      }
      after = page.at(-1)
      if (page.length < pageMax || after === undefined) break
    }
    if (this.#wakes.size === 0) return undefined
    const mono = clock.mono()
    let next = Infinity
    for (const { quietUntil } of this.#wakes.values()) next = Math.min(next, quietUntil - mono)
    return Math.max(1, next)
  }

  #busy(mono: number): number {
    let busy = 0
    for (const { busyUntil } of this.#wakes.values()) if (busyUntil > mono) busy++
    return busy
  }
}
