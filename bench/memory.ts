// Memory: of an idle client that is attached, beside a bare socket of `ws`, and of an actor that sleeps. In use after the garbage is gone,
// less what was in use before, shared out; resident memory likewise, without the store's mapped files. The sockets' other ends are in this process, not in the server's.
import { Measured, round } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { Memory } from "./served.ts"
import type { BenchServer, Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { openSocket, Wire } from "./wire.ts"

/** What the first connections and actors make once is not theirs: as many as are measured go before, up to this. */
const warmUpsMax = 200
/** Opened, or woken, at a time. */
const atOnce = 64
/** Connections over which sleeping actors are made. */
const makers = 4
const sleepyMs = 200
const wakefulMs = 600_000

interface Figure {
  readonly heap: number
  readonly resident: number
}

interface Ended {
  close(): Promise<void> | void
}

async function inTurns<T>(count: number, one: (i: number) => Promise<T>): Promise<T[]> {
  const all: T[] = []
  for (let from = 0; from < count; from += atOnce)
    all.push(...(await Promise.all(Array.from({ length: Math.min(atOnce, count - from) }, (_, i) => one(from + i)))))
  return all
}

/** A client with an actor of its own, which it has called. */
async function attached(url: string, key: string): Promise<Ended> {
  const wire = await Wire.open(url)
  const { sessions } = await wire.hello(key)
  const replied = wire.next("reply", 1)
  await wire.attach(1, ["box", key], sessions[0] as string, { calls: [{ c: 1, a: "add", p: { v: [] } }] })
  const { c, r } = await replied
  wire.send({ t: "ack", ch: 1, c, r })
  return wire
}

/** Actors that are used once and left. */
async function visit(url: string, count: number, name: string): Promise<void> {
  await Promise.all(
    Array.from({ length: makers }, async (_, maker) => {
      const wire = await Wire.open(url)
      const { sessions } = await wire.hello(`${name}-${maker}`)
      const [sid] = sessions as [string]
      const mine = Math.ceil((count - maker) / makers)
      await inTurns(mine, async (ch) => {
        const replied = wire.next("reply", ch)
        await wire.attach(ch, ["box", `${name}-${maker}-${ch}`], sid, { calls: [{ c: 1, a: "add", p: { v: [] } }] })
        const { c, r } = await replied
        wire.send({ t: "ack", ch, c, r })
        wire.send({ t: "detach", ch })
      })
      await wire.close()
    }),
  )
}

const each = (before: Memory, after: Memory, count: number): Figure => ({
  heap: (after.heap - before.heap) / count,
  resident: (after.resident - before.resident) / count,
})

/** Memory of each of `count` clients that `open` brings, at rest as `settled` says. */
async function perClient(
  server: BenchServer,
  count: number,
  open: (key: string) => Promise<Ended>,
  settled: () => Promise<void>,
): Promise<Figure> {
  const warm = await inTurns(Math.min(warmUpsMax, count), (i) => open(`warm-${i}`))
  for (const client of warm) await client.close()
  await settled()
  const before = await server.memory()
  const clients = await inTurns(count, (i) => open(`client-${i}`))
  await settled()
  const figure = each(before, await server.memory(), count)
  for (const client of clients) await client.close()
  return figure
}

const bare = async (url: string): Promise<Ended> => {
  const ws = await openSocket(url, () => undefined)
  return { close: () => ws.terminate() }
}

export async function benchMemory(servers: Servers, options: BenchOptions): Promise<readonly Row[]> {
  const { runs, clients, actors } = options
  const measured = new Measured<keyof Figure>()
  for (let run = 0; run < runs; run++) {
    // New processes each time: what one case leaves in the heap is not another one's.
    const [raw, wakeful, sleepy, still] = await Promise.all([
      servers.start("raw"),
      servers.start("sojourn", wakefulMs),
      servers.start("sojourn", sleepyMs),
      servers.start("sojourn", sleepyMs),
    ])
    measured.add("bare", {
      ...(await perClient(
        raw,
        clients,
        () => bare(raw.url),
        () => Promise.resolve(),
      )),
    })
    await raw.stop()

    const open =
      ({ url }: BenchServer) =>
      (key: string) =>
        attached(url, key)
    measured.add("awake", { ...(await perClient(wakeful, clients, open(wakeful), () => Promise.resolve())) })
    await wakeful.stop()

    measured.add("asleep", { ...(await perClient(sleepy, clients, open(sleepy), () => sleepy.asleep())) })
    await sleepy.stop()

    await visit(still.url, Math.min(warmUpsMax, actors), "warm")
    await still.asleep()
    const before = await still.memory()
    await visit(still.url, actors, "left")
    await still.asleep()
    measured.add("actor", { ...each(before, await still.memory(), actors) })
    await still.stop()
  }
  const bareClient = measured.of("bare")
  const row = (what: string, key: string, count: number): Row => {
    const { heap, resident } = measured.of(key)
    return {
      what,
      count,
      heapBytesEach: Math.round(heap),
      residentBytesEach: Math.round(resident),
      heapOfBare: round(heap / bareClient.heap, 2),
    }
  }
  return [
    row("client of bare ws", "bare", clients),
    row("client attached to an actor that sleeps", "asleep", clients),
    row("client attached to an actor that is awake", "awake", clients),
    row("sleeping actor without clients", "actor", actors),
  ]
}
