import { closeCodeOf, codec, SojournError, type ServerFrame } from "@sojourn/protocol"
import { createNode, memoryDisk, memoryStore, type CoreEvent, type CoreNode, type Pipe } from "@sojourn/core"
import { defaultLimits } from "../packages/core/src/limits.ts"
import { encodeMessage } from "../packages/core/src/mesh-codec.ts"
import { createMeshLink } from "../packages/core/src/mesh-link.ts"
import { VirtualClock } from "../packages/core/src/testing/virtual-clock.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentBytes, bentJson, bentText, hostileJson } from "./hostile.ts"
import { huntedApp, marker } from "./hunted-app.ts"
import { handshakeSelf, linkFrame, meshSecret, wholeFrame } from "./mesh.ts"
import { found } from "./oracle.ts"
import { abusedJson } from "./parsers.ts"
import { primitives, validFrame, validMeshMessage, type FrameHints } from "./samples.ts"
import type { Target } from "./target.ts"
import { randomValue } from "./values.ts"

/**
 * A whole node, its transport in memory and its clock virtual: hostile clients before and after `welcome`, hostile peers before and after the
 * handshake. A victim is attached all the while and is served what it should be; nobody else is sent anything of it, and nothing in
 * the node fails in a way that has no name. Each case has a node of its own, so that one case is enough to see it again.
 */
interface Wire {
  readonly sent: string[]
  closed: readonly [number, string] | undefined
  say(text: string): void
  hang(): void
}

interface Hunted {
  readonly node: CoreNode<(typeof huntedApp)["actors"]>
  readonly clock: VirtualClock
  readonly problems: string[]
  connect(): Wire
}

/** What fails here by the doing of the author: an echo of what the codec does not carry, a POP that does not exist, a token of any length as the id. It is masked, and logged. */
const authors =
  /^there is no POP|nests deeper than|^Detected property|^the data of ActorError|^authenticate must return/

export function problemOf(event: CoreEvent): string | undefined {
  const { type, error } = event
  // The library's own, with its code.
  if (type === "socket.error") return undefined
  if (type === "mesh.handler-failed" || type === "socket.reader-failed") return `${type}: ${said(error)}`
  if (!(error instanceof Error) || error instanceof SojournError) {
    const cause = error instanceof SojournError ? error.cause : undefined
    return error instanceof SojournError && error.code === "INTERNAL" ? `${type}: ${said(cause ?? error)}` : undefined
  }
  return authors.test(error.message) ? undefined : `${type}: ${said(error)}`
}

