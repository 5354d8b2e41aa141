import { SojournError, type Store, type StoreOpener } from "@sojourn/core"
import { open, type RootDatabase } from "lmdb"
import { randomUUID } from "node:crypto"
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
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
import { roomMin, type FlushGate } from "./group-commit.ts"
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
const readersFile = "lock.mdb"
/** Of LMDB: a page has so many bytes, and the fields of a page of meta data end within so many. */
const pageBytesMin = 4_096
const pageBytesMax = 65_536
const metaBytes = 160
const littleEndian = endianness() === "LE"
/** What may lie in a folder that is to become a store. */
const harmless = (name: string): boolean => isLockFile(name) || name === readersFile || name === "lost+found"

/** Of lmdb.h: MDB_PAGE_NOTFOUND, MDB_CORRUPTED and MDB_INVALID. */
const damaged: ReadonlySet<unknown> = new Set([-30_797, -30_796, -30_793])

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
  // An empty one would be the working directory.
  if (typeof (path as unknown) !== "string" || path === "")
    throw new TypeError(`lmdb takes the path of a folder, for example lmdb("./data"); got ${JSON.stringify(path)}`)
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
  const { folder, top } = madeFolder(path)
  // In a loop: another open may have waited for the same close, and be closing again.
  for (let busy = closing.get(folder); busy !== undefined; busy = closing.get(folder)) await busy
  const lock = await lockFolder(folder)
  let root: RootDatabase<Uint8Array, Uint8Array> | undefined
  try {
    const room = roomOf(folder)
    assertOpenable(folder, room)
    root = openEnvironment(folder)
    const tables = openTables(root, folder)
    const id = await identity(tables, folder, top)
    await dropStaged(tables)
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
      room,
      release,
      closing: (work) => tracked(folder, work),
    })
  } catch (error) {
    await root?.close()
    await lock.release()
    throw named(error, folder)
  }
}

/** As what is wrong with the store. */
function named(error: unknown, folder: string): SojournError {
  if (error instanceof SojournError) return error
  const { code, message = String(error) } = error as { readonly code?: unknown; readonly message?: string }
  if (damaged.has(code)) return corrupt(`the LMDB file in ${folder}`, `is damaged (${message})`)
  return new SojournError("STORE_UNAVAILABLE", `the store in ${folder} could not be opened: ${message}`, {
    cause: error,
  })
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

/** `top`: the lowest folder above it that was there before. */
function madeFolder(path: string): { readonly folder: string; readonly top: string } {
  if (existsSync(path) && !statSync(path).isDirectory())
    throw new SojournError("CORRUPT_RECORD", `a store is a folder, and ${path} is a file`)
  try {
    const made = mkdirSync(path, { recursive: true })
    const folder = realpathSync(path)
    return { folder, top: dirname(made === undefined ? folder : realpathSync(made)) }
  } catch (cause) {
    throw new SojournError("STORE_UNAVAILABLE", `the folder ${path} could not be made`, { cause })
  }
}

/**
 * lmdb 3.5.6 ends the process (a segmentation fault, or a bus error) where LMDB refuses a folder, or finds less on the disk than it maps; so what
 * would lead there is refused here first.
 */
function assertOpenable(folder: string, room: () => number): void {
  const [data, readers] = [dataFile, readersFile].map((name) => join(folder, name)) as [string, string]
  if (!existsSync(data)) assertEmpty(folder)
  for (const path of [data, readers])
    if (existsSync(path) && !statSync(path).isFile())
      throw new SojournError("CORRUPT_RECORD", `a store has a file at ${path}, and this is none`)
  // What is made anew is mapped before it is written.
  if ([data, readers].some((path) => !existsSync(path) || statSync(path).size === 0)) {
    const left = room()
    if (left < roomMin)
      throw new SojournError(
        "STORE_UNAVAILABLE",
        `the disk is full: ${left} bytes are left, too few to make the store's files in ${folder}`,
      )
  }
  if (existsSync(data)) checkDataFile(data)
  if (existsSync(readers)) closeSync(openSync(readers, "r+"))
}

function assertEmpty(folder: string): void {
  const other = readdirSync(folder).find((name) => !harmless(name))
  if (other !== undefined)
    throw new SojournError(
      "CORRUPT_RECORD",
      `${folder} is no store and not empty (it holds ${JSON.stringify(other)}); give the store a folder of its own`,
    )
}

/** Both pages of meta data are there, and of the first the page flag, magic and version (mdb.c: MDB_page, MDB_meta; the byte order is the machine's). */
function checkDataFile(path: string): void {
  const descriptor = openSync(path, "r+")
  try {
    const head = Buffer.alloc(2 * pageBytesMax)
    const length = readSync(descriptor, head, 0, head.length, 0)
    if (length === 0) return
    const fields = new DataView(head.buffer, head.byteOffset, length)
    const isMeta = (at: number): boolean =>
      length >= at + metaBytes &&
      (fields.getUint16(at + 18, littleEndian) & 0x08) !== 0 &&
      fields.getUint32(at + 24, littleEndian) === 0xbeefc0de &&
      (fields.getUint32(at + 28, littleEndian) & 0xffff) === 2
    if (length < 2 * pageBytesMin || !isMeta(0))
      throw new SojournError("CORRUPT_RECORD", `${path} is no LMDB file of this version`)
    const page = fields.getUint32(48, littleEndian)
    const field = (at: number): number => Number(fields.getBigUint64(at, littleEndian))
    /** Up to the last page that was in use, unless the map does not reach that far. */
    const wholeBy = (meta: number): number => {
      const bytes = (field(meta + 144) + 1) * page
      return bytes <= field(meta + 40) ? bytes : 0
    }
    const whole = Math.max(wholeBy(0), isMeta(page) ? wholeBy(page) : 0)
    // LMDB does not write free pages at the file's end. So a file that was cut off is not told from one that is whole, and is made as long as it is
    // to be: what is gone is then found to be no page, and not past the end of what is mapped.
    if (fstatSync(descriptor).size < whole) ftruncateSync(descriptor, whole)
  } finally {
    closeSync(descriptor)
  }
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
async function identity(tables: Tables, folder: string, top: string): Promise<string> {
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
  // The directory entries of a new store: without them a power cut takes the whole file, flushed or not.
  for (let made = folder; ; made = dirname(made)) {
    syncFolder(made)
    if (made === top || made === dirname(made)) break
  }
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
