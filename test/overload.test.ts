// `npm run overload`, briefly. What it asserts is behaviour: speed is for whoever reads the figures.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { test } from "node:test"

const program = fileURLToPath(new URL("../bench/overload.ts", import.meta.url))

function overload(...args: string[]): { readonly code: number | null; readonly last: string; readonly err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    encoding: "utf8",
    timeout: 90_000,
  })
  return { code: status, last: stdout.trimEnd().split("\n").at(-1) ?? "", err: stderr }
}

test(
  "npm run overload: whatever is too much is refused by name, and nothing else is lost",
  { timeout: 120_000 },
  () => {
    const { code, last, err } = overload("--brief", "--json")
    const { reports } = JSON.parse(last) as {
      readonly reports: {
        name: string
        checks: { what: string; met: boolean; must: boolean }[]
        figures: Record<string, unknown>
      }[]
    }
    assert.deepEqual(
      reports.flatMap(({ name, checks }) =>
        checks.filter(({ must, met }) => must && !met).map(({ what }) => [name, what]),
      ),
      [],
    )
    assert.equal(code, 0, err)
    assert.deepEqual(
      reports.map(({ name }) => name),
      ["calls", "slow", "storm", "jitter", "frames", "silent"],
    )
    for (const { checks } of reports) assert.ok(checks.some(({ must }) => must))
  },
)

test("an option of npm run overload that is wrong is named, and nothing is started", () => {
  const { code, err } = overload("--only", "rain")
  assert.notEqual(code, 0)
  assert.match(err, /--only takes calls, slow, storm, jitter, frames, silent, not rain/)
})
