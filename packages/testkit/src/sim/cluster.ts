import { createHash, createHmac, hkdfSync, timingSafeEqual } from "node:crypto"
import { crc32 } from "node:zlib"
import { createNode, withLimits, type CoreEvent, type Limits, type Pipe, type Primitives } from "@sojourn/core"
import { Batch, SojournError, TICKET_PREFIX, framesIn } from "@sojourn/protocol"
import { simApp, type SimApp } from "./app.ts"
import type { Disk } from "./disk.ts"
import type { Network, Wire } from "./network.ts"
import { violated } from "./oracle.ts"
import { Random } from "./random.ts"
import { Process, type World } from "./world.ts"

/** The product's primitives on `node:crypto`, all synchronous: nothing in a simulation may wait for a thread pool. */
export const primitives: Primitives = {
  hmac: (key, text) => createHmac("sha256", key).update(text).digest("base64url"),
  digest: (data) => createHash("sha256").update(data).digest("base64url"),
  checksum: (data) => crc32(data),
  derive: (secret, use) => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url"),
  equal: (a, b) => {
    const [x, y] = [Buffer.from(a), Buffer.from(b)]
    return x.length === y.length && timingSafeEqual(x, y)
  },
}

type SimNode = ReturnType<typeof createNode<SimApp["actors"]>>

/** What a client's socket asks for at its upgrade. */
export interface UpgradeRequest {
  readonly url: string
  readonly protocols: readonly string[]
  readonly client: string
}

/** One POP: its disk outlives its processes; at most one of them serves. */
export class Pop {
  readonly id: string
  readonly disk: Disk
  process: Process | undefined
  node: SimNode | undefined
  generation = 0

  constructor(id: string, disk: Disk) {
    this.id = id
    this.disk = disk
  }

  get up(): boolean {
    return this.process !== undefined && this.process.state !== "dead"
  }
}

export interface ClusterOptions {
  readonly world: World
  readonly network: Network
  readonly pops: readonly Pop[]
  readonly homes: readonly string[]
  readonly limits: Partial<Limits>
  /** Product errors that no fault explains end the run. */
  readonly defect: (error: Error) => void
  /** For a planted defect: whom a gateway takes the bearer of a ticket for, before it looks at the token. */
  readonly authenticate?: (ticket: string | undefined) => string | undefined
}

const meshUrl = (pop: string): string => `ws://${pop}.mesh`
export const clientUrl = (pop: string): string => `ws://${pop}.pop`
/** The POP that a simulated URL names. */
export function placeOf(url: string): string {
  return /^\w+:\/\/([a-z]+)\./.exec(url)?.[1] ?? ""
}

export class Cluster {
  readonly pops: ReadonlyMap<string, Pop>
  readonly #options: ClusterOptions
  readonly #app: SimApp

