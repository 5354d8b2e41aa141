import { delay } from "./travel-kills.ts"
import { seeded } from "./itinerary.ts"
import { Traveller, type Outcome } from "./traveller.ts"
import { idling } from "./typist.ts"

/**
 * The other devices of whoever types: each follows the live state at POPs of its own choosing, goes to another one now and then, and
 * calls now and then. In the end each must have the typist's text, and its own calls are counted like the typist's.
 */
export interface DevicesOptions {
  readonly actor: readonly [string, string]
  readonly pops: readonly string[]
  readonly url: (pop: string) => string
  readonly seed: number
  /** Where the typist begins: they begin elsewhere. */
  readonly start: string
}

export interface DeviceOutcome {
  readonly device: number
  readonly outcome: Outcome
  /** POPs gone to. */
  readonly moves: number
  /** What it followed is the typist's text, to the character. */
  readonly textMatches: boolean
}

interface Device {
  readonly watcher: Traveller
  readonly random: () => number
  at: string
  moves: number
}

const callsPerBurst = 5

export class Devices {
  readonly #devices: readonly Device[]
  readonly #options: DevicesOptions

  /** `count`: the typist's own included. */
  constructor(count: number, options: DevicesOptions) {
    this.#options = options
    this.#devices = Array.from({ length: count - 1 }, (_, i) => {
      const random = seeded((options.seed ^ 0x2545f491) + i)
      const at = this.#elsewhere(options.start, random)
      const watcher = new Traveller({
        url: options.url(at),
        actor: options.actor,
        writer: `device-${i + 2}`,
        edits: idling(),
        start: "",
        live: true,
        ticketFor: (ticket) => ticket,
      })
      return { watcher, random, at, moves: 0 }
    })
  }

  async ready(): Promise<void> {
    await Promise.all(this.#devices.map(({ watcher }) => watcher.ready()))
  }

  /** What they do during one leg, which takes about so long. */
  async leg(ms: number): Promise<void> {
    await Promise.all(
      this.#devices.map(async (device) => {
        const { random, watcher } = device
        const goes = random() < 0.5
        const calls = random() < 0.25
        await delay(random() * 0.5 * ms)
        if (goes) {
          device.at = this.#elsewhere(device.at, random)
          device.moves += 1
          watcher.switchTo(this.#options.url(device.at))
        }
        if (!calls) return
        for (let i = 0; i < callsPerBurst; i++) {
          watcher.call()
          await delay((0.3 * ms) / callsPerBurst)
        }
      }),
    )
  }

  /** After the typist's last answer: what each of them sees and has counted. */
  async settle(text: string): Promise<DeviceOutcome[]> {
    return Promise.all(
      this.#devices.map(async ({ watcher, moves }, i) => {
        await watcher.quiet()
        const outcome = await watcher.outcome()
        return { device: i + 2, outcome, moves, textMatches: outcome.text === text && outcome.liveText === text }
      }),
    )
  }

  async close(): Promise<void> {
    await Promise.all(this.#devices.map(({ watcher }) => watcher.close()))
  }

  #elsewhere(at: string, random: () => number): string {
    const others = this.#options.pops.filter((pop) => pop !== at)
    return others[Math.floor(random() * others.length)] ?? at
  }
}
