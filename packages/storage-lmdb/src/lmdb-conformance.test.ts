import type { Store } from "@sojourn/core"
import { storeConformance, type HeldFlushes, type StoreFixture } from "@sojourn/testkit"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

import { lmdb, type FlushGate } from "./index.ts"

function lmdbFixture(): StoreFixture {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  let gate: FlushGate = (flush) => flush()
  const opener = lmdb(join(folder, "store"), { flushGate: (flush) => gate(flush) })
  const opened: Store[] = []
  const open = async (): Promise<Store> => {
    const store = await opener.open()
    opened.push(store)
    return store
  }
  return {
    open,
    async reopen() {
      await opened.at(-1)?.close()
      return open()
    },
    holdFlushes(where): HeldFlushes {
      const reached = Promise.withResolvers<void>()
      const go = Promise.withResolvers<void>()
      gate = async (flush) => {
        if (where === "after") await flush()
        reached.resolve()
        await go.promise
        if (where === "before") await flush()
      }
      const pass = (): void => {
        gate = (flush) => flush()
      }
      return {
        reached: reached.promise,
        release() {
          pass()
          go.resolve()
        },
        fail() {
          pass()
          go.reject(new Error("the disk failed, says the test"))
        },
      }
    },
    async cleanup() {
      for (const store of opened) await store.close()
      rmSync(folder, { recursive: true })
    },
  }
}

storeConformance("lmdb", lmdbFixture)
