// The packages as npm would publish them, in a folder outside of this workspace: what an application installs.
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { after, before, describe, test } from "node:test"
import { packages, readText, root } from "./workspace.ts"

interface Packed {
  readonly filename: string
  readonly files: readonly { readonly path: string }[]
}

const above = mkdtempSync(join(tmpdir(), "sojourn-packed-"))
const app = join(above, "app")
const packed = new Map<string, Packed>()

function run(command: string, args: readonly string[], cwd: string): string {
  // Not as a test of this workspace: an application knows nothing of it.
  const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...env } = process.env
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: "utf8", timeout: 100_000 })
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${String(error ?? "")} ${stdout} ${stderr}`)
  return stdout
}

before(
  () => {
    run(process.execPath, [join(root, "scripts/build.mjs")], root)
    // Everything that the packages depend on is found above the application, as it stands in this workspace.
    symlinkSync(join(root, "node_modules"), join(above, "node_modules"))
    for (const { folder, manifest } of packages) {
      const { name = "" } = manifest
      const [one] = JSON.parse(
        run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", above], join(root, folder)),
      ) as [Packed]
      packed.set(name, one)
      const to = join(app, "node_modules", name)
      mkdirSync(to, { recursive: true })
      run("tar", ["-xzf", join(above, one.filename), "--strip-components=1", "-C", to], above)
    }
    writeFileSync(join(app, "package.json"), JSON.stringify({ type: "module" }))
  },
  { timeout: 120_000 },
)
after(() => {
  rmSync(above, { recursive: true, force: true })
})

describe("the packages, packed and installed elsewhere", () => {
  test("have what runs, its types and the sources that both point to, and no tests", () => {
    for (const [name, { files }] of packed) {
      const paths = new Set(files.map(({ path }) => path))
      for (const path of ["dist/index.js", "dist/index.d.ts", "package.json"])
        assert.ok(paths.has(path), `${name} ${path}`)
      const tests = [...paths].filter((path) => /\.test\.|testing\//.test(path))
      assert.deepEqual(tests, [], name)
      for (const path of [...paths].filter((one) => one.endsWith(".js.map"))) {
        const map = join(app, "node_modules", name, path)
        const { sources } = JSON.parse(readFileSync(map, "utf8")) as { readonly sources: readonly string[] }
        for (const source of sources) assert.ok(existsSync(join(dirname(map), source)), `${name} ${path}: ${source}`)
      }
    }
  })

  test("serve an actor on LMDB and call it, from plain JavaScript, and keep it over a restart", () => {
    writeFileSync(
      join(app, "app.js"),
      `import { actor, setup } from "@sojourn/core"
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { createClient } from "@sojourn/client"

const counter = actor({
  state: () => ({ seen: new Map() }),
  actions: {
    see(c, what) {
      c.state.seen.set(what, (c.state.seen.get(what) ?? 0) + 1)
      return c.state.seen
    },
  },
})
const pop = await createPop({
  app: setup({ actors: { counter } }),
  id: "bos",
  region: "us-east",
  storage: lmdb("data"),
  alone: true,
  logLevel: "error",
  authenticate: (_request, token) => (token ? { id: token } : null),
})
const { port } = await pop.listen(0)
const client = createClient({ url: "ws://127.0.0.1:" + port, token: "ann" })
console.log(await client.counter.get("ann").see("book"))
await client.close()
await pop.close()
`,
    )
    assert.equal(run(process.execPath, ["app.js"], app).trim(), "Map(1) { 'book' => 1 }")
    assert.equal(run(process.execPath, ["app.js"], app).trim(), "Map(1) { 'book' => 2 }")
  })

  test("type-check README's example in an application's own configuration", () => {
    const example = readText("README.md").split("## The smallest complete example")[1] ?? ""
    const blocks = [...example.matchAll(/^```ts\n\/\/ (actors|pop|client)\.ts\n([\s\S]*?)^```/gm)]
    assert.equal(blocks.length, 3)
    for (const [, name = "", body = ""] of blocks) writeFileSync(join(app, `${name}.ts`), body)
    const tsc = join(root, "node_modules/typescript/bin/tsc")
    const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2023", "--types", "node"]
    run(process.execPath, [tsc, ...options, "--allowImportingTsExtensions", "pop.ts", "client.ts"], app)
    // And a wrong call of it does not compile.
    writeFileSync(join(app, "wrong.ts"), `${blocks[2]?.[2] ?? ""}\nawait cart.add(5)\n`)
    const { status, stdout } = spawnSync(
      process.execPath,
      [tsc, ...options, "--allowImportingTsExtensions", "wrong.ts"],
      { cwd: app, encoding: "utf8" },
    )
    assert.notEqual(status, 0)
    assert.match(stdout, /wrong\.ts\(\d+,\d+\): error TS2345/)
  })
})
