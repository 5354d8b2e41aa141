import { SojournError, createClient, type ActorHandle, type Moved } from "@sojourn/client"
import type { App } from "./actors.ts"
import { Ledger, type Settlement } from "./ledger.ts"
import { patchText, textOf, type TextPatch } from "./pieces.ts"
import { tappedSocket } from "./tap.ts"

/**
 * A client that calls steadily wherever it is, with an account of its own of what it asked for: the ledger, and the text as it must be in
 * the end. Nothing of the account comes from the framework.
 */
export interface TravellerOptions {
  readonly url: string
  /** Class and key. */
  readonly actor: readonly [string, string]
  /** The name under which the actor counts its calls: one a device. */
  readonly writer: string
  /** What each call does, in order; it ends when this does. */
  readonly edits: Iterator<readonly TextPatch[]>
  /** The text that the edits begin with: typed first. */
  readonly start: string
  /** Also follows the live state, and compares it in the end. */
  readonly live: boolean
  readonly ticketFor: (ticket: string | undefined) => string | undefined
}

/** One way through the door of a POP. Times are of `performance.now()`. */
export interface Arrival {
  readonly switchedAt: number
  helloAt: number | undefined
  readonly firstReply: Promise<number>
  /** Present once the client was told that the actor moved. */
  moved: Moved | undefined
}

export interface Outcome extends Settlement {
  readonly textMatches: boolean
  readonly liveMatches: boolean
  readonly text: string
  /** The live state's text, where it was followed. */
  readonly liveText: string | undefined
  /** Outputs found missing, each of which led to a new attach. */
  readonly gaps: number
  /** Attaches at which a snapshot stood in for what was missed. */
  readonly resyncs: number
  /** Calls that ended in an error, by its code. */
  readonly failures: ReadonlyMap<string, number>
}

/** A call that was acknowledged: when it was made, and how long it waited, ms. */
export interface Wait {
  readonly madeAt: number
  readonly ms: number
}

/** Calls without an answer at which the traveller waits: the client's queue would refuse the newest past its own limit. */
const openMax = 2_000
const callMs = 180_000

export class Traveller {
  readonly ledger = new Ledger()
  readonly moves: Moved[] = []
  /** In the order of the answers. Whoever measures empties it now and then. */
  readonly waits: Wait[] = []
  readonly #client
  readonly #handle
  readonly #edits: Iterator<readonly TextPatch[]>
  readonly #failures = new Map<string, number>()
  readonly #writer: string
  #text: string
  #resyncs = 0
  #exhausted = false
  /** Resolves with the answer to the latest call, and with it to all before it: a session's calls are answered in order. */
  #last: Promise<void> = Promise.resolve()
  #arrival: (Arrival & { readonly resolve: (at: number) => void }) | undefined
  #quiet: (() => void) | undefined

  constructor(options: TravellerOptions) {
    this.#edits = options.edits
    this.#text = ""
    this.#writer = options.writer
    this.#client = createClient<App>({
      url: options.url,
      token: "traveller",
      ticketFor: (_, ticket) => options.ticketFor(ticket),
      // POPs that are killed come back within a second here: no reason to wait for long.
      limits: { queueCallsMax: 2 * openMax, callMs, retryMsMax: 1_000 },
      socket: tappedSocket({
        arriving: () => this.call(),
        helloSent: (at) => {
          if (this.#arrival) this.#arrival.helloAt ??= at
        },
        heard: (type, at) => {
          if (type === "reply" && this.#arrival?.helloAt !== undefined) this.#arrival.resolve(at)
        },
      }),
    })
    this.#handle = this.#client.actor(...options.actor) as ActorHandle<App["actors"]["traveller"]>
    this.#client.on("moved", (moved) => {
      this.moves.push(moved)
      if (this.#arrival) this.#arrival.moved ??= moved
    })
    this.#handle.onResume((how) => {
      if (how === "snapshot") this.#resyncs += 1
    })
    if (options.live) this.#handle.state.subscribe(() => undefined)
    if (options.start !== "") this.#send([[0, 0, options.start]])
  }

  get ticket(): string | undefined {
    return this.#handle.ticket
  }

  /** The POP that owns the actor, as last told. */
  get owner(): string | undefined {
    return this.#handle.pop
  }

  /** Whether every edit was made into a call. */
  get exhausted(): boolean {
    return this.#exhausted
  }

  ready(): Promise<void> {
    return this.#handle.ready()
  }

  /** Adds luggage, in portions that a single turn may write. */
  async load(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; left -= 1_000_000) await this.#handle.load(Math.min(left, 1_000_000))
  }

  /** Makes the next call and does not wait for it. False: there is none left, or too many have no answer. */
  call(): boolean {
    if (this.#exhausted || this.ledger.open >= openMax) return false
    const next = this.#edits.next()
    if (next.done === true) {
      this.#exhausted = true
      return false
    }
    this.#send(next.value)
    return true
  }

  #send(patches: readonly TextPatch[]): void {
    for (const patch of patches) this.#text = patchText(this.#text, patch)
    const n = this.ledger.make()
    const madeAt = performance.now()
    this.#last = this.#handle
      .edit(this.#writer, n, 0, patches)
      .then(
        () => {
          this.ledger.ack(n)
          this.waits.push({ madeAt, ms: performance.now() - madeAt })
        },
        (error: unknown) => {
          this.ledger.refuse()
          const code = error instanceof SojournError ? error.code : String(error)
          this.#failures.set(code, (this.#failures.get(code) ?? 0) + 1)
        },
      )
      .finally(() => {
        if (this.ledger.open === 0) this.#quiet?.()
      })
  }

  /** Goes to another POP. */
  switchTo(url: string): Arrival {
    const { promise, resolve } = Promise.withResolvers<number>()
    const arrival = {
      switchedAt: performance.now(),
      helloAt: undefined,
      firstReply: promise,
      moved: undefined,
      resolve,
    }
    this.#arrival = arrival
    this.#client.switchTo(url)
    return arrival
  }

  /** Resolves when every call that was made by now has an answer. */
  answered(): Promise<void> {
    return this.#last
  }

  /** Resolves when every call has an answer. */
  quiet(): Promise<void> {
    return new Promise((resolve) => {
      this.#quiet = resolve
      if (this.ledger.open === 0) resolve()
    })
  }

  /** Asks the actor what it has and what it counted, and compares. */
  async outcome(): Promise<Outcome> {
    const { text, tally } = await this.#handle.query.report(this.#writer)
    const live = this.#handle.state.get()
    const liveText = live === undefined ? undefined : textOf(live.pieces)
    return {
      ...this.ledger.settle(tally),
      text,
      textMatches: text === this.#text,
      liveText,
      liveMatches: liveText === undefined || liveText === text,
      gaps: this.#client.stats.gaps,
      resyncs: this.#resyncs,
      failures: this.#failures,
    }
  }

  close(): Promise<void> {
    return this.#client.close()
  }
}
