// `npm run conformance`: runs every test that cites a behaviour of docs/behaviours.md by its number, and prints for each number what it
// says, how many tests there are, over which stores and numbers of POPs, and how they came out. Numbers without a test are printed as such, with
// the reason that docs/behaviours.md gives.
//
// `-- --only C12 --only C31` runs some of them; `-- --list` runs nothing and says where each number is cited. The last line is JSON. The
// exit code is 1 if a test failed, if a behaviour that this version says it holds has none, or if one has neither a test nor a reason.

import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { bootstrap, root, SetupError } from "./bootstrap.mjs"
import { findBrowser } from "./browser.mjs"
import { exitCodeOf, runChild } from "./child.mjs"
import { reportSetupErrors } from "./program.mjs"
import { isSimulation, needsBrowser, processTests, testArguments, unitTests } from "./test-files.mjs"

const minute = 60_000
const runMsMax = 40 * minute
const textChars = 76

/** The rows of docs/behaviours.md. `held`: in bold there. */
function readBehaviours() {
  const rows = readFileSync(join(root, "docs", "behaviours.md"), "utf8").matchAll(
    /^\| (\*\*)?(C\d+)(?:\*\*)? *\| (.*?) *\|$/gm,
  )
  return [...rows].map(([, bold, number, text]) => ({ number, text, held: bold !== undefined }))
}

/** Why numbers have no test: the rows of the last table of docs/behaviours.md, "| what is missing | C1, C2 |". */
function readReasons() {
  const [, part = ""] = readFileSync(join(root, "docs", "behaviours.md"), "utf8").split("\n## Not covered, and why\n")
  const reasons = new Map()
  for (const [, why, numbers] of part.matchAll(/^\| (.*?) *\| ((?:C\d+(?:, )?)+) *\|$/gm))
    for (const number of numbers.split(", ")) reasons.set(number, why)
  return reasons
}

const usageOf = (behaviours) => `npm run conformance takes --list, and --only C1 to ${behaviours.at(-1).number}.`

function chosenNumbers(args, behaviours) {
  const only = []
  let list = false
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--list") list = true
    else if (args[i] === "--only" && behaviours.some(({ number }) => number === args[i + 1])) only.push(args[++i])
    else throw new SetupError(`unknown arguments "${args.slice(i).join(" ")}": ${usageOf(behaviours)}`)
  }
  return { list, only }
}

const citation = (numbers) => new RegExp(`\\b(${numbers.join("|")})\\b`)

/** Files with a test that cites one of these. @returns path and the numbers in it */
function citing(files, numbers) {
  const pattern = citation(numbers)
  return files.filter((path) => pattern.test(readFileSync(path, "utf8")))
}

/** What the end of a test's name says it ran on: "memory 1, 3 POPs; lmdb". */
function matrixOf(tests) {
  const pops = new Map()
  for (const { name } of tests)
    for (const [, said] of name.matchAll(/\(([^()]*)\)/g)) {
      const store = /\b(memory|lmdb)\b/.exec(said)?.[1]
      if (store === undefined) continue
      const count = /\b(\d+)(?: POPs?| process(?:es)?)?$/.exec(said)?.[1]
      const known = pops.get(store) ?? new Set()
      if (count !== undefined) known.add(count)
      pops.set(store, known)
    }
  return [...pops].map(([store, counts]) => [store, [...counts].sort().join("/")].join(" ").trim()).join(", ")
}

async function runCited(node, files, only, env) {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-conformance-"))
  try {
    const report = join(folder, "cited.jsonl")
    const result = await runChild(
      node,
      testArguments(
        files,
        1,
        runMsMax,
        [[new URL("test-cited.mjs", import.meta.url), report]],
        only.length === 0 ? [] : [`--test-name-pattern=${citation(only)}`],
      ),
      { cwd: root, env, boundMs: runMsMax },
    )
    const lines = readFileSync(report, "utf8").split("\n").filter(Boolean)
    return { result, tests: lines.map((line) => JSON.parse(line)) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function print(behaviours, resultOf, placesOf) {
  for (const { number, text } of behaviours) {
    const short = text.length > textChars ? `${text.slice(0, textChars - 1)}…` : text
    console.log(`${number.padEnd(4)} ${short.padEnd(textChars)}  ${resultOf(number)}`)
    for (const place of placesOf(number)) console.log(`     ${place}`)
  }
}

await reportSetupErrors(async () => {
  const all = readBehaviours()
  if (process.argv.includes("--help")) return console.log(usageOf(all))
  const { list, only } = chosenNumbers(process.argv.slice(2), all)
  const behaviours = only.length === 0 ? all : all.filter(({ number }) => only.includes(number))
  const numbers = behaviours.map(({ number }) => number)
  const files = citing([...unitTests(), ...processTests()], numbers)
  const where = (number) => citing(files, [number]).map((path) => relative(root, path))
  const reasons = readReasons()
  const untested = (number) => `no test: ${reasons.get(number) ?? "and no reason is given"}`
  if (list) {
    print(behaviours, (number) => (where(number).length === 0 ? untested(number) : ""), where)
    return
  }
  const node = await bootstrap()
  const env = files.some(needsBrowser) ? { ...process.env, SOJOURN_CHROMIUM: await findBrowser() } : process.env
  const { result, tests } = await runCited(
    node,
    files.filter((path) => !isSimulation(path) || only.length === 0),
    only,
    env,
  )
  if (result.interruptedBy !== undefined) {
    console.log(`interrupted by ${result.interruptedBy}`)
    process.exitCode = exitCodeOf(result.interruptedBy)
    return
  }
  const testsOf = (number) => tests.filter((one) => one.numbers.includes(number))
  const failed = tests.filter(({ ok }) => !ok)
  print(
    behaviours,
    (number) => {
      const mine = testsOf(number)
      if (mine.length === 0) return untested(number)
      const passed = mine.filter(({ ok }) => ok).length
      return `${passed === mine.length ? "ok" : "FAILED"} ${passed} of ${mine.length}  ${matrixOf(mine)}`.trimEnd()
    },
    where,
  )
  for (const { name, file } of failed) console.log(`failed: ${relative(root, file)}: ${name}`)
  if (result.timedOut) console.log(`ended after its bound of ${runMsMax / minute} min`)
  const missing = behaviours.filter(({ number, held }) => held && testsOf(number).length === 0)
  for (const { number } of missing) console.log(`${number} is said to be held, and no test of it ran`)
  const silent = numbers.filter((number) => testsOf(number).length === 0 && !reasons.has(number))
  for (const number of silent) console.log(`${number} has neither a test nor a reason`)
  const covered = behaviours.filter(({ number }) => testsOf(number).length > 0)
  console.log(
    JSON.stringify({
      behaviours: behaviours.length,
      covered: covered.length,
      notCovered: behaviours.filter((one) => !covered.includes(one)).map(({ number }) => number),
      tests: tests.length,
      failed: failed.length,
    }),
  )
  if (failed.length > 0 || missing.length > 0 || silent.length > 0 || result.timedOut || tests.length === 0)
    process.exitCode = 1
})
