import { CLOSE_CODES } from "@sojourn/protocol"
import type { Pipe } from "@sojourn/core"
import assert from "node:assert/strict"
import { createServer } from "node:http"
import { duplexPair } from "node:stream"
import { setImmediate } from "node:timers/promises"
import { defaultLimits } from "../packages/core/src/limits.ts"
import { adminTokens, createAdmin } from "../packages/server/src/admin.ts"
import { createFront, FORGET_PATH, type NodeBehindDoor } from "../packages/server/src/front.ts"
import { originAllowed } from "../packages/server/src/origin.ts"
import { primitives } from "../packages/server/src/primitives.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentBytes, bentJson, bentText, hostileJson, randomBytes } from "./hostile.ts"
import { found } from "./oracle.ts"
import type { Target } from "./target.ts"

/** The front door: requests, upgrades, their headers and URLs, and what an operator asks. */

const origins = [
  "http://pop:8080",
  "https://app.example.com",
  "http://localhost:3000",
  "null",
  "file://",
  "https://evil.example",
]

export const originTarget: Target = {
  name: "origin",
  share: 4,
  open: () => ({
    run(r, count) {
      const policy = {
        origins: r.happens(0.5) ? ["https://app.example.com"] : [],
        publicUrl: r.happens(0.3) ? "wss://pop.example.com" : undefined,
        loopback: false,
      }
      const origin = r.happens(0.3) ? r.pick(origins) : bentText(r, r.pick(origins))
      const host = r.happens(0.5) ? "pop:8080" : bentText(r, "pop:8080")
      const allowed = originAllowed(origin, host, policy)
      // As a browser reads them: an allowed page is the host's own, the public one or one of the list.
      if (allowed) {
        const page = new URL(origin)
        const own = URL.canParse(`${page.protocol}//${host}`) ? new URL(`${page.protocol}//${host}`).host : undefined
        const listed = policy.origins.includes(page.origin)
        if (page.host !== own && !listed && page.host !== "pop.example.com") found(`${origin} was let in at ${host}`)
      }
      count(allowed ? "allowed" : "refused")
    },
  }),
}

const secret = "the secret of this mesh"

export const adminTarget: Target = {
  name: "admin",
  share: 4,
  open() {
    let asked: unknown[] = []
    const node = {
      forget: (...args: unknown[]) => {
        asked = args
        return Promise.resolve({} as never)
      },
    }
    const desk = createAdmin(node, [secret], primitives)
    const right = `Bearer ${adminTokens([secret], primitives)[0] ?? ""}`
    return {
      async run(r, count) {
        asked = []
        const said = r.happens(0.5) ? right : bentText(r, right)
        const body = r.happens(0.2) ? hostileJson(r) : bentJson(r, { pop: "bos", heir: "fra" })
        const { status } = await desk(said, body)
        if (said !== right && status !== 401) found(`${status} for the wrong token`)
        if (asked.length > 0 && (status !== 200 || !asked.every((x) => typeof x === "string")))
          found(`asked to forget ${JSON.stringify(asked)}`)
        count(String(status))
      },
    }
  },
}

const frame = Buffer.from([0x81, 0x85, 1, 2, 3, 4, 0x7a, 0x20, 0x77, 0x3e, 0x7b])

