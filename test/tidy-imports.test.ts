// Which package may import which (CONTRIBUTING.md, "Layout"): the arrows that keep the protocol and the core free of
// sockets, disks and processes, so that the same code runs in a browser, on an edge runtime and in the simulator.

import assert from "node:assert/strict"
import { test } from "node:test"
import type { Import, Package, Source } from "./workspace.ts"
import { examples, importsOf, packageOf, packages, parse, rootManifest, targetOf } from "./workspace.ts"

/** `protocol` ← `core` ← { `storage-*`, `server`, `testkit` (which also runs `client`) }; `protocol` ← `client`. */
const mayImport: readonly { readonly role: RegExp; readonly below: readonly string[] }[] = [
  { role: /^protocol$/, below: [] },
  { role: /^core$/, below: ["protocol"] },
  { role: /^client$/, below: ["protocol"] },
  { role: /^storage-/, below: ["core", "protocol"] },
  { role: /^server$/, below: ["core", "protocol"] },
  { role: /^testkit$/, below: ["core", "protocol", "client"] },
]

/** What a package's tests may import besides: the conformance suites, unless testkit itself stands on the package. */
function mayImportInTests(role: string): readonly string[] {
  const testkitStandsOn = mayImport.find((rule) => rule.role.test("testkit"))?.below ?? []
  return role === "testkit" || testkitStandsOn.includes(role) ? [] : ["testkit"]
}

function wrongImports(role: string, source: Source): readonly string[] {
  const rule = mayImport.find((candidate) => candidate.role.test(role))
  if (rule === undefined)
    return [`${source.path}: no rule says what "${role}" may import: add its row in tidy-imports.test.ts`]
  const allowed = new Set(
    [...rule.below, ...(source.isTest ? mayImportInTests(role) : [])].map((name) => `@sojourn/${name}`),
  )
  const home = `packages/${role}/src/`
  return importsOf(source).flatMap(({ specifier, line }) => {
    const at = `${source.path}:${line}`
    if (specifier.startsWith(".")) {
      const target = targetOf(source, specifier)
      if (!target.startsWith(home)) return [`${at} reaches out of its package: ${specifier}`]
      const wantsTest = !source.isTest && parse(target, "").isTest
      return wantsTest ? [`${at} imports what is only for tests: ${specifier}`] : []
    }
    const name = packageOf(specifier)
    if (name === undefined || !name.startsWith("@sojourn/") || allowed.has(name)) return []
    return [`${at}: ${role} may not import ${name}`]
  })
}

test("packages import one way only, as the layout says", () => {
  assert.deepEqual(
    packages.flatMap(({ role, sources }) => sources.flatMap((source) => wrongImports(role, source))),
    [],
  )
})

test("the check of import directions sees imports, re-exports, dynamic and type imports, and ways around by path", () => {
  const upward = `import { a } from "@sojourn/core"
export { b } from "@sojourn/server"
const c = await import("@sojourn/client")
type D = import("@sojourn/testkit").D
import { e } from "../../core/src/e.ts"
import { own } from "./own.ts"`
  assert.equal(wrongImports("protocol", parse("packages/protocol/src/x.ts", upward)).length, 5)
  const suite = `import { suite } from "@sojourn/testkit"`
  assert.equal(wrongImports("storage-x", parse("packages/storage-x/src/x.ts", suite)).length, 1)
  assert.equal(wrongImports("storage-x", parse("packages/storage-x/src/x.test.ts", suite)).length, 0)
  assert.equal(wrongImports("core", parse("packages/core/src/x.test.ts", suite)).length, 1)
  const fake = `import { fake } from "./testing/fake.ts"`
  assert.equal(wrongImports("core", parse("packages/core/src/x.ts", fake)).length, 1)
  assert.equal(wrongImports("core", parse("packages/core/src/x.test.ts", fake)).length, 0)
  assert.equal(wrongImports("gossip", parse("packages/gossip/src/x.ts", "")).length, 1)
})

test("a package is imported by what it exports, never by a path into it", () => {
  const byName = new Map([...packages, ...examples].map(({ manifest }) => [manifest.name, manifest]))
  const wrong = everyImport().flatMap(({ source, found: { specifier, line } }) => {
    const name = packageOf(specifier)
    const manifest = name === undefined ? undefined : byName.get(name)
    if (name === undefined || manifest === undefined) return []
    const subpath = `.${specifier.slice(name.length)}`
    return subpath in (manifest.exports ?? {}) ? [] : [`${source.path}:${line}: ${specifier}`]
  })
  assert.deepEqual(wrong, [])
})

test("what a package imports is declared in its package.json, and what it declares is imported", () => {
  assert.deepEqual([...packages, ...examples].flatMap(wrongDeclarations), [])
})

function wrongDeclarations({ folder, manifest, sources }: Package): readonly string[] {
  // A package still without sources has nothing to compare with.
  if (sources.length === 0) return []
  const runtime = new Set(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }))
  const development = new Set(Object.keys(manifest.devDependencies ?? {}))
  const shared = new Set(Object.keys(rootManifest.devDependencies ?? {}))
  const imported = { code: new Set<string>(), tests: new Set<string>() }
  const wrong: string[] = []
  for (const source of sources) {
    for (const { specifier, line } of importsOf(source)) {
      const name = packageOf(specifier)
      if (name === undefined || name === manifest.name) continue
      imported[source.isTest ? "tests" : "code"].add(name)
      const declared = runtime.has(name) || (source.isTest && (development.has(name) || shared.has(name)))
      if (!declared) wrong.push(`${source.path}:${line}: ${name} is not declared in ${folder}/package.json`)
    }
  }
  for (const name of runtime) {
    if (!imported.code.has(name)) wrong.push(`${folder}/package.json: ${name} is declared and never imported`)
  }
  for (const name of development) {
    if (!imported.tests.has(name))
      wrong.push(`${folder}/package.json: ${name} is declared for tests and never imported there`)
  }
  return wrong
}

function everyImport(): readonly { readonly source: Source; readonly found: Import }[] {
  return [...packages, ...examples].flatMap(({ sources }) =>
    sources.flatMap((source) => importsOf(source).map((found) => ({ source, found }))),
  )
}
