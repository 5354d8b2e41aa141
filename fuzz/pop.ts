import { closeCodeOf, SUBPROTOCOL, TICKET_PREFIX } from "@sojourn/protocol"
import { createClient } from "@sojourn/client"
import { createPop, type CoreEvent } from "@sojourn/server"
import { lmdb } from "@sojourn/storage-lmdb"
import { mkdtempSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { WebSocket } from "ws"
import { MESH_SUBPROTOCOL } from "../packages/server/src/mesh-dialer.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { httpRequest } from "./door.ts"
import { bentBytes, bentJson, hostileJson, randomBytes } from "./hostile.ts"
import { huntedApp, marker } from "./hunted-app.ts"
import { linkFrame, meshSecret } from "./mesh.ts"
import { hostileText, problemOf } from "./node.ts"
import { found } from "./oracle.ts"
import type { Target } from "./target.ts"

/**
 * A real POP on loopback: its own server, sockets and disk. A victim goes on calling through the SDK while raw bytes, requests, WebSocket frames
 * and link frames come in. One POP for all cases, as it would be: what one leaves behind meets the next.
 */

/** The network's own codes: of a socket that this side ended, and of a server that had no code to give. */
const plainCodes = new Set([1000, 1005, 1006])
const rssGrowthMax = 512 * 1_048_576
const answerMsMax = 20_000

export const popTarget: Target = {
  name: "pop",
  share: 1,
  async open() {
    const folder = mkdtempSync(join(tmpdir(), "sojourn-fuzz-"))
    const problems: string[] = []
    const pop = await createPop({
      app: huntedApp,
      id: "bos",
      region: "bos-region",
      storage: lmdb(folder),
      logLevel: "silent",
      admin: true,
      authenticate: (_, token) => (token === undefined || token === "" ? null : { id: token }),
      mesh: {
        secret: meshSecret,
        // Nobody listens there.
        peers: [{ id: "fra", region: "fra-region", url: "ws://127.0.0.1:1" }],
        homes: ["bos", "fra"],
        alone: true,
      },
      onEvent: (event: CoreEvent) => {
        const problem = problemOf(event)
        if (problem !== undefined) problems.push(problem)
      },
    })
    const { port } = await pop.listen(0)
    const client = createClient<typeof huntedApp>({ url: `ws://127.0.0.1:${port}`, token: () => "victim" })
    const victim = client.note.get("victim~bos")
    let calls = 0
    const serve = async (): Promise<void> => {
      const n = ++calls
      const answer = await Promise.race([
        victim.add(marker),
        new Promise<undefined>((resolve) => setTimeout(resolve, answerMsMax, undefined).unref()),
      ])
      if (answer?.n !== n || answer.secret !== marker)
        found(`the victim's call ${n} was answered ${JSON.stringify(answer)}`)
    }
    await serve()
    const rss = process.memoryUsage.rss()
    return {
      async run(r, count) {
        const kind = r.int(10)
        const served = r.happens(0.3) ? serve() : undefined
        if (kind < 3) count(await rawBytes(r, port))
        else if (kind < 8) await socket(r, port, "/v1/connect", count)
        else await socket(r, port, "/v1/mesh", count)
        await served
        const [problem] = problems
        if (problem !== undefined) found(`something failed without a name: ${problem}`)
        const grown = process.memoryUsage.rss() - rss
        if (grown > rssGrowthMax) found(`the process has grown by ${Math.round(grown / 1_048_576)} MiB`)
      },
      async close() {
        await serve()
        await client.close()
        await pop.close({ drainMs: 0 })
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

function rawBytes(r: Random, port: number): Promise<string> {
  return new Promise((resolve) => {
    const tcp = connect(port, "127.0.0.1")
    let came = ""
    tcp.on("data", (part) => (came += part.toString("latin1")))
    tcp.on("error", () => undefined)
    tcp.on("close", () => {
      if (came.includes(marker)) found("a stranger was sent the victim's state")
      resolve(`http ${came.slice(9, 12) || "nothing"}`)
    })
    tcp.on("connect", () => {
      const bytes = httpRequest(r)
      tcp.end(r.happens(0.2) ? randomBytes(r, r.int(400)) : r.happens(0.6) ? bentBytes(r, bytes) : bytes)
    })
    // What asked for an upgrade and got it is left open by the server, which waits for a first frame.
    setTimeout(() => tcp.destroy(), 60).unref()
  })
}

/** One socket and what is said on it, valid or not, before and after `welcome`; it may break its own framing. */
async function socket(r: Random, port: number, path: string, count: (outcome: string) => void): Promise<void> {
  const mesh = path === "/v1/mesh"
  const ticket = r.happens(0.3) ? [`${TICKET_PREFIX}${r.pick(["a.b.c", "x".repeat(2_500), "..", "a"])}`] : []
  const ws = new WebSocket(
    `ws://127.0.0.1:${port}${path}${r.happens(0.2) ? "?at=fra&at=%00" : ""}`,
    mesh ? [MESH_SUBPROTOCOL] : [SUBPROTOCOL, ...ticket],
    { perMessageDeflate: false, ...(r.happens(0.1) ? { origin: "https://evil.example" } : {}) },
  )
  ws.on("error", () => undefined)
  let received = ""
  const first = new Promise<void>((resolve) => {
    ws.on("message", (data) => {
      received += (data as Buffer).toString("latin1")
      resolve()
    })
    ws.on("close", () => resolve())
  })
  const closed = new Promise<[number, Buffer]>((resolve) => ws.once("close", (code, reason) => resolve([code, reason])))
  await Promise.race([new Promise<void>((resolve) => ws.once("open", resolve)), closed])
  const say = (data: string | Uint8Array, binary: boolean): void => {
    if (ws.readyState === WebSocket.OPEN) ws.send(data, { binary })
  }
  if (ws.readyState === WebSocket.OPEN) {
    if (mesh) {
      for (let i = 1 + r.int(4); i > 0; i--) {
        say(r.happens(0.3) ? handshakeFrame(r) : linkFrame(r), r.happens(0.95))
        count("link frame")
      }
    } else {
      if (r.happens(0.8)) {
        const batch = r.pick([undefined, 0, 1, 300, 65_536, Number.MAX_SAFE_INTEGER])
        say(JSON.stringify({ t: "hello", client: "m", token: r.pick(["mallory", "other"]), batch }), false)
        await first
      }
      const sid = /"sessions":\["([^"]+)"/.exec(received)?.[1] ?? ""
      say(JSON.stringify({ t: "attach", ch: 1, actor: ["note", "mallory~bos"], sid, acked: 0, live: true }), false)
      const hints = { sids: [sid], ...(r.happens(0.3) ? { actor: ["note", "victim~bos"] as const } : {}) }
      for (let i = 1 + r.int(10); i > 0; i--) {
        // One frame, or several in one message.
        const text = Array.from({ length: r.happens(0.3) ? r.int(8) : 1 }, () => hostileText(r, hints)).join("\n")
        if (r.happens(0.05)) say(randomBytes(r, r.int(50)), true)
        else say(text, false)
        count("client frame")
      }
    }
    // Below WebSocket: a frame that is none.
    if (r.happens(0.1))
      (ws as unknown as { _socket: { write(bytes: Uint8Array): void } })._socket.write(randomBytes(r, 30))
    // What was sent is read before the close is.
    if (r.happens(0.8)) ws.close(1_000)
    else ws.terminate()
  }
  const [code, reason] = await closed
  if (!plainCodes.has(code) && closeCodeOf(code) === undefined)
    found(`a socket was closed with ${code} ${reason.toString()}, which is in no table`)
  if (received.includes(marker)) found(`a stranger was sent ${received.slice(0, 500)}`)
  count(`closed ${closeCodeOf(code) ?? code}`)
}

function handshakeFrame(r: Random): Uint8Array {
  const frame = { t: r.pick(["HELLO", "PROOF", "READY"]), version: 1, to: "bos", nonce: "n", mac: "m" }
  return Buffer.concat([Uint8Array.of(1), Buffer.from(r.happens(0.2) ? hostileJson(r) : bentJson(r, frame))])
}
