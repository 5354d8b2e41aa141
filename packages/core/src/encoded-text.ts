import { codec, copied, type Encoded } from "@sojourn/protocol"

const encoder = new TextEncoder()

/**
 * An encoded value as the text that it is in a journal and on the wire: made once for all the places where it is written, sharing nothing
 * with what it was made of, and in a fraction of the memory of its objects. Whoever reads it as a value has it parsed, each time.
 */
export class EncodedText implements Encoded {
  readonly text: string

  constructor(encoded: Encoded) {
    this.text = JSON.stringify(encoded)
  }

  get v(): unknown {
    return this.toJSON().v
  }

  get m(): unknown {
    return this.toJSON().m
  }

  /** A new one with each call. */
  toJSON(): Encoded {
    return JSON.parse(this.text) as Encoded
  }
}

/** Throws where the codec does not carry the value. */
export function encodeText(value: unknown): EncodedText {
  return new EncodedText(codec.encode(value))
}

/** What `JSON.stringify` makes of it. */
export function textOf(encoded: Encoded): string {
  return encoded instanceof EncodedText ? encoded.text : JSON.stringify(encoded)
}

/** The value in it, sharing no object with it. */
export function plain(encoded: Encoded): Encoded {
  return encoded instanceof EncodedText ? encoded.toJSON() : copied(encoded)
}

/** Bytes of this text where it is stored or sent. */
export function utf8Bytes(text: string): number {
  return encoder.encode(text).length
}
