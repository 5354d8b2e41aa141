import { SojournError, codecDepthMax, typedArrays, type Patch } from "@sojourn/protocol"

/**
 * State is a tree of values that the codec carries. A shared reference or a cycle would come back from storage as copies, so the actor
 * would behave differently after its first sleep; a function or a class instance would come back as something else. Both are refused
 * before anything is committed, with the path.
 *
 * Only what a turn put into the state is looked at. A node that was in the state before and is now also elsewhere is told by what is done to
 * every object of the committed state (`remember`).
 */
type Step = string | number

const tooDeep = `nests deeper than ${codecDepthMax} levels, or contains itself`
const shared = "is a reference to an object that is already in the state: state is a tree"

export function pathText(path: readonly unknown[]): string {
  return path.length === 0 ? "state" : `state.${path.map(String).join(".")}`
}

function refuse(path: readonly unknown[], what: string): never {
  throw new SojournError("BAD_STATE", `${pathText(path)} ${what}; the turn was rolled back`, {
    details: { path: pathText(path) },
  })
}

/** Not of what is derived from them: a Buffer would come back as nothing that can be read. */
const leafPrototypes = new Set<unknown>([Date.prototype, RegExp.prototype, URL.prototype, ...typedArrays])

export function isOpaqueLeaf(value: object): boolean {
  return leafPrototypes.has(Object.getPrototypeOf(value))
}

/** Walks what is below `value`. Every object is passed to `visit` once; seeing one twice is a shared reference. `visit` answers false: not below this one. */
export function walkTree(
  value: unknown,
  path: Step[],
  visit: (node: object, path: readonly Step[]) => false | undefined,
): void {
  if (path.length > codecDepthMax) refuse(path.slice(0, 8), tooDeep)
  if (typeof value === "function" || typeof value === "symbol")
    refuse(path, `is a ${typeof value}, which cannot be stored`)
  if (typeof value !== "object" || value === null) return
  // `x.__proto__` of a draft hands over what all objects share, which would be frozen with the state.
  if (Object.hasOwn(value, "constructor")) refuse(path, "has a key named constructor")
  if (visit(value, path) === false || isOpaqueLeaf(value)) return
  const below = (key: Step, part: unknown): void => {
    path.push(key)
    walkTree(part, path, visit)
    path.pop()
  }
  if (Array.isArray(value)) {
    value.forEach((part, i) => {
      below(i, part)
    })
  } else if (value instanceof Map) {
    let i = 0
    for (const [k, v] of value) {
      if (typeof k === "object" && k !== null) walkTree(k, path, visit)
      below(typeof k === "string" || typeof k === "number" ? k : i, v)
      i++
    }
  } else if (value instanceof Set) {
    let i = 0
    for (const part of value) below(i++, part)
  } else {
    const proto: unknown = Object.getPrototypeOf(value)
    if (proto !== Object.prototype && proto !== null)
      refuse(
        path,
        `is an instance of ${(proto as { constructor?: { name?: string } }).constructor?.name ?? "a class"}, which cannot be stored`,
      )
    for (const key of Object.keys(value)) {
      if (key === "__proto__" || key === "constructor" || key === "prototype") refuse(path, `has a key named ${key}`)
      below(key, (value as Record<string, unknown>)[key])
    }
  }
}

function at(state: unknown, path: readonly unknown[]): unknown {
  let node = state
  for (const key of path) {
    if (node instanceof Map) node = node.get(key)
    else if (typeof node === "object" && node !== null) node = (node as Record<string, unknown>)[key as string]
    else return undefined
  }
  return node
}

/** What in a committed state cannot be frozen: its Maps and Sets, and the opaque leaves with what they looked like. */
export interface TreeMemory {
  readonly collections: WeakSet<object>
  readonly leaves: Map<object, string>
}

function fingerprint(leaf: object): string {
  if (leaf instanceof Date) return String(leaf.getTime())
  if (leaf instanceof RegExp) return `${leaf.source}/${leaf.flags}/${leaf.lastIndex}`
  if (leaf instanceof URL) return leaf.href
  const bytes = leaf as Uint8Array
  let h = 0x811c9dc5
  const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (const byte of view) h = Math.imul(h ^ byte, 0x01000193)
  return `${bytes.byteLength}:${h >>> 0}`
}

/** Of a state that nobody has stored yet. Throws BAD_STATE. */
export function assertFresh(state: object): void {
  if (isOpaqueLeaf(state))
    refuse([], `is a ${state.constructor.name}: it must be an object with parts, an array, a Map or a Set`)
  const seen = new Set<object>()
  walkTree(state, [], (node, path) => {
    if (seen.has(node)) refuse(path, shared)
    seen.add(node)
    return assertKeys(node, path)
  })
}

export function rememberTree(state: unknown): TreeMemory {
  const memory: TreeMemory = { collections: new WeakSet(), leaves: new Map() }
  const seen = new Set<object>()
  walkTree(state, [], (node, path) => {
    if (seen.has(node)) refuse(path, shared)
    seen.add(node)
    remember(node, memory)
    return undefined
  })
  return memory
}

/** Plain objects and arrays of the state are frozen, Maps and Sets closed: a query, or a reference kept by the author, cannot change them unseen. */
function remember(node: object, memory: TreeMemory): void {
  if (isOpaqueLeaf(node)) memory.leaves.set(node, fingerprint(node))
  else if (node instanceof Map || node instanceof Set) {
    memory.collections.add(node)
    Object.defineProperties(node, node instanceof Map ? closedMap : closedSet)
  } else Object.freeze(node)
}

