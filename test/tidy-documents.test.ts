// What the documents, the manifests and the lock file promise is there.

import assert from "node:assert/strict"
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, posix } from "node:path"
import { test } from "node:test"
import ts from "typescript"
import type { Manifest } from "./workspace.ts"
import { examples, packages, projectFiles, readText, root, rootManifest } from "./workspace.ts"

const documents = projectFiles().filter((path) => path.endsWith(".md"))

type Module = { readonly document: string; readonly file: string; readonly text: string }

/** The ```ts blocks that are complete modules: their first line is a comment that names the file. */
function modulesIn(document: string, text: string): readonly Module[] {
  return [...text.matchAll(/^```ts[^\n]*\n([\s\S]*?)^```/gm)].flatMap(([, body = ""]) => {
    const file = /^\/\/ ([\w./-]+\.tsx?)\b/.exec(body)?.[1]
    return file === undefined ? [] : [{ document, file, text: body }]
  })
}

/** Compiles modules together under the project's own settings. @returns what the compiler says, one line each */
function compile(modules: readonly Module[]): readonly string[] {
  const data = join(root, ".data")
  mkdirSync(data, { recursive: true })
  const folder = mkdtempSync(join(data, "documents-"))
  try {
    const files = modules.map(({ file, text }) => {
      const path = join(folder, file)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, text)
      return path
    })
    const config = ts.readConfigFile(join(root, "tsconfig.json"), (path) => ts.sys.readFile(path))
    const { options } = ts.parseJsonConfigFileContent({ ...config.config, include: [], files }, ts.sys, root)
    return ts.getPreEmitDiagnostics(ts.createProgram(files, options)).map(({ file, start, messageText }) => {
      const at =
        file === undefined ? "" : `${file.fileName}:${file.getLineAndCharacterOfPosition(start ?? 0).line + 1}: `
      return at.replace(`${folder}/`, "") + ts.flattenDiagnosticMessageText(messageText, "\n")
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const modules = documents
  .map((path) => ({ path, found: modulesIn(path, readText(path)) }))
  .filter(({ found }) => found.length > 0)

test(
  "the modules printed in the documents compile as they stand",
  { skip: modules.length === 0 && "no document prints a complete module yet" },
  () => {
    for (const { path, found } of modules) {
      const files = found.map(({ file }) => file)
      assert.equal(new Set(files).size, files.length, `${path} prints a file twice: ${files.join(", ")}`)
      assert.deepEqual(compile(found), [], path)
    }
  },
)

test("the check of printed modules sees a wrong one, and one importing another", () => {
  const text = [
    "```ts\n// a.ts\nexport const a: number = 1\n```",
    '```ts\n// b.ts, beside it\nimport { a } from "./a.ts"\nexport const b: string = a\n```',
    "```ts\nneither(complete, nor(named))\n```",
  ].join("\n\n")
  const found = modulesIn("here", text)
  assert.deepEqual(
    found.map(({ file }) => file),
    ["a.ts", "b.ts"],
  )
  assert.deepEqual(compile(found), ["b.ts:3: Type 'number' is not assignable to type 'string'."])
})

test("the paths, links and npm scripts that the documents name exist", () => {
  const wrong = documents.flatMap((document) => {
    const text = readText(document).replace(/^```[\s\S]*?^```/gm, "")
    const paths = [...text.matchAll(/`((?:packages|examples|scripts|test|docs|\.ci)\/[\w./-]*)`/g)].map(
      ([, path = ""]) => path,
    )
    const links = [...text.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)/g)].map(([, link = ""]) =>
      posix.join(dirname(document), link),
    )
    const scripts = [...readText(document).matchAll(/\bnpm run ([\w:-]+)/g)].map(([, name = ""]) => name)
    return [
      ...[...paths, ...links].filter((path) => !existsSync(join(root, path))),
      ...scripts.filter((name) => rootManifest.scripts?.[name] === undefined).map((name) => `npm run ${name}`),
    ].map((what) => `${document}: ${what}`)
  })
  assert.deepEqual(wrong, [])
})

const binary = /\.(png|jpe?g|gif|ico|woff2?|gz|zip|mdb)$/

/** Documents that a text names, by their line. Addresses are not the project's: they are left out. */
function documentsNamedIn(text: string): readonly { readonly line: number; readonly name: string }[] {
  return text.split("\n").flatMap((line, i) =>
    [...line.replace(/\bhttps?:[^\s)"'`<>]+/g, "").matchAll(/(?<![\w./*-])[\w./-]*\w\.md\b/g)].map(([name]) => ({
      line: i + 1,
      name,
    })),
  )
}

