import { memoryDisk, memoryStore, type OwnershipRules } from "@sojourn/core"

import { storeConformance, type StoreFixture } from "./store-conformance.ts"

function memoryFixture(rules: Partial<OwnershipRules> = {}): StoreFixture {
  const disk = memoryDisk("memory-under-test")
  let last = memoryStore({ disk, rules })
  const open = async () => (last = memoryStore({ disk, rules }))
  return {
    open,
    async reopen() {
      await last.close()
      return open()
    },
    crash: open,
    async cleanup() {
      await last.close()
    },
  }
}

storeConformance("memory", () => memoryFixture())
