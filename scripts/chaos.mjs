// `npm run chaos`: POPs as real processes under clients that travel, with everything done to them that breaks machines and lines.
import { runProgram } from "./program.mjs"

await runProgram("test/chaos/chaos.ts")
