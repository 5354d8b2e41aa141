import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { CLOSE_CODES, frameLimits, SojournError, SUBPROTOCOL, TICKET_PREFIX, ticketCharsMax } from "@sojourn/protocol"
import type { EventSink, Limits, Pipe, PipeReader } from "@sojourn/core"
import { WebSocketServer, type WebSocket } from "ws"
import type { Intake } from "./intake.ts"
import { MESH_PATH, MESH_SUBPROTOCOL, meshPayloadMax } from "./mesh-dialer.ts"
import { originAllowed, type OriginPolicy } from "./origin.ts"
import { feedBytes, feedText, PopSocket, socketPipe } from "./socket.ts"

/**
 * The front door of a POP node: HTTP upgrades for clients and peers, health, and nothing of what is said inside.
 *
 * A client's upgrade may carry one ticket as a second subprotocol and an advisory POP id (`?at=`). The node gets the ticket before the
 * upgrade is answered, so a PULL leaves before the client even knows that it is connected. The ticket is never echoed: the answer names
 * `sojourn.v1` alone.
 *
 * A foreign page's upgrade is completed and then closed with 4503: a browser does not tell its page an HTTP status, and the client is to
 * stop, not to retry.
 *
 * Until it is welcomed a connection may send a few KiB (`helloCharsMax`), also while it is asked who it is, and after it was refused; that is
 * counted on the socket itself, since the library would buffer a whole frame of the later limit for a stranger.
 */
export const CONNECT_PATH = "/v1/connect"
export const HEALTH_PATH = "/v1/health"
export const READY_PATH = "/v1/ready"
export const FORGET_PATH = "/v1/admin/forget"

/** What of a request the node and `authenticate` see. The ticket is not among the headers. */
export interface ClientUpgrade {
  readonly url: string
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly ip: string
  readonly ticket?: string
  readonly at?: string
}

/** What the door needs of the node behind it. */
export interface NodeBehindDoor {
  serving(): boolean
  /** A ticket as soon as it was read: what it is good for begins before the connection stands. */
  early(ticket: string): void
  acceptClient(pipe: Pipe<string>, upgrade: ClientUpgrade): PipeReader<string>
  acceptMesh(pipe: Pipe<Uint8Array>): PipeReader<Uint8Array>
}

export interface FrontOptions {
  readonly node: NodeBehindDoor
  readonly limits: Limits
  readonly policy: OriginPolicy
  readonly identity: { readonly pop: string; readonly node: string; readonly region: string }
  readonly events: EventSink
  readonly take: Intake["take"]
  readonly accepted: Intake["accepted"]
  /** Absent: there is no administration over HTTP. */
  readonly admin?: AdminDesk
}

/** `request` is read by its own rules; the answer is JSON. */
export type AdminDesk = (authorization: string | undefined, body: string) => Promise<Answer>

export interface Front {
  listen(port: number, host: string): Promise<{ readonly port: number }>
  /** Takes the upgrades of this server that are for Sojourn's paths, and leaves everything else to its other listeners. */
  attach(server: Server): void
  /** Health and readiness; undefined for any other request. */
  fetch(request: Request): Response | undefined
  /** What an operator asks; undefined for any other request, and without `admin`. */
  administer(request: Request): Promise<Response> | undefined
  /** New upgrades are refused from now on; connections stay. */
  shut(): void
  /** Ends every socket: asked to close, then cut off after `graceMs`. */
  close(graceMs?: number): Promise<void>
}

export interface Answer {
  readonly status: number
  readonly body: object
}

/** Servers that some POP's front takes upgrades from: two would answer the same one. */
const taken = new WeakSet<Server>()

