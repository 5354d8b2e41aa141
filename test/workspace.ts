// The workspace as the tidy tests see it: its packages, its sources as syntax trees, the files that belong to it.

import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, sep } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

export const root = fileURLToPath(new URL("..", import.meta.url))

export type Manifest = {
  readonly name?: string
  readonly license?: string
  readonly engines?: Readonly<Record<string, string>>
  readonly scripts?: Readonly<Record<string, string>>
  readonly exports?: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

export type Package = {
  /** The folder's name, which is the role and kind: `storage-lmdb`. */
  readonly role: string
  /** From the workspace's root: `packages/storage-lmdb`. */
  readonly folder: string
  readonly manifest: Manifest
  readonly sources: readonly Source[]
}

export type Source = {
  /** From the workspace's root, with forward slashes. */
  readonly path: string
  /** A test, or in a `testing` folder, where a package keeps what only its own tests use. Neither is built. */
  readonly isTest: boolean
  readonly tree: ts.SourceFile
}

/** One place that names another module. */
export type Import = {
  readonly specifier: string
  readonly line: number
  /** The names it takes, for an import or export by name. */
  readonly names: readonly string[]
}

export const rootManifest = readManifest("package.json")

export const packages = readPackages("packages")
export const examples = readPackages("examples")

function readManifest(path: string): Manifest {
  return JSON.parse(readFileSync(join(root, path), "utf8")) as Manifest
}

function readPackages(parent: string): readonly Package[] {
  return readdirSync(join(root, parent))
    .map((role) => ({ role, folder: `${parent}/${role}` }))
    .filter(({ folder }) => existsSync(join(root, folder, "package.json")))
    .map(({ role, folder }) => ({
      role,
      folder,
      manifest: readManifest(`${folder}/package.json`),
      sources: sourcesBelow(`${folder}/src`),
    }))
}

/** Every TypeScript file below a folder, parsed. */
export function sourcesBelow(folder: string): readonly Source[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name.split(sep).join("/")}`)
    .filter((path) => /\.[mc]?tsx?$/.test(path))
    .sort()
    .map((path) => parse(path, readFileSync(join(root, path), "utf8")))
}

export function parse(path: string, text: string): Source {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
  return { path, isTest: /\.test\.[mc]?tsx?$|\/src\/testing\//.test(path), tree }
}

export function lineOf(node: ts.Node): number {
  return node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1
}

/** Calls `visit` for every node of a source. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node)
  ts.forEachChild(node, (child) => walk(child, visit))
}

/** What a source imports, re-exports, loads with `import()` or names in an `import("…")` type. */
export function importsOf(source: Source): readonly Import[] {
  const found: Import[] = []
  walk(source.tree, (node) => {
    const specifier = specifierOf(node)
    if (specifier !== undefined) found.push({ specifier, line: lineOf(node), names: namesOf(node) })
  })
  return found
}

function specifierOf(node: ts.Node): string | undefined {
  let at: ts.Node | undefined
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) at = node.moduleSpecifier
  else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) at = node.arguments[0]
  else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) at = node.argument.literal
  return at !== undefined && ts.isStringLiteralLike(at) ? at.text : undefined
}

function namesOf(node: ts.Node): readonly string[] {
  if (!ts.isImportDeclaration(node)) return []
  const bindings = node.importClause?.namedBindings
  if (bindings === undefined || !ts.isNamedImports(bindings)) return []
  return bindings.elements.map((element) => (element.propertyName ?? element.name).text)
}

/** `@scope/name/sub` → `@scope/name`; undefined for relative paths and Node's own modules. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith(".") || specifier.startsWith("node:")) return undefined
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")
}

/** Where a relative import leads, from the workspace's root. */
export function targetOf(source: Source, specifier: string): string {
  return relative(root, join(root, dirname(source.path), specifier))
    .split(sep)
    .join("/")
}

/** The files that belong to the project: what git tracks or would add; without git, all that is not made or installed. */
export function projectFiles(): readonly string[] {
  return (gitFiles() ?? walkFiles("")).filter((path) => existsSync(join(root, path))).sort()
}

function gitFiles(): readonly string[] | undefined {
  try {
    const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
    const files = listed.split("\0").filter((path) => path !== "")
    return files.includes("package.json") ? files : undefined
  } catch {
    return undefined
  }
}

const madeOrInstalled = new Set(["node_modules", "dist", ".turbo", ".data", ".git"])

function walkFiles(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`
    if (entry.isDirectory()) return madeOrInstalled.has(entry.name) ? [] : walkFiles(path)
    return entry.isFile() ? [path] : []
  })
}

export function readText(path: string): string {
  return readFileSync(join(root, path), "utf8")
}
