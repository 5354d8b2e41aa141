// `npm run simulate`: one seed of the whole-cluster simulation.
import { runProgram } from "./program.mjs"

await runProgram("packages/testkit/src/simulate.ts")
