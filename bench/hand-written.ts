// What the bench compares with: servers of a few dozen lines on the same parts, each a process of its own on one port of loopback.
// A client's frame is one call, and each has one answer.
import { open } from "lmdb"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { WebSocketServer, type WebSocket } from "ws"
import { bodyOf } from "./body.ts"
import { serveBench } from "./served.ts"

export type HandWritten = "raw" | "json" | "lmdb" | "accounts" | "reader" | "room" | "room-lmdb" | "bytes"

interface Call {
  readonly c: number
  readonly x: string
}

/** `fill`: stores a body of so many bytes under the key first. */
interface Read {
  readonly key: string
  readonly fill?: number
}

interface Stored {
  readonly n: number
  readonly body: string
}

async function listen(serve: (ws: WebSocket, client: number) => void, port = 0): Promise<number> {
  const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false })
  await once(server, "listening")
  let clients = 0
  server.on("connection", (ws) => {
    ws.on("error", () => undefined)
    serve(ws, clients++)
  })
  return (server.address() as AddressInfo).port
}

function read<T>(data: unknown): T {
  return JSON.parse((data as Buffer).toString()) as T
}

/** What a careful author writes by hand: one counter a client, one transaction for what comes together, the reply after its flush. */
function lmdbCounters(folder: string): (ws: WebSocket, client: number) => void {
  const db = open<number, string>(folder, { noSubdir: false, overlappingSync: false })
  const counts = new Map<string, number>()
  return (ws, client) => {
    const key = `client${client}`
    ws.on("message", (data) => {
      const { c } = read<Call>(data)
      const n = (counts.get(key) ?? 0) + 1
      counts.set(key, n)
      void db.put(key, n).then(() => {
        ws.send(JSON.stringify({ c, n }))
      })
    })
  }
}

/** The same for clients that come back, after a restart too: each call says whose counter it is. */
function lmdbAccounts(folder: string): (ws: WebSocket) => void {
  const db = open<number, string>(folder, { noSubdir: false, overlappingSync: false })
  const counts = new Map<string, number>()
  return (ws) => {
    ws.on("message", (data) => {
      const { c, x: key } = read<Call>(data)
      const n = (counts.get(key) ?? db.get(key) ?? 0) + 1
      counts.set(key, n)
      void db.put(key, n).then(() => {
        ws.send(JSON.stringify({ c, n }))
      })
    })
  }
}

/** Keeps nothing in memory: each call reads the whole body of its key, as after a restart. */
function lmdbReader(folder: string): (ws: WebSocket) => void {
  const db = open<Stored, string>(folder, { noSubdir: false, overlappingSync: false })
  return (ws) => {
    ws.on("message", (data) => {
      const { key, fill } = read<Read>(data)
      if (fill === undefined) ws.send(JSON.stringify({ size: (db.get(key) ?? { body: "" }).body.length }))
      else
        void db.put(key, { n: 0, body: bodyOf(fill) }).then(() => {
          ws.send(JSON.stringify({ size: fill }))
        })
    })
  }
}

/** What one says goes to all the others; with a store, after it is flushed there. */
function room(folder?: string): (ws: WebSocket) => void {
  const all = new Set<WebSocket>()
  const db =
    folder === undefined ? undefined : open<string, number>(folder, { noSubdir: false, overlappingSync: false })
  let said = 0
  return (ws) => {
    all.add(ws)
    ws.on("close", () => all.delete(ws))
    ws.on("message", (data) => {
      const { x } = read<Call>(data)
      const tell = (): void => {
        const text = JSON.stringify({ x })
        for (const other of all) if (other !== ws) other.send(text)
      }
      if (db === undefined) tell()
      else void db.put(++said, x).then(tell)
    })
  }
}

function start(kind: HandWritten, folder: string, port: number): Promise<number> {
  switch (kind) {
    case "raw":
      return listen((ws) => {
        ws.on("message", (data) => {
          ws.send(data, { binary: false })
        })
      })
    case "json":
      return listen((ws) => {
        ws.on("message", (data) => {
          const { c, x } = read<Call>(data)
          ws.send(JSON.stringify({ c, x }))
        })
      })
    case "lmdb":
      return listen(lmdbCounters(folder))
    case "accounts":
      return listen(lmdbAccounts(folder), port)
    case "reader":
      return listen(lmdbReader(folder))
    case "room":
      return listen(room())
    case "room-lmdb":
      return listen(room(folder))
    case "bytes":
      return listen((ws) => {
        ws.on("message", (data) => {
          ws.send(Buffer.alloc(Number(data), 7))
        })
      })
  }
}

serveBench((kind, folder, _idleMs, port) => start(kind as HandWritten, folder, port))
