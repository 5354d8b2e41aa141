import { SojournError, type Encoded } from "@sojourn/protocol"
import { encodeText, textOf, utf8Bytes } from "./encoded-text.ts"
import type { Limits } from "./limits.ts"

/**
 * The alarms of one actor: at most one for each name and id. They are part of the actor's committed state: each change is in the entry of
 * the turn that made it (`Entry.al`), so it commits and rolls back with that turn, and moves with the actor inside the sealed body.
 *
 * A fired alarm is taken away by the very entry that holds its handler's effects. A crash before that entry is durable leaves the alarm,
 * which fires again, and none of the effects: at least once, and the effects exactly once. Beside the ownership record lies when the next
 * one is due, so that a store finds sleeping actors (`Store.due`); that is an index, the body is the truth.
 */
export interface StoredAlarm {
  /** Handler, and the author's id among that handler's alarms; absent: "". */
  readonly n: string
  readonly i?: string
  /** When it is due, ms since 1970. */
  readonly at: number
  readonly p?: Encoded
  /** Attempts that failed; absent: none. */
  readonly k?: number
}

/** An alarm as it is now, or without `at`: it is gone. */
export type AlarmChange = StoredAlarm | { readonly n: string; readonly i?: string; readonly at?: undefined }

/** By `alarmKey`. Never mutated: a turn makes another. */
export type Alarms = ReadonlyMap<string, StoredAlarm>

export type AlarmWhen = number | { readonly afterMs: number }

const idCharsMax = 256
/** The last time that a Date has (ECMA-262, "Time Values and Time Range"). */
const timeMax = 8_640_000_000_000_000

export function alarmKey({ n, i }: { readonly n: string; readonly i?: string | undefined }): string {
  return JSON.stringify([n, i ?? ""])
}

export function applyAlarmChanges(alarms: Alarms, changes: readonly AlarmChange[]): Alarms {
  if (changes.length === 0) return alarms
  const next = new Map(alarms)
  for (const change of changes) {
    const key = alarmKey(change)
    // One that is set anew is the last of those that are due at its time.
    next.delete(key)
    if (change.at !== undefined) next.set(key, change)
  }
  return next
}

/** The alarm that is due first, the one set first among equals. */
export function nextAlarm(alarms: Alarms): StoredAlarm | undefined {
  let first: StoredAlarm | undefined
  for (const alarm of alarms.values()) if (first === undefined || alarm.at < first.at) first = alarm
  return first
}

/** Bytes that the alarms take in a snapshot, about. */
export function alarmBytes(alarms: Alarms): number {
  let bytes = 0
  for (const alarm of alarms.values()) bytes += utf8Bytes(alarmText(alarm))
  return bytes
}

/** What `JSON.stringify` makes of it, to the order of keys. */
export function alarmText(alarm: AlarmChange): string {
  if (alarm.at === undefined || alarm.p === undefined) return JSON.stringify(alarm)
  const { p, ...rest } = alarm
  return `${JSON.stringify(rest).slice(0, -1)},"p":${textOf(p)}}`
}

/**
 * What an alarm becomes when its handler failed: the same, later. `random`: uniform in [0, 1); the pause is up to a quarter longer by it, so
 * that two handlers that wait for each other's actor do not meet again in step for ever.
 */
export function postponed(alarm: StoredAlarm, now: number, limits: Limits, random: number): StoredAlarm {
  const k = (alarm.k ?? 0) + 1
  return { ...alarm, k, at: Math.min(now + Math.ceil(retryMs(k, limits) * (1 + random / 4)), timeMax) }
}

/** Pause after the `failures`-th failure in a row. */
export function retryMs(failures: number, { alarmRetryMs, alarmRetryMsMax }: Limits): number {
  return Math.min(alarmRetryMs * 2 ** Math.min(failures - 1, 30), alarmRetryMsMax)
}

/** What one turn does to the alarms. `fired`: the alarm that the turn runs; it is gone unless the turn sets it again. */
export class AlarmChanges {
  readonly #limits: Limits
  readonly #names: object
  readonly #now: number
  /** Undefined: none. Few turns make any. */
  #changed: Map<string, AlarmChange> | undefined
  #alarms: Alarms

  /** `names`: the definition's alarm handlers. */
  constructor(alarms: Alarms, names: object, now: number, limits: Limits, fired: StoredAlarm | undefined) {
    this.#alarms = alarms
    this.#names = names
    this.#now = now
    this.#limits = limits
    if (fired) this.#change(gone(fired.n, fired.i ?? ""))
  }

  set(name: string, when: AlarmWhen, payload: unknown, id: string): void {
    this.#assertName(name, id)
    const { alarmsPerActorMax, alarmPayloadCharsMax } = this.#limits
    const at = Math.ceil(
      typeof when === "number" ? when : typeof when.afterMs === "number" ? this.#now + when.afterMs : NaN,
    )
    if (!(at >= 0 && at <= timeMax))
      throw new RangeError(
        `an alarm's time must be ms since 1970 or { afterMs }, got ${typeof when === "number" ? when : typeof when}`,
      )
    const p = payload === undefined ? undefined : encodeText(payload)
    const chars = p === undefined ? 0 : p.text.length
    if (chars > alarmPayloadCharsMax)
      throw new SojournError(
        "ALARMS_FULL",
        `the payload of alarm ${name} is ${chars} characters (limits.alarmPayloadCharsMax is ${alarmPayloadCharsMax}); keep it in the state instead`,
      )
    // One that sets itself to a time that has passed, again and again, would always be the first.
    const alarm = {
      ...gone(name, id),
      at: Math.max(at, Math.ceil(this.#now)),
      ...(p === undefined ? {} : { p }),
    }
    if (!this.#alarms.has(alarmKey(alarm)) && this.#alarms.size >= alarmsPerActorMax)
      throw new SojournError("ALARMS_FULL", `the actor has ${this.#alarms.size} alarms (limits.alarmsPerActorMax)`)
    this.#change(alarm)
  }

  /** Whether there was one. */
  cancel(name: string, id: string): boolean {
    this.#assertName(name, id)
    const change = gone(name, id)
    if (!this.#alarms.has(alarmKey(change))) return false
    this.#change(change)
    return true
  }

  /** For the turn's entry: the last change of each alarm. */
  take(): readonly AlarmChange[] {
    return this.#changed ? [...this.#changed.values()] : []
  }

  #change(change: AlarmChange): void {
    const key = alarmKey(change)
    this.#changed ??= new Map()
    this.#changed.delete(key)
    this.#changed.set(key, change)
    this.#alarms = applyAlarmChanges(this.#alarms, [change])
  }

  #assertName(name: string, id: string): void {
    if (typeof name !== "string" || !Object.hasOwn(this.#names, name))
      throw new TypeError(`there is no alarm ${typeof name === "string" ? JSON.stringify(name) : typeof name}`)
    if (typeof id !== "string" || id.length > idCharsMax)
      throw new TypeError(`an alarm's id must be a string of at most ${idCharsMax} characters`)
  }
}

function gone(n: string, i: string): { readonly n: string; readonly i?: string } {
  return i === "" ? { n } : { n, i }
}
