// `npm run model`: explores the models of this folder and prints what was covered. `-- --deep`: the hand-off within larger bounds, for
// longer. `-- --mutants [NAME]`: leaves one rule out at a time and prints the shortest run that goes wrong.
import { full, handoffDeep, handoffFull, handoffMutants, quick } from "./bounds.ts"
import { explore, type Found } from "./explore.ts"
import { explorePacked, type FoundPacked } from "./explore-packed.ts"
import { forgetModel, mutants as forgetMutants, type Bounds } from "./forget-model.ts"
import { handoffModel, mutants, type HandoffBounds, type HandoffMutant } from "./handoff-model.ts"

function boundsText({ processes, epochMax, fenceMax, calls, lossy, tickets, reduced }: HandoffBounds): string {
  const two = processes.flatMap((n, p) => (n === 2 ? [p === 0 ? "the home" : `POP ${p}`] : []))
  const parts = [
    `${processes.length} POPs, epochs to ${epochMax}`,
    ...(processes.some((n) => n > 0)
      ? [`2 processes at ${two.join(" and ")}`, `fences to ${fenceMax}`]
      : ["ownership alone"]),
    ...(calls.length > 0
      ? [`${calls.length} client${calls.length > 1 ? "s" : ""} with ${calls.join(" and ")} calls`]
      : []),
    lossy ? "messages lost, late, repeated" : "messages late, repeated",
    ...(tickets ? ["every ticket"] : []),
    reduced ? "alike states as one" : "nothing left out",
  ]
  return parts.join(", ")
}

let failed = false

function report(title: string, found: Found | FoundPacked, ms: number): void {
  const { states, transitions, depth, wrong } = found
  failed ||= wrong !== undefined
  const seconds = (ms / 1_000).toFixed(1)
  console.log(`${title}:`)
  console.log(
    `    ${states} states, ${transitions} transitions, depth ${depth}, ${seconds} s: ${wrong?.what ?? "no violation"}`,
  )
  tell(found)
}

function tell({ wrong, ...found }: Found | FoundPacked): void {
  for (const [i, step] of wrong?.run.entries() ?? []) console.log(`    ${i + 1}. ${step}`)
  if ("last" in found && found.last !== undefined) console.log(`    in the end: ${found.last}`)
}

function timed<T>(work: () => T): [T, number] {
  const from = performance.now()
  return [work(), performance.now() - from]
}

function exploreAll(handoff: readonly HandoffBounds[], forget: readonly Bounds[]): void {
  console.log("The hand-off. POP 0 is the home.")
  for (const bounds of handoff) report(boundsText(bounds), ...timed(() => explorePacked(handoffModel(bounds))))
  if (forget.length > 0) console.log("\nForgetting a destroyed POP.")
  for (const bounds of forget) {
    const { pops, home, epochMax, commitsMax } = bounds
    const where = home === pops - 1 ? "destroyed" : "alive"
    const title = `${pops} POPs, home ${where}, epochs to ${epochMax}, ${commitsMax} commits`
    report(title, ...timed(() => explore(forgetModel(bounds))))
  }
}

function leaveOut(only: string | undefined): void {
  const wanted = (name: string): boolean => only === undefined || only === name
  if (only !== undefined && !(only in mutants) && !forgetMutants.some((name) => name === only)) {
    console.error(
      `there is no rule ${JSON.stringify(only)}; there are ${[...Object.keys(mutants), ...forgetMutants].join(", ")}`,
    )
    process.exitCode = 1
    return
  }
  let all = 0
  const one = (name: string, without: string, found: Found | undefined): void => {
    all++
    failed ||= found?.wrong === undefined
    const result = found?.wrong ? `${found.wrong.what}, in ${found.wrong.run.length} steps` : "NOT CAUGHT"
    console.log(`\n${name}${without === "" ? "" : ` (${without})`}: ${result}`)
    if (found) tell(found)
  }
  for (const name of Object.keys(mutants) as HandoffMutant[])
    if (wanted(name))
      one(
        name,
        mutants[name],
        firstWrong(handoffMutants, (b) => explorePacked(handoffModel(b, name))),
      )
  for (const name of forgetMutants)
    if (wanted(name))
      one(
        name,
        "",
        firstWrong(quick, (b) => explore(forgetModel(b, name))),
      )
  if (only === undefined)
    console.log("\nM4, M6, M7, M13 and M14 are rules for deleting tombstones, which is not built.")
  console.log(`\n${all} rules left out one at a time: ${failed ? "NOT all caught" : "all caught"}`)
}

function firstWrong<B, F extends Found>(bounds: readonly B[], search: (bounds: B) => F): F | undefined {
  for (const one of bounds) {
    const found = search(one)
    if (found.wrong) return found
  }
  return undefined
}

const usage = "npm run model takes nothing, `-- --deep`, or `-- --mutants [NAME]`"
const [option, ...rest] = process.argv.slice(2)
if (option === "--mutants" && rest.length <= 1) leaveOut(rest[0])
else if (option === "--deep" && rest.length === 0) exploreAll(handoffDeep, [])
else if (option === undefined) exploreAll(handoffFull, full)
else if (option === "--help") console.log(usage)
else {
  console.error(usage)
  failed = true
}
process.exitCode = failed ? 1 : (process.exitCode ?? 0)
