// A process of many subscribers for the scenario `jitter` of `npm run overload`: each hears one room, and its socket is cut again and again.
import { createClient, type SocketFactory } from "@sojourn/client"
import type { WebSocket } from "ws"
import type { App, Said } from "./overload-pop.ts"
import { wsSocket } from "./ws-socket.ts"

export interface JitterOrder {
  readonly url: string
  /** The first of its clients has this number. */
  readonly from: number
  readonly clients: number
  readonly rooms: number
  /** How often each client's socket is cut, at a moment of chance. */
  readonly cutEachMs: number
}

/** `cut`: begin. `end`: the last number said in each room; hear it, then tell. */
export type ToJitterHerd = { readonly t: "cut" } | { readonly t: "end"; readonly last: readonly number[] }
export type FromJitterHerd =
  { readonly t: "attached"; readonly clients: number } | ({ readonly t: "result" } & JitterResult)

export interface JitterResult {
  readonly heard: number
  readonly missed: number
  readonly twice: number
  readonly cuts: number
  /** Ms from the saying to the hearing, of what was said while its hearer was connected, and of what was said meanwhile. */
  readonly liveMs: readonly number[]
  readonly replayedMs: readonly number[]
}

const atOnce = 50
const endMsMax = 30_000

/** What one subscriber has heard, and its socket. */
class Subscriber {
  readonly room: number
  heard = 0
  missed = 0
  twice = 0
  cuts = 0
  last: number | undefined
  readonly liveMs: number[] = []
  readonly replayedMs: number[] = []
  readonly #client: ReturnType<typeof createClient<App>>
  #ws: WebSocket | undefined
  #backAt = 0

  constructor({ url, rooms }: JitterOrder, i: number) {
    this.room = i % rooms
    const socket: SocketFactory = (...args) => wsSocket(...args, (ws) => (this.#ws = ws))
    const name = `subscriber${i}`
    this.#client = createClient<App>({ url, token: name, clientId: name, socket })
    this.#client.on("error", () => undefined)
    const room = this.#client.room.get(`room${this.room}`)
    room.onResume(() => (this.#backAt = Date.now()))
    room.on("said", (said) => this.#hear(said))
  }

  ready(): Promise<void> {
    return this.#client.room.get(`room${this.room}`).ready()
  }

  cut(): void {
    this.cuts += 1
    this.#ws?.terminate()
  }

  #hear({ n, at }: Said): void {
    this.heard += 1
    const expected = (this.last ?? n - 1) + 1
    if (n < expected) this.twice += 1
    else {
      this.missed += n - expected
      this.last = n
    }
    const ms = Date.now() - at
    if (at < this.#backAt) this.replayedMs.push(ms)
    else this.liveMs.push(ms)
  }
}

async function run(order: JitterOrder): Promise<void> {
  const tell = (told: FromJitterHerd): void => void process.send?.(told)
  process.on("disconnect", () => process.exit(0))
  const all: Subscriber[] = []
  for (let i = 0; i < order.clients; i += atOnce) {
    const some = Array.from(
      { length: Math.min(atOnce, order.clients - i) },
      (_, k) => new Subscriber(order, order.from + i + k),
    )
    await Promise.all(some.map((one) => one.ready()))
    all.push(...some)
    tell({ t: "attached", clients: all.length })
  }
  let cutting = true
  /** Once in each of its times, at a moment of chance. */
  const cutLater = (one: Subscriber): void => {
    const ms = Math.random() * order.cutEachMs
    setTimeout(() => cutting && one.cut(), ms)
    setTimeout(() => cutting && cutLater(one), order.cutEachMs)
  }
  process.on("message", (told: ToJitterHerd) => {
    if (told.t === "cut") return all.forEach(cutLater)
    cutting = false
    const ends = Date.now() + endMsMax
    const look = setInterval(() => {
      const behind = all.filter(({ room, last = 0 }) => last < (told.last[room] ?? 0))
      if (behind.length > 0 && Date.now() < ends) return
      clearInterval(look)
      const sum = (what: "heard" | "missed" | "twice" | "cuts"): number =>
        all.reduce((total, one) => total + one[what], 0)
      const late = behind.reduce((total, { room, last = 0 }) => total + (told.last[room] ?? 0) - last, 0)
      tell({
        t: "result",
        heard: sum("heard"),
        missed: sum("missed") + late,
        twice: sum("twice"),
        cuts: sum("cuts"),
        liveMs: all.flatMap(({ liveMs }) => liveMs),
        replayedMs: all.flatMap(({ replayedMs }) => replayedMs),
      })
    }, 50)
  })
}

const [, , order] = process.argv
if (process.send && order !== undefined) await run(JSON.parse(order) as JitterOrder)
