/**
 * What the core needs from outside. Everything nondeterministic enters through these, so that the same code runs in a server, in a
 * browser-like runtime and in the simulator, where a seed decides all of it.
 */
export type { Chance, Clock, Undo } from "@sojourn/protocol"

/** Synchronous primitives; `text` is encoded as UTF-8. */
export interface Primitives {
  /** HMAC-SHA-256, base64url. */
  hmac(key: string, text: string): string
  /** SHA-256, base64url. */
  digest(data: string | Uint8Array): string
  /** CRC-32 (IEEE), unsigned. */
  checksum(data: Uint8Array): number
  /** HKDF-SHA-256 of a secret for one use, base64url. */
  derive(secret: string, use: string): string
  /** Comparison whose time does not depend on where the strings differ. */
  equal(a: string, b: string): boolean
}

/** How a runtime with an event loop tells what it has to do. A round is one pass over everything that is ready. */
export interface LoopLoad {
  /** Ms that a frame which comes now will have waited when it is read, as far as that is known. */
  lateMs(): number
  /** What has been asked of the loop lately, of what it can do: 2 at twice its capacity. Under 1 it will be in time by itself. */
  demand(): number
  /** Number of the round that is under way. */
  rounds(): number
  /** Ms since the loop last had time to rest; moments that hardly count do not. */
  busyMs(): number
}

/** One reliable, ordered, message-keeping byte pipe: a WebSocket in production, a queue in the simulator. */
export interface Pipe<T extends string | Uint8Array> {
  /** Queues a message. `done` runs once it has left this process (or the pipe closed): the sender's back-pressure. */
  send(data: T, done?: () => void): void
  /** Bytes or characters queued here and not yet taken by the network. */
  buffered(): number
  close(code: number, reason: string): void
  /** The other side takes messages of several frames, of at most so many characters: what is sent in one go may leave in one (`Batch`). */
  batch?(charsMax: number): void
}

/** What a pipe's reader is told. After `closed` nothing else is called. */
export interface PipeReader<T extends string | Uint8Array> {
  message(data: T): void
  closed(code: number, reason: string): void
}

/** Opens a mesh pipe to a configured peer. The dialer's promise rejects when the peer cannot be reached. */
export interface MeshDialer {
  dial(url: string, reader: PipeReader<Uint8Array>, signal: AbortSignal): Promise<Pipe<Uint8Array>>
}

/** Where the core's typed events go: `server` turns them into logs, metrics and spans. Must not throw. */
export type EventSink = (event: CoreEvent) => void

export type CoreEvent = { readonly type: string; readonly actor?: string; readonly [field: string]: unknown }
