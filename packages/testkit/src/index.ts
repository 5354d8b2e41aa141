// Real POPs on one machine: delaying proxies, processes, round trips from coordinates.
export { createProxy } from "./proxy.ts"
export type { Proxy, ProxyEvent, ProxyOptions, ProxySide, ProxyTarget } from "./proxy.ts"
export type { ProxyAction, ProxyRule, ProxyRuleHandle } from "./proxy-rules.ts"
export type { ProxyMessage } from "./proxy-messages.ts"
export { startCluster } from "./cluster.ts"
export type { Cluster, ClusterOptions } from "./cluster.ts"
export { servePop } from "./cluster-pop.ts"
export type { PopProcessConfig, RunningPop } from "./cluster-pop.ts"
export { createMoveStepper, moveSteps } from "./cluster-steps.ts"
export type { MoveStep, MoveStepper, StepHold, StepPoint, StepWatch } from "./cluster-steps.ts"
export { greatCircleKm, lineRttMs } from "./cluster-rtt.ts"
export type { Coordinates } from "./cluster-rtt.ts"
export { median, pingTrips, quantile } from "./cluster-ping.ts"

// The definition of the storage contract.
export { storeConformance } from "./store-conformance.ts"
export type { HeldFlushes, StoreFixture } from "./store-conformance.ts"

// Seams around real parts: a store that holds or fails what passes, a mesh that is read along, a client of bare frames.
export { storeOps, watchStore } from "./behaviours/watch-store.ts"
export type { StoreHold, StoreMatch, StoreOp, StorePoint, StoreStep, WatchedStore } from "./behaviours/watch-store.ts"
export { createMeshTap } from "./behaviours/mesh-tap.ts"
export type { MeshCatch, MeshMatch, MeshNote, MeshTap } from "./behaviours/mesh-tap.ts"
export { connectRaw } from "./behaviours/raw-client.ts"
export type { RawClient, RawOptions } from "./behaviours/raw-client.ts"

// The whole-cluster simulation: several POPs and clients on a virtual clock, from one seed.
export { run as simulateCluster } from "./sim/run.ts"
export type { RunOptions as SimulationOptions, RunResult as SimulationResult } from "./sim/run.ts"
export { mutants as plantedDefects } from "./sim/mutants.ts"
export type { Mutant as PlantedDefect } from "./sim/mutants.ts"
