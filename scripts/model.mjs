// `npm run model`: the executable model in `spec/`.
import { runProgram } from "./program.mjs"

await runProgram("spec/run.ts")
