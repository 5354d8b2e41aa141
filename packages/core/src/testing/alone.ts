import { createHash, createHmac, hkdfSync, randomUUID } from "node:crypto"
import { crc32 } from "node:zlib"
import type { App } from "../actor.ts"
import type { Authenticate } from "../gateway.ts"
import { defaultLimits, type Limits } from "../limits.ts"
import { memoryDisk, memoryStore } from "../memory-store.ts"
import { createNode, type CoreNode } from "../node.ts"
import type { Clock, CoreEvent, LoopLoad, Primitives } from "../ports.ts"
import type { Store } from "../store.ts"

export const primitives: Primitives = {
  hmac: (key, text) => createHmac("sha256", key).update(text).digest("base64url"),
  digest: (data) => createHash("sha256").update(data).digest("base64url"),
  checksum: (data) => crc32(data),
  derive: (secret, use) => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url"),
  equal: (a, b) => a === b,
}

/** One node without peers on a memory store, for tests of what an actor does; `again` starts another on the same disk. */
export async function alone<D>(
  app: App<D>,
  options: {
    readonly limits?: Partial<Limits>
    readonly store?: (store: Store) => Store
    readonly clock?: Clock
    readonly loop?: LoopLoad
    readonly authenticate?: Authenticate
  } = {},
): Promise<{ node: CoreNode<D>; events: CoreEvent[]; store: Store; again: (app?: App<D>) => Promise<CoreNode<D>> }> {
  const disk = memoryDisk("disk")
  const events: CoreEvent[] = []
  const start = async (app0 = app): Promise<{ node: CoreNode<D>; store: Store }> => {
    const inner = memoryStore({ disk })
    const store = options.store?.(inner) ?? inner
    const node = createNode({
      app: app0,
      pop: "bos",
      node: "bos-1",
      region: "us-east",
      store,
      clock: options.clock ?? {
        now: () => Date.now(),
        mono: () => performance.now(),
        after: (ms, fn) => {
          const timer = setTimeout(fn, ms)
          timer.unref()
          return () => {
            clearTimeout(timer)
          }
        },
      },
      chance: { random: Math.random, id: () => randomUUID() },
      primitives,
      limits: { ...defaultLimits, ...options.limits },
      authenticate: options.authenticate ?? ((_request, token) => (token === undefined ? null : { id: token })),
      events: (event) => events.push(event),
      ...(options.loop && { loop: options.loop }),
    })
    await node.start()
    return { node, store }
  }
  const first = await start()
  return { ...first, events, again: async (other) => (await start(other)).node }
}
