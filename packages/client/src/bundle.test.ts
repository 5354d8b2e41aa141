import assert from "node:assert/strict"
import { test } from "node:test"
import { gzipSync } from "node:zlib"
import { build } from "esbuild"

async function bundle(external: string[]): Promise<{ text: string; gzBytes: number }> {
  const result = await build({
    entryPoints: [new URL("./index.ts", import.meta.url).pathname],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2024",
    conditions: ["sojourn-source"],
    external,
  })
  const bytes = result.outputFiles[0]?.contents ?? new Uint8Array()
  return { text: new TextDecoder().decode(bytes), gzBytes: gzipSync(bytes, { level: 9 }).length }
}

test("the client bundles for the browser, without Node, and stays small", async (t) => {
  const [whole, own] = await Promise.all([bundle([]), bundle(["superjson"])])
  t.diagnostic(`gzip: ${whole.gzBytes} bytes with superjson, ${own.gzBytes} without`)
  assert.doesNotMatch(whole.text, /node:|\brequire\(/)
  assert.doesNotMatch(whole.text, /another process has this store open/, "the texts of a server's errors are left out")
  assert.doesNotMatch(whole.text, /new [\w$]+\("[A-Z_]+"(?:\)|,void 0)/, "so a client's own errors bring their message")
  assert.ok(whole.gzBytes <= 17_100, `${whole.gzBytes} bytes`)
})
