import { SojournError } from "@sojourn/protocol"
import {
  insideResidency,
  withLimits,
  type App,
  type EventSink,
  type Limits,
  type MeshPeer,
  type Principal,
  type Residency,
  type StoreOpener,
} from "@sojourn/core"

/** What `authenticate` sees of a connection. */
export interface ConnectRequest {
  readonly url: string
  readonly headers: Readonly<Record<string, string | undefined>>
  /** The socket's peer: behind a proxy, the proxy. */
  readonly ip: string
}

export interface PopOptions<D> {
  /** What `setup` returned. */
  readonly app: App<D>
  /** This POP's name: 1 to 32 of a–z, 0–9 and `-`, beginning with a letter. Never another POP's, never one whose store was lost. */
  readonly id: string
  /** Where it is: what the `residency` of actors is compared with. Formed like `id`; every POP must give the same for each. */
  readonly region: string
  readonly storage: StoreOpener
  /** Other POPs. Absent: this one stands alone. */
  readonly mesh?: {
    /** At least 16 characters each, the same on every POP. The first signs, each is accepted: so they rotate. */
    readonly secret: string | readonly string[]
    /**
     * Every POP; this one may be among them. `url`: `ws:` or `wss:`, reachable from here. A `wss:` peer's certificate is checked as Node checks
     * any: one of a CA of your own needs `NODE_EXTRA_CA_CERTS`.
     */
    readonly peers: readonly MeshPeer[]
    /** POPs where actors come into being whose key names none. The same list everywhere, and never changed. */
    readonly homes?: readonly string[]
    /** Serve without having heard a peer: for the first POP of all, or when every other is gone. */
    readonly alone?: boolean
  }
  /** Whether whoever has the mesh secret may have this POP forget a destroyed one over HTTP (`sojourn-admin`). Default false. */
  readonly admin?: boolean
  /**
   * Who this is, or null: refused. Called for each connection and each new token. Absent: nobody is let in, unless `dev`. What `authorize` then sees
   * is what JSON carries of it, as at any other POP.
   */
  readonly authenticate?: (
    request: ConnectRequest,
    token: string | undefined,
  ) => Principal | null | Promise<Principal | null>
  /** Lets in whoever asks, from this machine's pages, and allows a volatile store. Refuses to run with NODE_ENV=production. */
  readonly dev?: boolean
  /** Pages that may connect besides the same origin; `*`: every one. */
  readonly origins?: readonly string[] | "*"
  /** Where clients reach this POP, if its Host header does not say so. */
  readonly publicUrl?: string
  readonly limits?: Partial<Limits>
  /** Every event of this node, as it happens. What it throws is for the log. */
  readonly onEvent?: EventSink
  /** Default `info`. */
  readonly logLevel?: LogLevel
}

const logLevels = ["silent", "error", "warn", "info", "debug"] as const
export type LogLevel = (typeof logLevels)[number]

/** The same, complete and consistent. */
export interface CheckedOptions {
  readonly limits: Limits
  readonly secrets: readonly string[]
  /** Without this POP. */
  readonly peers: readonly MeshPeer[]
  readonly homes: readonly string[]
  readonly alone: boolean
  readonly dev: boolean
  readonly origins: readonly string[] | "*"
}

const meshParts = ["secret", "peers", "homes", "alone"]
const popPattern = /^[a-z][a-z0-9-]{0,31}$/
const secretCharsMin = 16

function bad(message: string, cause?: unknown): never {
  throw new SojournError("BAD_CONFIG", message, cause === undefined ? {} : { cause })
}

function checkName(what: string, name: unknown): void {
  if (typeof name !== "string" || !popPattern.test(name))
    bad(`${what} must be 1 to 32 of a-z, 0-9 and "-", beginning with a letter; got ${JSON.stringify(name)}`)
}

/** A text is none: one that says "false" would switch it on. */
function checkSwitch(what: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean")
    bad(`${what} must be true or false; got ${JSON.stringify(value)}`)
}

function checkUrl(what: string, url: unknown, schemes: readonly string[]): void {
  const parsed = typeof url === "string" && URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !schemes.includes(parsed.protocol) || parsed.host === "")
    bad(`${what} must be an absolute URL of ${schemes.join(" or ")}; got ${JSON.stringify(url)}`)
}

function checkSecrets(secret: unknown): readonly string[] {
  const secrets: unknown[] = Array.isArray(secret) ? secret : [secret]
  // The values are never printed: a message may be logged.
  if (secrets.length === 0) bad("mesh.secret must hold at least one secret")
  for (const one of secrets)
    if (typeof one !== "string" || one.length < secretCharsMin)
      bad(
        `mesh.secret must be ${secretCharsMin} characters or more, the same on every POP; make one with: openssl rand -base64 32`,
      )
  return secrets as string[]
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null
}

function checkPeers(id: string, region: string, peers: readonly MeshPeer[]): readonly MeshPeer[] {
  const seen = new Set<string>()
  if (!Array.isArray(peers) || !peers.every(isObject)) bad("mesh.peers must be an array of { id, region, url }")
  for (const peer of peers) {
    checkName("a peer's id", peer.id)
    checkName(`the region of peer ${peer.id}`, peer.region)
    if (peer.id !== id) {
      checkUrl(`the url of peer ${peer.id}`, peer.url, ["ws:", "wss:"])
      if (peer.url.includes("#")) bad(`the url of peer ${peer.id} must not have a fragment; got ${peer.url}`)
    } else if (peer.region !== region)
      bad(`region is ${region}, and mesh.peers has ${peer.region} for ${id}: every POP must give the same`)
    if (seen.has(peer.id)) bad(`mesh.peers names ${peer.id} twice; a POP has one id and one url`)
    seen.add(peer.id)
  }
  return peers.filter((peer) => peer.id !== id)
}

