import { open } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

import { WriteBatch } from "./write-batch.ts"

// A file, and so a process, of its own: where something before has taught the engine that what is written lives long, it is allocated
// in the old generation from the start.

setFlagsFromString("--expose_gc")
const collect = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void
setFlagsFromString("--no-expose_gc")

const bytes = (text: string): Buffer => Buffer.from(text)

void test("what a batch wrote is given back by the young generation's collections alone", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  const root = open<Uint8Array, Uint8Array>(folder, { noSubdir: false, encoding: "binary", keyEncoding: "binary" })
  const one = root.openDB<Uint8Array, Uint8Array>("one", { encoding: "binary", keyEncoding: "binary" })
  const batch = new WriteBatch(root, { one })
  const keys = Array.from({ length: 500 }, (_, i) => bytes(`key ${i}`))
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 200; i++) {
    for (const key of keys) batch.tables.one.put(key, bytes("value"))
    batch.clear()
    collect({ type: "minor" })
  }
  const kept = process.memoryUsage().heapUsed - before
  await root.close()
  rmSync(folder, { recursive: true })
  assert.ok(kept < 4_194_304, `${kept} bytes of 100,000 values`)
})
