import {
  forgottenStore,
  homesHash,
  meshKeys,
  storeGone,
  type HandshakeSelf,
  type MeshIdentity,
  type Refusal,
} from "./mesh-handshake.ts"
import { createMeshLink, type MeshLink } from "./mesh-link.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Chance, Clock, EventSink, MeshDialer, Pipe, PipeReader, Primitives, Undo } from "./ports.ts"
import type { PeerMemory, Store } from "./store.ts"

/**
 * The links of this node to its peers: one a pair of POPs, dialed by the one whose id sorts lower, dialed again with full jitter whenever
 * it is down. A newer proved link of a peer replaces the older one: the peer knows best which of its own is alive.
 *
 * What a message meets: it is handed to a live link or refused at once (`send` is false); it is never kept for later, since whoever
 * sends it re-sends by the rules of the hand-off. It may be lost, and overtaken by another; one that arrives is whole.
 *
 * This file also keeps what this node remembers of its peers' stores (`mesh-handshake.ts` says why). It is written when a link comes up and,
 * no more often than `rememberMs`, as beats tell of a growing watermark; it never shrinks.
 */
export interface MeshPeer {
  readonly id: string
  readonly region: string
  readonly url: string
}

export interface MeshOptions {
  readonly pop: string
  readonly node: string
  readonly region: string
  /** The first signs, each is accepted. */
  readonly secret: string | readonly string[]
  /** Without this POP. */
  readonly peers: readonly MeshPeer[]
  readonly homes: readonly string[]
  readonly store: Pick<Store, "id" | "watermark" | "peers" | "rememberPeer" | "forgotten">
  readonly clock: Clock
  readonly chance: Chance
  readonly primitives: Primitives
  readonly limits: Limits
  readonly dialer: MeshDialer
  readonly events: EventSink
  onMessage(from: string, message: MeshMessage, body: Uint8Array | undefined): void
  /** After `true`, `send` reaches the peer. A replaced link shows as `false`, then `true`: what was sent before may be lost. */
  onLink(pop: string, up: boolean): void
  /** A proved peer remembers a store of this POP that is not this one, or further along: this node must not serve. Called once. */
  onStoreLost(reason: string): void
}

export interface Mesh {
  /** Reads what is remembered and begins to dial. Does not wait for a peer. */
  start(): Promise<void>
  /** False: there is no link to that POP, or this message closed it; nothing was sent. */
  send(pop: string, message: MeshMessage, body?: Uint8Array): boolean
  up(pop: string): boolean
  /** Bytes that wait for that POP; past `meshQueueBytesMax` its link is closed. */
  waiting(pop: string): number
  /** Lowest round trip of the last few beats, ms. */
  rtt(pop: string): number | undefined
  /** A pipe that somebody opened to this node. Its reader is to be fed from now on. */
  accept(pipe: Pipe<Uint8Array>): PipeReader<Uint8Array>
  /** Whether any peer was proved, and found nothing lost, since `start`. */
  readonly heardPeer: boolean
  /** That POP was given up as destroyed: its link ends, it is not dialed, and whoever comes under its id is refused and told so. */
  forget(pop: string): void
  /** Closes every link. Resolves when no dial and no write of this mesh is under way. */
  stop(): Promise<void>
}

const rememberMs = 2_000
const toldMax = 16

interface Peer {
  readonly config: MeshPeer
  readonly dials: boolean
  link: MeshLink | undefined
  upSince: number
  /** A dial or its handshake is under way. */
  dialing: AbortController | undefined
  attempt: number
  retry: Undo | undefined
  /** Given up as destroyed. */
  forgotten: boolean
  /** Highest watermark heard of the peer's store. */
  memory: PeerMemory | undefined
  rememberedAt: number
  remembering: boolean
  /** What was told since the last link: told once, not at each dial. */
  readonly told: Set<string>
}

