import type { LoopLoad } from "@sojourn/core"
import { createLoopLoad, node, type LoopParts } from "./loop-load.ts"

/** What a round of the event loop may take in, ms of work, before what it has to send gets its turn: a tenth of what a node may be late, within these. */
const shareMsMin = 4
const shareMsMax = 10
/** What may wait, in frames and in characters; past it what waits longest is read at once. */
const waitingMax = 65_536
const waitingCharsMax = 16 * 1_048_576

export interface Intake {
  readonly load: LoopLoad
  /** Runs it now, or where this round has had its share, in one of the next; in the order of the calls. */
  take(chars: number, run: () => void): void
}

interface Waiting {
  readonly chars: number
  readonly run: () => void
  readonly at: number
  /** Of the round in which it came, when it came. */
  readonly roundMs: number
}

/**
 * Lets frames in, a share a round. Node handles everything that has come before it hears that a write is durable: a node with more to do than it can
 * would read for longer and longer, and what it has done already would wait as long to be told.
 *
 * What waits here counts as late by how long it has (`load`): that is what tells who is to be refused.
 */
export function createIntake(lateMsMax: number, parts: LoopParts = node): Intake {
  const shareMs = Math.min(shareMsMax, Math.max(shareMsMin, lateMsMax / 10))
  const loop = createLoopLoad(parts)
  let waiting: (Waiting | undefined)[] = []
  let head = 0
  let chars = 0
  let running: Waiting | undefined
  let reading = false
  let asked = false
  const read = (run: () => void): void => {
    reading = true
    try {
      run()
    } finally {
      reading = false
    }
  }
  const next = (): void => {
    const first = waiting[head] as Waiting
    waiting[head++] = undefined
    chars -= first.chars
    if (head === waiting.length) {
      waiting = []
      head = 0
    } else if (head >= 1_024) {
      waiting = waiting.slice(head)
      head = 0
    }
    running = first
    try {
      read(first.run)
    } finally {
      running = undefined
    }
  }
  const ask = (): void => {
    if (asked) return
    asked = true
    parts.atEnd(share)
  }
  const share = (): void => {
    asked = false
    const until = parts.mono() + shareMs
    try {
      while (waiting.length > 0 && parts.mono() < until) next()
    } finally {
      if (waiting.length > 0) ask()
    }
  }
  return {
    load: {
      roundMs: () => (running ? running.roundMs + parts.mono() - running.at : loop.roundMs()),
      rounds: () => loop.rounds(),
      busyMs: () => loop.busyMs(),
    },
    take(size, run) {
      // What runs may bring more, which is not to run inside of it.
      const roundMs = loop.roundMs()
      if (waiting.length === 0 && !reading && roundMs < shareMs) {
        read(run)
        return
      }
      waiting.push({ chars: size, run, at: parts.mono(), roundMs })
      chars += size
      if (!reading) while (waiting.length - head > waitingMax || chars > waitingCharsMax) next()
      if (waiting.length > 0) ask()
    },
  }
}
