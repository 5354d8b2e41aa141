import { jsonDepthMax, nestsDeeper } from "@sojourn/protocol"
import { frameText } from "./frame-text.ts"
import type { Limits } from "./limits.ts"
import { isBulk, type MeshMessage } from "./mesh-messages.ts"
import { weigh } from "./attach.ts"
import { badMesh, parseMeshMessage } from "./mesh-parse.ts"
import type { Body } from "./store.ts"

/**
 * Bytes on a mesh link. Each message of the pipe is one frame, told apart by its first byte; integers are big-endian:
 *
 *   1 LINK   JSON                              the link's own: handshake, beats
 *   2 WHOLE  u32 head, head, body              a message that fits one frame; head is JSON, body the rest
 *   3 FIRST  u32 stream, u32 total, bytes      begins a chunked message of `total` bytes, laid out like the inside of WHOLE
 *   4 NEXT   u32 stream, bytes                 continues it; it ends when `total` bytes have come
 *
 * Chunks of different streams, and whole messages, interleave freely: a message that decides a hand-off never waits for the end of a
 * large body (`mesh-writer.ts` chooses the order). Nothing is allocated on the word of a length: memory grows with bytes that came.
 */
const kind = { link: 1, whole: 2, first: 3, next: 4 } as const

/** Bytes of a FIRST frame before its chunk; the largest of the headers. */
const chunkHeader = 9

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const nothing = new Uint8Array(0)

function u32(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at)
}

function putU32(bytes: Uint8Array, at: number, value: number): void {
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setUint32(at, value)
}

/** The body of a GRANT: the snapshot's bytes, then each entry's, and their lengths (-1: there is no snapshot). */
export function packBody(body: Body): { readonly sizes: readonly number[]; readonly bytes: Uint8Array } {
  const sizes = [body.snapshot?.length ?? -1, ...body.entries.map((entry) => entry.length)]
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + Math.max(0, size), 0))
  let at = 0
  for (const part of [body.snapshot ?? nothing, ...body.entries]) {
    bytes.set(part, at)
    at += part.length
  }
  return { sizes, bytes }
}

/** The parts are views of `bytes`. Throws BAD_FRAME where the sizes do not describe the bytes. */
export function unpackBody(sizes: readonly number[], bytes: Uint8Array): Body {
  let at = 0
  const parts = sizes.map((size) => {
    const from = at
    at += Math.max(0, size)
    return bytes.subarray(from, at)
  })
  if (at !== bytes.length || parts.length === 0) badMesh(`a body of ${bytes.length} bytes whose sizes add up to ${at}`)
  return { snapshot: sizes[0] === -1 ? undefined : parts[0], entries: parts.slice(1) }
}

/** The link's own frame: handshake and beats. */
export function encodeLinkFrame(json: object): Uint8Array {
  const head = encoder.encode(JSON.stringify(json))
  const frame = new Uint8Array(1 + head.length)
  frame[0] = kind.link
  frame.set(head, 1)
  return frame
}

/** Whether it may come before the peer is proved. */
export function isLinkFrame(frame: Uint8Array): boolean {
  return frame[0] === kind.link
}

/** What `JSON.stringify` makes of it: a relayed output is text already, and goes to many. */
function messageText(message: MeshMessage): string {
  if (message.t !== "FRAME" || message.dir !== "out") return JSON.stringify(message)
  return `{"t":"FRAME","relay":${message.relay},"dir":"out","frame":${frameText(message.frame)}}`
}

/** A message as a WHOLE frame, of whatever length; `chunk` cuts one that is too long. */
export function encodeMessage(message: MeshMessage, body: Uint8Array = nothing): Uint8Array {
  const head = encoder.encode(messageText(message))
  const frame = new Uint8Array(5 + head.length + body.length)
  frame[0] = kind.whole
  putU32(frame, 1, head.length)
  frame.set(head, 5)
  frame.set(body, 5 + head.length)
  return frame
}

/**
 * The chunk of a WHOLE frame that begins at `at`, as a FIRST or NEXT frame of at most `frameBytes`; the first is at 1. `next` is where
 * the following one begins: the frame's length when this was the last.
 */
export function chunk(
  whole: Uint8Array,
  stream: number,
  at: number,
  frameBytes: number,
): { frame: Uint8Array; next: number } {
  const header = at === 1 ? chunkHeader : 5
  const next = Math.min(whole.length, at + Math.max(1, frameBytes - chunkHeader))
  const frame = new Uint8Array(header + next - at)
  frame[0] = at === 1 ? kind.first : kind.next
  putU32(frame, 1, stream)
  if (at === 1) putU32(frame, 5, whole.length - 1)
  frame.set(whole.subarray(at, next), header)
  return { frame, next }
}

export type MeshInput =
  | { readonly kind: "link"; readonly json: Record<string, unknown> }
  | { readonly kind: "message"; readonly message: MeshMessage; readonly body: Uint8Array | undefined }

export interface MeshReader {
  /** One frame of the pipe. Undefined: a chunk of something, or a message to ignore. Throws BAD_FRAME: close the link. */
  read(frame: Uint8Array): MeshInput | undefined
}

