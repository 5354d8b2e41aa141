// Actors that call each other, as a test says.
import { actor } from "@sojourn/core"
import type { Probe } from "./app.ts"

/** One thing that a turn does: it asks the actor `to` to do `then` in a turn named `id`, or, with `query`, for what it has done. */
export interface Hop {
  readonly id: string
  readonly to: string
  readonly then?: readonly Hop[]
  readonly query?: boolean
  /** The turn goes on if this fails, and notes how. */
  readonly caught?: boolean
}

interface Other {
  run(id: string, hops: readonly Hop[]): Promise<void>
  down(keys: readonly string[]): Promise<number>
  readonly query: { done(): Promise<string[]> }
}

export function hopping(probe: Probe) {
  return {
    hop: actor({
      state: () => ({ done: [] as string[] }),
      actions: {
        async run(c, id: string, hops: readonly Hop[]): Promise<void> {
          probe.ran.push(`${c.pop} runs ${id}`)
          await probe.gate?.(id)
          c.state.done.push(id)
          const { hop } = c.actors
          for (const { to, id: next, then = [], query, caught } of hops) {
            const other = hop?.get<Other>(to)
            try {
              await (query ? other?.query.done() : other?.run(next, then))
            } catch (error) {
              if (!caught) throw error
              c.state.done.push(`${next}: ${(error as { code: string }).code}`)
            }
          }
        },
        /** Each of these is called by the one before it. Answers how many turns there were. */
        async down(c, [next, ...rest]: readonly string[]): Promise<number> {
          c.state.done.push("down")
          if (next === undefined) return 1
          return 1 + ((await c.actors["hop"]?.get<Other>(next).down(rest)) ?? 0)
        },
      },
      queries: { done: (c) => [...c.state.done] },
    }),
  }
}
