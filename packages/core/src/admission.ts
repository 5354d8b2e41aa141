import { SojournError } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Chance, Clock, EventSink, LoopLoad } from "./ports.ts"

/**
 * Whether what a client asks for is taken on, or refused because the node has more to do than it can: OVERLOADED.
 *
 * Past its capacity a node is late, and ever later, in two places. Frames wait until they are read: what comes now, as long as the loop
 * takes for those before it. And turns that have ended wait for their write, while the loop has no time for the store. Both together are
 * how late the node is. One with time enough is late as well, after a pause or a burst or on a slow disk, and catches up or rests; so only
 * lateness that stands counts: no rest, and no round in which it was at most `lateMsMax`, for `overloadMsMin` (CoDel's standing queue,
 * RFC 8289, told by rounds instead of packets). For `overloadHoldMs` after a refusal a quarter of that time is enough: who was refused
 * comes back bit by bit, and the queue is not to grow as far again. And nobody is refused where less is asked of the node than it can do, by
 * so much that it will be in time again within `overloadHoldMs` by itself; within `overloadMsMin`, for as long after a refusal.
 *
 * A refusal takes all of a client's calls away for a while. So of what is late not everything is refused, but the more the later it
 * is: half of those who come when it is twice as late as it may be. Whoever was let in stays so until what was late then is done with, since
 * a refusal shows only afterwards: with a draw for each frame all would go, and come back together. Who was refused waits a random time.
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

/** Who asks: let in for that period. */
export interface Asker {
  period: number
}

/** Between two events of refusals. */
const eventMsMin = 1_000

export class Admission {
  readonly #o: AdmissionOptions
  #round = -1
  /** As long as the node was late when it began, at most `overloadHoldMs`. */
  #period = 0
  #periodEnds = -Infinity
  /** How long the last write had made a turn wait, and when that was known. */
  #writeMs = 0
  #wroteAt = -Infinity
  /** How late the node was at the last frame. */
  #lateMs = 0
  /** When the round after one that was in time was first looked at. */
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

  /** A write is durable; the first turn in it ended `waitedMs` before. */
  wrote(waitedMs: number): void {
    this.#writeMs = waitedMs
    this.#wroteAt = this.#o.clock.mono()
  }

  /** What the client whose frame is read at `now` (monotonic) is told; undefined: it is served. */
  refusal(asker: Asker, now = this.#o.clock.mono()): SojournError | undefined {
    const { loop, limits, chance, events } = this.#o
    if (!loop) return undefined
    const { lateMsMax, overloadMsMin, overloadHoldMs, overloadRetryMs, overloadRetryMsMax } = limits
    // What waited so long tells of no longer than that.
    const lateMs = loop.lateMs() + (now - this.#wroteAt <= this.#writeMs ? this.#writeMs : 0)
    const round = loop.rounds()
    if (round !== this.#round) {
      if (this.#lateMs <= lateMsMax) this.#inTimeAt = now
      this.#round = round
    }
    this.#lateMs = lateMs
    if (lateMs <= lateMsMax) return undefined
    const standsMs = Math.min(loop.busyMs(), now - this.#inTimeAt)
    if (standsMs < (now < this.#holdUntil ? overloadMsMin / 4 : overloadMsMin)) return undefined
    const patienceMs = now < this.#holdUntil ? overloadMsMin : overloadHoldMs
    if (lateMs - lateMsMax <= (1 - loop.demand()) * patienceMs) return undefined
    if (now >= this.#periodEnds) {
      this.#period++
      this.#periodEnds = now + Math.min(lateMs, overloadHoldMs)
    }
    if (asker.period === this.#period) return undefined
    // Up to here nothing has been drawn: where nobody is late, chance takes the same course as without this.
    if (chance.random() < lateMsMax / lateMs) {
      asker.period = this.#period
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
