import { retryMs } from "./alarms.ts"
import type { Limits } from "./limits.ts"
import type { Clock, Undo } from "./ports.ts"
import type { Due, Store } from "./store.ts"

/**
 * Wakes the actors of this node whose alarms are due. One timer; what is due it reads from the store each time (`Store.due`), so what it
 * keeps in memory may be lost, late or wrong: a restarted node looks and finds what became due meanwhile, a sealed actor is not listed.
 *
 * - The wall clock decides what is due, the monotonic one when to look: at least each `alarmLookMsMax`, also where nothing is set as far as is
 *   known. So a wall clock that jumps is noticed, and so is an alarm whose write took effect though it had failed for all that anybody here
 *   was told.
 * - At most `alarmWakesMax` actors are being woken at once. One that is woken and whose alarms do not change (it cannot be activated, or
 *   its activation ends before the alarm's turn) is woken again after a growing pause; it holds no place meanwhile.
 *
 * Waking is only a push: the activation decides by its own, committed alarms what runs.
 *
 * A look goes on where the one before ended, for what becomes due is listed behind what has been: an alarm that ends costs no walk through all
 * that are due and cannot be woken. It begins anew when all that is due was come by, and not sooner than after `alarmRetryMs`; so what came to be
 * listed before that, and nobody said so, is found as well.
 */
export interface AlarmClockPorts {
  readonly store: Pick<Store, "due">
  readonly clock: Clock
  readonly limits: Limits
  wake(actor: string): void
  failed(error: unknown): void
}

const pageMax = 64
const passedMax = 1_024

interface Wake {
  readonly failures: number
  /** Monotonic: it is not woken again before. */
  readonly quietUntil: number
}

export class AlarmClock {
  readonly #ports: AlarmClockPorts
  readonly #wakes = new Map<string, Wake>()
  /** Those of `#wakes` that take one of the places, and until when (monotonic): the first is over first. */
  readonly #busy = new Map<string, number>()
  /** The last that was come by, this time round. */
  #cursor: Due | undefined
  /** All that is due was. */
  #round = false
  /** Monotonic time from which another round may begin, and at which it must. */
  #roundFrom = -Infinity
  #roundAt = Infinity
  /** Due now, and listed before the cursor, or before where it may be once the page that is being read was looked through. */
  readonly #passed = new Set<string>()
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
    const waited = this.#forget(actor)
    const now = this.#ports.clock.now()
    this.#passed.delete(actor)
    if (due !== undefined) {
      const before = this.#cursor !== undefined && due <= this.#cursor.due
      // A page that is being read may lack it, and the cursor comes to be behind it.
      if ((before || this.#looking) && due <= now && this.#passed.size < passedMax) this.#passed.add(actor)
      else if (before) this.#cursor = undefined
    }
    // If it was woken, its place is free for another.
    if (waited) this.#lookIn(0)
    else if (due !== undefined) this.#lookIn(due - now)
  }

  /** Actors may have come to be this node's whose alarms were due before. */
  more(): void {
    this.#cursor = undefined
    this.#lookIn(0)
  }

  /** The actor went to sleep: what it was told meanwhile is to be said again. */
  slept(actor: string): void {
    if (this.#forget(actor)) this.more()
  }

  #forget(actor: string): boolean {
    this.#busy.delete(actor)
    return this.#wakes.delete(actor)
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
        else this.#arm(next)
      },
      (error: unknown) => {
        this.#looking = false
        if (!this.#running) return
        this.#ports.failed(error)
        this.#arm(this.#ports.limits.alarmLookMsMax)
      },
    )
  }

  /** Wakes what is due. Answers in how many ms there is more; Infinity: nothing is set. */
  async #pass(): Promise<number> {
    const { clock, limits } = this.#ports
    if (this.#round && clock.mono() >= this.#roundFrom) this.#beginRound()
    const next = await this.#goOn()
    if (!this.#running) return Infinity
    const mono = clock.mono()
    for (const actor of this.#passed) {
      if (!this.#hasPlace(mono)) return Math.min(next, limits.alarmRetryMs)
      this.#passed.delete(actor)
      if (!this.#isQuiet(actor, mono)) this.#wake(actor, mono)
    }
    return Math.min(next, this.#round ? this.#roundAt - mono : Infinity)
  }

  #beginRound(): void {
    const { clock, limits } = this.#ports
    const mono = clock.mono()
    let at = Infinity
    for (const [actor, { quietUntil }] of this.#wakes) {
      const over = quietUntil + limits.alarmRetryMsMax
      // Long past its pause and not woken since: it is not due here any more.
      if (over <= mono) this.#forget(actor)
      else at = Math.min(at, quietUntil > mono ? quietUntil : over)
    }
    this.#cursor = undefined
    this.#round = false
    this.#roundFrom = mono + limits.alarmRetryMs
    this.#roundAt = Math.max(at, this.#roundFrom)
  }

  /** From the cursor on. Answers in how many ms there is more. */
  async #goOn(): Promise<number> {
    const { store, clock, limits } = this.#ports
    const now = clock.now()
    // The wall clock was put back.
    if (this.#cursor && this.#cursor.due > now) this.#cursor = undefined
    for (;;) {
      const after = this.#cursor
      const page = await store.due({ before: Number.MAX_SAFE_INTEGER, limit: pageMax, ...(after && { after }) })
      if (!this.#running) return Infinity
      if (this.#cursor !== after) continue
      const mono = clock.mono()
      for (const one of page) {
        if (one.due > now) {
          this.#round = true
          return one.due - now
        }
        if (!this.#isQuiet(one.actor, mono)) {
          if (!this.#hasPlace(mono)) return limits.alarmRetryMs
          this.#wake(one.actor, mono)
        }
        this.#cursor = one
      }
      if (page.length < pageMax) break
    }
    this.#round = true
    return Infinity
  }

  #isQuiet(actor: string, mono: number): boolean {
    return (this.#wakes.get(actor)?.quietUntil ?? -Infinity) > mono
  }

  #hasPlace(mono: number): boolean {
    for (const [actor, until] of this.#busy) {
      if (until > mono) break
      this.#busy.delete(actor)
    }
    return this.#busy.size < this.#ports.limits.alarmWakesMax
  }

  #wake(actor: string, mono: number): void {
    const { limits, wake } = this.#ports
    const failures = (this.#wakes.get(actor)?.failures ?? 0) + 1
    const quietUntil = mono + retryMs(failures, limits)
    this.#wakes.set(actor, { failures, quietUntil })
    this.#busy.delete(actor)
    this.#busy.set(actor, mono + limits.alarmRetryMs)
    this.#roundAt = Math.min(this.#roundAt, quietUntil)
    wake(actor)
  }
}
