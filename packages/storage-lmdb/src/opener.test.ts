import type { Store } from "@sojourn/core"
import assert from "node:assert/strict"
import fs, {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  rmdirSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import { lmdb } from "./index.ts"

const a = "notebook/alice"

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

async function opened(t: TestContext, folder: string): Promise<Store> {
  const store = await lmdb(folder).open()
  t.after(() => store.close())
  return store
}

const code =
  (expected: string, said: RegExp) =>
  (error: unknown): true => {
    const { code: got, message } = error as { code?: string; message: string }
    assert.equal(got, expected, message)
    assert.match(message, said)
    return true
  }

async function written(store: Store, actor: string, bytes = 1): Promise<void> {
  await store.claim(actor, true)
  const answer = await store.commit(actor, { e: 0, f: 1, v: 0 }, { entries: [new Uint8Array(bytes)], h: "h1" })
  assert.equal(answer.kind, "committed")
}

/** What the product calls of `node:fs` is another function until the test ends, or `restore` is called. */
function replaced<K extends keyof typeof fs>(t: TestContext, name: K, by: (typeof fs)[K]): { restore(): void } {
  const mocked = t.mock.method(fs as unknown as Record<string, () => unknown>, name as string, by as () => unknown)
  syncBuiltinESMExports()
  const restore = (): void => {
    mocked.mock.restore()
    syncBuiltinESMExports()
  }
  t.after(restore)
  return { restore }
}

describe("a folder in which a store is opened", () => {
  test("a store whose file was cut off is refused, and opened again once it is whole", async (t) => {
    const folder = folderFor(t)
    const store = await lmdb(folder).open()
    for (let i = 0; i < 20; i++) await written(store, `notebook/${i}`, 3_000)
    await store.close()
    const file = join(folder, "data.mdb")
    const whole = readFileSync(file)
    for (const length of [8_192, Math.floor(whole.length / 8_192) * 4_096]) {
      truncateSync(file, length)
      for (let i = 0; i < 2; i++) await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /is damaged/))
      assert.deepEqual(readFileSync(file).subarray(0, length), whole.subarray(0, length))
      writeFileSync(file, whole)
    }
    assert.equal((await (await opened(t, folder)).load("notebook/7"))?.body.entries[0]?.length, 3_000)
  })

  for (const name of ["data.mdb", "lock.mdb"])
    test(`a folder where a store has the file ${name} is refused`, async (t) => {
      const folder = folderFor(t)
      await (await lmdb(folder).open()).close()
      rmSync(join(folder, name))
      mkdirSync(join(folder, name))
      for (let i = 0; i < 2; i++) await assert.rejects(lmdb(folder).open(), code("CORRUPT_RECORD", /this is none/))
    })

  test("what the lock of a folder meets is a named error, and leaves it unlocked", async (t) => {
    const folder = folderFor(t)
    mkdirSync(join(folder, "lock.1.sock"))
    for (let i = 0; i < 2; i++) await assert.rejects(lmdb(folder).open(), code("STORE_UNAVAILABLE", /no lock/))
    rmdirSync(join(folder, "lock.1.sock"))
    assert.equal(await (await opened(t, folder)).peek(a), undefined)
  })

  test("a folder in which it cannot be said who has it is opened all the same, and then in use", async (t) => {
    const folder = folderFor(t)
    mkdirSync(join(folder, "owner.pid"))
    await opened(t, folder)
    await assert.rejects(lmdb(folder).open(), code("STORE_IN_USE", /open already; a store/))
  })

  test("C74 where the disk has no room for its files, a store is not made, nor opened without the one of its readers", async (t) => {
    const folder = folderFor(t)
    const path = join(folder, "new")
    const old = join(folder, "old")
    const store = await lmdb(old).open()
    await written(store, a)
    await store.close()
    const full = { ...statfsSync(folder), bavail: 1 }
    const disk = replaced(t, "statfsSync", (() => full) as unknown as typeof statfsSync)
    for (let i = 0; i < 2; i++) await assert.rejects(lmdb(path).open(), code("STORE_UNAVAILABLE", /disk is full/))
    assert.deepEqual(
      readdirSync(path).filter((name) => name.endsWith(".mdb")),
      [],
    )
    const whole = await lmdb(old).open()
    assert.equal((await whole.peek(a))?.k, "OWNED", "who has all its files is served")
    await assert.rejects(whole.claim(a, true), code("STORE_UNAVAILABLE", /disk is full/))
    await whole.close()
    for (const file of [join(old, "lock.mdb"), join(path, "data.mdb")]) {
      writeFileSync(file, "")
      await assert.rejects(lmdb(dirname(file)).open(), code("STORE_UNAVAILABLE", /disk is full/), "begun")
      rmSync(file)
      await assert.rejects(lmdb(dirname(file)).open(), code("STORE_UNAVAILABLE", /disk is full/))
    }
    disk.restore()
    for (const one of [path, old]) await written(await opened(t, one), "notebook/bob")
  })

  test("C36 of a store that is new, every folder that was made and the one above are on the disk before it has an identity", async (t) => {
    const above = realpathSync(folderFor(t))
    const folder = join(above, "one", "two", "three")
    const opening = new Map<number, string>()
    const flushed: string[] = []
    const { openSync, fsyncSync } = fs
    replaced(t, "openSync", (...args) => {
      const descriptor = openSync(...args)
      opening.set(descriptor, String(args[0]))
      return descriptor
    })
    replaced(t, "fsyncSync", (descriptor) => {
      fsyncSync(descriptor)
      flushed.push(opening.get(descriptor) ?? assert.fail())
      assert.ok(existsSync(join(folder, "data.mdb")))
    })
    await (await lmdb(folder).open()).close()
    assert.deepEqual(flushed.toSorted(), [above, join(above, "one"), join(above, "one", "two"), folder])
    await (await lmdb(folder).open()).close()
    assert.equal(flushed.length, 4, "once")
  })
})

// An empty path, as of an environment variable that is not set, made the working directory a store.
test("a path that is none is refused where it is given", () => {
  for (const path of ["", undefined, null, 5])
    assert.throws(() => lmdb(path as string), { name: "TypeError", message: /the path of a folder/ })
})
