import { performance } from "node:perf_hooks"

/** A shorter wait is the cost of asking the system, not a rest. */
const restMsMin = 0.2
/** Of its time, what a busy loop may rest, and so much at once: clients that hold back until they are answered leave it some in each flush. */
const restShare = 0.05
const restMsMax = 50

/** What is asked of the runtime: a parameter so that a test decides it. */
export interface LoopParts {
  mono(): number
  /** Ms that the loop has waited for something to do, in all. */
  idleMs(): number
  /** Runs `fn` when everything that was ready has been handled. */
  atEnd(fn: () => void): void
  /** Runs `fn` when what runs now is over, and with it all that awaited nothing but what is there already. */
  behind(fn: () => void): void
}

export const node: LoopParts = {
  mono: () => performance.now(),
  idleMs: () => performance.nodeTiming.idleTime,
  atEnd: (fn) => {
    setImmediate(fn)
  },
  // Node runs what was put off to the next tick when no promise has anything left to do.
  behind: (fn) => {
    queueMicrotask(() => {
      process.nextTick(fn)
    })
  },
}

export interface LoopRounds {
  /** Ms since the round began: what is read now may have waited so long, besides what the round before took. */
  roundMs(): number
  /** Number of the round that is under way. */
  rounds(): number
  /** Ms since the loop last had time to rest; moments that hardly count do not. */
  busyMs(): number
}

/**
 * The rounds of Node's event loop. A round is looked at only where somebody asks during it: it began when the loop came back from waiting, which nobody
 * is told; where it did not wait, when the round before ended. A first look after a rest counts from itself: what ran before it in
 * that round is not seen.
 */
export function createLoopRounds(parts: LoopParts = node): LoopRounds {
  let open = false
  let rounds = 0
  let began = 0
  let ended = -Infinity
  let idle = 0
  let busySince = 0
  /** What it may rest and still be busy, as of `sparedAt`. */
  let spareMs = 0
  let sparedAt = 0
  const end = (): void => {
    open = false
    ended = parts.mono()
    idle = parts.idleMs()
  }
  const look = (now: number): void => {
    if (open) return
    open = true
    rounds++
    parts.atEnd(end)
    const restMs = parts.idleMs() - idle
    spareMs = Math.min(restMsMax, spareMs + (now - sparedAt) * restShare)
    sparedAt = now
    if (restMs < restMsMin) {
      began = Math.max(ended, busySince)
      return
    }
    began = now
    spareMs -= restMs
    if (spareMs >= 0) return
    spareMs = 0
    busySince = now
  }
  return {
    roundMs() {
      const now = parts.mono()
      look(now)
      return now - began
    },
    rounds() {
      if (!open) look(parts.mono())
      return rounds
    },
    busyMs() {
      const now = parts.mono()
      look(now)
      return now - busySince
    },
  }
}
