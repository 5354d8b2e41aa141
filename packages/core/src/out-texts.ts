import type { Encoded, ServerFrame } from "@sojourn/protocol"

type OutFrame = Extract<ServerFrame, { t: "out" }>

/**
 * Frames as text. One output goes to every session that may see it, at once, in frames that differ in channel and predecessor only: what they
 * carry is made text once. It is let go of as soon as what runs now has ended.
 */
export class OutTexts {
  #events: OutFrame["ev"]
  #eventsText = ""
  #patches: Encoded | undefined
  #patchesText = ""

  /** What `JSON.stringify` makes of it. */
  text(frame: ServerFrame): string {
    if (frame.t !== "out") return JSON.stringify(frame)
    const { ch, r, prev, ev, pt } = frame
    // The order in which they are made: some other one is none of this process's own.
    const events = ev === undefined ? "" : `,"ev":${this.#eventsOf(ev)}`
    const patches = pt === undefined ? "" : `,"pt":${this.#patchesOf(pt)}`
    return `{"t":"out","ch":${ch},"r":${r},"prev":${prev}${events}${patches}}`
  }

  #eventsOf(ev: NonNullable<OutFrame["ev"]>): string {
    if (ev !== this.#events) {
      this.#forgetSoon()
      this.#events = ev
      this.#eventsText = JSON.stringify(ev)
    }
    return this.#eventsText
  }

  #patchesOf(pt: Encoded): string {
    if (pt !== this.#patches) {
      this.#forgetSoon()
      this.#patches = pt
      this.#patchesText = JSON.stringify(pt)
    }
    return this.#patchesText
  }

  #forgetSoon(): void {
    if (this.#events !== undefined || this.#patches !== undefined) return
    queueMicrotask(() => {
      this.#events = this.#patches = undefined
      this.#eventsText = this.#patchesText = ""
    })
  }
}
