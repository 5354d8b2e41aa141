import { readFileSync } from "node:fs"
import { lineRttMs, type Coordinates } from "@sojourn/testkit"

/** A POP: where it is, and its region. */
export interface AtlasPop extends Coordinates {
  readonly id: string
  readonly name: string
  readonly region: string
}

/** A place where a client may be. */
export interface AtlasPlace extends Coordinates {
  readonly id: string
  readonly name: string
}

/** The world of a run: `pops.json` for the demo, `travel.json` for travel. */
export interface Atlas {
  readonly pops: readonly AtlasPop[]
  readonly places: readonly AtlasPlace[]
  /** What a client's access line adds to each round trip, ms. */
  readonly lastMileMs: number
}

/** Throws a TypeError naming the file and what is wrong in it. */
export function readAtlas(file: string | URL): Atlas {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(file, "utf8"))
  } catch (cause) {
    throw new TypeError(`${String(file)} cannot be read as JSON: ${(cause as Error).message}`, { cause })
  }
  try {
    return parseAtlas(json)
  } catch (cause) {
    throw new TypeError(`${String(file)}: ${(cause as Error).message}`, { cause })
  }
}

export function parseAtlas(json: unknown): Atlas {
  const root = fields(json, "the configuration")
  const lastMileMs = root["lastMileMs"] ?? 8
  if (typeof lastMileMs !== "number" || !(lastMileMs >= 0))
    throw new TypeError("lastMileMs must be a number of at least 0")
  const pops = list(root["pops"], "pops", (x, what) => ({ ...place(x, what), region: text(x, "region", what) }))
  const places = list(root["places"], "places", place)
  return { pops, places, lastMileMs }
}

export function meshRttMs(atlas: Atlas, a: string, b: string): number {
  return lineRttMs(popOf(atlas, a), popOf(atlas, b))
}

export function clientRttMs(atlas: Atlas, pop: string, place: string): number {
  return lineRttMs(popOf(atlas, pop), placeOf(atlas, place)) + atlas.lastMileMs
}

/** The POP that a client at this place has the shortest line to. */
export function nearestPop(atlas: Atlas, place: string): AtlasPop {
  return atlas.pops.reduce((a, b) => (clientRttMs(atlas, a.id, place) <= clientRttMs(atlas, b.id, place) ? a : b))
}

/** The place nearest to a POP. */
export function placeAt(atlas: Atlas, pop: string): AtlasPlace {
  return atlas.places.reduce((a, b) => (clientRttMs(atlas, pop, a.id) <= clientRttMs(atlas, pop, b.id) ? a : b))
}

function popOf(atlas: Atlas, id: string): AtlasPop {
  const pop = atlas.pops.find((one) => one.id === id)
  if (pop === undefined) throw new RangeError(`no POP ${JSON.stringify(id)} is configured`)
  return pop
}

function placeOf(atlas: Atlas, id: string): AtlasPlace {
  const found = atlas.places.find((one) => one.id === id)
  if (found === undefined) throw new RangeError(`no place ${JSON.stringify(id)} is configured`)
  return found
}

type Fields = Record<string, unknown>
function fields(x: unknown, what: string): Fields {
  if (typeof x !== "object" || x === null || Array.isArray(x)) throw new TypeError(`${what} must be an object`)
  return x as Fields
}
function text(o: Fields, key: string, what: string): string {
  const x = o[key]
  if (typeof x !== "string" || x === "") throw new TypeError(`${what}.${key} must be a text`)
  return x
}
function degrees(o: Fields, key: string, most: number, what: string): number {
  const x = o[key]
  if (typeof x !== "number" || !(Math.abs(x) <= most))
    throw new TypeError(`${what}.${key} must be a number from -${most} to ${most}`)
  return x
}
function place(o: Fields, what: string): AtlasPlace {
  return {
    id: text(o, "id", what),
    name: text(o, "name", what),
    lat: degrees(o, "lat", 90, what),
    lon: degrees(o, "lon", 180, what),
  }
}
function list<T extends { readonly id: string }>(x: unknown, what: string, of: (o: Fields, what: string) => T): T[] {
  if (!Array.isArray(x) || x.length === 0) throw new TypeError(`${what} must be a list that is not empty`)
  const items = x.map((one, i) => of(fields(one, `${what}[${i}]`), `${what}[${i}]`))
  const twice = items.find((one, i) => items.findIndex((other) => other.id === one.id) !== i)
  if (twice !== undefined) throw new TypeError(`${what} has two entries with the id ${JSON.stringify(twice.id)}`)
  return items
}
