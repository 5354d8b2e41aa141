import { emptyBody, type Body, type Fence, type OwnershipRecord, type Store } from "@sojourn/core"
import fc from "fast-check"

/**
 * A second, plain telling of the storage contract, by docs/handoff.md ("Operations of a store") and not by `record.ts`, to compare random
 * sequences with; and the generator of those. A command is symbolic (`the right fence`, `one epoch lower`), so that shrinking keeps it
 * meaningful; it becomes a concrete call against the model's state.
 */
export type StoreCall = {
  [Op in "claim" | "commit" | "check" | "pull" | "install" | "confirm" | "learn" | "load" | "peek" | "compact"]: {
    readonly op: Op
    readonly args: Parameters<Store[Op]>
  }
}["claim" | "commit" | "check" | "pull" | "install" | "confirm" | "learn" | "load" | "peek" | "compact"]

export type Expected = { readonly answer: unknown } | { readonly rejects: "INVARIANT" | "RangeError" }

interface ModelActor {
  readonly record: OwnershipRecord | undefined
  readonly snapshot: Uint8Array | undefined
  readonly entries: readonly Uint8Array[]
}

const nothing: ModelActor = { record: undefined, snapshot: undefined, entries: [] }

export class StoreModel {
  readonly #actors = new Map<string, ModelActor>()
  writes = 0

  actor(id: string): ModelActor {
    return this.#actors.get(id) ?? nothing
  }

