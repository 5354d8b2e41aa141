import { readFile } from "node:fs/promises"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

/** Serves the page from memory: it is bundled once, at start, so that no build is left lying about. */
export interface PageServer {
  readonly port: number
  /** What `/world.json` answers; until then it waits. */
  serveWorld(world: unknown): void
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
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0] ?? "/"
    if (path === "/world.json") void world.promise.then((asset) => answer(asset, request, response))
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
