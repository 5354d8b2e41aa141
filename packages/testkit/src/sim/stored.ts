import type { Stored } from "./disk.ts"

/**
 * The oracle's own reading of what a store holds: of the format written down in `core/journal.ts`, but with none of its code. Sums are not
 * checked: nothing in the simulated disk flips bits.
 */
export interface SimState {
  readonly turns: number
  readonly sum: number
  readonly list: readonly string[]
}

export interface Turn {
  readonly r: number
  readonly state: SimState | undefined
  readonly events: readonly (readonly [string, unknown])[]
  /** The change as the clients are sent it. */
  readonly patches: unknown
  /** Last applied call of each session after this turn. */
  readonly lasts: ReadonlyMap<string, number>
  /** Alarms that are set after this turn. */
  readonly alarms: ReadonlyMap<string, SimAlarm>
}

export interface SimAlarm {
  readonly name: string
  /** The call that set it. */
  readonly id: string
  readonly at: number
  readonly attempts: number
}

interface JsonAlarm {
  readonly n: string
  readonly i?: string
  readonly at?: number
  readonly k?: number
}

interface Coded {
  readonly v: unknown
  readonly m?: unknown
}

interface JsonSession {
  readonly id: string
  readonly l: number
}

interface JsonEntry {
  readonly r: number
  readonly i?: Coded
  readonly p?: Coded
  readonly ev?: readonly (readonly [string, Coded])[]
  readonly s?: readonly JsonSession[]
  readonly x?: readonly string[]
  readonly al?: readonly JsonAlarm[]
}

interface JsonSnapshot {
  readonly r: number
  readonly st: Coded
  readonly se: readonly JsonSession[]
  readonly al?: readonly JsonAlarm[]
  readonly tail: readonly JsonEntry[]
  readonly po: readonly (readonly [sid: string, r: number, at: number])[]
}

const decoder = new TextDecoder()

function json(bytes: Uint8Array, kind: number): unknown {
  if (bytes[0] !== 0x53 || bytes[2] !== kind)
    throw new Error(`the oracle cannot read a stored ${kind === 1 ? "entry" : "snapshot"}`)
  return JSON.parse(decoder.decode(bytes.subarray(8)))
}

/** Of a plain value: the simulated application uses no other. */
export function plain(coded: unknown): unknown {
  const { v, m } = coded as Coded
  if (m !== undefined) throw new Error(`the oracle reads plain values only, got ${JSON.stringify(coded)}`)
  return v
}

function at(node: unknown, key: unknown): unknown {
  return (node as Record<string, unknown>)[String(key)]
}

/** Changes to objects and arrays, by the definition of JSON Patch's add, remove and replace (RFC 6902 §4), on a copy. */
export function patched(
  state: unknown,
  patches: readonly { op: string; path: readonly unknown[]; value?: unknown }[],
): unknown {
  let root = structuredClone(state)
  for (const { op, path, value } of patches) {
    if (path.length === 0) {
      root = structuredClone(value)
      continue
    }
    let node = root
    for (const key of path.slice(0, -1)) node = at(node, key)
    const last = path[path.length - 1]
    if (Array.isArray(node)) {
      if (last === "length") node.length = value as number
      else if (op === "add") node.splice(Number(last), 0, value)
      else if (op === "remove") node.splice(Number(last), 1)
      else node[Number(last)] = value
    } else if (op === "remove") Reflect.deleteProperty(node as object, String(last))
    else (node as Record<string, unknown>)[String(last)] = value
  }
  return root
}

/** What a body says, from its snapshot on: the turn at the snapshot, then one for each entry. */
export class Reading {
  r = 0
  state: SimState | undefined
  lasts = new Map<string, number>()
  alarms = new Map<string, SimAlarm>()
  /** Revisions whose outputs the snapshot keeps for clients that come back, and the revision at which the furthest behind is. */
  outbox: readonly number[] = []
  floor = Infinity

  #alarm({ n, i = "", at, k = 0 }: JsonAlarm): void {
    if (at === undefined) this.alarms.delete(`${n} ${i}`)
    else this.alarms.set(`${n} ${i}`, { name: n, id: i, at, attempts: k })
  }

  snapshot(bytes: Uint8Array): void {
    const { r, st, se, tail, po, al = [] } = json(bytes, 2) as JsonSnapshot
    this.r = r
    this.state = plain(st) as SimState
    this.lasts = new Map(se.map(({ id, l }) => [id, l]))
    this.outbox = tail.map((entry) => entry.r)
    this.floor = Math.min(...po.map(([, seen]) => seen))
    this.alarms = new Map()
    for (const alarm of al) this.#alarm(alarm)
  }

  entry(bytes: Uint8Array): Turn {
    const entry = json(bytes, 1) as JsonEntry
    this.r = entry.r
    if (entry.i !== undefined) this.state = plain(entry.i) as SimState
    if (entry.p !== undefined)
      this.state = patched(this.state, plain(entry.p) as { op: string; path: unknown[]; value?: unknown }[]) as SimState
    this.lasts = new Map(this.lasts)
    for (const { id, l } of entry.s ?? []) this.lasts.set(id, l)
    for (const id of entry.x ?? []) this.lasts.delete(id)
    this.alarms = new Map(this.alarms)
    for (const alarm of entry.al ?? []) this.#alarm(alarm)
    return {
      r: entry.r,
      state: this.state,
      events: (entry.ev ?? []).map(([name, payload]) => [name, plain(payload)] as const),
      patches: entry.p === undefined ? undefined : plain(entry.p),
      lasts: this.lasts,
      alarms: this.alarms,
    }
  }
}

/** A whole body, read from nothing. Entries that the snapshot already holds are skipped. */
export function read(stored: Stored): Reading {
  const reading = new Reading()
  const { snapshot, entries } = stored.body
  if (snapshot !== undefined) reading.snapshot(snapshot)
  for (const bytes of entries) {
    const { r } = json(bytes, 1) as JsonEntry
    if (r <= reading.r) continue
    if (r !== reading.r + 1) throw new Error(`a stored journal goes from revision ${reading.r} to ${r}`)
    reading.entry(bytes)
  }
  return reading
}

/** One text for equal values, whatever the order of their keys. */
export function canonical(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined"
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  const parts = Object.entries(value)
    .filter(([, part]) => part !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, part]) => `${JSON.stringify(key)}:${canonical(part)}`)
  return `{${parts.join(",")}}`
}
