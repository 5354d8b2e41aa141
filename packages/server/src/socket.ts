import { Batch, CLOSE_CODES, framesIn } from "@sojourn/protocol"
import type { EventSink, Pipe, PipeReader } from "@sojourn/core"
import type { Duplex } from "node:stream"
import { WebSocket } from "ws"
import type { Intake } from "./intake.ts"

/** Bytes of a close frame's reason (RFC 6455 §5.5: 125 with the code). */
const reasonBytesMax = 123

/** Close codes of the library, by what they mean to a client of ours: what is wrong with a frame stays wrong when sent again. */
const ours: Readonly<Record<number, number>> = {
  1002: CLOSE_CODES.BAD_FRAME[0],
  1007: CLOSE_CODES.BAD_FRAME[0],
  1008: CLOSE_CODES.BAD_FRAME[0],
  1009: CLOSE_CODES.FRAME_TOO_LARGE[0],
}

function shorten(reason: string): string {
  const bytes = Buffer.from(reason)
  if (bytes.length <= reasonBytesMax) return reason
  return new TextDecoder().decode(bytes.subarray(0, reasonBytesMax)).replace(/\uFFFD+$/, "")
}

/** The server's sockets: the library closes a bad one by itself, before it tells anybody, so the code is put right here. */
export class PopSocket extends WebSocket {
  /** What was sent before is to leave before. */
  closing: (() => void) | undefined

  override close(code?: number, reason?: string | Buffer): void {
    this.closing?.()
    const own = code === undefined ? code : (ours[code] ?? code)
    super.close(own, typeof reason === "string" ? shorten(reason) : reason)
  }
}

/** So many sockets wait at a time for more to be sent on them. */
const corkedMax = 8

interface Sender {
  readonly socket: Duplex
  /** Gives the socket what was gathered for it. */
  flush(): void
}

/**
 * Sockets on which something was sent in this turn of the event loop and has not gone to the system, the first one first. One that had to make
 * room for others waits until the end of the turn when something is sent on it again: two writes a turn at the most.
 */
class Corked {
  readonly #senders = new Set<Sender>()
  /** They have made room once. */
  readonly #again = new Set<Sender>()
  #ends = false
  readonly #endOfTurn = (): void => {
    this.#ends = false
    for (const sender of [...this.#senders, ...this.#again]) this.#uncork(sender)
    this.#again.clear()
  }

  add(sender: Sender): void {
    if (this.#senders.has(sender)) return
    if (!this.#ends) process.nextTick(this.#endOfTurn)
    this.#ends = true
    const { socket } = sender
    if (this.#again.has(sender)) {
      if (socket.writableCorked === 0) socket.cork()
      return
    }
    socket.cork()
    this.#senders.add(sender)
    if (this.#senders.size <= corkedMax) return
    for (const first of this.#senders) {
      this.#uncork(first)
      this.#again.add(first)
      return
    }
  }

  /** Whatever is wrong with one of them concerns no other. */
  #uncork(sender: Sender): void {
    this.#senders.delete(sender)
    const { socket } = sender
    try {
      sender.flush()
      socket.uncork()
    } catch (error) {
      socket.destroy(error as Error)
    }
  }
}

const corked = new Corked()

/**
 * `socket`: the one under `ws`. What is sent within one turn of the event loop goes to the system in one write: a flush releases many
 * replies at once. But where it releases something for many sockets, the first of them do not wait for the last.
 */
export function socketPipe<T extends string | Uint8Array>(ws: WebSocket, socket: Duplex): Pipe<T> {
  const batch = new Batch((message) => {
    ws.send(message, { binary: false })
  })
  const flush = (): void => {
    batch.flush()
  }
  const sender = { socket, flush }
  if (ws instanceof PopSocket) ws.closing = flush
  return {
    send(data, done) {
      corked.add(sender)
      if (typeof data === "string" && !done) {
        batch.add(data)
        return
      }
      flush()
      // A socket that the system takes everything from answers within the same turn of the event loop: without the detour a sender that
      // goes on in `done` would fill the system's buffer, some megabytes, before anybody else is served.
      ws.send(data, { binary: typeof data !== "string" }, done && (() => setImmediate(done)))
    },
    buffered: () => batch.chars + ws.bufferedAmount,
    close: (code, reason) => ws.close(code, shorten(reason)),
    batch: (charsMax) => {
      batch.takes(charsMax)
    },
  }
}

/**
 * Feeds a reader from a socket until it ends. Frames that come after this side closed are dropped: the reader has said that it is done. A
 * reader that throws costs its own connection, not the process.
 */
function feed(
  ws: WebSocket,
  events: EventSink,
  onMessage: (data: Buffer, binary: boolean) => void,
  onClose: (code: number, reason: string) => void,
): void {
  ws.on("message", (data, binary) => {
    if (ws.readyState === WebSocket.OPEN) onMessage(data as Buffer, binary)
  })
  ws.on("error", (error) => events({ type: "socket.error", error }))
  ws.on("close", (code, reason) => {
    onClose(code, reason.toString())
  })
}

function guarded<T>(
  close: (code: number, reason: string) => void,
  events: EventSink,
  read: (data: T) => void,
): (data: T) => void {
  return (data) => {
    try {
      read(data)
    } catch (error) {
      events({ type: "socket.reader-failed", code: "INVARIANT", error })
      close(1011, "INVARIANT")
    }
  }
}

/** `take`: says when a frame is read, and the end of them after those that came before it (`intake.ts`). */
export function feedText(
  ws: WebSocket,
  reader: PipeReader<string>,
  charsMax: number,
  events: EventSink,
  take: Intake["take"],
): void {
  // The library closes as well, when the other side does: what that sent before is still read.
  let shut = false
  const close = (code: number, reason: string): void => {
    shut = true
    ws.close(code, reason)
  }
  const judge = (data: string | undefined): void => {
    if (shut) return
    if (data === undefined)
      close(CLOSE_CODES.BAD_FRAME[0], "BAD_FRAME: a message is text, of one frame or of not too many")
    else if (data.length > charsMax)
      close(CLOSE_CODES.FRAME_TOO_LARGE[0], `FRAME_TOO_LARGE: over ${charsMax} characters`)
    else reader.message(data)
  }
  const read = guarded(close, events, judge)
  /** Undefined: there are too many, which is as bad as a binary one. */
  const framesOf = (data: Buffer): readonly (string | undefined)[] => {
    try {
      return framesIn(data.toString())
    } catch {
      return [undefined]
    }
  }
  feed(
    ws,
    events,
    (data, binary) => {
      for (const text of binary ? [undefined] : framesOf(data))
        take(text?.length ?? 0, () => {
          read(text)
        })
    },
    (code, reason) => {
      take(0, () => {
        reader.closed(code, reason)
      })
    },
  )
}

export function feedBytes(ws: WebSocket, reader: PipeReader<Uint8Array>, events: EventSink): void {
  const close = (code: number, reason: string): void => {
    ws.close(code, reason)
  }
  const read = guarded<Buffer>(close, events, (data) => {
    reader.message(data)
  })
  feed(
    ws,
    events,
    (data, binary) => {
      if (binary) read(data)
      else close(CLOSE_CODES.BAD_FRAME[0], "BAD_FRAME: a mesh link carries binary frames")
    },
    (code, reason) => {
      reader.closed(code, reason)
    },
  )
}
