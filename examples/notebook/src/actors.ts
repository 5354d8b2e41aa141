import { ActorError, actor, setup } from "@sojourn/core"
import { applyEdit, emptyDocument, type Document, type Tally } from "./document.ts"
import { textOf, type TextPatch } from "./pieces.ts"

function edit(
  c: { readonly state: Document },
  writer: string,
  n: number,
  base: number,
  patches: readonly TextPatch[],
): number {
  try {
    return applyEdit(c.state, { writer, n, base, patches })
  } catch (cause) {
    if (cause instanceof RangeError) throw new ActorError("does-not-fit", cause.message)
    throw cause
  }
}

/** What a writer's page asks at the end: the text, and what was counted of its edits. */
function report(
  c: { readonly state: Document },
  writer: string,
): { text: string; seq: number; tally: Tally | undefined } {
  return { text: textOf(c.state.pieces), seq: c.state.seq, tally: c.state.tallies[writer] }
}

export const notebook = actor({ state: emptyDocument, actions: { edit }, queries: { report } })

/** The regions of the notebook that stays in the United States; elsewhere POPs serve it by relay and hold nothing of it. */
export const usRegions = ["us-*"]
export const usNotebook = actor({
  state: emptyDocument,
  residency: usRegions,
  actions: { edit },
  queries: { report },
})

const ballastChars = 4096

const withLuggage = {
  state: () => ({ ...emptyDocument(), ballast: [] as string[] }),
  actions: {
    edit,
    /** Adds so much. Random, so that no compression on the way could make it lighter. */
    load(c: { readonly state: { readonly ballast: string[] }; random(): number }, bytes: number) {
      const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
      for (let left = bytes; left > 0; left -= ballastChars) {
        let piece = ""
        for (let i = Math.min(left, ballastChars); i > 0; i--) piece += letters[Math.floor(c.random() * 64)]
        c.state.ballast.push(piece)
      }
    },
  },
  queries: { report },
}

/** A notebook with luggage, for measuring moves of a given size. */
export const traveller = actor(withLuggage)

/** The same, whose state stays in the United States: a client elsewhere is served from there. */
export const resident = actor({ ...withLuggage, residency: usRegions })

export const app = setup({ actors: { notebook, usNotebook, traveller, resident } })
export type App = typeof app
