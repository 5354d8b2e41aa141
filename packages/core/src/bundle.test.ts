import assert from "node:assert/strict"
import { test } from "node:test"
import { build } from "esbuild"

// protocol's error-texts.ts is left out of bundles that do not use the table of errors: a client's, but not a server's.
test("a server that is bundled has the texts of its errors", async () => {
  const result = await build({
    entryPoints: [new URL("./index.ts", import.meta.url).pathname],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    conditions: ["sojourn-source"],
  })
  const text = result.outputFiles[0]?.text ?? ""
  assert.match(text, /"another process has this store open"/)
  assert.match(text, /^Object\.assign\(defaultMessages, /m)
})
