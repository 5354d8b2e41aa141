// Moves: a client goes to and fro between two POPs, and its actor goes with it. Timed from connecting to the first reply at the POP it came
// to, a durable call; and from hello, as `npm run travel` does.
//
// The floor is measured in the same run, through proxies of the same delay. From hello it is the client's round trip and one between the POPs
// that brings so many bytes, since the state is only over there. From connecting it is one round trip of the client more: TCP's handshake. The
// upgrade is no third one, because its ticket has the POP fetch the actor meanwhile. A floor has no disk in it; both POPs write once.
import { join } from "node:path"
import { createProxy, pingTrips, quantile, startCluster, type Cluster } from "@sojourn/testkit"
import type { AttachBody } from "@sojourn/protocol"
import { Measured, round, spread } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { attachBody, openSocket, Wire } from "./wire.ts"

/** Between the POPs, and between client and POP, ms. The proxies pass bytes straight on at 0. */
const lines = [
  { rttMs: 0, clientRttMs: 0 },
  { rttMs: 80, clientRttMs: 10 },
] as const
const sizes = [1_024, 65_536, 1_048_576] as const
const pops = ["a", "b"] as const
const token = "mover"
/** Processes that have just started run their first moves more slowly, until the engine has compiled them. */
const warmUps = 8
const movesMin = 4
const trips = 5

interface Figure {
  readonly moves: number
  readonly p50: number
  readonly p99: number
  readonly floor: number
  readonly helloP50: number
  readonly helloP99: number
  readonly helloFloor: number
}

interface Moved {
  readonly fromConnecting: number
  readonly fromHello: number
}

/** A low quartile: what disturbs a trip only ever adds to it, and a floor that is too high would flatter. */
const floorOf = (took: readonly number[]): number => quantile(took, 0.25)

/** Asks for so many bytes through a proxy as those between the POPs. */
async function carried(port: number, bytes: number): Promise<number> {
  let came = (): void => undefined
  const ws = await openSocket(`ws://127.0.0.1:${port}`, () => came())
  const took: number[] = []
  for (let i = 0; i < trips; i++) {
    const began = performance.now()
    await new Promise<void>((resolve) => {
      came = resolve
      ws.send(String(bytes))
    })
    took.push(performance.now() - began)
  }
  ws.terminate()
  return floorOf(took)
}

/** An actor with a body, and the one client that has it; each `go` takes both to the other POP. */
class Traveller {
  readonly #cluster: Cluster
  readonly #actor: readonly [string, string]
  readonly #bytes: number
  #wire: Wire
  #sid: string
  #ticket: string
  #at: 0 | 1 = 0
  #c = 1

  private constructor(cluster: Cluster, key: string, bytes: number, wire: Wire, sid: string, ticket: string) {
    this.#cluster = cluster
    this.#actor = ["box", key]
    this.#bytes = bytes
    this.#wire = wire
    this.#sid = sid
    this.#ticket = ticket
  }

  static async start(cluster: Cluster, key: string, bytes: number): Promise<Traveller> {
    const wire = await Wire.open(cluster.url(pops[0]))
    const { sessions } = await wire.hello(token)
    const [sid] = sessions as [string]
    const replied = wire.next("reply", 1)
    const fill = { calls: [{ c: 1, a: "fill", p: { v: [bytes] } }] }
    const { ticket } = await wire.attach(1, ["box", key], sid, fill)
    await replied
    return new Traveller(cluster, key, bytes, wire, sid, ticket)
  }

