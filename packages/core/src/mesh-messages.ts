import type { AttachBody, ClientFrame, ServerFrame, WireError } from "@sojourn/protocol"
import type { ForgetReply, ForgetStep } from "./forget-steps.ts"
import type { Cut } from "./record.ts"

/**
 * What POPs say to each other (docs/handoff.md, "Messages"). Every message may be lost, repeated, delayed or overtaken: each is
 * safe to receive at any time, because the records of `record.ts` decide and not the conversation.
 *
 * `nonce` pairs an answer with the ask that is waiting for it, so that nobody waits for an answer that came; no safety rests on it.
 */
export type MeshMessage =
  /** Asks for the actor, for `origin`. A POP that only has a pointer forwards it; the answer goes straight to `origin`. */
  | {
      readonly t: "PULL"
      readonly actor: string
      readonly nonce: string
      readonly origin: string
      /** The traveller's session, if known: its own earlier calls do not make the owner decline. */
      readonly session?: string
      /** What the forwarder believes; 0 from the origin. A receiver below it is in transit and does not forward. */
      readonly epoch: number
      readonly hops: number
      /** POP whose record granted the actor to the receiver; the receiver pulls from there if it has not installed it yet. */
      readonly via?: string
      /** Schema version of this class that the origin's code knows; absent: 1. */
      readonly version?: number
      /** True: attach through the owner, do not move. The answer is RELAY_ME, MOVED, NONE or REFUSED. */
      readonly relay: boolean
      /** The copy sent ahead that the origin holds complete: the owner may grant what came after it. */
      readonly have?: string
    }
  /**
   * The sealed actor. The message's body is the stored body: its parts as `sizes` says. Re-sent until CONFIRM. `blob`: the body comes in chunks
   * instead. `base`: only the entries are here; the snapshot is that copy, which was sent ahead.
   */
  | {
      readonly t: "GRANT"
      readonly actor: string
      readonly nonce?: string
      readonly e: number
      readonly v: number
      readonly h: string
      readonly hops: number
      /** Byte lengths of the parts that follow in the message's body: the snapshot (-1: none), then each journal entry. */
      readonly sizes: readonly number[]
      readonly blob?: Blob
      readonly base?: string
      /** When the actor's next alarm is due, ms since 1970. */
      readonly due?: number
      readonly cuts?: readonly Cut[]
    }
  /** The owner goes on serving and sends its snapshot of revision `v` ahead, in chunks: no word about ownership. Answer: PULL with `have`. */
  | {
      readonly t: "PRECOPY"
      readonly actor: string
      readonly nonce: string
      readonly e: number
      readonly v: number
      readonly blob: Blob
    }
  /** The message's body is chunk `at` of this blob. */
  | { readonly t: "CHUNK"; readonly actor: string; readonly blob: string; readonly at: number }
  | { readonly t: "FETCH"; readonly actor: string; readonly blob: string; readonly missing: readonly number[] }
  | {
      readonly t: "MOVED"
      readonly actor: string
      readonly nonce: string
      readonly to: string
      readonly e: number
      readonly inTransit: boolean
      readonly hops: number
    }
  | { readonly t: "NONE"; readonly actor: string; readonly nonce: string }
  | {
      readonly t: "RELAY_ME"
      readonly actor: string
      readonly nonce: string
      readonly e: number
      readonly hops: number
    }
  /** The owner, at epoch `e`, asks the receiver to pull the actor. Repeated until it does; it decides nothing. */
  /** The sender closes: nothing is to be offered to it. Said again on every link that comes up meanwhile. */
  | { readonly t: "LEAVING" }
  | { readonly t: "OFFER"; readonly actor: string; readonly e: number }
  | { readonly t: "REFUSED"; readonly actor: string; readonly nonce: string; readonly err: WireError }
  | { readonly t: "CONFIRM"; readonly actor: string; readonly e: number }
  | { readonly t: "CONFIRM_ACK"; readonly actor: string; readonly e: number }
  | { readonly t: "HOMEUPD"; readonly actor: string; readonly e: number }
  | { readonly t: "HOMEUPD_ACK"; readonly actor: string; readonly e: number }
  /** Opens relay `relay` (a number of the sender's): this session attaches at the receiver through the sender. */
  | {
      readonly t: "RELAY_OPEN"
      readonly relay: number
      readonly actor: string
      readonly principal: Principal
      readonly attach: AttachBody
      /**
       * The session was attached at the sender when the actor left: it has missed nothing up to this revision, although the last
       * frame that it was sent (`attach.pos`) may be an earlier one.
       */
      readonly seen?: number
    }
  /** A frame of a relayed session: `in` towards the actor, `out` towards the client. `relay` is the opener's number. */
  | { readonly t: "FRAME"; readonly relay: number; readonly dir: "in"; readonly frame: ClientFrame }
  | { readonly t: "FRAME"; readonly relay: number; readonly dir: "out"; readonly frame: ServerFrame }
  /** A step of giving up a destroyed POP (`forget.ts`), and what came of it. Repeated until answered. */
  | { readonly t: "FORGET"; readonly nonce: string; readonly step: ForgetStep }
  | { readonly t: "FORGET_ACK"; readonly nonce: string; readonly reply: ForgetReply }
  | { readonly t: "RELAY_CLOSE"; readonly relay: number; readonly dir: "in" | "out" }

/** Bytes that are announced before they come: their number, how they are cut, the hash of each chunk, and of all those as the name. */
export interface Blob {
  readonly id: string
  readonly bytes: number
  /** Of each chunk but the last. */
  readonly size: number
  readonly chunks: readonly string[]
}

/** Who a client is, as `authenticate` returned it. `id` is what sessions and tickets are bound to. Of the claims, what JSON carries. */
export interface Principal {
  readonly id: string
  readonly [claim: string]: unknown
}

/** Messages that decide a hand-off's latency go before bulk on a link. */
export function isBulk(message: MeshMessage): boolean {
  return message.t === "GRANT" || message.t === "CHUNK"
}

/** Begins the id of server code's principal. Gateways let no client be called so. */
export const serverPrefix = "server:"

/** Server code: no author's `authorize` is asked about it. */
export function isServer(who: Principal): boolean {
  return who.id.startsWith(serverPrefix)
}
