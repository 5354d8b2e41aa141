import { SojournError } from "@sojourn/protocol"
import type { Limits } from "./limits.ts"
import type { Blob, MeshMessage } from "./mesh-messages.ts"
import type { Clock, EventSink, Primitives, Undo } from "./ports.ts"

/**
 * Large bodies between POPs, in chunks (docs/handoff.md, "Large bodies").
 *
 * A blob is named by the hash of its chunks' hashes, and whoever announces it (GRANT, PRECOPY) lists those: so each chunk is checked by
 * itself as it comes, may come twice or in any order, and one that was swapped or damaged is simply not that chunk. The sender begins
 * with a window of chunks without being asked; the receiver asks for the rest as they arrive (FETCH), and again for what is
 * missing after a silence or when a link comes back. So a transfer costs one round trip and its bytes, and goes on where it broke.
 *
 * What lies here is bytes in memory without any say about ownership: a GRANT whose blob is complete is then a GRANT like any other. Both sides
 * are bounded by `stagedBytesMax`; what is pushed out, or makes no progress for `locateMsMax`, is forgotten, and its GRANT is sent again anyhow.
 */
export interface TransferPorts {
  readonly clock: Clock
  readonly limits: Limits
  readonly primitives: Primitives
  readonly events: EventSink
  send(pop: string, message: MeshMessage, body?: Uint8Array): boolean
  /** False: too much waits for that POP already. It asks again for what did not come. */
  room(pop: string): boolean
  /** A chunk came that was wanted: whoever waits for this actor may wait on. */
  progressed(actor: string): void
  /** The bytes of a blob that this POP announced to `pop` earlier and holds no longer; undefined: it has no such blob any more. */
  again(actor: string, pop: string): Promise<Uint8Array | undefined>
}

interface Incoming {
  readonly actor: string
  readonly blob: Blob
  from: string
  readonly parts: (Uint8Array | undefined)[]
  readonly asked: Set<number>
  got: number
  movedAt: number
  done: ((bytes: Uint8Array) => void) | undefined
  bytes: Uint8Array | undefined
  timer: Undo | undefined
}

interface Outgoing {
  readonly to: string
  readonly blob: Blob
  readonly bytes: Uint8Array
}

/** Chunks that one FETCH may name. */
export const fetchMax = 64

export class Transfers {
  readonly #o: TransferPorts
  readonly #in = new Map<string, Incoming>()
  /** By actor and POP: what one POP asks for does not end what another one is being sent. */
  readonly #out = new Map<string, Outgoing>()
  /** Bodies that are being read again. */
  readonly #reading = new Set<string>()
  #inBytes = 0
  #outBytes = 0

  constructor(ports: TransferPorts) {
    this.#o = ports
  }

  /** The description of these bytes. */
  blob(bytes: Uint8Array): Blob {
    const { limits, primitives } = this.#o
    const chunks: string[] = []
    for (let at = 0; at < bytes.length; at += limits.chunkBytes)
      chunks.push(primitives.digest(bytes.subarray(at, at + limits.chunkBytes)))
    return { id: blobId(chunks, bytes.length, primitives), bytes: bytes.length, size: limits.chunkBytes, chunks }
  }

  // ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Keeps the bytes for `to`, and sends the first window of them unless they are on their way already. The announcement goes first. */
  push(actor: string, to: string, blob: Blob, bytes: Uint8Array): void {
    if (this.#out.get(outKey(actor, to))?.blob.id === blob.id) return
    this.#keep(actor, { to, blob, bytes })
    for (let i = 0; i < Math.min(this.#window(blob), blob.chunks.length); i++)
      if (!this.#sendChunk(actor, to, blob, bytes, i)) return
  }

  /** The actor has gone: nobody needs a copy from here. */
  sent(actor: string): void {
    for (const [key, out] of this.#out) if (key === outKey(actor, out.to)) this.#drop(key)
  }

  #drop(key: string): void {
    this.#outBytes -= this.#out.get(key)?.bytes.length ?? 0
    this.#out.delete(key)
  }

  fetch(from: string, actor: string, id: string, missing: readonly number[]): void {
    const serve = (out: Outgoing | undefined): void => {
      if (out?.blob.id !== id) return
      for (const i of missing.slice(0, fetchMax))
        if (i >= out.blob.chunks.length || !this.#sendChunk(actor, from, out.blob, out.bytes, i)) return
    }
    const key = outKey(actor, from)
    const known = this.#out.get(key)
    if (known) {
      serve(known)
      return
    }
    // Read once, however often it is asked for meanwhile: who asks says again what has not come.
    if (this.#reading.has(key)) return
    this.#reading.add(key)
    this.#o.again(actor, from).then(
      (bytes) => {
        this.#reading.delete(key)
        if (bytes === undefined || this.#out.has(key)) return
        this.#keep(actor, { to: from, blob: this.blob(bytes), bytes })
        serve(this.#out.get(key))
      },
      (error: unknown) => {
        this.#reading.delete(key)
        this.#o.events({ type: "store.failed", actor, error })
      },
    )
  }

  #sendChunk(actor: string, to: string, { id, size }: Blob, bytes: Uint8Array, at: number): boolean {
    return (
      this.#o.room(to) &&
      this.#o.send(to, { t: "CHUNK", actor, blob: id, at }, bytes.subarray(at * size, (at + 1) * size))
    )
  }

  #keep(actor: string, out: Outgoing): void {
    const key = outKey(actor, out.to)
    this.#drop(key)
    this.#out.set(key, out)
    this.#outBytes += out.bytes.length
    for (const oldest of this.#out.keys()) {
      if (this.#outBytes <= this.#o.limits.stagedBytesMax || oldest === key) break
      this.#drop(oldest)
    }
  }

  // ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `done` runs once with all bytes: at once if they are here. Announced again, what has come of it is kept. */
  expect(actor: string, from: string, blob: Blob, done: (bytes: Uint8Array) => void): void {
    const { limits, primitives, clock } = this.#o
    const count = Math.ceil(blob.bytes / blob.size)
    if (
      blob.bytes > limits.meshMessageBytesMax ||
      count !== blob.chunks.length ||
      blobId(blob.chunks, blob.bytes, primitives) !== blob.id
    )
      throw new SojournError("BAD_FRAME", `POP ${from} announced a body of ${blob.bytes} bytes for ${actor} wrongly`)
    let known = this.#in.get(actor)
    if (known && known.blob.id !== blob.id) {
      this.forget(actor)
      known = undefined
    }
    if (known?.bytes) {
      done(known.bytes)
      return
    }
    if (known) {
      known.from = from
      known.done = done
      return
    }
    const incoming: Incoming = {
      actor,
      blob,
      from,
      parts: [],
      // The sender begins with these by itself.
      asked: new Set(Array.from({ length: Math.min(count, this.#window(blob)) }, (_, i) => i)),
      got: 0,
      movedAt: clock.mono(),
      done,
      bytes: undefined,
      timer: undefined,
    }
    this.#in.set(actor, incoming)
    this.#inBytes += blob.bytes
    for (const oldest of this.#in.keys()) {
      if (this.#inBytes <= limits.stagedBytesMax || oldest === actor) break
      this.#o.events({ type: "transfer.pushed-out", actor: oldest })
      this.forget(oldest)
    }
    this.#watch(incoming)
  }

  chunk(actor: string, id: string, at: number, bytes: Uint8Array): void {
    const incoming = this.#in.get(actor)
    if (incoming?.blob.id !== id || incoming.bytes || at >= incoming.blob.chunks.length || incoming.parts[at]) return
    const { primitives, clock, events } = this.#o
    // Its length too: its hash is of the announcer's choice, and so would be what it takes here.
    const { size, bytes: whole, chunks } = incoming.blob
    if (bytes.length !== Math.min(size, whole - at * size) || primitives.digest(bytes) !== chunks[at]) {
      events({ type: "transfer.chunk-refused", actor, from: incoming.from, at })
      incoming.asked.delete(at)
      return
    }
    incoming.parts[at] = bytes
    incoming.asked.delete(at)
    incoming.got++
    incoming.movedAt = clock.mono()
    this.#o.progressed(actor)
    if (incoming.got < incoming.blob.chunks.length) {
      if (incoming.asked.size * 2 <= this.#window(incoming.blob)) this.#ask(incoming)
      return
    }
    const all = new Uint8Array(whole)
    incoming.parts.forEach((part, i) => {
      if (part) all.set(part, i * size)
    })
    incoming.parts.length = 0
    incoming.bytes = all
    const { done } = incoming
    incoming.done = undefined
    done?.(all)
  }

  /** The complete bytes of this blob, if they are here. */
  complete(actor: string, id: string): Uint8Array | undefined {
    const incoming = this.#in.get(actor)
    return incoming?.blob.id === id ? incoming.bytes : undefined
  }

  forget(actor: string): void {
    const incoming = this.#in.get(actor)
    if (!incoming) return
    incoming.timer?.()
    this.#in.delete(actor)
    this.#inBytes -= incoming.blob.bytes
  }

  /** A link came up: what was under way on the old one may be lost. */
  linkUp(pop: string): void {
    for (const incoming of this.#in.values())
      if (incoming.from === pop && !incoming.bytes) {
        incoming.asked.clear()
        this.#ask(incoming)
      }
  }

  stop(): void {
    for (const actor of [...this.#in.keys()]) this.forget(actor)
    this.#out.clear()
  }

  #window(blob: Blob): number {
    return Math.max(2, Math.min(fetchMax, Math.floor(this.#o.limits.chunkWindowBytes / blob.size)))
  }

  #ask(incoming: Incoming): void {
    const { blob, parts, asked, actor, from } = incoming
    const missing: number[] = []
    for (let i = 0; i < blob.chunks.length && asked.size < this.#window(blob); i++)
      if (!parts[i] && !asked.has(i)) {
        asked.add(i)
        missing.push(i)
      }
    if (missing.length > 0) this.#o.send(from, { t: "FETCH", actor, blob: blob.id, missing })
  }

  #watch(incoming: Incoming): void {
    const { clock, limits, events } = this.#o
    incoming.timer = clock.after(limits.chunkStallMs, () => {
      const silent = clock.mono() - incoming.movedAt
      if (silent >= limits.locateMsMax) {
        // Complete and never used, or broken: the bytes go, nothing else does.
        if (!incoming.bytes) events({ type: "transfer.stalled", actor: incoming.actor, from: incoming.from })
        this.forget(incoming.actor)
        return
      }
      if (!incoming.bytes && silent >= limits.chunkStallMs) {
        incoming.asked.clear()
        this.#ask(incoming)
      }
      this.#watch(incoming)
    })
  }
}

function outKey(actor: string, to: string): string {
  return `${to} ${actor}`
}

function blobId(chunks: readonly string[], bytes: number, primitives: Primitives): string {
  return primitives.digest(`${bytes} ${chunks.join(" ")}`)
}
