import type { Editor } from "./editor.ts"

/** Writes a passage at the end of the text, a few letters a second, so that one hand is free to travel. */
const passage = `A notebook used to lie on one desk. Whoever was far from the desk wrote letters to it, and waited.

This one lies where its reader is. In Boston it lies in Boston. When the reader steps off a plane in Tokyo and opens it, the page says: I used to be over there, and the desk in Tokyo asks the desk in Boston for it, once. What was written on the way is in it. Nothing of it is in it twice.

Between the two desks is the Pacific, and light takes its time. That is the floor, and no cleverness gets below it; everything above it is ours to answer for.

`
const beatMs = 70

export interface Ghost {
  toggle(): boolean
}

export function createGhost(editor: Editor): Ghost {
  let timer: ReturnType<typeof setInterval> | undefined
  let next = 0
  const beat = (): void => {
    const size = 1 + Math.floor(Math.random() * 3)
    const letters = passage.slice(next, next + size)
    next = (next + size) % passage.length
    if (next < size) next = 0
    editor.insert(editor.text.length, letters)
  }
  return {
    toggle() {
      if (timer === undefined) {
        if (next === 0 && editor.text !== "" && !editor.text.endsWith("\n")) editor.insert(editor.text.length, "\n\n")
        timer = setInterval(beat, beatMs)
      } else {
        clearInterval(timer)
        timer = undefined
      }
      return timer !== undefined
    },
  }
}
