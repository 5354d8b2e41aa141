import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pingTrips, quantile, startCluster, type Cluster } from "@sojourn/testkit"
import { clientRttMs, meshRttMs, placeAt, readAtlas, type Atlas } from "./atlas.ts"
import { forge, planItinerary, seeded, type HintKind, type Kill, type Leg } from "./itinerary.ts"
import { summary, tableHead, tableRow, type LegResult } from "./travel-report.ts"
import { travelOptions, usage, type TravelOptions } from "./travel-options.ts"
import { Traveller } from "./traveller.ts"
import { typing } from "./typist.ts"
import { warmUp } from "./warm-up.ts"

/**
 * `npm run travel`: a client goes from POP to POP and calls all the while; in the end its own account is compared with what the actor's
 * code counted. POPs are real processes with real stores, the lines between are delaying proxies, and what is compared against the floor is
 * measured through them. Exit code 1 if anything was lost, repeated, reordered or differs.
 */
const clientRttFixedMs = 10
const staySeconds = 1
const pings = 9
const firstReplyMsMax = 60_000

/** Round trips through the proxies, measured while nothing else goes on. */
interface Lines {
  client(pop: string): number
  mesh(a: string, b: string): number
}

async function measure(cluster: Cluster, places: ReadonlyMap<string, string>): Promise<Lines> {
  const trips = new Map<string, number>()
  const one = async (key: string, port: number): Promise<void> => {
    // A low quartile: what disturbs a ping only ever adds to it, and a floor that is too high would flatter.
    trips.set(key, quantile(await pingTrips(`ws://127.0.0.1:${port}/v1/connect`, pings, ["sojourn.v1"]), 0.25))
  }
  for (const pop of cluster.pops) await one(pop, cluster.clientProxy(pop, places.get(pop)).port)
  for (const a of cluster.pops)
    for (const b of cluster.pops) if (a < b) await one(`${a} ${b}`, cluster.meshProxy(a, b).port)
  return {
    client: (pop) => trips.get(pop) ?? Number.NaN,
    mesh: (a, b) => (a === b ? 0 : (trips.get([a, b].sort().join(" ")) ?? Number.NaN)),
  }
}

class Travel {
  readonly #cluster: Cluster
  readonly #options: TravelOptions
  readonly #lines: Lines
  readonly #places: ReadonlyMap<string, string>
  readonly #random: () => number
  readonly #traveller: Traveller
  readonly #say: (line: string) => void
  readonly #results: LegResult[] = []
  /** Tickets of earlier places, oldest first. */
  readonly #oldTickets: string[] = []
  #hint: HintKind = "right"
  #mending: Promise<void> = Promise.resolve()
  #owner: string

