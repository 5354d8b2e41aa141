// The actors of `npm run chaos`. An account keeps which calls of each client were applied, in the order in which they were, so that a ledger
// outside of the product can say what was lost, repeated or reordered.
import { actor, ActorError, setup } from "@sojourn/core"

/** First and last number of calls that were applied one right after the other. */
export type Run = [from: number, to: number]

export interface Account {
  /** Calls applied, of all clients. */
  total: number
  runs: Record<string, Run[]>
}

/** Defects of the actors, to see that the judge finds them: in one call of forty, or two neighbours. */
export const plants = ["lost", "duplicated", "disordered"] as const
export type Plant = (typeof plants)[number]

/** What is applied where call `n` is to be. */
function planted(plant: Plant, n: number): readonly number[] {
  const i = n % 40
  if (plant === "disordered") return i === 7 ? [] : i === 8 ? [n, n - 1] : [n]
  return i !== 7 ? [n] : plant === "lost" ? [] : [n, n]
}

/** A client whose calls end without being applied leaves holes; so many of them are kept. */
const runsMax = 2_000

export function makeApp(plant?: Plant) {
  const account = actor({
    state: (): Account => ({ total: 0, runs: {} }),
    actions: {
      record(c, who: string, n: number) {
        const runs = (c.state.runs[who] ??= [])
        for (const at of plant === undefined ? [n] : planted(plant, n)) {
          const last = runs.at(-1)
          if (last !== undefined && last[1] + 1 === at) last[1] = at
          else if (runs.length < runsMax) runs.push([at, at])
          else throw new ActorError("RUNS_FULL", `${who} has ${runsMax} holes`)
        }
        return (c.state.total += 1)
      },
      /** Nothing of it may stay. */
      refuse(c, who: string, n: number) {
        c.state.total += 1
        c.state.runs[who] = [[n, n]]
        throw new ActorError("REFUSED", "as asked", { n })
      },
    },
    queries: {
      whole: (c) => c.state,
    },
  })
  /** Makes a store grow. */
  const ballast = actor({
    state: () => ({ blocks: [] as string[] }),
    actions: {
      add(c, chars: number) {
        return c.state.blocks.push("b".repeat(chars))
      },
      drop(c) {
        c.state.blocks = []
      },
    },
  })
  return setup({ actors: { account, ballast } })
}

export type App = ReturnType<typeof makeApp>
