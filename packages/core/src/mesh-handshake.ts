import { CLOSE_CODES, type CloseName } from "@sojourn/protocol"
import { badMesh, meshTextMax } from "./mesh-parse.ts"
import type { Primitives } from "./ports.ts"
import type { PeerMemory } from "./store.ts"

/**
 * How two POPs learn that each is who it says, before any message of theirs counts.
 *
 *   dialer ── HELLO{who, to, nonce} ──────────────▶ acceptor
 *   dialer ◀─ CHALLENGE{who, nonce, mac} ────────── acceptor     mac over everything above and here: the acceptor knows the secret
 *   dialer ── PROOF{mac} ─────────────────────────▶ acceptor     mac over everything above, as dialer: so does the dialer
 *   dialer ◀─ READY ─────────────────────────────── acceptor
 *
 * `who` is POP, node, region, hash of the list of homes, store id and watermark, and what the sender durably remembers of the
 * receiver's store. All of it is under both MACs, with both nonces, so nothing of it is acted on before it is proved, and nothing
 * can be replayed. Each MAC names its role: what one side sent is worth nothing when sent back to it (reflection).
 *
 * After the MACs hold, both sides compare, each for itself:
 *  - lists of homes: two lists would be two geneses of one actor, so the link is refused and both lists are named;
 *  - regions: they choose the home of an actor with a residency, so two opinions on one POP's region would be two geneses as well, and a
 *    body could be sealed for a POP that is not where it was thought to be;
 *  - stores: a side whose store the other remembers under another id, or further along, has lost data. It is told (STORE_LOST) and
 *    refuses to serve; the other refuses the link. That is how a wiped or restored store is noticed (A5 in docs/handoff.md).
 *
 * Secrets rotate: any of the given ones is accepted, the first one signs. To rotate, add the new one last on every POP, then put it
 * first on every POP, then drop the old one.
 *
 * A relaying attacker between two POPs gains no secret but can read and change what follows: links over public networks use `wss:`.
 *
 * This file decides; `mesh.ts` sends, keeps time and closes.
 */
export const meshVersion = 1

/** What one side says of itself to the other. */
export interface MeshIdentity {
  readonly pop: string
  readonly node: string
  readonly region: string
  /** `homesHash` of the configured list. */
  readonly homes: string
  readonly store: string
  readonly watermark: number
  /** What the sender durably remembers of the receiver's store. */
  readonly remembered?: PeerMemory
}

export type HandshakeFrame =
  | ({ readonly t: "HELLO"; readonly version: number; readonly to: string; readonly nonce: string } & MeshIdentity)
  | ({ readonly t: "CHALLENGE"; readonly version: number; readonly nonce: string; readonly mac: string } & MeshIdentity)
  | { readonly t: "PROOF"; readonly mac: string }
  | { readonly t: "READY" }

export type HandshakeState =
  /** Dialer: HELLO is sent; CHALLENGE comes next. */
  | { readonly k: "greeted"; readonly hello: Hello }
  /** Dialer: PROOF is sent; READY comes next. */
  | { readonly k: "proved"; readonly peer: MeshIdentity }
  /** Acceptor: HELLO comes next. */
  | { readonly k: "listening" }
  /** Acceptor: CHALLENGE is sent; PROOF comes next. */
  | { readonly k: "challenged"; readonly hello: Hello; readonly challenge: Challenge }
  /** Both: the peer is proved. */
  | { readonly k: "ready"; readonly peer: MeshIdentity }
  /** Both: the link is to be closed with this. */
  | { readonly k: "refused"; readonly refusal: Refusal }

export interface Refusal {
  readonly code: "MESH_REFUSED" | "STORE_LOST" | "BAD_FRAME"
  readonly close: CloseName
  readonly reason: string
  /** The proved peer remembers another store of ours, or ours further along: this node must not serve. */
  readonly ourStoreLost: boolean
  readonly pop: string | undefined
}

type Hello = Extract<HandshakeFrame, { t: "HELLO" }>
type Challenge = Extract<HandshakeFrame, { t: "CHALLENGE" }>

/** What a side knows and has. `keys` come from `meshKeys`; the first signs. */
export interface HandshakeSelf {
  readonly keys: readonly string[]
  readonly primitives: Pick<Primitives, "hmac" | "equal">
  /** Sampled when called: the watermark grows. `peer` chooses what is remembered. */
  identity(peer: string): MeshIdentity
  knows(pop: string): boolean
  /** The configured region of a known POP. */
  regionOf(pop: string): string | undefined
  /** Fresh and unguessable, for this link alone: what makes a replay worthless. */
  readonly nonce: string
}

export function meshKeys(secret: string | readonly string[], primitives: Pick<Primitives, "derive">): string[] {
  return (typeof secret === "string" ? [secret] : secret).map((one) => primitives.derive(one, "sojourn mesh v1"))
}