/** An HTTP request as bytes: of each path, as upgrade or not, with a body or not. */
export function httpRequest(r: Random): Buffer {
  const path = r.pick([
    "/v1/connect",
    "/v1/connect?at=fra",
    "/v1/mesh",
    "/v1/health",
    "/v1/ready",
    FORGET_PATH,
    "/",
    "*",
    "http://evil.example/v1/connect",
    "//evil.example/v1/connect",
    "/v1/connect#x",
    "/../v1/%2e%2e/connect",
  ])
  const upgrade = r.happens(0.6)
  const protocol = r.pick([
    "sojourn.v1",
    "sojourn.v1, sojourn.at.a.b.c",
    "sojourn.mesh.v1",
    "",
    ",,,",
    "x".repeat(3_000),
  ])
  const head = [
    `${r.pick(["GET", "POST", "HEAD", "OPTIONS"])} ${r.happens(0.2) ? bentText(r, path).replaceAll(/[^\x21-\x7e]/g, "") : path} HTTP/1.1`,
    `Host: ${r.happens(0.8) ? "pop" : "evil.example"}`,
    ...(upgrade
      ? [
          "Connection: Upgrade",
          `Upgrade: ${r.happens(0.9) ? "websocket" : "h2c"}`,
          `Sec-WebSocket-Version: ${r.happens(0.9) ? "13" : r.pick(["8", "", "x"])}`,
          `Sec-WebSocket-Key: ${r.happens(0.9) ? "dGhlIHNhbXBsZSBub25jZQ==" : "short"}`,
          `Sec-WebSocket-Protocol: ${protocol}`,
          ...(r.happens(0.3) ? [`Origin: ${r.pick(origins)}`] : []),
        ]
      : [`Content-Length: ${r.pick([0, 5, 9_000])}`, "Authorization: Bearer x"]),
  ]
  const body = upgrade ? (r.happens(0.5) ? frame : Buffer.alloc(0)) : Buffer.from('{"pop":"a","heir":"b"}')
  return Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), body])
}

/** Raw bytes to an HTTP server that this front is attached to. */
export const httpTarget: Target = {
  name: "http",
  share: 3,
  open() {
    let accepted = 0
    const accept = (pipe: Pipe<string> | Pipe<Uint8Array>) => {
      accepted++
      return { message: () => pipe.close(CLOSE_CODES.BAD_FRAME[0], "BAD_FRAME"), closed: () => undefined }
    }
    const node: NodeBehindDoor = {
      serving: () => true,
      early: (ticket) => assert.equal(typeof ticket, "string"),
      acceptClient: (pipe, { headers, at, ticket }) => {
        if (headers["sec-websocket-protocol"] !== undefined) found("the ticket is among the headers")
        if ((at?.length ?? 0) > 64 || (ticket?.length ?? 0) > 2_048) found("an unbounded hint was passed on")
        return accept(pipe)
      },
      acceptMesh: accept,
    }
    const front = createFront({
      take: (_chars, run) => {
        run()
      },
      accepted: () => undefined,
      node,
      limits: defaultLimits,
      policy: { origins: [], publicUrl: undefined, loopback: false },
      identity: { pop: "bos", node: "n", region: "r" },
      events: (event) => {
        if (event.type === "socket.reader-failed") found(String(event["error"]))
      },
    })
    const server = createServer((_, response) => response.writeHead(404).end())
    front.attach(server)
    return {
      async run(r, count) {
        const [ours, theirs] = duplexPair()
        const came: Buffer[] = []
        ours.on("data", (part: Buffer) => came.push(part))
        ours.on("error", () => undefined)
        theirs.on("error", () => undefined)
        server.emit("connection", theirs)
        const before = accepted
        const sent = r.happens(0.1)
          ? randomBytes(r, r.int(300))
          : r.happens(0.5)
            ? bentBytes(r, httpRequest(r))
            : httpRequest(r)
        for (let at = 0; at < sent.length;) {
          const next = at + 1 + r.int(sent.length)
          ours.write(sent.subarray(at, next))
          at = next
          await setImmediate()
        }
        ours.end()
        for (let i = 0; i < 3; i++) await setImmediate()
        ours.destroy()
        theirs.destroy()
        const answer = Buffer.concat(came).toString("latin1")
        if (answer !== "" && !answer.startsWith("HTTP/1.1 ")) found(`an answer that is no HTTP: ${answer.slice(0, 99)}`)
        if (/sojourn\.at\./.test(answer)) found("the ticket was echoed")
        if (answer.startsWith("HTTP/1.1 101") !== accepted > before && accepted > before)
          found("a connection was accepted without an answer")
        count(answer === "" ? "nothing" : answer.slice(9, 12))
      },
      close: () => front.close(0),
    }
  },
}
