// Sets the workspace up on a machine that has only npm and any Node >= 20, and returns the pinned Node that everything
// else runs on. Plain JavaScript with no dependency, and nothing newer than Node 20.0: it runs before either exists.
//
// Dependencies are installed if the lock file is not the one last installed. npm runs no install scripts here: native
// packages bring prebuilt binaries, and the one script that is needed (the `node` package's download of the platform's
// binary) is run by name below, so that npm's own policy on install scripts, which differs by version, does not matter.
//
// Two set-ups at once take turns (a lock folder with the pids of the holder and of what it runs). A crash at any point
// leaves no stamp, or a stale lock whose pids are dead; the next run then starts again.

import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { exitCodeOf, runChild } from "./child.mjs"

export const root = fileURLToPath(new URL("..", import.meta.url))

const nodeMajorMin = 20
const installMsMax = 10 * 60_000
const versionMsMax = 30_000
const lockWaitMsMax = installMsMax + 60_000
const lockPollMs = 250
const lockNoticeMs = 10_000
/** A lock folder without a pid file is being made right now, or its maker died in between: so long it counts as held. */
const lockUnnamedMsMax = 10_000

const modules = join(root, "node_modules")
const stampFile = join(modules, ".sojourn-installed")
const lockDir = join(root, ".data", "bootstrap.lock")
const nodePackage = join(modules, "node")
const pinnedPath = join(nodePackage, "bin", "node")

/** Something the person at the keyboard can put right; its message says how. */
export class SetupError extends Error {
  /** @param {string} message @param {number} [exitCode] */
  constructor(message, exitCode = 1) {
    super(message)
    this.name = "SetupError"
    this.exitCode = exitCode
  }
}

/**
 * Makes the workspace ready. Costs one `node --version` when there is nothing to do.
 *
 * @returns {Promise<string>} the path of the Node to run with: the pinned one, or the running one if it is the same
 *   major version and the pinned one cannot be had for this platform.
 */
export async function bootstrap() {
  const found = Number(process.versions.node.split(".")[0])
  if (found < nodeMajorMin) {
    throw new SetupError(
      `Node ${process.versions.node} is too old to set Sojourn up: use Node ${nodeMajorMin} or newer.`,
    )
  }
  if (process.platform === "win32") {
    throw new SetupError("Windows is not supported: run Sojourn in WSL, Linux or macOS.")
  }
  const pinned = readJson(join(root, "package.json")).devDependencies.node
  if (isInstalled() && (await versionOf(pinnedPath)) === pinned) return pinnedPath

  const release = await takeLock()
  try {
    if (!isInstalled()) await install()
    return await pinnedNode(pinned)
  } finally {
    release()
  }
}

function readJson(path) {
  return JSON.parse(readFileSync(path, "utf8"))
}

/** What an installation is made from: the lock file's content, and the platform its binaries are for. */
function wantedStamp() {
  const hash = createHash("sha256").update(readFileSync(join(root, "package-lock.json")))
  return `${hash.digest("hex")} ${process.platform}-${process.arch}\n`
}

function isInstalled() {
  const wanted = wantedStamp()
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === wanted) return true
  if (!isInstalledByHand()) return false
  writeFileSync(stampFile, wanted)
  return true
}

/** Whether somebody's own `npm install` already made node_modules what the lock file says: npm records what it put there. */
function isInstalledByHand() {
  const record = join(modules, ".package-lock.json")
  if (!existsSync(record)) return false
  const wanted = readJson(join(root, "package-lock.json")).packages
  const present = readJson(record).packages
  const same = (path) =>
    wanted[path]?.version === present[path]?.version && wanted[path]?.integrity === present[path]?.integrity
  const inModules = Object.keys(wanted).filter((path) => path.includes("node_modules/"))
  // An optional package that is absent is one for another platform.
  const complete = inModules.every((path) => (present[path] ? same(path) : wanted[path].optional === true))
  return complete && Object.keys(present).every((path) => wanted[path] !== undefined)
}

async function install() {
  console.log("Sojourn: installing dependencies (npm ci) …")
  const begun = Date.now()
  // Whatever the machine's npm settings say: development dependencies are needed, and packages' own `engines` are about
  // the Node that they are used on, which is not the one that npm runs on here.
  const args = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--include=dev", "--include=optional"]
  const result = await npm([...args, "--engine-strict=false", "--loglevel=error"])
  if (result.code !== 0) throw installFailed("npm ci", result)
  writeFileSync(stampFile, wantedStamp())
  console.log(`Sojourn: dependencies are in place (${((Date.now() - begun) / 1000).toFixed(0)} s).`)
}

/** Runs the npm that runs us, else the one on the PATH, in the workspace's root. */
async function npm(args) {
  const cli = process.env.npm_execpath
  const own = cli !== undefined && /npm-cli\.c?js$/.test(cli) && existsSync(cli)
  try {
    return await runChild(own ? process.execPath : "npm", own ? [cli, ...args] : args, {
      cwd: root,
      boundMs: installMsMax,
      keepErrors: true,
      onStart: nameHolder,
    })
  } catch (cause) {
    if (cause.code !== "ENOENT") throw cause
    throw new SetupError(
      "npm was not found on the PATH: install npm (it comes with Node from nodejs.org), then run this again.",
    )
  }
}

