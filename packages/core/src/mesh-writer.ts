import { chunk, encodeLinkFrame, encodeMessage, laneOf } from "./mesh-codec.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Pipe } from "./ports.ts"

/**
 * The order in which a link sends, so that a hand-off costs one round trip whatever else is on the wire:
 *
 * - The link's own frames and control messages go to the pipe at once.
 * - Frames of relayed sessions keep their order. They go at once while none of them waits; behind a long one they wait.
 * - What is long (a body, a large relayed frame) goes in chunks, and the next turn starts only when the pipe has taken the last: so at
 *   most one chunk of bulk is between a control message and the network. Relayed frames and bulk take turns, a chunk's worth each;
 *   of bulk, at most `meshStreamsMax - 1` messages are under way, a chunk each in turn (relayed frames use the last stream).
 *
 * What waits is bounded by `meshQueueBytesMax`: `send` then says `full` and the link is closed, since a peer that does not read is no
 * peer, and every message on a mesh may be lost.
 */
export interface MeshWriter {
  link(frame: object): void
  /** `full`: more than `meshQueueBytesMax` would wait. `too-large`: it is over `meshMessageBytesMax`. Neither was queued. */
  send(message: MeshMessage, body?: Uint8Array): "queued" | "full" | "too-large"
  /** Bytes that wait here and in the pipe. */
  waiting(): number
  /** Forgets what waits. Nothing is sent afterwards. */
  stop(): void
}

interface Waiting {
  readonly whole: Uint8Array
  /** Number of its chunked message; 0 until its first chunk goes out. */
  stream: number
  /** Where its next chunk begins. */
  at: number
}

export function createMeshWriter(
  pipe: Pick<Pipe<Uint8Array>, "send" | "buffered">,
  limits: Pick<Limits, "meshChunkBytes" | "meshMessageBytesMax" | "meshQueueBytesMax" | "meshStreamsMax">,
): MeshWriter {
  const frameBytes = limits.meshChunkBytes
  const streamsMax = limits.meshStreamsMax
  const relays: Waiting[] = []
  const bulk: Waiting[] = []
  let queued = 0
  /** The pipe has not taken the last chunk yet. */
  let busy = false
  let pumping = false
  let stopped = false
  let relayTurn = true
  let lastStream = 0

  /** The next frame of `item`, and whether it was the last. */
  const next = (item: Waiting): { frame: Uint8Array; ended: boolean } => {
    if (item.whole.length <= frameBytes) return { frame: item.whole, ended: true }
    if (item.stream === 0) item.stream = lastStream = (lastStream % 0xffffffff) + 1
    const cut = chunk(item.whole, item.stream, item.at, frameBytes)
    item.at = cut.next
    return { frame: cut.frame, ended: cut.next === item.whole.length }
  }

  const relayBatch = (): Uint8Array[] => {
    const frames: Uint8Array[] = []
    let bytes = 0
    while (relays[0] !== undefined && bytes < frameBytes) {
      const { frame, ended } = next(relays[0])
      if (ended) queued -= (relays.shift() as Waiting).whole.length
      frames.push(frame)
      bytes += frame.length
    }
    return frames
  }

  const bulkBatch = (): Uint8Array[] => {
    const item = bulk.shift() as Waiting
    const { frame, ended } = next(item)
    if (ended) queued -= item.whole.length
    else bulk.splice(Math.min(bulk.length, streamsMax - 2), 0, item)
    return [frame]
  }

  /** A loop, not a recursion: a pipe may call `done` before `send` returns. */
  const pump = (): void => {
    if (pumping) return
    pumping = true
    while (!busy && !stopped && relays.length + bulk.length > 0) {
      const frames = bulk.length === 0 || (relayTurn && relays.length > 0) ? relayBatch() : bulkBatch()
      relayTurn = !relayTurn
      busy = true
      const last = frames.pop() as Uint8Array
      for (const frame of frames) pipe.send(frame)
      pipe.send(last, () => {
        busy = false
        pump()
      })
    }
    pumping = false
  }

  return {
    link(frame) {
      if (!stopped) pipe.send(encodeLinkFrame(frame))
    },
    send(message, body) {
      const whole = encodeMessage(message, body)
      if (whole.length > limits.meshMessageBytesMax) return "too-large"
      if (stopped || queued + pipe.buffered() + whole.length > limits.meshQueueBytesMax) return "full"
      const lane = laneOf(message, whole.length, frameBytes)
      const atOnce = whole.length <= frameBytes && (lane === "control" || relays.length === 0)
      if (atOnce) {
        pipe.send(whole)
        return "queued"
      }
      queued += whole.length
      ;(lane === "relay" ? relays : bulk).push({ whole, stream: 0, at: 1 })
      pump()
      return "queued"
    },
    waiting: () => queued + pipe.buffered(),
    stop() {
      stopped = true
      relays.length = 0
      bulk.length = 0
      queued = 0
    },
  }
}
