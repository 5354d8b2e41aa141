// What the scenarios of `npm run overload` share: the POP's process, a bare client, figures.
import { fork, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { SUBPROTOCOL, type ClientFrame, type ServerFrame } from "@sojourn/protocol"
import type { Limits } from "@sojourn/core"
import { WebSocket } from "ws"
import type { Ask, Told } from "./overload-pop.ts"

export const mebibyte = 1_048_576

/** One goal, or one thing that must be so. */
export interface Check {
  readonly what: string
  readonly met: boolean
  /** Not a figure that a busy machine may spoil: a run in which it is false fails. */
  readonly must: boolean
}

export interface Report {
  readonly name: string
  readonly figures: Readonly<Record<string, unknown>>
  readonly checks: readonly Check[]
}

export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}

export const round = (value: number, digits = 1): number => Number(value.toFixed(digits))
export const inMiB = (bytes: number): number => round(bytes / mebibyte)

/** Waits until `done`, looking now and then. False: not within `msMax`. */
export async function until(done: () => boolean, msMax: number): Promise<boolean> {
  for (const end = performance.now() + msMax; performance.now() < end; await sleep(10)) if (done()) return true
  return done()
}

export class PopProcess {
  readonly #child: ChildProcess
  readonly url: string
  /** Since `watchMemory` was last called. */
  peakRss = 0

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.url = `ws://127.0.0.1:${port}`
    child.on("message", (told: Told) => {
      if (told.t === "memory") this.peakRss = Math.max(this.peakRss, told.rss)
    })
  }

  /** Of every POP that is started. */
  static bounds: Partial<Limits> = {}

  static async start(folder: string, name: string, more: Partial<Limits> = {}): Promise<PopProcess> {
    const limits = { ...PopProcess.bounds, ...more }
    const child = fork(
      fileURLToPath(new URL("overload-pop.ts", import.meta.url)),
      [join(folder, name), JSON.stringify(limits)],
      { execArgv: process.execArgv, stdio: ["ignore", "inherit", "inherit", "ipc"] },
    )
    const told = await Promise.race([once(child, "message"), once(child, "exit").then(() => undefined)])
    if (!told) throw new Error("the POP did not start")
    return new PopProcess(child, (told[0] as Extract<Told, { t: "up" }>).port)
  }

  get gone(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** One question of a kind at a time. Listened for before it is asked: the answer may come together with something else. */
  async ask<T extends Ask["t"]>(t: T): Promise<Extract<Told, { t: T }>> {
    const answer = Promise.withResolvers<Extract<Told, { t: T }>>()
    const told = (one: Told): void => {
      if (one.t === t) answer.resolve(one as Extract<Told, { t: T }>)
    }
    const ended = (): void => {
      answer.reject(new Error("the POP ended"))
    }
    this.#child.on("message", told).once("exit", ended)
    try {
      this.#child.send({ t } satisfies Ask)
      return await answer.promise
    } finally {
      this.#child.off("message", told).off("exit", ended)
    }
  }

  async watchMemory(): Promise<number> {
    const { rss } = await this.ask("report")
    this.peakRss = rss
    return rss
  }

  async stop(): Promise<void> {
    if (this.gone) return
    const exit = once(this.#child, "exit")
    this.#child.kill("SIGKILL")
    await exit
  }
}

/** A process of many clients. */
export class HerdProcess<To extends object, From> {
  readonly #child: ChildProcess

  /** `told` hears what it says. */
  constructor(module: string, args: readonly string[], told: (from: From) => void) {
    this.#child = fork(fileURLToPath(new URL(module, import.meta.url)), args, {
      execArgv: process.execArgv,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    })
    this.#child.on("message", (message) => told(message as From))
  }

  get gone(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  tell(to: To): void {
    this.#child.send(to)
  }

  async stop(): Promise<void> {
    if (this.gone) return
    const exit = once(this.#child, "exit")
    this.#child.kill("SIGKILL")
    await exit
  }
}

/** A connection on which one actor is attached. It speaks the wire itself: so that it can be slow, silent and impatient. */
export class Bare {
  readonly ws: WebSocket
  readonly closed: Promise<number>
  /** Code of its end. */
  code: number | undefined
  c = 0
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  readonly #actor: readonly [string, string]
  readonly #live: boolean
  #ch = 1
  #sid = ""
  #attached = Promise.withResolvers<undefined>()

  constructor(url: string, key: string, actor: readonly [string, string], live = false) {
    this.#actor = actor
    this.#live = live
    this.ws = new WebSocket(`${url}/v1/connect`, [SUBPROTOCOL], { perMessageDeflate: false, maxPayload: 64 * mebibyte })
    this.ws.on("error", () => undefined)
    this.closed = once(this.ws, "close").then(([code]) => (this.code = code as number))
    void this.closed.then((code) => {
      const error = new Error(`closed with ${code}`)
      this.#attached.reject(error)
      this.#attached.promise.catch(() => undefined)
      for (const { reject } of this.#waiting.values()) reject(error)
    })
    this.#attached.promise.catch(() => undefined)
    this.ws.on("open", () => {
      this.send({ t: "hello", client: "bench", token: key })
    })
    this.ws.on("message", (data) => {
      const frame = JSON.parse((data as Buffer).toString()) as ServerFrame
      if (frame.t === "welcome") {
        this.#sid = frame.sessions[0] as string
        this.#attach()
      } else if (frame.t === "attached") {
        this.c = frame.last
        this.#attached.resolve(undefined)
      } else if (frame.t === "ping") this.send({ t: "pong" })
      else if (frame.t === "detached") this.#detached(frame.err.code, frame.err.retryAfterMs ?? 100)
      else if (frame.t === "reply") {
        if (frame.err) this.#waiting.get(frame.c)?.reject(new Error(frame.err.code))
        else this.#waiting.get(frame.c)?.resolve(frame.ok?.v)
        this.#waiting.delete(frame.c)
        this.send({ t: "ack", ch: this.#ch, c: frame.c, r: frame.r })
      }
    })
  }

  get ready(): Promise<undefined> {
    return this.#attached.promise
  }

  send(frame: ClientFrame): void {
    this.ws.send(JSON.stringify(frame))
  }

  call(a: string, ...args: readonly unknown[]): Promise<unknown> {
    const waiter = Promise.withResolvers<unknown>()
    this.#waiting.set(++this.c, waiter)
    this.send({ t: "call", ch: this.#ch, c: this.c, a, p: { v: args } })
    return waiter.promise
  }

  /** Resolves when it is attached again, after a call was refused. */
  again(): Promise<undefined> {
    return this.ready
  }

  #attach(): void {
    this.send({ t: "attach", ch: this.#ch, actor: this.#actor, sid: this.#sid, acked: this.c, live: this.#live })
  }

  /** What it has asked for is refused; it comes back as it is told to, and is `ready` then. */
  #detached(code: string, retryAfterMs: number): void {
    if (this.#waiting.size > 0) this.#attached = Promise.withResolvers<undefined>()
    const error = new Error(code)
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
    this.c = 0
    this.#ch++
    setTimeout(() => {
      if (this.code === undefined) this.#attach()
    }, retryAfterMs)
  }
}
