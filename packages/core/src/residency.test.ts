import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { actor } from "./actor.ts"
import { homeOf } from "./address.ts"
import { checkResidency, homeWithin, insideResidency, mayHold, needsOf, residencyGlobsMax } from "./residency.ts"

const state = () => ({})

describe("residency", () => {
  test("globs: a star is any run of characters, none included, and everything else is itself", () => {
    const cases: [string, string, boolean][] = [
      ["eu", "eu", true],
      ["eu", "eu-west", false],
      ["eu-*", "eu-west", true],
      ["eu-*", "eu-", true],
      ["eu-*", "eu", false],
      ["eu-*", "neu-west", false],
      ["*", "ap-northeast", true],
      ["*-west", "eu-west", true],
      ["*-west", "eu-west-2", false],
      ["eu-*-1", "eu-west-1", true],
      ["eu-*-1", "eu-1", false],
      ["a*b*a", "aba", true],
      ["a*b*a", "ab", false],
      ["*aa*", "a", false],
      ["aa*aa", "aaa", false],
    ]
    for (const [glob, region, expected] of cases)
      assert.equal(insideResidency([glob], region), expected, `${glob} and ${region}`)
    assert.ok(insideResidency(["us-*", "eu-*"], "eu-west"))
    assert.ok(insideResidency(undefined, "anywhere"), "without a residency everywhere is inside")
    assert.ok(insideResidency(undefined, undefined))
    assert.ok(!insideResidency(["*"], undefined), "a POP that is not configured is nowhere")
  })

  test("no glob makes matching slow", () => {
    const glob = `${"*a".repeat(31)}b`
    assert.ok(!insideResidency([glob], "a".repeat(64)))
  })

  test("a list is 1 to 64 globs of regions' characters; a class with another is a TypeError where it is defined", () => {
    const bad: unknown[] = [[], "eu-*", undefined, [1], ["EU"], ["eu west"], [""], ["é"], ["a".repeat(65)]]
    for (const globs of [...bad, Array.from({ length: residencyGlobsMax + 1 }, () => "eu")])
      assert.throws(() => checkResidency("cart/alice", globs), TypeError, JSON.stringify(globs))
    checkResidency(
      "cart/alice",
      Array.from({ length: residencyGlobsMax }, () => "eu"),
    )
    assert.throws(() => actor({ state, residency: ["EU"] }), /"EU"; a region is/)
    assert.throws(() => actor({ state, residency: [] }), TypeError)
    actor({ state, residency: () => [] })
  })

  test("a POP may hold an actor if it is inside and knows its schema", () => {
    const needs = { residency: ["eu-*"], version: 2 }
    assert.ok(mayHold(needs, { region: "eu-west", version: 2 }))
    assert.ok(mayHold(needs, { region: "eu-west", version: 3 }))
    assert.ok(!mayHold(needs, { region: "eu-west", version: 1 }))
    assert.ok(!mayHold(needs, { region: "us-east", version: 2 }))
    assert.ok(!mayHold(needs, { region: undefined, version: 2 }))
  })

  test("what is stored rules whatever the class says now; before that, the class; a function's law is unknown until it ran", () => {
    const stored = { residency: ["eu-*"], version: 2 }
    assert.equal(needsOf(["us-*"], stored), stored)
    assert.equal(
      needsOf(() => ["us-*"], stored),
      stored,
    )
    assert.deepEqual(needsOf(["us-*"], undefined), { residency: ["us-*"], version: 1 })
    assert.deepEqual(needsOf(undefined, undefined), { residency: undefined, version: 1 })
    assert.equal(
      needsOf(() => ["us-*"], undefined),
      undefined,
    )
  })

  test("the home is inside: among the homes that are, or the one that the key names", () => {
    const regions = new Map([
      ["bos", "us-east"],
      ["sfo", "us-west"],
      ["fra", "eu-central"],
      ["nrt", "ap-northeast"],
    ])
    const homes = ["bos", "fra", "nrt"]
    const found = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const id = `cart/user${i}`
      const home = homeWithin(id, homes, regions, ["us-*", "eu-*"])
      found.add(home)
      const anywhere = homeOf(id, homes, new Set(regions.keys()))
      if (anywhere !== "nrt") assert.equal(home, anywhere, "a home that is inside stays it")
      assert.equal(homeWithin(id, homes, regions, ["us-*"]), "bos")
    }
    assert.deepEqual([...found].sort(), ["bos", "fra"])
    assert.equal(homeWithin("cart/alice~sfo", homes, regions, ["us-*"]), "sfo")
    const denied = { code: "RESIDENCY_DENIED" }
    assert.throws(() => homeWithin("cart/alice~nrt", homes, regions, ["us-*"]), denied)
    assert.throws(() => homeWithin("cart/alice", ["nrt"], regions, ["us-*"]), denied)
    assert.throws(() => homeWithin("cart/alice~gru", homes, regions, ["us-*"]), { code: "BAD_KEY" })
  })
})
