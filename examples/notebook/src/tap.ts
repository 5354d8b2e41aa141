import type { SocketFactory } from "@sojourn/client"

/** What passes on a client's socket, for whoever measures. Times are of `performance.now()`. */
export interface Tap {
  /**
   * The client's actors are about to be attached on this socket: a call made now goes with them. That is with `hello`, or with `welcome`
   * if another socket is in use until then.
   */
  arriving?(url: string): void
  helloSent?(at: number, url: string): void
  /** A frame of this type came, over the socket that was opened last. */
  heard?(type: string, at: number): void
}

const typePattern = /^\{"t":"(\w+)"/

/** The runtime's own WebSocket, watched: what the client gets without `socket`, and nothing is changed or held back. */
export function tappedSocket(tap: Tap): SocketFactory {
  let latest: WebSocket | undefined
  /** Those that were welcomed: as long as one is open, the client's calls go there. */
  const serving = new Set<WebSocket>()
  return (url, protocols, reader) => {
    const socket = new WebSocket(url, protocols)
    let arrived = false
    const arriving = (): void => {
      if (!arrived) tap.arriving?.(url)
      arrived = true
    }
    socket.onopen = () => {
      if (serving.size === 0) arriving()
      reader.open()
    }
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (typeof event.data !== "string") return
      // A message is one frame or several, a line each: whoever watches is told of one right before the client reads it.
      for (const frame of event.data.split("\n")) {
        const type = typePattern.exec(frame)?.[1]
        if (type === "welcome") serving.add(socket)
        if (socket === latest && type === "welcome") arriving()
        if (socket === latest && type !== undefined) tap.heard?.(type, performance.now())
        reader.message(frame)
      }
    }
    socket.onclose = (event) => {
      serving.delete(socket)
      reader.closed(event.code, event.reason)
    }
    // A failed socket also closes.
    socket.onerror = () => undefined
    return {
      send(data) {
        if (data.startsWith('{"t":"hello"')) {
          latest = socket
          tap.helloSent?.(performance.now(), url)
        }
        socket.send(data)
      },
      buffered: () => socket.bufferedAmount,
      close: (code, reason) => socket.close(code, reason),
    }
  }
}
