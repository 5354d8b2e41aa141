// One POP of `npm run chaos`: a real process on LMDB.
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { servePop } from "@sojourn/testkit"
import { makeApp, type App, type Plant } from "./app.ts"
import { commitMsMax, popLimits } from "./limits.ts"

export interface PopExtras {
  readonly plant?: Plant
}

/** What the process is asked: `grow` puts blocks into its store, until that refuses, there are enough, or `shrink` takes them out. */
export type Order = { readonly t: "grow" | "shrink" }

const blockChars = 262_144
/** Of one actor: below its limit. */
const blocksMax = 24
const ballastNames = ["a", "b", "c", "d"]

if (process.send !== undefined)
  servePop(async ({ id, region, port, folder, mesh, options }) => {
    const { plant } = options as PopExtras
    const pop = await createPop<App["actors"]>({
      app: makeApp(plant),
      id,
      region,
      storage: lmdb(folder, { commitMsMax }),
      mesh,
      authenticate: (_, token) => (token === undefined ? null : { id: token }),
      limits: popLimits,
      logLevel: "info",
    })
    await pop.listen(port)
    await pop.ready()
    const ballasts = ballastNames.map((name) => pop.actors.ballast.get(`${name}~${id}`))
    let growing = false
    return {
      close: (how) => pop.close(how),
      async answer(what) {
        growing = (what as Order).t === "grow"
        for (const ballast of ballasts)
          if (!growing) await ballast.drop()
          else while (growing && (await ballast.add(blockChars)) < blocksMax);
      },
    }
  })
