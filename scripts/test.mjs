// `npm test`: sets the workspace up, then runs every check, all of them even if an early one fails. The last line printed
// is `N passed, N failed, N skipped`, summed over all checks; format, lint and types count as one each. The exit code is 1
// if anything failed or nothing ran.
//
// `npm test -- --only unit --only types` runs some of them; the names are in `stages` below.

import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { bootstrap, root, SetupError } from "./bootstrap.mjs"
import { findBrowser } from "./browser.mjs"
import { exitCodeOf, runChild } from "./child.mjs"
import { reportSetupErrors } from "./program.mjs"
import { isSimulation, needsBrowser, processTests, testArguments, unitTests } from "./test-files.mjs"

const minute = 60_000
/** All checks together; what a stage may take is cut to what is left of it. */
const totalMsMax = 15 * minute

const stages = [
  { name: "format", msMax: 1 * minute, tool: ["prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."] },
  { name: "lint", msMax: 3 * minute, tool: ["eslint/bin/eslint.js", "--max-warnings=0", "."] },
  { name: "types", msMax: 2 * minute, tool: ["typescript/bin/tsc", "-p", "tsconfig.json", "--noEmit"] },
  { name: "unit", msMax: 5 * minute, files: () => unitTests().filter((path) => !isSimulation(path)), concurrency: 2 },
  { name: "simulation", msMax: 6 * minute, files: () => unitTests().filter(isSimulation), concurrency: 2 },
  // One at a time: they start servers and measure time.
  {
    name: "processes",
    msMax: 11 * minute,
    files: () => processTests().filter((path) => !needsBrowser(path)),
    concurrency: 1,
  },
  {
    name: "browser",
    msMax: 3 * minute,
    files: () => processTests().filter(needsBrowser),
    concurrency: 1,
    // Without a browser the stage fails: it is never passed over.
    prepare: async () => ({ SOJOURN_CHROMIUM: await findBrowser() }),
  },
]

const usage = `npm test takes --only NAME, with NAME one of ${stages.map(({ name }) => name).join(", ")}.`

function chosenStages(args) {
  const names = []
  for (let i = 0; i < args.length; i += 2) {
    if (args[i] !== "--only" || !stages.some(({ name }) => name === args[i + 1]))
      throw new SetupError(`unknown arguments "${args.slice(i).join(" ")}": ${usage}`)
    names.push(args[i + 1])
  }
  return names.length === 0 ? stages : stages.filter(({ name }) => names.includes(name))
}

/** Runs one stage. @returns its counts, and by which signal the person interrupted it, if so */
async function runStage(stage, node, msMax) {
  if (stage.tool !== undefined) {
    const [script, ...args] = stage.tool
    const result = await runChild(node, [join(root, "node_modules", script), ...args], { cwd: root, boundMs: msMax })
    if (result.timedOut) console.log(`${stage.name}: ended after its bound of ${seconds(msMax)}`)
    const ok = result.code === 0 && !result.timedOut
    return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, interruptedBy: result.interruptedBy }
  }
  let env = process.env
  if (stage.prepare !== undefined) {
    try {
      env = { ...env, ...(await stage.prepare()) }
    } catch (cause) {
      if (!(cause instanceof SetupError)) throw cause
      console.log(`${stage.name}: ${cause.message}`)
      return { passed: 0, failed: 1, skipped: 0 }
    }
  }
  const files = stage.files()
  if (files.length === 0) {
    console.log(`${stage.name}: found no test files`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  const reports = mkdtempSync(join(tmpdir(), "sojourn-test-"))
  try {
    const report = join(reports, "counts.json")
    const result = await runChild(
      node,
      // Fails a hung test by name, a little before the stage as a whole is ended without one.
      testArguments(files, stage.concurrency, msMax * 0.9, [
        ["spec", "stdout"],
        [new URL("test-counts.mjs", import.meta.url), report],
      ]),
      { cwd: root, env, boundMs: msMax },
    )
    if (result.timedOut) console.log(`${stage.name}: ended after its bound of ${seconds(msMax)}`)
    return { ...countsOf(stage, files, report, result), interruptedBy: result.interruptedBy }
  } finally {
    rmSync(reports, { recursive: true, force: true })
  }
}

function countsOf(stage, files, report, result) {
  let parsed
  try {
    parsed = JSON.parse(readFileSync(report, "utf8"))
  } catch {
    console.log(`${stage.name}: the test runner ended without a summary (exit code ${result.code})`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  const { total, filesWithTests, filesFailed } = parsed
  let { passed } = total
  let failed = total.failed + total.cancelled
  const empty = files.filter((path) => !filesWithTests.includes(path) && !filesFailed.includes(path))
  for (const path of empty) console.log(`${stage.name}: ${path} registers no test`)
  passed -= empty.length
  failed += empty.length
  if (failed === 0 && (result.code !== 0 || result.timedOut)) {
    console.log(`${stage.name}: the test runner failed with exit code ${result.code}`)
    failed = 1
  }
  return { passed, failed, skipped: total.skipped + total.todo }
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`

await reportSetupErrors(async () => {
  if (process.argv.includes("--help")) return console.log(usage)
  const chosen = chosenStages(process.argv.slice(2))
  const node = await bootstrap()
  const begun = Date.now()
  const sum = { passed: 0, failed: 0, skipped: 0 }
  const lines = []
  let interruptedBy
  for (const stage of chosen) {
    const msMax = Math.max(1_000, Math.min(stage.msMax, begun + totalMsMax - Date.now()))
    console.log(`\n== ${stage.name}`)
    const stageBegun = Date.now()
    const counts = await runStage(stage, node, msMax)
    for (const key of Object.keys(sum)) sum[key] += counts[key]
    const line = `${stage.name}: ${describe(counts)} (${seconds(Date.now() - stageBegun)})`
    lines.push(line)
    console.log(`== ${line}`)
    interruptedBy = counts.interruptedBy
    if (interruptedBy !== undefined) break
  }
  console.log(`\n${lines.join("\n")}\nall: ${seconds(Date.now() - begun)}`)
  if (interruptedBy !== undefined) console.log(`interrupted by ${interruptedBy}`)
  console.log(describe(sum))
  if (interruptedBy !== undefined) process.exitCode = exitCodeOf(interruptedBy)
  else process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0
})

function describe({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}