export function createFront(options: FrontOptions): Front {
  const { node, limits, policy, identity, events, take, accepted } = options
  const sockets = new Set<WebSocket>()
  const attached = new Map<Server, (request: IncomingMessage, socket: Duplex, head: Buffer) => void>()
  let own: Server | undefined
  let opening: Promise<void> | undefined
  let clients = 0
  let shut = false
  let closed = false

  const shared = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    // Whoever is closed has as long to answer as whoever opens has to greet.
    closeTimeout: limits.helloMsMax,
    WebSocket: PopSocket,
  } as const
  const clientDoor = new WebSocketServer({
    ...shared,
    // Characters are bounded, and one takes up to 3 bytes in UTF-8; `feedText` counts them.
    maxPayload: 3 * limits.frameCharsMax,
    handleProtocols: () => SUBPROTOCOL,
  })
  const meshDoor = new WebSocketServer({
    ...shared,
    maxPayload: meshPayloadMax(limits),
    handleProtocols: () => MESH_SUBPROTOCOL,
  })

  const track = (ws: WebSocket): void => {
    sockets.add(ws)
    ws.once("close", () => sockets.delete(ws))
  }

  const refuse = (socket: Duplex, status: number, why: string): void => {
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\nContent-Type: text/plain\r\n`
    socket.once("finish", () => socket.destroy())
    socket.on("error", () => socket.destroy())
    socket.end(`${head}Content-Length: ${Buffer.byteLength(why)}\r\n\r\n${why}`)
  }

  const connect = (request: IncomingMessage, socket: Duplex, head: Buffer, url: URL): void => {
    const offered = subprotocols(request)
    if (!offered.includes(SUBPROTOCOL)) return refuse(socket, 400, `offer the subprotocol ${SUBPROTOCOL}`)
    if (shut) return refuse(socket, 503, "this POP is closing")
    if (clients >= limits.connectionsMax) {
      events({ type: "front.full", code: "RATE_LIMITED", connections: clients })
      return refuse(socket, 503, "this node holds as many connections as it may")
    }
    const { origin, host } = request.headers
    const allowed = originAllowed(origin, host, policy)
    const upgrade = upgradeOf(request, offered, url)
    if (allowed && upgrade.ticket !== undefined) node.early(upgrade.ticket)
    clientDoor.handleUpgrade(request, socket, head, (ws) => {
      track(ws)
      clients++
      ws.once("close", () => clients--)
      const welcomed = watchGreeting(ws, socket)
      if (!allowed) {
        events({ type: "front.foreign-origin", code: "FOREIGN_ORIGIN", origin: String(origin).slice(0, 200) })
        ws.on("error", () => undefined)
        ws.close(CLOSE_CODES.FOREIGN_ORIGIN[0], "FOREIGN_ORIGIN")
        return
      }
      const reader = node.acceptClient(onFirst(socketPipe<string>(ws, socket), welcomed), upgrade)
      feedText(ws, reader, limits.frameCharsMax, events, take)
    })
  }

  const link = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (request.headers.origin !== undefined) return refuse(socket, 403, "pages have no part in a mesh")
    if (!subprotocols(request).includes(MESH_SUBPROTOCOL))
      return refuse(socket, 400, `offer the subprotocol ${MESH_SUBPROTOCOL}`)
    // Not while it merely takes no clients: actors are handed off over these links.
    if (closed) return refuse(socket, 503, "this POP is closing")
    meshDoor.handleUpgrade(request, socket, head, (ws) => {
      track(ws)
      feedBytes(ws, node.acceptMesh(socketPipe<Uint8Array>(ws, socket)), events)
    })
  }

  const onUpgrade = (server: Server) => (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const target = request.url ?? ""
    const url = URL.parse(target, "http://pop")
    if (url?.pathname === CONNECT_PATH) connect(request, socket, head, url)
    else if (url?.pathname === MESH_PATH) link(request, socket, head)
    // Nobody else would answer it, and an upgrade that nobody answers stays open for ever.
    else if (server.listenerCount("upgrade") === 1) refuse(socket, 404, "not found")
  }

  /** Nobody would let go of what is opened when this has closed. */
  const assertOpen = (): void => {
    if (shut) throw new SojournError("NOT_SERVING", "this POP is closing, or closed; make another one")
  }

  const attach = (server: Server): void => {
    assertOpen()
    // Before it is remembered: what cannot be let go of would keep this from closing.
    if (!isServer(server)) throw new SojournError("BAD_CONFIG", "attach() takes a server of node:http or node:https")
    if (attached.has(server)) return
    if (taken.has(server)) throw new SojournError("BAD_CONFIG", "another POP is attached to this server")
    const listener = onUpgrade(server)
    attached.set(server, listener)
    taken.add(server)
    server.on("upgrade", listener)
    server.on("connection", accepted)
  }

  const answer = (method: string, path: string): Answer | undefined => {
    if (path !== HEALTH_PATH && path !== READY_PATH && path !== CONNECT_PATH) return undefined
    if (method !== "GET" && method !== "HEAD") return { status: 405, body: { error: "GET only" } }
    if (path === CONNECT_PATH) return { status: 426, body: { error: `upgrade to a WebSocket of ${SUBPROTOCOL}` } }
    if (path === HEALTH_PATH) return { status: 200, body: { status: "up", ...identity, connections: clients } }
    const ready = !shut && node.serving()
    return { status: ready ? 200 : 503, body: { status: ready ? "ready" : "not ready", ...identity } }
  }

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const path = (request.url ?? "").split("?", 1)[0] ?? ""
    if (path === FORGET_PATH && options.admin && request.method === "POST") {
      administer(options.admin, request, response)
      return
    }
    const { status, body } = answer(request.method ?? "", path) ?? { status: 404, body: { error: "not found" } }
    response.writeHead(status, headersOf(status)).end(request.method === "HEAD" ? undefined : JSON.stringify(body))
  }

  /** Its own answer, whatever the caller sends: a body that is too long ends the connection. */
  const administer = (admin: AdminDesk, request: IncomingMessage, response: ServerResponse): void => {
    const parts: Buffer[] = []
    let bytes = 0
    request.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes > adminBytesMax) request.destroy()
      else parts.push(part)
    })
    request.on("error", () => undefined)
    request.on("end", () => {
      void admin(request.headers.authorization, Buffer.concat(parts).toString()).then(({ status, body }) => {
        response.writeHead(status, headersOf(status)).end(JSON.stringify(body))
      })
    })
  }

  return {
    attach,
    async listen(port, host) {
      assertOpen()
      if (own) throw new SojournError("BAD_CONFIG", "this POP listens already; call listen() once")
      const helloMs = Math.ceil(limits.helloMsMax)
      const server = createServer(
        {
          headersTimeout: helloMs,
          requestTimeout: 2 * helloMs,
          // The library looks only so often whether anybody has taken too long.
          connectionsCheckingInterval: Math.ceil(helloMs / 4),
        },
        onRequest,
      )
      own = server
      attach(server)
      try {
        await (opening = listening(server, port, host))
      } catch (error) {
        own = undefined
        attached.delete(server)
        throw error
      }
      const address = server.address()
      return { port: typeof address === "object" && address ? address.port : port }
    },
    fetch(request) {
      const found = answer(request.method, new URL(request.url).pathname)
      if (!found) return undefined
      const body = request.method === "HEAD" ? null : JSON.stringify(found.body)
      return new Response(body, { status: found.status, headers: headersOf(found.status) })
    },
    administer(request) {
      const asked = options.admin && request.method === "POST" && new URL(request.url).pathname === FORGET_PATH
      return asked ? administered(options.admin, request) : undefined
    },
    shut() {
      shut = true
    },
    async close(graceMs = 1_000) {
      shut = true
      closed = true
      // A server cannot be closed before it listens.
      await opening?.catch(() => undefined)
      const ended = [...sockets].map((ws) => new Promise<void>((resolve) => ws.once("close", () => resolve())))
      const server = own
      const stopped = server && new Promise<void>((resolve) => server.close(() => resolve()))
      for (const ws of sockets) ws.close(CLOSE_CODES.GOING_AWAY[0], "GOING_AWAY")
      const cutOff = setTimeout(() => {
        for (const ws of sockets) ws.terminate()
        server?.closeAllConnections()
      }, graceMs)
      await Promise.all(ended)
      await stopped
      clearTimeout(cutOff)
      for (const [to, listener] of attached) {
        to.off("upgrade", listener)
        to.off("connection", accepted)
        taken.delete(to)
      }
      attached.clear()
    },
  }
}

const adminBytesMax = 4_096

async function administered(admin: AdminDesk, request: Request): Promise<Response> {
  const text = await bodyOf(request)
  const { status, body } =
    text === undefined
      ? { status: 413, body: { error: `over ${adminBytesMax} bytes` } }
      : await admin(request.headers.get("authorization") ?? undefined, text)
  return new Response(JSON.stringify(body), { status, headers: headersOf(status) })
}

/** Undefined: it is longer than anybody may ask; the rest is not read. */
async function bodyOf({ body }: Request): Promise<string | undefined> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of body ?? []) {
    bytes += part.length
    if (bytes > adminBytesMax) return undefined
    parts.push(part)
  }
  return Buffer.concat(parts).toString()
}

function isServer(it: unknown): boolean {
  const server = it as Partial<Server> | null | undefined
  return typeof server?.on === "function" && typeof server.off === "function"
}

function headersOf(status: number): Record<string, string> {
  const retry: Record<string, string> = status === 503 ? { "retry-after": "1" } : {}
  return { "content-type": "application/json", "cache-control": "no-store", ...retry }
}

function subprotocols(request: IncomingMessage): string[] {
  return (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim())
}

function upgradeOf(request: IncomingMessage, offered: readonly string[], url: URL): ClientUpgrade {
  const headers: Record<string, string | undefined> = {}
  for (const [name, value] of Object.entries(request.headers))
    if (name !== "sec-websocket-protocol") headers[name] = Array.isArray(value) ? value.join(", ") : value
  const ticket = offered.find((name) => name.startsWith(TICKET_PREFIX))?.slice(TICKET_PREFIX.length)
  const at = url.searchParams.get("at")
  return {
    url: request.url ?? "",
    headers,
    ip: request.socket.remoteAddress ?? "",
    ...(ticket !== undefined && ticket.length <= ticketCharsMax ? { ticket } : {}),
    ...(at !== null && at.length <= 64 ? { at } : {}),
  }
}

/** Calls `fn` when the first message is sent. */
function onFirst(pipe: Pipe<string>, fn: () => void): Pipe<string> {
  return {
    ...pipe,
    send(data, done) {
      this.send = pipe.send
      fn()
      pipe.send(data, done)
    },
  }
}

/**
 * Ends a connection that sends more than a first frame may have before it is welcomed. Returns what is to be called when something is sent to it:
 * that is the welcome, unless the connection is closed at once.
 */
function watchGreeting(ws: WebSocket, socket: Duplex): () => void {
  const bytesMax = 3 * frameLimits.helloCharsMax + 64
  let bytes = 0
  const count = (chunk: Buffer): void => {
    bytes += chunk.length
    if (bytes <= bytesMax) return
    stop()
    ws.pause()
    ws.close(CLOSE_CODES.FRAME_TOO_LARGE[0], `FRAME_TOO_LARGE: over ${frameLimits.helloCharsMax} characters`)
    // Its answer to the close is behind what nobody wants to read.
    setTimeout(() => ws.terminate(), 500).unref()
  }
  const stop = (): void => {
    socket.off("data", count)
    ws.off("close", stop)
  }
  socket.prependListener("data", count)
  ws.on("close", stop)
  return () => {
    process.nextTick(() => {
      if (ws.readyState === ws.OPEN) stop()
    })
  }
}

function listening(server: Server, port: number, host: string): Promise<void> {
  // A text that is no number would be the path of a socket; nothing, any free port.
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new SojournError("BAD_CONFIG", `a port must be an integer from 0 to 65535; got ${JSON.stringify(port)}`)
  // None, and a number, would be every interface.
  if (typeof (host as unknown) !== "string" || host === "")
    throw new SojournError(
      "BAD_CONFIG",
      `a host must be an address or a name: "127.0.0.1" or "::1" for this machine alone, "0.0.0.0" or "::" for every interface; got ${JSON.stringify(host)}`,
    )
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why =
        error.code === "EADDRINUSE"
          ? `port ${port} on ${host} is in use by another process: stop that one, pass another port to listen(), or 0 for any free one`
          : error.code === "EACCES"
            ? `this process may not listen on port ${port} of ${host}: pass a port above 1023`
            : `cannot listen on port ${port} of ${host}: ${error.message}`
      reject(new SojournError("BAD_CONFIG", why, { cause: error, details: { port, host } }))
    })
    server.listen(port, host, resolve)
  })
}
