// `npm run conformance`: what it prints, and that it fails where it must.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, test } from "node:test"

const script = fileURLToPath(new URL("../scripts/conformance.mjs", import.meta.url))

/** Not as one word: this file cites none. */
const number = (n: number): string => `C${n}`

function conformance(...args: string[]): {
  readonly code: number | null
  readonly lines: string[]
  readonly err: string
} {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: "utf8", env })
  return { code: status, lines: stdout.trimEnd().split("\n"), err: stderr }
}

describe("npm run conformance", () => {
  test(
    "runs the tests that cite a number, and says how many, over what, and what came out",
    { timeout: 120_000 },
    () => {
      const { code, lines, err } = conformance("--only", number(2), "--only", number(72))
      assert.equal(code, 0, err)
      assert.match(
        lines.find((line) => line.startsWith(`${number(2)} `)) ?? "",
        /ok (\d+) of \1 {2}memory 1\/3, lmdb 1\/3$/,
      )
      assert.match(
        lines.find((line) => line.startsWith(`${number(72)} `)) ?? "",
        /no test: this version has no Redis store$/,
      )
      const last = JSON.parse(lines.at(-1) ?? "") as { readonly tests: number; readonly notCovered: string[] }
      assert.deepEqual(
        { ...last, tests: last.tests > 0 },
        { behaviours: 2, covered: 1, notCovered: [number(72)], tests: true, failed: 0 },
      )
    },
  )

  test("--list names where each number is cited, and runs nothing", () => {
    const { code, lines } = conformance("--list")
    assert.equal(code, 0)
    assert.ok(lines.filter((line) => /^C\d+ /.test(line)).length >= 76)
    const at = lines.findIndex((line) => line.startsWith(`${number(29)} `))
    assert.ok(lines.slice(at, at + 12).includes("     test/behaviours-lost.test.ts"))
  })

  test("a number that does not exist is named", () => {
    const { code, err } = conformance("--only", number(999))
    assert.notEqual(code, 0)
    assert.match(err, new RegExp(`unknown arguments "--only ${number(999)}"`))
  })
})
