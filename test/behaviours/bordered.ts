// Actors that may not be everywhere: by region, and by the schema that a POP's code knows.
import { actor } from "@sojourn/core"
import type { Probe } from "./app.ts"

export interface Card {
  readonly schema: number
  readonly steps: readonly number[]
  text: string
}

interface Note {
  text: string
}

/** Somebody is called `anna@eu`: what they bring into being stays in that part of the world. */
const lawOf = (who: { readonly id: string }): string[] => {
  const part = who.id.split("@")[1] ?? "eu"
  return [part, `${part}-*`]
}

export function bordered(probe: Probe, schema: number) {
  const note = {
    state: (): Note => ({ text: "" }),
    actions: {
      write(c: { state: Note }, text: string) {
        probe.ran.push(`write ${text}`)
        c.state.text += text
        return c.state.text.length
      },
    },
    queries: { read: (c: { state: Note }) => c.state.text },
  }
  const residency = (key: string, who: { readonly id: string }): string[] => {
    probe.ran.push(`residency ${key} ${who.id}`)
    probe.onStep?.(`residency ${key}`)
    return lawOf(who)
  }
  const step = (from: number) => (old: unknown) => {
    probe.ran.push(`migrate ${from}`)
    const card = old as Card
    const next: Card = { ...card, schema: from + 1, steps: [...card.steps, from] }
    probe.onStep?.(`migrate ${from}`)
    return next
  }
  const steps = Object.fromEntries(Array.from({ length: schema - 1 }, (_, i) => [i + 1, step(i + 1)]))
  return {
    euro: actor({ ...note, residency: ["eu", "eu-*"] }),
    citizen: actor({ ...note, residency }),
    closed: actor({ ...note, residency: ["eu", "eu-*"], relay: "deny" }),
    recluse: actor({ ...note, residency, relay: "deny" }),
    card: actor({
      state: (): Card => ({ schema, steps: [], text: "" }),
      version: schema,
      migrate: steps,
      actions: {
        write(c, text: string) {
          c.state.text += text
          return c.state.schema
        },
      },
      queries: { whole: (c) => c.state },
    }),
  }
}
