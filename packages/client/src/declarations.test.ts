import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import ts from "typescript"

const { ESNext } = ts.ModuleKind
const resolution = { module: ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, types: [] }

test("the published types need no more of a page's libraries than what a browser of 2022 has", () => {
  // The second is what the first imports of this folder; the protocol is a package.
  const [types, limits] = ["types.ts", "limits.ts"].map((file) => join(import.meta.dirname, file))
  assert.ok(types && limits)
  const outDir = mkdtempSync(join(tmpdir(), "sojourn-declarations-"))
  try {
    const emitted = ts.createProgram([types], {
      ...resolution,
      customConditions: ["sojourn-source"],
      target: ts.ScriptTarget.ESNext,
      allowImportingTsExtensions: true,
      declaration: true,
      emitDeclarationOnly: true,
      rootDir: import.meta.dirname,
      outDir,
    })
    for (const file of [types, limits]) emitted.emit(emitted.getSourceFile(file), undefined, undefined, true)
    const program = ts.createProgram([join(outDir, "types.d.ts")], {
      ...resolution,
      lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
      strict: true,
      noEmit: true,
      allowImportingTsExtensions: true,
    })
    const declarations = program.getSourceFile(join(outDir, "types.d.ts"))
    assert.ok(declarations)
    // There is no package beside it: what is imported from one is not found.
    const wrong = program.getSemanticDiagnostics(declarations).filter(({ code }) => code !== 2307)
    assert.deepEqual(
      wrong.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n")),
      [],
    )
  } finally {
    rmSync(outDir, { recursive: true, force: true })
  }
})
