import type { Body } from "@sojourn/core"
import { decideInstall, emptyBody } from "@sojourn/core"
import { crc32 } from "node:zlib"
import { productRules, type Disk, type DiskSeams } from "./disk.ts"
import type { FaultKind } from "./faults.ts"
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
  /** The only kinds of fault in its runs, where few of the usual mixtures would show it. */
  readonly kinds?: readonly FaultKind[]
  /** What it does on its own. */
  haunt?(world: World, disk: Disk): void
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

function withoutSessions(body: Body): Body {
  const strip = (json: Record<string, unknown>): Record<string, unknown> => {
    const { s: _s, tail, ...rest } = json
    const stripped = Array.isArray(tail) ? { tail: (tail as Record<string, unknown>[]).map(strip) } : {}
    return { ...rest, ...stripped, ...("se" in json ? { se: [] } : {}) }
  }
  return {
    snapshot: body.snapshot === undefined ? undefined : resealed(body.snapshot, strip),
    entries: body.entries.map((entry) => resealed(entry, strip)),
  }
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
        install: (_record, home, grant, claim, turns, h) =>
          decideInstall({ k: "PTR", e: 0, to: "" }, home, grant, claim, turns, h),
      },
    },
  },
  {
    name: "dedupe left behind at a move",
    breaks: "sessions travel with the actor (§7): the grant's body carries none",
    seedsMax: 10,
    seams: { granted: withoutSessions },
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
        commit: (record, fence, turns, h) =>
          record?.k === "OWNED"
            ? {
                record: { ...record, v: fence.v + turns, h },
                answer: { kind: "committed", v: fence.v + turns },
              }
            : productRules.commit(record, fence, turns, h),
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
]
