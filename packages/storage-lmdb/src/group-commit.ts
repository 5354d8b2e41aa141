import { SojournError } from "@sojourn/core"
import { setImmediate } from "node:timers/promises"

/**
 * Runs operations in batches: one transaction and one flush a batch, one batch at a time, the next gathering meanwhile. An operation's
 * promise settles only when its batch's flush is known to have ended, whether or not the operation wrote.
 *
 * What a failure leaves:
 * - an operation throws before its first write: it alone rejects, with that error;
 * - an operation throws after a write: the batch is given up as a whole, STORE_UNAVAILABLE, nothing was executed;
 * - the engine refuses a write, or commit or flush fail: UNKNOWN_OUTCOME for the whole batch. LMDB aborted the transaction unless the very
 *   last write, the one that publishes it, is what failed;
 * - the disk has hardly room for it: what would write is not begun, STORE_UNAVAILABLE, nothing was executed; reads are answered. The engine
 *   survives a full disk as any failed flush, but for one that it meets inside of a transaction (`mdb_page_spill`, with a large value): lmdb 3.5.6
 *   was seen to corrupt its heap there, which ends the process;
 * - no answer within `commitMsMax`: UNKNOWN_OUTCOME for the batch and STORE_UNAVAILABLE for everything else until that batch settles, if
 *   it ever does. (After a failure of the publishing write LMDB refuses all transactions, and lmdb 3.5.6 then never settles the promise:
 *   WriteWorker::Write in its writer.cpp returns without an answer.)
 */
export interface GroupCommitOptions {
  readonly gate: FlushGate
  readonly commitMsMax: number
  readonly queueBytesMax: number
  /** Bytes that the disk has left for this process; Infinity: not known. */
  readonly room: () => number
  /** Runs before the first operation of each batch. */
  readonly begin: () => void
  /** Runs after the last operation of a batch in which `writes` operations wrote. */
  readonly seal: (writes: number) => void
  /** Commits and flushes what the batch wrote. */
  readonly write: () => Promise<void>
  /** Runs once the flush of those has ended, before any of their promises settles. */
  readonly flushed: (writes: number) => void
  /** Runs where a batch has failed: it was given up before it was written, or nobody knows (`UNKNOWN_OUTCOME`). */
  readonly failed: (outcome: "rolled-back" | "unknown") => void
}

/** Wraps every flush: holds it back, delays or fails it. Calling `flush` commits and flushes a batch, once; it counts whether that is awaited or not. */
export type FlushGate = (flush: () => Promise<void>) => Promise<void>

interface Operation {
  readonly actor: string
  readonly bytes: number
  /** Its work: one for the record, and one for each entry that it brings. */
  readonly rows: number
  /** Tells whether it wrote by `wrote()`, also if it threw. */
  readonly run: () => unknown
  readonly wrote: () => boolean
  /** It may write. */
  readonly writes: boolean
  /** Whether its write counts for the watermark. */
  readonly counts: boolean
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: unknown) => void
}

interface Outcome {
  readonly answer?: unknown
  readonly error?: unknown
}

/**
 * Bounds of one batch. Its operations run on the event loop, so a batch may hold as many rows as lately took at most `batchMs` there: many
 * where each is small, since the slower the disk, the more must share a flush.
 */
const batchMs = 6
const batchRowsMin = 256
const batchRowsMax = 4_096
const batchBytesMax = 16 * 1024 * 1024
/** What a batch may make the file grow by: a page for each operation, what it brings, with its overflow, and some more. */
export const roomMin = 1_048_576
const roomPerOp = 4_096
const roomPerByte = 3
/** Operations waiting, all batches together. */
const queueOpsMax = 65_536

export class GroupCommit {
  readonly #o: GroupCommitOptions
  #queue: Operation[] = []
  #queueBytes = 0
  #batchRows = batchRowsMin
  /** Operations of each actor that have not settled. */
  readonly #pending = new Map<string, number>()
  #running: Promise<void> | undefined
  /** Fulfils when the last write has ended, also one that its gate gave up on. */
  #written: Promise<unknown> = Promise.resolve()
  /** A write that its gate gave up on goes on: memory may be behind the disk at any moment. */
  #adrift = false
  #stalled = false
  /** Fulfils when what did not answer in time has ended. */
  #answered: Promise<void> = Promise.resolve()
  #closed = false

