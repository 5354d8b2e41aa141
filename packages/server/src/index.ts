// A POP node: sockets, mesh, HTTP and lifecycle around the core.
export { createPop } from "./pop.ts"
export type { Pop } from "./pop.ts"
export type { ConnectRequest, LogLevel, PopOptions } from "./pop-options.ts"

// Where clients, peers and probes come in.
export { CONNECT_PATH, HEALTH_PATH, READY_PATH } from "./front.ts"
export { MESH_PATH, MESH_SUBPROTOCOL } from "./mesh-dialer.ts"

// What an author needs beside it.
export { SojournError } from "@sojourn/protocol"
export type { CoreEvent, EventSink, Limits, MeshPeer, Principal } from "@sojourn/core"
