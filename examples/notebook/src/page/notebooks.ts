import type { World } from "../world.ts"

/** Which notebook this page is about: one that follows its reader anywhere, or one that the law keeps in the United States. */
export interface Notebook {
  readonly kind: "notebook" | "usNotebook"
  readonly key: string
}

/** In an address, before the key. */
const usPrefix = "us:"

/** The POPs that may not hold the state of a notebook of this kind. */
export function popsOutside(kind: Notebook["kind"], world: World): readonly string[] {
  if (kind === "notebook") return []
  return world.pops.filter(({ region }) => !region.startsWith("us-")).map(({ id }) => id)
}

/** The one that the address names, else this browser's. A new one is at home at `nearest`: no way to go for its first page. */
export function openNotebook(world: World, nearest: string): Notebook {
  const named = decodeURIComponent(location.hash.slice(1))
  const kind = named.startsWith(usPrefix) ? "usNotebook" : "notebook"
  const key = (kind === "usNotebook" ? named.slice(usPrefix.length) : named) || ownKey(kind, world, nearest)
  localStorage.setItem(kind, key)
  history.replaceState(null, "", addressOf({ kind, key }))
  return { kind, key }
}

/** This browser's notebook of that kind, as an address. */
export function addressOfOwn(kind: Notebook["kind"], world: World, nearest: string): string {
  return addressOf({ kind, key: ownKey(kind, world, nearest) })
}

function addressOf({ kind, key }: Notebook): string {
  return `#${kind === "usNotebook" ? usPrefix : ""}${key}`
}

function ownKey(kind: Notebook["kind"], world: World, nearest: string): string {
  const outside = popsOutside(kind, world)
  const home = outside.includes(nearest) ? world.pops.find(({ id }) => !outside.includes(id))?.id : nearest
  return localStorage.getItem(kind) ?? `${crypto.randomUUID().slice(0, 8)}${home === undefined ? "" : `~${home}`}`
}
