// Waking: from connecting to the first reply, connection included, of an actor that nobody has seen and of one that sleeps.
//
// Hand-written: connect, ask, read the same bytes from LMDB, answer. Of ours a query, which wakes the actor (one write claims it, so that no
// other can write it) and is answered once that is durable. A new client learns its session ids first, which is one round trip more than a
// client needs that was there before and comes back with its session.
import { Measured, round, spread, type Spread } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { attachBody, openSocket, Wire } from "./wire.ts"

/** Bodies of sleeping actors; 0: nobody has seen it. */
const sizes = [0, 1_024, 65_536] as const
/** Actors of one size that sleep at the same time: each is woken once, then all sleep again. */
const bedsMax = 256
/** After how long without a call an actor sleeps here. */
const idleMs = 200
const token = "waker"

const query = { q: 1, after: 0, n: "size", p: { v: [] } } as const

/** Connects, asks for an actor's size and returns it, with what ends the connection. */
type Ask = (key: string) => Promise<{ readonly size: unknown; close(): Promise<void> | void }>

interface Case {
  readonly name: string
  readonly key: string
  readonly ask: Ask
  fill(key: string, bytes: number): Promise<void>
  asleep(): Promise<void>
}

async function handWritten(servers: Servers): Promise<Case> {
  const { url } = await servers.start("reader")
  const call = async (what: object): ReturnType<Ask> => {
    const answer = Promise.withResolvers<string>()
    const ws = await openSocket(url, answer.resolve)
    ws.send(JSON.stringify(what))
    const { size } = JSON.parse(await answer.promise) as { size: number }
    return { size, close: () => ws.terminate() }
  }
  return {
    name: "hand-written ws + LMDB",
    key: "hand-written",
    ask: (key) => call({ key }),
    fill: async (key, bytes) => void (await (await call({ key, fill: bytes })).close()),
    asleep: () => Promise.resolve(),
  }
}

async function sojourn(servers: Servers): Promise<readonly Case[]> {
  const server = await servers.start("sojourn", idleMs)
  const { url } = server
  const filler = await Wire.open(url)
  const welcome = await filler.hello(token)
  const [sid] = welcome.sessions as [string]
  let ch = 0
  const common = {
    async fill(key: string, bytes: number) {
      ch += 1
      const replied = filler.next("reply", ch)
      await filler.attach(ch, ["box", key], sid, { calls: [{ c: 1, a: "fill", p: { v: [bytes] } }] })
      const { c, r } = await replied
      filler.send({ t: "ack", ch, c, r })
      filler.send({ t: "detach", ch })
    },
    asleep: () => server.asleep(),
  }
  /** `back`: a client that was there before has the session, and says with its hello what it wants. */
  const ask =
    (back: boolean): Ask =>
    async (key) => {
      const wire = await Wire.open(url)
      const attach = { queries: [query] }
      const answered = wire.next("answer", 1)
      if (back) await wire.hello(token, [{ ...attachBody(1, ["box", key], sid), ...attach, acked: 1 }])
      else {
        const { sessions } = await wire.hello(token)
        await wire.attach(1, ["box", key], sessions[0] as string, attach)
      }
      return { size: (await answered).ok?.v, close: () => wire.close() }
    }
  return [
    { name: "Sojourn, new client", key: "new", ask: ask(false), ...common },
    { name: "Sojourn, client that comes back", key: "back", ask: ask(true), ...common },
  ]
}

export async function benchWake(servers: Servers, { runs, ms, actors }: BenchOptions): Promise<readonly Row[]> {
  const cases = [await handWritten(servers), ...(await sojourn(servers))]
  const beds = Math.min(bedsMax, actors)
  for (const one of cases)
    for (const size of sizes)
      if (size > 0 && one.key !== "back") for (let i = 0; i < beds; i++) await one.fill(`${size}-${i}`, size)
  const measured = new Measured<keyof Spread>()
  let unseen = 0
  for (let run = 0; run < runs; run++)
    for (const size of sizes)
      for (const one of cases) {
        if (size === 0 && one.key === "back") continue
        const took: number[] = []
        for (let spent = 0; spent < ms;) {
          await one.asleep()
          for (let i = 0; i < beds && spent < ms; i++) {
            const began = performance.now()
            const { size: told, close } = await one.ask(size === 0 ? `unseen-${unseen++}` : `${size}-${i}`)
            const waited = performance.now() - began
            if (told !== size) throw new Error(`an actor of ${size} bytes says that it has ${String(told)}`)
            took.push(waited)
            spent += waited
            await close()
          }
        }
        measured.add(`${one.key} ${size}`, { ...spread(took) })
      }
  return sizes.flatMap((size) =>
    cases
      .filter(({ key }) => !(size === 0 && key === "back"))
      .map(({ name, key }) => {
        const figure = measured.of(`${key} ${size}`)
        const peer = measured.of(`hand-written ${size}`)
        return {
          actor: size === 0 ? "never seen" : "asleep",
          bytes: size,
          server: name,
          p50Ms: round(figure.p50, 3),
          p99Ms: round(figure.p99, 3),
          p50OfHandWritten: round(figure.p50 / peer.p50, 2),
        }
      }),
  )
}
