import type { Body } from "@sojourn/core"
import { decideInstall, emptyBody } from "@sojourn/core"
import { SojournError } from "@sojourn/protocol"
import { crc32 } from "node:zlib"
import { productRules, type Disk, type DiskSeams } from "./disk.ts"
import type { FaultKind } from "./faults.ts"
import type { MeshHead } from "./mesh-tap.ts"
import type { Fate } from "./network.ts"
import type { Random } from "./random.ts"
import { sourceDefects } from "./source-defects.ts"
import { Process, type World } from "./world.ts"

/**
 * Planted defects, each at a seam outside the product's code: the store that a node is given. A simulation that does not find one
 * of them proves nothing where it finds nothing.
 */
export interface Mutant {
  readonly name: string
  /** The rule that it breaks, and its number in docs/handoff.md. */
  readonly breaks: string
  /** Seeds within which it must be found. */
  readonly seedsMax: number
  readonly seams: Partial<DiskSeams>
  /** It is in the product's own text (`source-defects.ts`). */
  readonly inSource?: true
  /** The only kinds of fault in its runs, where few of the usual mixtures would show it. */
  readonly kinds?: readonly FaultKind[]
  /** What it does on its own. */
  haunt?(world: World, disk: Disk): void
  /** What it does to a message between POPs; undefined: nothing. */
  fate?(message: MeshHead, random: Random): Fate | undefined
  /** A POP has heard this. */
  heard?(disk: Disk, message: MeshHead): void
  /** Whom a gateway takes the bearer of a ticket for. */
  authenticate?(ticket: string | undefined): string | undefined
  /** What the client's user is told instead of this error. */
  told?(error: unknown): unknown
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A stored record with other JSON in it, sealed again as `core/journal.ts` describes. */
function resealed(bytes: Uint8Array, change: (json: Record<string, unknown>) => Record<string, unknown>): Uint8Array {
  const json = JSON.parse(decoder.decode(bytes.subarray(8))) as Record<string, unknown>
  const payload = encoder.encode(JSON.stringify(change(json)))
  const made = new Uint8Array(8 + payload.length)
  made.set(bytes.subarray(0, 4))
  new DataView(made.buffer).setUint32(4, crc32(payload))
  made.set(payload, 8)
  return made
}

type Json = Record<string, unknown>

function rewritten(body: Body, change: (json: Json) => Json): Body {
  return {
    snapshot: body.snapshot === undefined ? undefined : resealed(body.snapshot, change),
    entries: body.entries.map((entry) => resealed(entry, change)),
  }
}

function withoutSessions(json: Json): Json {
  const { s: _s, tail, ...rest } = json
  const stripped = Array.isArray(tail) ? { tail: (tail as Json[]).map(withoutSessions) } : {}
  return { ...rest, ...stripped, ...("se" in json ? { se: [] } : {}) }
}

/** Sessions, but none of the replies that their clients may still ask for. */
function withoutReplies(json: Json): Json {
  const strip = (sessions: unknown): Json[] => (sessions as Json[]).map((session) => ({ ...session, y: [] }))
  return {
    ...json,
    ...("s" in json ? { s: strip(json["s"]) } : {}),
    ...("se" in json ? { se: strip(json["se"]) } : {}),
  }
}

function withoutAlarms({ al: _al, ...rest }: Json): Json {
  return rest
}

/** A turn that takes an alarm away, without what else it did: as if that were to follow in another write. */
function alarmTakenAlone(json: Json): Json {
  const gone = (json["al"] as Json[] | undefined)?.some(({ at }) => at === undefined)
  if (gone !== true || json["s"] !== undefined) return json
  const { p: _p, ev: _ev, ...rest } = json
  return rest
}

export const mutants: readonly Mutant[] = [
  {
    name: "reply before durable",
    breaks: "output gate (M10): the store says that a write is done when it is only visible",
    seedsMax: 3,
    seams: { eager: true },
  },
  {
    name: "install not guarded by epoch",
    breaks: "install only upward (M5): a repeated GRANT is installed again",
    seedsMax: 40,
    seams: {
      rules: {
        ...productRules,
        install: (_record, home, grant, claim, turns, h, due) =>
          decideInstall({ k: "PTR", e: 0, to: "" }, home, grant, claim, turns, h, due),
      },
    },
  },
  {
    name: "dedupe left behind at a move",
    breaks: "sessions travel with the actor (§7): the grant's body carries none",
    seedsMax: 10,
    seams: { granted: (body) => rewritten(body, withoutSessions) },
  },
  {
    name: "source reclaims on timeout",
    breaks: "a seal is irrevocable (M3): after 2 s without CONFIRM the source owns the actor again",
    seedsMax: 60,
    seams: {},
    haunt(world, disk) {
      const ghost = new Process(`ghost:${disk.pop}`)
      const since = new Map<string, number>()
      const look = (): void => {
        for (const [actor, { record }] of disk.visible) {
          if (record.k !== "GRANTED") since.delete(actor)
          else if (!since.has(actor)) since.set(actor, world.time)
          else if (world.time - (since.get(actor) ?? 0) > 2_000)
            disk.meddle(actor, ({ body }) => ({
              record: { k: "OWNED", e: record.e, f: 0, v: record.v, h: record.h },
              body,
            }))
        }
        world.plan(ghost, 250, "world", "", look)
      }
      look()
    },
  },
  {
    name: "body dropped at seal",
    breaks: "the body stays until CONFIRM (M8): only the first GRANT carries it",
    seedsMax: 40,
    seams: {
      rewrite: (change) => (change.after.record.k === "GRANTED" ? { ...change.after, body: emptyBody } : undefined),
    },
  },
  {
    name: "no fence compare",
    breaks: "every write compares epoch, fence and revision (M1, M2): a commit needs only an owner's record",
    seedsMax: 120,
    kinds: ["second process", "client socket cut"],
    seams: {
      rules: {
        ...productRules,
        commit: (record, fence, turns, h, due) =>
          record?.k === "OWNED"
            ? productRules.commit(record, { e: record.e, f: record.f, v: record.v }, turns, h, due)
            : productRules.commit(record, fence, turns, h, due),
      },
    },
  },
  {
    name: "reads are not fenced",
    breaks: "a read leaves only if a check begun after it passed (I4): the check always does",
    seedsMax: 200,
    kinds: ["second process", "client socket cut"],
    seams: { rules: { ...productRules, check: () => true } },
  },
  {
    name: "genesis anywhere",
    breaks: "only the home creates (M11): every POP takes itself for it",
    seedsMax: 40,
    seams: {
      rules: {
        ...productRules,
        claim: (record) => productRules.claim(record, true),
        pull: (record, _home, to) => productRules.pull(record, true, to),
      },
    },
  },
  {
    name: "reply cache left behind at a move",
    breaks: "replies travel with their sessions (§7): the grant's body carries none",
    seedsMax: 100,
    seams: { granted: (body) => rewritten(body, withoutReplies) },
  },
  {
    name: "confirm before install",
    breaks: "install before CONFIRM (M9): the store says that it is installed when that is only visible",
    seedsMax: 10,
    seams: { eager: new Set(["install"]) },
  },
  {
    name: "belief reaches learn",
    breaks: "only what the owner itself says is written (M12): the pointer of a MOVED is",
    seedsMax: 100,
    seams: {},
    heard(disk, { t, actor, to, e }) {
      if (t !== "MOVED" || typeof actor !== "string" || typeof to !== "string" || typeof e !== "number") return
      disk.meddle(actor, (held) => {
        const { record } = productRules.learn(held.record, to, e)
        return record === undefined ? held : { record, body: emptyBody }
      })
    },
  },
  {
    name: "alarm removed before its effect",
    breaks: "an alarm goes in the entry that has its effect: it goes in one of its own",
    seedsMax: 10,
    seams: { entry: (bytes) => resealed(bytes, alarmTakenAlone) },
  },
  {
    name: "alarm left behind at a move",
    breaks: "alarms travel with the actor: the grant's body carries none",
    seedsMax: 10,
    seams: { granted: (body) => rewritten(body, withoutAlarms) },
  },
  {
    name: "journal entry skipped on replay",
    breaks: "an activation is every entry of its journal: one in the middle changes nothing",
    seedsMax: 20,
    seams: {
      loaded: ({ snapshot, entries }) => ({
        snapshot,
        entries: entries.map((entry, i) =>
          i > 0 && i === entries.length >> 1 ? resealed(entry, ({ p: _p, ...rest }) => rest) : entry,
        ),
      }),
    },
  },
  {
    name: "compaction drops the unacknowledged tail",
    breaks: "a snapshot keeps what clients that come back may have missed (G8): it keeps none of it",
    seedsMax: 20,
    seams: { compacted: (snapshot) => resealed(snapshot, (json) => ({ ...json, tail: [] })) },
  },
  {
    name: "stale ticket authenticates",
    breaks: "a ticket is a hint and gives no right (M14): its bearer is taken for the user it was made for",
    seedsMax: 60,
    seams: {},
    authenticate(ticket) {
      const [payload = ""] = (ticket ?? "").split(".")
      try {
        const principal = (JSON.parse(Buffer.from(payload, "base64url").toString()) as unknown[])[4]
        return typeof principal === "string" ? principal : undefined
      } catch {
        return undefined
      }
    },
  },
  {
    name: "relay reorders",
    breaks: "a relay keeps the order of its frames (A2): some overtake others, and the relay says nothing",
    seedsMax: 20,
    seams: {},
    fate: ({ t }, random) => (t === "FRAME" && random.happens(0.05) ? "late" : undefined),
  },
  {
    name: "timeout reported as not-executed",
    breaks: "a call that was sent and not answered has an unknown outcome: it is said not to have run",
    seedsMax: 60,
    seams: {},
    told: (error) =>
      error instanceof SojournError && error.code === "CALL_TIMEOUT"
        ? new SojournError("CALL_TIMEOUT", error.message, { outcome: "not-executed" })
        : error,
  },
  ...(
    [
      [
        "resume skips one revision",
        "a resumed client is sent all that it missed (G8): the first of it is left out",
        20,
      ],
      ["query leaves before durable", "a read waits for what it has read (M10): it does not", 20],
      ["drain drops a queued call", "what waits at a drain runs in the next activation: it is forgotten", 100],
    ] as const
  ).map(([name, breaks, seedsMax]): Mutant => {
    if (!(name in sourceDefects)) throw new RangeError(`there is no defect "${name}"`)
    return { name, breaks, seedsMax, seams: {}, inSource: true }
  }),
]
