import { TooManyStates, type Found } from "./explore.ts"

/**
 * The search of `explore.ts` for models with millions of states: a state is a fixed number of bytes, kept whole in typed arrays, and found
 * again by an open-addressed table. Breadth first, so the first violation found is reached by a shortest run; nothing is hashed away.
 *
 * No step is stored: a run is told by taking the steps of its states once more.
 */
export interface PackedModel {
  /** A multiple of 4. */
  readonly bytes: number
  readonly initial: Uint8Array
  /** Leaves each state that follows from `s` in `t`, and calls `emit` with a number for the step and what `name` needs to tell it. */
  next(s: Uint8Array, t: Uint8Array, emit: (step: number, a: number, b: number, c: number) => void): void
  name(step: number, a: number, b: number, c: number): string
  /** Rewrites a state as the one that stands for all that are the same to every rule and every property. */
  canonical(t: Uint8Array): void
  violation(s: Uint8Array): string | undefined
  /** Where every run must still be able to get, by name; `must`: of which states that is asked. */
  readonly goals: readonly Goal[]
  describe(s: Uint8Array): string
}

export interface Goal {
  readonly name: string
  readonly must: (s: Uint8Array) => boolean
  readonly reached: (s: Uint8Array) => boolean
}

export interface FoundPacked extends Found {
  /** The state at the end of the run. */
  readonly last?: string
}

const chunkBits = 16
const chunkSize = 1 << chunkBits

/** States of `words` 32-bit numbers each, in the order in which they were added. */
class States {
  readonly #words: number
  readonly #chunks: Uint32Array[] = []
  #table = new Int32Array(1 << 16).fill(-1)
  count = 0

  constructor(words: number) {
    this.#words = words
  }

  /** The state's number: negative, `~number`, if it was here before. */
  add(state: Uint32Array): number {
    const words = this.#words
    const mask = this.#table.length - 1
    let slot = hash(state, 0, words) & mask
    for (;;) {
      const at = this.#table[slot] as number
      if (at < 0) break
      const chunk = this.#chunks[at >>> chunkBits] as Uint32Array
      const from = (at & (chunkSize - 1)) * words
      let i = 0
      while (i < words && chunk[from + i] === state[i]) i++
      if (i === words) return ~at
      slot = (slot + 1) & mask
    }
    const at = this.count++
    if (at >>> chunkBits === this.#chunks.length) this.#chunks.push(new Uint32Array(chunkSize * words))
    const chunk = this.#chunks[at >>> chunkBits] as Uint32Array
    chunk.set(state, (at & (chunkSize - 1)) * words)
    this.#table[slot] = at
    if (this.count * 3 > this.#table.length * 2) this.#grow()
    return at
  }

  read(at: number, into: Uint32Array): void {
    const chunk = this.#chunks[at >>> chunkBits] as Uint32Array
    const from = (at & (chunkSize - 1)) * this.#words
    for (let i = 0; i < this.#words; i++) into[i] = chunk[from + i] as number
  }

  #grow(): void {
    const words = this.#words
    const table = new Int32Array(this.#table.length * 2).fill(-1)
    const mask = table.length - 1
    for (let at = 0; at < this.count; at++) {
      let slot = hash(this.#chunks[at >>> chunkBits] as Uint32Array, (at & (chunkSize - 1)) * words, words) & mask
      while ((table[slot] as number) >= 0) slot = (slot + 1) & mask
      table[slot] = at
    }
    this.#table = table
  }
}

function hash(state: Uint32Array, from: number, words: number): number {
  let h = 0x9e3779b9
  for (let i = 0; i < words; i++) {
    h = Math.imul(h ^ (state[from + i] as number), 0x85ebca6b)
    h ^= h >>> 13
  }
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A list of numbers that grows without being copied. */
class Numbers {
  readonly #chunks: Int32Array[] = []
  length = 0

  push(n: number): void {
    if (this.length >>> 20 === this.#chunks.length) this.#chunks.push(new Int32Array(1 << 20))
    ;(this.#chunks[this.length >>> 20] as Int32Array)[this.length & 0xfffff] = n
    this.length++
  }

  at(i: number): number {
    return (this.#chunks[i >>> 20] as Int32Array)[i & 0xfffff] as number
  }
}

export function explorePacked(model: PackedModel, statesMax = 60_000_000): FoundPacked {
  const words = model.bytes / 4
  const states = new States(words)
  const [sWords, tWords] = [new Uint32Array(words), new Uint32Array(words)]
  const [s, t] = [new Uint8Array(sWords.buffer), new Uint8Array(tWords.buffer)]
  const parents = new Numbers()
  // Successors of each state, one state after the other, and where each one's begin. Kept only where a goal asks for them.
  const edges = new Numbers()
  const edgesFrom = new Numbers()
  const keepEdges = model.goals.length > 0
  let transitions = 0
  let depth = 0

  const tell = (at: number): { run: string[]; last: string } => {
    const way: number[] = []
    for (let i = at; i > 0; i = parents.at(i)) way.unshift(i)
    const wanted = new Uint32Array(words)
    let from = 0
    const run = way.map((to) => {
      states.read(from, sWords)
      states.read(to, wanted)
      let told = ""
      model.next(s, t, (step, a, b, c) => {
        model.canonical(t)
        if (told === "" && tWords.every((word, i) => word === wanted[i])) told = model.name(step, a, b, c)
      })
      from = to
      return told
    })
    states.read(at, sWords)
    return { run, last: model.describe(s) }
  }
  const result = (what?: string, at = 0): FoundPacked => {
    const found = { states: states.count, transitions, depth }
    if (what === undefined) return found
    const { run, last } = tell(at)
    return { ...found, wrong: { what, run }, last }
  }

  t.set(model.initial)
  model.canonical(t)
  states.add(tWords)
  parents.push(-1)
  let levelEnd = 1
  let from = 0
  const emit = (): void => {
    transitions++
    model.canonical(t)
    const added = states.add(tWords)
    if (added >= 0) {
      if (added >= statesMax) throw new TooManyStates(`more than ${statesMax} states`)
      parents.push(from)
    }
    const to = added >= 0 ? added : ~added
    if (keepEdges && to !== from) edges.push(to)
  }
  for (; from < states.count; from++) {
    if (from === levelEnd) {
      depth++
      levelEnd = states.count
    }
    states.read(from, sWords)
    const what = model.violation(s)
    if (what !== undefined) return result(what, from)
    if (keepEdges) edgesFrom.push(edges.length)
    model.next(s, t, emit)
  }
  edgesFrom.push(edges.length)

  for (const goal of model.goals) {
    const reaches = new Uint8Array(states.count)
    for (let at = 0; at < states.count; at++) {
      states.read(at, sWords)
      if (goal.reached(s)) reaches[at] = 1
    }
    // Most steps lead to states that were found later, so going backwards needs few rounds.
    for (let changed = true; changed;) {
      changed = false
      for (let at = states.count - 1; at >= 0; at--) {
        if (reaches[at]) continue
        const end = edgesFrom.at(at + 1)
        for (let i = edgesFrom.at(at); i < end; i++)
          if (reaches[edges.at(i)]) {
            reaches[at] = 1
            changed = true
            break
          }
      }
    }
    for (let at = 0; at < states.count; at++) {
      if (reaches[at]) continue
      states.read(at, sWords)
      if (goal.must(s)) return result(`a dead end: ${goal.name} cannot be reached any more`, at)
    }
  }
  return result()
}
