// What sources may not contain (CONTRIBUTING.md, "Layout" and "Code"). Each rule is checked on syntax trees, so that comments, strings,
// types and injected values of the same name do not count, and each check is itself tested on a planted offence.

import assert from "node:assert/strict"
import { basename } from "node:path"
import { test } from "node:test"
import ts from "typescript"
import type { Source } from "./workspace.ts"
import {
  examples,
  importsOf,
  lineOf,
  packages,
  parse,
  projectFiles,
  readText,
  sourcesBelow,
  walk,
} from "./workspace.ts"

/** Packages that take clock, chance, storage, transport and event sink by parameter only. */
const withoutAmbient = ["protocol", "core", "client"]

/** The one file that may look at the surroundings: where the client's defaults are taken from. */
const ambientFile = "packages/client/src/ambient.ts"

const ambientNames = new Set([
  ...["console", "process", "performance", "navigator", "window", "document", "localStorage", "sessionStorage"],
  ...["setTimeout", "setInterval", "setImmediate", "requestAnimationFrame"],
  ...["WebSocket", "EventSource", "XMLHttpRequest", "fetch", "Buffer", "require", "global", "globalThis"],
])

const ambientMembers = new Map([
  ["Date", ["now"]],
  ["Math", ["random"]],
  ["crypto", ["getRandomValues", "randomUUID"]],
  ["AbortSignal", ["timeout"]],
])

/** nanoid's exports that bring no chance of their own. */
const chanceless = new Set(["customRandom", "urlAlphabet"])

function ambientUses(source: Source): readonly string[] {
  const declared = declaredNames(source)
  const found: string[] = []
  const report = (node: ts.Node, what: string): void => {
    found.push(`${source.path}:${lineOf(node)}: ${what}`)
  }
  const visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return
    if (ts.isIdentifier(node) && isReference(node) && !declared.has(node.text)) {
      if (ambientNames.has(node.text)) report(node, node.text)
      const members = ambientMembers.get(node.text)
      const { parent } = node
      if (members !== undefined && ts.isPropertyAccessExpression(parent) && members.includes(parent.name.text)) {
        report(node, `${node.text}.${parent.name.text}`)
      }
      const makesDate =
        (ts.isNewExpression(parent) && (parent.arguments ?? []).length === 0) || ts.isCallExpression(parent)
      if (node.text === "Date" && makesDate && parent.expression === node) report(node, "the current Date")
    }
    ts.forEachChild(node, visit)
  }
  visit(source.tree)
  for (const { specifier, line, names } of importsOf(source)) {
    if (specifier.startsWith("node:")) found.push(`${source.path}:${line}: ${specifier}`)
    const drawn = specifier === "nanoid" ? names.filter((name) => !chanceless.has(name)) : []
    for (const name of drawn) found.push(`${source.path}:${line}: nanoid's ${name} brings its own chance`)
  }
  return found
}

/** Whether an identifier stands for a value in scope: not a property's name, a key, or the name of a declaration. */
function isReference(node: ts.Identifier): boolean {
  const { parent } = node
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node
  if (ts.isQualifiedName(parent)) return false
  if (ts.isShorthandPropertyAssignment(parent)) return true
  if (ts.isBindingElement(parent)) return parent.initializer === node
  if (ts.isImportSpecifier(parent) || ts.isExportSpecifier(parent)) return false
  return !("name" in parent && parent.name === node)
}

/** Names that the file itself binds: a parameter called `fetch` is an injected one. */
function declaredNames(source: Source): ReadonlySet<string> {
  const names = new Set<string>()
  walk(source.tree, (node) => {
    const declares = ts.isVariableDeclaration(node) || ts.isParameter(node) || ts.isBindingElement(node)
    const binds =
      declares || ts.isFunctionDeclaration(node) || ts.isImportSpecifier(node) || ts.isClassDeclaration(node)
    if (binds && node.name !== undefined && ts.isIdentifier(node.name) && !isInType(node)) names.add(node.name.text)
  })
  return names
}

function isInType(node: ts.Node): boolean {
  return (
    ts.isFunctionTypeNode(node.parent) ||
    ts.isMethodSignature(node.parent) ||
    ts.isCallSignatureDeclaration(node.parent)
  )
}

test("protocol, core and client touch no ambient time, chance, console, process, socket or Node module", () => {
  const sources = packages
    .filter(({ role }) => withoutAmbient.includes(role))
    .flatMap((found) => found.sources)
    .filter(({ path, isTest }) => !isTest && path !== ambientFile)
  assert.ok(sources.length > 0)
  assert.deepEqual(sources.flatMap(ambientUses), [])
})

