import { across } from "./changes.ts"
import { changesSince, recentMax, type Document, type Edit } from "./document.ts"
import { lengthOf, patchText, textOf, type TextPatch } from "./pieces.ts"

/**
 * What a window shows: the text as this writer sees it, own edits at once, others' as they come. It is a second account of the text:
 * own edits enter it where they are typed and never come back out of the actor's state, so as soon as nothing is under way it must
 * equal that state by itself. `differences` counts where it did not.
 *
 * Where two windows type at the same time the two sides may order their edits differently; then the actor's text counts, and the
 * draft begins anew from it (`resyncs`).
 */
export interface Received {
  /** What others changed, in the positions of the text that is shown. */
  readonly patches: readonly TextPatch[]
  /** The text was replaced as a whole. */
  readonly reset: boolean
}

interface Pending {
  readonly n: number
  patches: TextPatch[]
}

export class Draft {
  readonly writer: string
  text = ""
  /** Times when nothing was under way and the text was compared. */
  comparisons = 0
  differences = 0
  resyncs = 0
  #seq = 0
  #pending: Pending[] = []
  /** Others changed the text while own edits were under way. */
  #contended = false
  #last: Document | undefined

  constructor(writer: string) {
    this.writer = writer
  }

  /** Own edits that the actor's state does not show yet. */
  get pending(): number {
    return this.#pending.length
  }

  /** Enters an own edit; the result is what the actor is to be told. */
  type(n: number, patches: readonly TextPatch[]): Edit {
    for (const patch of patches) this.text = patchText(this.text, patch)
    this.#pending.push({ n, patches: [...patches] })
    return { writer: this.writer, n, base: this.#seq, patches }
  }

  /** The actor refused an own edit: it is taken out again. */
  refuse(n: number): Received {
    this.#pending = this.#pending.filter((one) => one.n !== n)
    return this.#reset(this.#last)
  }

  /** Takes in a state of the actor; states come in order, and some may be left out. */
  receive(document: Document): Received {
    const first = this.#last === undefined
    this.#last = document
    if (first || document.seq < this.#seq || document.seq - this.#seq > recentMax) {
      this.#seq = document.seq
      this.#settlePending(document)
      if (!first && this.#pending.length === 0 && this.text === textOf(document.pieces))
        return { patches: [], reset: false }
      return this.#reset(document)
    }
    const patches: TextPatch[] = []
    for (const change of changesSince(document, this.#seq, "")) {
      if (change.writer === this.writer) this.#pending.shift()
      else patches.push(...this.#others(change.patches))
    }
    this.#seq = document.seq
    this.#settlePending(document)
    return this.#compare(document, patches)
  }

  #others(theirs: readonly TextPatch[]): TextPatch[] {
    let shown = [...theirs]
    for (const own of this.#pending) {
      this.#contended = true
      ;[own.patches, shown] = across(own.patches, shown)
    }
    for (const patch of shown) this.text = patchText(this.text, patch)
    return shown
  }

  #compare(document: Document, patches: readonly TextPatch[]): Received {
    if (this.#pending.length > 0) return { patches, reset: false }
    const contended = this.#contended
    this.#contended = false
    this.comparisons += 1
    if (this.text === textOf(document.pieces)) return { patches, reset: false }
    if (contended) this.resyncs += 1
    else this.differences += 1
    return this.#reset(document)
  }

  /** Drops what the actor's count says was applied. */
  #settlePending(document: Document): void {
    const runs = document.tallies[this.writer]?.runs ?? []
    const last = runs[runs.length - 1]?.[1] ?? 0
    this.#pending = this.#pending.filter(({ n }) => n > last)
  }

  #reset(document: Document | undefined): Received {
    if (document === undefined) return { patches: [], reset: false }
    this.text = textOf(document.pieces)
    let length = lengthOf(document.pieces)
    for (const own of this.#pending) {
      this.#contended = true
      own.patches = own.patches.map(([at, del, ins]) => {
        const start = Math.min(at, length)
        const patch: TextPatch = [start, Math.min(del, length - start), ins]
        length += ins.length - patch[1]
        this.text = patchText(this.text, patch)
        return patch
      })
    }
    return { patches: [], reset: true }
  }
}
