import { SojournError, type Store, type StoreOpener } from "@sojourn/core"
import { open, type RootDatabase } from "lmdb"
import { randomUUID } from "node:crypto"
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  statfsSync,
  readSync,
  readdirSync,
  realpathSync,
  statSync,
} from "node:fs"
import { endianness } from "node:os"
import { dirname, join, resolve } from "node:path"

import { isAdopted, tableNames, type Table, type Tables } from "./actor-rows.ts"
import { isLockFile, lockFolder } from "./folder-lock.ts"
import type { FlushGate } from "./group-commit.ts"
import { fromLayout1 } from "./layout.ts"
import { LmdbStore, metaKeys } from "./lmdb-store.ts"
import { corrupt, decodeValue, encodeValue } from "./stored-value.ts"

export interface LmdbOptions {
  /** Default 30,000. A commit that takes longer is UNKNOWN_OUTCOME, and the store serves nothing until it has ended. */
  readonly commitMsMax?: number
  /** Bytes of operations that wait for the disk. Default 256 MiB; past it operations reject with STORE_UNAVAILABLE. */
  readonly queueBytesMax?: number
  /** Wraps every flush. For tests that hold flushes back or fail them; changes nothing else. Default: calls `flush`. */
  readonly flushGate?: FlushGate
}

/** Layout of the databases and values as a whole. */
const layoutVersion = 2
const dataFile = "data.mdb"
const littleEndian = endianness() === "LE"
/** What may lie in a folder that is to become a store. */
const harmless = (name: string): boolean => isLockFile(name) || name === "lock.mdb" || name === "lost+found"

/** Folders whose store is closing in this process: opening one waits for that instead of being refused. */
const closing = new Map<string, Promise<void>>()

/**
 * A store in a folder on a local disk, made if it does not exist. For `createPop({ storage: lmdb("./data") })`.
 *
 * What it acknowledged survives process, system and power failure as far as the disk keeps what it confirmed. One opener at a time: a
 * second one, in whichever process, is refused with STORE_IN_USE; a killed process leaves nothing that blocks the next. A folder that
 * holds something else, or a store of a later version, is refused with CORRUPT_RECORD and left as it is. Never copy a folder back from
 * a backup under the same POP id: peers notice and the POP refuses to serve (STORE_LOST).
 */
export function lmdb(path: string, options: LmdbOptions = {}): StoreOpener {
  const { commitMsMax = 30_000, queueBytesMax = 256 * 1024 * 1024 } = options
  for (const [name, value] of Object.entries({ commitMsMax, queueBytesMax }))
    if (!(Number.isFinite(value) && value > 0)) throw new RangeError(`${name} must be a number above 0, got ${value}`)
  return {
    kind: "lmdb",
    open: () =>
      openStore(resolve(path), { commitMsMax, queueBytesMax, flushGate: options.flushGate ?? ((flush) => flush()) }),
  }
}

async function openStore(path: string, options: Required<LmdbOptions>): Promise<Store> {
  const folder = madeFolder(path)
  // In a loop: another open may have waited for the same close, and be closing again.
  for (let busy = closing.get(folder); busy !== undefined; busy = closing.get(folder)) await busy
  const lock = await lockFolder(folder)
  let root: RootDatabase<Uint8Array, Uint8Array> | undefined
  try {
    const isNew = !existsSync(join(folder, dataFile))
    if (isNew) assertEmpty(folder)
    else assertLmdbFile(join(folder, dataFile))
    root = openEnvironment(folder)
    const tables = openTables(root, folder)
    const id = await identity(tables, folder)
    await dropStaged(tables)
    // The directory entries of a new store: without them a power cut takes the whole file, flushed or not.
    if (isNew) for (const made of [folder, dirname(folder)]) syncFolder(made)
    const environment = root
    const release = async (): Promise<void> => {
      await environment.close()
      await lock.release()
    }
    return new LmdbStore({
      id,
      tables,
      gate: options.flushGate,
      commitMsMax: options.commitMsMax,
      queueBytesMax: options.queueBytesMax,
      room: roomOf(folder),
      release,
      closing: (work) => tracked(folder, work),
    })
  } catch (error) {
    await root?.close()
    await lock.release()
    throw error
  }
}

async function tracked(folder: string, work: Promise<void>): Promise<void> {
  const ended = work.then(
    () => undefined,
    () => undefined,
  )
  closing.set(folder, ended)
  try {
    await work
  } finally {
    if (closing.get(folder) === ended) closing.delete(folder)
  }
}

function madeFolder(path: string): string {
  if (existsSync(path) && !statSync(path).isDirectory())
    throw new SojournError("CORRUPT_RECORD", `a store is a folder, and ${path} is a file`)
  try {
    mkdirSync(path, { recursive: true })
  } catch (cause) {
    throw new SojournError("STORE_UNAVAILABLE", `the folder ${path} could not be made`, { cause })
  }
  return realpathSync(path)
}

