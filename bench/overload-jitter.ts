// Thousands of subscribers whose connections break all the time: what is said in the rooms reaches each of them, once, in order.
// It is the test that AnyCable publishes with its `nodejs-websocket-bench` (10,000 clients, each cut every 15 s), in rooms of 1,000.
import { setTimeout as sleep } from "node:timers/promises"
import { createClient } from "@sojourn/client"
import type { FromJitterHerd, JitterOrder, JitterResult, ToJitterHerd } from "./overload-jitter-herd.ts"
import { HerdProcess, PopProcess, inMiB, quantile, until, type Report } from "./overload-parts.ts"
import type { App } from "./overload-pop.ts"
import { wsSocket } from "./ws-socket.ts"

export interface Jitter {
  readonly clients: number
  readonly processes: number
  readonly rooms: number
  readonly cutEachMs: number
  /** In each room something is said so often, for so long. */
  readonly sayEachMs: number
  readonly ms: number
}

class Herd extends HerdProcess<ToJitterHerd, FromJitterHerd> {
  attached = 0
  result: JitterResult | undefined

  constructor(order: JitterOrder) {
    super("overload-jitter-herd.ts", [JSON.stringify(order)], (told) => {
      if (told.t === "attached") this.attached = told.clients
      else this.result = told
    })
  }
}

export async function jitter(folder: string, how: Jitter): Promise<Report> {
  const { clients, processes, rooms, cutEachMs, sayEachMs, ms } = how
  const pop = await PopProcess.start(folder, "jitter")
  const { url } = pop
  const each = Math.ceil(clients / processes)
  const herds = Array.from(
    { length: processes },
    (_, i) => new Herd({ url, from: i * each, clients: Math.min(each, clients - i * each), rooms, cutEachMs }),
  )
  const speaker = createClient<App>({ url, token: "speaker", clientId: "speaker", socket: wsSocket })
  try {
    const attached = (): number => herds.reduce((sum, herd) => sum + herd.attached, 0)
    const ready = await until(() => attached() === clients || herds.some(({ gone }) => gone), 120_000)
    if (!ready || attached() < clients) throw new Error(`only ${attached()} of ${clients} clients were attached`)
    const before = await pop.watchMemory()
    for (const herd of herds) herd.tell({ t: "cut" })
    const said = Array.from({ length: rooms }, () => 0)
    const saying: Promise<unknown>[] = []
    for (const ends = performance.now() + ms; performance.now() < ends;)
      for (let room = 0; room < rooms; room++) {
        const n = (said[room] = (said[room] ?? 0) + 1)
        saying.push(speaker.room.get(`room${room}`).say(n, Date.now()))
        await sleep(sayEachMs / rooms)
      }
    await Promise.all(saying)
    for (const herd of herds) herd.tell({ t: "end", last: said })
    await until(() => herds.every(({ result, gone }) => result !== undefined || gone), 60_000)
    const results = herds.flatMap(({ result }) => (result ? [result] : []))
    const sum = (what: "heard" | "missed" | "twice" | "cuts"): number =>
      results.reduce((all, result) => all + result[what], 0)
    const ofAll = (what: "liveMs" | "replayedMs"): number[] =>
      results.flatMap((result) => result[what]).sort((a, b) => a - b)
    const [live, replayed] = [ofAll("liveMs"), ofAll("replayedMs")]
    const missed = sum("missed")
    const { events } = await pop.ask("report")
    return {
      name: "jitter",
      figures: {
        clients,
        rooms,
        cuts: sum("cuts"),
        said: said.reduce((all, one) => all + one, 0),
        heard: sum("heard"),
        missed,
        twice: sum("twice"),
        liveP50Ms: Math.round(quantile(live, 0.5)),
        liveP99Ms: Math.round(quantile(live, 0.99)),
        replayed: replayed.length,
        replayedP50Ms: Math.round(quantile(replayed, 0.5)),
        replayedP99Ms: Math.round(quantile(replayed, 0.99)),
        rssBeforeMiB: inMiB(before),
        rssPeakMiB: inMiB(pop.peakRss),
        overloadEvents: events["node.overloaded"] ?? 0,
      },
      checks: [
        { what: "every client tells what it has heard", must: true, met: results.length === processes },
        { what: "each hears all that was said in its room, in order", must: true, met: missed === 0 },
        { what: "and nothing twice", must: true, met: sum("twice") === 0 },
        { what: "something was said to those who were away", must: true, met: replayed.length > 0 },
        { what: "p99 of that under 1 s", must: false, met: quantile(replayed, 0.99) < 1_000 },
      ],
    }
  } finally {
    await speaker.close()
    for (const herd of herds) await herd.stop()
    await pop.stop()
  }
}
