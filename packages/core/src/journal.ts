import {
  SojournError,
  applyChanges,
  codec,
  nestsDeeper,
  type Encoded,
  type Patch,
  type WireError,
} from "@sojourn/protocol"
import { alarmText, applyAlarmChanges, type AlarmChange, type Alarms, type StoredAlarm } from "./alarms.ts"
import { decodeChecked } from "./checked-value.ts"
import { textOf } from "./encoded-text.ts"
import { isEntry, isPatches, isSnapshot } from "./journal-form.ts"
import type { Primitives } from "./ports.ts"
import { firstVersion } from "./migrate.ts"
import type { Needs, Residency } from "./residency.ts"
import type { Body } from "./store.ts"
import { rememberChanges, rememberTree, type TreeMemory } from "./tree.ts"

/**
 * How an actor's state is stored: a snapshot at some revision and one journal entry for each revision since. Stores see bytes; only
 * this file knows the format.
 *
 * Bytes: 'S', format version, kind (1 entry, 2 snapshot), 0, CRC-32 of the rest (big-endian), then UTF-8 JSON. A record that fails the
 * checksum or has an unknown version fails the activation with CORRUPT_RECORD and is never overwritten: nothing writes to an actor
 * that could not be loaded.
 *
 * An entry is all of a turn: the state's patches, the events it emitted and the session updates that make it exactly-once, so the
 * journal's tail is also the outbox from which a resuming client is replayed what it missed. The snapshot therefore carries the
 * recent entries along (`tail`): compaction does not shorten what can be resumed. No entry takes a session away: an expired one is left
 * out of the next snapshot (`SessionTable.expire`).
 */
export const formatVersion = 1

export interface StoredReply {
  /** Revision that the reply waits for. */
  readonly r: number
  readonly ok?: Encoded
  readonly err?: WireError
}

/** A session's dedupe record as it is stored. */
export interface SessionRecord {
  readonly id: string
  /** Principal. */
  readonly w: string
  /** When the id was minted, and when the session was last seen; ms since 1970. */
  readonly m: number
  readonly n: number
  /** Last applied call; replies up to `a` were received by the client and are dropped. */
  readonly l: number
  readonly a: number
  /** Replies above `a`, by call number. In an entry: only the new ones. */
  readonly y: readonly (readonly [number, StoredReply])[]
  /** Not stored: `sessionHead` of it, where somebody has made that. */
  readonly head?: string
}

export interface Entry {
  readonly r: number
  /** When the turn ended, ms since 1970: bounds the tail's age. */
  readonly t: number
  /** The whole state: in the first entry of an actor's life, and where it was migrated. Nothing before such an entry can be replayed. */
  readonly i?: Encoded
  /** Beside `i`: the schema version of the state; absent: 1. */
  readonly sv?: number
  /** Beside `i`: the regions that the state may enter; absent: all. Fixed in the first entry, repeated by the others. */
  readonly rs?: Residency
  readonly p?: Encoded
  readonly ev?: readonly (readonly [string, Encoded])[]
  readonly s?: readonly SessionRecord[]
  /** Alarms that the turn set or took away; a fired alarm is taken away by the entry that has its effects. */
  readonly al?: readonly AlarmChange[]
}

interface StoredSnapshot {
  readonly r: number
  /** As in an entry. */
  readonly sv?: number
  readonly rs?: Residency
  readonly st: Encoded
  readonly se: readonly SessionRecord[]
  readonly tail: readonly Output[]
  /** How far each session's client was known to have come: id, revision, and when; bounds the tail that travels. */
  readonly po: readonly Position[]
  /** Absent: none is set. */
  readonly al?: readonly StoredAlarm[]
}

/** Session, revision that its client has acknowledged, and when that was known, ms since 1970. */
export type Position = readonly [sid: string, revision: number, at: number]

/** What a resuming client may be sent of an entry; all else that was in it is in the table of sessions and the alarms. */
export type Output = Pick<Entry, "r" | "t" | "p" | "ev">

export interface TailEntry {
  readonly entry: Output
  /** As it was stored. */
  readonly bytes: number
}

/** A body, read. `fresh`: nothing was stored yet. */
export interface Loaded extends Needs {
  readonly fresh: boolean
  readonly revision: number
  readonly state: unknown
  /** The objects of `state`, where somebody had the time to look. */
  readonly tree: TreeMemory | undefined
  readonly sessions: Map<string, SessionRecord>
  readonly tail: TailEntry[]
  readonly positions: readonly Position[]
  readonly alarms: Alarms
  readonly snapshotBytes: number
  readonly journalBytes: number
  readonly journalEntries: number
}

