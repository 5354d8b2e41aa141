// `npm run fuzz`: hostile input for every parser, codec and stored form, and for whole nodes.
import { runProgram } from "./program.mjs"

await runProgram("fuzz/main.ts")
