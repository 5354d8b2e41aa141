import { actor, event, setup, type AnyActors } from "@sojourn/core"
import { ActorError } from "@sojourn/protocol"
import { cancelMark, passedMark, relayedMark, rangMark } from "./marks.ts"
import type { SimState } from "./stored.ts"

/**
 * The application that runs in every simulation. Its state can be judged from outside: the list only grows and names the calls
 * that were applied, `turns` and `sum` follow from it, so a lost, repeated, half-applied or reordered call shows in any state.
 *
 * A key says who may use the actor: `<n>.<user>+<user>`, with or without a home after `~`. Every text that an action stores begins with
 * the key, so another principal's frame that holds it shows a leak.
 */
export function mayUse(key: string, who: string): boolean {
  const members = /^[^.]*\.([^~]*)/.exec(key)?.[1]
  return members?.split("+").includes(who) ?? false
}

/** What turns ask of other actors. Written down, because the app cannot be typed by itself. */
interface Other {
  receive(id: string, back: string): Promise<number>
}

export interface Surroundings {
  /** Gives long turns their length, in virtual time, on the process that runs them. */
  sleep(pop: string, ms: number): Promise<void>
  /** What came of a call that came back to an actor whose turn waits for it; undefined: it was answered. */
  cameBack(error: unknown): void
}

/** What the alarm of `later` is given: one that fails does so by chance, so often that it rings in the end. */
interface Ring {
  readonly id: string
  readonly fails: number
}

export function simApp({ sleep, cameBack }: Surroundings) {
  const other = (actors: AnyActors, key: string): Other => {
    const { ledger } = actors
    if (ledger === undefined) throw new Error("the simulated application has no ledgers")
    return ledger.get<Other>(key)
  }
  const append = (state: { turns: number; sum: number; list: string[] }, id: string): number => {
    state.list.push(id)
    state.sum += id.length
    state.turns += 1
    return state.list.length - 1
  }
  return setup({
    actors: {
      ledger: actor({
        state: (): { turns: number; sum: number; list: string[] } => ({ turns: 0, sum: 0, list: [] }),
        events: { added: event<{ id: string; turn: number }>(), shouted: event<{ id: string; turn: number }>() },
        alarms: {
          rang(c, { id, fails }: Ring) {
            const index = append(c.state, rangMark(id))
            if (c.random() < fails) throw new Error(`a defect of the simulated application, at ${id}`)
            c.broadcast("added", { id, turn: c.state.turns })
            return index
          },
          /** Tells the other actor, at least once; that one takes it once. */
          async pass(c, { id, to }: { id: string; to: string }) {
            append(c.state, passedMark(id, to, await other(c.actors, to).receive(relayedMark(id, to), c.key)))
          },
        },
        actions: {
          /** Appends, and again when an alarm rings. */
          later(c, id: string, ms: number, fails: number) {
            c.alarms.set("rang", { afterMs: ms }, { id, fails }, { id })
            return append(c.state, id)
          },
          cancel(c, id: string, of: number) {
            c.alarms.cancel("rang", `${id.slice(0, id.lastIndexOf("|"))}|${of}`)
            return append(c.state, cancelMark(id, of))
          },
          /** Promises to tell another actor: an outbox, made of an alarm that is due at once. */
          pass(c, id: string, to: string) {
            c.alarms.set("pass", { afterMs: 0 }, { id, to }, { id })
            return append(c.state, id)
          },
          /** Tells another actor at once, from within the turn: what happens there does not roll back with it. */
          async ask(c, id: string, to: string) {
            const attempt = `a${c.random().toString(36).slice(2, 8)}`
            const index = await other(c.actors, to).receive(relayedMark(id, to, attempt), c.key)
            return append(c.state, passedMark(id, to, index, attempt))
          },
          /** From another actor; told twice is told once. That one waits, so it cannot be asked back: nothing of this is ever in its list. */
          async receive(c, id: string, back: string): Promise<number> {
            cameBack(
              await other(c.actors, back)
                .receive(`${back} was asked in its own turn`, c.key)
                .then(
                  () => undefined,
                  (error: unknown) => error,
                ),
            )
            const known = c.state.list.indexOf(id)
            return known >= 0 ? known : append(c.state, id)
          },
          /** Appends and answers the index. */
          add(c, id: string) {
            const index = append(c.state, id)
            c.broadcast("added", { id, turn: c.state.turns })
            return index
          },
          /** The same in a turn that takes a while and changes the state before and after its wait. */
          async slow(c, id: string, ms: number) {
            c.state.turns += 1
            await sleep(c.pop, ms)
            c.state.turns -= 1
            return append(c.state, id)
          },
          /** Changes nothing. */
          idle(c, id: string) {
            return `${c.state.turns} ${id}`
          },
          /** Changes no state, but is heard. */
          shout(c, id: string) {
            c.broadcast("shouted", { id, turn: c.state.turns })
            return id
          },
          /** Refuses after it changed the state: nothing of it may stay. */
          refuse(c, id: string) {
            append(c.state, id)
            throw new ActorError("REFUSED", "the simulated action refuses", { id })
          },
          /** Fails as a defect would. */
          fail(c, id: string) {
            append(c.state, id)
            throw new Error(`a defect of the simulated application, at ${id}`)
          },
        },
        queries: {
          look: (c) => ({ turns: c.state.turns, length: c.state.list.length, last: c.state.list.at(-1) ?? null }),
        },
        authorize: (c, who) => mayUse(c.key, who.id),
      }),
    },
  })
}

export type SimApp = ReturnType<typeof simApp>

/** What `look` answers of a state. */
export function looked(state: SimState | undefined): { turns: number; length: number; last: string | null } {
  return { turns: state?.turns ?? 0, length: state?.list.length ?? 0, last: state?.list.at(-1) ?? null }
}
