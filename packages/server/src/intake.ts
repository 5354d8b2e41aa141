import type { LoopLoad } from "@sojourn/core"
import { createLoopRounds, node, type LoopParts } from "./loop-rounds.ts"

/** What a round of the event loop may take in, ms of work, before what it has to send gets its turn: a tenth of what a node may be late, within these. */
const shareMsMin = 4
const shareMsMax = 10
/**
 * The same while connections come. libuv takes one a round (1.52, `uv__server_io`), so rounds of 10 ms would let in a hundred a second: of a busy
 * node's clients that all come back at once the last ones would wait for minutes.
 */
const acceptingShareMs = 0.5
/** What may wait, in frames and in characters; past it what waits longest is read at once. */
const waitingMax = 65_536
const waitingCharsMax = 16 * 1_048_576
/** How far back the demand looks: so long, or as long as so many frames take, or half of what a frame that comes now will wait. */
const demandMsMin = 25
const demandFramesMin = 100
/**
 * What a frame costs is the mean of about so many rounds, of which none counts for more than so many times what its frames should have taken, and
 * before that is known for more than a share: it was a stall, or the round after one, which fetches all that came meanwhile. So many of
 * them running are neither: frames have come to cost more, and what they cost before is forgotten as fast as time passes.
 */
const costRounds = 33
const costTimesMax = 4
const dearRoundsMin = 3
/** Before so many rounds it is not known. */
const costRoundsMin = 3
/** Nor is it more than all that the loop has done in so long, if it read so many. */
const workMs = 500
const workFramesMin = 100

export interface Intake {
  readonly load: LoopLoad
  /** Runs it now, or where this round has had its share, in one of the next; in the order of the calls. */
  take(chars: number, run: () => void): void
  /** A connection was accepted: more of them may wait for the next rounds. */
  accepted(): void
}

interface Waiting {
  readonly chars: number
  readonly run: () => void
}

/**
 * Lets frames in, a share a round. Node handles everything that has come before it hears that a write is durable: a node with more to do than it can
 * would read for longer and longer, and what it has done already would wait as long to be told.
 *
 * What waits here is counted, and how long rounds are that have enough to read tells what a frame costs, with all that comes of it. So `load`
 * knows how long what comes now will wait, and how much is asked of the node. A stall shows in neither for longer than it lasts: what it
 * left behind only gets less, and what came meanwhile is not more than usual for its time.
 */
export function createIntake(lateMsMax: number, parts: LoopParts = node): Intake {
  const shareMs = Math.min(shareMsMax, Math.max(shareMsMin, lateMsMax / 10))
  const loop = createLoopRounds(parts)
  let waiting: (Waiting | undefined)[] = []
  let head = 0
  let chars = 0
  let reading = false
  let asked = false
  /** Of the round that is under way; and whether a connection was accepted since the last share. */
  let roundShareMs = shareMs
  let accepting = false
  /**
   * When the last share began, and the round in which something came first since; what has come and what was read since, whether it left some
   * waiting, whether the round before was longer than a share, and how many running were longer than they may count for.
   */
  let sharedAt = 0
  let openedAt = 0
  let came = 0
  let done = 0
  let full = false
  /** What was read as it came, since then. */
  let atOnce = 0
  let longBefore = false
  let dearRounds = 0
  /** What came in which time, and what was read in which; of earlier rounds less and less. */
  let cameSum = 0
  let cameMs = 0
  let doneSum = 0
  let doneMs = 0
  /** Since when the loop's work is looked at, how long it had rested by then, and what was read since. */
  let workAt = 0
  let workIdleMs = 0
  let workDone = 0
  let costsOf = 0
  let costMs = 0
  const waits = (): number => waiting.length - head
  const known = (): boolean => costsOf >= costRoundsMin
  const read = (run: () => void): void => {
    reading = true
    done++
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
    read(first.run)
  }
  const ask = (): void => {
    if (asked) return
    asked = true
    parts.atEnd(share)
  }
  const learn = (now: number): void => {
    const passedMs = now - sharedAt
    // Where the share before had all read, what passed until something came is no frame's cost: the loop may have rested for hours.
    const tookMs = full ? passedMs : now - Math.max(sharedAt, openedAt)
    // One that had all read, and is long by itself, not the one before it, has been stalled.
    const long = tookMs >= shareMs
    if (done > 0 && (full || (long && longBefore))) {
      const mostMs = known() ? costTimesMax * done * costMs : shareMs
      dearRounds = tookMs > mostMs ? dearRounds + 1 : 0
      const dear = dearRounds >= dearRoundsMin
      const forgot = dear ? Math.min(1, Math.max(1, tookMs / shareMs) / costRounds) : 1 / costRounds
      doneSum += done - doneSum * forgot
      doneMs += (dear ? tookMs : Math.min(tookMs, mostMs)) - doneMs * forgot
      costMs = doneMs / doneSum
      costsOf++
    }
    // Rounds that have enough to read are rare below the capacity: what one learned while the node was cold would stay.
    workDone += done
    if (now - workAt >= workMs) {
      const idleMs = parts.idleMs()
      const workedMs = now - workAt - (idleMs - workIdleMs)
      if (workDone >= workFramesMin && costMs * workDone > workedMs) {
        costMs = workedMs / workDone
        doneMs = doneSum * costMs
      }
      workAt = now
      workIdleMs = idleMs
      workDone = 0
    }
    const backMs = Math.max(demandMsMin, demandFramesMin * costMs, (waits() * costMs) / 2)
    const kept = Math.max(0, 1 - passedMs / backMs)
    // However long it was, it weighs no more than that: what comes after a rest of hours is not to be lost in it.
    const weight = Math.min(1, backMs / passedMs)
    cameSum = cameSum * kept + came * weight
    cameMs = cameMs * kept + passedMs * weight
    came = 0
    done = 0
    sharedAt = now
    longBefore = long
  }
  const share = (): void => {
    const now = parts.mono()
    learn(now)
    atOnce = 0
    roundShareMs = accepting ? acceptingShareMs : shareMs
    accepting = false
    const until = now + roundShareMs
    // One by one: an action that awaits does its work when what let it in is over.
    const step = (): void => {
      if (waits() > 0 && parts.mono() < until) {
        parts.behind(step)
        next()
        return
      }
      asked = false
      full = waits() > 0
      if (full) ask()
    }
    step()
  }
  return {
    load: {
      lateMs: () => loop.roundMs() + (known() ? waits() * costMs : 0),
      demand: () => (known() ? (cameSum * costMs) / cameMs : 0),
      rounds: () => loop.rounds(),
      busyMs: () => loop.busyMs(),
    },
    take(size, run) {
      const roundMs = loop.roundMs()
      came++
      if (!asked) openedAt = parts.mono() - roundMs
      ask()
      // What runs may bring more, which is not to run inside of it.
      // Nor does the clock tell what has been read already takes, where its actions await.
      if (waits() === 0 && !reading && Math.max(roundMs, atOnce * costMs) < roundShareMs) {
        atOnce++
        read(run)
        return
      }
      waiting.push({ chars: size, run })
      chars += size
      if (!reading) while (waits() > waitingMax || chars > waitingCharsMax) next()
    },
    accepted() {
      accepting = true
      roundShareMs = acceptingShareMs
    },
  }
}
