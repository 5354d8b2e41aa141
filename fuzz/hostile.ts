import type { Random } from "../packages/testkit/src/sim/random.ts"

/**
 * Hostile inputs from valid ones. JSON is bent as a tree of its text, so that what `JSON.stringify` would never write can be in it: a key
 * twice, `__proto__` as a key, numbers past every bound, half a surrogate pair. Bytes are bent as bytes.
 */
type Node =
  | { readonly k: "text"; text: string }
  | { readonly k: "list"; items: Node[] }
  | { readonly k: "fields"; fields: [string, Node][] }

/** Keys that lead to a prototype, or to something that every object or array has. */
export const sharpKeys = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "toJSON",
  "then",
  "length",
  "hasOwnProperty",
  "valueOf",
  "",
] as const

const sharpNumbers = [
  "0",
  "-0",
  "-1",
  "1",
  "0.5",
  "1e999",
  "-1e999",
  "1e-999",
  "9007199254740991",
  "9007199254740992",
  "4294967294",
  "4294967295",
  "4294967296",
  "2147483648",
  "1e15",
  "255",
  "123456789012345678901234567890",
]

const sharpTexts = [
  "",
  "\0",
  "\ud800",
  "a\udfff",
  "é".repeat(40),
  "../../etc/passwd",
  "https://evil.example/",
  "%00%0d%0a",
  "\r\nset-cookie: a=b",
  "<script>",
  "9".repeat(400),
  "NaN",
  "1970-01-01T00:00:00.000Z",
  "/(a+)+$/",
  "\u2028",
]

/** A JSON text of no form at all. */
export function hostileJson(r: Random, depth = 0): string {
  return print(hostileNode(r, depth))
}

function hostileNode(r: Random, depth = 0): Node {
  const kind = r.int(depth > 3 ? 5 : 9)
  switch (kind) {
    case 0:
      return text(r.pick(["null", "true", "false", "[]", "{}", '{"v":null}', "[[]]"]))
    case 1:
      return text(r.pick(sharpNumbers))
    case 2:
      return text(String(r.int(20)))
    case 3:
      return text(JSON.stringify(r.pick(sharpTexts)))
    case 4:
      return text(JSON.stringify(r.pick(sharpKeys)))
    case 5:
      return { k: "list", items: Array.from({ length: r.int(5) }, () => hostileNode(r, depth + 1)) }
    case 6:
      return text(deep(r))
    default:
      return {
        k: "fields",
        fields: Array.from({ length: r.int(5) }, () => [
          r.happens(0.5) ? r.pick(sharpKeys) : r.pick(["v", "m", "t", "a", "0", "id"]),
          hostileNode(r, depth + 1),
        ]),
      }
  }
}

/** Nested so deep that recursion over it would end the stack, but seldom: such texts are long. */
function deep(r: Random): string {
  const levels = r.happens(0.04) ? 20_000 : r.int(450)
  return r.happens(0.5) ? "[".repeat(levels) + "]".repeat(levels) : '{"a":'.repeat(levels) + "1" + "}".repeat(levels)
}

const text = (of: string): Node => ({ k: "text", text: of })

function nodeOf(value: unknown): Node {
  if (Array.isArray(value)) return { k: "list", items: value.map(nodeOf) }
  if (typeof value === "object" && value !== null)
    return {
      k: "fields",
      fields: Object.entries(value).flatMap(([key, part]): [string, Node][] =>
        part === undefined ? [] : [[key, nodeOf(part)]],
      ),
    }
  return text(JSON.stringify(value) ?? "null")
}

function print(node: Node): string {
  switch (node.k) {
    case "text":
      return node.text
    case "list":
      return `[${node.items.map(print).join(",")}]`
    case "fields":
      return `{${node.fields.map(([key, part]) => `${JSON.stringify(key)}:${print(part)}`).join(",")}}`
  }
}

/** Every place of the tree, as what puts another node there. */
function places(node: Node, put: (node: Node) => void, found: [Node, (node: Node) => void][]): void {
  found.push([node, put])
  if (node.k === "list")
    for (const [i, item] of node.items.entries()) places(item, (other) => (node.items[i] = other), found)
  if (node.k === "fields") for (const field of node.fields) places(field[1], (other) => (field[1] = other), found)
}

