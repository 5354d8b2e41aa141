import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { WebSocket, WebSocketServer, type RawData } from "ws"

/**
 * The mesh with a tap in it: POPs dial each other through this server (`url(from, to)` is the peer's URL in their configuration), which
 * passes every frame on and reads along. A test sees each message in the order in which it passed, catches one, drops some, sends one
 * again, silences a line as if a cable was pulled, or takes a POP off the net.
 *
 * It reads frames by the layout in core's `mesh-codec.ts`, with none of its code. Messages that went in chunks (over 64 KiB) pass unread.
 */
export interface MeshNote {
  readonly from: string
  readonly to: string
  readonly t: string
  readonly actor: string | undefined
  /** The message's fields. */
  readonly head: Readonly<Record<string, unknown>>
  readonly frame: Uint8Array
}

export type MeshMatch = (note: MeshNote) => boolean

export interface MeshCatch {
  /** The message that was caught. */
  readonly reached: Promise<MeshNote>
  /** Sends it on. */
  pass(): void
  /** It is lost. Also before it was caught: nothing is then. */
  drop(): void
}

export interface MeshTap extends AsyncDisposable {
  url(from: string, to: string): string
  /** Where this POP's server is now; undefined: dials from it and to it are refused, what was open is reset. */
  place(pop: string, port: number | undefined): void
  /** Every message that reached the tap, dropped ones included. */
  readonly notes: readonly MeshNote[]
  /** The next message that matches waits here; those behind it overtake it. */
  catch(match: MeshMatch): MeshCatch
  /** Messages that match are lost until the returned function is called. */
  drop(match: MeshMatch): () => void
  /** Resolves with the first message from now on that matches. */
  seen(match: MeshMatch): Promise<MeshNote>
  /** Sends this frame to `to` as if from `from`, on their link. */
  inject(from: string, to: string, frame: Uint8Array): void
  /** Resolves when `to` has read everything that came to it from `from` until now; where their link was cut, on the next one. */
  read(from: string, to: string): Promise<void>
  /** Nothing passes between these two, and no end is told: a cable is pulled. What is said meanwhile comes at `release`. */
  silence(a: string, b: string): void
  release(a: string, b: string): void
  /** Resets the link of these two; it is dialed again. */
  cut(a: string, b: string): void
}

interface Wire {
  readonly dialer: string
  readonly acceptor: string
  readonly near: WebSocket
  readonly far: WebSocket
  /** The POPs have greeted each other: what is injected from now on is in its place. */
  ready: boolean
  readonly waiting: { readonly socket: WebSocket; readonly frame: Uint8Array }[]
}

const decoder = new TextDecoder()
const encoder = new TextEncoder()

function headOf(frame: Uint8Array): Record<string, unknown> | undefined {
  if (frame[0] === 1) return JSON.parse(decoder.decode(frame.subarray(1))) as Record<string, unknown>
  if (frame[0] !== 2) return undefined
  const length = new DataView(frame.buffer, frame.byteOffset).getUint32(1)
  return JSON.parse(decoder.decode(frame.subarray(5, 5 + length))) as Record<string, unknown>
}

