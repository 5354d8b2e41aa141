import { SojournError, type Chance, type Clock } from "@sojourn/protocol"
import type { Page, SocketFactory } from "./types.ts"

/**
 * The only place of the client that reads globals, each at first use: importing the package touches none, so that it loads where
 * there is no window and no WebSocket. Everything here is a default of an option of `createClient`.
 */

export const ambientClock = (): Clock => ({
  now: () => Date.now(),
  mono: () => performance.now(),
  after: (ms, fn) => {
    // Longer ones would overflow to 1 ms (HTML, timers: a signed 32-bit number of ms); the sweep arms again.
    const timer = setTimeout(fn, Math.min(ms, 2 ** 31 - 1))
    return () => clearTimeout(timer)
  },
})

export const ambientChance = (): Chance => ({
  random: () => Math.random(),
  // 128 bits; `randomUUID` would need a secure context, which a page served over http on a LAN is not.
  id: () => crypto.getRandomValues(new Uint32Array(4)).join("-"),
})

export const ambientSocket: SocketFactory = (url, protocols, reader) => {
  if (typeof WebSocket === "undefined")
    throw new SojournError("BAD_CONFIG", "there is no WebSocket here: pass createClient({ socket })")
  const socket = new WebSocket(url, protocols)
  socket.onopen = () => reader.open()
  socket.onmessage = (event: MessageEvent<unknown>) => {
    if (typeof event.data === "string") reader.message(event.data)
  }
  socket.onclose = (event) => reader.closed(event.code, event.reason)
  // A failed socket also closes; without a listener some runtimes print the error.
  socket.onerror = () => {}
  return {
    send: (data) => socket.send(data),
    buffered: () => socket.bufferedAmount,
    close: (code, reason) => socket.close(code, reason),
  }
}

const page = (): Document | undefined => (typeof document === "undefined" ? undefined : document)

export const ambientPage = (): Page => ({
  hidden: () => page()?.visibilityState === "hidden",
  watch: (changed) => {
    const listener = (): void => changed()
    // No signal: a document that a test made knows only the AbortController of its own realm.
    const listen = (verb: "addEventListener" | "removeEventListener"): void => {
      for (const name of ["online", "pageshow"]) globalThis[verb]?.(name, listener)
      page()?.[verb]("visibilitychange", listener)
    }
    listen("addEventListener")
    return () => listen("removeEventListener")
  },
})
