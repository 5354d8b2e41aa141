import { codec, type AttachBody, type CallBody, type ClientFrame } from "@sojourn/protocol"
import { createHash, createHmac, hkdfSync } from "node:crypto"
import { crc32 } from "node:zlib"
import type { Primitives } from "../packages/core/src/ports.ts"
import type { MeshMessage } from "../packages/core/src/mesh-messages.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { randomValue } from "./values.ts"

/** Valid frames and messages of every kind, to be bent. */

export const primitives: Primitives = {
  hmac: (key, text) => createHmac("sha256", key).update(text).digest("base64url"),
  digest: (data) => createHash("sha256").update(data).digest("base64url"),
  checksum: (data) => crc32(data),
  derive: (secret, use) => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url"),
  equal: (a, b) => a === b,
}

export interface FrameHints {
  readonly sids?: readonly string[]
  readonly tickets?: readonly string[]
  readonly actor?: readonly [string, string]
}

export function validAttach(r: Random, hints: FrameHints = {}): AttachBody {
  return {
    ch: r.int(4),
    actor: hints.actor ?? ["note", r.pick(["mallory", "other", "a~bos"])],
    sid: r.pick(hints.sids ?? ["s.1.m"]),
    acked: r.int(3),
    live: r.happens(0.5),
    ...(r.happens(0.4) ? { pos: r.int(9) } : {}),
    ...(r.happens(0.4) ? { ticket: r.pick(hints.tickets ?? ["a.b.c"]) } : {}),
    ...(r.happens(0.3) ? { stay: true } : {}),
    ...(r.happens(0.4) ? { calls: [{ c: 1 + r.int(3), a: "put", p: codec.encode([randomValue(r)]) }] } : {}),
    ...(r.happens(0.3) ? { queries: [{ q: r.int(4), after: 0, n: "read", p: codec.encode([]) }] } : {}),
  }
}

export function validFrame(r: Random, hints: FrameHints = {}): ClientFrame {
  const ch = r.int(4)
  switch (r.int(11)) {
    case 0:
      return {
        t: "hello",
        client: "fuzz",
        token: r.pick(["mallory", "other"]),
        at: [...(hints.tickets ?? ["a.b.c"])],
        ...(r.happens(0.5) ? { attach: [validAttach(r, hints)] } : {}),
      }
    case 1:
    case 2:
      return { t: "attach", ...validAttach(r, hints) }
    case 3:
    case 4:
    case 5:
      return {
        t: "call",
        ch,
        c: 1 + r.int(6),
        a: r.pick(["put", "echo", "refuse", "leave", "toString", "constructor"]),
        p: codec.encode([randomValue(r)]),
        ...(r.happens(0.1) ? { skip: true } : {}),
      }
    case 6:
      return { t: "query", ch, q: r.int(4), after: r.int(4), n: r.pick(["read", "valueOf"]), p: codec.encode([]) }
    case 7:
      return { t: "ack", ch, c: r.int(4), r: r.int(9) }
    case 8:
      return { t: "sessions", n: 1 + r.int(64) }
    case 9:
      return { t: r.pick(["ping", "pong"]), n: r.int(9) }
    default:
      return r.happens(0.5) ? { t: "detach", ch } : { t: "token", token: "mallory" }
  }
}

/** What calls of turns bring between POPs, and nowhere else. */
function chainOf(r: Random): Pick<CallBody, "chain"> {
  return r.happens(0.5) ? { chain: ["note/a", "note/mallory", "note/b~bos"].slice(0, 1 + r.int(3)) } : {}
}

function chained(r: Random, attach: AttachBody): AttachBody {
  const { calls } = attach
  return calls ? { ...attach, calls: calls.map((call) => ({ ...call, ...chainOf(r) })) } : attach
}

function chainedFrame(r: Random, frame: ClientFrame): ClientFrame {
  return frame.t === "call" ? { ...frame, ...chainOf(r) } : frame
}

