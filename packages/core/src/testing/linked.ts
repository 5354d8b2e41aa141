import { randomUUID } from "node:crypto"
import type { App } from "../actor.ts"
import type { Authenticate } from "../gateway.ts"
import { withLimits, type Limits } from "../limits.ts"
import { memoryDisk, memoryStore } from "../memory-store.ts"
import { createNode, type CoreNode } from "../node.ts"
import type { Clock, CoreEvent, Pipe, PipeReader } from "../ports.ts"
import type { Store } from "../store.ts"
import { primitives } from "./alone.ts"

export interface Linked<D> {
  readonly node: CoreNode<D>
  readonly store: Store
  readonly events: CoreEvent[]
  /** Ends the links that this node has dialed: what is on its way is lost. */
  cut(): void
}

const wallClock: Clock = {
  now: () => Date.now(),
  mono: () => performance.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms)
    return () => {
      clearTimeout(timer)
    }
  },
}

/** Nodes of these POPs on memory stores, linked in this process; what one sends the other reads in a later turn of the event loop. */
export function linked<D>(
  app: App<D>,
  pops: readonly string[],
  options: {
    readonly limits?: Partial<Limits>
    readonly clock?: Clock
    readonly store?: (store: Store, pop: string) => Store
    readonly authenticate?: Authenticate
  } = {},
): (pop: string) => Linked<D> {
  const clock = options.clock ?? wallClock
  const nodes = new Map<string, Linked<D>>()
  for (const pop of pops) {
    const inner = memoryStore({ disk: memoryDisk(pop) })
    const store = options.store?.(inner, pop) ?? inner
    const events: CoreEvent[] = []
    const cuts: (() => void)[] = []
    const node = createNode({
      app,
      pop,
      node: `${pop}-1`,
      region: "eu",
      store,
      clock,
      chance: { random: Math.random, id: () => randomUUID() },
      primitives,
      limits: withLimits(options.limits),
      mesh: {
        secret: "a mesh secret that is long enough",
        peers: pops.filter((id) => id !== pop).map((id) => ({ id, region: "eu", url: id })),
        homes: pops,
        dialer: { dial: (url, reader) => Promise.resolve(dial(nodes.get(url)?.node, reader, cuts)) },
        alone: true,
      },
      authenticate: options.authenticate ?? ((_request, token) => (token === undefined ? null : { id: token })),
      events: (event) => events.push(event),
    })
    const cut = (): void => {
      for (const one of cuts.splice(0)) one()
    }
    nodes.set(pop, { node, store, events, cut })
  }
  return (pop) => nodes.get(pop) as Linked<D>
}

function dial(
  to: CoreNode<unknown> | undefined,
  reader: PipeReader<Uint8Array>,
  cuts: (() => void)[],
): Pipe<Uint8Array> {
  if (!to) throw new Error("nobody is there")
  let open = true
  const end = (other: () => PipeReader<Uint8Array>, own: () => PipeReader<Uint8Array>): Pipe<Uint8Array> => ({
    send(data, done) {
      const copy = data.slice()
      setImmediate(() => {
        if (open) other().message(copy)
        done?.()
      })
    },
    buffered: () => 0,
    close(code, reason) {
      setImmediate(() => {
        if (!open) return
        open = false
        other().closed(code, reason)
        own().closed(code, reason)
      })
    },
  })
  const accepted: PipeReader<Uint8Array> = to.acceptMesh(
    end(
      () => reader,
      () => accepted,
    ),
  )
  cuts.push(() => {
    if (!open) return
    open = false
    for (const one of [reader, accepted]) one.closed(1006, "cut")
  })
  return end(
    () => accepted,
    () => reader,
  )
}