  copy(): StoreModel {
    const copy = new StoreModel()
    for (const [id, held] of this.#actors) copy.#actors.set(id, held)
    copy.writes = this.writes
    return copy
  }

  listed(): { actor: string; record: OwnershipRecord }[] {
    return [...this.#actors]
      .flatMap(([actor, { record }]) => (record === undefined ? [] : [{ actor, record }]))
      .toSorted((x, y) => Buffer.compare(Buffer.from(x.actor), Buffer.from(y.actor)))
  }

  /** Who is due here, in the order of time. */
  due(): { actor: string; due: number }[] {
    return this.listed()
      .flatMap(({ actor, record }) =>
        record.k === "OWNED" && record.due !== undefined ? [{ actor, due: record.due }] : [],
      )
      .toSorted((x, y) => x.due - y.due)
  }

  apply(call: StoreCall): Expected {
    const [id] = call.args
    const held = this.actor(id)
    const { record } = held
    const put = (next: OwnershipRecord, body: Body = held): void => {
      this.writes++
      this.#actors.set(id, { record: next, snapshot: body.snapshot, entries: body.entries })
    }
    const body: Body = { snapshot: held.snapshot, entries: held.entries }
    switch (call.op) {
      case "peek":
        return { answer: record }
      case "load":
        return { answer: record && { record, body } }
      case "check":
        return { answer: owns(record, call.args[1]) }
      case "claim": {
        const [, home, first] = call.args
        if (first) {
          const { seen, entries, h, due } = first
          if (JSON.stringify(record) !== JSON.stringify(seen))
            return { answer: { kind: "changed", record, body: emptyBody } }
          if (record !== undefined && record.k !== "OWNED")
            return { answer: { kind: "changed", record, body: emptyBody } }
          if (record === undefined && !home) return { answer: { kind: "elsewhere", record, body: emptyBody } }
          const { f, v, ...rest } = record ?? ({ k: "OWNED", e: 0, f: 0, v: 0, h: "" } as const)
          const one = { ...rest, f: f + 1, v: v + entries.length }
          const next = entries.length === 0 ? one : withDue({ ...one, h }, due)
          put(next, { ...body, entries: [...body.entries, ...entries] })
          return { answer: { kind: "claimed", record: next, body: emptyBody } }
        }
        if (record === undefined && call.args[1]) {
          const created = { k: "OWNED", e: 0, f: 1, v: 0, h: "" } as const
          put(created)
          return { answer: { kind: "claimed", record: created, body: emptyBody } }
        }
        if (record?.k !== "OWNED") return { answer: { kind: "elsewhere", record, body: emptyBody } }
        const next = { ...record, f: record.f + 1 }
        put(next)
        return { answer: { kind: "claimed", record: next, body } }
      }
      case "commit": {
        const [, fence, { entries, h, due }] = call.args
        const v = fence.v + entries.length
        if (record?.k !== "OWNED" || !owns(record, fence)) return { answer: { kind: "fenced", record } }
        if (record.v === v && record.h === h) return { answer: { kind: "already", v } }
        if (record.v !== fence.v) return { answer: { kind: "fenced", record } }
        put(withDue({ ...record, v, h }, due), { ...body, entries: [...body.entries, ...entries] })
        return { answer: { kind: "committed", v } }
      }
      case "pull": {
        const [, home, to, compacted] = call.args
        if (record === undefined && !home) return { answer: { kind: "none" } }
        if (record === undefined || record.k === "OWNED") {
          const { e, v, h } = record ?? { e: 0, v: 0, h: "" }
          const granted = withDue({ k: "GRANTED", e: e + 1, to, v, h } as const, record?.due)
          const whole = compacted && owns(record, compacted.fence) && v === compacted.fence.v
          const sealed: Body = whole ? { snapshot: compacted.snapshot, entries: [] } : body
          put(granted, sealed)
          return { answer: { kind: "grant", record: granted, body: sealed } }
        }
        if (record.k === "GRANTED" && record.to === to) return { answer: { kind: "grant", record, body } }
        return { answer: { kind: "moved", to: record.to, e: record.e, inTransit: record.k === "GRANTED" } }
      }
      case "install": {
        const [, home, grant, first] = call.args
        if (record !== undefined && record.e >= grant.e) return { answer: { kind: "ignored", record } }
        if (record?.k === "OWNED" || (record === undefined && home)) return { rejects: "INVARIANT" }
        const joined = first?.entries ?? []
        const h = joined.length > 0 ? (first?.h ?? "") : grant.h
        const installed = withDue(
          { k: "OWNED", e: grant.e, f: first === undefined ? 0 : 1, v: grant.v + joined.length, h } as const,
          first?.due === undefined ? grant.due : first.due,
        )
        put(installed, { snapshot: grant.body.snapshot, entries: [...grant.body.entries, ...joined] })
        return { answer: { kind: "installed", record: installed } }
      }
      case "confirm": {
        const [, from, e] = call.args
        if (record?.k !== "GRANTED" || record.to !== from) return { answer: { acked: true } }
        if (record.e !== e) return { answer: { acked: record.e > e } }
        put({ k: "PTR", e, to: from }, emptyBody)
        return { answer: { acked: true } }
      }
      case "learn": {
        const [, to, e] = call.args
        if (record === undefined) return { answer: { e: 0 } }
        if (record.k === "OWNED" || e < record.e || (record.k === "PTR" && e === record.e))
          return { answer: { e: record.e } }
        put({ k: "PTR", e, to }, emptyBody)
        return { answer: { e } }
      }
      case "compact": {
        const [, fence, snapshot, upTo] = call.args
        if (record?.k !== "OWNED" || !owns(record, fence)) return { answer: false }
        const from = record.v - body.entries.length
        if (upTo < from || upTo > record.v) return { rejects: "RangeError" }
        put(record, { snapshot, entries: body.entries.slice(upTo - from) })
        return { answer: true }
      }
    }
  }
}

/** `due`: null takes it away, undefined leaves what is there. */
function withDue<R extends OwnershipRecord>(record: R, due: number | null | undefined): R {
  if (due === undefined) return record
  const { due: _before, ...rest } = record as R & { readonly due?: number }
  return { ...rest, ...(due === null ? {} : { due }) } as unknown as R
}

function owns(record: OwnershipRecord | undefined, fence: Omit<Fence, "v">): boolean {
  return record?.k === "OWNED" && record.e === fence.e && record.f === fence.f
}

/** One step of a random sequence: the call that it is in a given state. */
export type StoreCommand = (model: StoreModel) => StoreCall

/** Two actors whose home is here, two whose home is elsewhere. Some keys begin like others. */
const actors = [
  { id: "n/a", home: true },
  { id: "n/a/", home: true },
  { id: "n/a\u0001", home: false },
  { id: "n/ж", home: false },
] as const

const pops = ["fra", "nrt"] as const

export function storeCommands(): fc.Arbitrary<StoreCommand> {
  const actor = fc.constantFrom(...actors)
  const pop = fc.constantFrom(...pops)
  // Mostly what is right, so that sequences get somewhere.
  const off = fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.integer({ min: -2, max: 2 }) },
  )
  const part = fc.uint8Array({ maxLength: 12 })
  const parts = fc.array(part, { maxLength: 3 })
  const some = fc.array(part, { minLength: 1, maxLength: 3 })
  const h = fc.constantFrom("", "p", "q")
  const due = fc.option(fc.constantFrom(null, 0, 5, 5_000, 1_800_000_000_000), { nil: undefined })
  const withTime = (at: number | null | undefined): { due?: number | null } => (at === undefined ? {} : { due: at })
  const natural = (x: number): number => Math.max(0, x)

