import { SojournError, codec, codecDepthMax, nestsDeeper, type Encoded } from "@sojourn/protocol"
import { EncodedText } from "./encoded-text.ts"

/**
 * Decodes what somebody else encoded: a client's arguments, a body that came in a grant. superjson believes its description of types: a
 * number as a typed array makes it allocate as many bytes, an index past an array's end makes the array that long, a type inside a Set makes
 * it walk the Set for each. So the description is held against the value first, in one walk: each path leads along what is there,
 * nothing inside a value is changed after the value was, each type has what the encoder makes of it. Nothing that `codec.encode` makes is
 * refused.
 */
export function decodeChecked(encoded: Encoded): unknown {
  const { v, m } = encoded instanceof EncodedText ? encoded.toJSON() : encoded
  // Each of a value's own levels takes at most two: a Map's entries are arrays of arrays.
  if (nestsDeeper(v, 2 * codecDepthMax + 2)) return bad("nests too deeply")
  assertNoPrototype(v)
  if (m === undefined) return v
  if (!isFields(m)) return bad("has a description of types that is no object")
  const { values, v: version = 0 } = m
  if (version !== 0 && version !== 1) return bad("has a description of types of an unknown version")
  // superjson reads no tree at all as: plain.
  if (values !== undefined) new Checker(version === 0).node(values, { v }, "v")
  try {
    return codec.decode({ v, m })
  } catch (cause) {
    return bad("cannot be decoded", cause)
  }
}

type Fields = Readonly<Record<string, unknown>>
type Container = Fields | readonly unknown[]

function bad(how: string, cause?: unknown): never {
  throw new SojournError("BAD_INPUT", `an encoded value ${how}`, cause === undefined ? {} : { cause })
}

function isFields(x: unknown): x is Fields {
  return typeof x === "object" && x !== null && !Array.isArray(x)
}

/** `JSON.parse` makes it a key like any other, which an assignment elsewhere turns into a prototype. The codec never writes it. */
function assertNoPrototype(json: unknown): void {
  if (typeof json !== "object" || json === null) return
  if (Array.isArray(json)) for (const item of json) assertNoPrototype(item)
  else
    for (const key in json) {
      if (key === "__proto__") bad("has a key __proto__")
      assertNoPrototype((json as Fields)[key])
    }
}

class Checker {
  readonly #legacy: boolean
  /** What has its type already, by its holder and key there. */
  readonly #typed = new Map<Container, Set<string>>()

  constructor(legacy: boolean) {
    this.#legacy = legacy
  }

  /** A part of superjson's tree: `[type]`, `[type, children]`, or only children; of what lies in `holder` under `key`. */
  node(tree: unknown, holder: Container, key: string): void {
    const value = (holder as Fields)[key]
    if (!Array.isArray(tree)) return this.#children(tree, value)
    const [type, children, ...more] = tree as unknown[]
    if (tree.length === 0 || more.length > 0) return bad("has a type that is of no form")
    if (children !== undefined) this.#children(children, value)
    if (!fits(type, value))
      return bad(`has a type that it does not fit${typeof type === "string" ? `: ${type.slice(0, 80)}` : ""}`)
    const typed = this.#typed.get(holder) ?? new Set()
    this.#typed.set(holder, typed.add(key))
  }

  #children(trees: unknown, value: unknown): void {
    if (!isFields(trees)) return bad("has a description of types that is of no form")
    for (const [path, tree] of Object.entries(trees)) {
      let holder: Container | undefined
      let at = ""
      let here = value
      for (const step of steps(path, this.#legacy)) {
        if (!holds(here, step)) return bad("has types of what is not there")
        if (this.#typed.get(here)?.has(step)) return bad("has two types in one place")
        holder = here
        at = step
        here = (here as Fields)[step]
      }
      if (holder) this.node(tree, holder, at)
    }
  }
}

function holds(here: unknown, step: string): here is Container {
  if (Array.isArray(here)) return /^(0|[1-9]\d{0,9})$/.test(step) && Number(step) < here.length
  return isFields(here) && Object.hasOwn(here, step)
}

/** superjson's paths: steps with dots between them; `\.` is a dot and, from its version 1 on, `\\` a backslash. */
function steps(path: string, legacy: boolean): readonly string[] {
  const found: string[] = []
  let step = ""
  for (let i = 0; i < path.length; i++) {
    const char = path.charAt(i)
    const next = path.charAt(i + 1)
    if (char === "\\" && (next === "." || (next === "\\" && !legacy))) {
      step += next
      i++
    } else if (char === "\\" && !legacy) return bad("has a path that is of no form")
    else if (char === ".") {
      found.push(step)
      step = ""
    } else step += char
  }
  return [...found, step]
}

const isNumberOrNull = (x: unknown): boolean => typeof x === "number" || x === null
const isPair = (x: unknown): boolean => Array.isArray(x) && x.length === 2
const oddNumbers = new Set<unknown>(["NaN", "Infinity", "-Infinity", "-0"])
const floats = new Set<unknown>(["Float32Array", "Float64Array"])
const arrays = new Set<unknown>([
  ...floats,
  "Int8Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
])

/** Whether the encoder can have made `json` of a value of this type. What is in it is looked at by itself. */
function fits(type: unknown, json: unknown): boolean {
  if (Array.isArray(type)) {
    const [kind, name] = type as unknown[]
    if (type.length !== 2) return false
    if (kind === "custom" && name === "Date") return json === null
    if (!Array.isArray(json)) return false
    if (kind === "custom") return floats.has(name) && json.every((x) => typeof x === "number" || oddNumbers.has(x))
    return kind === "typed-array" && arrays.has(name) && json.every(isNumberOrNull)
  }
  switch (type) {
    case "undefined":
      return json === null
    case "bigint":
      return typeof json === "string" && /^-?\d+$/.test(json)
    case "Date":
      return typeof json === "string"
    case "Error":
      return isFields(json) && typeof json["message"] === "string" && typeof json["name"] === "string"
    case "regexp":
      return typeof json === "string" && json.startsWith("/")
    case "set":
      return Array.isArray(json)
    case "map":
      return Array.isArray(json) && json.every(isPair)
    case "number":
      return oddNumbers.has(json)
    case "URL":
      return typeof json === "string"
    default:
      return false
  }
}
