import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { median, startCluster, type Cluster } from "@sojourn/testkit"
import { clientRttMs, meshRttMs, placeAt, readAtlas, type Atlas } from "./atlas.ts"
import { planItinerary, seeded } from "./itinerary.ts"
import { Journey, type JourneyEnd, type JourneyOptions } from "./travel-journey.ts"
import { measureLines } from "./travel-lines.ts"
import { travelOptions, usage, type TravelOptions } from "./travel-options.ts"
import { searchBorders } from "./travel-residency.ts"
import { pauses, rounded, summary } from "./travel-report.ts"
import { warmUp } from "./warm-up.ts"

/**
 * `npm run travel`: a client goes from POP to POP and calls all the while; in the end its own account is compared with what the actor's
 * code counted. POPs are real processes with real stores, the lines between are delaying proxies, and what is compared against the floor is
 * measured through them. Exit code 1 if anything was lost, repeated, reordered or differs.
 */
const clientRttFixedMs = 10
/** With other devices about: shorter than a leg, so that a call of theirs keeps the actor from following the typist, and not for long. */
const followQuietMs = 500
/** Bytes of state whose pauses `--pause` puts side by side. */
const pauseBytes = [1_024, 1_048_576] as const

function startPops(atlas: Atlas, options: TravelOptions, folder: string): Promise<Cluster> {
  const { rttMs } = options
  return startCluster({
    pops: atlas.pops,
    entry: new URL("./travel-pop.ts", import.meta.url),
    folder,
    places: atlas.places.map(({ id }) => id),
    meshRttMs: (a, b) => rttMs ?? meshRttMs(atlas, a, b),
    clientRttMs: (pop, place) => (rttMs === undefined ? clientRttMs(atlas, pop, place) : clientRttFixedMs),
    options: options.devices > 1 ? { followQuietMs } : {},
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
  process.on("exit", (code) => {
    if (code === 0) rmSync(folder, { recursive: true, force: true })
    else process.stderr.write(`the POPs' logs and stores are left in ${folder}\n`)
  })
  const legs = planItinerary({
    pops: atlas.pops.map(({ id }) => id),
    legs: options.legs,
    hint: options.hint,
    kill: options.kill,
    live: options.pause ? "all" : options.live ? "some" : undefined,
    random: seeded(options.seed),
  })
  await using cluster = await startPops(atlas, options, folder)
  const places = new Map(atlas.pops.map(({ id }) => [id, placeAt(atlas, id).id]))
  const url = (pop: string): string => cluster.url(pop, places.get(pop))
  await warmUp(cluster.pops.map(url))
  const lines = await measureLines(cluster, places)
  say(
    `${atlas.pops.length} POPs, ${legs.length} legs, ${options.rate} calls a second, seed ${options.seed}; times in ms`,
  )
  const start = legs[0]?.from ?? cluster.pops[0] ?? ""
  const journey = async (
    actor: JourneyOptions["actor"],
    more: Partial<TravelOptions> & Partial<Pick<JourneyOptions, "outside" | "writer">> = {},
  ): Promise<JourneyEnd> => {
    const { outside = [], writer = "traveller", ...rest } = more
    const travel = { ...options, ...rest }
    const one = new Journey({ cluster, travel, actor, writer, lines, url, start, outside, say })
    try {
      const end = await one.run(legs)
      say("")
      if (!end.ok) process.exitCode = 1
      return end
    } finally {
      await one.close()
    }
  }
  const print = (last: object): void => {
    process.stdout.write(`${JSON.stringify(last)}\n`)
  }
  if (options.residency) {
    const outside = atlas.pops.flatMap(({ id, region }) => (region.startsWith("us-") ? [] : [id]))
    const inside = cluster.pops.filter((pop) => !outside.includes(pop))
    const writer = `resident-${options.seed}`
    const end = await journey(["resident", `${writer}~${start}`], { outside, writer })
    // Nothing is on its way any more when it is searched.
    await cluster.stop()
    const residency = searchBorders(folder, { outside, inside }, { writer, text: end.outcome.text })
    for (const file of residency.leaks) process.stderr.write(`outside of the residency, ${file} has some of it\n`)
    if (!residency.foundInside) process.stderr.write("the search does not find the state where it must be\n")
    if (residency.leaks.length > 0 || !residency.foundInside) process.exitCode = 1
    const callsOutside = end.results.reduce((sum, { leg, calls }) => sum + (outside.includes(leg.to) ? calls : 0), 0)
    print({ ...summary(end, options), residency: { ...residency, callsOutside } })
    return
  }
  if (!options.pause) {
    print(summary(await journey(["traveller", `traveller-${options.seed}`]), options))
    return
  }
  const all: Record<string, unknown> = {}
  const said: string[] = []
  for (const stateBytes of pauseBytes) {
    const end = await journey(["traveller", `traveller-${stateBytes}-${options.seed}`], { stateBytes })
    all[String(stateBytes)] = summary(end, options)
    said.push(`${rounded(median(pauses(end.results))) ?? "?"} ms at ${stateBytes} bytes`)
  }
  const line = `${options.rttMs ?? "various"} ms between POPs, a call each ${rounded(1000 / options.rate) ?? "?"} ms`
  say(`median pause of a live move: ${said.join(", ")} of state; ${line}`)
  print(all)
}

await main().catch((error: unknown) => {
  const known = error instanceof TypeError || error instanceof RangeError
  process.stderr.write(
    `Sojourn travel: ${known ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  process.exitCode = 1
})
