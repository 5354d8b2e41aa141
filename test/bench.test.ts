// `npm run bench` runs, every part on every server. It asserts no figure: speed is for whoever reads the table.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { test } from "node:test"
import { benchOptions, partNames } from "../bench/options.ts"

const program = fileURLToPath(new URL("../bench/bench.ts", import.meta.url))

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function bench(...args: string[]): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    encoding: "utf8",
  })
  return { code: status, out: stdout, err: stderr }
}

type Row = Readonly<Record<string, string | number | null>>

/** Cases of each part. */
const cases = { calls: 15, moves: 6, wake: 8, memory: 4, fanout: 3, restart: 2 } as const

/** What is freed meanwhile may be more than what so few clients and actors take; a hand-written server may lose or repeat a call, or not. */
const signed = /^(heap|resident|lost|twice)/

test("npm run bench measures every part on every server", { timeout: 240_000 }, () => {
  const { code, out, err } = bench("--runs", "1", "--ms", "100", "--clients", "64", "--actors", "64", "--json")
  assert.equal(code, 0, err)
  const lines = out.trimEnd().split("\n")
  assert.equal(lines.length, 1, out)
  const { cores, node, ...rest } = JSON.parse(lines[0] ?? "") as Record<string, unknown>
  assert.ok((cores as number) >= 1)
  assert.match(node as string, /^\d+\.\d+\.\d+$/)
  for (const [part, count] of Object.entries(cases)) {
    const rows = rest[part] as readonly Row[]
    assert.equal(rows.length, count, part)
    for (const row of rows) {
      const figures = Object.entries(row).filter(([, value]) => typeof value !== "string")
      assert.ok(figures.length >= 4, JSON.stringify(row))
      // What is not finite is null in JSON.
      for (const [name, value] of figures) {
        assert.ok(typeof value === "number", `${part}: ${name} in ${JSON.stringify(row)}`)
        if (!signed.test(name) && name !== "bytes" && name !== "betweenMs")
          assert.ok(value > 0, `${part}: ${name} in ${JSON.stringify(row)}`)
      }
    }
  }
  const loads = new Set((rest["calls"] as readonly Row[]).map(({ inFlight }) => inFlight))
  assert.deepEqual([...loads], [1, 64, 1_024])
})

test("npm run bench refuses a wrong option by name, and starts nothing", () => {
  const { code, out, err } = bench("--only", "speed")
  assert.equal(code, 1)
  assert.equal(out, "")
  assert.equal(err, 'Sojourn bench: --only takes calls, moves, wake, memory, fanout, restart, not "speed"\n')
})

test("every option of npm run bench has its bounds", () => {
  for (const [args, message] of [
    [["--runs", "0"], /--runs takes 1 to 100, not 0/],
    [["--runs", "1.5"], /--runs takes 1 to 100, not 1.5/],
    [["--ms", "99"], /--ms takes 100 to 60000, not 99/],
    [["--clients", "many"], /--clients takes 10 to 15000, not many/],
    [["--actors", ""], /--actors takes 10 to 1000000, not /],
    [["--fast"], /Unknown option '--fast'/],
  ] as const)
    assert.throws(() => benchOptions(args), { message })
  assert.deepEqual(benchOptions(["--only", "wake", "--only", "calls"])?.only, ["calls", "wake"])
  assert.deepEqual(benchOptions([])?.only, partNames)
  assert.equal(benchOptions(["--help"]), undefined)
})
