// A process of many clients for the reconnect storm of `npm run overload`. Each has an actor of its own and calls it once before and once after.
import { createClient } from "@sojourn/client"
import type { App } from "./overload-pop.ts"
import { wsSocket } from "./ws-socket.ts"

export interface ToHerd {
  readonly t: "watch"
}
export type FromHerd =
  | { readonly t: "attached"; readonly clients: number }
  | { readonly t: "result"; readonly backMs: readonly number[]; readonly wrong: number; readonly resent: number }

/** So many connect at the same time to begin with: the storm is what comes later. */
const atOnce = 50
const callMs = 60_000

async function run(url: string, from: number, count: number): Promise<void> {
  const tell = (told: FromHerd): void => void process.send?.(told)
  process.on("disconnect", () => process.exit(0))
  const herd = Array.from({ length: count }, (_, i) => {
    const name = `herd${from + i}`
    const client = createClient<App>({ url, token: name, clientId: name, socket: wsSocket, limits: { callMs } })
    client.on("error", () => undefined)
    return { client, handle: client.counter.get(name) }
  })
  let wrong = 0
  let attached = 0
  for (let i = 0; i < count; i += atOnce) {
    const some = herd.slice(i, i + atOnce)
    const values = await Promise.all(some.map(({ handle }) => handle.add(1)))
    wrong += values.filter((value) => value !== 1).length
    tell({ t: "attached", clients: (attached += some.length) })
  }
  process.once("message", () => {
    const back = herd.map(
      ({ client, handle }) =>
        new Promise<number>((resolve) => {
          let lostAt: number | undefined
          client.on("status", ({ to }) => {
            if (to === "reconnecting") lostAt ??= performance.now()
          })
          handle.onResume(() => {
            if (lostAt !== undefined) resolve(performance.now() - lostAt)
          })
        }),
    )
    void Promise.all(back).then(async (backMs) => {
      const values = await Promise.all(herd.map(({ handle }) => handle.add(1)))
      wrong += values.filter((value) => value !== 2).length
      tell({ t: "result", backMs, wrong, resent: herd.reduce((sum, { client }) => sum + client.stats.resent, 0) })
    })
  })
}

const [, , url = "", from, count] = process.argv
if (process.send) await run(url, Number(from), Number(count))
