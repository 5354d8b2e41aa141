import type { ProxySide } from "./proxy.ts"

/**
 * Cuts one direction of a connection into what a rule can act on without breaking what comes after it: whole WebSocket messages (RFC 6455
 * §5.2), each with the bytes that carry it. Every frame of a client has a mask of its own, so a message can be left out, or sent again, as it is.
 *
 * What is no message passes as it comes: HTTP heads, control frames, everything of a connection that is not upgraded.
 */
export interface ProxyMessage {
  readonly side: Exclude<ProxySide, "both">
  readonly kind: "text" | "binary"
  /** Unmasked. */
  readonly payload: Buffer
}

export interface Piece {
  readonly bytes: Buffer
  readonly message?: ProxyMessage
}

/** Longer heads and messages are not waited for: from there on the direction is bytes. */
const headBytesMax = 65_536
const messageBytesMax = 67_108_864

const upgraded: Readonly<Record<ProxyMessage["side"], RegExp>> = {
  up: /^GET [^\r\n]*\r\n(?:[^\r\n]*\r\n)*?upgrade: *websocket\r\n/i,
  down: /^HTTP\/1\.1 101 /,
}

export class MessageCutter {
  readonly #side: ProxyMessage["side"]
  #phase: "head" | "frames" | "bytes" = "head"
  #left: Buffer = Buffer.alloc(0)
  /** A message in several frames, as far as it came. */
  #parts: { readonly kind: ProxyMessage["kind"]; readonly raw: Buffer[]; readonly payloads: Buffer[] } | undefined

  constructor(side: ProxyMessage["side"]) {
    this.#side = side
  }

  take(chunk: Buffer): Piece[] {
    if (this.#phase === "bytes") return [{ bytes: chunk }]
    this.#left = this.#left.length === 0 ? chunk : Buffer.concat([this.#left, chunk])
    const pieces: Piece[] = []
    if (this.#phase === "head" && !this.#head(pieces)) return pieces
    while (this.#phase === "frames" && this.#frame(pieces));
    return pieces
  }

  /** What is left when the direction ends. */
  end(): Piece[] {
    const bytes = Buffer.concat([...(this.#parts?.raw ?? []), this.#left])
    this.#left = Buffer.alloc(0)
    this.#parts = undefined
    return bytes.length === 0 ? [] : [{ bytes }]
  }

  #head(pieces: Piece[]): boolean {
    const end = this.#left.indexOf("\r\n\r\n")
    if (end < 0) {
      // What cannot become a head any more is not waited for.
      const begins = this.#side === "up" ? "GET " : "HTTP/"
      if (this.#left.length > headBytesMax || !begins.startsWith(this.#left.toString("latin1", 0, begins.length)))
        this.#giveUp(pieces)
      return false
    }
    const head = this.#left.subarray(0, end + 4)
    if (!upgraded[this.#side].test(head.toString("latin1"))) {
      this.#giveUp(pieces)
      return false
    }
    pieces.push({ bytes: head })
    this.#left = this.#left.subarray(end + 4)
    this.#phase = "frames"
    return true
  }

  #giveUp(pieces: Piece[]): void {
    this.#phase = "bytes"
    pieces.push(...this.end())
  }

  /** @returns whether there was a whole frame */
  #frame(pieces: Piece[]): boolean {
    const left = this.#left
    if (left.length < 2) return false
    const [first, second] = [left.readUInt8(0), left.readUInt8(1)]
    let header = 2
    let length = second & 0x7f
    if (length === 126) {
      if (left.length < 4) return false
      length = left.readUInt16BE(2)
      header = 4
    } else if (length === 127) {
      if (left.length < 10) return false
      length = Number(left.readBigUInt64BE(2))
      header = 10
    }
    const masked = (second & 0x80) !== 0
    const body = header + (masked ? 4 : 0)
    if (length > messageBytesMax) {
      this.#giveUp(pieces)
      return false
    }
    if (left.length < body + length) return false
    const bytes = left.subarray(0, body + length)
    this.#left = left.subarray(body + length)
    const payload = masked ? unmasked(bytes.subarray(body), bytes.subarray(header, body)) : bytes.subarray(body)
    this.#take(pieces, { opcode: first & 0x0f, final: (first & 0x80) !== 0, bytes, payload })
    return true
  }

  #take(
    pieces: Piece[],
    frame: { readonly opcode: number; readonly final: boolean; readonly bytes: Buffer; readonly payload: Buffer },
  ): void {
    const { opcode, final, bytes, payload } = frame
    if (opcode > 2) return void pieces.push({ bytes })
    if (opcode > 0) this.#parts = { kind: opcode === 1 ? "text" : "binary", raw: [], payloads: [] }
    const parts = this.#parts
    // The middle of a message that never began: whoever reads it decides.
    if (parts === undefined) return void pieces.push({ bytes })
    parts.raw.push(bytes)
    parts.payloads.push(payload)
    if (!final) return
    this.#parts = undefined
    const whole = parts.raw.length === 1 ? bytes : Buffer.concat(parts.raw)
    const said = parts.payloads.length === 1 ? payload : Buffer.concat(parts.payloads)
    pieces.push({ bytes: whole, message: { side: this.#side, kind: parts.kind, payload: said } })
  }
}

function unmasked(bytes: Buffer, mask: Buffer): Buffer {
  const clear = Buffer.allocUnsafe(bytes.length)
  for (let i = 0; i < bytes.length; i++) clear[i] = (bytes[i] ?? 0) ^ (mask[i & 3] ?? 0)
  return clear
}
