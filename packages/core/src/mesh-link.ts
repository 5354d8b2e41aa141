import { CLOSE_CODES, SojournError, type CloseName } from "@sojourn/protocol"
import { createMeshReader, isLinkFrame, type MeshInput } from "./mesh-codec.ts"
import {
  closeOf,
  greet,
  listening,
  stepHandshake,
  type HandshakeSelf,
  type HandshakeState,
  type HandshakeStep,
  type MeshIdentity,
  type Refusal,
} from "./mesh-handshake.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { createMeshWriter, type MeshWriter } from "./mesh-writer.ts"
import type { Clock, EventSink, Pipe, PipeReader, Undo } from "./ports.ts"

/**
 * One link to a peer, from its first byte to its close: handshake, then beats and messages. It ends once, whoever ends it, and tells its
 * owner then; a frame that comes later is dropped.
 *
 * Beats: `{t:"BEAT", at, w}` each `meshBeatMs`, answered by `{t:"ECHO", at, w}`. `at` is the sender's own monotonic time and gives it the
 * round trip; `w` is the watermark of the store of whoever sends. Any frame counts as life; after `meshDeadMs` without one the link ends.
 */
export interface MeshLink {
  readonly reader: PipeReader<Uint8Array>
  /** Gives the link its pipe; a dialer then greets. Frames may come from then on. */
  open(pipe: Pipe<Uint8Array>): void
  send(message: MeshMessage, body?: Uint8Array): boolean
  /** Bytes that wait for the peer. */
  waiting(): number
  /** Lowest round trip of the last few beats, ms: what the path costs without queues. */
  rtt(): number | undefined
  close(name: CloseName, reason: string): void
}

export interface MeshLinkOptions {
  readonly clock: Clock
  readonly limits: Limits
  readonly self: HandshakeSelf
  /** The peer that is dialed; undefined: this side accepts. */
  readonly dial: string | undefined
  readonly events: EventSink
  watermark(): number
  /** The peer is proved. Messages may come and go from now on. */
  onReady(peer: MeshIdentity): void
  /** The link is about to end because of this. */
  onRefused(refusal: Refusal): void
  onMessage(message: MeshMessage, body: Uint8Array | undefined): void
  /** The peer's store is at least here. */
  onWatermark(watermark: number): void
  /** Called once. `code` is 1006 where the network ended it. */
  onClosed(code: number, reason: string): void
}

/** Longest frame of a handshake, bytes: the most that a stranger makes this node look at. */
const handshakeBytesMax = 4_096
const rttSamplesMax = 8

interface LinkStatus {
  handshake: HandshakeState
  pipe: Pipe<Uint8Array> | undefined
  writer: MeshWriter | undefined
  ended: boolean
  lastHeard: number
  readonly rtts: number[]
  readonly timers: Map<string, Undo>
}

