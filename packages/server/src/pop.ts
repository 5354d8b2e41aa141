import type { Server } from "node:http"
import { createNode, type Authenticate, type CoreNode, type EventSink, type MoveDone, type Store } from "@sojourn/core"
import { SojournError } from "@sojourn/protocol"
import { createAdmin } from "./admin.ts"
import { createEventLog } from "./event-log.ts"
import { createFront } from "./front.ts"
import { createIntake } from "./intake.ts"
import { createMeshDialer } from "./mesh-dialer.ts"
import { checkDurability, checkOptions, type PopOptions } from "./pop-options.ts"
import { chance, clock, primitives } from "./primitives.ts"

/** One running POP node. */
export interface Pop<D> {
  readonly id: string
  /**
   * Opens this POP's own HTTP server, for clients, peers, health and readiness. `port` 0 takes a free one; the answer says which. `host`: default
   * `127.0.0.1`, which no other machine reaches; `0.0.0.0` or `::` for every interface. Rejects with BAD_CONFIG where the port is in use, with
   * NOT_SERVING once it is being closed.
   */
  listen(port: number, host?: string): Promise<{ readonly port: number }>
  /**
   * Takes the WebSocket upgrades of `/v1/connect` and `/v1/mesh` from a server of yours, of `node:http` or, for `wss:`, `node:https`; everything
   * else stays its own. Throws BAD_CONFIG for what is no server or is another POP's, NOT_SERVING once it is being closed.
   */
  attach(server: Server): void
  /** Answers `/v1/health` and `/v1/ready`, and with `admin` `/v1/admin/forget`; undefined for any other request, which is yours. */
  fetch(request: Request): Promise<Response | undefined>
  /**
   * Resolves when this POP serves: at once when it stands alone, else when it has heard a peer. Rejects with STORE_LOST when a peer
   * remembers another store of this POP than the one it has: it will then never serve. Rejects with NOT_SERVING when it is closed before.
   */
  ready(): Promise<void>
  /** Typed calls from server code to any actor, wherever it is. */
  readonly actors: CoreNode<D>["actors"]
  /**
   * Moves an actor that this POP owns to another POP, with its attached clients: they keep their sockets and are served by relay. Resolves
   * when it is durable there. Rejects with MOVED where this POP does not own it, POP_UNREACHABLE where the other POP does not take it
   * within `limits.moveMsMax`: it stays here then, or arrives later if it was granted by then.
   */
  move(actor: readonly [name: string, key: string], to: string): Promise<MoveDone>
  /**
   * Drains and ends this POP: `process.once("SIGTERM", () => void pop.close())`. It takes no new clients and is not ready any more; asks its
   * clients to go elsewhere, spread over `limits.goAwaySpreadMs`, and serves them until they have gone; hands actors that are still in use
   * to other POPs and puts the rest to sleep; then ends every socket and closes the store. `drainMs` (default `limits.closeMsMax`) bounds
   * the part before sleep; 0 leaves it out. Calling it again waits for the same end.
   */
  close(options?: { readonly drainMs?: number }): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const namePattern = /^[\w@.-]{1,64}$/

/** Who comes in without `authenticate`: nobody; under `dev` anybody, and a token that looks like a name is the name. */
const refuseAll: Authenticate = () => null
const letIn: Authenticate = (_, token) => ({
  id: token !== undefined && namePattern.test(token) ? token : "anonymous",
})

/**
 * Starts a POP node: opens its store, begins to dial its peers. It takes clients from `listen` or `attach` on, and serves them once
 * `ready()` resolves; until then they are told to come back.
 *
 * @throws SojournError BAD_CONFIG (the message names the option and the way out), STORE_IN_USE, CORRUPT_RECORD.
 */
export async function createPop<D>(options: PopOptions<D>): Promise<Pop<D>> {
  const checked = checkOptions(options, process.env["NODE_ENV"])
  const { limits, dev, peers } = checked
  const identity = { pop: options.id, node: chance.id(), region: options.region }
  const log = createEventLog(options.logLevel ?? "info", identity)
  // It is called in the midst of whatever it tells of: what it throws is for the log, and ends nothing.
  const hookFailed = (error: unknown): void => log({ type: "event-hook.failed", error })
  const events: EventSink = (event) => {
    log(event)
    try {
      const returned: unknown = options.onEvent?.(event)
      if (returned instanceof Promise) returned.catch(hookFailed)
    } catch (error) {
      hookFailed(error)
    }
  }
  const store = await openStore(options, dev)
  const intake = createIntake(limits.lateMsMax)
  const node = createNode<D>({
    ...identity,
    app: options.app,
    store,
    clock,
    chance,
    primitives,
    limits,
    loop: intake.load,
    authenticate: options.authenticate ?? (dev ? letIn : refuseAll),
    events,
    ...(options.mesh === undefined
      ? {}
      : {
          mesh: {
            secret: checked.secrets,
            peers,
            homes: checked.homes,
            alone: checked.alone,
            dialer: createMeshDialer(limits, events),
          },
        }),
  })
  const front = createFront({
    node,
    limits,
    identity,
    events,
    take: intake.take,
    accepted: intake.accepted,
    ...(options.admin === true ? { admin: createAdmin(node, checked.secrets, primitives) } : {}),
    policy: { origins: checked.origins, publicUrl: options.publicUrl, loopback: dev },
  })

  const starting = node.start().then(() => {
    if (!node.serving()) throw new SojournError("NOT_SERVING", `POP ${identity.pop} was closed before it served`)
  })
  const settled = starting.then(
    () => events({ type: "pop.started", pop: identity.pop }),
    (error: unknown) => events({ type: "pop.start-failed", pop: identity.pop, error }),
  )
  let closing: Promise<void> | undefined
  const close = async (how?: { readonly drainMs?: number }): Promise<void> => {
    front.shut()
    await node.stop(how)
    await settled
    await front.close()
    await store.close()
    events({ type: "pop.stopped", pop: identity.pop })
  }
  const closeOnce = (how?: { readonly drainMs?: number }): Promise<void> => (closing ??= close(how))

  // With peers, starting lasts until one is heard, and they may be waiting for this one to listen.
  if (peers.length === 0 || checked.alone)
    try {
      await starting
    } catch (error) {
      await closeOnce()
      throw error
    }

  return {
    id: options.id,
    actors: node.actors,
    move: (actor, to) => node.move(actor, to),
    async listen(port, host = "127.0.0.1") {
      const bound = await front.listen(port, host)
      events({ type: "pop.listening", pop: identity.pop, host, port: bound.port })
      return bound
    },
    attach: (server) => front.attach(server),
    fetch: (request) => front.administer(request) ?? Promise.resolve(front.fetch(request)),
    ready: () => starting,
    close: closeOnce,
    [Symbol.asyncDispose]: () => closeOnce(),
  }
}

async function openStore<D>(options: PopOptions<D>, dev: boolean): Promise<Store> {
  const store = await options.storage.open()
  try {
    checkDurability(options.storage, store.durability, dev)
  } catch (error) {
    await store.close()
    throw error
  }
  return store
}
