import { SojournError } from "./errors.ts"
import { frameLimits } from "./frames.ts"

/**
 * Several frames in one message, a line feed between each two: JSON has none inside, unless somebody puts it there to please the eye. Whoever
 * takes such messages says so as the connection begins, and how long they may be (`batch` in `hello` and `welcome`).
 */
export const frameSeparator = "\n"

/** The frames of a message, in order. Throws BAD_FRAME where there are too many. */
export function framesIn(message: string): readonly string[] {
  if (!message.includes(frameSeparator)) return [message]
  const { batchCharsMax: charsMax, batchFramesMax: framesMax } = frameLimits
  const frames = message.length > charsMax ? undefined : message.split(frameSeparator, framesMax + 1)
  if (!frames || frames.length > framesMax)
    throw new SojournError(
      "BAD_FRAME",
      `a message of several frames must have at most ${charsMax} characters and ${framesMax} frames, got ${message.length} characters`,
    )
  return frames
}

/**
 * Gathers frames until somebody flushes them, and gives `send` a message at a time. As long as the other side takes no messages of several
 * frames, each is sent at once.
 */
export class Batch {
  readonly #send: (message: string) => void
  readonly #begun: () => void
  #charsMax = 0
  #frames: string[] = []
  #chars = 0

  /** `begun`: the first frame waits to be flushed. */
  constructor(send: (message: string) => void, begun: () => void = () => undefined) {
    this.#send = send
    this.#begun = begun
  }

  /** Characters that wait. */
  get chars(): number {
    return this.#chars
  }

  /** What the other side says that it takes; anything but a positive number: nothing. */
  takes(charsMax: number | undefined): void {
    this.#charsMax = charsMax !== undefined && charsMax > 0 ? Math.min(charsMax, frameLimits.batchCharsMax) : 0
  }

  add(frame: string): void {
    const { length } = frame
    if (this.#chars + length > this.#charsMax || this.#frames.length === frameLimits.batchFramesMax) this.flush()
    if (length >= this.#charsMax) {
      this.#send(frame)
      return
    }
    this.#frames.push(frame)
    this.#chars += length + 1
    if (this.#frames.length === 1) this.#begun()
  }

  flush(): void {
    if (this.#frames.length === 0) return
    const message = this.#frames.length === 1 ? (this.#frames[0] as string) : this.#frames.join(frameSeparator)
    this.#frames = []
    this.#chars = 0
    this.#send(message)
  }
}
