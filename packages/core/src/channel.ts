import type { AttachBody, ServerFrame, SojournError } from "@sojourn/protocol"
import type { Asker } from "./admission.ts"
import type { HostAttach, SessionFrame } from "./attach.ts"
import type { Undo } from "./ports.ts"

/**
 * One attach as its gateway sees it: `open` until it is refused or ends; `closing`: refused, and nothing that comes any more is handed on, so
 * that no call's number is passed over; `closed`.
 *
 * What was handed on before is answered first: it is done anyway, and to be asked for it once more would cost what refusing is to save.
 */
export class Channel implements Asker {
  period = -1
  attach: HostAttach | undefined
  /** Highest call handed on, and highest one answered: replies come in the calls' order. */
  #asked: number
  #answered: number
  #queries: number
  #close: (() => void) | undefined
  #undo: Undo | undefined
  #closed = false

  constructor(body: AttachBody) {
    this.#answered = body.acked
    this.#asked = Math.max(body.acked, ...(body.calls ?? []).map(({ c }) => c))
    this.#queries = body.queries?.length ?? 0
  }

  get open(): boolean {
    return !this.#closed && this.#close === undefined
  }

  get closed(): boolean {
    return this.#closed
  }

  handOn(frame: SessionFrame): void {
    if (frame.t === "call") this.#asked = Math.max(this.#asked, frame.c)
    else if (frame.t === "query") this.#queries++
  }

  /** To be told after the frame has been sent. */
  told(frame: ServerFrame): void {
    if (frame.t === "reply") this.#answered = Math.max(this.#answered, frame.c)
    else if (frame.t === "answer") this.#queries--
    else return
    this.#look()
  }

  /** Runs `close` once everything handed on is answered, and after `error.retryAfterMs` at the latest. */
  refuse(error: SojournError, after: (ms: number, fn: () => void) => Undo, close: () => void): void {
    if (!this.open) return
    this.#close = close
    this.#undo = after(error.retryAfterMs ?? 0, () => this.#finish())
    this.#look()
  }

  /** It is over, whoever ended it. */
  end(): void {
    this.#closed = true
    this.#undo?.()
    this.#close = undefined
  }

  #look(): void {
    if (this.#close && this.#answered >= this.#asked && this.#queries <= 0) this.#finish()
  }

  #finish(): void {
    const close = this.#close
    this.end()
    close?.()
  }
}