test("every document that a file of the project names is in the project", () => {
  // Pins a defect: comments cited documents that only their authors had.
  const there = new Set(documents)
  const wrong = projectFiles()
    .filter((path) => !binary.test(path))
    .flatMap((path) =>
      documentsNamedIn(readText(path))
        // As the reader of the file finds it: from the root, beside the file, or in docs/.
        .filter(({ name }) => ![".", dirname(path), "docs"].some((from) => there.has(posix.join(from, name))))
        .map(({ line, name }) => `${path}:${line}: ${name}`),
    )
  assert.deepEqual(wrong, [])
  const gone = ["GONE", "md"].join(".")
  assert.deepEqual(
    documentsNamedIn(`(${gone} §1), [it](../docs/${gone}#part)\nhttps://example.com/${gone} and *.md`),
    [gone, `../docs/${gone}`].map((name) => ({ line: 1, name })),
  )
})

const manifests: readonly Manifest[] = [rootManifest, ...[...packages, ...examples].map(({ manifest }) => manifest)]

test("every dependency has a row in docs/dependencies.md, and every row is a dependency", () => {
  const declared = manifests.flatMap(({ dependencies, devDependencies, peerDependencies, optionalDependencies }) =>
    Object.keys({ ...dependencies, ...devDependencies, ...peerDependencies, ...optionalDependencies }),
  )
  const wanted = new Set(declared.filter((name) => !name.startsWith("@sojourn/")))
  const rows = readText("docs/dependencies.md")
    .split("\n")
    .flatMap((line) => /^\| `([^`]+)`\s*\|/.exec(line)?.[1] ?? [])
  assert.deepEqual([...rows].sort(), [...wanted].sort())
})

test("dependencies are pinned to one version", () => {
  const loose = manifests.flatMap(({ name, dependencies, devDependencies }) =>
    Object.entries({ ...dependencies, ...devDependencies })
      .filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))
      .map(([dependency, version]) => `${name ?? "?"}: ${dependency} ${version}`),
  )
  assert.deepEqual(loose, [])
})

test("published packages carry the licence and the Node versions that they run on", () => {
  const wrong = packages.filter(
    ({ manifest }) => manifest.license !== "Apache-2.0" || manifest.engines?.["node"] !== ">=22.12",
  )
  assert.deepEqual(
    wrong.map(({ folder }) => folder),
    [],
  )
})

type LockEntry = {
  readonly resolved?: string
  readonly link?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

test("the lock file is complete, other platforms' packages included, and names no registry of its own", () => {
  // Pins a defect: packages of other platforms were missing, and `npm ci` refused the lock file on every machine.
  const lock = JSON.parse(readText("package-lock.json")) as { readonly packages: Readonly<Record<string, LockEntry>> }
  const entries = Object.entries(lock.packages)
  const isLocked = (from: string, name: string): boolean => {
    const path = `${from === "" ? "" : `${from}/`}node_modules/${name}`
    if (lock.packages[path] !== undefined) return true
    return from !== "" && isLocked(from.replace(/(^|\/)(?:node_modules\/(?:@[^/]+\/)?[^/]+|[^/]+)$/, ""), name)
  }
  const missing = entries.flatMap(([path, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !isLocked(path, name))
      .map((name) => `${path} needs ${name}`),
  )
  assert.deepEqual(missing, [])
  const foreign = entries.filter(
    ([, { link, resolved }]) =>
      link !== true && resolved !== undefined && !resolved.startsWith("https://registry.npmjs.org/"),
  )
  assert.deepEqual(
    foreign.map(([path]) => path),
    [],
  )
})