/** The JSON of `value` with `changes` things wrong in it. */
export function bentJson(r: Random, value: unknown, changes = 1 + r.int(3)): string {
  let root = nodeOf(value)
  for (let i = 0; i < changes; i++) {
    const found: [Node, (node: Node) => void][] = []
    places(root, (node) => (root = node), found)
    const [node, put] = r.pick(found)
    bend(r, node, put, found)
  }
  return print(root)
}

function bend(r: Random, node: Node, put: (node: Node) => void, all: readonly [Node, (node: Node) => void][]): void {
  const fields = node.k === "fields" ? node.fields : undefined
  const field = fields && fields.length > 0 ? r.pick(fields) : undefined
  switch (r.int(10)) {
    case 0:
      if (fields && field) fields.splice(fields.indexOf(field), 1)
      else put(hostileNode(r))
      return
    case 1:
      // Twice: the later one counts.
      if (fields && field) fields.push([field[0], r.happens(0.5) ? field[1] : hostileNode(r)])
      else put(hostileNode(r))
      return
    case 2:
      if (fields) fields.push([r.pick(sharpKeys), hostileNode(r)])
      else put(text(r.pick(sharpNumbers)))
      return
    case 3:
      if (field) field[0] = r.pick(sharpKeys)
      else put(text(JSON.stringify(r.pick(sharpTexts))))
      return
    case 4:
      put(r.happens(0.5) ? { k: "list", items: [node] } : { k: "fields", fields: [["v", node]] })
      return
    case 5:
      put(text(print(r.pick(all)[0])))
      return
    case 6:
      if (node.k === "list")
        node.items = Array.from({ length: r.int(80) }, () => node.items[r.int(node.items.length)] ?? text("0"))
      else put(text(JSON.stringify("x".repeat(r.int(r.happens(0.02) ? 70_000 : 700)))))
      return
    case 7:
      put(text(r.pick(sharpNumbers)))
      return
    default:
      put(hostileNode(r))
  }
}

/** A text with characters changed, cut, repeated or put in. */
export function bentText(r: Random, of: string): string {
  let out = of
  for (let i = 1 + r.int(3); i > 0; i--) {
    const at = r.int(out.length + 1)
    const end = Math.min(out.length, at + r.int(12))
    switch (r.int(5)) {
      case 0:
        out = out.slice(0, at)
        break
      case 1:
        out = out.slice(0, at) + out.slice(end)
        break
      case 2:
        out = out.slice(0, end) + out.slice(at)
        break
      case 3:
        out =
          out.slice(0, at) + r.pick([...sharpTexts, ...sharpKeys, '"', "\\", "{", "[", ".", "~", "/"]) + out.slice(at)
        break
      default:
        out = out.slice(0, at) + String.fromCharCode(r.int(r.happens(0.5) ? 128 : 65_536)) + out.slice(at + 1)
    }
  }
  return out
}

/** Bytes flipped, cut, repeated, put in; what looks like a length set to another. */
export function bentBytes(r: Random, of: Uint8Array): Uint8Array {
  let out = Buffer.from(of)
  for (let i = 1 + r.int(3); i > 0; i--) {
    const at = r.int(out.length + 1)
    switch (r.int(6)) {
      case 0:
        out = out.subarray(0, at)
        break
      case 1:
        if (at < out.length) out[at] = (out[at] ?? 0) ^ (1 << r.int(8))
        break
      case 2:
        if (at < out.length) out[at] = r.int(256)
        break
      case 3:
        out = Buffer.concat([out.subarray(0, at), randomBytes(r, r.int(9)), out.subarray(at)])
        break
      case 4:
        out = Buffer.concat([out, out.subarray(at)])
        break
      default:
        if (at + 4 <= out.length)
          out.writeUInt32BE(r.pick([0, 1, 0xffffffff, 0x7fffffff, out.length, r.int(1 << 20)]), at)
    }
  }
  return out
}

export function randomBytes(r: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => r.int(256)))
}
