import { readFile } from "node:fs/promises"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { parseMischief, type Mischief, type Trouble } from "./trouble.ts"

/** Serves the page from memory: it is bundled once, at start, so that no build is left lying about. */
export interface PageServer {
  readonly port: number
  /** What `/world.json` answers; until then it waits. */
  serveWorld(world: unknown): void
  /** What `/trouble` does and tells; until then it is not there. */
  serveTrouble(trouble: Trouble): void
  close(): Promise<void>
}

interface Asset {
  readonly type: string
  readonly body: string | Uint8Array
}

const pageFolder = new URL("./page/", import.meta.url)

/** Nothing from elsewhere: the page talks to its own origin and to the POPs on this machine. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self' ws://127.0.0.1:*",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ")

export class PortInUse extends Error {}

/** Rejects with `PortInUse` before anything is bundled. */
export async function servePage(port: number): Promise<PageServer> {
  const assets = new Map<string, Asset>()
  // The page may be open before the POPs are ready: it waits for the world.
  const world = Promise.withResolvers<Asset>()
  let trouble: Trouble | undefined
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0] ?? "/"
    if (path === "/trouble" && trouble !== undefined) {
      if (request.method === "GET") tellTrouble(trouble, response)
      else void makeTrouble(trouble, request, response)
    } else if (path === "/world.json") void world.promise.then((asset) => answer(asset, request, response))
    else answer(assets.get(path), request, response)
  })
  const bound = await listen(server, port)
  try {
    for (const [path, asset] of await bundle()) assets.set(path, asset)
  } catch (cause) {
    server.close()
    throw cause
  }
  return {
    port: bound,
    serveWorld: (json) => world.resolve({ type: "application/json", body: JSON.stringify(json) }),
    serveTrouble: (given) => (trouble = given),
    close() {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

function answer(asset: Asset | undefined, request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== "GET" && request.method !== "HEAD") response.writeHead(405).end()
  else if (asset === undefined) response.writeHead(404, { "content-type": "text/plain" }).end("not found\n")
  else
    response
      .writeHead(200, {
        "content-type": asset.type,
        "cache-control": "no-store",
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
      })
      .end(request.method === "HEAD" ? undefined : asset.body)
}

/** Open streams of one server; each window has one. */
const streamsMax = 64
const bodyBytesMax = 1024
let streams = 0

/** The state now and after each change, as server-sent events. */
function tellTrouble(trouble: Trouble, response: ServerResponse): void {
  if (streams >= streamsMax) {
    response.writeHead(503).end()
    return
  }
  streams += 1
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" })
  const tell = (): void => void response.write(`data: ${JSON.stringify(trouble.state)}\n\n`)
  const undo = trouble.watch(tell)
  response.on("close", () => {
    streams -= 1
    undo()
  })
  tell()
}

/**
 * Only for the page itself: processes are killed here. A page of another origin has another `Origin`, and one that had its name point at this
 * machine has another `Host`.
 */
async function makeTrouble(trouble: Trouble, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { host, origin } = request.headers
  const port = request.socket.localPort
  const own = host === `127.0.0.1:${port}` || host === `localhost:${port}`
  const refuse = (status: number, why: string): void => {
    if (!response.headersSent) response.writeHead(status, { "content-type": "text/plain" }).end(`${why}\n`)
  }
  if (request.method !== "POST") return refuse(405, "POST it")
  if (!own || origin !== `http://${host}`) return refuse(403, "only the page itself may do this")
  let asked: Mischief
  try {
    asked = parseMischief(JSON.parse(await bodyOf(request)), trouble)
  } catch (cause) {
    return refuse(400, (cause as Error).message)
  }
  try {
    await trouble.make(asked)
    response.writeHead(204).end()
  } catch (cause) {
    refuse(500, (cause as Error).message)
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ""
  for await (const chunk of request) {
    body += String(chunk)
    if (body.length > bodyBytesMax) throw new RangeError(`more than ${bodyBytesMax} bytes`)
  }
  return body
}

async function bundle(): Promise<[string, Asset][]> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("app.ts", pageFolder))],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none",
    conditions: ["sojourn-source"],
    logLevel: "silent",
  })
  const read = (name: string): Promise<string> => readFile(new URL(name, pageFolder), "utf8")
  return [
    ["/", { type: "text/html; charset=utf-8", body: await read("index.html") }],
    ["/style.css", { type: "text/css; charset=utf-8", body: await read("style.css") }],
    ["/icon.svg", { type: "image/svg+xml", body: await read("icon.svg") }],
    ["/app.js", { type: "text/javascript; charset=utf-8", body: outputFiles[0]?.contents ?? "" }],
  ]
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code !== "EADDRINUSE") return reject(cause)
      reject(
        new PortInUse(
          `port ${port} is in use by another program. Stop that one, or choose another port: npm start -- --port ${port + 1}`,
          { cause },
        ),
      )
    })
    server.listen(port, "127.0.0.1", () => {
      const address = server.address()
      resolve(typeof address === "object" && address !== null ? address.port : port)
    })
  })
}
