import { decodeRecord, encodeRecord, type StoredRecord } from "./stored-value.ts"
import type { BatchTable } from "./write-batch.ts"

/**
 * The ownership records. One that a batch writes several times is written once, when it is sealed; one of an actor that is awake is known
 * without reading it, since nobody else writes here.
 */
export class Records {
  readonly #table: BatchTable
  /** Whether the record is to be remembered. */
  readonly #awake: (actor: string) => boolean
  readonly #known = new Map<string, StoredRecord>()
  #written = new Map<string, { readonly key: Uint8Array; readonly stored: StoredRecord }>()

  constructor(table: BatchTable, awake: (actor: string) => boolean) {
    this.#table = table
    this.#awake = awake
  }

  /** Whoever asks gets the same one each time, so it is frozen. */
  get(actor: string, key: Uint8Array): StoredRecord | undefined {
    const known = this.#written.get(actor)?.stored ?? this.#known.get(actor)
    if (known !== undefined) return known
    const bytes = this.#table.get(key)
    return bytes && decodeRecord(key, bytes, actor)
  }

  put(actor: string, key: Uint8Array, stored: StoredRecord): void {
    Object.freeze(stored.record)
    this.#written.set(actor, { key, stored })
  }

  /** The last thing in a batch that wrote. */
  seal(): void {
    for (const { key, stored } of this.#written.values()) this.#table.put(key, encodeRecord(key, stored))
  }

  /** What was written is durable. */
  kept(): void {
    for (const [actor, { stored }] of this.#written)
      if (this.#awake(actor)) this.#known.set(actor, stored)
      else this.#known.delete(actor)
    this.#written = new Map()
  }

  /** What was written is given up. */
  undo(): void {
    this.#written = new Map()
  }

  /** Nobody knows what became of it. */
  lost(): void {
    this.#written = new Map()
    this.#known.clear()
  }
}
