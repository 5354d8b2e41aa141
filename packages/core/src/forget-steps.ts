import type { OwnershipRecord, SeenRecord } from "./record.ts"
import type { Forgotten, Listed } from "./store.ts"

/** What the POP that coordinates asks of another, and what that one answers (`forget.ts`). Each may be repeated at will. */
export type ForgetStep =
  /** Refuse this POP from now on, durably; `inherited`: its heir has its role as a home. */
  | ({ readonly k: "refuse"; readonly pop: string } & Forgotten)
  /** A page of the records here. */
  | { readonly k: "survey"; readonly after?: string }
  | { readonly k: "revive"; readonly orders: readonly ReviveOrder[] }
  /** For who is, or is to be, a home: where installed actors are. */
  | { readonly k: "tell"; readonly pointers: readonly Told[] }

export interface ReviveOrder {
  readonly actor: string
  readonly seen?: SeenRecord
  readonly e: number
}

export interface Told {
  readonly actor: string
  readonly to: string
  readonly e: number
}

export type ForgetReply =
  | ({ readonly k: "refuse" } & Forgotten)
  | { readonly k: "survey"; readonly records: readonly Surveyed[]; readonly done: boolean }
  | { readonly k: "revive"; readonly revived: number }
  | { readonly k: "tell" }
  | { readonly k: "failed"; readonly reason: string }

export interface Surveyed {
  readonly actor: string
  readonly k: OwnershipRecord["k"]
  readonly e: number
  /** Absent: here. */
  readonly to?: string
}

/** Records or orders in one message: an actor id takes up to 1,024 bytes. */
export const forgetBatchMax = 500

export function surveyed({ actor, record: { k, e, ...rest } }: Listed): Surveyed {
  return "to" in rest ? { actor, k, e, to: rest.to } : { actor, k, e }
}

type Fields = Readonly<Record<string, unknown>>
const fields = (x: unknown): x is Fields => typeof x === "object" && x !== null && !Array.isArray(x)
const count = (x: unknown): boolean => typeof x === "number" && Number.isSafeInteger(x) && x >= 0
const text = (x: unknown, max: number): boolean => typeof x === "string" && x.length > 0 && x.length <= max
const kind = (x: unknown): boolean => x === "OWNED" || x === "GRANTED" || x === "PTR"
const actor = (x: unknown): boolean => text(x, 1_024)
const pop = (x: unknown): boolean => text(x, 64)
const each = (x: unknown, check: (one: Fields) => boolean): boolean =>
  Array.isArray(x) && x.length <= forgetBatchMax && x.every((one) => fields(one) && check(one))

export function isForgetStep(x: unknown): boolean {
  if (!fields(x)) return false
  switch (x["k"]) {
    case "refuse":
      return pop(x["pop"]) && pop(x["heir"]) && typeof x["inherited"] === "boolean"
    case "survey":
      return x["after"] === undefined || actor(x["after"])
    case "revive":
      return each(x["orders"], ({ actor: id, seen, e }) => {
        const named = seen === undefined || (fields(seen) && kind(seen["k"]) && count(seen["e"]))
        return actor(id) && named && count(e)
      })
    case "tell":
      return each(x["pointers"], ({ actor: id, to, e }) => actor(id) && pop(to) && count(e))
    default:
      return false
  }
}

export function isForgetReply(x: unknown): boolean {
  if (!fields(x)) return false
  switch (x["k"]) {
    case "refuse":
      return pop(x["heir"]) && typeof x["inherited"] === "boolean"
    case "survey":
      return (
        typeof x["done"] === "boolean" &&
        each(
          x["records"],
          ({ actor: id, k, e, to }) => actor(id) && kind(k) && count(e) && (to === undefined || pop(to)),
        )
      )
    case "revive":
      return count(x["revived"])
    case "tell":
      return true
    case "failed":
      return typeof x["reason"] === "string"
    default:
      return false
  }
}