export function createMesh(options: MeshOptions): Mesh {
  const { clock, limits, store, events } = options
  const keys = meshKeys(options.secret, options.primitives)
  const homes = homesHash(options.homes, options.primitives)
  const peers = new Map<string, Peer>(options.peers.map((config) => [config.id, newPeer(config, options.pop)]))
  const pending = new Set<MeshLink>()
  const tasks = new Set<Promise<void>>()
  let status: "new" | "started" | "stopped" = "new"
  let heardPeer = false
  let storeLost = false

  const background = (task: Promise<void>): void => {
    const owned = task.finally(() => tasks.delete(owned))
    tasks.add(owned)
  }

  const trouble = (peer: Peer | undefined, event: { type: string; reason: string; [field: string]: unknown }): void => {
    const what = `${event.type} ${event.reason}`
    if (peer?.told.has(what)) return
    if (peer && peer.told.size < toldMax) peer.told.add(what)
    events(event)
  }

  const remember = (peer: Peer, heard: PeerMemory): void => {
    if (peer.forgotten || storeGone(peer.memory, heard)) return
    const news = peer.memory?.store !== heard.store
    peer.memory = heard
    const now = clock.mono()
    if (peer.remembering || (!news && now - peer.rememberedAt < rememberMs)) return
    peer.remembering = true
    peer.rememberedAt = now
    background(
      store.rememberPeer(peer.config.id, heard).then(
        () => void (peer.remembering = false),
        (error: unknown) => {
          peer.remembering = false
          events({ type: "mesh.remember-failed", code: "STORE_UNAVAILABLE", pop: peer.config.id, error })
        },
      ),
    )
  }

  const drop = (peer: Peer, code: number, reason: string): void => {
    if (clock.mono() - peer.upSince >= limits.meshBeatMs) peer.attempt = 0
    peer.link = undefined
    events({ type: "mesh.down", pop: peer.config.id, closeCode: code, reason })
    options.onLink(peer.config.id, false)
  }

  const ready = (link: MeshLink, identity: MeshIdentity): void => {
    const peer = peers.get(identity.pop)
    if (!peer || peer.forgotten) return link.close("UNAUTHORIZED", "not a peer")
    pending.delete(link)
    peer.dialing = undefined
    const old = peer.link
    if (old) {
      drop(peer, 0, "replaced by a newer link")
      old.close("REPLACED", "replaced by a newer link")
    }
    peer.link = link
    peer.upSince = clock.mono()
    peer.told.clear()
    heardPeer = true
    remember(peer, { store: identity.store, watermark: identity.watermark })
    events({ type: "mesh.up", pop: identity.pop, node: identity.node, region: identity.region })
    options.onLink(identity.pop, true)
  }

  const refused = (refusal: Refusal): void => {
    const { code, reason, pop } = refusal
    trouble(pop === undefined ? undefined : peers.get(pop), { type: "mesh.refused", code, pop, reason })
    if (!refusal.ourStoreLost || storeLost) return
    storeLost = true
    options.onStoreLost(reason)
  }

  const makeLink = (dialed: Peer | undefined, onClosed: (code: number, reason: string) => void): MeshLink => {
    const self: HandshakeSelf = {
      keys,
      primitives: options.primitives,
      nonce: options.chance.id(),
      knows: (pop) => peers.has(pop),
      regionOf: (pop) => peers.get(pop)?.config.region,
      identity(to) {
        const peer = peers.get(to)
        const remembered = peer?.forgotten ? forgottenStore : peer?.memory
        const { pop, node, region } = options
        const mine = { pop, node, region, homes, store: store.id, watermark: store.watermark() }
        return remembered ? { ...mine, remembered } : mine
      },
    }
    let who: MeshIdentity | undefined
    const link: MeshLink = createMeshLink({
      clock,
      limits,
      self,
      events,
      dial: dialed?.config.id,
      watermark: () => store.watermark(),
      onReady(identity) {
        who = identity
        ready(link, identity)
      },
      onRefused: refused,
      onMessage: (message, body) => options.onMessage((who as MeshIdentity).pop, message, body),
      onWatermark(watermark) {
        const peer = who && peers.get(who.pop)
        if (peer && who) remember(peer, { store: who.store, watermark })
      },
      onClosed(code, reason) {
        pending.delete(link)
        const peer = who && peers.get(who.pop)
        if (peer?.link === link) drop(peer, code, reason)
        onClosed(code, reason)
      },
    })
    pending.add(link)
    return link
  }

  const retryLater = (peer: Peer): void => {
    if (status !== "started" || !peer.dials || peer.forgotten || peer.link || peer.dialing || peer.retry) return
    const cap = Math.min(limits.meshDialMsMax, limits.meshDialMsMin * 2 ** Math.min(peer.attempt, 20))
    peer.attempt++
    peer.retry = clock.after(options.chance.random() * cap, () => {
      peer.retry = undefined
      dial(peer)
    })
  }

  const dial = (peer: Peer): void => {
    if (status !== "started" || peer.link || peer.dialing) return
    const abort = new AbortController()
    peer.dialing = abort
    let opened = false
    const link = makeLink(peer, (code, reason) => {
      // Once there is a pipe it closes itself, after what was sent last: a refusal is to reach the peer.
      if (!opened) abort.abort()
      if (peer.dialing === abort) {
        peer.dialing = undefined
        trouble(peer, { type: "mesh.dial-failed", pop: peer.config.id, closeCode: code, reason })
      }
      retryLater(peer)
    })
    background(
      options.dialer.dial(peer.config.url, link.reader, abort.signal).then(
        (pipe) => {
          opened = true
          link.open(pipe)
        },
        (error: unknown) => link.reader.closed(1006, error instanceof Error ? error.message : String(error)),
      ),
    )
  }

  const forget = (pop: string): void => {
    const peer = peers.get(pop)
    if (!peer || peer.forgotten) return
    peer.forgotten = true
    peer.retry?.()
    peer.retry = undefined
    peer.link?.close("STORE_LOST", `POP ${pop} was forgotten as destroyed`)
    peer.dialing?.abort()
  }

  return {
    forget,
    async start() {
      const memory = await store.peers()
      const forgotten = await store.forgotten()
      if (status !== "new") return
      status = "started"
      for (const pop of forgotten.keys()) forget(pop)
      for (const peer of peers.values()) peer.memory = memory.get(peer.config.id)
      for (const peer of peers.values()) if (peer.dials && !peer.forgotten) dial(peer)
    },
    send: (pop, message, body) => peers.get(pop)?.link?.send(message, body) ?? false,
    up: (pop) => peers.get(pop)?.link !== undefined,
    waiting: (pop) => peers.get(pop)?.link?.waiting() ?? 0,
    rtt: (pop) => peers.get(pop)?.link?.rtt(),
    accept(pipe) {
      const link = makeLink(undefined, () => undefined)
      link.open(pipe)
      if (status !== "started") link.close("NOT_SERVING", "this node does not take links now")
      else if (pending.size > limits.meshPendingMax) link.close("RATE_LIMITED", "too many links without a handshake")
      return link.reader
    },
    get heardPeer() {
      return heardPeer
    },
    async stop() {
      status = "stopped"
      for (const peer of peers.values()) {
        peer.retry?.()
        peer.retry = undefined
        peer.link?.close("GOING_AWAY", "this node stops")
      }
      for (const link of [...pending]) link.close("GOING_AWAY", "this node stops")
      await Promise.all(tasks)
    },
  }
}

function newPeer(config: MeshPeer, pop: string): Peer {
  return {
    config,
    dials: pop < config.id,
    link: undefined,
    upSince: 0,
    dialing: undefined,
    attempt: 0,
    retry: undefined,
    forgotten: false,
    memory: undefined,
    rememberedAt: 0,
    remembering: false,
    told: new Set(),
  }
}