function checkHomes(id: string, peers: readonly MeshPeer[], homes: readonly string[] | undefined): readonly string[] {
  if (homes === undefined || homes.length === 0) {
    if (peers.length === 0) return [id]
    bad(
      `mesh.homes is required with peers: the POPs where new actors come into being, the same list on every POP, never changed; for example ${JSON.stringify([id, ...peers.map((peer) => peer.id)])}`,
    )
  }
  if (!Array.isArray(homes)) bad(`mesh.homes must be an array of POP ids; got ${JSON.stringify(homes)}`)
  const pops = new Set([id, ...peers.map((peer) => peer.id)])
  const seen = new Set<string>()
  for (const home of homes) {
    if (!pops.has(home)) bad(`mesh.homes names ${JSON.stringify(home)}, which is neither this POP (${id}) nor a peer`)
    if (seen.has(home)) bad(`mesh.homes names ${home} twice`)
    seen.add(home)
  }
  return homes
}

/** A class whose actors could be nowhere is a mistake of this list, or of that class. */
function checkResidencies(app: object, regions: readonly string[]): void {
  const { actors } = app as { actors: Readonly<Record<string, { readonly residency?: unknown }>> }
  for (const [name, { residency }] of Object.entries(actors))
    if (Array.isArray(residency) && !regions.some((region) => insideResidency(residency as Residency, region)))
      bad(
        `no POP is inside the residency ${residency.join(", ")} of ${name}: the configured regions are ${[...new Set(regions)].join(", ")}`,
      )
}

function checkLimits(limits: Partial<Limits> | undefined): Limits {
  if (limits !== undefined && !isObject(limits)) bad("limits must be an object, for example { idleMs: 60_000 }")
  try {
    return withLimits(limits)
  } catch (error) {
    return bad((error as Error).message, error)
  }
}

/** Throws BAD_CONFIG naming the option, what was given and what to give. */
export function checkOptions<D>(options: PopOptions<D>, nodeEnv: string | undefined): CheckedOptions {
  if (!isObject(options)) bad("createPop takes an object of options, with app, id, region and storage at least")
  const { id, mesh, origins } = options
  if (!isObject(options.app) || !isObject(options.app.actors)) bad("app must be what setup() returned")
  checkName("id", id)
  checkName("region", options.region)
  if (typeof options.storage?.open !== "function") bad('storage must be a store to open, for example lmdb("./data")')
  checkSwitch("dev", options.dev)
  checkSwitch("admin", options.admin)
  if (mesh !== undefined && !isObject(mesh)) bad("mesh must be an object; leave it out for a POP that stands alone")
  // A POP whose peers were misspelt would take itself for the only one, and for every actor's home.
  for (const name of Object.keys(mesh ?? {}))
    if (!meshParts.includes(name)) bad(`mesh has no ${JSON.stringify(name)}; its parts are ${meshParts.join(", ")}`)
  checkSwitch("mesh.alone", mesh?.alone)
  if (options.dev === true && nodeEnv === "production")
    bad("dev: true lets in whoever asks; it does not run with NODE_ENV=production. Give authenticate instead")
  if (options.admin === true && mesh === undefined)
    bad("admin: true is for POPs with a mesh: its token is made of mesh.secret")
  if (options.authenticate !== undefined && typeof options.authenticate !== "function")
    bad("authenticate must be a function (request, token) => principal or null")
  if (options.onEvent !== undefined && typeof options.onEvent !== "function")
    bad("onEvent must be a function (event) => …")
  if (options.logLevel !== undefined && !logLevels.includes(options.logLevel))
    bad(`logLevel must be one of ${logLevels.join(", ")}; got ${JSON.stringify(options.logLevel)}`)
  if (origins !== undefined && origins !== "*" && !Array.isArray(origins))
    bad(`origins must be an array of URLs, or "*"; got ${JSON.stringify(origins)}`)
  if (origins !== undefined && origins !== "*")
    for (const origin of origins) checkUrl("an origin", origin, ["http:", "https:"])
  if (options.publicUrl !== undefined) checkUrl("publicUrl", options.publicUrl, ["http:", "https:", "ws:", "wss:"])
  const peers = checkPeers(id, options.region, mesh?.peers ?? [])
  checkResidencies(options.app, [options.region, ...peers.map(({ region }) => region)])
  return {
    limits: checkLimits(options.limits),
    secrets: mesh === undefined ? [] : checkSecrets(mesh.secret),
    peers,
    homes: checkHomes(id, peers, mesh?.homes),
    alone: mesh?.alone ?? false,
    dev: options.dev ?? false,
    origins: origins ?? [],
  }
}

/** A store that forgets cannot carry hand-offs: what it acknowledged and then lost would be two owners (M12 in docs/handoff.md). */
export function checkDurability(storage: StoreOpener, durability: "flushed" | "volatile", dev: boolean): void {
  if (durability === "volatile" && !dev)
    bad(
      `the ${storage.kind} store forgets what it acknowledged when the process ends, so an actor could get two owners: use a durable store, for example lmdb("./data"), or dev: true for tests`,
    )
}