export function createMeshLink(options: MeshLinkOptions): MeshLink {
  const { clock, limits, self, events } = options
  const reader = createMeshReader(limits)
  const link: LinkStatus = {
    handshake: listening,
    pipe: undefined,
    writer: undefined,
    ended: false,
    lastHeard: clock.mono(),
    rtts: [],
    timers: new Map(),
  }

  const timer = (name: string, ms: number, fn: () => void): void => {
    link.timers.get(name)?.()
    link.timers.set(name, clock.after(ms, fn))
  }

  /** The one place where a link ends. */
  const end = (code: number, reason: string, tellPipe: boolean): void => {
    if (link.ended) return
    link.ended = true
    for (const undo of link.timers.values()) undo()
    link.timers.clear()
    link.writer?.stop()
    if (tellPipe) link.pipe?.close(code, reason)
    options.onClosed(code, reason)
  }
  const close = (name: CloseName, reason: string): void => end(CLOSE_CODES[name][0], reason, true)

  const full = (): void => {
    events({ type: "mesh.queue-full", code: "SLOW_READER", pop: peerOf(link.handshake), bytes: link.writer?.waiting() })
    close("SLOW_READER", `more than ${limits.meshQueueBytesMax} bytes wait for this peer`)
  }

  /** As bounded as messages are: a peer may send beats and read none of the answers. */
  const say = (t: "BEAT" | "ECHO", at: number): void => {
    if (!link.writer) return
    if (link.writer.waiting() > limits.meshQueueBytesMax) full()
    else link.writer.link({ t, at, w: options.watermark() })
  }

  const beat = (): void => {
    say("BEAT", clock.mono())
    if (!link.ended) timer("beat", limits.meshBeatMs, beat)
  }
  /** Armed once and put off lazily: a busy link costs no timer a frame. */
  const watch = (): void => {
    const quiet = clock.mono() - link.lastHeard
    if (quiet >= limits.meshDeadMs) close("HEARTBEAT", `no frame for ${Math.round(quiet)} ms`)
    else timer("dead", limits.meshDeadMs - quiet, watch)
  }

  const take = (step: HandshakeStep): void => {
    link.handshake = step.state
    if (step.send) link.writer?.link(step.send)
    if (step.state.k === "refused") {
      const { refusal } = step.state
      options.onRefused(refusal)
      end(...closeOf(refusal), true)
    } else if (step.state.k === "ready") {
      link.timers.get("handshake")?.()
      link.lastHeard = clock.mono()
      watch()
      options.onReady(step.state.peer)
      if (!link.ended) beat()
    }
  }

  const onLinkFrame = (json: Record<string, unknown>): void => {
    if (link.handshake.k !== "ready") return take(stepHandshake(link.handshake, json, self))
    const { t, at, w } = json
    if (t !== "BEAT" && t !== "ECHO") return
    if (typeof at !== "number" || !Number.isFinite(at) || !Number.isSafeInteger(w))
      throw new SojournError("BAD_FRAME", "a mesh peer sent a beat that is not of its form")
    if (t === "BEAT") say("ECHO", at)
    else {
      link.rtts.push(Math.max(0, clock.mono() - at))
      if (link.rtts.length > rttSamplesMax) link.rtts.shift()
    }
    if (!link.ended) options.onWatermark(w as number)
  }

  const onFrame = (frame: Uint8Array): void => {
    let input: MeshInput | undefined
    try {
      if (link.handshake.k !== "ready" && (frame.length > handshakeBytesMax || !isLinkFrame(frame)))
        throw new SojournError("BAD_FRAME", "a mesh peer sent something else before its handshake")
      input = reader.read(frame)
      if (input?.kind === "link") onLinkFrame(input.json)
    } catch (error) {
      if (!(error instanceof SojournError)) throw error
      events({ type: "mesh.frame-refused", code: "BAD_FRAME", pop: peerOf(link.handshake), reason: error.message })
      close("BAD_FRAME", error.message)
      return
    }
    if (input?.kind !== "message") return
    try {
      options.onMessage(input.message, input.body)
    } catch (error) {
      events({ type: "mesh.handler-failed", code: "INVARIANT", message: input.message.t, error })
    }
  }

  timer("handshake", limits.meshHandshakeMsMax, () =>
    close("HANDSHAKE_TIMEOUT", `no handshake within ${limits.meshHandshakeMsMax} ms`),
  )

  return {
    reader: {
      message(frame) {
        if (link.ended) return
        link.lastHeard = clock.mono()
        onFrame(frame)
      },
      closed: (code, reason) => end(code, reason, false),
    },
    open(pipe) {
      if (link.ended) return pipe.close(CLOSE_CODES.GOING_AWAY[0], "given up")
      link.pipe = pipe
      link.writer = createMeshWriter(pipe, limits)
      if (options.dial !== undefined) take(greet(self, options.dial))
    },
    send(message, body) {
      if (link.ended || link.handshake.k !== "ready" || !link.writer) return false
      const outcome = link.writer.send(message, body)
      if (outcome === "queued") return true
      if (outcome === "too-large") {
        const pop = peerOf(link.handshake)
        const actor = "actor" in message ? { actor: message.actor } : {}
        events({ type: "mesh.message-too-large", code: "FRAME_TOO_LARGE", pop, message: message.t, ...actor })
      } else full()
      return false
    },
    waiting: () => link.writer?.waiting() ?? 0,
    rtt: () => (link.rtts.length === 0 ? undefined : Math.min(...link.rtts)),
    close,
  }
}

function peerOf(state: HandshakeState): string | undefined {
  return state.k === "ready" || state.k === "proved" ? state.peer.pop : undefined
}
