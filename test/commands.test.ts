// What the commands of package.json say to wrong options, and to `--help`.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { test } from "node:test"

function run(program: string, ...args: string[]): { readonly code: number | null; out: string; err: string } {
  const path = fileURLToPath(new URL(`../${program}`, import.meta.url))
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--conditions=sojourn-source", path, ...args], {
    encoding: "utf8",
  })
  return { code: status, out: stdout, err: stderr }
}

const simulate = "packages/testkit/src/simulate.ts"
const fuzz = "fuzz/main.ts"
const overload = "bench/overload.ts"

// Most of these were a stack trace, and a run over nothing was a good one.
for (const [program, option, value, why] of [
  [simulate, "--seeds", "x", /--seeds must be a whole number from 1, got "x"/],
  [simulate, "--seeds", "0", /--seeds must be a whole number from 1, got "0"/],
  [simulate, "--minutes", "0", /--minutes must be a number above 0, got "0"/],
  [simulate, "--mutant", "nobody", /--mutant must name one of: /],
  [simulate, "--nothing", "1", /Unknown option '--nothing'/],
  [fuzz, "--inputs", "0", /--inputs must be a number from 1, got "0"/],
  [fuzz, "--target", "nobody", /--target is one of: client-frame, /],
  [overload, "--only", "nothing", /--only takes calls, slow, storm, jitter, frames, silent, not nothing/],
  [overload, "--bounds", "none", /--bounds takes tight or default, not none/],
] as const)
  test(`${program} ${option} ${value} is refused in one line that says what it takes`, () => {
    const { code, out, err } = run(program, option, value)
    assert.equal(code, 1, err)
    assert.equal(out, "")
    assert.match(err, why)
    assert.match(err, /^Sojourn \w+: .*\n$/)
  })

for (const [program, what] of [
  [simulate, /npm run simulate/],
  [fuzz, /npm run fuzz/],
  [overload, /npm run overload/],
  ["spec/run.ts", /npm run model takes/],
  ["scripts/test.mjs", /npm test takes --only NAME/],
  ["scripts/conformance.mjs", /npm run conformance takes --list/],
] as const)
  test(`${program} --help says what it takes, and is no failure`, () => {
    const { code, out, err } = run(program, "--help")
    assert.equal(code, 0, err)
    assert.equal(err, "")
    assert.match(out, what)
  })

// Those that had nothing to do ended with an error, and the whole with them.
test("more processes than seeds simulate all the same", () => {
  const { code, out, err } = run(simulate, "--seeds", "2", "--jobs", "4", "--steps", "20")
  assert.equal(code, 0, err)
  assert.equal((JSON.parse(out.trimEnd().split("\n").at(-1) ?? "") as { readonly seeds: number }).seeds, 2)
})
