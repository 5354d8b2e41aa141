import { SojournError } from "@sojourn/protocol"
import { homeOf } from "./address.ts"
import type { Principal } from "./mesh-messages.ts"

/**
 * Borders: which POPs may hold an actor's state. Pure; the host asks before it seals, creates or activates, and so must whatever else
 * would send a body to another POP.
 *
 * What holds: the law of an actor is fixed at its genesis and stored in its body, so it goes where the body goes and no later code
 * changes it. A POP outside never gets a body: the owner does not seal for it, asleep or awake, and a grant that is repeated goes to whom it
 * was sealed for. An actor whose class lists regions has its home among the homes inside them, so its first byte is inside as well.
 *
 * Where the law depends on the principal, only the POP that evaluates it knows it, and there must be one such POP: the home, which
 * other POPs can compute without knowing anybody. It creates nothing, and lets nothing be created elsewhere, until a client's
 * attach brings a principal; if it is outside what the function then returns, nothing is created at all.
 *
 * What breaks without it: a seal for a POP outside is irrevocable, so the state would be stored abroad whatever came later.
 */
export type Residency = readonly string[]

/** As a class declares it: for all of its actors, or for each by its key and by the principal whose attach creates it. */
export type ResidencyOption = Residency | ((key: string, who: Principal) => Residency)

/** Globs of one actor's residency; they are stored with it. */
export const residencyGlobsMax = 64

const globPattern = /^[a-z0-9*-]{1,64}$/

/** Throws a TypeError unless `globs` is a list of 1 to 64 region globs: lower-case letters, digits, `-`, and `*` for any of them. */
export function checkResidency(what: string, globs: unknown): asserts globs is Residency {
  if (!Array.isArray(globs) || globs.length === 0 || globs.length > residencyGlobsMax)
    throw new TypeError(`the residency of ${what} must be a list of 1 to ${residencyGlobsMax} regions like "eu-*"`)
  for (const glob of globs as readonly unknown[])
    if (typeof glob !== "string" || !globPattern.test(glob))
      throw new TypeError(
        `the residency of ${what} names ${JSON.stringify(glob)}; a region is up to 64 of a-z, 0-9 and "-", with "*" for any of them`,
      )
}

/** Greedy, one pass a star: no pattern makes it slow. */
function matches(glob: string, region: string): boolean {
  const [head = "", ...parts] = glob.split("*")
  if (parts.length === 0) return glob === region
  const tail = parts.pop() ?? ""
  if (!region.startsWith(head)) return false
  let at = head.length
  for (const part of parts) {
    const found = region.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return region.length - tail.length >= at && region.endsWith(tail)
}

/** Without a residency every region is inside; a POP whose region is not known is inside none. */
export function insideResidency(residency: Residency | undefined, region: string | undefined): boolean {
  return residency === undefined || (region !== undefined && residency.some((glob) => matches(glob, region)))
}

/** What an actor's stored state asks of whoever is to hold it. `version`: its schema's. */
export interface Needs {
  readonly residency: Residency | undefined
  readonly version: number
}

/** A POP as somebody who asks for an actor. `version`: of the schema that its code knows. */
export interface Asker {
  readonly region: string | undefined
  readonly version: number
}

/** The one predicate for everything that hands a body to another POP. */
export function mayHold(needs: Needs, asker: Asker): boolean {
  return insideResidency(needs.residency, asker.region) && asker.version >= needs.version
}

/**
 * What to ask of whoever wants the actor, from what is stored of it (undefined: nothing yet). Undefined: it may not leave its home,
 * which has yet to evaluate its residency.
 */
export function needsOf(declared: ResidencyOption | undefined, stored: Needs | undefined): Needs | undefined {
  if (stored) return stored
  return typeof declared === "function" ? undefined : { residency: declared, version: 1 }
}

/**
 * The home of an actor whose class lists its regions: the one that its key names, else one of `homes` inside them. Every POP computes
 * the same one, since peers compare homes and regions before they talk. Throws BAD_KEY or RESIDENCY_DENIED.
 */
export function homeWithin(
  id: string,
  homes: readonly string[],
  regions: ReadonlyMap<string, string>,
  residency: Residency,
): string {
  const allowed = homes.filter((pop) => insideResidency(residency, regions.get(pop)))
  const home = homeOf(id, allowed, new Set(regions.keys()))
  if (insideResidency(residency, regions.get(home))) return home
  throw new SojournError(
    "RESIDENCY_DENIED",
    home === ""
      ? `${id} has no home: none of mesh.homes is in ${residency.join(", ")}; list one, or use create() at a POP inside`
      : `${id} names ${home} as its home, in ${String(regions.get(home))}; its residency is ${residency.join(", ")}. Use create() at a POP inside`,
    { details: { actor: id, residency } },
  )
}
