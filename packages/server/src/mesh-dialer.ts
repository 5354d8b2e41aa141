import type { EventSink, Limits, MeshDialer } from "@sojourn/core"
import type { Duplex } from "node:stream"
import { WebSocket } from "ws"
import { feedBytes, socketPipe } from "./socket.ts"

export const MESH_PATH = "/v1/mesh"
export const MESH_SUBPROTOCOL = "sojourn.mesh.v1"

/** Room above a chunk: peers may be configured with other chunk sizes. */
export function meshPayloadMax(limits: Limits): number {
  return Math.max(1_048_576, limits.meshChunkBytes + 1_024)
}

/** `ws://host:port` leads to the mesh path; a url with a path of its own is taken as it is (a proxy may rewrite it). */
export function meshUrl(url: string): string {
  const parsed = new URL(url)
  if (parsed.pathname === "/") parsed.pathname = MESH_PATH
  return parsed.href
}

export function createMeshDialer(limits: Limits, events: EventSink): MeshDialer {
  return {
    dial(url, reader, signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(new Error("given up before it began"))
        const ws = new WebSocket(meshUrl(url), [MESH_SUBPROTOCOL], {
          perMessageDeflate: false,
          followRedirects: false,
          maxPayload: meshPayloadMax(limits),
          handshakeTimeout: limits.meshHandshakeMsMax,
        })
        const abort = (): void => ws.terminate()
        signal.addEventListener("abort", abort, { once: true })
        let socket: Duplex | undefined
        ws.once("upgrade", (response) => (socket = response.socket))
        ws.once("open", () => {
          signal.removeEventListener("abort", abort)
          ws.off("error", reject)
          feedBytes(ws, reader, events)
          // The upgrade comes before the opening, always.
          resolve(socketPipe<Uint8Array>(ws, socket as Duplex))
        })
        ws.once("error", reject)
        ws.once("close", () => signal.removeEventListener("abort", abort))
      })
    },
  }
}
