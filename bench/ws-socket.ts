import type { SocketFactory } from "@sojourn/client"
import { WebSocket } from "ws"

/**
 * Of `ws`, as the Node clients of the peers have it: the runtime's own takes more than the POP does for a connection, on the cores that they share.
 * `made` is told of each, to cut it.
 */
export function wsSocket(
  ...[url, protocols, reader, made]: [...Parameters<SocketFactory>, ((ws: WebSocket) => void)?]
): ReturnType<SocketFactory> {
  const ws = new WebSocket(url, protocols, { perMessageDeflate: false })
  made?.(ws)
  ws.on("open", () => reader.open())
  ws.on("message", (data) => reader.message((data as Buffer).toString()))
  ws.on("close", (code, reason) => reader.closed(code, reason.toString()))
  ws.on("error", () => undefined)
  return {
    send: (data) => ws.send(data),
    buffered: () => ws.bufferedAmount,
    close: (code, reason) => ws.close(code, reason),
  }
}
