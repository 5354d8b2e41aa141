// `npm start`: three POPs and the notebook, until interrupted.
import { runProgram } from "./program.mjs"

await runProgram("examples/notebook/src/main.ts")
