// `npm run overload`: a POP under more than it can take.
import { runProgram } from "./program.mjs"

await runProgram("bench/overload.ts")