function json(bytes: Uint8Array): unknown {
  let parsed: unknown
  try {
    parsed = JSON.parse(decoder.decode(bytes))
  } catch {
    badMesh("a frame whose JSON does not parse")
  }
  // What is shorter cannot nest so deep. A frame inside a message lies a few levels below it.
  if (bytes.length > 2 * jsonDepthMax && nestsDeeper(parsed, jsonDepthMax + 8)) badMesh("JSON that nests too deeply")
  return parsed
}

/** `inside` is a message without its kind byte; unless it is `ours`, the body is copied, since the pipe may share its buffer. */
function decodeMessage(inside: Uint8Array, ours: boolean): MeshInput | undefined {
  if (inside.length < 4) badMesh("a message shorter than its header")
  const headEnd = 4 + u32(inside, 0)
  if (headEnd > inside.length) badMesh("a message shorter than its header says")
  const message = parseMeshMessage(json(inside.subarray(4, headEnd)))
  if (message === undefined) return undefined
  const bytes = inside.subarray(headEnd)
  if (message.t === "GRANT" || message.t === "CHUNK") {
    if (message.t === "GRANT" && message.blob) {
      if (bytes.length > 0) badMesh("a GRANT whose body comes in chunks and with it")
    } else if (message.t === "GRANT") unpackBody(message.sizes, bytes)
    return { kind: "message", message, body: ours ? bytes : new Uint8Array(bytes) }
  }
  if (bytes.length > 0) badMesh(`a ${message.t} with a body`)
  if (message.t === "FRAME") weigh(message.frame, headEnd - 4)
  return { kind: "message", message, body: undefined }
}

/** A chunked message under way. `bytes` grows by doubling with what came: tiny chunks cost no more memory than large ones. */
interface Stream {
  readonly total: number
  bytes: Uint8Array
  got: number
}

function append(stream: Stream, bytes: Uint8Array): void {
  const got = stream.got + bytes.length
  if (got > stream.bytes.length) {
    const grown = new Uint8Array(Math.min(stream.total, Math.max(2 * stream.bytes.length, got)))
    grown.set(stream.bytes.subarray(0, stream.got))
    stream.bytes = grown
  }
  stream.bytes.set(bytes, stream.got)
  stream.got = got
}

export function createMeshReader(limits: Pick<Limits, "meshMessageBytesMax" | "meshStreamsMax">): MeshReader {
  const streams = new Map<number, Stream>()

  const take = (id: number, stream: Stream, bytes: Uint8Array): MeshInput | undefined => {
    if (bytes.length === 0) badMesh("an empty chunk")
    if (stream.got + bytes.length > stream.total) badMesh("more bytes than the message was said to have")
    append(stream, bytes)
    if (stream.got < stream.total) return undefined
    streams.delete(id)
    return decodeMessage(stream.bytes, true)
  }

  return {
    read(frame) {
      switch (frame[0]) {
        case kind.link: {
          const value = json(frame.subarray(1))
          if (typeof value !== "object" || value === null || Array.isArray(value))
            badMesh("a link frame without fields")
          return { kind: "link", json: value as Record<string, unknown> }
        }
        case kind.whole:
          if (frame.length > limits.meshMessageBytesMax) badMesh(`a message of ${frame.length} bytes`)
          return decodeMessage(frame.subarray(1), false)
        case kind.first: {
          if (frame.length < chunkHeader) badMesh("a chunk shorter than its header")
          const id = u32(frame, 1)
          const total = u32(frame, 5)
          if (total > limits.meshMessageBytesMax)
            badMesh(`a message of ${total} bytes; meshMessageBytesMax is ${limits.meshMessageBytesMax}`)
          if (streams.has(id)) badMesh("the beginning of a message that is under way")
          if (streams.size >= limits.meshStreamsMax)
            badMesh(`more than ${limits.meshStreamsMax} chunked messages at once`)
          const stream: Stream = { total, bytes: nothing, got: 0 }
          streams.set(id, stream)
          return take(id, stream, frame.subarray(chunkHeader))
        }
        case kind.next: {
          if (frame.length < 5) badMesh("a chunk shorter than its header")
          const id = u32(frame, 1)
          const stream = streams.get(id)
          if (stream === undefined) badMesh("a chunk of no message")
          return take(id, stream, frame.subarray(5))
        }
        default:
          badMesh(`a frame of unknown kind ${String(frame[0])}`)
      }
    },
  }
}

/**
 * What a message waits behind on its link: `control` behind nothing, `relay` behind earlier frames of relayed sessions (they keep their
 * order), `bulk` behind both. A bulk message that fits one frame delays nobody and counts as control.
 */
export function laneOf(message: MeshMessage, bytes: number, frameBytes: number): "control" | "relay" | "bulk" {
  if (message.t === "FRAME" || message.t === "RELAY_OPEN" || message.t === "RELAY_CLOSE") return "relay"
  return isBulk(message) && bytes > frameBytes ? "bulk" : "control"
}
