// `npm run bench` runs, on every server and load. It asserts no figure: speed is for whoever reads the table.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { test } from "node:test"

const program = fileURLToPath(new URL("../bench/calls.ts", import.meta.url))

function bench(...args: string[]): { readonly code: number | null; readonly last: string; readonly err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    encoding: "utf8",
  })
  return { code: status, last: stdout.trimEnd().split("\n").at(-1) ?? "", err: stderr }
}

test(
  "npm run bench compares both kinds of calls at every load with the hand-written server",
  { timeout: 120_000 },
  () => {
    const { code, last, err } = bench("--runs", "1", "--ms", "600", "--json")
    assert.equal(code, 0, err)
    const { rows } = JSON.parse(last) as {
      readonly rows: { work: string; name: string; clients: number; inFlight: number; callsPerSecond: number }[]
    }
    assert.equal(rows.length, 15)
    for (const row of rows) assert.ok(row.callsPerSecond > 0, JSON.stringify(row))
    for (const work of ["stateless", "durable"])
      assert.ok(
        rows.some(({ work: one, name, inFlight }) => one === work && name.startsWith("Sojourn") && inFlight === 16),
      )
  },
)

test("an option of npm run bench that is wrong is named, and nothing is started", () => {
  const { code, err } = bench("--runs", "0")
  assert.notEqual(code, 0)
  assert.match(err, /--runs takes 1 to 100, not 0/)
})
