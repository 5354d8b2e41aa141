// The POP that `npm run overload` loads: a process of its own with LMDB, which tells its memory and does what it is asked.
import { actor, event, setup, type Limits } from "@sojourn/core"
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { createServer } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { once } from "node:events"

export type App = typeof app

export interface Said {
  readonly n: number
  /** Ms since 1970. */
  readonly at: number
}

/** From the program to the POP. */
export type Ask = { readonly t: "cut" } | { readonly t: "report" }
export type Told =
  | { readonly t: "up"; readonly port: number }
  | { readonly t: "memory"; readonly rss: number }
  | { readonly t: "cut"; readonly sockets: number }
  | {
      readonly t: "report"
      readonly rss: number
      readonly cpuMs: number
      readonly sockets: number
      readonly events: Record<string, number>
    }

const app = setup({
  actors: {
    counter: actor({
      state: () => ({ n: 0 }),
      actions: {
        add(c, by: number) {
          c.state.n += by
          return c.state.n
        },
        /** What is large goes in, and little comes out. */
        measure: (_c, text: string) => text.length,
      },
    }),
    room: actor({
      state: () => ({ said: 0 }),
      events: { said: event<Said>() },
      actions: {
        say(c, n: number, at: number) {
          c.state.said += 1
          c.broadcast("said", { n, at })
        },
      },
    }),
    feed: actor({
      state: () => ({ text: "" }),
      actions: {
        show(c, letter: string, chars: number) {
          c.state.text = letter.repeat(chars)
        },
      },
    }),
  },
})

const memoryEachMs = 50

async function start(folder: string, limits: Partial<Limits>): Promise<void> {
  const events: Record<string, number> = {}
  const pop = await createPop({
    app,
    id: "bench",
    region: "loopback",
    storage: lmdb(folder),
    limits,
    authenticate: (_request, token) => (token === undefined ? null : { id: token }),
    logLevel: "silent",
    onEvent: ({ type }) => (events[type] = (events[type] ?? 0) + 1),
  })
  const server = createServer()
  const sockets = new Set<Socket>()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
  })
  pop.attach(server)
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 })
  await once(server, "listening")
  const tell = (told: Told): void => void process.send?.(told)
  const rss = (): number => process.memoryUsage.rss()
  const cpuMs = (): number => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1_000
  }
  process.on("disconnect", () => process.exit(0))
  process.on("message", ({ t }: Ask) => {
    if (t === "report") tell({ t, rss: rss(), cpuMs: cpuMs(), sockets: sockets.size, events })
    else {
      const { size } = sockets
      for (const socket of sockets) socket.destroy()
      tell({ t, sockets: size })
    }
  })
  setInterval(() => {
    tell({ t: "memory", rss: rss() })
  }, memoryEachMs)
  tell({ t: "up", port: (server.address() as AddressInfo).port })
}

const [, , folder = "", limits = "{}"] = process.argv
if (process.send) await start(folder, JSON.parse(limits) as Partial<Limits>)
