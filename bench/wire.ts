import { once } from "node:events"
import {
  Batch,
  SUBPROTOCOL,
  frameLimits,
  framesIn,
  TICKET_PREFIX,
  type AttachBody,
  type ClientFrame,
  type ServerFrame,
} from "@sojourn/protocol"
import { WebSocket } from "ws"

type Of<T extends ServerFrame["t"]> = Extract<ServerFrame, { t: T }>

interface Waiting {
  readonly t: ServerFrame["t"]
  readonly ch: number | undefined
  readonly resolve: (frame: never) => void
  readonly reject: (error: Error) => void
}

/** A socket of `ws`, as light as a peer's: `heard` is told of each message. */
export async function openSocket(url: string, heard: (text: string) => void): Promise<WebSocket> {
  const ws = new WebSocket(url, { perMessageDeflate: false })
  ws.on("message", (data) => {
    heard((data as Buffer).toString())
  })
  await once(ws, "open")
  return ws
}

/**
 * A client of bare `sojourn.v1` frames: what is measured is the server, not the client package. As that does, it sends in one message what it
 * says in one go, and takes what comes so. Whoever waits for a frame is told when it cannot
 * come any more.
 */
export class Wire {
  /** Told of each frame that nobody waited for. */
  heard: (frame: ServerFrame) => void = () => undefined
  readonly #ws: WebSocket
  readonly #batch: Batch
  #waiting: Waiting[] = []

  private constructor(ws: WebSocket) {
    this.#ws = ws
    this.#batch = new Batch(
      (message) => {
        ws.send(message)
      },
      () => {
        queueMicrotask(() => {
          this.#batch.flush()
        })
      },
    )
    ws.on("message", (data) => {
      for (const frame of framesIn((data as Buffer).toString())) this.#take(JSON.parse(frame) as ServerFrame)
    })
    ws.on("close", (code) => {
      for (const { t, reject } of this.#waiting.splice(0))
        reject(new Error(`the socket closed with ${code} before ${t}`))
    })
  }

  /** Resolves when the socket is open; nothing was sent then. */
  static async open(url: string, ticket?: string): Promise<Wire> {
    const protocols = [SUBPROTOCOL, ...(ticket === undefined ? [] : [TICKET_PREFIX + ticket])]
    const ws = new WebSocket(`${url}/v1/connect`, protocols, { perMessageDeflate: false })
    const wire = new Wire(ws)
    await once(ws, "open")
    ws.on("error", () => undefined)
    return wire
  }

  send(frame: ClientFrame): void {
    this.#batch.add(JSON.stringify(frame))
  }

  /** The next frame of this type, on this channel if one is given. Rejects if a refusal comes instead. */
  next<T extends ServerFrame["t"]>(t: T, ch?: number): Promise<Of<T>> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ t, ch, resolve, reject })
    })
  }

  /** Says hello; with `attach` in it for a client that has its session. */
  async hello(token: string, attach: readonly AttachBody[] = []): Promise<Of<"welcome">> {
    const welcome = this.next("welcome")
    this.send({
      t: "hello",
      client: "bench",
      token,
      batch: frameLimits.batchCharsMax,
      ...(attach.length === 0 ? {} : { attach }),
    })
    this.#batch.takes((await welcome).batch)
    return welcome
  }

  /** Attaches on `ch`, with what is asked at once. */
  attach(
    ch: number,
    actor: readonly [string, string],
    sid: string,
    more: Partial<AttachBody> = {},
  ): Promise<Of<"attached">> {
    const attached = this.next("attached", ch)
    this.send({ t: "attach", ...attachBody(ch, actor, sid), ...more })
    return attached
  }

  /** Resolves when the socket is gone. */
  async close(): Promise<void> {
    const gone = once(this.#ws, "close")
    this.#ws.terminate()
    await gone
  }

  #take(frame: ServerFrame): void {
    const { t } = frame
    if (t === "ping") return this.send({ t: "pong" })
    if (t === "detached" || t === "error" || t === "goaway") {
      const why = t === "goaway" ? "the server goes away" : `${frame.err.code}: ${frame.err.message}`
      const waiting = this.#waiting.splice(0)
      for (const { reject } of waiting) reject(new Error(why))
      if (waiting.length === 0) this.heard(frame)
      return
    }
    const ch = "ch" in frame ? frame.ch : undefined
    const at = this.#waiting.findIndex((one) => one.t === t && (one.ch === undefined || one.ch === ch))
    if (at === -1) return this.heard(frame)
    const [one] = this.#waiting.splice(at, 1) as [Waiting]
    if ((t === "reply" || t === "answer") && frame.err) one.reject(new Error(`${frame.err.code}: ${frame.err.message}`))
    else one.resolve(frame as never)
  }
}

export function attachBody(ch: number, actor: readonly [string, string], sid: string): AttachBody {
  return { ch, actor, sid, acked: 0, live: false }
}
