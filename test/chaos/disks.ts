import { execFile, execFileSync } from "node:child_process"
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, statSync } from "node:fs"
import { open, statfs } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

/**
 * Disks that can be full. As root, each POP's folder is a file system of its own in a file (ext4 on a loop device): its blocks are taken by
 * another file, and the store meets ENOSPC. Elsewhere the POP's process is forbidden to make files longer than its store is
 * (RLIMIT_FSIZE, set on the running process): the store meets EFBIG at the same place, where it would grow.
 */
export interface Disks {
  readonly refusal: "ENOSPC" | "EFBIG"
  /** Before the POP first starts. */
  prepare(pop: string): void
  fill(pop: string, pid: number | undefined): Promise<void>
  /** `pid`: of the process that met the limit, if it is still there. */
  free(pop: string, pid: number | undefined): Promise<void>
  /** When no POP runs any more. May be called again. */
  close(): void
}

const imageBytes = 64 * 1024 * 1024
/** What a file's own tables may need. */
const spareBlocks = 64
const run = promisify(execFile)

/** Undefined: this machine offers neither way, and `why` says it. */
export function createDisks(folder: string): Disks | { readonly why: string } {
  if (process.platform !== "linux") return { why: `no way to fill a disk is known on ${process.platform}` }
  return mounting(folder) ?? limiting(folder)
}

function mounting(folder: string): Disks | undefined {
  if (process.getuid?.() !== 0) return undefined
  const mounted: string[] = []
  const mount = (name: string): void => {
    const image = join(folder, `${name}.img`)
    const path = join(folder, name)
    const file = openSync(image, "w")
    ftruncateSync(file, imageBytes)
    closeSync(file)
    mkdirSync(path, { recursive: true })
    execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", image], { stdio: "ignore" })
    execFileSync("mount", ["-o", "loop", image, path], { stdio: "ignore" })
    mounted.push(path)
  }
  const close = (): void => {
    for (const path of mounted.splice(0)) execFileSync("umount", ["-l", path], { stdio: "ignore" })
  }
  try {
    mount("trial")
    close()
    for (const name of ["trial", "trial.img"]) rmSync(join(folder, name), { recursive: true, force: true })
  } catch {
    close()
    return undefined
  }
  const filler = (pop: string): string => join(folder, pop, "lost+found", "filler")
  return {
    refusal: "ENOSPC",
    prepare: mount,
    async fill(pop) {
      const { bavail, bsize } = await statfs(join(folder, pop))
      // All at once, without writing it; then what is left, a block at a time.
      if (bavail > spareBlocks) await run("fallocate", ["-l", String((bavail - spareBlocks) * bsize), filler(pop)])
      const file = await open(filler(pop), "a")
      try {
        const block = Buffer.alloc(1_024)
        while ((await file.write(block).catch(noSpace)).bytesWritten === block.length);
      } finally {
        await file.close()
      }
    },
    free(pop) {
      rmSync(filler(pop), { force: true })
      return Promise.resolve()
    },
    close,
  }
}

function noSpace(error: unknown): { readonly bytesWritten: number } {
  if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
  return { bytesWritten: 0 }
}

function limiting(folder: string): Disks | { readonly why: string } {
  try {
    execFileSync("prlimit", ["--version"], { stdio: "ignore" })
  } catch {
    return { why: "neither root, who may mount, nor the command prlimit is here" }
  }
  return {
    refusal: "EFBIG",
    prepare: () => undefined,
    async fill(pop, pid) {
      const { size } = statSync(join(folder, pop, "data.mdb"))
      await run("prlimit", [`--pid=${pid}`, `--fsize=${size}:`])
    },
    async free(_, pid) {
      if (pid !== undefined) await run("prlimit", [`--pid=${pid}`, "--fsize=unlimited:"])
    },
    close: () => undefined,
  }
}
