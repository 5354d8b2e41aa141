import { codec, SojournError, type ServerFrame } from "@sojourn/protocol"
import { createClient, type SocketReader } from "@sojourn/client"
import { VirtualClock } from "../packages/core/src/testing/virtual-clock.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentJson, bentText, hostileJson } from "./hostile.ts"
import type { huntedApp } from "./hunted-app.ts"
import { found } from "./oracle.ts"
import { abusedJson } from "./parsers.ts"
import type { Target } from "./target.ts"
import { randomValue } from "./values.ts"

/**
 * The client's side of the wire: a server that says anything costs a connection, never the page that the client runs in. What a value decodes
 * to is the server's to answer for: the client gets its state from nobody else.
 */

const error = { code: "MOVED", message: "m", retry: "elsewhere", outcome: "not-executed" } as const

function serverFrame(r: Random): ServerFrame {
  const value = codec.encode(randomValue(r))
  const revision = 1 + r.int(6)
  const frames: readonly ServerFrame[] = [
    {
      t: "attached",
      ch: 1,
      sid: "s1",
      pop: "bos",
      e: 1,
      r: revision,
      resumed: r.pick(["new", "replay", "snapshot"]),
      last: r.int(2),
      state: codec.encode({ n: 1, any: randomValue(r), secret: "" }),
      ticket: "t",
    },
    { t: "reply", ch: 1, c: 1 + r.int(3), r: revision, ok: value },
    { t: "reply", ch: 1, c: 1 + r.int(3), r: revision, err: error },
    { t: "answer", ch: 1, q: r.int(3), r: revision, ok: value },
    { t: "out", ch: 1, r: revision, prev: revision - 1, ev: [["added", value]] },
    { t: "out", ch: 1, r: revision, prev: revision - 1, pt: codec.encode([{ op: "replace", path: ["n"], value: 2 }]) },
    { t: "moved", ch: 1, to: "fra", e: 2, ticket: "t" },
    { t: "detached", ch: 1, err: error },
    { t: "sessions", sessions: ["s2", "s3"] },
    { t: "goaway", retryAfterMs: r.int(50) },
    { t: "error", err: error },
    { t: "ping", n: 1 },
  ]
  return r.pick(frames)
}

function said(r: Random, frame: ServerFrame): string {
  switch (r.int(8)) {
    case 0:
      return hostileJson(r)
    case 1:
      return bentText(r, JSON.stringify(frame))
    case 2:
      return `{"t":"out","ch":1,"r":${2 + r.int(3)},"prev":1,"pt":${abusedJson(r)}}`
    case 3:
      return `{"t":"reply","ch":1,"c":1,"r":1,"ok":${abusedJson(r)}}`
    case 4:
      return JSON.stringify(frame)
    default:
      return bentJson(r, frame, 1)
  }
}

const welcome = {
  t: "welcome",
  pop: "bos",
  node: "n",
  sessions: ["s1"],
  heartbeatMs: 20_000,
  principal: "ann",
  batch: 65_536,
} as const

export const serverFrameTarget: Target = {
  name: "server-frame",
  share: 6,
  open: () => ({
    async run(r, count) {
      const clock = new VirtualClock()
      const readers: SocketReader[] = []
      const client = createClient<typeof huntedApp>({
        url: "ws://pop",
        clock,
        chance: r.chance(),
        socket: (_url, _protocols, reader) => {
          readers.push(reader)
          let over = false
          return {
            send: () => undefined,
            buffered: () => 0,
            close: (code, reason) => {
              if (over) return
              over = true
              queueMicrotask(() => reader.closed(code, reason))
            },
          }
        },
      })
      client.on("error", (problem) => {
        if (!(problem instanceof SojournError)) found(`an error without a code: ${String(problem)}`)
      })
      const note = client.note.get("ann")
      note.state.subscribe(() => undefined)
      note.on("added", () => undefined)
      const settled = (work: Promise<unknown>): void => {
        work.catch((problem: unknown) => {
          if (!(problem instanceof SojournError)) found(`a call failed without a code: ${String(problem)}`)
        })
      }
      settled(note.echo(1))
      settled(note.query.read())
      await clock.advance(1)
      for (let i = 1 + r.int(8); i > 0; i--) {
        const reader = readers.at(-1)
        if (readers.length > 50) found("the client opens one socket after another")
        if (r.happens(0.6)) {
          reader?.open()
          reader?.message(r.happens(0.9) ? JSON.stringify(welcome) : bentJson(r, welcome, 1))
          await clock.advance(1)
        }
        // One frame, or several in one message.
        const frames = Array.from({ length: r.happens(0.3) ? r.int(5) : 1 }, () => said(r, serverFrame(r)))
        reader?.message(frames.join("\n"))
        count("frame")
        if (r.happens(0.3)) await clock.advance(r.pick([1, 400]))
      }
      const closing = client.close()
      await clock.advance(5_000)
      await closing
    },
  }),
}
