// This framework's server for the bench: one POP that stands alone, on LMDB, as in production.
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { app } from "./app.ts"
import { serveBench } from "./served.ts"

const awake = new Set<string>()
const waiting: (() => void)[] = []

serveBench(
  async (_kind, folder, idleMs, asked) => {
    const pop = await createPop({
      app,
      id: "bench",
      region: "loopback",
      storage: lmdb(folder),
      authenticate: (_request, token) => (token === undefined ? null : { id: token }),
      logLevel: "error",
      // A closed loop that keeps the POP busy is late without end, and is to be served here: what is refused is for `npm run overload`.
      limits: { idleMs, lateMsMax: 60_000 },
      onEvent: ({ type, actor = "" }) => {
        if (type === "actor.activated") awake.add(actor)
        else if (type === "activation.dropped") process.exit(1)
        else if (type === "actor.slept" && awake.delete(actor) && awake.size === 0)
          for (const resolve of waiting.splice(0)) resolve()
      },
    })
    const { port } = await pop.listen(asked)
    return port
  },
  () =>
    new Promise((resolve) => {
      if (awake.size === 0) resolve()
      else waiting.push(resolve)
    }),
)
