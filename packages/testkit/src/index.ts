// Real POPs on one machine: delaying proxies, processes, round trips from coordinates.
export { createProxy } from "./proxy.ts"
export type { Proxy, ProxyOptions, ProxySide, ProxyTarget } from "./proxy.ts"
export { startCluster } from "./cluster.ts"
export type { Cluster, ClusterOptions } from "./cluster.ts"
export { servePop } from "./cluster-pop.ts"
export type { PopProcessConfig, RunningPop } from "./cluster-pop.ts"
export { greatCircleKm, lineRttMs } from "./cluster-rtt.ts"
export type { Coordinates } from "./cluster-rtt.ts"
export { median, pingTrips, quantile } from "./cluster-ping.ts"

// The definition of the storage contract.
export { storeConformance } from "./store-conformance.ts"
export type { HeldFlushes, StoreFixture } from "./store-conformance.ts"
