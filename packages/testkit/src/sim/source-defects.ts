/**
 * Defects for which no seam is deep enough: a piece of the product's source is another one when it is loaded. `plant.ts` does it, in a
 * process of its own; the text must be there exactly once.
 */
export interface SourceDefect {
  /** From the packages' folder. */
  readonly file: string
  readonly text: string
  readonly instead: string
}

export const sourceDefects = {
  "resume skips one revision": {
    file: "core/src/tail.ts",
    text: "this.#kept(position + 1 - first.r)",
    instead: "this.#kept(position + 2 - first.r)",
  },
  "query leaves before durable": {
    file: "core/src/gate.ts",
    text: "this.#items.push({ revision, proof: this.#needed, send })",
    instead: "send()",
  },
  "drain drops a queued call": {
    file: "core/src/mailbox.ts",
    text: "this.#unrun.push(...this.#items.splice(0))",
    instead: "this.#items.splice(0)",
  },
} as const satisfies Readonly<Record<string, SourceDefect>>
