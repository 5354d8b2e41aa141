// `npm run travel`: a client travels between POPs, without a browser.
import { runProgram } from "./program.mjs"

await runProgram("examples/notebook/src/travel.ts")
