// Hostile input, in short: every target with fixed seeds, and that the fuzzer finds what is planted. `npm run fuzz` runs it at length.
import { codec, type Encoded } from "@sojourn/protocol"
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { bentJson } from "./hostile.ts"
import { assertGenuine, Finding, found } from "./oracle.ts"
import { encodedTarget } from "./parsers.ts"
import { plantedParser } from "./planted.ts"
import { validFrame } from "./samples.ts"
import { replayCommand, runTarget, type Target } from "./target.ts"
import { nodes, parsers } from "./targets.ts"

const bound = { timeout: 60_000 }

describe("hostile input ends in a value or a named error, and in nothing else", () => {
  for (const target of [...parsers, ...nodes])
    test(target.name, bound, async () => {
      const inputs = nodes.includes(target) ? 200 : 1_000
      for (const seed of [11, 12]) {
        const { finding, ...result } = await runTarget(target, { seed, inputs: inputs / 2 })
        assert.equal(
          finding,
          undefined,
          finding && `${finding.message}\n${replayCommand(target.name, seed, finding.input)}`,
        )
        assert.ok(result.inputs >= inputs / 2)
      }
    })
})

async function findingOf(target: Target): Promise<string> {
  const { finding } = await runTarget(target, { seed: 1, inputs: 20_000 })
  assert.ok(finding, `${target.name} was not found`)
  const again = await runTarget(target, { seed: 1, inputs: 1, input: finding.input })
  assert.equal(again.finding?.message.split("\n")[0], finding.message.split("\n")[0], "the one case shows it again")
  return finding.message
}

describe("the fuzzer finds what is planted, and its one case shows it again", () => {
  test("a parser that trusts the form of a field", async () => {
    assert.match(await findingOf(plantedParser), /not a named error[^]*TypeError/)
  })

  test("a parser that merges what it read into an object", async () => {
    const merge = (to: Record<string, unknown>, from: object): void => {
      for (const [key, value] of Object.entries(from))
        if (typeof value === "object" && value !== null)
          merge((to[key] ??= {}) as Record<string, unknown>, value as object)
        else to[key] = value
    }
    const broken: Target = {
      name: "merging",
      share: 1,
      open: () => ({
        run(r, count) {
          try {
            merge({}, JSON.parse(bentJson(r, validFrame(r))) as object)
          } catch {
            // Its refusals are not what it is planted for.
          }
          count("value")
        },
      }),
    }
    const before = new Set(Reflect.ownKeys(Object.prototype))
    try {
      const { finding } = await runTarget(broken, { seed: 1, inputs: 20_000 })
      assert.match(finding?.message ?? "", /a shared object has other keys than before/)
    } finally {
      for (const key of Reflect.ownKeys(Object.prototype))
        if (!before.has(key)) Reflect.deleteProperty(Object.prototype, key)
    }
  })

  test("a codec that believes the description of types, as superjson does by itself", async () => {
    const message = await findingOf(encodedTarget((encoded: Encoded) => codec.decode(encoded)))
    assert.match(message, /not a named error|characters decode to a value of more than|prototype/)
  })

  test("a value with a prototype of its own making, one with a key __proto__, one far larger than its text", () => {
    assert.throws(() => assertGenuine({ a: [Object.create({ evil: true })] }, 10), Finding)
    assert.throws(() => assertGenuine(JSON.parse('{"a":{"__proto__":{}}}'), 30), Finding)
    assert.throws(() => assertGenuine([new Uint8Array(100_000)], 30), Finding)
    assertGenuine({ a: [new Map([["b", new Set([new Date()])]])] }, 30)
    assert.throws(() => found("x"), Finding)
  })
})

test("a finding ends the command with 1 and prints what replays it, a run without one with 0", bound, () => {
  const main = fileURLToPath(new URL("main.ts", import.meta.url))
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const fuzz = (...args: string[]) =>
    spawnSync(process.execPath, ["--conditions=sojourn-source", main, ...args], { encoding: "utf8", env })
  const last = (stdout: string): object => ({
    ...(JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as object),
    seconds: 0,
  })
  const fine = fuzz("--target", "ticket", "--inputs", "50", "--seed", "3")
  assert.equal(fine.status, 0, fine.stderr)
  assert.deepEqual(last(fine.stdout), { seed: 3, inputs: 50, findings: 0, seconds: 0 })
  const broken = fuzz("--target", "planted-rejection", "--seed", "3")
  assert.equal(broken.status, 1, broken.stderr)
  assert.match(broken.stdout, /^FOUND planted-rejection: nobody caught: Error: left alone$/m)
  assert.match(broken.stdout, /^ {2}replay: npm run fuzz -- --target planted-rejection --seed 3 --input \d+$/m)
})