export interface MeshHints extends FrameHints {
  readonly id?: string
  readonly pops?: readonly string[]
}

export function validMeshMessage(r: Random, hints: MeshHints = {}): { message: MeshMessage; body?: Uint8Array } {
  const actor = hints.id ?? "note/mallory"
  const pop = (): string => r.pick(hints.pops ?? ["bos", "fra"])
  const nonce = r.pick(["n1", "n2"])
  const e = r.int(5)
  const bytes = Uint8Array.from([1, 2, 3, 4, 5])
  const blob = { id: "blob", bytes: 5, size: 2, chunks: ["x", "y", "z"] }
  const kinds: (() => { message: MeshMessage; body?: Uint8Array })[] = [
    () => ({
      message: {
        t: "PULL",
        actor,
        nonce,
        origin: pop(),
        epoch: e,
        hops: r.int(3),
        relay: r.happens(0.5),
        ...(r.happens(0.3) ? { via: pop(), version: 1, have: "blob", session: "s" } : {}),
      },
    }),
    () => ({ message: { t: "GRANT", actor, nonce, e, v: r.int(4), h: "", hops: 0, sizes: [2, 3] }, body: bytes }),
    () => ({
      message: { t: "GRANT", actor, nonce, e, v: 0, h: "h", hops: 0, sizes: [-1], due: 5, cuts: [{ e: 1, v: 1 }] },
    }),
    () => ({ message: { t: "GRANT", actor, nonce, e, v: 1, h: "h", hops: 0, sizes: [5], blob, base: "blob" } }),
    () => ({ message: { t: "PRECOPY", actor, nonce, e, v: r.int(4), blob } }),
    () => ({ message: { t: "CHUNK", actor, blob: "blob", at: r.int(4) }, body: bytes.subarray(0, 2) }),
    () => ({ message: { t: "FETCH", actor, blob: "blob", missing: [0, 1] } }),
    () => ({ message: { t: "MOVED", actor, nonce, to: pop(), e, inTransit: r.happens(0.5), hops: 1 } }),
    () => ({ message: { t: "NONE", actor, nonce } }),
    () => ({ message: { t: "RELAY_ME", actor, nonce, e, hops: 1 } }),
    () => ({ message: { t: "OFFER", actor, e } }),
    () => ({
      message: {
        t: "REFUSED",
        actor,
        nonce,
        err: { code: "NOT_FOUND_YET", message: "m", retry: "later", outcome: "not-executed" },
      },
    }),
    () => ({ message: { t: r.pick(["CONFIRM", "CONFIRM_ACK", "HOMEUPD", "HOMEUPD_ACK"] as const), actor, e } }),
    () => ({
      message: {
        t: "RELAY_OPEN",
        relay: r.int(4),
        actor,
        principal: { id: "mallory" },
        attach: chained(r, validAttach(r, hints)),
      },
    }),
    () => ({ message: { t: "FRAME", relay: r.int(4), dir: "in", frame: chainedFrame(r, validFrame(r, hints)) } }),
    () => ({
      message: {
        t: "FRAME",
        relay: r.int(4),
        dir: "out",
        frame: { t: "out", ch: 1, r: 2, prev: 1, ev: [["added", { v: 1 }]] },
      },
    }),
    () => ({ message: { t: "RELAY_CLOSE", relay: r.int(4), dir: r.pick(["in", "out"] as const) } }),
    () => ({ message: { t: "FORGET", nonce, step: { k: "survey", after: actor } } }),
    () => ({ message: { t: "FORGET", nonce, step: { k: "revive", orders: [{ actor, e, seen: { k: "PTR", e } }] } } }),
    () => ({ message: { t: "FORGET", nonce, step: { k: "tell", pointers: [{ actor, to: pop(), e }] } } }),
    () => ({
      message: {
        t: "FORGET_ACK",
        nonce,
        reply: { k: "survey", records: [{ actor, k: "PTR", e, to: pop() }], done: true },
      },
    }),
  ]
  return r.pick(kinds)()
}
