/**
 * One change to a state tree, in the form that the `mutative` package produces (github.com/unadlib/mutative, "patches"): a path of
 * object keys, array indexes, Map keys, and positions in a Set's order. A `replace` with an empty path replaces the whole state.
 *
 * Sets are changed by position, because an element that crossed the wire is another object than the one it stands for. Of one change
 * to a Set all removals come first, with positions as they were before; then the additions, with positions as they are after.
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
  if (refused.has(String(key))) throw new RangeError(`a patch's path names ${String(key)}: ${JSON.stringify(path)}`)
  return (node as Record<string, unknown>)[key as string]
}

/** Puts `value` at this position of the Set's order, in place of `gone` elements. */
function splice(node: Set<unknown>, at: number, gone: number, value: unknown): void {
  const after = [...node].slice(at)
  for (const element of after) node.delete(element)
  node.add(value)
  for (const element of after.slice(gone)) node.add(element)
}

function put(node: Container, key: unknown, value: unknown): void {
  if (node instanceof Map) node.set(key, value)
  else if (node instanceof Set) splice(node, Number(key), 1, value)
  else (node as Record<string, unknown>)[key as string] = value
}

/** `removed`: elements that this change has taken from the same Set before. */
function applyToSet(node: Set<unknown>, patch: Patch, removed: number): void {
  const at = Number(patch.path.at(-1))
  const { value } = patch
  if (patch.op === "remove") {
    const element = node.has(value) ? value : [...node][at - removed]
    if (!node.delete(element))
      throw new RangeError(`a patch removes what a set does not have: ${JSON.stringify(patch.path)}`)
  } else if (at >= node.size) node.add(value)
  else splice(node, at, 0, value)
}

function applyLast(node: Exclude<Container, Set<unknown>>, patch: Patch): void {
  const key = patch.path[patch.path.length - 1]
  if (node instanceof Map) {
    if (patch.op === "remove") node.delete(key)
    else node.set(key, patch.value)
  } else if (Array.isArray(node)) {
    // A new length only shortens; longer arrays are made by adding.
    const index = Number(key === "length" ? patch.value : key)
    const last = key === "length" || patch.op === "add" ? node.length : node.length - 1
    if (!Number.isInteger(index) || index < 0 || index > last)
      throw new RangeError(`a patch's array index is out of range: ${JSON.stringify(patch.path)}`)
    if (key === "length") node.length = index
    else if (patch.op === "add") node.splice(index, 0, patch.value)
    else if (patch.op === "remove") node.splice(index, 1)
    else node[index] = patch.value
  } else {
    if (refused.has(String(key))) throw new RangeError(`a patch's path names ${String(key)}`)
    if (patch.op === "remove") delete node[key as string]
    else node[key as string] = patch.value
  }
}

/**
 * The state after these patches, applied in order. The given state is not changed; what no patch touches is shared with it, so a
 * subscriber may compare by identity. Throws a RangeError on a patch that does not fit the state: the caller has a gap. `fresh`: objects
 * of the state that are the caller's own, and may be changed; what is copied joins them.
 */
export function applyPatches<S>(state: S, patches: readonly Patch[], fresh = new Set<object>()): S {
  let root: unknown = state
  const own = (node: unknown, path: readonly unknown[]): Container => {
    if (fresh.has(node as object)) return node as Container
    const made = copy(node, path)
    fresh.add(made)
    return made
  }
  let set: unknown
  let removed = 0
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
      if (next !== old) put(node, key, next)
      node = next
    }
    if (node instanceof Set) {
      removed = node === set && patch.op === "remove" ? removed + 1 : 0
      set = patch.op === "remove" ? node : undefined
      applyToSet(node, patch, removed)
    } else applyLast(node, patch)
  }
  return root as S
}

/**
 * The same for several changes, one after another, in which whatever is touched is copied once. `made`, if given, is filled with the
 * copies: every object of the result that is neither in the given state nor in a patch's value.
 */
export function applyChanges<S>(state: S, changes: Iterable<readonly Patch[]>, made = new Set<object>()): S {
  let root = state
  for (const patches of changes) root = applyPatches(root, patches, made)
  return root
}