/** A Map cannot be frozen. Whatever copies it (`new Map`) has one that is open. */
const closed: PropertyDescriptor = {
  value() {
    throw new TypeError("what is in the committed state cannot be changed: change the draft, `c.state` of an action")
  },
}
const closedMap: PropertyDescriptorMap = { set: closed, delete: closed, clear: closed }
const closedSet: PropertyDescriptorMap = { add: closed, delete: closed, clear: closed }

/**
 * Whether the node may be one of the committed state: it was remembered, or its author froze it. To keep every object of the state in a WeakSet
 * would cost each turn, and the collector at each of its rounds, more than the look at the whole tree costs the few who freeze.
 */
function mayBeKnown(node: object, memory: TreeMemory): boolean {
  return Object.isFrozen(node) || memory.collections.has(node) || memory.leaves.has(node)
}

/** Refuses a turn that changed a Date or typed array in place: a draft cannot see that, so it would be neither stored nor sent. */
export function assertLeavesUntouched(memory: TreeMemory): void {
  for (const [leaf, print] of memory.leaves)
    if (fingerprint(leaf) !== print)
      throw new SojournError(
        "BAD_STATE",
        `a ${leaf.constructor.name} in the state was changed in place; assign a new one instead. The turn was rolled back`,
      )
}

function isStorablePrimitive(value: unknown): boolean {
  return value === null || (typeof value !== "object" && typeof value !== "function" && typeof value !== "symbol")
}

/**
 * A Map tells objects by identity, which nothing that is stored or sent keeps: the next change to such a key would be of another key at
 * whoever has the state from there.
 */
function assertKey(key: unknown, path: readonly unknown[]): void {
  if ((typeof key === "object" && key !== null) || typeof key === "function" || typeof key === "symbol")
    refuse(
      path,
      `has a key that is ${key instanceof Date ? "a Date" : `of type ${typeof key}`}, which cannot be stored`,
    )
}

function assertKeys(node: object, path: readonly unknown[]): undefined {
  if (node instanceof Map) for (const key of node.keys()) assertKey(key, path)
}

/** Checks what these patches put into `next`, the draft's result. Throws BAD_STATE. */
export function checkPatches(next: unknown, patches: readonly Patch[], memory: TreeMemory): void {
  for (const { op, path } of patches) {
    if (op !== "remove" && path.length > codecDepthMax) refuse(path.slice(0, 8), tooDeep)
    for (const [i, key] of path.entries()) assertKey(key, path.slice(0, i))
  }
  // What is neither shared nor deep needs no look; what else there is at its place by now, another patch has put there.
  const doubted = patches.filter(({ op, value }) => op !== "remove" && !isStorablePrimitive(value))
  if (doubted.length === 0) return
  const fresh = new Set<object>()
  let doubtful = false
  for (const patch of doubted) {
    const inSet = patch.path.length > 0 && at(next, patch.path.slice(0, -1)) instanceof Set
    const value = inSet ? patch.value : at(next, patch.path)
    const path = patch.path.map((p) => (typeof p === "number" ? p : String(p)))
    // Later patches may have moved what this one put at an index: what it put is then looked at by itself.
    if (value !== patch.value) {
      const seen = new Set<object>()
      walkTree(patch.value, path, (node, at) => {
        // It is not in the state any more: whether it was in it twice is nobody's concern.
        if (seen.has(node)) return false
        seen.add(node)
        return assertKeys(node, at)
      })
      doubtful ||= typeof patch.value === "object" && patch.value !== null
    }
    if (typeof value === "function" || typeof value === "symbol")
      refuse(path, `is a ${typeof value}, which cannot be stored`)
    if (typeof value !== "object" || value === null) continue
    // Put in twice.
    if (fresh.has(value)) {
      doubtful = true
      continue
    }
    walkTree(value, path, (node, at) => {
      assertKeys(node, at)
      const again = fresh.has(node)
      doubtful ||= again || mayBeKnown(node, memory)
      fresh.add(node)
      return again ? false : undefined
    })
  }
  if (!doubtful) return
  // An object seen before was moved, or stands in two places now: only the whole tree can tell.
  const seen = new Set<object>()
  walkTree(next, [], (node, path) => {
    if (seen.has(node)) refuse(path, shared)
    seen.add(node)
    return undefined
  })
}

/** Takes in what these changes put into the state. `made`: the copies that applying them has made, which are part of it from now on. */
export function rememberChanges(made: Iterable<object>, changes: Iterable<readonly Patch[]>, memory: TreeMemory): void {
  for (const node of made) remember(node, memory)
  for (const patches of changes)
    for (const { op, value } of patches)
      if (op !== "remove" && !isStorablePrimitive(value))
        walkTree(value, [], (node) => {
          remember(node, memory)
          return undefined
        })
}

/** Drops leaves that are no longer in the state; called where the whole state is walked anyway. */
export function pruneLeaves(state: unknown, memory: TreeMemory): void {
  if (memory.leaves.size === 0) return
  const present = new Set<object>()
  walkTree(state, [], (node) => {
    present.add(node)
    return undefined
  })
  for (const leaf of memory.leaves.keys()) if (!present.has(leaf)) memory.leaves.delete(leaf)
}
