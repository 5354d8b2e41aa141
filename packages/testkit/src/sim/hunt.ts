import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Mutant } from "./mutants.ts"
import { run } from "./run.ts"

/** What a planted defect came to: the first seed that found it, or none. */
export interface Hunted {
  readonly tried: number
  readonly message: string | undefined
}

/** Runs seeds with the defect planted until one finds it, at most as many as it is allowed. */
export async function hunt(mutant: Mutant, steps: number, from = 1): Promise<Hunted> {
  if (mutant.inSource !== undefined && process.env["SOJOURN_DEFECT"] !== mutant.name)
    return elsewhere(mutant, steps, from)
  for (let tried = 1; tried <= mutant.seedsMax; tried++) {
    const { finding } = await run({ seed: from + tried - 1, steps, mutant })
    if (finding !== undefined) return { tried, message: finding.message }
  }
  return { tried: mutant.seedsMax, message: undefined }
}

/** The product is loaded with the defect in it, so in another process. */
function elsewhere(mutant: Mutant, steps: number, from: number): Promise<Hunted> {
  const child = fork(
    new URL("../simulate.ts", import.meta.url),
    ["--mutants", "--mutant", mutant.name, "--steps", String(steps), "--from", String(from)],
    {
      execArgv: ["--conditions=sojourn-source", "--import", fileURLToPath(new URL("plant.ts", import.meta.url))],
      env: { ...process.env, SOJOURN_DEFECT: mutant.name },
      silent: true,
    },
  )
  let said = ""
  child.stderr?.on("data", (data: Buffer) => (said += String(data)))
  return new Promise((resolve, reject) => {
    let told = false
    child.on("message", (hunted: Hunted) => {
      told = true
      resolve(hunted)
    })
    child.on("exit", (code) => {
      if (!told)
        reject(
          new Error(
            `the process with "${mutant.name}" planted ended with exit code ${String(code)}: ${said.slice(0, 2_000)}`,
          ),
        )
    })
  })
}
