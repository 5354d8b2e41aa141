// Runs one child process in a process group of its own, so that whatever ends this process also ends the child and
// everything the child started.
//
// An interrupt reaches the child exactly once however it arrives: from a terminal the whole foreground group gets it, and
// npm forwards its own copy too, so repeats within `repeatMs` are dropped. A second, later interrupt is passed on, and
// after `graceMs` the whole group is killed. When the child is gone, what is left of its group is asked to end, and after
// `leftOverMs` killed.
//
// npm forwards signals only to the shell it starts, so package.json's scripts say `exec`, which puts this process in the
// shell's place; and if npm itself is gone, killed with no chance to forward anything, that counts as a SIGTERM.
// Not covered: SIGKILL of this process, which no program can see.

import { spawn } from "node:child_process"
import { constants } from "node:os"

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]
const repeatMs = 500
const graceMs = 15_000
const parentPollMs = 500
const leftOverMs = 3_000
const leftOverPollMs = 50
const outputCharsMax = 64 * 1024

/** Started by hand in the background, a change of parent only says that the terminal was closed on purpose. */
const startedByNpm = process.env.npm_lifecycle_event !== undefined

/** The exit code a shell would report for a process that `signal` ended. */
export const exitCodeOf = (signal) => 128 + (constants.signals[signal] ?? 0)

/**
 * Runs `command` to its end.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string | URL, env?: NodeJS.ProcessEnv, boundMs?: number, keepErrors?: boolean, quiet?: boolean,
 *   onStart?: (pid: number) => void }} [options]
 *   `boundMs`: the group is ended after so long. `keepErrors`: the tail of stderr is shown and also returned.
 *   `quiet`: nothing is shown; stdout and stderr are returned. `onStart`: told the child's pid.
 * @returns {Promise<{ code: number, output: string, timedOut: boolean, interruptedBy: string | undefined }>}
 *   Rejects only if the command could not be started.
 */
export function runChild(command, args, options = {}) {
  const { cwd, env = process.env, boundMs, keepErrors = false, quiet = false, onStart } = options
  const stdio = quiet ? ["ignore", "pipe", "pipe"] : ["inherit", "inherit", keepErrors ? "pipe" : "inherit"]
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio, detached: true })
    let output = ""
    let timedOut = false
    let interruptedBy
    let passedOnAt = 0
    let boundTimer
    let killTimer

    const end = (signal) => {
      child.kill(signal)
      killTimer ??= setTimeout(() => signalGroup(child.pid, "SIGKILL"), graceMs)
    }
    const interrupt = (signal) => {
      interruptedBy ??= signal
      const now = Date.now()
      if (now - passedOnAt < repeatMs) return
      passedOnAt = now
      end(signal === "SIGHUP" ? "SIGTERM" : signal)
    }
    for (const signal of SIGNALS) process.on(signal, interrupt)
    const parent = process.ppid
    const parentTimer = setInterval(() => {
      if (startedByNpm && process.ppid !== parent && interruptedBy === undefined) interrupt("SIGTERM")
    }, parentPollMs)
    const release = () => {
      clearTimeout(boundTimer)
      clearTimeout(killTimer)
      clearInterval(parentTimer)
      for (const signal of SIGNALS) process.off(signal, interrupt)
    }

    const keep = (chunk) => {
      output = (output + chunk).slice(-outputCharsMax)
    }
    child.stdout?.setEncoding("utf8").on("data", keep)
    child.stderr?.setEncoding("utf8").on("data", (chunk) => {
      keep(chunk)
      if (!quiet) process.stderr.write(chunk)
    })
    child.once("spawn", () => onStart?.(child.pid))
    child.once("error", (cause) => {
      release()
      reject(cause)
    })
    let groupEnded
    // Left-overs must go before `close`: they hold the pipes that it waits for.
    child.once("exit", () => {
      groupEnded = endGroup(child.pid)
    })
    child.once("close", async (code, signal) => {
      await groupEnded
      release()
      resolve({ code: code ?? exitCodeOf(signal), output, timedOut, interruptedBy })
    })
    if (boundMs !== undefined) {
      boundTimer = setTimeout(() => {
        timedOut = true
        end("SIGTERM")
      }, boundMs)
    }
  })
}

/** @returns whether the group still had a process */
function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal)
    return true
  } catch {
    return false
  }
}

/** Ends what is left of a group whose leader is gone. */
async function endGroup(pid) {
  const deadline = Date.now() + leftOverMs
  for (let left = signalGroup(pid, "SIGTERM"); left; left = signalGroup(pid, 0)) {
    if (Date.now() > deadline) {
      signalGroup(pid, "SIGKILL")
      return
    }
    await new Promise((resolve) => setTimeout(resolve, leftOverPollMs))
  }
}
