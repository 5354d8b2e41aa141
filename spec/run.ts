// `npm run model`: explores the model of this folder and prints what was covered. `npm run model -- --mutants`: leaves one rule out at a time
// and prints the shortest run that goes wrong.
import { full, quick } from "./bounds.ts"
import { explore } from "./explore.ts"
import { forgetModel, mutants, type Bounds } from "./forget-model.ts"

const text = (b: Bounds): string =>
  `${b.pops} POPs, home ${b.home === b.pops - 1 ? "destroyed" : "alive"}, epochs to ${b.epochMax}, ${b.commitsMax} commits`

let failed = false
if (process.argv.includes("--mutants")) {
  for (const mutant of mutants) {
    const wrong = quick.map((bounds) => explore(forgetModel(bounds, mutant)).wrong).find(Boolean)
    failed ||= wrong === undefined
    console.log(`\n${mutant}: ${wrong ? `${wrong.what}, in ${wrong.run.length} steps` : "NOT CAUGHT"}`)
    for (const step of wrong?.run ?? []) console.log(`    ${step}`)
  }
} else
  for (const bounds of full) {
    const { states, transitions, depth, wrong } = explore(forgetModel(bounds))
    failed ||= wrong !== undefined
    const result = wrong?.what ?? "no violation"
    console.log(`${text(bounds)}: ${states} states, ${transitions} transitions, depth ${depth}: ${result}`)
    for (const step of wrong?.run ?? []) console.log(`    ${step}`)
  }
process.exitCode = failed ? 1 : 0
