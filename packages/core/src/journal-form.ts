/**
 * The form of what `journal.ts` stores, checked when it is read. A checksum vouches that the bytes are what somebody wrote; a body that came in
 * a grant was written by another build.
 */
type Check = (x: unknown) => boolean

const isFields = (x: unknown): x is Readonly<Record<string, unknown>> =>
  typeof x === "object" && x !== null && !Array.isArray(x)
const text: Check = (x) => typeof x === "string"
const number: Check = (x) => typeof x === "number" && Number.isFinite(x)
const count: Check = (x) => typeof x === "number" && Number.isSafeInteger(x) && x >= 0
const encoded: Check = (x) => isFields(x) && "v" in x
const optional =
  (check: Check): Check =>
  (x) =>
    x === undefined || check(x)
const each =
  (check: Check): Check =>
  (x) =>
    Array.isArray(x) && x.every(check)
const tuple =
  (...checks: readonly Check[]): Check =>
  (x) =>
    Array.isArray(x) && x.length === checks.length && checks.every((check, i) => check(x[i]))
const fields =
  (checks: Readonly<Record<string, Check>>): Check =>
  (x) =>
    isFields(x) && Object.entries(checks).every(([name, check]) => check(x[name]))

const reply = fields({ r: count, ok: optional(encoded), err: optional(isFields) })
const session = fields({
  id: text,
  w: text,
  m: number,
  n: number,
  l: count,
  a: count,
  y: each(tuple(count, reply)),
})
const alarm = { n: text, i: optional(text), p: optional(encoded), k: optional(count) }
const needs = { sv: optional(count), rs: optional(each(text)) }

export const isEntry: Check = fields({
  ...needs,
  r: count,
  t: number,
  i: optional(encoded),
  p: optional(encoded),
  ev: optional(each(tuple(text, encoded))),
  s: optional(each(session)),
  al: optional(each(fields({ ...alarm, at: optional(count) }))),
})

export const isSnapshot: Check = fields({
  ...needs,
  r: count,
  st: encoded,
  se: each(session),
  tail: each(isEntry),
  po: each(tuple(text, count, number)),
  al: optional(each(fields({ ...alarm, at: count }))),
})

export const isPatches: Check = each(
  fields({ op: (x) => x === "add" || x === "remove" || x === "replace", path: Array.isArray }),
)
