// `npm run bench`: calls of this framework beside hand-written servers, in one run.
import { runProgram } from "./program.mjs"

await runProgram("bench/calls.ts")
