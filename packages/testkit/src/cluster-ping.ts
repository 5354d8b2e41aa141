import { WebSocket } from "ws"

/**
 * Round trips to whatever answers WebSockets behind `url`, ms, one after the other, by ping frames (RFC 6455 §5.5.2): the other side answers
 * them without looking at what they carry. The connection's own set-up is not in them.
 */
export async function pingTrips(url: string, count: number, protocols: readonly string[] = []): Promise<number[]> {
  const socket = new WebSocket(url, [...protocols], { perMessageDeflate: false })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("open", resolve)
      socket.once("error", reject)
    })
    const trips: number[] = []
    for (let i = 0; i < count; i++) {
      const sent = performance.now()
      await new Promise<void>((resolve, reject) => {
        const lost = (code: number): void =>
          reject(new Error(`${url} closed the connection with ${code} during a ping`))
        socket.once("close", lost)
        socket.once("pong", () => {
          socket.off("close", lost)
          resolve()
        })
        socket.ping()
      })
      trips.push(performance.now() - sent)
    }
    return trips
  } finally {
    socket.on("error", () => undefined)
    socket.terminate()
  }
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Nearest rank; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}
