import { patchText, type TextPatch } from "./pieces.ts"

const words = "the state of a user is at the place where the user is and it never stayed behind nor came twice".split(
  " ",
)
const textCharsMax = 6_000

/** What somebody might type who has nothing to say: words at a wandering caret, corrections, now and then a stretch cut out. */
export function* typing(random: () => number): Generator<readonly TextPatch[], never> {
  let text = ""
  let caret = 0
  const type = (patch: TextPatch): readonly TextPatch[] => {
    text = patchText(text, patch)
    caret = patch[0] + patch[2].length
    return [patch]
  }
  for (;;) {
    const chance = random()
    if (text.length > textCharsMax) yield type([Math.floor(random() * 2000), 2000, ""])
    else if (chance < 0.04) caret = Math.floor(random() * (text.length + 1))
    else if (chance < 0.14 && caret > 0) yield type([caret - 1, 1, ""])
    else if (chance < 0.16 && text.length > 20) {
      const at = Math.floor(random() * (text.length - 10))
      yield type([at, Math.floor(random() * 10), ""])
    } else yield type([caret, 0, `${words[Math.floor(random() * words.length)] ?? ""}${chance > 0.97 ? "\n" : " "}`])
  }
}

/** Edits that change no text: calls that are counted, and leave nothing behind that grows. */
export function* idling(): Generator<readonly TextPatch[], never> {
  for (;;) yield []
}
