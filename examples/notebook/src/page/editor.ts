import { caretAfter, caretIn, difference } from "../changes.ts"
import type { Document } from "../document.ts"
import type { Draft } from "../draft.ts"
import type { TextPatch } from "../pieces.ts"

/** A position in the text that stays at its words, whoever types around it. */
export interface Anchor {
  at: number
}

/** The text area: typing becomes edits, what others change arrives without moving the caret off its place. */
export interface Editor {
  receive(document: Document): void
  /** Inserts text as if it were typed at this position, wherever the caret is. */
  insert(at: number, text: string): void
  anchor(at: number): Anchor
  /** Scrolls to the top, unless somebody writes here. */
  showTop(): void
  refuse(n: number): void
  readonly text: string
}

export function createEditor(
  area: HTMLTextAreaElement,
  draft: Draft,
  onEdit: (patches: readonly TextPatch[]) => void,
): Editor {
  const anchors: Anchor[] = []
  const shift = (patch: TextPatch): void => {
    for (const anchor of anchors) anchor.at = caretAfter(anchor.at, patch)
  }
  let composing = false
  let waiting: Document | undefined

  const typed = (): void => {
    const patch = difference(draft.text, area.value, area.selectionEnd)
    if (patch === undefined) return
    shift(patch)
    onEdit([patch])
  }
  area.addEventListener("input", () => {
    if (!composing) typed()
  })
  // While a character is being composed the field is the input method's: nothing is sent and nothing arrives.
  area.addEventListener("compositionstart", () => (composing = true))
  area.addEventListener("compositionend", () => {
    composing = false
    typed()
    if (waiting !== undefined) editor.receive(waiting)
  })

  const nearEnd = (): boolean => area.scrollHeight - area.scrollTop - area.clientHeight < 80

  const replaceAll = (): void => {
    const { selectionStart, selectionEnd, scrollTop } = area
    const moved = (caret: number): number => caretIn(draft.text, area.value, caret)
    const [start, end] = [moved(selectionStart), moved(selectionEnd)]
    for (const anchor of anchors) anchor.at = moved(anchor.at)
    area.value = draft.text
    area.setSelectionRange(start, end)
    area.scrollTop = scrollTop
  }

  const editor: Editor = {
    receive(document) {
      if (composing) {
        waiting = document
        return
      }
      waiting = undefined
      const { patches, reset } = draft.receive(document)
      // Whoever reads at the end goes on reading there.
      const follow = area.scrollTop > 0 && nearEnd()
      if (reset) replaceAll()
      else
        for (const patch of patches) {
          const [at, del, ins] = patch
          area.setRangeText(ins, at, at + del, "preserve")
          shift(patch)
        }
      if (follow) area.scrollTop = area.scrollHeight
    },
    insert(at, text) {
      if (composing) return
      const atEnd = area.selectionStart === area.value.length && area.selectionEnd === area.value.length
      const follow = at === area.value.length && nearEnd()
      area.setRangeText(text, at, at, atEnd && at === area.value.length ? "end" : "preserve")
      if (follow) area.scrollTop = area.scrollHeight
      shift([at, 0, text])
      onEdit([[at, 0, text]])
    },
    anchor(at) {
      const anchor = { at }
      anchors.push(anchor)
      return anchor
    },
    refuse(n) {
      draft.refuse(n)
      replaceAll()
    },
    showTop() {
      if (document.activeElement !== area) area.scrollTop = 0
    },
    get text() {
      return area.value
    },
  }
  return editor
}
