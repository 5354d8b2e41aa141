import { SojournError } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Chance, Clock, EventSink, LoopLoad } from "./ports.ts"

/**
 * Whether what a client asks for is taken on, or refused because the node has more to do than it can: OVERLOADED.
 *
 * Past its capacity a node reads frames late, and ever later: they wait in the system's buffers, where nobody counts them. What tells is how
 * late in a round of the event loop a frame is read, since it had come before the round began. A node with time enough is late as
 * well, after a pause or a burst, and catches up; so only lateness that stands counts: no rest, and no round that read everything within
 * `lateMsMax`, for `overloadMsMin` (CoDel's standing queue, RFC 8289, told by rounds instead of packets), and only while rounds do not get
 * shorter by themselves. For `overloadHoldMs` after a refusal a quarter of that time is enough: who was refused comes back bit by bit, and
 * the queue is not to grow as far again.
 *
 * A refusal takes all of a client's calls away for a while. So of what is late not everything is refused, but the more the later it
 * is: half of those who are twice as late as they may be, drawn once for what each has sent. Who was refused waits a random time.
 *
 * Not refused is what other POPs relay to here, whose gateways look at themselves only, nor what server code calls.
 */
export interface AdmissionOptions {
  /** Absent: nothing is ever refused. */
  readonly loop: LoopLoad | undefined
  readonly limits: Limits
  readonly clock: Clock
  readonly chance: Chance
  readonly events: EventSink
}

/** Who asks: let in, it is so for that round up to a lateness of `untilMs`. */
export interface Asker {
  round: number
  untilMs: number
}

/** Between two events of refusals. */
const eventMsMin = 1_000

export class Admission {
  readonly #o: AdmissionOptions
  #round = -1
  /** How late the last frame was read, of this round and of the two before. */
  #lateMs = 0
  #lateMsBefore = 0
  #lateMsEarlier = 0
  /** When a round that was in time was last over. */
  #inTimeAt = -Infinity
  #holdUntil = -Infinity
  #eventAt = -Infinity
  #refused = 0

  constructor(options: AdmissionOptions) {
    this.#o = options
  }

  /** Since the node was made. */
  get refused(): number {
    return this.#refused
  }

  /** What the client whose frame is read now is told; undefined: it is served. */
  refusal(asker: Asker): SojournError | undefined {
    const { loop, limits, clock, chance, events } = this.#o
    if (!loop) return undefined
    const { lateMsMax, overloadMsMin, overloadHoldMs, overloadRetryMs, overloadRetryMsMax } = limits
    const lateMs = loop.roundMs()
    const now = clock.mono()
    const round = loop.rounds()
    if (round !== this.#round) {
      if (this.#lateMs <= lateMsMax) this.#inTimeAt = now - lateMs
      this.#lateMsEarlier = this.#lateMsBefore
      this.#lateMsBefore = this.#lateMs
      this.#round = round
    }
    this.#lateMs = lateMs
    if (lateMs <= lateMsMax) return undefined
    const standsMs = Math.min(loop.busyMs(), now - this.#inTimeAt)
    if (standsMs < (now < this.#holdUntil ? overloadMsMin / 4 : overloadMsMin)) return undefined
    // A stall makes one round late, and the next one shorter.
    if (this.#lateMsEarlier <= lateMsMax || this.#lateMsBefore < this.#lateMsEarlier) return undefined
    if (asker.round === round && lateMs <= asker.untilMs) return undefined
    // Up to here nothing has been drawn: where nobody is late, chance takes the same course as without this.
    if (chance.random() < lateMsMax / lateMs) {
      asker.round = round
      asker.untilMs = lateMs + lateMsMax
      return undefined
    }
    this.#holdUntil = now + overloadHoldMs
    this.#refused++
    const error = new SojournError("OVERLOADED", undefined, {
      retryAfterMs: Math.round(overloadRetryMs + chance.random() * (overloadRetryMsMax - overloadRetryMs)),
    })
    if (now >= this.#eventAt + eventMsMin) {
      this.#eventAt = now
      events({ type: "node.overloaded", error, lateMs, standsMs, refused: this.#refused })
    }
    return error
  }
}