function said(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

async function hunt(r: Random, mesh: boolean): Promise<Hunted> {
  const clock = new VirtualClock()
  const problems: string[] = []
  const node = createNode({
    app: huntedApp,
    pop: "bos",
    node: "bos-1",
    region: "bos-region",
    store: memoryStore({ disk: memoryDisk("disk"), pop: "bos" }),
    clock,
    chance: r.chance(),
    primitives,
    limits: defaultLimits,
    authenticate: (_, token) => (token === undefined || token === "" ? null : { id: token }),
    events: (event) => {
      const problem = problemOf(event)
      if (problem !== undefined) problems.push(problem)
    },
    ...(mesh
      ? {
          mesh: {
            secret: meshSecret,
            peers: [{ id: "fra", region: "fra-region", url: "ws://fra" }],
            homes: ["bos", "fra"],
            alone: true,
            dialer: { dial: () => Promise.reject(new Error("nobody there")) },
          },
        }
      : {}),
  })
  await node.start()
  return {
    node,
    clock,
    problems,
    connect() {
      const wire: Wire = { sent: [], closed: undefined, say: () => undefined, hang: () => undefined }
      const pipe: Pipe<string> = {
        send: (data, done) => {
          wire.sent.push(data)
          done?.()
        },
        buffered: () => 0,
        close: (code, reason) => {
          wire.closed = [code, reason]
        },
      }
      const reader = node.acceptClient(pipe, { url: "/v1/connect", headers: {}, ip: "127.0.0.1" })
      wire.say = (text) => {
        if (!wire.closed) reader.message(text)
      }
      wire.hang = () => reader.closed(1006, "")
      return wire
    },
  }
}

/** Everything that is ready to happen happens; no timer runs. */
const settle = (hunted: Hunted): Promise<void> => hunted.clock.advance(1)

function framesOf(wire: Wire): ServerFrame[] {
  return wire.sent.map((text) => JSON.parse(text) as ServerFrame)
}

/** Speaks the protocol and counts what it is answered. */
class Victim {
  readonly #hunted: Hunted
  readonly #wire: Wire
  #sid = ""
  #calls = 0

  constructor(hunted: Hunted) {
    this.#hunted = hunted
    this.#wire = hunted.connect()
  }

  get sid(): string {
    return this.#sid
  }

  ticket = ""

  async open(): Promise<void> {
    this.#wire.say(JSON.stringify({ t: "hello", client: "v", token: "victim" }))
    await settle(this.#hunted)
    const welcome = framesOf(this.#wire)[0]
    if (welcome?.t !== "welcome") found(`the victim was not welcomed: ${JSON.stringify(welcome)}`)
    this.#sid = welcome.sessions[0] ?? ""
    this.#wire.say(
      JSON.stringify({ t: "attach", ch: 1, actor: ["note", "victim~bos"], sid: this.#sid, acked: 0, live: true }),
    )
    await settle(this.#hunted)
    const attached = framesOf(this.#wire)[1]
    if (attached?.t !== "attached") found(`the victim was not attached: ${JSON.stringify(attached)}`)
    this.ticket = attached.ticket
    await this.call()
  }

  /** One call, whose reply and output are what they must be. */
  async call(): Promise<void> {
    const before = this.#wire.sent.length
    const c = ++this.#calls
    this.#wire.say(JSON.stringify({ t: "call", ch: 1, c, a: "add", p: codec.encode([marker]) }))
    await settle(this.#hunted)
    if (this.#wire.closed) found(`the victim's connection was closed: ${this.#wire.closed.join(" ")}`)
    const news = framesOf(this.#wire).slice(before)
    const reply = news.find((frame) => frame.t === "reply")
    const value = reply?.ok?.v as { n?: unknown; secret?: unknown } | undefined
    if (reply?.c !== c || value?.n !== c || value.secret !== marker)
      found(`the victim's call ${c} was answered ${JSON.stringify(news).slice(0, 500)}`)
    if (!news.some((frame) => frame.t === "out")) found(`the victim's call ${c} had no output`)
  }
}

function assertHarmless(wire: Wire): string {
  if (wire.closed && closeCodeOf(wire.closed[0]) === undefined)
    found(`a connection was closed with ${wire.closed.join(" ")}, which is in no table`)
  for (const text of wire.sent) if (text.includes(marker)) found(`a stranger was sent ${text.slice(0, 500)}`)
  return wire.closed ? `closed ${closeCodeOf(wire.closed[0]) ?? ""}` : "goes on"
}

export function hostileText(r: Random, hints: FrameHints, next: number[] = []): string {
  const frame = validFrame(r, hints)
  switch (r.int(8)) {
    case 0:
      return hostileJson(r)
    case 1:
      return bentText(r, JSON.stringify(frame))
    case 2:
    case 3:
      return JSON.stringify(frame)
    case 4:
    case 5:
    case 6: {
      // Of the protocol's form, with a value that is of none.
      const action = r.pick(["put", "echo", "refuse", "leave"])
      const p = r.happens(0.4)
        ? abusedJson(r)
        : r.happens(0.5)
          ? JSON.stringify(codec.encode([randomValue(r)]))
          : `{"v":[${hostileJson(r)}]}`
      const ch = r.int(3)
      // Mostly the next one, or it would never be run.
      const c = r.happens(0.9) ? (next[ch] = (next[ch] ?? 0) + 1) : r.int(8)
      return `{"t":"call","ch":${ch},"c":${c},"a":"${action}","p":${p}}`
    }
    default:
      return bentJson(r, frame, 1)
  }
}

async function clientStory(r: Random, count: (outcome: string) => void): Promise<void> {
  const hunted = await hunt(r, false)
  const victim = new Victim(hunted)
  await victim.open()
  for (let connections = 1 + r.int(3); connections > 0; connections--) {
    const wire = hunted.connect()
    const hints: FrameHints = {
      sids: [victim.sid, "x.y.z"],
      tickets: [victim.ticket, "a.b.c"],
      ...(r.happens(0.3) ? { actor: ["note", "victim~bos"] } : {}),
    }
    if (r.happens(0.25)) wire.say(hostileText(r, hints))
    else {
      wire.say(JSON.stringify({ t: "hello", client: "m", token: "mallory" }))
      await settle(hunted)
      const welcome = framesOf(wire)[0]
      const own = welcome?.t === "welcome" ? welcome.sessions : []
      const next: number[] = []
      const mine: FrameHints = { sids: [...own, victim.sid], tickets: hints.tickets ?? [] }
      for (const ch of [0, 1, 2])
        wire.say(
          JSON.stringify({ t: "attach", ch, actor: ["note", "mallory~bos"], sid: own[ch], acked: 0, live: true }),
        )
      for (let i = 1 + r.int(12); i > 0 && !wire.closed; i--) {
        wire.say(hostileText(r, r.happens(0.2) ? hints : mine, next))
        if (r.happens(0.3)) await settle(hunted)
        if (i > 1) count(assertHarmless(wire))
      }
    }
    await settle(hunted)
    count(assertHarmless(wire))
    await victim.call()
    wire.hang()
  }
  // What is due within a minute: heartbeats, an attach that waits, an actor that sleeps.
  await hunted.clock.advance(r.pick([0, 0, 15_000]))
  await stop(hunted)
}

async function stop(hunted: Hunted): Promise<void> {
  const stopped = hunted.node.stop({ drainMs: 0 })
  await hunted.clock.advance(1)
  await stopped
  const [problem] = hunted.problems
  if (problem !== undefined) found(`something failed without a name: ${problem}`)
}

export const nodeClient: Target = { name: "node-client", share: 12, open: () => ({ run: clientStory }) }

/** A peer's link to the node; `honest`: with the mesh's secret, taken through its handshake. */
async function peerLink(hunted: Hunted, honest: boolean) {
  const sent: Uint8Array[] = []
  let closed: readonly [number, string] | undefined
  const back: Pipe<Uint8Array> = {
    send: (data, done) => {
      sent.push(new Uint8Array(data))
      done?.()
    },
    buffered: () => 0,
    close: (code, reason) => {
      closed ??= [code, reason]
    },
  }
  const reader = hunted.node.acceptMesh(back)
  if (honest) {
    let ready = false
    const link = createMeshLink({
      clock: hunted.clock,
      limits: defaultLimits,
      self: handshakeSelf("fra", "a nonce of fra"),
      dial: "bos",
      events: () => undefined,
      watermark: () => 1,
      onReady: () => {
        ready = true
      },
      onRefused: ({ reason }) => found(`the peer was refused: ${reason}`),
      onMessage: () => undefined,
      onWatermark: () => undefined,
      onClosed: () => undefined,
    })
    link.open({ send: (data, done) => (reader.message(data), done?.()), buffered: () => 0, close: () => undefined })
    for (let i = 0; i < 4 && !ready; i++) {
      await settle(hunted)
      for (const frame of sent.splice(0)) link.reader.message(frame)
    }
    if (!ready) found("an honest peer was not let in")
    // From here on it says whatever it likes.
    link.reader.closed(1006, "")
  }
  return {
    sent,
    closed: () => closed,
    say: (frame: Uint8Array) => {
      if (!closed) reader.message(frame)
    },
    hang: () => reader.closed(1006, ""),
  }
}

async function meshStory(r: Random, count: (outcome: string) => void): Promise<void> {
  const hunted = await hunt(r, true)
  const victim = new Victim(hunted)
  await victim.open()
  // Somebody whose actor the peer may well ask for.
  const mallory = hunted.connect()
  if (r.happens(0.5)) {
    mallory.say(JSON.stringify({ t: "hello", client: "m", token: "mallory" }))
    await settle(hunted)
    const welcome = framesOf(mallory)[0]
    const sid = welcome?.t === "welcome" ? welcome.sessions[0] : ""
    mallory.say(JSON.stringify({ t: "attach", ch: 1, actor: ["note", "mallory~bos"], sid, acked: 0, live: true }))
    await settle(hunted)
  }
  for (let links = 1 + r.int(2); links > 0; links--) {
    const honest = r.happens(0.7)
    const peer = await peerLink(hunted, honest)
    for (let i = 1 + r.int(14); i > 0 && !peer.closed(); i--) {
      peer.say(honest ? peerFrame(r) : linkFrame(r))
      if (r.happens(0.4)) await settle(hunted)
      const closed = peer.closed()
      if (closed && closeCodeOf(closed[0]) === undefined)
        found(`a link was closed with ${closed.join(" ")}, which is in no table`)
      count(closed ? `closed ${closeCodeOf(closed[0]) ?? ""}` : "goes on")
    }
    await settle(hunted)
    for (const frame of peer.sent)
      if (Buffer.from(frame).includes(marker)) found(`a peer that asked for another actor was sent the victim's state`)
    assertHarmless(mallory)
    await victim.call()
    peer.hang()
  }
  await hunted.clock.advance(r.pick([0, 0, 12_000]))
  await victim.call()
  await stop(hunted)
}

function peerFrame(r: Random): Uint8Array {
  const { message, body } = validMeshMessage(r, { id: "note/mallory~bos", pops: ["bos", "fra", "nrt"] })
  const whole = encodeMessage(message, body)
  switch (r.int(6)) {
    case 0:
      return linkFrame(r)
    case 1:
      return bentBytes(r, whole)
    case 2:
    case 3:
      return wholeFrame(bentJson(r, message, 1), body)
    default:
      return whole
  }
}

export const nodeMesh: Target = { name: "node-mesh", share: 10, open: () => ({ run: meshStory }) }