const header = 8
/** Bytes of one piece of memory that entries share, and of the largest that does: an allocation each would cost as much as all else about it. */
const slabBytes = 65_536
const sharedBytesMax = 4_096
let slab = new Uint8Array(slabBytes)
let slabUsed = 0
/** What an author's refusal brings along (`WireError.data`) is as deep as the author made it. */
const storedDepthMax = 2_048
const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

function seal(kind: 1 | 2, text: string, primitives: Primitives): Uint8Array {
  // UTF-8 has at most three bytes for a UTF-16 unit.
  const room = header + 3 * text.length
  const shares = room <= sharedBytesMax
  if (shares && slabUsed + room > slabBytes) {
    slab = new Uint8Array(slabBytes)
    slabUsed = 0
  }
  const memory = shares ? slab : new Uint8Array(room)
  const from = shares ? slabUsed : 0
  const payloadAt = from + header
  const { written } = encoder.encodeInto(text, memory.subarray(payloadAt))
  const end = payloadAt + written
  if (shares) slabUsed = end
  const sum = primitives.checksum(memory.subarray(payloadAt, end))
  const bytes = memory.subarray(from, end)
  bytes[0] = 0x53
  bytes[1] = formatVersion
  bytes[2] = kind
  bytes[3] = 0
  bytes[4] = sum >>> 24
  bytes[5] = sum >>> 16
  bytes[6] = sum >>> 8
  bytes[7] = sum
  return bytes
}

/** The checksum that a sealed record brings: of all in it that can differ. */
export function sealOf(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 4; at < header; at++) sum = (sum << 8) | (bytes[at] as number)
  return sum >>> 0
}

function unseal(kind: 1 | 2, bytes: Uint8Array, actor: string, primitives: Primitives): unknown {
  const what = kind === 1 ? "journal entry" : "snapshot"
  const corrupt = (why: string, cause?: unknown): never => {
    throw new SojournError("CORRUPT_RECORD", `a ${what} of ${actor} ${why}; its bytes are left as they are`, {
      details: { actor, bytes: bytes.length },
      ...(cause === undefined ? {} : { cause }),
    })
  }
  if (bytes.length < header || bytes[0] !== 0x53 || bytes[2] !== kind) return corrupt("is not in Sojourn's format")
  if (bytes[1] !== formatVersion)
    return corrupt(`has format version ${String(bytes[1])}; this code reads ${formatVersion}`)
  const payload = bytes.subarray(header)
  if (primitives.checksum(payload) !== sealOf(bytes)) return corrupt("fails its checksum")
  let json: unknown
  try {
    json = JSON.parse(decoder.decode(payload))
  } catch (cause) {
    return corrupt("is not readable", cause)
  }
  // Deeper than anything that is stored; what comes after recurses.
  if (payload.length > 2 * storedDepthMax && nestsDeeper(json, storedDepthMax)) return corrupt("nests too deeply")
  return (kind === 1 ? isEntry : isSnapshot)(json) ? json : corrupt("is not of its form")
}

/** How needs are stored: nothing where nothing is asked, so that bodies of versions before this field read as what they are. */
export function storedNeeds({ residency, version }: Needs): { readonly sv?: number; readonly rs?: Residency } {
  return {
    ...(version === firstVersion ? {} : { sv: version }),
    ...(residency === undefined ? {} : { rs: residency }),
  }
}

/**
 * What a stored body asks of whoever holds it, without building its state; undefined: nothing is stored yet. Throws CORRUPT_RECORD: what
 * cannot be read is not given away either.
 */
export function readNeeds(actor: string, body: Body, primitives: Primitives): Needs | undefined {
  let needs: Needs | undefined
  let revision = 0
  const take = ({ sv, rs }: { readonly sv?: number; readonly rs?: Residency }): void => {
    needs = { version: sv ?? firstVersion, residency: rs }
  }
  if (body.snapshot !== undefined) {
    const stored = unseal(2, body.snapshot, actor, primitives) as StoredSnapshot
    take(stored)
    revision = stored.r
  }
  for (const bytes of body.entries) {
    const entry = unseal(1, bytes, actor, primitives) as Entry
    if (entry.r > revision && entry.i !== undefined) take(entry)
  }
  return needs
}

export function encodeEntry(entry: Entry, primitives: Primitives): Uint8Array {
  return seal(1, entryText(entry), primitives)
}