/** The list in its own order: rendezvous hashing does not depend on order, so neither does this. Names, so that a refusal can print them. */
export function homesHash(homes: readonly string[], primitives: Pick<Primitives, "digest">): string {
  const sorted = [...homes].sort()
  return `${primitives.digest(JSON.stringify(sorted)).slice(0, 12)}:${sorted.join(",")}`.slice(0, 200)
}

const closeReason: Record<Refusal["code"], CloseName> = {
  MESH_REFUSED: "UNAUTHORIZED",
  STORE_LOST: "STORE_LOST",
  BAD_FRAME: "BAD_FRAME",
}

function refuse(
  code: Refusal["code"],
  reason: string,
  pop?: string,
  ourStoreLost = false,
): { readonly state: HandshakeState } {
  return { state: { k: "refused", refusal: { code, close: closeReason[code], reason, ourStoreLost, pop } } }
}

function said(who: MeshIdentity): unknown[] {
  const { pop, node, region, homes, store, watermark, remembered } = who
  return [pop, node, region, homes, store, watermark, remembered?.store ?? null, remembered?.watermark ?? null]
}

/** Everything that both sides said, in a fixed order, under the name of the role whose MAC it is. */
function transcript(role: "acceptor" | "dialer", hello: Hello, challenge: Omit<Challenge, "mac">): string {
  return JSON.stringify([
    "sojourn mesh",
    role,
    hello.version,
    hello.to,
    hello.nonce,
    ...said(hello),
    challenge.version,
    challenge.nonce,
    ...said(challenge),
  ])
}

function sign(self: HandshakeSelf, text: string): string {
  return self.primitives.hmac(self.keys[0] as string, text)
}

/** Tries every key whatever comes: the time tells nothing of which one fits. */
function proves(self: HandshakeSelf, text: string, mac: string): boolean {
  let found = false
  for (const key of self.keys) found = self.primitives.equal(self.primitives.hmac(key, text), mac) || found
  return found
}

const text = (x: unknown, max: number): x is string => typeof x === "string" && x.length > 0 && x.length <= max
const count = (x: unknown): x is number => typeof x === "number" && Number.isSafeInteger(x) && x >= 0

function readIdentity(json: Record<string, unknown>): MeshIdentity {
  const { pop, node, region, homes, store, watermark } = json
  const remembered = json["remembered"] as Record<string, unknown> | null | undefined
  if (
    !text(pop, meshTextMax.name) ||
    !text(node, meshTextMax.nonce) ||
    !text(region, meshTextMax.name) ||
    !text(homes, 200) ||
    !text(store, meshTextMax.nonce) ||
    !count(watermark)
  )
    badMesh("a greeting that is not of its form")
  const who = { pop, node, region, homes, store, watermark }
  if (remembered === undefined || remembered === null) return who
  if (typeof remembered !== "object" || !text(remembered["store"], 200) || !count(remembered["watermark"]))
    badMesh("a memory of a store that is not of its form")
  return { ...who, remembered: { store: remembered["store"], watermark: remembered["watermark"] } }
}

/** Throws BAD_FRAME. */
function readHandshake(json: Record<string, unknown>): HandshakeFrame {
  const { t, version, nonce, mac, to } = json
  if (t === "READY") return { t }
  if (t === "PROOF" && text(mac, 128)) return { t, mac }
  if (!count(version) || !text(nonce, 128)) badMesh("a handshake frame that is not of its form")
  if (t === "HELLO" && text(to, meshTextMax.name)) return { t, version, to, nonce, ...readIdentity(json) }
  if (t === "CHALLENGE" && text(mac, 128)) return { t, version, nonce, mac, ...readIdentity(json) }
  badMesh("a handshake frame that is not of its form")
}

/** Whether `told` can be the store that is remembered: the same history, and no earlier than it was. */
export function storeGone(remembered: PeerMemory | undefined, told: PeerMemory): boolean {
  return remembered !== undefined && (remembered.store !== told.store || remembered.watermark > told.watermark)
}

/** Remembered in place of a store that was given up as destroyed: no store is it, so its POP id is refused for ever. */
export const forgottenStore: PeerMemory = { store: "forgotten", watermark: 0 }

const describe = ({ store, watermark }: PeerMemory): string =>
  store === forgottenStore.store
    ? "that the store was forgotten as destroyed"
    : `store ${store} at watermark ${watermark}`

/** What both compare once the other is proved. */
function compare(mine: MeshIdentity, peer: MeshIdentity, self: HandshakeSelf): { readonly state: HandshakeState } {
  if (mine.homes !== peer.homes)
    return refuse(
      "MESH_REFUSED",
      `${mine.pop} has the homes ${mine.homes} and ${peer.pop} has ${peer.homes}: give every POP the same list`,
      peer.pop,
    )
  const region = self.regionOf(peer.pop)
  if (region !== peer.region)
    return refuse(
      "MESH_REFUSED",
      `${peer.pop} is in region ${peer.region}, and ${mine.pop} has it in ${String(region)}: give every POP the same regions`,
      peer.pop,
    )
  if (storeGone(peer.remembered, { store: mine.store, watermark: mine.watermark }))
    return refuse(
      "STORE_LOST",
      `${peer.pop} remembers ${describe(peer.remembered as PeerMemory)} of ${mine.pop}, which has ${describe(mine)}`,
      peer.pop,
      true,
    )
  if (storeGone(mine.remembered, { store: peer.store, watermark: peer.watermark }))
    return refuse(
      "STORE_LOST",
      `${mine.pop} remembers ${describe(mine.remembered as PeerMemory)} of ${peer.pop}, which has ${describe(peer)}`,
      peer.pop,
    )
  return { state: { k: "ready", peer } }
}