  constructor(options: GroupCommitOptions) {
    this.#o = options
  }

  /** While a commit has not answered in time: fulfils when it has ended, if it ever does. */
  get stalled(): Promise<void> | undefined {
    return this.#stalled ? this.#answered : undefined
  }

  /** Whether an operation on this actor, or on any (undefined), has been submitted and has not settled, as far as is known. */
  busy(actor: string | undefined): boolean {
    return this.#adrift || (actor === undefined ? this.#pending.size > 0 : this.#pending.has(actor))
  }

  /** Throws where the store serves no operation now. */
  assertServing(): void {
    if (this.#closed) throw new SojournError("STORE_UNAVAILABLE", "the store is closed")
    if (this.#stalled)
      throw new SojournError(
        "STORE_UNAVAILABLE",
        `the disk has not answered a commit for over ${this.#o.commitMsMax} ms; nothing is read or written until it does`,
      )
  }

  /** `bytes`: what it brings, for the bounds. `counts`: its write is one of an actor. */
  submit<T>(
    actor: string,
    bytes: number,
    run: () => T,
    wrote: () => boolean,
    {
      writes = true,
      counts = true,
      rows = 1,
    }: { readonly writes?: boolean; readonly counts?: boolean; readonly rows?: number } = {},
  ): Promise<T> {
    this.assertServing()
    if (this.#queue.length >= queueOpsMax || this.#queueBytes + bytes > this.#o.queueBytesMax)
      throw new SojournError(
        "STORE_UNAVAILABLE",
        `${this.#queue.length} operations with ${this.#queueBytes} bytes wait for the disk already`,
      )
    this.#pending.set(actor, (this.#pending.get(actor) ?? 0) + 1)
    this.#queueBytes += bytes
    const settled = new Promise<T>((resolve, reject) => {
      this.#queue.push({
        actor,
        bytes,
        rows,
        run,
        wrote,
        writes,
        counts,
        resolve: resolve as (answer: unknown) => void,
        reject,
      })
    })
    this.#running ??= this.#drain()
    return settled
  }

  /** Refuses what comes from now on and waits for what is under way. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#running
  }

  async #drain(): Promise<void> {
    await Promise.resolve()
    while (this.#queue.length > 0) await this.#commit()
    this.#running = undefined
  }

  #take(): Operation[] {
    let bytes = 0
    let rows = 0
    let count = 0
    for (const operation of this.#queue) {
      if (count > 0 && (rows + operation.rows > this.#batchRows || bytes + operation.bytes > batchBytesMax)) break
      bytes += operation.bytes
      rows += operation.rows
      count++
    }
    this.#queueBytes -= bytes
    return this.#queue.splice(0, count)
  }

  /** Without what the disk has no room for. */
  #fitting(batch: readonly Operation[]): readonly Operation[] {
    const writing = batch.filter(({ writes }) => writes)
    if (writing.length === 0) return batch
    const bytes = writing.reduce((sum, operation) => sum + operation.bytes, 0)
    const room = this.#o.room()
    if (room >= roomMin + roomPerOp * writing.length + roomPerByte * bytes) return batch
    const error = new SojournError(
      "STORE_UNAVAILABLE",
      `the disk is full: ${room} bytes are left; nothing was written`,
      {
        retryAfterMs: 1_000,
      },
    )
    for (const operation of writing) this.#settle(operation, { error })
    return batch.filter(({ writes }) => !writes)
  }