  constructor(
    cluster: Cluster,
    options: TravelOptions,
    lines: Lines,
    places: ReadonlyMap<string, string>,
    start: string,
    say: (line: string) => void,
  ) {
    this.#cluster = cluster
    this.#options = options
    this.#lines = lines
    this.#places = places
    this.#random = seeded(options.seed ^ 0x5f3759df)
    this.#say = say
    this.#owner = start
    this.#traveller = new Traveller({
      url: this.#url(start),
      key: `traveller-${options.seed}`,
      edits: options.trace ? options.trace.keystrokes.values() : typing(seeded(options.seed)),
      start: options.trace?.start ?? "",
      live: options.stateBytes === 0,
      ticketFor: (ticket) => this.#ticketFor(ticket),
    })
  }

  #url(pop: string): string {
    return this.#cluster.url(pop, this.#places.get(pop))
  }

  #ticketFor(ticket: string | undefined): string | undefined {
    switch (this.#hint) {
      case "right":
        return ticket
      case "missing":
        return undefined
      case "stale":
        return this.#oldTickets[0] ?? ticket
      case "forged":
        return forge(ticket, this.#cluster.pops, this.#random)
    }
  }

  /** Runs all legs. Resolves to whether all is well. */
  async run(legs: readonly Leg[]): Promise<boolean> {
    const { stateBytes, trace, rate } = this.#options
    await this.#traveller.load(stateBytes)
    const perStay = trace
      ? Math.ceil(trace.keystrokes.length / (legs.length + 1))
      : Math.max(1, Math.round(rate * staySeconds))
    this.#say(tableHead())
    await this.#stay(perStay, undefined)
    // The way from the actor's home to the first POP is no leg.
    this.#traveller.moves.length = 0
    for (const [i, leg] of legs.entries()) {
      const result = await this.#travel(leg, perStay)
      this.#results.push(result)
      this.#say(tableRow(i + 1, result))
    }
    while (trace && !this.#traveller.exhausted) await this.#stay(perStay, undefined)
    await this.#traveller.quiet()
    await this.#mending
    return this.#settle()
  }

  async #travel(leg: Leg, perStay: number): Promise<LegResult> {
    const before = this.#traveller.ledger.acked
    const { ticket } = this.#traveller
    this.#hint = leg.hint
    const from = this.#owner
    const arrival = this.#traveller.switchTo(this.#url(leg.to))
    if (leg.kill?.when === "move") this.#kill(leg, leg.kill, leg.kill.at * 3 * this.#lines.mesh(leg.from, leg.to))
    const repliedAt = await this.#within(arrival.firstReply, leg)
    if (arrival.moved) this.#owner = arrival.moved.to
    if (ticket !== undefined && this.#owner !== from) this.#oldTickets.push(ticket)
    if (this.#oldTickets.length > 2) this.#oldTickets.shift()
    await this.#stay(perStay, leg)
    const clientRtt = this.#lines.client(leg.to)
    const meshRtt = this.#lines.mesh(from, leg.to)
    return {
      leg,
      clientRttMs: clientRtt,
      meshRttMs: meshRtt,
      firstReplyMs: repliedAt - (arrival.helloAt ?? Number.NaN),
      floorMs: clientRtt + meshRtt,
      moved: arrival.moved,
      calls: this.#traveller.ledger.acked - before,
    }
  }

  /** Calls at the rate until so many were made here; a kill planned for the stay happens on the way. */
  async #stay(calls: number, leg: Leg | undefined): Promise<void> {
    const { rate } = this.#options
    const killAt = leg?.kill?.when === "dwell" ? Math.floor(leg.kill.at * calls) : -1
    const began = performance.now()
    let made = 0
    let skipped = 0
    while (made < calls && !this.#traveller.exhausted) {
      const due = Math.min(calls, Math.floor(((performance.now() - began) * rate) / 1000) + 1 - skipped)
      while (made < due) {
        if (made === killAt && leg?.kill) this.#kill(leg, leg.kill, 0)
        if (!this.#traveller.call()) {
          // Too many are open: the beats that are missed meanwhile are not made up for in one burst.
          if (!this.#traveller.exhausted) skipped += due - made
          break
        }
        made += 1
      }
      const nextMs = began + ((made + skipped) * 1000) / rate - performance.now()
      await new Promise((resolve) => setTimeout(resolve, Math.min(1000, Math.max(1, nextMs))))
    }
  }

  /** One POP at a time is down: a kill that comes while another one is being mended waits for it. */
  #kill(leg: Leg, kill: Kill, afterMs: number): void {
    const others = this.#cluster.pops.filter((pop) => pop !== leg.from && pop !== leg.to)
    const pop =
      kill.who === "source"
        ? leg.from
        : kill.who === "target"
          ? leg.to
          : others[Math.floor(this.#random() * others.length)]
    if (pop === undefined) return
    const work = async (before: Promise<void>): Promise<void> => {
      await Promise.all([before, delay(afterMs)])
      await this.#cluster.kill(pop)
      await delay(kill.downMs)
      await this.#cluster.restart(pop)
    }
    this.#mending = work(this.#mending)
    // Reported where it is awaited; until then it must not count as nobody's.
    this.#mending.catch(() => undefined)
  }

  #within(reply: Promise<number>, leg: Leg): Promise<number> {
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => reject(new Error(`no reply within ${firstReplyMsMax} ms of going from ${leg.from} to ${leg.to}`)),
      firstReplyMsMax,
    )
    // A POP that does not come back would leave the traveller waiting for no known reason.
    this.#mending.catch(reject)
    return Promise.race([reply, promise]).finally(() => clearTimeout(timer))
  }

  async #settle(): Promise<boolean> {
    const { trace } = this.#options
    const outcome = await this.#traveller.outcome()
    const textMatches =
      outcome.textMatches && outcome.liveMatches && (trace === undefined || outcome.text === trace.end)
    for (const [code, count] of outcome.failures) process.stderr.write(`${count} calls failed with ${code}\n`)
    if (!outcome.inOrder) process.stderr.write("calls were not applied in the order in which they were made\n")
    if (!outcome.liveMatches) process.stderr.write("the live state is not the actor's state\n")
    this.#say("")
    process.stdout.write(`${summary(this.#results, this.#traveller.moves, outcome, textMatches)}\n`)
    return outcome.lost === 0 && outcome.duplicated === 0 && outcome.inOrder && textMatches
  }

  close(): Promise<void> {
    return this.#traveller.close()
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function startPops(atlas: Atlas, options: TravelOptions, folder: string): Promise<Cluster> {
  const { rttMs } = options
  return startCluster({
    pops: atlas.pops,
    entry: new URL("./pop.ts", import.meta.url),
    folder,
    places: atlas.places.map(({ id }) => id),
    meshRttMs: (a, b) => rttMs ?? meshRttMs(atlas, a, b),
    clientRttMs: (pop, place) => (rttMs === undefined ? clientRttMs(atlas, pop, place) : clientRttFixedMs),
    env: { NODE_ENV: "development" },
    onCrash: (pop, how, log) => {
      process.stderr.write(`POP ${pop} ended by itself: ${how}\n${log}\n`)
      process.exit(1)
    },
  })
}

async function main(): Promise<void> {
  const options = travelOptions(process.argv.slice(2))
  if (options === undefined) {
    process.stdout.write(`${usage}\n`)
    return
  }
  const say = (line: string): void => {
    if (!options.json) process.stdout.write(`${line}\n`)
  }
  const atlas = readAtlas(new URL("../travel.json", import.meta.url))
  const folder = mkdtempSync(join(tmpdir(), "sojourn-travel-"))
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }))
  const legs = planItinerary({
    pops: atlas.pops.map(({ id }) => id),
    legs: options.legs,
    hint: options.hint,
    kill: options.kill,
    random: seeded(options.seed),
  })
  await using cluster = await startPops(atlas, options, folder)
  const places = new Map(atlas.pops.map(({ id }) => [id, placeAt(atlas, id).id]))
  await warmUp(cluster.pops.map((pop) => cluster.url(pop, places.get(pop))))
  const lines = await measure(cluster, places)
  say(
    `${atlas.pops.length} POPs, ${legs.length} legs, ${options.rate} calls a second, seed ${options.seed}; times in ms`,
  )
  const travel = new Travel(cluster, options, lines, places, legs[0]?.from ?? cluster.pops[0] ?? "", say)
  try {
    if (!(await travel.run(legs))) process.exitCode = 1
  } finally {
    await travel.close()
  }
}

await main().catch((error: unknown) => {
  const known = error instanceof TypeError || error instanceof RangeError
  process.stderr.write(
    `Sojourn travel: ${known ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  process.exitCode = 1
})
