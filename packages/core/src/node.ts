import { SojournError } from "@sojourn/protocol"
import type { ActorDefinition, App } from "./actor.ts"
import { Admission } from "./admission.ts"
import { addressId } from "./address.ts"
import { Caller } from "./caller.ts"
import { Callers } from "./callers.ts"
import type { Chain } from "./chain.ts"
import { Forgetting, type ForgetReport } from "./forget.ts"
import { ForgottenPops } from "./forgotten.ts"
import { Gateway, type Authenticate, type Upgrade } from "./gateway.ts"
import { actorHandles, type ActorCall, type ActorPorts, type ServerActors } from "./handles.ts"
import { Host } from "./host.ts"
import type { Limits } from "./limits.ts"
import { serverPrefix } from "./mesh-messages.ts"
import type { MoveDone } from "./offers.ts"
import { createMesh, type Mesh, type MeshPeer } from "./mesh.ts"
import type { Chance, Clock, EventSink, LoopLoad, MeshDialer, Pipe, PipeReader, Primitives, Undo } from "./ports.ts"
import { createSessionIds } from "./session-ids.ts"
import type { Store } from "./store.ts"
import { createTickets } from "./tickets.ts"

export interface NodeMesh {
  /** The first signs, each is accepted: rotation. */
  readonly secret: string | readonly string[]
  /** The other POPs. */
  readonly peers: readonly MeshPeer[]
  /** POPs that create actors whose key names no home. Immutable: its hash is compared in every handshake. */
  readonly homes: readonly string[]
  readonly dialer: MeshDialer
  /** Serve before any peer was heard: only where it is certain that this store is the one that the peers remember. */
  readonly alone?: boolean
}

export interface NodeOptions<D> {
  readonly app: App<D>
  readonly pop: string
  readonly node: string
  readonly region: string
  readonly store: Store
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  readonly mesh?: NodeMesh
  readonly authenticate: Authenticate
  readonly events: EventSink
  /** Absent: no client is ever refused because the node has too much to do. */
  readonly loop?: LoopLoad
}

export interface CoreNode<D = Readonly<Record<string, ActorDefinition>>> {
  /** Resolves when the node serves: one peer was heard, or there is none to hear. Rejects with STORE_LOST. */
  start(): Promise<void>
  serving(): boolean
  /** Why it does not serve, once it is certain that it must not. */
  refusal(): SojournError | undefined
  early(ticket: string): void
  acceptClient(pipe: Pipe<string>, upgrade: Upgrade): PipeReader<string>
  acceptMesh(pipe: Pipe<Uint8Array>): PipeReader<Uint8Array>
  readonly actors: { readonly [K in keyof D]: ServerActors<D[K]> }
  /** Moves an actor owned here, with its attached clients: see `Moves.move`. */
  move(actor: readonly [name: string, key: string], to: string): Promise<MoveDone>
  /** `refused`: calls, queries and attaches that were OVERLOADED, since the node was made. */
  stats(): { readonly residents: number; readonly connections: number; readonly refused: number }
  /**
   * Gives up a POP whose store is destroyed for good, which only a person can know; `heir` takes its place as a home. May be called again, at any POP,
   * until the report says `complete`. Rejects with BAD_CONFIG where the names make no sense.
   */
  forget(pop: string, heir: string): Promise<ForgetReport>
  /**
   * Sends clients elsewhere, spread over `limits.goAwaySpreadMs` and served until they have gone; hands what is still in use to other POPs,
   * puts the rest to sleep, closes the mesh. `drainMs` (default `limits.closeMsMax`) bounds the first two; 0 leaves them out. The store is
   * the caller's to close.
   */
  stop(options?: { readonly drainMs?: number }): Promise<void>
}

const callMsMax = 30_000
const waitingMessagesMax = 1_024
/** After the last client was asked to leave, it has this long to do so before what it uses is handed off. */
const leaveMs = 500

