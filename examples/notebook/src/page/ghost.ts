import type { Anchor, Editor } from "./editor.ts"

/** Writes a passage, a few letters a second, so that both hands are free to travel. */
export interface Passage {
  readonly text: string
  /** At the end of the text, or at its top, where it stays out of another writer's way. */
  readonly where: "end" | "top"
}

export const deskPassage: Passage = {
  where: "end",
  text: `A notebook used to lie on one desk. Whoever was far from the desk wrote letters to it, and waited.

This one lies where its reader is. In Boston it lies in Boston. When the reader steps off a plane in Tokyo and opens it, the page says: I used to be over there, and the desk in Tokyo asks the desk in Boston for it, once. What was written on the way is in it. Nothing of it is in it twice.

Between the two desks is the Pacific, and light takes its time. That is the floor, and no cleverness gets below it; everything above it is ours to answer for.

`,
}

export const phonePassage: Passage = {
  where: "top",
  text: `From the phone, in another city. There is one notebook, at one place; the other desk and this one both write in it, and neither waits for the other. Whatever the line does, each letter is in it once.

`,
}

const beatMs = 140

export interface Ghost {
  /** @returns whether it writes now */
  toggle(): boolean
  stop(): void
}

export function createGhost(editor: Editor, { text, where }: Passage): Ghost {
  let timer: ReturnType<typeof setInterval> | undefined
  let next = 0
  let anchor: Anchor | undefined
  const beat = (): void => {
    const size = 2 + Math.floor(Math.random() * 4)
    const letters = text.slice(next, next + size)
    next = (next + size) % text.length
    if (next < size) next = 0
    editor.insert(anchor?.at ?? editor.text.length, letters)
    if (anchor === undefined) return
    anchor.at += letters.length
    editor.showTop()
  }
  const begin = (): void => {
    if (next > 0) return
    if (where === "top") {
      anchor ??= editor.anchor(0)
      if (editor.text !== "") editor.insert(anchor.at, "\n\n")
    } else if (editor.text !== "" && !editor.text.endsWith("\n")) editor.insert(editor.text.length, "\n\n")
  }
  const stop = (): void => {
    clearInterval(timer)
    timer = undefined
  }
  return {
    toggle() {
      if (timer === undefined) {
        begin()
        timer = setInterval(beat, beatMs)
      } else stop()
      return timer !== undefined
    },
    stop,
  }
}
