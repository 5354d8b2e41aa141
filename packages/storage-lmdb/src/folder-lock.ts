import { SojournError } from "@sojourn/core"
import { closeSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer, type Server } from "node:net"
import { join, relative } from "node:path"

/**
 * One opener a folder, across processes and containers of one machine.
 *
 * The lock is a listening Unix socket in the folder: the kernel closes it with its process however that dies, so a lock never outlives
 * its owner, and it is seen where a process id is not (another pid namespace) or would lie (a pid used again). A file that nobody listens
 * on is a leftover.
 *
 * Leftovers cannot be removed safely by whoever finds one (it may be listened on between the look and the removal), so nobody reuses a
 * name. A contender checks that no socket here is alive, then listens on the next number (the kernel refuses a name twice), and then
 * looks again: it withdraws if any other socket is alive, if a higher number exists or if its own is gone. Of two contenders the one that
 * listens later sees the other in its second look, so at most one stays; two at the same moment may both withdraw. Only the owner removes
 * lower numbers.
 *
 * Not covered: two machines on one network file system, which LMDB itself excludes.
 */
export interface FolderLock {
  release(): Promise<void>
}

const socketName = /^lock\.(\d+)\.sock$/
const ownerFile = "owner.pid"
/** `sun_path` holds 104 bytes on macOS and 108 on Linux, the final zero included. */
const socketPathBytesMax = 103

export const isLockFile = (name: string): boolean => socketName.test(name) || name === ownerFile

export async function lockFolder(folder: string): Promise<FolderLock> {
  const sockets = new SocketPaths(folder)
  try {
    for (const number of sockets.numbers()) if (await alive(sockets.path(number))) throw inUse(folder)
    const mine = Math.max(0, ...sockets.numbers()) + 1
    const server = await listen(folder, sockets.path(mine))
    try {
      const others = sockets.numbers().filter((number) => number !== mine)
      const lost = others.length === sockets.numbers().length || others.some((number) => number > mine)
      if (lost || (await anyAlive(sockets, others))) throw inUse(folder)
      for (const number of others) rmSync(join(folder, `lock.${number}.sock`), { force: true })
    } catch (error) {
      await stop(server)
      throw error
    }
    noteOwner(folder)
    return {
      async release() {
        await stop(server)
        sockets.close()
      },
    }
  } catch (error) {
    sockets.close()
    throw error instanceof SojournError ? error : unlockable(folder, error)
  }
}

async function anyAlive(sockets: SocketPaths, numbers: readonly number[]): Promise<boolean> {
  for (const number of numbers) if (await alive(sockets.path(number))) return true
  return false
}

/** Only a refusal proves that nobody listens; whatever else happens counts as somebody. */
function alive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code !== "ECONNREFUSED" && code !== "ENOENT"))
  })
}

function listen(folder: string, path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on("error", () => socket.destroy()).end())
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE"
      reject(taken ? inUse(folder) : unlockable(folder, error))
    })
    server.listen(path, () => {
      server.unref()
      resolve(server)
    })
  })
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}

/** Only for a message: where it cannot be written (a full disk) nothing is missing. */
function noteOwner(folder: string): void {
  const path = join(folder, ownerFile)
  try {
    writeFileSync(path, `${process.pid}\n`)
  } catch {
    try {
      rmSync(path, { force: true })
    } catch {
      // Somebody else's, who is then named.
    }
  }
}

function ownerOf(folder: string): number {
  try {
    return Number.parseInt(readFileSync(join(folder, ownerFile), "utf8"), 10)
  } catch {
    return Number.NaN
  }
}

function unlockable(folder: string, cause: unknown): SojournError {
  return new SojournError("STORE_UNAVAILABLE", `no lock could be made in ${folder}`, { cause })
}

function inUse(folder: string): SojournError {
  const pid = ownerOf(folder)
  const who = pid === process.pid ? "this process" : `process ${pid}`
  return new SojournError(
    "STORE_IN_USE",
    `the store in ${folder} is open already${Number.isNaN(pid) ? "" : `, probably in ${who}`}; a store has one opener at a time`,
    { details: Number.isNaN(pid) ? {} : { pid } },
  )
}

/** Names the sockets of a folder within the length that the kernel takes: whole, relative, or through an open descriptor of the folder. */
class SocketPaths {
  readonly #folder: string
  readonly #prefix: string
  #descriptor: number | undefined

  constructor(folder: string) {
    this.#folder = folder
    const longest = "lock.9007199254740991.sock"
    const fits = (prefix: string): boolean => Buffer.byteLength(join(prefix, longest)) <= socketPathBytesMax
    const near = relative(process.cwd(), folder)
    if (fits(folder)) this.#prefix = folder
    else if (near !== "" && fits(near)) this.#prefix = near
    else if (process.platform === "linux") {
      this.#descriptor = openSync(folder, "r")
      this.#prefix = `/proc/self/fd/${this.#descriptor}`
    } else throw new SojournError("BAD_CONFIG", `the path of the store is too long for a socket in it: ${folder}`)
  }

  numbers(): number[] {
    return readdirSync(this.#folder).flatMap((name) => {
      const found = socketName.exec(name)
      return found === null ? [] : [Number(found[1])]
    })
  }

  path(number: number): string {
    return join(this.#prefix, `lock.${number}.sock`)
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }
}
