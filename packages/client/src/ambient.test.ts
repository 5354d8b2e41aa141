import assert from "node:assert/strict"
import { after, test } from "node:test"
import { ambientChance, ambientPage } from "./ambient.ts"

const shown = Object.assign(new EventTarget(), { visibilityState: "visible" })
Object.defineProperty(globalThis, "document", { configurable: true, value: shown })
after(() => Reflect.deleteProperty(globalThis, "document"))

test("a client's own id fits a frame, is made of characters that a URL takes, and differs each time", () => {
  const chance = ambientChance()
  const ids = Array.from({ length: 100 }, () => chance.id())
  for (const id of ids) assert.match(id, /^[\d-]{7,64}$/)
  assert.equal(new Set(ids).size, ids.length)
})

test("a page is watched until it is not, each watcher for itself", () => {
  const page = ambientPage()
  let seen = 0
  const changed = (): void => void seen++
  const undo = page.watch(changed)
  const undoOther = page.watch(changed)
  shown.visibilityState = "hidden"
  shown.dispatchEvent(new Event("visibilitychange"))
  assert.deepEqual([seen, page.hidden()], [2, true])
  undo()
  undo()
  shown.dispatchEvent(new Event("visibilitychange"))
  assert.equal(seen, 3)
  undoOther()
  shown.dispatchEvent(new Event("visibilitychange"))
  assert.equal(seen, 3)
})