export function encodeSnapshot(
  snapshot: {
    revision: number
    needs: Needs
    state: unknown
    sessions: Iterable<SessionRecord>
    tail: readonly Output[]
    positions: readonly Position[]
    alarms?: Alarms
  },
  primitives: Primitives,
): Uint8Array {
  const { revision, needs, state, sessions, tail, positions, alarms } = snapshot
  const st = JSON.stringify(codec.encode(state))
  const se = Array.from(sessions, sessionText).join()
  const al = alarms && alarms.size > 0 ? `,"al":[${Array.from(alarms.values(), alarmText).join()}]` : ""
  const text = `{"r":${revision}${needsText(storedNeeds(needs))},"st":${st},"se":[${se}],"tail":[${tail.map(outputText).join()}],"po":${JSON.stringify(positions)}${al}}`
  return seal(2, text, primitives)
}

// The same as `JSON.stringify` makes, but that what is text already (`EncodedText`) is taken as it is.

function entryText(entry: Entry): string {
  const { i, s, al } = entry
  const whole = i === undefined ? "" : `,"i":${textOf(i)}`
  const sessions =
    s === undefined ? "" : `,"s":[${s.length === 1 ? sessionText(s[0] as SessionRecord) : s.map(sessionText).join()}]`
  const alarms = al === undefined ? "" : `,"al":[${al.map(alarmText).join()}]`
  return `{${outputFields(entry)}${whole}${needsText(entry)}${sessions}${alarms}}`
}

function needsText({ sv, rs }: Pick<Entry, "sv" | "rs">): string {
  return `${sv === undefined ? "" : `,"sv":${sv}`}${rs === undefined ? "" : `,"rs":${JSON.stringify(rs)}`}`
}

function outputText(output: Output): string {
  return `{${outputFields(output)}}`
}

function outputFields({ r, t, p, ev }: Output): string {
  const patches = p === undefined ? "" : `,"p":${textOf(p)}`
  const events = ev === undefined ? "" : `,"ev":${eventsText(ev)}`
  return `"r":${r},"t":${t}${patches}${events}`
}

export function eventsText(events: NonNullable<Output["ev"]>): string {
  return `[${events.map(([name, payload]) => `[${JSON.stringify(name)},${textOf(payload)}]`).join()}]`
}

/** The beginning of a session's text, which is the same in all its records. */
export function sessionHead({ id, w, m }: Pick<SessionRecord, "id" | "w" | "m">): string {
  return `{"id":${JSON.stringify(id)},"w":${JSON.stringify(w)},"m":${m},"n":`
}

function sessionText(record: SessionRecord): string {
  const { n, l, a, y, head = sessionHead(record) } = record
  let replies = ""
  for (const [c, reply] of y) replies += `${replies === "" ? "" : ","}[${c},${replyText(reply)}]`
  return `${head}${n},"l":${l},"a":${a},"y":[${replies}]}`
}

function replyText({ r, ok, err }: StoredReply): string {
  const result = ok === undefined ? "" : `,"ok":${textOf(ok)}`
  const refusal = err === undefined ? "" : `,"err":${JSON.stringify(err)}`
  return `{"r":${r}${result}${refusal}}`
}

/** A copy, since it is kept for long: much of an entry is gone as soon as its write is durable. */
export function outputOf({ r, t, p, ev }: Entry): Output {
  if (ev === undefined) return p === undefined ? { r, t } : { r, t, p }
  return p === undefined ? { r, t, ev } : { r, t, p, ev }
}

/** Whether a client that is behind this entry can be brought up to date by patches: not over a migration. */
function replaysOver(entry: Entry): boolean {
  return entry.i === undefined || entry.r === 1
}

/** Applies an entry's session updates to a table of records. */
export function mergeSessions(sessions: Map<string, SessionRecord>, entry: Entry): void {
  for (const update of entry.s ?? []) {
    const before = sessions.get(update.id)
    const replies = [...(before?.y ?? []), ...update.y].filter(([c]) => c > update.a)
    sessions.set(update.id, { ...update, y: replies })
  }
}

function unreadable(actor: string, cause?: unknown): never {
  throw new SojournError("CORRUPT_RECORD", `the state of ${actor} cannot be read; its bytes are left as they are`, {
    details: { actor },
    cause,
  })
}

function decoded(actor: string, value: Encoded): unknown {
  try {
    return decodeChecked(value)
  } catch (cause) {
    return unreadable(actor, cause)
  }
}

function patchesOf(actor: string, value: Encoded): readonly Patch[] {
  const patches = decoded(actor, value)
  return isPatches(patches) ? (patches as readonly Patch[]) : unreadable(actor)
}