  const fenceOf = (model: StoreModel, id: string, de: number, df: number, dv: number): Fence => {
    const { record } = model.actor(id)
    const [f, v] = record?.k === "OWNED" ? [record.f, record.v] : [1, 0]
    return { e: natural((record?.e ?? 0) + de), f: natural(f + df), v: natural(v + dv) }
  }
  const near = (model: StoreModel, id: string, de: number): number => natural((model.actor(id).record?.e ?? 0) + de)

  return fc.oneof(
    fc.tuple(actor).map(([{ id, home }]): StoreCommand => () => ({ op: "claim", args: [id, home] })),
    {
      weight: 2,
      arbitrary: fc
        .tuple(actor, off, off, off, parts, h, due)
        .map(([{ id, home }, de, df, dv, entries, hash, at]): StoreCommand => (model) => {
          const { record } = model.actor(id)
          const seen =
            record?.k === "OWNED"
              ? { ...record, e: natural(record.e + de), f: natural(record.f + df), v: natural(record.v + dv) }
              : record
          return { op: "claim", args: [id, home, { seen, entries, h: hash, ...withTime(at) }] }
        }),
    },
    {
      weight: 4,
      arbitrary: fc
        .tuple(actor, off, off, off, some, h, due)
        .map(([{ id }, de, df, dv, entries, hash, at]): StoreCommand => (model) => ({
          op: "commit",
          args: [id, fenceOf(model, id, de, df, dv), { entries, h: hash, ...withTime(at) }],
        })),
    },
    fc
      .tuple(actor, off, off)
      .map(([{ id }, de, df]): StoreCommand => (model) => ({ op: "check", args: [id, fenceOf(model, id, de, df, 0)] })),
    fc
      .tuple(actor, pop, fc.option(part), off, off, off)
      .map(([{ id, home }, to, snapshot, de, df, dv]): StoreCommand => (model) => {
        if (snapshot === null) return { op: "pull", args: [id, home, to] }
        return { op: "pull", args: [id, home, to, { snapshot, fence: fenceOf(model, id, de, df, dv) }] }
      }),
    {
      weight: 2,
      arbitrary: fc
        .tuple(actor, fc.integer({ min: -1, max: 2 }), fc.option(part), parts, fc.option(parts), h, due, due)
        .map(([{ id, home }, de, snapshot, entries, first, hash, at, firstAt]): StoreCommand => (model) => {
          const body: Body = { snapshot: snapshot ?? undefined, entries }
          const grant = {
            e: near(model, id, de),
            v: entries.length + 2,
            h: `g${hash}`,
            body,
            ...(typeof at === "number" ? { due: at } : {}),
          }
          const joined = first === null ? undefined : { entries: first, h: hash, ...withTime(firstAt) }
          return { op: "install", args: [id, home, grant, joined] }
        }),
    },
    fc
      .tuple(actor, pop, off)
      .map(([{ id }, from, de]): StoreCommand => (model) => ({ op: "confirm", args: [id, from, near(model, id, de)] })),
    fc
      .tuple(actor, pop, fc.integer({ min: -1, max: 2 }))
      .map(([{ id }, to, de]): StoreCommand => (model) => ({ op: "learn", args: [id, to, near(model, id, de)] })),
    fc.tuple(actor).map(([{ id }]): StoreCommand => () => ({ op: "load", args: [id] })),
    fc.tuple(actor).map(([{ id }]): StoreCommand => () => ({ op: "peek", args: [id] })),
    fc
      .tuple(actor, off, off, part, fc.integer({ min: 0, max: 4 }))
      .map(([{ id }, de, df, snapshot, back]): StoreCommand => (model) => {
        const fence = fenceOf(model, id, de, df, 0)
        return { op: "compact", args: [id, fence, snapshot, natural(fence.v - back + 1)] }
      }),
  )
}

/** Makes a call on a store. */
export async function callStore(store: Store, call: StoreCall): Promise<unknown> {
  const operation = store[call.op] as (...args: StoreCall["args"]) => Promise<unknown>
  return operation.apply(store, call.args)
}
