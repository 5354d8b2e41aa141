import type { AttachBody, ClientFrame, ServerFrame, SojournError } from "@sojourn/protocol"
import type { Principal } from "./mesh-messages.ts"

/** What a gateway, a relay or server code asks of the host: attach this session to that actor. */
export interface AttachRequest {
  readonly actor: string
  readonly who: Principal
  readonly mintedAt: number
  readonly body: AttachBody
  /** What a verified ticket of this principal for this actor says. */
  readonly ticket: { readonly pop: string; readonly epoch: number; readonly revision: number } | undefined
  /** Unsigned POP id: advice on whom to ask. */
  readonly hint: string | undefined
  /** Reach the actor where it is instead of bringing it here. */
  readonly stay: boolean
  /** Revision up to which the session has missed nothing, where that is later than the last frame sent to it (`body.pos`). */
  readonly seen?: number
  /** POP whose gateway relays the session to here. */
  readonly relayedBy?: string
  /** The request came through the mesh: serve it here or not at all, so relays never form chains. */
  readonly localOnly: boolean
  out(frame: ServerFrame): void
  /** After the last frame, once. */
  ended(): void
}

/** A session's frames that come before the actor is reached; past it MAILBOX_FULL. */
export const waitingFramesMax = 2_048

export type SessionFrame = Extract<ClientFrame, { t: "call" | "query" | "ack" }>

/** Where frames wait, one counts for each so many characters of its message that are begun: a thousand of the longest would be a gigabyte. */
export const charsPerPlace = 16_384
/** Of those that count for more than one. */
const places = new WeakMap<object, number>()

/** `frame` came in a message of so many characters. */
export function weigh(frame: object, chars: number): void {
  if (chars > charsPerPlace) places.set(frame, Math.ceil(chars / charsPerPlace))
}

/** For how many it counts. */
export function placesOf(frame: object): number {
  return places.get(frame) ?? 1
}

/** A session attached here, as its activation sees it. `sent` is its position: the revision that the frames sent so far reach. */
export interface Attached {
  readonly sid: string
  readonly who: Principal
  readonly mintedAt: number
  readonly ch: number
  readonly live: boolean
  sent: number
  /** Its `attached` frame has left: only then does anything else of the actor go to it. */
  ready: boolean
  /** Highest call handed to the mailbox. */
  queued: number
  /** False once another attach took the session over, or its client left. */
  open: boolean
  /** It ends when what it was to be told has left; nothing more is taken from it. */
  ending: boolean
  out(frame: ServerFrame): void
  /** Ends the attach with an error frame; the client's `retry` rule applies. */
  end(error: SojournError): void
}

export function sessionIds(attached: Iterable<Attached>): Set<string> {
  const ids = new Set<string>()
  for (const { sid } of attached) ids.add(sid)
  return ids
}

/**
 * One attach at this node. `waiting`: the actor is being reached, frames queue here; `local`: its frames go to the activation, or queue
 * while the actor sleeps and wakes; `refused`: the activation turned it down, and says so once what it judged by is proved; `relayed`: they go to the owner through the mesh; `ended`: nothing goes either way any more.
 */
export class HostAttach implements Attached {
  readonly sid: string
  /** Its id never changes; what else is said of it may, with a new token. */
  who: Principal
  readonly mintedAt: number
  readonly ch: number
  readonly live: boolean
  readonly request: AttachRequest
  status: "waiting" | "local" | "refused" | "relayed" | "ended" = "waiting"
  sent = 0
  ready = false
  queued = 0
  ending = false
  /** The client has said that it has the replies up to this call, here or at its attach. */
  acked: number
  queue: SessionFrame[] = []
  /** For how many these count, as they came. */
  places = 0
  /** Where it is relayed to. */
  relay: { readonly pop: string; readonly id: number } | undefined
  /** The relay continues an attach that was served here until the actor left: its client is not to notice. */
  handedOver = false

  readonly #left: (att: HostAttach, local: boolean) => void

  /** `left`: it has ended, whoever ended it. `local`: until then its frames went to the activation. */
  constructor(request: AttachRequest, left: (att: HostAttach, local: boolean) => void) {
    this.request = request
    this.#left = left
    this.sid = request.body.sid
    this.who = request.who
    this.mintedAt = request.mintedAt
    this.ch = request.body.ch
    this.live = request.body.live
    this.acked = request.body.acked
  }

  get open(): boolean {
    return this.status !== "ended"
  }

  out(frame: ServerFrame): void {
    if (this.status !== "ended") this.request.out(frame)
  }

  /** What the client would send to attach again, had it lost nothing: for the relay that goes on with this attach elsewhere. */
  resumption(): AttachBody {
    const { actor } = this.request.body
    return { ch: this.ch, actor, sid: this.sid, pos: this.sent, acked: this.acked, live: this.live, stay: true }
  }

  end(error: SojournError): void {
    this.endWith({ t: "detached", ch: this.ch, err: error.toWire() })
  }

  /** Ends with this last frame; undefined: silently, the client is gone or has attached anew. */
  endWith(frame: ServerFrame | undefined): void {
    if (this.status === "ended") return
    if (frame) this.request.out(frame)
    const local = this.status === "local"
    this.status = "ended"
    this.queue = []
    this.#left(this, local)
    this.request.ended()
  }
}