function installFailed(what, { code, output, timedOut, interruptedBy }) {
  if (interruptedBy !== undefined) return new SetupError(`${what} was interrupted.`, exitCodeOf(interruptedBy))
  if (timedOut)
    return new SetupError(
      `${what} did not end within ${installMsMax / 60_000} minutes: check the network, then run this again.`,
    )
  if (
    /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b/.test(output)
  ) {
    return new SetupError(
      `${what} could not reach the package registry: check the network and npm's proxy and registry settings ` +
        "(`npm config get registry`), then run this again. The first run needs the network; later ones do not.",
    )
  }
  if (/\b(EACCES|EPERM|EROFS)\b/.test(output)) {
    return new SetupError(
      `${what} may not write to ${root}: check the folder's owner and permissions, then run this again.`,
    )
  }
  if (/\bENOSPC\b/.test(output))
    return new SetupError(`${what} ran out of disk space in ${root} (about 500 MB are needed).`)
  return new SetupError(`${what} failed with exit code ${code}; npm's own message is above.`)
}

/** The pinned Node, fetched if it is not there yet. */
async function pinnedNode(pinned) {
  if ((await versionOf(pinnedPath)) !== pinned) {
    console.log(`Sojourn: fetching Node ${pinned} …`)
    // The package's own installer, which works in the package's folder.
    const result = await runChild(process.execPath, ["installArchSpecificPackage.js"], {
      cwd: nodePackage,
      env: { ...process.env, npm_config_loglevel: "error", npm_config_audit: "false", npm_config_fund: "false" },
      boundMs: installMsMax,
      keepErrors: true,
      onStart: nameHolder,
    })
    if ((await versionOf(pinnedPath)) !== pinned) return nodeInstead(pinned, result)
  }
  // npm links a package's command only if it exists at install time; editors and `npx node` want the link.
  const link = join(modules, ".bin", "node")
  if (!existsSync(link)) {
    mkdirSync(dirname(link), { recursive: true })
    rmSync(link, { force: true })
    symlinkSync(join("..", "node", "bin", "node"), link)
  }
  return pinnedPath
}

/** What to do without the pinned Node: the registry has no binary for this platform, or the one it has does not run. */
function nodeInstead(pinned, fetched) {
  const unavailable = fetched.code === 0 || /\b(E404|ETARGET|EBADPLATFORM)\b/.test(fetched.output)
  if (!unavailable) throw installFailed(`fetching Node ${pinned}`, fetched)
  const platform = `${process.platform}-${process.arch}`
  const running = process.versions.node
  const major = pinned.split(".")[0]
  if (running.split(".")[0] !== major) {
    throw new SetupError(
      `There is no Node ${pinned} binary that runs on ${platform}: install Node ${major} and run this again with it.`,
    )
  }
  console.log(`Sojourn: there is no Node ${pinned} binary that runs on ${platform}; using this Node ${running}.`)
  return process.execPath
}

/** @returns {Promise<string | undefined>} the version that the Node at `path` says it is, or undefined if it does not run */
async function versionOf(path) {
  if (!existsSync(path)) return undefined
  let result
  try {
    result = await runChild(path, ["--version"], { quiet: true, boundMs: versionMsMax })
  } catch {
    // Not executable here: another platform's binary, or another C library's.
    return undefined
  }
  if (result.interruptedBy !== undefined) throw new SetupError("interrupted.", exitCodeOf(result.interruptedBy))
  return result.code === 0 ? result.output.trim().replace(/^v/, "") : undefined
}

/** Waits for its turn to change node_modules. @returns {Promise<() => void>} gives the turn back */
async function takeLock() {
  mkdirSync(dirname(lockDir), { recursive: true })
  const deadline = Date.now() + lockWaitMsMax
  let noticeAt = 0
  while (!tryLock()) {
    const holder = lockHolder()
    if (holder === "gone") continue
    if (Date.now() > deadline) {
      throw new SetupError(
        `Another set-up (process ${holder}) has held ${lockDir} for over ${lockWaitMsMax / 60_000} minutes: ` +
          "end that process or, if it is none of Sojourn's, remove the folder, then run this again.",
      )
    }
    if (Date.now() >= noticeAt) {
      console.log(`Sojourn: waiting for another set-up (process ${holder}) to finish …`)
      noticeAt = Date.now() + lockNoticeMs
    }
    await new Promise((resolve) => setTimeout(resolve, lockPollMs))
  }
  return () => rmSync(lockDir, { recursive: true, force: true })
}

function tryLock() {
  try {
    mkdirSync(lockDir)
  } catch (cause) {
    if (cause.code === "EEXIST") return false
    throw cause
  }
  nameHolder()
  return true
}

/** Writes down who holds the lock. A child may outlive us if we are killed, and then still changes node_modules. */
function nameHolder(childPid) {
  const file = join(lockDir, "pid")
  writeFileSync(`${file}.new`, [process.pid, childPid].filter((pid) => pid !== undefined).join(" "))
  renameSync(`${file}.new`, file)
}

/** Who holds the lock; a dead holder's lock is taken away and reported as "gone". */
function lockHolder() {
  const holder = holderIn(lockDir)
  if (holder !== "gone") return holder
  const taken = `${lockDir}.${process.pid}`
  try {
    renameSync(lockDir, taken)
    // Somebody else may have taken the dead holder's lock away, and the lock itself, since we looked.
    if (holderIn(taken) === "gone") rmSync(taken, { recursive: true, force: true })
    else renameSync(taken, lockDir)
  } catch (cause) {
    if (cause.code !== "ENOENT") throw cause
  }
  return "gone"
}

/** @returns the pid of a living holder, "unknown" while it has not written it down, or "gone" */
function holderIn(folder) {
  let pids = []
  try {
    pids = readFileSync(join(folder, "pid"), "utf8").split(" ")
  } catch {
    try {
      if (Date.now() - statSync(folder).mtimeMs < lockUnnamedMsMax) return "unknown"
    } catch {
      return "gone"
    }
  }
  return pids.find((pid) => isAlive(Number(pid))) ?? "gone"
}

function isAlive(pid) {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return cause.code === "EPERM"
  }
}