function assertEmpty(folder: string): void {
  const other = readdirSync(folder).find((name) => !harmless(name))
  if (other !== undefined)
    throw new SojournError(
      "CORRUPT_RECORD",
      `${folder} is no store and not empty (it holds ${JSON.stringify(other)}); give the store a folder of its own`,
    )
}

/**
 * lmdb 3.5.6 ends the process (a segmentation fault) where LMDB refuses a file, so what LMDB would refuse is refused here first: both
 * pages of meta data there, page flag, magic and version of the first (mdb.c: MDB_page, MDB_meta; the byte order is the machine's).
 */
function assertLmdbFile(path: string): void {
  const head = Buffer.alloc(8192)
  const descriptor = openSync(path, "r")
  const length = readSync(descriptor, head, 0, head.length, 0)
  closeSync(descriptor)
  if (length === 0) return
  const fields = new DataView(head.buffer, head.byteOffset, head.length)
  const flags = fields.getUint16(18, littleEndian)
  const [magic, version] = [fields.getUint32(24, littleEndian), fields.getUint32(28, littleEndian) & 0xffff]
  if (length < head.length || (flags & 0x08) === 0 || magic !== 0xbeefc0de || version !== 2)
    throw new SojournError("CORRUPT_RECORD", `${path} is no LMDB file of this version`)
}

function openEnvironment(folder: string): RootDatabase<Uint8Array, Uint8Array> {
  try {
    const options = {
      // Without it a folder whose name has a dot would be taken for a file.
      noSubdir: false,
      overlappingSync: false,
      // With batching by event turns lmdb 3.5.6 leaves a second promise of a failed commit unhandled, which ends the process.
      eventTurnBatching: false,
      // A batch begins at once (`write-batch.ts`).
      txnStartThreshold: 1,
      encoding: "binary",
      keyEncoding: "binary",
      maxDbs: tableNames.length,
    } as const
    return open(folder, options)
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause)
    throw new SojournError("STORE_UNAVAILABLE", `the store in ${folder} could not be opened: ${said}`, { cause })
  }
}

function openTables(root: RootDatabase<Uint8Array, Uint8Array>, folder: string): Tables {
  const names: readonly string[] = tableNames
  for (const key of root.getKeys()) {
    // lmdb ends the names of databases with a zero byte.
    const name = Buffer.from(key).toString().replace(/\0$/, "")
    if (!names.includes(name))
      throw new SojournError(
        "CORRUPT_RECORD",
        `${folder} holds the LMDB data of another program (${JSON.stringify(name)})`,
      )
  }
  const table = (name: (typeof tableNames)[number]): Table =>
    root.openDB<Uint8Array, Uint8Array>(name, { encoding: "binary", keyEncoding: "binary" })
  return {
    root,
    records: table("records"),
    kinds: table("kinds"),
    snapshots: table("snapshots"),
    journal: table("journal"),
    staged: table("staged"),
    due: table("due"),
    meta: table("meta"),
  }
}

/** The store's id, which is its first write: a store without one has never acknowledged anything. */
async function identity(tables: Tables, folder: string): Promise<string> {
  const { root, meta, records } = tables
  const bytes = meta.get(metaKeys.store)
  const put = (id: string): void => {
    void meta.put(metaKeys.store, encodeValue(metaKeys.store, { layout: layoutVersion, id }))
  }
  if (bytes !== undefined) {
    const { layout, id } = decodeValue(metaKeys.store, bytes, `the store in ${folder}`) as {
      layout: number
      id: string
    }
    if (layout === 1)
      // A child transaction, because only that can be rolled back once a write of it was made.
      await root.childTransaction(() => {
        void meta.put(metaKeys.row, encodeValue(metaKeys.row, fromLayout1(tables)))
        put(id)
      })
    else if (layout !== layoutVersion)
      throw corrupt(`the store in ${folder}`, `is of layout ${layout}; this version reads layout ${layoutVersion}`)
    return id
  }
  if (records.getKeysCount({ limit: 1 }) > 0) throw corrupt(`the store in ${folder}`, "has records and no identity")
  const id = randomUUID()
  await root.transaction(() => {
    put(id)
  })
  return id
}

/** Copies that came ahead of a grant which never came: they are of no more use, and nobody may find them. */
async function dropStaged({ root, staged, snapshots }: Tables): Promise<void> {
  const orphans = [...staged.getKeys()].filter((key) => !isAdopted(snapshots.get(key)))
  if (orphans.length > 0)
    await root.transaction(() => {
      for (const key of orphans) void staged.remove(key)
    })
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, "r")
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** So much room is not gone within `plentyMs`, whoever else writes there. */
const plentyBytes = 1_073_741_824
const plentyMs = 50

/** What others than root may still write there. Where that is plenty it is not asked for with each batch: that is a tenth of what a lone write costs the loop. */
function roomOf(folder: string): () => number {
  let room = 0
  let askedAt = -Infinity
  return () => {
    const now = performance.now()
    if (room >= plentyBytes && now - askedAt < plentyMs) return room
    askedAt = now
    try {
      const { bavail, bsize } = statfsSync(folder)
      room = bavail * bsize
    } catch {
      room = Infinity
    }
    return room
  }
}
