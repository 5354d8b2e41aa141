// Preloaded into every test file: ends a file that does not end by itself once its tests are over, as a failure that says
// what it left open. node:test would wait for it for ever.

import { after } from "node:test"

const openMsMax = 10_000

// Processes that a test forks inherit the preload; only the test file itself is meant.
if (/\.test\.ts$/.test(process.argv[1] ?? "")) {
  after(() => {
    const timer = setTimeout(() => {
      const open = process.getActiveResourcesInfo().join(", ")
      console.error(
        `${process.argv[1]}: its tests are over, and after ${openMsMax / 1000} s this is still open: ${open}`,
      )
      process.exit(1)
    }, openMsMax)
    // Alone it keeps nothing alive: it fires only if something else does.
    timer.unref()
  })
}
