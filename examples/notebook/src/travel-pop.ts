import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { createMoveStepper, servePop, type StepHold, type StepWatch } from "@sojourn/testkit"
import { app } from "./actors.ts"

/** What travel asks of a POP's process: what an operator of it could, and to stop at a step of a move so that something can die there. */
export type Order =
  | { readonly t: "move"; readonly actor: readonly [string, string]; readonly to: string }
  /** Answered at once; `met` is answered when the step has come and is held; `go` ends it. */
  | { readonly t: "watch"; readonly what: StepWatch }
  | { readonly t: "met" }
  | { readonly t: "go" }

if (process.send !== undefined)
  servePop(async ({ id, region, port, folder, mesh, options }) => {
    const steps = createMoveStepper()
    const pop = await createPop({
      app,
      id,
      region,
      storage: steps.storage(lmdb(folder)),
      mesh,
      dev: true,
      logLevel: "warn",
      limits: options as object,
    })
    await pop.listen(port)
    await pop.ready()
    let held: StepHold | undefined
    return {
      close: () => pop.close(),
      answer(what) {
        const order = what as Order
        switch (order.t) {
          case "move":
            return pop.move(order.actor, order.to)
          case "watch":
            held = steps.watch(order.what)
            return
          case "met":
            return held?.met
          case "go":
            held?.go()
        }
      },
    }
  })
