/**
 * The output gate of one activation: nothing leaves before what it depends on is durable.
 *
 * Every output waits in one queue, in the order in which turns and queries produced it. An item names the revision that must be
 * durable, and, if it only read, that the ownership must be proved by a store operation begun after it was computed (a commit that
 * succeeds proves it as well as a check). Items leave in order, so a session sees its replies, events and state in order too.
 *
 * If the order "durable, then send" is swapped, a crash in between takes back what a client was told (M10 in docs/handoff.md).
 */
export class OutputGate {
  /** Those below `#head` have left, and are given back at once: what they hold would outlive the collector's young generation. */
  #items: ({ readonly revision: number; readonly proof: number; readonly send: () => void } | undefined)[] = []
  #head = 0
  /** Items ever held. */
  #count = 0
  #durable: number
  /** Proofs are numbered as they start. */
  #started = 0
  #proved = 0
  /** Highest proof that any item has asked for. */
  #needed = 0

  constructor(durable: number) {
    this.#durable = durable
  }

  get durable(): number {
    return this.#durable
  }

  get size(): number {
    return this.#items.length - this.#head
  }

  /** Items that have left: those numbered up to this. */
  get left(): number {
    return this.#count - this.size
  }

  /** The output of a turn: leaves when its own revision is durable. Answers its number. */
  holdWrite(revision: number, send: () => void): number {
    this.#items.push({ revision, proof: 0, send })
    return ++this.#count
  }

  /** Something read at `revision`: leaves when that is durable and a proof begun from now on has succeeded. Answers its number. */
  holdRead(revision: number, send: () => void): number {
    this.#needed = this.#started + 1
    this.#items.push({ revision, proof: this.#needed, send })
    return ++this.#count
  }

  /** A store operation that will prove the ownership begins; the number goes to `proved`. */
  begin(): number {
    return ++this.#started
  }

  /** That operation succeeded, and everything up to `durable` is durable. Sends what may leave. */
  proved(proof: number, durable: number): void {
    if (proof > this.#proved) this.#proved = proof
    if (durable > this.#durable) this.#durable = durable
    while (this.#head < this.#items.length) {
      const item = this.#items[this.#head]
      if (item === undefined || item.revision > this.#durable || item.proof > this.#proved) break
      this.#items[this.#head++] = undefined
      item.send()
    }
    if (this.#head === this.#items.length) {
      this.#items = []
      this.#head = 0
    } else if (this.#head > 1024) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
  }

  /** Whether anything waits for a proof that has not begun. */
  get needsProof(): boolean {
    return this.size > 0 && this.#needed > this.#started
  }

  /** What waits is never sent: its write failed. */
  discard(): number {
    const dropped = this.size
    this.#items = []
    this.#head = 0
    return dropped
  }
}
