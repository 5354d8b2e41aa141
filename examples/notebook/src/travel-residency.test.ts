import assert from "node:assert/strict"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, test } from "node:test"
import { searchBorders } from "./travel-residency.ts"

const folder = mkdtempSync(join(tmpdir(), "sojourn-borders-"))
after(() => rmSync(folder, { recursive: true, force: true }))

const text = "It was on a dreary night of November, that I beheld the accomplishment of my toils."

test("the search of POPs' folders sees a stretch of the text, or the writer's name, in any file, and says whether it would have (C25)", () => {
  const write = (path: string, content: string): void => {
    mkdirSync(join(folder, path, ".."), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
  write("bos/data.mdb", `\0\x01${text}\0writer-1`)
  write("bos.log", "")
  write("nrt/deep/data.mdb", "\0\0nothing of it")
  write("nrt.log", "started")
  const search = (inside: string[] = ["bos"]): ReturnType<typeof searchBorders> =>
    searchBorders(folder, { outside: ["nrt"], inside }, { writer: "writer-1", text })
  assert.deepEqual(search(), { outside: ["nrt"], leaks: [], bytes: 22, foundInside: true })
  assert.equal(search([]).foundInside, false)
  write("nrt/deep/data.mdb", `\0${text.slice(30, 70)}\0`)
  assert.deepEqual(search().leaks, [join(folder, "nrt/deep/data.mdb")])
  write("nrt/deep/data.mdb", "")
  write("nrt.log", "writer-1 called")
  assert.deepEqual(search().leaks, [join(folder, "nrt.log")])
})
