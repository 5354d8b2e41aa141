import type { Database, RootDatabase } from "lmdb"
import { setImmediate } from "node:timers/promises"

import type { Table } from "./actor-rows.ts"

/**
 * What the steps of a batch write, kept beside what is on the disk until all of it goes there in one transaction (`write`). A step sees
 * what it and those before it wrote. So a step needs no transaction: it runs when its batch is made, and the engine's own thread does the
 * rest.
 *
 * The engine takes the writes as one block. Where one of them fails it aborts the transaction (lmdb 3.5.6, WriteWorker::Write in its
 * writer.cpp: `resultCode`) and the promise rejects, so never a part of them is on the disk.
 */
export class WriteBatch<Name extends string> {
  readonly tables: Readonly<Record<Name, BatchTable>>
  readonly #root: Root
  readonly #all: readonly BatchTable[]

  constructor(root: Root, tables: Readonly<Record<Name, Table>>) {
    this.#root = root
    const all = Object.entries<Table>(tables).map(([name, table]) => [name, new BatchTable(table)] as const)
    this.tables = Object.fromEntries(all) as Record<Name, BatchTable>
    this.#all = all.map(([, table]) => table)
  }

  /** Settles once it is known what became of them, as far as that gets known; later reads see it. Nothing to write: at once. */
  async write(): Promise<void> {
    if (this.#all.every((table) => table.size === 0)) return
    try {
      const all = this.#root.batch(() => {
        for (const table of this.#all) table.send()
      })
      // The engine begins a round of the event loop after a write, or with the next one if it has more than `txnStartThreshold`: with this.
      const start = this.#root.batch(() => undefined)
      await Promise.all([all, start])
    } catch (error) {
      throw await commitErrorOf(error)
    } finally {
      this.#root.resetReadTxn()
    }
  }

  /** Forgets them: they are on the disk, or given up. */
  clear(): void {
    for (const table of this.#all) table.clear()
  }
}

type Root = Pick<RootDatabase<Uint8Array, Uint8Array>, "batch" | "resetReadTxn">

interface Written {
  readonly key: Uint8Array
  /** undefined: it is removed. */
  readonly value: Uint8Array | undefined
}

/** A table as the steps of a batch see it. */
export class BatchTable {
  readonly #table: Table
  #written = new Map<string, Written>()

  constructor(table: Table) {
    this.#table = table
  }

  get size(): number {
    return this.#written.size
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const written = this.#written.size > 0 ? this.#written.get(textOf(key)) : undefined
    if (written === undefined) return this.#table.get(key)
    // A copy, as what is read off the disk: who gets it may keep and change it.
    return written.value && new Uint8Array(written.value)
  }

  has(key: Uint8Array): boolean {
    const written = this.#written.get(textOf(key))
    return written ? written.value !== undefined : this.#table.doesExist(key)
  }

  /** Neither key nor value may change afterwards. */
  put(key: Uint8Array, value: Uint8Array): void {
    this.#write(key, value)
  }

  remove(key: Uint8Array): void {
    this.#write(key, undefined)
  }

  /** What is on the disk, in the order of keys. */
  stored(): ReturnType<Database<Uint8Array, Uint8Array>["getRange"]> {
    return this.#table.getRange({})
  }

  /** Gives them to the engine. */
  send(): void {
    for (const { key, value } of this.#written.values()) {
      if (value === undefined) void this.#table.remove(key)
      else void this.#table.put(key, value)
    }
  }

  /**
   * With a new map: the table of one that was cleared goes on referring to what came after it (V8's OrderedHashTable), so once one of them is in
   * the old generation the collector takes all that follow, with what was in them, for alive until its next full collection.
   */
  clear(): void {
    if (this.#written.size > 0) this.#written = new Map()
  }

  #write(key: Uint8Array, value: Uint8Array | undefined): void {
    // The engine would throw in the middle of the block, after which it commits what it has of it.
    if (key.length === 0 || key.length > keyBytesMax)
      throw new RangeError(`a key has 1 to ${keyBytesMax} bytes, got ${key.length}`)
    this.#written.set(textOf(key), { key, value })
  }
}

/** Of LMDB, with pages of 4,096 bytes (`maxKeySize`). */
const keyBytesMax = 1_978

/** A character for each byte. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")
}

/** lmdb rejects with a general error whose `commitError` is a promise that is rejected with the engine's, in the same callback. */
async function commitErrorOf(error: unknown): Promise<unknown> {
  const inner = error instanceof Error ? (error as { commitError?: unknown }).commitError : undefined
  if (!(inner instanceof Promise)) return error
  return Promise.race([inner.catch((cause: unknown) => cause), setImmediate(error)])
}