  async #commit(): Promise<void> {
    const outcomes: Outcome[] = []
    let batch: readonly Operation[] | undefined
    let writes = 0
    let over = false
    const run = (): boolean => {
      if (over) return false
      batch = this.#fitting(this.#take())
      writes = this.#run(batch, outcomes)
      return true
    }
    const ended = this.#flush(run).then(() => this.#o.flushed(writes))
    try {
      await this.#inTime(ended)
    } catch (error) {
      over = true
      // Where it never ran, it fails those that it would have taken.
      for (const operation of batch ?? this.#take()) this.#settle(operation, { error })
      return
    }
    over = true
    if (batch === undefined) for (const operation of this.#take()) this.#settle(operation, { error: neverRan() })
    else for (const [i, operation] of batch.entries()) this.#settle(operation, outcomes[i] ?? { error: neverRan() })
  }

  async #flush(run: () => boolean): Promise<void> {
    let givenUp = false
    let writing = false
    let flushing: Promise<void> | undefined
    const write = async (): Promise<void> => {
      writing = true
      try {
        await this.#o.write()
      } finally {
        writing = false
        // What came of it is known only now.
        if (givenUp) {
          this.#adrift = false
          this.#o.failed("unknown")
        }
      }
    }
    const flush = async (): Promise<void> => {
      await this.#written
      // All that this round of the event loop brings shares the batch.
      await setImmediate()
      if (givenUp || !run()) return
      const written = write()
      this.#written = Promise.allSettled([written])
      await written
    }
    try {
      await this.#o.gate(() => {
        if (flushing) return flushing
        flushing = flush()
        // A gate that has given up need not look at it.
        flushing.catch(() => undefined)
        return flushing
      })
      // The gate may have ended before it, or have kept its failure to itself.
      await flushing
    } catch (error) {
      givenUp = true
      if (writing) this.#adrift = true
      this.#o.failed(error instanceof Aborted ? "rolled-back" : "unknown")
      throw unknownUnlessAborted(error)
    }
  }

  #run(batch: readonly Operation[], outcomes: Outcome[]): number {
    const began = performance.now()
    let writes = 0
    try {
      this.#o.begin()
    } catch (error) {
      throw new Aborted(error)
    }
    for (const operation of batch) {
      try {
        outcomes.push({ answer: operation.run() })
      } catch (error) {
        if (operation.wrote()) throw new Aborted(error)
        outcomes.push({ error })
      }
      if (operation.wrote() && operation.counts) writes++
    }
    try {
      if (writes > 0) this.#o.seal(writes)
    } catch (error) {
      throw new Aborted(error)
    }
    this.#adapt(
      batch.reduce((sum, { rows }) => sum + rows, 0),
      performance.now() - began,
    )
    return writes
  }

  #adapt(rows: number, ms: number): void {
    if (ms > batchMs) this.#batchRows = Math.max(batchRowsMin, Math.floor(rows / 2))
    else if (rows > this.#batchRows / 2 && ms < batchMs / 2)
      this.#batchRows = Math.min(batchRowsMax, this.#batchRows * 2)
  }

  async #inTime(ended: Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#stall(ended)
        reject(new SojournError("UNKNOWN_OUTCOME", `the disk did not answer within ${this.#o.commitMsMax} ms`))
      }, this.#o.commitMsMax)
    })
    try {
      await Promise.race([ended, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #stall(ended: Promise<void>): void {
    this.#stalled = true
    const resume = (): void => {
      this.#stalled = false
    }
    this.#answered = ended.then(resume, resume)
    const waiting = this.#queue
    this.#queue = []
    this.#queueBytes = 0
    const error = new SojournError("STORE_UNAVAILABLE", "the disk does not answer; this operation was not begun")
    for (const operation of waiting) this.#settle(operation, { error })
  }

  #settle(operation: Operation, outcome: Outcome): void {
    const left = (this.#pending.get(operation.actor) ?? 1) - 1
    if (left === 0) this.#pending.delete(operation.actor)
    else this.#pending.set(operation.actor, left)
    if ("error" in outcome) operation.reject(outcome.error)
    else operation.resolve(outcome.answer)
  }
}

/** The batch was given up before it was written. */
class Aborted extends Error {
  constructor(cause: unknown) {
    super("the batch was given up", { cause })
  }
}

function neverRan(): SojournError {
  return new SojournError("UNKNOWN_OUTCOME", "the batch ended without its flush")
}

function unknownUnlessAborted(error: unknown): SojournError {
  if (error instanceof Aborted)
    return new SojournError("STORE_UNAVAILABLE", `the store could not write: ${said(error.cause)}`, {
      cause: error.cause,
    })
  return new SojournError("UNKNOWN_OUTCOME", `a commit to the store failed: ${said(error)}`, { cause: error })
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
