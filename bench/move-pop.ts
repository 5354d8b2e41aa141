// One POP of those between which the bench moves an actor: a process of its own, on LMDB.
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { servePop } from "@sojourn/testkit"
import { app } from "./app.ts"

servePop(async ({ id, region, port, folder, mesh }) => {
  const pop = await createPop({
    app,
    id,
    region,
    storage: lmdb(folder),
    mesh,
    authenticate: (_request, token) => (token === undefined ? null : { id: token }),
    logLevel: "error",
  })
  await pop.listen(port)
  await pop.ready()
  return pop
})
