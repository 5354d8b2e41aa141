// Thousands of clients that lose their sockets at once and all come back: the client package, in processes of their own.
import { HerdProcess, PopProcess, inMiB, quantile, round, until, type Report } from "./overload-parts.ts"
import type { FromHerd, ToHerd } from "./overload-herd.ts"

class Herd extends HerdProcess<ToHerd, FromHerd> {
  attached = 0
  result: Extract<FromHerd, { t: "result" }> | undefined

  constructor(url: string, from: number, clients: number) {
    super("overload-herd.ts", [url, String(from), String(clients)], (told) => {
      if (told.t === "attached") this.attached = told.clients
      else this.result = told
    })
  }
}

export async function reconnectStorm(folder: string, clients: number, processes: number): Promise<Report> {
  const pop = await PopProcess.start(folder, "storm")
  const each = Math.ceil(clients / processes)
  const herds = Array.from(
    { length: processes },
    (_, i) => new Herd(pop.url, i * each, Math.min(each, clients - i * each)),
  )
  try {
    const attached = (): number => herds.reduce((sum, herd) => sum + herd.attached, 0)
    const ready = await until(() => attached() === clients || herds.some(({ gone }) => gone), 90_000)
    if (!ready || attached() < clients) throw new Error(`only ${attached()} of ${clients} clients were attached`)
    const before = await pop.watchMemory()
    for (const herd of herds) herd.tell({ t: "watch" })
    const { sockets } = await pop.ask("cut")
    await until(() => herds.every(({ result }) => result !== undefined), 90_000)
    const results = herds.map(({ result }) => result)
    const back = results.flatMap((result) => result?.backMs ?? []).sort((a, b) => a - b)
    const sum = (what: "wrong" | "resent"): number => results.reduce((all, result) => all + (result?.[what] ?? 0), 0)
    const { events } = await pop.ask("report")
    return {
      name: "storm",
      figures: {
        clients,
        cut: sockets,
        back: back.length,
        p50Ms: Math.round(quantile(back, 0.5)),
        p99Ms: Math.round(quantile(back, 0.99)),
        maxMs: Math.round(back.at(-1) ?? NaN),
        rssBeforeMiB: inMiB(before),
        rssPeakMiB: inMiB(pop.peakRss),
        kibEach: round(pop.peakRss / 1024 / clients),
        overloadEvents: events["node.overloaded"] ?? 0,
      },
      checks: [
        { what: "all of them are attached again", must: true, met: back.length === clients },
        { what: "every actor has each call once", must: true, met: sum("wrong") === 0 },
        { what: "the last is back within 30 s", must: false, met: (back.at(-1) ?? NaN) <= 30_000 },
      ],
    }
  } finally {
    for (const herd of herds) await herd.stop()
    await pop.stop()
  }
}
