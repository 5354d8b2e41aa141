import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { startCluster, type Cluster } from "@sojourn/testkit"
import { clientRttMs, meshRttMs, nearestPop, placeAt, readAtlas, type Atlas } from "./atlas.ts"
import { PortInUse, servePage, type PageServer } from "./page-server.ts"
import { Trouble } from "./trouble.ts"
import { warmUp } from "./warm-up.ts"
import type { World } from "./world.ts"

/**
 * `npm start`: POPs as processes of their own, with the distances between their cities on the lines, and a notebook to travel with. One URL
 * is printed when all of it is ready. Interrupting ends everything that was started.
 */
const usage = `npm start -- [options]

  --port N        port of the page (default 4600; 0 takes a free one)
  --config FILE   POPs, places and the last mile (default examples/notebook/pops.json)
  --data DIR      where the POPs keep their state across runs (default .data/notebook)
  --help          this`

interface Options {
  readonly port: number
  readonly config: string | URL
  readonly data: string
}

function readOptions(args: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: "string", default: "4600" },
      config: { type: "string" },
      data: { type: "string", default: ".data/notebook" },
      help: { type: "boolean", default: false },
    },
  })
  if (values.help) return undefined
  const port = Number(values.port)
  if (!/^\d+$/.test(values.port) || port > 65_535)
    throw new RangeError(`--port must be a number from 0 to 65535, not ${JSON.stringify(values.port)}`)
  return {
    port,
    config: values.config === undefined ? new URL("../pops.json", import.meta.url) : resolve(values.config),
    data: resolve(values.data),
  }
}

/** A POP that is killed from outside comes back, as any supervisor would have it; one that cannot stay up ends the demo. */
const restartsMax = 5
const restartsMs = 60_000

/** So long after the last sign of life a connection is asked whether it lives; the default of 20 s is long to stand on a stage. */
const heartbeatMs = 3_000

interface Stage {
  readonly cluster: Cluster
  readonly trouble: Trouble
}

async function startPops(atlas: Atlas, data: string): Promise<Stage> {
  const crashes: number[] = []
  const giveUp = (why: string): never => {
    process.stderr.write(`Sojourn: ${why}\n`)
    process.exit(1)
  }
  const places = atlas.places.map(({ id }) => id)
  const cluster = await startCluster({
    pops: atlas.pops,
    entry: new URL("./pop.ts", import.meta.url),
    folder: data,
    places,
    options: { heartbeatMs },
    meshRttMs: (a, b) => meshRttMs(atlas, a, b),
    clientRttMs: (pop, place) => clientRttMs(atlas, pop, place),
    env: { NODE_ENV: "development" },
    onCrash: (pop, how, log) => {
      crashes.push(performance.now())
      if (crashes.filter((at) => performance.now() - at < restartsMs).length > restartsMax)
        giveUp(`POP ${pop} ended by itself (${how}) once too often; the end of its log:\n${log}`)
      process.stdout.write(`POP ${pop} ended by itself (${how}); it is started again.\n`)
      trouble.crashed(pop).then(
        () => process.stdout.write(`POP ${pop} is back.\n`),
        (error: Error) => giveUp(error.message),
      )
    },
  })
  const trouble = new Trouble(cluster, places)
  return { cluster, trouble }
}

function worldOf(atlas: Atlas, cluster: Cluster): World {
  const mesh: Record<string, number> = {}
  for (const a of atlas.pops)
    for (const b of atlas.pops) if (a.id < b.id) mesh[`${a.id} ${b.id}`] = meshRttMs(atlas, a.id, b.id)
  return {
    mesh,
    pops: atlas.pops,
    places: atlas.places.map((place) => ({
      ...place,
      nearest: nearestPop(atlas, place.id).id,
      lines: Object.fromEntries(
        atlas.pops.map(({ id }) => [id, { url: cluster.url(id, place.id), rttMs: clientRttMs(atlas, id, place.id) }]),
      ),
    })),
  }
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2))
  if (options === undefined) {
    process.stdout.write(`${usage}\n`)
    return
  }
  const atlas = readAtlas(options.config)
  // First of all, so that a busy port is said at once.
  const page: PageServer = await servePage(options.port)
  process.stdout.write(`Starting ${atlas.pops.map(({ id, name }) => `${id} (${name})`).join(", ")} …\n`)
  let stage: Stage
  try {
    stage = await startPops(atlas, options.data)
  } catch (cause) {
    await page.close()
    throw cause
  }
  const { cluster, trouble } = stage
  await warmUp(atlas.pops.map(({ id }) => cluster.url(id, placeAt(atlas, id).id)))
  page.serveTrouble(trouble)
  page.serveWorld(worldOf(atlas, cluster))
  process.stdout.write(`\nSojourn notebook: http://127.0.0.1:${page.port}\n\nCtrl+C ends everything.\n`)
}

await main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(`Sojourn: ${message}\n`)
  process.exit(error instanceof PortInUse ? 2 : 1)
})
