import { pingTrips, quantile, type Cluster } from "@sojourn/testkit"

/** Round trips through the proxies, ms, measured while nothing else goes on. */
export interface Lines {
  client(pop: string): number
  mesh(a: string, b: string): number
}

const pings = 9

/** `places`: for each POP the place beside it, where its clients are. */
export async function measureLines(cluster: Cluster, places: ReadonlyMap<string, string>): Promise<Lines> {
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
