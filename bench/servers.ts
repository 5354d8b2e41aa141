// The servers that `npm run bench` compares, each a process of its own on one port of loopback. They speak what the load generator in
// `calls.ts` speaks: each frame of a client is one call, and each has one answer.
import { actor, setup } from "@sojourn/core"
import { createPop } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { open } from "lmdb"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { WebSocketServer, type WebSocket } from "ws"

export type ServerKind = "raw" | "json" | "lmdb" | "sojourn"

interface Call {
  readonly c: number
  readonly x: string
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
      },
      queries: { echo: (_c, text: string) => text },
    }),
  },
})

async function handWritten(serve: (ws: WebSocket, client: number) => void): Promise<number> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })
  await once(server, "listening")
  let clients = 0
  server.on("connection", (ws) => {
    ws.on("error", () => undefined)
    serve(ws, clients++)
  })
  return (server.address() as AddressInfo).port
}

/** What a careful author writes by hand: one counter a client, one transaction for what comes together, the reply after its flush. */
function lmdbCounters(folder: string): (ws: WebSocket, client: number) => void {
  const db = open<number, string>(folder, { noSubdir: false, overlappingSync: false })
  const counts = new Map<string, number>()
  return (ws, client) => {
    const key = `client${client}`
    ws.on("message", (data) => {
      const { c } = JSON.parse((data as Buffer).toString()) as Call
      const n = (counts.get(key) ?? 0) + 1
      counts.set(key, n)
      void db.put(key, n).then(() => {
        ws.send(JSON.stringify({ c, n }))
      })
    })
  }
}

async function start(kind: ServerKind, folder: string): Promise<number> {
  switch (kind) {
    case "raw":
      return handWritten((ws) => {
        ws.on("message", (data) => {
          ws.send(data, { binary: false })
        })
      })
    case "json":
      return handWritten((ws) => {
        ws.on("message", (data) => {
          const { c, x } = JSON.parse((data as Buffer).toString()) as Call
          ws.send(JSON.stringify({ c, x }))
        })
      })
    case "lmdb":
      return handWritten(lmdbCounters(folder))
    case "sojourn": {
      const pop = await createPop({
        app,
        id: "bench",
        region: "loopback",
        storage: lmdb(folder),
        authenticate: (_request, token) => (token === undefined ? null : { id: token }),
        logLevel: "error",
      })
      const { port } = await pop.listen(0)
      return port
    }
  }
}

const [, , kind, folder = ""] = process.argv
if (process.send) {
  process.on("disconnect", () => process.exit(0))
  process.send({ port: await start(kind as ServerKind, folder) })
}
