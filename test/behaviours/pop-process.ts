// One POP of a test cluster, a real process on LMDB, that kills itself at an exact step: when `<folder>.die` names an operation of its
// store on an actor and the point before or after it, the process is gone by SIGKILL at that point.
import type { Store, StoreOpener } from "@sojourn/core"
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { servePop, storeOps, type StoreOp, type StorePoint } from "@sojourn/testkit"
import { existsSync, readFileSync, unlinkSync } from "node:fs"
import { makeApp, type App } from "./app.ts"
import { quickLimits } from "./limits.ts"

export interface Death {
  readonly op: StoreOp
  readonly actor: string
  readonly at: StorePoint
}

export const deathFile = (folder: string): string => `${folder}.die`

function mortal(store: Store, file: string): Store {
  const meet = (op: string, actor: unknown, at: StorePoint): void => {
    if (!existsSync(file)) return
    const death = JSON.parse(readFileSync(file, "utf8")) as Death
    if (death.op !== op || death.actor !== actor || death.at !== at) return
    unlinkSync(file)
    process.kill(process.pid, "SIGKILL")
  }
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== "function") return value
      const run = value.bind(target) as (...args: unknown[]) => Promise<unknown>
      if (typeof name !== "string" || !(storeOps as readonly string[]).includes(name)) return run
      return async (...args: unknown[]) => {
        meet(name, args[0], "before")
        const answer = await run(...args)
        meet(name, args[0], "after")
        return answer
      }
    },
  })
}

if (process.send !== undefined)
  servePop(async (config) => {
    const inner = lmdb(config.folder)
    const storage: StoreOpener = {
      kind: inner.kind,
      open: async () => mortal(await inner.open(), deathFile(config.folder)),
    }
    const pop = await createPop<App["actors"]>({
      app: makeApp(),
      id: config.id,
      region: config.region,
      storage,
      authenticate: (_, token) => (token === undefined ? null : { id: token }),
      limits: { ...quickLimits, ...(config.options as object | null) },
      mesh: config.mesh,
      admin: true,
      logLevel: "warn",
    })
    await pop.listen(config.port)
    // Peers start at the same time, or are there already.
    await pop.ready()
    return pop
  })
