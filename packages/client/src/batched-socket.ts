import { Batch } from "@sojourn/protocol"
import type { SocketPort } from "./types.ts"

/** A socket on which what is sent in one go, until the next microtask, leaves in one message where the server takes that. */
export class BatchedSocket {
  readonly batch: Batch
  readonly #port: SocketPort
  readonly #failed: (cause: unknown) => void

  /** `failed`: what waited could not be sent, and nobody is there any more to be told by an exception. */
  constructor(port: SocketPort, failed: (cause: unknown) => void) {
    this.#port = port
    this.#failed = failed
    this.batch = new Batch(
      (message) => port.send(message),
      () => queueMicrotask(() => this.#flush()),
    )
  }

  send(frame: string): void {
    this.batch.add(frame)
  }

  buffered(): number {
    return this.batch.chars + this.#port.buffered()
  }

  /** What was sent before leaves before. */
  close(code: number, reason: string): void {
    this.#flush()
    this.#port.close(code, reason)
  }

  #flush(): void {
    try {
      this.batch.flush()
    } catch (cause) {
      this.#failed(cause)
    }
  }
}
