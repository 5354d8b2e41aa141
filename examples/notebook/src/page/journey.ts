import type { Moved } from "@sojourn/client"
import type { Tap } from "../tap.ts"

/**
 * Measures how the reader goes from POP to POP: on this page's own clock and on its own socket, so that what the framework reports can be
 * held against it. A leg begins when a POP is chosen and ends with the first reply that came through it.
 */
export interface LegTimes {
  readonly from: string
  readonly to: string
  /** Ms from the choice to `hello` sent: TCP, the upgrade, and the ticket in it. */
  readonly helloMs: number
  /** Ms from the choice to the first reply. */
  readonly replyMs: number
  /** The access line's and, where the notebook came from elsewhere, the POPs' round trip. */
  readonly clientRttMs: number
  readonly meshRttMs: number
  readonly moved: Moved | undefined
}

interface Leg {
  readonly to: string
  readonly from: string
  readonly clientRttMs: number
  readonly meshRttMs: number
  readonly startedAt: number
  helloAt: number | undefined
  arrived: boolean
  moved: Moved | undefined
}

export class Journey {
  readonly tap: Tap
  #leg: Leg | undefined
  readonly #done: (times: LegTimes) => void

  /** `arrive` is called before each leg's first attach: a call made in it goes along, and its reply is the first one. */
  constructor(arrive: () => void, done: (times: LegTimes) => void) {
    this.#done = done
    this.tap = {
      arriving: () => {
        if (this.#leg !== undefined && !this.#leg.arrived) {
          this.#leg.arrived = true
          arrive()
        }
      },
      helloSent: (at) => {
        if (this.#leg !== undefined) this.#leg.helloAt ??= at
      },
      heard: (type, at) => {
        if (type === "reply") this.#reply(at)
      },
    }
  }

  begin(leg: Pick<Leg, "from" | "to" | "clientRttMs" | "meshRttMs">): void {
    this.#leg = { ...leg, startedAt: performance.now(), helloAt: undefined, arrived: false, moved: undefined }
  }

  moved(moved: Moved): void {
    if (this.#leg !== undefined) this.#leg.moved = moved
  }

  #reply(at: number): void {
    const leg = this.#leg
    if (leg?.helloAt === undefined) return
    this.#leg = undefined
    const { from, to, clientRttMs, meshRttMs, moved, startedAt, helloAt } = leg
    const times = { from, to, clientRttMs, meshRttMs, moved, helloMs: helloAt - startedAt, replyMs: at - startedAt }
    // The socket's reader sees the frame after this: what it changes on the page comes first.
    queueMicrotask(() => this.#done(times))
  }
}