test("the check for ambient things sees each kind of use, and no injected one", () => {
  const offences = [
    "Date.now()",
    "new Date()",
    "Math.random()",
    "setTimeout(() => {}, 1)",
    "const { later = setInterval } = {}",
    "console.log(1)",
    "process.env",
    "globalThis.fetch",
    "const port = { performance }",
    "const id = crypto.randomUUID()",
    "AbortSignal.timeout(5)",
    "new WebSocket('')",
    "import { readFile } from 'node:fs'",
    "const fs = await import('node:fs')",
    "import { nanoid } from 'nanoid'",
  ]
  for (const text of offences) {
    assert.equal(ambientUses(parse("packages/core/src/x.ts", text)).length, 1, text)
  }
  const innocent = `// Date.now() and setTimeout
    import { customRandom } from "nanoid"
    type Clock = { now(): number; setTimeout(ms: number): void; process: (console: string) => void }
    export function wait(clock: Clock, at: Date): void { clock.setTimeout(new Date(5).getTime() + at.getTime()) }
    export const text = "process.env, node:fs, Math.random", socket: WebSocket | undefined = undefined
    queueMicrotask(() => customRandom)
    export function call(fetch: () => void): void { fetch() }`
  assert.deepEqual(ambientUses(parse("packages/core/src/x.ts", innocent)), [])
})

const everySource: readonly Source[] = [
  ...[...packages, ...examples].flatMap(({ sources }) => sources),
  ...sourcesBelow("test"),
]

function wildcardExports(source: Source): readonly string[] {
  const found: string[] = []
  walk(source.tree, (node) => {
    if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined && node.exportClause === undefined) {
      found.push(`${source.path}:${lineOf(node)}`)
    }
  })
  return found
}

test("exports are listed by name", () => {
  assert.deepEqual(everySource.flatMap(wildcardExports), [])
  assert.equal(wildcardExports(parse("x.ts", `export * from "./y.ts"`)).length, 1)
  assert.equal(wildcardExports(parse("x.ts", `export { y } from "./y.ts"; export type { Z } from "./z.ts"`)).length, 0)
})

const namesNothing = /(^|[.-])(utils?|commons?|helpers?|misc)([.-]|$)/i

test("a file or folder is named for what it defines", () => {
  const parts = projectFiles().filter((path) => path.split("/").some((part) => namesNothing.test(part)))
  assert.deepEqual(parts, [])
  for (const name of ["utils.ts", "test-helpers.ts", "misc", "common.test.ts"]) assert.match(name, namesNothing)
  for (const name of ["commons-law", "commit.ts", "miscount.ts"].slice(1)) assert.doesNotMatch(name, namesNothing)
})

/** A marker of work left over, on a line without the number of the issue that it waits for. */
const leftOver = /\b(?:TO|FIX)(?:DO|ME)\b(?!.*#\d)/

test("work left over names its issue", () => {
  const code = projectFiles().filter((path) => /\.([mc]?[jt]sx?|html|css|sh)$/.test(path) || path === ".ci/run")
  const wrong = code.flatMap((path) =>
    readText(path)
      .split("\n")
      .flatMap((line, i) => (leftOver.test(line) ? [`${path}:${i + 1}`] : [])),
  )
  assert.deepEqual(wrong, [])
  const marker = ["TO", "DO"].join("")
  assert.match(`// ${marker}: later`, leftOver)
  assert.doesNotMatch(`// ${marker} #12: later`, leftOver)
})

/** An absolute path into somebody's machine. */
const machinePath = /(?<![\w.~:/-])\/(?:work|root|home|Users)\/\w/

test("no file names a path of the machine that it was written on", () => {
  const binary = /\.(png|jpe?g|gif|ico|woff2?|gz|zip|mdb)$/
  const wrong = projectFiles()
    .filter((path) => !binary.test(path))
    .flatMap((path) =>
      readText(path)
        .split("\n")
        .flatMap((line, i) => (machinePath.test(line) ? [`${path}:${i + 1}`] : [])),
    )
  assert.deepEqual(wrong, [])
  assert.match(`see ${["", "home", "ann", "x"].join("/")}`, machinePath)
  assert.doesNotMatch("https://example.com/home/page and ./root/file", machinePath)
})

test("tests lie beside the code, in spec/, in fuzz/ or in test/, where npm test finds them", () => {
  const found = projectFiles().filter((path) => basename(path).includes(".test."))
  const where = /^(?:(?:packages|examples)\/[^/]+\/src|spec|fuzz|test)\/(?:.*\/)?[^/]+\.test\.ts$/
  assert.deepEqual(
    found.filter((path) => !where.test(path)),
    [],
  )
})