  async go(): Promise<Moved> {
    await this.#wire.close()
    this.#at = this.#at === 0 ? 1 : 0
    const c = ++this.#c
    const attach: AttachBody = {
      ...attachBody(1, this.#actor, this.#sid),
      acked: c - 1,
      ticket: this.#ticket,
      calls: [{ c, a: "add", p: { v: [] } }],
    }
    const connecting = performance.now()
    const wire = await Wire.open(this.#cluster.url(pops[this.#at]), this.#ticket)
    const hello = performance.now()
    const attached = wire.next("attached", 1)
    const replied = wire.next("reply", 1)
    await wire.hello(token, [attach])
    const { pop, ticket } = await attached
    const { ok } = await replied
    const now = performance.now()
    if (pop !== pops[this.#at]) throw new Error(`the actor stayed at ${pop}`)
    if (ok?.v !== this.#bytes) throw new Error(`of ${this.#bytes} bytes there came ${String(ok?.v)}`)
    this.#wire = wire
    this.#ticket = ticket
    return { fromConnecting: now - connecting, fromHello: now - hello }
  }

  async rest(): Promise<void> {
    await this.#wire.close()
  }
}

async function measure(traveller: Traveller, ms: number): Promise<readonly Moved[]> {
  const moved: Moved[] = []
  for (let spent = 0; spent < ms || moved.length < movesMin; spent += moved.at(-1)?.fromConnecting ?? 0)
    moved.push(await traveller.go())
  return moved
}

export async function benchMoves(servers: Servers, options: BenchOptions, folder: string): Promise<readonly Row[]> {
  const { runs, ms } = options
  const measured = new Measured<keyof Figure>()
  const bytesServer = await servers.start("bytes")
  await using proxy = await createProxy({ rttMs: 0, target: { host: "127.0.0.1", port: bytesServer.port } })
  await using cluster = await startCluster({
    pops: pops.map((id) => ({ id, region: "loopback" })),
    entry: new URL("./move-pop.ts", import.meta.url),
    folder: join(folder, "moves"),
    meshRttMs: () => 0,
    clientRttMs: () => 0,
    env: { NODE_ENV: "production" },
    onCrash: (pop, how, log) => {
      throw new Error(`POP ${pop} ended with ${how}\n${log}`)
    },
  })
  const key = (rttMs: number, size: number): string => `${size} bytes at ${rttMs} ms`
  const one = async (name: string, size: number): Promise<Figure> => {
    const client = floorOf(await pingTrips(`${cluster.url("a")}/v1/connect`, trips, ["sojourn.v1"]))
    const helloFloor = client + (await carried(proxy.port, size))
    const traveller = await Traveller.start(cluster, name, size)
    const moved = await measure(traveller, ms)
    await traveller.rest()
    const hello = spread(moved.map(({ fromHello }) => fromHello))
    return {
      moves: moved.length,
      ...spread(moved.map(({ fromConnecting }) => fromConnecting)),
      floor: client + helloFloor,
      helloP50: hello.p50,
      helloP99: hello.p99,
      helloFloor,
    }
  }
  const warm = await Traveller.start(cluster, "warm-up", sizes[0])
  for (let i = 0; i < warmUps; i++) await warm.go()
  await warm.rest()
  for (let run = 0; run < runs; run++)
    for (const { rttMs, clientRttMs } of lines) {
      proxy.setRtt(rttMs)
      cluster.meshProxy(...pops).setRtt(rttMs)
      for (const pop of pops) cluster.clientProxy(pop).setRtt(clientRttMs)
      for (const size of sizes) measured.add(key(rttMs, size), await one(`${run}-${rttMs}-${size}`, size))
    }
  return lines.flatMap(({ rttMs }) =>
    sizes.map((bytes) => {
      const figure = measured.of(key(rttMs, bytes))
      return {
        betweenMs: rttMs,
        bytes,
        movesEachRun: figure.moves,
        p50Ms: round(figure.p50, 2),
        p99Ms: round(figure.p99, 2),
        floorMs: round(figure.floor, 2),
        p50OfFloor: round(figure.p50 / figure.floor, 2),
        p99OfFloor: round(figure.p99 / figure.floor, 2),
        helloP50Ms: round(figure.helloP50, 2),
        helloFloorMs: round(figure.helloFloor, 2),
        helloP50OfFloor: round(figure.helloP50 / figure.helloFloor, 2),
        helloP99OfFloor: round(figure.helloP99 / figure.helloFloor, 2),
      }
    }),
  )
}
