import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"
import { sourceDefects, type SourceDefect } from "./source-defects.ts"

/** Loaded before anything of the product (`--import`): plants the defect that the environment names. */
const name = process.env["SOJOURN_DEFECT"] ?? ""
const defect = (sourceDefects as Readonly<Record<string, SourceDefect>>)[name]
if (defect === undefined) throw new RangeError(`SOJOURN_DEFECT must name a defect of the source, got "${name}"`)
const { file, text, instead } = defect
const url = new URL(`../../../${file}`, import.meta.url).href
if (readFileSync(fileURLToPath(url), "utf8").split(text).length !== 2)
  throw new Error(`the defect "${name}" replaces ${JSON.stringify(text)}, which is not in ${file} exactly once`)

registerHooks({
  load(asked, context, next) {
    const loaded = next(asked, context)
    if (asked !== url) return loaded
    const { source } = loaded
    const whole = typeof source === "string" ? source : Buffer.from(source as Uint8Array).toString()
    return { ...loaded, source: whole.replace(text, () => instead) }
  },
})
