/**
 * One change to a state tree, in the form that the `mutative` package produces (github.com/unadlib/mutative, "patches"): a path of
 * object keys, array indexes and Map keys. For a Set the last path element is a position that carries no meaning: `value` is the
 * element. A `replace` with an empty path replaces the whole state.
 */
export interface Patch {
  readonly op: "add" | "remove" | "replace"
  readonly path: readonly unknown[]
  readonly value?: unknown
}

type Container = Record<string, unknown> | unknown[] | Map<unknown, unknown> | Set<unknown>

const refused = new Set<unknown>(["__proto__", "constructor", "prototype"])

function copy(node: unknown, path: readonly unknown[]): Container {
  if (Array.isArray(node)) return node.slice()
  if (node instanceof Map) return new Map(node)
  if (node instanceof Set) return new Set(node)
  if (typeof node === "object" && node !== null) return { ...(node as Record<string, unknown>) }
  throw new RangeError(`a patch's path leads into a value that has no parts: ${JSON.stringify(path)}`)
}

function child(node: Container, key: unknown, path: readonly unknown[]): unknown {
  if (node instanceof Map) return node.get(key)
  if (node instanceof Set) return [...node][Number(key)]
  if (refused.has(key)) throw new RangeError(`a patch's path names ${String(key)}: ${JSON.stringify(path)}`)
  return (node as Record<string, unknown>)[key as string]
}

function put(node: Container, key: unknown, value: unknown, old: unknown): void {
  if (node instanceof Map) node.set(key, value)
  else if (node instanceof Set) {
    node.delete(old)
    node.add(value)
  } else (node as Record<string, unknown>)[key as string] = value
}

function applyLast(node: Container, patch: Patch): void {
  const key = patch.path[patch.path.length - 1]
  if (node instanceof Map) {
    if (patch.op === "remove") node.delete(key)
    else node.set(key, patch.value)
  } else if (node instanceof Set) {
    if (patch.op === "remove") node.delete(patch.value)
    else node.add(patch.value)
  } else if (Array.isArray(node)) {
    const index = key === "length" ? -1 : Number(key)
    if (index === -1) node.length = Number(patch.value)
    else if (!Number.isInteger(index) || index < 0 || index > node.length)
      throw new RangeError(`a patch's array index is out of range: ${JSON.stringify(patch.path)}`)
    else if (patch.op === "add") node.splice(index, 0, patch.value)
    else if (patch.op === "remove") node.splice(index, 1)
    else node[index] = patch.value
  } else {
    if (refused.has(key)) throw new RangeError(`a patch's path names ${String(key)}`)
    if (patch.op === "remove") delete node[key as string]
    else node[key as string] = patch.value
  }
}

/**
 * The state after these patches, applied in order. The given state is not changed; what no patch touches is shared with it, so a
 * subscriber may compare by identity. Throws a RangeError on a patch that does not fit the state: the caller has a gap.
 */
export function applyPatches<S>(state: S, patches: readonly Patch[]): S {
  let root: unknown = state
  const fresh = new Set<unknown>()
  const own = (node: unknown, path: readonly unknown[]): Container => {
    if (fresh.has(node)) return node as Container
    const made = copy(node, path)
    fresh.add(made)
    return made
  }
  for (const patch of patches) {
    if (patch.path.length === 0) {
      root = patch.value
      continue
    }
    let node = own(root, patch.path)
    root = node
    for (let i = 0; i < patch.path.length - 1; i++) {
      const key = patch.path[i]
      const old = child(node, key, patch.path)
      const next = own(old, patch.path)
      if (next !== old) put(node, key, next, old)
      node = next
    }
    applyLast(node, patch)
  }
  return root as S
}
