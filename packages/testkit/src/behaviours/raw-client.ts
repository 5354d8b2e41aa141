import { SUBPROTOCOL, TICKET_PREFIX, type ClientFrame, type ServerFrame } from "@sojourn/protocol"
import { once } from "node:events"
import { WebSocket } from "ws"

/** A client that speaks `sojourn.v1` frame by frame and does nothing by itself: for what the SDK would hide or mend. */
export interface RawClient {
  /** Everything that came, oldest first. */
  readonly frames: readonly ServerFrame[]
  send(frame: ClientFrame): void
  sendText(text: string): void
  /** The first frame of this type that matches, come already or yet to come. Rejects when the socket closes before. */
  find<T extends ServerFrame["t"]>(
    t: T,
    match?: (frame: Extract<ServerFrame, { t: T }>) => boolean,
  ): Promise<Extract<ServerFrame, { t: T }>>
  /** Those that came so far. */
  all<T extends ServerFrame["t"]>(t: T): Extract<ServerFrame, { t: T }>[]
  /** Resolves when everything that the gateway had sent to this client by the time it read this has come. */
  flushed(): Promise<void>
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  /** Ends the socket without a word. */
  cut(): void
  close(): Promise<void>
}

export interface RawOptions {
  readonly url: string
  /** Goes beside the subprotocol, as the upgrade's ticket. */
  readonly ticket?: string
  readonly at?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Resolves when the socket is open; nothing has been sent then. */
export async function connectRaw(options: RawOptions): Promise<RawClient> {
  const query = options.at === undefined ? "" : `?at=${encodeURIComponent(options.at)}`
  const protocols = [SUBPROTOCOL, ...(options.ticket === undefined ? [] : [TICKET_PREFIX + options.ticket])]
  const ws = new WebSocket(`${options.url}/v1/connect${query}`, protocols, {
    perMessageDeflate: false,
    ...(options.headers ? { headers: options.headers } : {}),
  })
  const frames: ServerFrame[] = []
  const waiting = new Set<() => void>()
  let over: string | undefined
  const look = (): void => {
    for (const one of [...waiting]) one()
  }
  ws.on("message", (data) => {
    frames.push(JSON.parse((data as Buffer).toString()) as ServerFrame)
    look()
  })
  ws.on("error", () => undefined)
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    ws.once("close", (code, reason) => {
      over = `${code} ${reason.toString()}`
      resolve({ code, reason: reason.toString() })
      look()
    })
  })
  await Promise.race([once(ws, "open"), closed])
  let pings = 0

  const raw: RawClient = {
    frames,
    closed,
    send: (frame) => ws.send(JSON.stringify(frame)),
    sendText: (text) => ws.send(text),
    find(t, match = () => true) {
      type Wanted = Extract<ServerFrame, { t: typeof t }>
      return new Promise((resolve, reject) => {
        let at = 0
        const search = (): void => {
          for (; at < frames.length; at++) {
            const frame = frames[at] as ServerFrame
            if (frame.t !== t || !match(frame as Wanted)) continue
            waiting.delete(search)
            resolve(frame as Wanted)
            return
          }
          if (over === undefined) return
          waiting.delete(search)
          reject(new Error(`the socket closed (${over}) before a ${t}; it had brought ${JSON.stringify(frames)}`))
        }
        waiting.add(search)
        search()
      })
    },
    all: <T extends ServerFrame["t"]>(t: T) =>
      frames.filter((frame): frame is Extract<ServerFrame, { t: T }> => frame.t === t),
    async flushed() {
      // Several: what a turn of the event loop later would have let out comes with a later one.
      for (let i = 0; i < 5; i++) {
        const n = ++pings
        raw.send({ t: "ping", n })
        await raw.find("pong", (frame) => frame.n === n)
      }
    },
    cut: () => ws.terminate(),
    async close() {
      ws.close(1_000)
      await closed
    },
  }
  return raw
}
