// Where the tests are, and how they are run: shared by `npm test` and `npm run conformance`.

import { readdirSync } from "node:fs"
import { join } from "node:path"
import { root } from "./bootstrap.mjs"

/** Tests beside the code, the conformance suites' runs among them. */
export function unitTests() {
  const sources = ["packages", "examples"].flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => join(root, folder, name, "src")),
  )
  return [...sources, join(root, "spec"), join(root, "fuzz")].flatMap(filesIn)
}

/** Tests that start servers and processes. */
export function processTests() {
  return filesIn(join(root, "test"))
}

export const isSimulation = (path) => path.endsWith(".sim.test.ts")

export const needsBrowser = (path) => /browser[^/\\]*\.test\.ts$/.test(path)

/** Arguments of `node` that run these files, `concurrency` at a time, a test for at most `msMax`. */
export function testArguments(files, concurrency, msMax, reporters, more = []) {
  return [
    "--conditions=sojourn-source",
    "--test",
    `--test-concurrency=${concurrency}`,
    `--import=${new URL("test-end.mjs", import.meta.url)}`,
    `--test-timeout=${Math.round(msMax)}`,
    ...reporters.flatMap(([reporter, destination]) => [
      `--test-reporter=${reporter}`,
      `--test-reporter-destination=${destination}`,
    ]),
    ...more,
    ...files,
  ]
}

function filesIn(folder) {
  let entries
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
  return entries
    .flatMap((entry) => {
      if (entry.isDirectory()) return filesIn(join(folder, entry.name))
      return entry.name.endsWith(".test.ts") ? [join(folder, entry.name)] : []
    })
    .sort()
}
