// `npm run bench`: this framework beside hand-written servers, in one run.
import { runProgram } from "./program.mjs"

await runProgram("bench/bench.ts")