export async function createMeshTap(): Promise<MeshTap> {
  const ports = new Map<string, number>()
  const wires = new Set<Wire>()
  const silenced = new Set<string>()
  const notes: MeshNote[] = []
  const catches = new Set<{ match: MeshMatch; take(note: MeshNote, pass: () => void): void }>()
  const drops = new Set<MeshMatch>()
  /** Beats of our own, by their `at`: where they go, the wire that they are on if they are on one, and what waits for their answer. */
  const reads = new Map<number, { from: string; to: string; wire: Wire | undefined; done: () => void }>()
  let beats = 0

  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, maxPayload: 2 ** 26 })
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  const pair = (a: string, b: string): string => [a, b].sort().join(" ")

  const put = (wire: Wire, socket: WebSocket, frame: Uint8Array): void => {
    if (silenced.has(pair(wire.dialer, wire.acceptor)) || socket.readyState === WebSocket.CONNECTING)
      wire.waiting.push({ socket, frame })
    else if (socket.readyState === WebSocket.OPEN) socket.send(frame)
  }
  const flush = (wire: Wire): void => {
    for (const { socket, frame } of wire.waiting.splice(0)) put(wire, socket, frame)
  }

  const lineTo = (from: string, to: string): { wire: Wire; socket: WebSocket } | undefined => {
    for (const wire of wires) {
      if (!wire.ready) continue
      if (wire.dialer === from && wire.acceptor === to) return { wire, socket: wire.far }
      if (wire.dialer === to && wire.acceptor === from) return { wire, socket: wire.near }
    }
    return undefined
  }
  const leave = (wire: Wire): void => {
    wires.delete(wire)
    for (const read of reads.values()) if (read.wire === wire) read.wire = undefined
    beat()
  }
  /** Sends the beats that are on no wire; links answer each with its `at`, in the order of what came before. */
  const beat = (): void => {
    for (const [at, read] of reads) {
      const line = read.wire === undefined ? lineTo(read.from, read.to) : undefined
      if (!line) continue
      read.wire = line.wire
      const json = encoder.encode(JSON.stringify({ t: "BEAT", at, w: 0 }))
      const frame = new Uint8Array(1 + json.length)
      frame[0] = 1
      frame.set(json, 1)
      put(line.wire, line.socket, frame)
    }
  }

  const pass = (wire: Wire, from: string, to: string, socket: WebSocket, data: RawData): void => {
    const frame = data as Buffer
    const head = headOf(frame)
    if (head === undefined || frame[0] === 1) {
      const at = head?.["t"] === "ECHO" ? (head["at"] as number) : undefined
      const read = at === undefined ? undefined : reads.get(at)
      if (at !== undefined && read) {
        reads.delete(at)
        read.done()
      } else put(wire, socket, frame)
      if (head?.["t"] === "READY") {
        wire.ready = true
        beat()
      }
      return
    }
    const actor = typeof head["actor"] === "string" ? head["actor"] : undefined
    const note: MeshNote = { from, to, t: String(head["t"]), actor, head, frame }
    notes.push(note)
    for (const match of drops) if (match(note)) return
    for (const one of catches)
      if (one.match(note)) {
        one.take(note, () => put(wire, socket, frame))
        return
      }
    put(wire, socket, frame)
  }

  server.on("connection", (near, request) => {
    const [, dialer = "", acceptor = ""] = (request.url ?? "").split("/")
    near.on("error", () => undefined)
    const target = ports.get(acceptor)
    if (target === undefined || !ports.has(dialer)) return near.terminate()
    const far = new WebSocket(`ws://127.0.0.1:${target}/v1/mesh`, near.protocol === "" ? [] : [near.protocol], {
      perMessageDeflate: false,
      maxPayload: 2 ** 26,
    })
    const wire: Wire = { dialer, acceptor, near, far, ready: false, waiting: [] }
    wires.add(wire)
    far.on("open", () => flush(wire))
    near.on("message", (data) => pass(wire, dialer, acceptor, far, data))
    far.on("message", (data) => pass(wire, acceptor, dialer, near, data))
    far.on("error", () => near.terminate())
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const)
      one.on("close", (code, reason) => {
        leave(wire)
        if (code >= 3_000 || code === 1_000) other.close(code, reason)
        else other.terminate()
      })
  })

  const reset = (match: (wire: Wire) => boolean): void => {
    for (const wire of [...wires]) {
      if (!match(wire)) continue
      leave(wire)
      wire.waiting.length = 0
      wire.near.terminate()
      wire.far.terminate()
    }
  }
  const tap: MeshTap = {
    url: (from, to) => `ws://127.0.0.1:${port}/${from}/${to}`,
    place(pop, at) {
      if (at === undefined) {
        ports.delete(pop)
        reset((wire) => wire.dialer === pop || wire.acceptor === pop)
      } else ports.set(pop, at)
    },
    notes,
    catch(match) {
      const reached = Promise.withResolvers<MeshNote>()
      let onward: (() => void) | undefined
      const one = {
        match,
        take(note: MeshNote, pass: () => void) {
          catches.delete(one)
          onward = pass
          reached.resolve(note)
        },
      }
      catches.add(one)
      return {
        reached: reached.promise,
        pass() {
          catches.delete(one)
          onward?.()
          onward = undefined
        },
        drop() {
          catches.delete(one)
          onward = undefined
        },
      }
    },
    drop(match) {
      drops.add(match)
      return () => void drops.delete(match)
    },
    seen(match) {
      const caught = tap.catch(match)
      return caught.reached.then((note) => {
        caught.pass()
        return note
      })
    },
    inject(from, to, frame) {
      const line = lineTo(from, to)
      if (!line) throw new Error(`no mesh link from ${from} to ${to}`)
      put(line.wire, line.socket, frame)
    },
    read(from, to) {
      return new Promise((resolve) => {
        reads.set(-++beats, { from, to, wire: undefined, done: resolve })
        beat()
      })
    },
    silence(a, b) {
      silenced.add(pair(a, b))
    },
    release(a, b) {
      silenced.delete(pair(a, b))
      for (const wire of wires) if (pair(wire.dialer, wire.acceptor) === pair(a, b)) flush(wire)
    },
    cut(a, b) {
      reset((wire) => pair(wire.dialer, wire.acceptor) === pair(a, b))
    },
    async [Symbol.asyncDispose]() {
      reset(() => true)
      const closed = once(server, "close")
      server.close()
      await closed
    },
  }
  return tap
}
