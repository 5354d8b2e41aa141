import type { MoveReport } from "@sojourn/protocol"
import type { Activation } from "./activation.ts"
import type { ErasedDefinition } from "./actor.ts"
import type { HostAttach } from "./attach.ts"
import { restState, type Ask, type HandInput, type HandState, type Pull } from "./handoff.ts"
import type { Loaded } from "./journal.ts"
import type { Undo } from "./ports.ts"
import type { HomeRole } from "./record.ts"
import type { Grant, PullAnswer } from "./store.ts"

/** What a host keeps of one actor while something is going on with it. */
export interface Slot {
  readonly id: string
  readonly def: ErasedDefinition
  /** Changes once if its POP is forgotten: then it is the heir. */
  home: string
  /** What `home` is where it is this POP. */
  homeRole: HomeRole
  state: HandState
  readonly inputs: HandInput[]
  stepping: boolean
  activation: Activation | undefined
  /** Why its activation sleeps, if it does. */
  sleepsFor: "idle" | "evicted"
  /** The move that was declined because of work under way (`waitUntil`): it is made when that has ended. */
  owed: Pull | undefined
  /** The grant that `install` is to write. */
  incoming: Incoming | undefined
  /** The copies that this owner sent ahead, by the POP they went to: several may ask at once, and each gets on. */
  readonly precopies: Map<string, Precopy>
  /** The copy that came ahead here, read. */
  base: Base | undefined
  /** What the last seal gave: sent by the `grant` effect. `base`: the copy that is already at the other POP, and is not in the body. */
  sealed: (Extract<PullAnswer, { kind: "grant" }> & { readonly base: string | undefined }) | undefined
  readonly attached: Map<string, HostAttach>
  search: Search | undefined
  report: MoveReport | undefined
  askTimer: Undo | undefined
  /** Store operations that answer others' PULLs while nothing else goes on: what they bring must find this slot again. */
  answering: number
  /** Durable revision at which the last activation here ended: sessions that stayed attached have seen no further. */
  left: number | undefined
}

/** A copy sent ahead: good for a grant as long as the stored snapshot is this one. */
export interface Precopy {
  readonly activation: Activation
  /** Blob of the snapshot; undefined while it is being written. */
  readonly id: string | undefined
  readonly revision: number
  readonly bytes: number
  readonly rounds: number
}

export interface Base {
  readonly id: string
  readonly from: string
  readonly bytes: Uint8Array
  readonly loaded: Loaded
  /** The store keeps it for the install. */
  readonly staged: boolean
}

/** A grant at hand, and how it came. */
export interface Incoming {
  readonly from: string
  readonly grant: Grant
  readonly hops: number
  readonly bytes: number
  /** The snapshot in it, read while the actor was still served elsewhere. */
  readonly ahead: Loaded | undefined
}

/** A search under way, from its first PULL on. */
export interface Search {
  ask: Ask
  via: string | undefined
  readonly first: string
  readonly firstNonce: string
  readonly by: Ask["by"]
  readonly startedAt: number
  readonly early: boolean
  undo: Undo
}

export function newSlot(
  id: string,
  def: ErasedDefinition,
  home: { readonly pop: string; readonly role: HomeRole },
): Slot {
  return {
    id,
    def,
    home: home.pop,
    homeRole: home.role,
    state: restState,
    inputs: [],
    stepping: false,
    activation: undefined,
    sleepsFor: "idle",
    owed: undefined,
    incoming: undefined,
    precopies: new Map(),
    base: undefined,
    sealed: undefined,
    attached: new Map(),
    search: undefined,
    report: undefined,
    askTimer: undefined,
    answering: 0,
    left: undefined,
  }
}

/** Nothing goes on any more: the slot may be given back. */
export function isSpent(slot: Slot): boolean {
  const { phase, parked, want } = slot.state
  if (slot.stepping || slot.answering > 0) return false
  return phase.at === "rest" && parked.length === 0 && !want && slot.attached.size === 0 && !slot.activation
}
