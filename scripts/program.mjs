// Runs one of the workspace's TypeScript programs on the pinned Node, after setting the workspace up. The programs' own
// arguments are passed on as they are.

import { existsSync } from "node:fs"
import { join } from "node:path"
import { bootstrap, root, SetupError } from "./bootstrap.mjs"
import { runChild } from "./child.mjs"

/** Runs the program at `path` (from the workspace's root) and takes over its exit code. */
export async function runProgram(path) {
  await reportSetupErrors(async () => {
    const program = join(root, path)
    if (!existsSync(program)) throw new SetupError(`${path} is missing: this checkout is incomplete.`)
    const node = await bootstrap()
    const result = await runChild(node, ["--conditions=sojourn-source", program, ...process.argv.slice(2)])
    process.exitCode = result.code
  })
}

/** Turns what the person at the keyboard can put right into one plain message and an exit code. */
export async function reportSetupErrors(work) {
  try {
    await work()
  } catch (cause) {
    if (!(cause instanceof SetupError)) throw cause
    console.error(`Sojourn: ${cause.message}`)
    process.exitCode = cause.exitCode
  }
}
