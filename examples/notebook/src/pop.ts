import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { servePop } from "@sojourn/testkit"
import { app } from "./actors.ts"

/** One POP of the demo or of travel, as a process of its own: an ordinary Sojourn node that knows nothing of delays. */
servePop(async ({ id, region, port, folder, mesh, options }) => {
  const limits = (options ?? {}) as { readonly heartbeatMs?: number }
  const pop = await createPop({ app, id, region, storage: lmdb(folder), mesh, limits, dev: true, logLevel: "warn" })
  await pop.listen(port)
  await pop.ready()
  return pop
})
