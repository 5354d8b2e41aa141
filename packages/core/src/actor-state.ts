import { SojournError, applyPatches, codec, type Encoded, type Patch } from "@sojourn/protocol"
import type { ErasedDefinition } from "./actor.ts"
import { nextAlarm, type AlarmChange, type Alarms, type StoredAlarm } from "./alarms.ts"
import { encodeText, type EncodedText } from "./encoded-text.ts"
import type { Entry, Loaded } from "./journal.ts"
import { climb } from "./migrate.ts"
import {
  assertFresh,
  assertLeavesUntouched,
  checkPatches,
  pruneLeaves,
  rememberChanges,
  rememberTree,
  type TreeMemory,
} from "./tree.ts"
import { isThenable } from "./thenable.ts"
import type { Turn } from "./turn.ts"

/** What a turn that held leaves. */
export interface Held {
  readonly next: unknown
  /** What is new in it: the copies that were made, and what the turn put in. */
  readonly made: ReadonlySet<object>
  readonly changes: readonly Patch[]
  readonly patches: Encoded | undefined
  readonly events: readonly (readonly [string, Encoded])[]
  readonly alarms: readonly AlarmChange[]
  readonly moveTo: string | undefined
}

const leavesMaxMin = 1_000
const nothingMade: ReadonlySet<object> = new Set()

/** What leaves the state as it is. */
export function heldNothing(state: unknown): Held {
  return {
    next: state,
    made: nothingMade,
    changes: [],
    patches: undefined,
    events: [],
    alarms: [],
    moveTo: undefined,
  }
}

/** It changed nothing: there is nothing to write for it. */
export function isRead({ patches, events, alarms }: Held): boolean {
  return patches === undefined && events.length === 0 && alarms.length === 0
}

/** Its part of the entry. */
export function changesOf({ patches, events, alarms }: Held): Pick<Entry, "p" | "ev" | "al"> {
  const changes: { p?: Encoded; ev?: Held["events"]; al?: Held["alarms"] } = {}
  if (patches !== undefined) changes.p = patches
  if (events.length > 0) changes.ev = events
  if (alarms.length > 0) changes.al = alarms
  return changes
}

/**
 * The state and the alarms of one actor, in memory: what the turns that ended have made of it, durable or not yet. A turn works on a draft;
 * `take` judges what came of it, and `become` takes that in once nothing can refuse the turn any more.
 *
 * Plain objects and arrays of it are frozen. Its leaves (dates, typed arrays) cannot be: what they looked like is remembered, and a turn
 * that changed one in place is told by that. It cannot be rolled back in memory.
 */
export class ActorState {
  #value: unknown
  readonly #tree: TreeMemory
  #alarms: Alarms
  /** They have changed since the last write began. */
  #alarmsChanged = false
  /** Past so many leaves, of which most may be gone from the state, they are looked through. */
  #leavesMax = leavesMaxMin

  /** Nothing stored yet: the author's `state()`. Stored by an older schema: migrated. Throws what those throw, and BAD_STATE. */
  constructor(id: string, def: ErasedDefinition, loaded: Loaded) {
    this.#alarms = loaded.alarms
    if (loaded.fresh) {
      this.#value = firstState(id, def)
      this.#tree = rememberTree(this.#value)
    } else {
      this.#value = climb(id, def, loaded.version, loaded.state)
      this.#tree = loaded.tree && this.#value === loaded.state ? loaded.tree : rememberTree(this.#value)
    }
  }

  get value(): unknown {
    return this.#value
  }

  get alarms(): Alarms {
    return this.#alarms
  }

  encoded(): Encoded {
    return codec.encode(this.#value)
  }

  /** What a turn that held leaves. Throws where it may not commit. Memory is as before, but for leaves changed in place (`leavesIntact`). */
  take(turn: Turn): Held {
    const taken = turn.take()
    assertLeavesUntouched(this.#tree)
    let next = this.#value
    let made = nothingMade
    let patches: EncodedText | undefined
    let changes = taken.patches
    if (changes.length > 0) {
      checkPatches(taken.next, changes, this.#tree)
      patches = encodeText(changes)
      // Not the draft's own result, nor the author's objects: what is in memory is what the journal and every client make of these patches, to
      // the order of keys, and nobody else has it.
      if (changes.some(({ value }) => typeof value === "object" && value !== null))
        changes = codec.decode(patches.toJSON()) as readonly Patch[]
      const copies = new Set<object>()
      next = applyPatches(this.#value, changes, copies)
      made = copies
    }
    const { emitted: events, alarms, moveTo } = taken
    return { next, made, changes, patches, events, alarms, moveTo }
  }

  /** Only now is what the turn put in part of the state: frozen, and known by its object. */
  become({ next, made, changes }: Held, alarms: Alarms): void {
    if (changes.length > 0) rememberChanges(made, [changes], this.#tree)
    this.#value = next
    if (this.#tree.leaves.size > this.#leavesMax) this.pruneLeaves()
    this.setAlarms(alarms)
  }

  setAlarms(alarms: Alarms): void {
    if (alarms === this.#alarms) return
    this.#alarms = alarms
    this.#alarmsChanged = true
  }

  dueAlarm(now: number): StoredAlarm | undefined {
    const next = nextAlarm(this.#alarms)
    return next && next.at <= now ? next : undefined
  }

  /**
   * What the write that begins says of when the next alarm is due: null for none, undefined: as before. `always`: the store may know
   * of no time before.
   */
  takeDue(always: boolean): number | null | undefined {
    const due = this.#alarmsChanged || always ? (nextAlarm(this.#alarms)?.at ?? null) : undefined
    this.#alarmsChanged = false
    return due
  }

  /** Throws BAD_STATE. */
  assertLeavesUntouched(): void {
    assertLeavesUntouched(this.#tree)
  }

  leavesIntact(): boolean {
    try {
      this.assertLeavesUntouched()
      return true
    } catch {
      return false
    }
  }

  /** Called where the whole state is walked anyway. */
  pruneLeaves(): void {
    pruneLeaves(this.#value, this.#tree)
    this.#leavesMax = leavesMaxMin + 2 * this.#tree.leaves.size
  }
}

/** As what it is stored as. Throws BAD_STATE. */
function firstState(id: string, def: ErasedDefinition): unknown {
  const state = def.state()
  if (isThenable(state)) void Promise.resolve(state).catch(() => undefined)
  if (typeof state !== "object" || state === null || isThenable(state))
    throw new SojournError(
      "BAD_STATE",
      `state() of ${id} must return an object, got ${isThenable(state) ? "a promise" : String(state)}`,
    )
  assertFresh(state)
  return codec.decode(encodeText(state).toJSON())
}
