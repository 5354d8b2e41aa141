import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"
import { applyEdit, emptyDocument, recentMax, type Document, type Edit } from "./document.ts"
import { Draft } from "./draft.ts"
import { patchText, textOf, type TextPatch } from "./pieces.ts"

/** An actor and windows onto it, with edits and states under way in between, each way in order. */
class World {
  readonly document = emptyDocument()
  readonly windows: {
    readonly draft: Draft
    shown: string
    made: number
    readonly edits: Edit[]
    readonly states: Document[]
  }[] = []

  constructor(names: readonly string[]) {
    for (const name of names) {
      const window = { draft: new Draft(name), shown: "", made: 0, edits: [], states: [structuredClone(this.document)] }
      this.windows.push(window)
      this.show(window)
    }
  }

  type(window: World["windows"][number], where: number, del: number, ins: string): void {
    const at = Math.floor(where * (window.draft.text.length + 1))
    const patch: TextPatch = [at, Math.min(del, window.draft.text.length - at), ins]
    window.edits.push(window.draft.type((window.made += 1), [patch]))
    window.shown = patchText(window.shown, patch)
  }

  apply(window: World["windows"][number]): void {
    const edit = window.edits.shift()
    if (edit === undefined) return
    applyEdit(this.document, edit)
    for (const each of this.windows) each.states.push(structuredClone(this.document))
  }

  show(window: World["windows"][number]): void {
    const state = window.states.shift()
    if (state === undefined) return
    const { patches, reset } = window.draft.receive(state)
    window.shown = reset ? window.draft.text : patches.reduce(patchText, window.shown)
  }

  settle(): void {
    for (const window of this.windows) while (window.edits.length > 0) this.apply(window)
    for (const window of this.windows) while (window.states.length > 0) this.show(window)
  }
}

const step = fc.record({
  window: fc.nat(1),
  what: fc.constantFrom("type" as const, "type" as const, "apply" as const, "show" as const),
  where: fc.double({ min: 0, max: 0.999, noNaN: true }),
  del: fc.nat(3),
  ins: fc.constantFrom("", "a", "bc", "def "),
})

function play(
  names: readonly string[],
  steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[],
): World {
  const world = new World(names)
  for (const { window: index, what, where, del, ins } of steps) {
    const window = world.windows[index % names.length]!
    if (what === "type") world.type(window, where, del, ins)
    else if (what === "apply") world.apply(window)
    else world.show(window)
    assert.equal(window.shown, window.draft.text)
  }
  world.settle()
  return world
}

describe("Draft", () => {
  test("one writer's text is the actor's, without ever beginning anew", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const world = play(["ada"], steps)
        const { draft } = world.windows[0]!
        assert.equal(draft.text, textOf(world.document.pieces))
        assert.deepEqual([draft.pending, draft.differences, draft.resyncs], [0, 0, 0])
      }),
    )
  })

  test("two writers at once end with the same text, and neither takes it for a loss", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const world = play(["ada", "bob"], steps)
        for (const { draft, shown } of world.windows) {
          assert.equal(shown, textOf(world.document.pieces))
          assert.equal(draft.text, shown)
          assert.equal(draft.differences, 0)
        }
      }),
    )
  })

  test("an edit that the actor never applied shows as a difference", () => {
    const world = new World(["ada"])
    const window = world.windows[0]!
    world.type(window, 0, 0, "lost ")
    window.edits.shift()
    world.type(window, 0, 0, "kept ")
    world.settle()
    assert.equal(window.draft.differences, 1)
    assert.equal(window.draft.text, "kept ")
    assert.equal(window.draft.pending, 0)
  })

  test("an edit applied twice shows as a difference", () => {
    const world = new World(["ada"])
    const window = world.windows[0]!
    world.type(window, 0, 0, "twice ")
    window.edits.push(window.edits[0]!)
    world.settle()
    assert.equal(window.draft.differences, 1)
    assert.equal(window.draft.text, "twice twice ")
  })

  test("after an absence longer than the kept changes it begins from the actor's text, own edits on top", () => {
    const world = new World(["ada", "bob"])
    const [ada, bob] = [world.windows[0]!, world.windows[1]!]
    world.type(ada, 0, 0, "mine")
    for (let i = 0; i < recentMax + 5; i++) {
      world.type(bob, 0, 0, "x")
      world.apply(bob)
    }
    ada.states.splice(0, ada.states.length - 1)
    world.show(ada)
    assert.equal(ada.draft.text, `mine${"x".repeat(recentMax + 5)}`)
    assert.equal(ada.draft.pending, 1)
  })

  test("a refused edit is taken out again", () => {
    const world = new World(["ada"])
    const window = world.windows[0]!
    world.type(window, 0, 0, "kept")
    world.apply(window)
    world.show(window)
    world.type(window, 0, 0, "refused ")
    assert.equal(window.draft.refuse(2).reset, true)
    assert.equal(window.draft.text, "kept")
    assert.equal(window.draft.pending, 0)
  })
})
