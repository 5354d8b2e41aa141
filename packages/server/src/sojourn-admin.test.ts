import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { test } from "node:test"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("./sojourn-admin.ts", import.meta.url))

/** Its exit code and what it says of an error. */
function run(...args: string[]): Promise<readonly [code: unknown, stderr: string]> {
  const env = { ...process.env, SOJOURN_MESH_SECRET: "a secret of the mesh of tests" }
  return new Promise((resolve) => {
    execFile(process.execPath, ["--conditions=sojourn-source", program, ...args], { env }, (error, _, stderr) => {
      resolve([error?.code, stderr.trim()])
    })
  })
}

test("sojourn-admin says why a POP cannot be asked", async () => {
  const [refused, peer] = await Promise.all(
    ["http://127.0.0.1:1", "ws://127.0.0.1:1"].map((url) => run("forget", "bos", "--heir", "fra", "--url", url)),
  )
  assert.deepEqual(refused, [1, "sojourn-admin: fetch failed: bad port"])
  assert.deepEqual(peer, [1, "sojourn-admin: fetch failed: unknown scheme"])
})

test("sojourn-admin without what it needs shows how it is used", async () => {
  const [code, stderr] = await run("forget", "bos", "--url", "http://127.0.0.1:1")
  assert.equal(code, 2)
  assert.match(stderr, /^usage: sojourn-admin forget <pop> --heir <pop> --url/)
})