/** What was stored is a state that could be stored. */
function treeOf(actor: string, state: unknown): TreeMemory {
  try {
    return rememberTree(state)
  } catch (cause) {
    return unreadable(actor, cause)
  }
}

/** Throws CORRUPT_RECORD unless `readBody` could read this body to that revision. Builds nothing. */
export function assertWhole(actor: string, body: Body, revision: number, primitives: Primitives): void {
  let r = body.snapshot === undefined ? 0 : (unseal(2, body.snapshot, actor, primitives) as StoredSnapshot).r
  for (const bytes of body.entries) r = follows(actor, r, unseal(1, bytes, actor, primitives) as Entry)
  assertEnds(actor, r, revision)
}

/** The revision after this entry, which may be a compaction's leftover. */
function follows(actor: string, revision: number, entry: Entry): number {
  if (entry.r > revision + 1)
    throw new SojournError("CORRUPT_RECORD", `the journal of ${actor} goes from revision ${revision} to ${entry.r}`)
  return Math.max(revision, entry.r)
}

function assertEnds(actor: string, end: number, revision: number): void {
  if (end !== revision)
    throw new SojournError(
      "CORRUPT_RECORD",
      `the record of ${actor} says revision ${revision}, its body ends at ${end}`,
    )
}

/** A snapshot alone, as a body without a journal; undefined: of an actor that was never used. */
function readSnapshot(actor: string, snapshot: Uint8Array | undefined, primitives: Primitives): Loaded {
  const loaded = {
    fresh: true,
    version: firstVersion,
    residency: undefined as Residency | undefined,
    revision: 0,
    state: undefined as unknown,
    tree: undefined,
    sessions: new Map<string, SessionRecord>(),
    tail: [] as TailEntry[],
    positions: [] as readonly Position[],
    alarms: new Map() as Alarms,
    snapshotBytes: snapshot?.length ?? 0,
    journalBytes: 0,
    journalEntries: 0,
  }
  if (snapshot === undefined) return loaded
  const stored = unseal(2, snapshot, actor, primitives) as StoredSnapshot
  loaded.fresh = false
  loaded.version = stored.sv ?? firstVersion
  loaded.residency = stored.rs
  loaded.revision = stored.r
  loaded.state = decoded(actor, stored.st)
  for (const record of stored.se) loaded.sessions.set(record.id, record)
  for (const entry of stored.tail) loaded.tail.push({ entry: outputOf(entry), bytes: outputText(entry).length })
  loaded.positions = stored.po
  loaded.alarms = applyAlarmChanges(loaded.alarms, stored.al ?? [])
  return loaded
}

/** The same, with all that can be done before the entries behind it are there. */
export function readAhead(actor: string, snapshot: Uint8Array, primitives: Primitives): Loaded {
  const loaded = readSnapshot(actor, snapshot, primitives)
  return { ...loaded, tree: treeOf(actor, loaded.state) }
}

/**
 * Snapshot + journal = state. Entries at or below the snapshot's revision are skipped (a compaction's leftovers); a hole between them,
 * or an end other than the record's revision, is CORRUPT_RECORD. `ahead`: the snapshot, read before; it is used up.
 */
export function readBody(actor: string, body: Body, revision: number, primitives: Primitives, ahead?: Loaded): Loaded {
  const loaded = { ...(ahead ?? readSnapshot(actor, body.snapshot, primitives)) }
  let changes: (readonly Patch[])[] = []
  for (const bytes of body.entries) {
    const entry = unseal(1, bytes, actor, primitives) as Entry
    if (follows(actor, loaded.revision, entry) === loaded.revision) continue
    if (entry.i !== undefined) {
      loaded.state = decoded(actor, entry.i)
      loaded.tree = undefined
      changes = []
      loaded.version = entry.sv ?? firstVersion
      loaded.residency = entry.rs
    }
    if (entry.p !== undefined) changes.push(patchesOf(actor, entry.p))
    mergeSessions(loaded.sessions, entry)
    loaded.alarms = applyAlarmChanges(loaded.alarms, entry.al ?? [])
    if (replaysOver(entry)) loaded.tail.push({ entry: outputOf(entry), bytes: bytes.length })
    else loaded.tail = []
    loaded.revision = entry.r
    loaded.fresh = false
    loaded.journalBytes += bytes.length
    loaded.journalEntries += 1
  }
  const made = new Set<object>()
  try {
    loaded.state = applyChanges(loaded.state, changes, made)
    if (loaded.tree) rememberChanges(made, changes, loaded.tree)
  } catch (cause) {
    unreadable(actor, cause)
  }
  assertEnds(actor, loaded.revision, revision)
  return loaded
}