export interface HandshakeStep {
  readonly state: HandshakeState
  /** To be sent, also where the state is `refused`: the peer then finds the same for itself. */
  readonly send?: HandshakeFrame
}

/** A dialer's first step. */
export function greet(self: HandshakeSelf, to: string): HandshakeStep {
  const hello: Hello = { t: "HELLO", version: meshVersion, to, nonce: self.nonce, ...self.identity(to) }
  return { state: { k: "greeted", hello }, send: hello }
}

export const listening: HandshakeState = { k: "listening" }

function badVersion(theirs: number, pop: string): HandshakeStep {
  return refuse("MESH_REFUSED", `${pop} speaks mesh version ${theirs}, this node ${meshVersion}`, pop)
}

function onHello(hello: Hello, self: HandshakeSelf): HandshakeStep {
  if (hello.version !== meshVersion) return badVersion(hello.version, hello.pop)
  const mine = self.identity(hello.pop)
  if (hello.pop === mine.pop)
    return refuse("MESH_REFUSED", `a link from ${hello.pop} to itself: two nodes have one POP id`, hello.pop)
  if (hello.to !== mine.pop)
    return refuse("MESH_REFUSED", `${hello.pop} looks for ${hello.to}, this is ${mine.pop}: check its peers' urls`)
  if (!self.knows(hello.pop)) return refuse("MESH_REFUSED", `${hello.pop} is not among the peers of ${mine.pop}`)
  const bare = { t: "CHALLENGE", version: meshVersion, nonce: self.nonce, ...mine } as const
  const challenge: Challenge = { ...bare, mac: sign(self, transcript("acceptor", hello, bare)) }
  return { state: { k: "challenged", hello, challenge }, send: challenge }
}

function onChallenge(hello: Hello, challenge: Challenge, self: HandshakeSelf): HandshakeStep {
  if (challenge.version !== meshVersion) return badVersion(challenge.version, challenge.pop)
  if (challenge.pop !== hello.to)
    return refuse("MESH_REFUSED", `${hello.to} was dialed and ${challenge.pop} answered: check its url`, hello.to)
  if (!proves(self, transcript("acceptor", hello, challenge), challenge.mac))
    return refuse("MESH_REFUSED", `${challenge.pop} does not know the mesh secret of ${hello.pop}`, challenge.pop)
  // Judged by what our store has now: since the HELLO was said, the peer may have heard more of it, over a link of before or of another process.
  const { watermark } = self.identity(challenge.pop)
  const found = compare({ ...hello, watermark }, challenge, self).state
  const proof: HandshakeFrame = { t: "PROOF", mac: sign(self, transcript("dialer", hello, challenge)) }
  return { state: found.k === "ready" ? { k: "proved", peer: challenge } : found, send: proof }
}

function onProof(hello: Hello, challenge: Challenge, mac: string, self: HandshakeSelf): HandshakeStep {
  if (!proves(self, transcript("dialer", hello, challenge), mac))
    return refuse("MESH_REFUSED", `${hello.pop} does not know the mesh secret of ${challenge.pop}`)
  const found = compare(challenge, hello, self).state
  return found.k === "ready" ? { state: found, send: { t: "READY" } } : { state: found }
}

/** The next step on a link frame of the peer. Total: what is malformed or out of turn is a refusal. */
export function stepHandshake(
  state: HandshakeState,
  json: Record<string, unknown>,
  self: HandshakeSelf,
): HandshakeStep {
  let frame: HandshakeFrame
  try {
    frame = readHandshake(json)
  } catch {
    return refuse("BAD_FRAME", "a handshake frame that is not of its form")
  }
  if (state.k === "listening" && frame.t === "HELLO") return onHello(frame, self)
  if (state.k === "greeted" && frame.t === "CHALLENGE") return onChallenge(state.hello, frame, self)
  if (state.k === "challenged" && frame.t === "PROOF") return onProof(state.hello, state.challenge, frame.mac, self)
  if (state.k === "proved" && frame.t === "READY") return { state: { k: "ready", peer: state.peer } }
  return refuse("BAD_FRAME", `a ${frame.t} out of turn (${state.k})`)
}

export function closeOf(refusal: Refusal): readonly [number, string] {
  return [CLOSE_CODES[refusal.close][0], `${refusal.code}: ${refusal.reason}`]
}