  constructor(options: ClusterOptions) {
    this.#options = options
    this.pops = new Map(options.pops.map((pop) => [pop.id, pop]))
    const { world } = options
    this.#app = simApp({
      sleep: (_pop, ms) =>
        new Promise((resolve) => {
          if (world.running !== undefined) world.plan(world.running, ms, "timer", "", resolve)
        }),
      cameBack: (error) => {
        world.count("call chains that came back")
        world.judge(() => {
          if (!(error instanceof SojournError) || error.code !== "CALL_CHAIN" || error.outcome !== "not-executed")
            violated("G10", `a call that came back to a turn that waits for it was no CALL_CHAIN: ${String(error)}`)
        })
      },
    })
  }

  pop(id: string): Pop {
    const pop = this.pops.get(id)
    if (pop === undefined) throw new RangeError(`no POP ${id}`)
    return pop
  }

  start(id: string): void {
    const { world, network, homes, limits } = this.#options
    const pop = this.pop(id)
    pop.generation++
    const process = new Process(`${id}.${pop.generation}`)
    pop.process = process
    // Started from an event of its own, so that what it does first is its own doing.
    world.plan(process, 0, "world", "starts", () => {
      const chance = new Random(world.seed, process.name).chance()
      const node = createNode({
        app: this.#app,
        pop: id,
        node: process.name,
        region: `region-${id}`,
        store: pop.disk.open(process),
        clock: world.clock(process),
        chance,
        primitives,
        limits: withLimits(limits),
        mesh: {
          secret: "simulated mesh secret, long enough for anyone",
          peers: [...this.pops.keys()]
            .filter((peer) => peer !== id)
            .map((peer) => ({ id: peer, region: `region-${peer}`, url: meshUrl(peer) })),
          homes,
          dialer: {
            dial: (url, reader, signal) =>
              new Promise((resolve, reject) => {
                let open = false
                const pipe = network.connect<Uint8Array>("mesh", process, id, placeOf(url), undefined, {
                  open: () => {
                    open = true
                    resolve(pipe)
                  },
                  message: (data) => reader.message(data),
                  closed: (code, reason) => {
                    if (open) reader.closed(code, reason)
                    else reject(new Error(`dial failed: ${reason}`))
                  },
                })
                signal.addEventListener("abort", () => {
                  if (!open) pipe.close(1006, "aborted")
                })
              }),
          },
        },
        authenticate: ({ headers }, token) => {
          const bearer = this.#options.authenticate?.(headers["sec-websocket-protocol"]?.slice(TICKET_PREFIX.length))
          if (bearer !== undefined) return { id: bearer }
          const [, user] = /^token (\w+)$/.exec(token ?? "") ?? []
          return user === undefined ? null : { id: user }
        },
        events: (event) => this.#event(process, event),
      })
      pop.node = node
      this.#listen(pop, process, node)
      node.start().catch((error: unknown) => {
        world.tell(process.name, () => `start failed: ${String(error)}`)
        if (!(error instanceof SojournError))
          this.#options.defect(error instanceof Error ? error : new Error(String(error)))
      })
    })
  }

  #listen(pop: Pop, process: Process, node: SimNode): void {
    const { network } = this.#options
    network.listen<string>("client", pop.id, process, (pipe, request) => {
      const { url, protocols } = request as UpgradeRequest
      const offered = protocols.find((protocol) => protocol.startsWith(TICKET_PREFIX))
      const ticket = offered?.slice(TICKET_PREFIX.length)
      if (ticket !== undefined) node.early(ticket)
      const at = new URL(url).searchParams.get("at")
      const reader = node.acceptClient(gathering(pipe), {
        url: new URL(url).pathname,
        headers: offered === undefined ? {} : { "sec-websocket-protocol": offered },
        ip: "192.0.2.1",
        ...(ticket === undefined ? {} : { ticket }),
        ...(at === null ? {} : { at }),
      })
      return {
        message: (data) => {
          for (const frame of framesIn(data)) reader.message(frame)
        },
        closed: (code, reason) => {
          reader.closed(code, reason)
        },
      }
    })
    network.listen<Uint8Array>("mesh", pop.id, process, (pipe: Pipe<Uint8Array>) => node.acceptMesh(pipe))
  }

  #event(process: Process, event: CoreEvent): void {
    const { world } = this.#options
    world.count(`event: ${event.type}`)
    world.tell(process.name, () => `• ${event.type} ${describeEvent(event)}`)
    // No simulated store takes back what it acknowledged, so nobody may believe that one did.
    if (impossible.has(event.type))
      this.#options.defect(new Error(`${process.name} reports ${event.type} ${describeEvent(event)}`))
  }

  /** The process ends now. `machine`: what was not flushed goes with it, and nobody tells its peers. */
  crash(id: string, machine: boolean): void {
    const { world, network } = this.#options
    const pop = this.pop(id)
    const { process } = pop
    if (process === undefined || process.state === "dead") return
    world.kill(process)
    network.died(process, machine)
    pop.disk.crashed(process, machine)
    pop.node = undefined
  }

  client(wire: Wire<string>): string {
    return (wire.request as UpgradeRequest).client
  }
}

const impossible = new Set(["history.lost", "store.lost"])

/** As the server's sockets do: what is sent in one go leaves in one message. */
function gathering(pipe: Pipe<string>): Pipe<string> {
  const batch: Batch = new Batch(
    (message) => {
      pipe.send(message)
    },
    () => {
      queueMicrotask(() => {
        batch.flush()
      })
    },
  )
  return {
    send: (frame) => {
      batch.add(frame)
    },
    buffered: () => batch.chars + pipe.buffered(),
    close: (code, reason) => {
      batch.flush()
      pipe.close(code, reason)
    },
    batch: (charsMax) => {
      batch.takes(charsMax)
    },
  }
}

function describeEvent(event: CoreEvent): string {
  const { type: _type, ...rest } = event
  const text = JSON.stringify(rest, (_key, value: unknown) =>
    value instanceof Error ? `${value.name} ${"code" in value ? String(value.code) : ""} ${value.message}` : value,
  )
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
