/**
 * An exhaustive search of a model's states, breadth first, so that the first violation found is reached by a shortest run. States are
 * compared whole (as JSON): nothing is hashed away. With `live`, it also checks that nothing is a dead end: from every state that was reached a
 * state that satisfies `live` can still be reached.
 */
export interface Model<S> {
  readonly initial: S
  /** Every step that can be taken: a name, and the state that it leads to. */
  next(state: S): Iterable<readonly [step: string, state: S]>
  /** What is wrong with this state, or undefined. */
  violation(state: S): string | undefined
  /** Where every run must still be able to get. */
  readonly live?: (state: S) => boolean
}

export interface Found {
  readonly states: number
  readonly transitions: number
  readonly depth: number
  /** The shortest run into something wrong. */
  readonly wrong?: { readonly what: string; readonly run: readonly string[] }
}

export class TooManyStates extends Error {}

export function explore<S>(model: Model<S>, statesMax = 3_000_000): Found {
  const index = new Map<string, number>()
  const parents: number[] = []
  const names: string[] = []
  const keys: string[] = []
  const depths: number[] = []
  const live: boolean[] = []
  const before: number[][] = []
  let transitions = 0

  const runTo = (at: number): string[] => {
    const run: string[] = []
    for (let i = at; i > 0; i = parents[i] as number) run.unshift(names[i] as string)
    return run
  }
  const add = (state: S, parent: number, name: string): number => {
    const key = JSON.stringify(state)
    const known = index.get(key)
    if (known !== undefined) return known
    const at = keys.length
    if (at >= statesMax) throw new TooManyStates(`more than ${statesMax} states`)
    index.set(key, at)
    keys.push(key)
    parents.push(parent)
    names.push(name)
    depths.push(parent < 0 ? 0 : (depths[parent] as number) + 1)
    live.push(model.live?.(state) ?? true)
    if (model.live) before.push([])
    return at
  }
  const result = (wrong?: Found["wrong"]): Found => ({
    states: keys.length,
    transitions,
    depth: depths.at(-1) ?? 0,
    ...(wrong ? { wrong } : {}),
  })

  add(model.initial, -1, "")
  for (let at = 0; at < keys.length; at++) {
    const state = JSON.parse(keys[at] as string) as S
    const what = model.violation(state)
    if (what !== undefined) return result({ what, run: runTo(at) })
    for (const [name, next] of model.next(state)) {
      transitions++
      const to = add(next, at, name)
      if (model.live && to !== at) (before[to] as number[]).push(at)
    }
  }
  if (!model.live) return result()

  const reaches = live.slice()
  const work = keys.map((_, at) => at).filter((at) => reaches[at])
  for (let at = work.pop(); at !== undefined; at = work.pop())
    for (const from of before[at] as number[])
      if (!reaches[from]) {
        reaches[from] = true
        work.push(from)
      }
  const dead = reaches.indexOf(false)
  return dead < 0 ? result() : result({ what: "a dead end", run: runTo(dead) })
}
