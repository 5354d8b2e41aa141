import type { SocketFactory } from "@sojourn/client"

/** What passes on a client's socket, for whoever measures. Times are of `performance.now()`. */
export interface Tap {
  /** The socket is open and `hello` is about to be made: a call made now goes with it. */
  beforeHello?(url: string): void
  helloSent?(at: number, url: string): void
  /** A frame of this type came. */
  heard?(type: string, at: number): void
}

const typePattern = /^\{"t":"(\w+)"/

/** The runtime's own WebSocket, watched: what the client gets without `socket`, and nothing is changed or held back. */
export function tappedSocket(tap: Tap): SocketFactory {
  return (url, protocols, reader) => {
    const socket = new WebSocket(url, protocols)
    socket.onopen = () => {
      tap.beforeHello?.(url)
      reader.open()
    }
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (typeof event.data !== "string") return
      const type = typePattern.exec(event.data)?.[1]
      if (type !== undefined) tap.heard?.(type, performance.now())
      reader.message(event.data)
    }
    socket.onclose = (event) => reader.closed(event.code, event.reason)
    // A failed socket also closes.
    socket.onerror = () => undefined
    return {
      send(data) {
        if (data.startsWith('{"t":"hello"')) tap.helloSent?.(performance.now(), url)
        socket.send(data)
      },
      buffered: () => socket.bufferedAmount,
      close: (code, reason) => socket.close(code, reason),
    }
  }
}