/** One node of a POP: gateway and host roles, the mesh, and the check that the store is the one that the peers remember. */
export function createNode<D>(options: NodeOptions<D>): CoreNode<D> {
  const { app, pop, node, region, store, clock, chance, primitives, limits, events } = options
  const peers = options.mesh?.peers ?? []
  const configured: ReadonlySet<string> = new Set([pop, ...peers.map(({ id }) => id)])
  /** Without the forgotten ones. */
  const pops = new Set(configured)
  const forgotten = new ForgottenPops()
  const regions = new Map([[pop, region], ...peers.map((peer) => [peer.id, peer.region] as const)])
  const homes = options.mesh?.homes ?? [pop]
  // Without a mesh nobody else needs to verify tickets and session ids: a secret of this store's history keeps them valid over restarts.
  const secrets = options.mesh
    ? [options.mesh.secret].flat()
    : [primitives.derive(`${store.id} alone`, "sojourn secret v1")]
  const tickets = createTickets({ secrets, primitives, clock, limits })
  const sessionIds = createSessionIds({ secrets, primitives, clock, chance, limits })
  /**
   * `new`: not started → serving, lost, stopped. `serving` → draining, lost, stopped. `draining`: no new clients, the others leave → lost,
   * stopped. `lost`: the store is not what peers remember → stopped.
   */
  let state: "new" | "serving" | "draining" | "lost" | "stopped" = "new"
  const active = (): boolean => state === "serving" || state === "draining"
  let lost: SojournError | undefined
  let heard: (() => void) | undefined
  /** What peers said between the first link and serving: they would wait for an answer until their timers fire. */
  let waiting: (() => void)[] = []
  const actorPorts: ActorPorts = {
    knows: (name) => Object.hasOwn(app.actors as object, name),
    newKey: () => `${chance.id()}~${pop}`,
    // Also while it drains: a turn that was begun is to come to its end.
    call: (made, chain) => (active() ? call(made, chain) : notServing()),
  }
  const admission = new Admission({ loop: options.loop, limits, clock, chance, events })
  const host = new Host({
    app,
    pop,
    pops,
    regions,
    homes,
    homeNow: (home) => forgotten.homeNow(home),
    store,
    clock,
    chance,
    primitives,
    limits,
    events,
    tickets,
    actors: actorPorts,
    send: (to, message, body) => mesh?.send(to, message, body) ?? false,
    linked: (id) => mesh?.up(id) ?? false,
    room: (id) => (mesh?.waiting(id) ?? 0) <= limits.meshQueueBytesMax / 2,
    rtt: (id) => mesh?.rtt(id),
    wrote: (waitedMs) => {
      admission.wrote(waitedMs)
    },
  })
  const gateway = new Gateway({
    pop,
    node,
    host,
    admission,
    clock,
    limits,
    events,
    tickets,
    sessionIds,
    authenticate: options.authenticate,
    serving: () => state === "serving",
  })
  const mesh: Mesh | undefined = options.mesh
    ? createMesh({
        pop,
        node,
        region,
        secret: options.mesh.secret,
        peers,
        homes,
        store,
        clock,
        chance,
        primitives,
        limits,
        dialer: options.mesh.dialer,
        events,
        onMessage: (from, message, body) => {
          // Also while it starts: POPs that start together after one was destroyed may be told to forget it.
          if (message.t === "FORGET" || message.t === "FORGET_ACK") {
            if (state === "new" || active()) forgetting.message(from, message)
          } else if (active()) host.message(from, message, body)
          else if (state === "new" && waiting.length < waitingMessagesMax)
            waiting.push(() => {
              host.message(from, message, body)
            })
        },
        onLink: (id, up) => {
          if (up) heard?.()
          if (active()) host.link(id, up)
        },
        onStoreLost: (reason) => {
          lost = new SojournError(
            "STORE_LOST",
            `POP ${pop} must not serve: ${reason}. Start it with the folder that the peers remember, if that exists. A wiped, swapped or restored store must come back under a new POP id; what the old one had is given up by: sojourn-admin forget ${pop} --heir <another POP> --url <a running POP>`,
          )
          state = "lost"
          events({ type: "store.lost", error: lost })
          gateway.closeAll("STORE_LOST")
          callers.close()
          host.halt()
          heard?.()
        },
      })
    : undefined

  const refuse = (gone: string): void => {
    pops.delete(gone)
    mesh?.forget(gone)
    host.forget(gone)
  }
  const forgetting = new Forgetting({
    pop,
    pops: configured,
    store,
    forgotten,
    clock,
    chance,
    limits,
    events,
    send: (to, message) => mesh?.send(to, message) ?? false,
    heirOf: (actor) => forgotten.heirOf(host.homeOf(actor)),
    isHome: (actor) => forgotten.homeNow(host.homeOf(actor)).pop === pop,
    applied: refuse,
    revived: () => {
      host.revived()
    },
  })

  const who = { id: `${serverPrefix}${pop}` }
  const callers = new Callers(
    (id, actor, session) => new Caller(id, actor, { host, clock, sessionIds, who, limits, callMsMax, session }),
  )
  const notServing = (): Promise<never> =>
    Promise.reject(lost ?? new SojournError("NOT_SERVING", `POP ${pop} does not serve`))
  const call = ({ actor: [to, key], kind, name, args }: ActorCall, chain: Chain = []): Promise<unknown> => {
    const caller = callers.of(to, key)
    return kind === "call" ? caller.call(name, args, chain) : caller.query(name, args)
  }
  const actors = actorHandles(actorPorts, (made) =>
    state === "serving" ? call(made) : notServing(),
  ) as CoreNode<D>["actors"]

  /** Resolves after `ms` at the latest, whatever becomes of `work`. */
  const atMost = async (ms: number, work: Promise<unknown>): Promise<void> => {
    let undo: Undo | undefined
    const late = new Promise<void>((resolve) => (undo = clock.after(ms, resolve)))
    await Promise.race([work, late])
    undo?.()
  }
  const drain = async (drainMs: number): Promise<void> => {
    const began = clock.mono()
    const left = (): number => Math.max(0, began + drainMs - clock.mono())
    host.letGo()
    events({ type: "node.draining", pop, connections: gateway.connections, residents: host.residents })
    const spreadMs = Math.min(limits.goAwaySpreadMs, drainMs)
    const elsewhere = peers.some(({ id }) => mesh?.up(id))
    const gone = gateway.goAway(spreadMs)
    // Else nobody serves them: they come back when this POP does.
    if (elsewhere) {
      await atMost(Math.min(left(), spreadMs + leaveMs), gone)
      await atMost(left(), host.handOff())
    }
    await atMost(left(), host.worked())
  }
  let stopping: Promise<void> | undefined
  const stop = async (drainMs: number): Promise<void> => {
    const serving = state === "serving"
    state = "draining"
    heard?.()
    if (serving && drainMs > 0) await drain(drainMs)
    state = "stopped"
    callers.close()
    await host.stop()
    gateway.closeAll("GOING_AWAY")
    await mesh?.stop()
  }

  return {
    async start() {
      if (state !== "new") throw new SojournError("BAD_CONFIG", "a node starts once")
      for (const [gone, what] of await store.forgotten()) {
        forgotten.set(gone, what)
        refuse(gone)
      }
      await mesh?.start()
      if (mesh && peers.length > 0 && options.mesh?.alone !== true) {
        let undo: Undo | undefined
        await new Promise<void>((resolve) => {
          heard = resolve
          if (mesh.heardPeer || state !== "new") resolve()
          else
            undo = clock.after(5_000, () => {
              events({
                type: "node.waiting",
                message: "no peer heard yet; this POP serves when one is, or when started with alone",
              })
            })
        })
        undo?.()
        heard = undefined
      }
      const mayServe = (): boolean => {
        if (lost) throw lost
        return state === "new"
      }
      if (mayServe()) {
        await host.start()
        // It may have been stopped, or found to have lost its store, while it read that store.
        if (!mayServe()) return
        state = "serving"
        for (const { id } of peers) if (mesh?.up(id)) host.link(id, true)
        for (const tell of waiting) tell()
        waiting = []
        events({ type: "node.serving", pop })
      }
    },
    serving: () => state === "serving",
    refusal: () => lost,
    async forget(gone, heir) {
      if (state !== "serving") throw lost ?? new SojournError("NOT_SERVING", `POP ${pop} does not serve`)
      return forgetting.forget(gone, heir)
    },
    early: (ticket) => {
      gateway.early(ticket)
    },
    acceptClient: (pipe, upgrade) => gateway.accept(pipe, upgrade),
    acceptMesh: (pipe) => {
      if (mesh) return mesh.accept(pipe)
      pipe.close(4500, "MESH_REFUSED")
      return { message: () => undefined, closed: () => undefined }
    },
    actors,
    async move([name, key], to) {
      const id = addressId(name, key)
      if (state !== "serving") throw lost ?? new SojournError("NOT_SERVING", `POP ${pop} does not serve`)
      return host.move(id, to)
    },
    stats: () => ({ residents: host.residents, connections: gateway.connections, refused: admission.refused }),
    stop: (how) => (stopping ??= stop(how?.drainMs ?? limits.closeMsMax)),
  }
}
