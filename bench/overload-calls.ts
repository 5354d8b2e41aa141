// Durable calls at twice what the POP can: who calls does not wait for answers (an open loop), and backs off as the client does when told to.
import { setTimeout as sleep } from "node:timers/promises"
import { SUBPROTOCOL, type ServerFrame } from "@sojourn/protocol"
import { WebSocket } from "ws"
import { PopProcess, inMiB, quantile, round, type Report } from "./overload-parts.ts"

/** After how many replies they are acknowledged, and how many calls may be unanswered: the client's own window. */
const ackEach = 32
const windowMax = 200

interface Answered {
  readonly at: number
  readonly ms: number
}

class Tally {
  sent = 0
  answered: Answered[] = []
  /** Calls not taken, by the code that their client was told last; `WINDOW`: too many of its calls were unanswered. */
  readonly refused = new Map<string, number>()
  /** Replies that are not what exactly-once makes them. */
  wrong = 0

  refuse(code: string, n = 1): void {
    if (n > 0) this.refused.set(code, (this.refused.get(code) ?? 0) + n)
  }
}

/** One session of its own counter, on a socket of its own. */
class Caller {
  readonly #ws: WebSocket
  readonly #key: string
  #tally: Tally
  #sid = ""
  /** Last number sent, and last answered. */
  #sent = 0
  #answered = 0
  #times: number[] = []
  #refusal: string | undefined
  #timer: NodeJS.Timeout | undefined
  readonly #attached = Promise.withResolvers<undefined>()
  onAnswer: () => void = () => undefined
  /** Calls that were applied after their client had been told otherwise. */
  belied = 0

  constructor(url: string, key: string, tally: Tally) {
    this.#key = key
    this.#tally = tally
    this.#ws = new WebSocket(`${url}/v1/connect`, [SUBPROTOCOL], { perMessageDeflate: false })
    this.#ws.on("open", () => {
      this.#ws.send(`{"t":"hello","client":"bench","token":"${key}"}`)
    })
    this.#ws.on("message", (data) => {
      this.#frame(JSON.parse((data as Buffer).toString()) as ServerFrame)
    })
    this.#ws.on("close", (code) => {
      this.#refuse(`closed with ${code}`)
      this.#attached.reject(new Error(`closed with ${code}`))
    })
  }

  get ready(): Promise<undefined> {
    return this.#attached.promise
  }

  get pending(): number {
    return this.#sent - this.#answered
  }

  /** From now on it counts there. */
  count(tally: Tally): void {
    this.#tally = tally
  }

  call(): void {
    this.#tally.sent++
    if (this.#refusal !== undefined) this.#tally.refuse(this.#refusal)
    else if (this.pending >= windowMax) this.#tally.refuse("WINDOW")
    else {
      this.#times.push(performance.now())
      this.#ws.send(`{"t":"call","ch":1,"c":${++this.#sent},"a":"add","p":{"v":[1]}}`)
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#ws.removeAllListeners("close")
    this.#ws.terminate()
  }

  #refuse(code: string): void {
    this.#refusal = code
    this.#tally.refuse(code, this.pending)
    this.#sent = this.#answered
    this.#times = []
  }

  #attach(): void {
    const stay = this.#answered > 0 ? `,"stay":true` : ""
    this.#ws.send(
      `{"t":"attach","ch":1,"actor":["counter","${this.#key}"],"sid":"${this.#sid}","acked":${this.#answered},"live":false${stay}}`,
    )
  }

  #frame(frame: ServerFrame): void {
    switch (frame.t) {
      case "welcome":
        this.#sid = frame.sessions[0] as string
        this.#attach()
        return
      case "attached":
        this.belied += frame.last - this.#answered
        this.#answered = this.#sent = frame.last
        this.#refusal = undefined
        this.#attached.resolve(undefined)
        return
      case "detached":
        this.#refuse(frame.err.code)
        this.#timer = setTimeout(() => {
          this.#attach()
        }, frame.err.retryAfterMs ?? 100)
        return
      case "reply": {
        const now = performance.now()
        const at = this.#times.shift() ?? NaN
        this.#answered = frame.c
        // Each adds one: the counter is at the call's number, if none was lost or applied twice.
        if (frame.err || frame.ok?.v !== frame.c || !(at <= now)) this.#tally.wrong++
        else this.#tally.answered.push({ at: now, ms: now - at })
        if (frame.c % ackEach === 0) this.#ws.send(`{"t":"ack","ch":1,"c":${frame.c},"r":${frame.r}}`)
        this.onAnswer()
        return
      }
      case "ping":
        this.#ws.send(`{"t":"pong"}`)
        return
      default:
    }
  }
}

async function connect(url: string, clients: number, tally: Tally): Promise<Caller[]> {
  const callers = Array.from({ length: clients }, (_, i) => new Caller(url, `client${i}`, tally))
  await Promise.all(callers.map(({ ready }) => ready))
  return callers
}

/** What 64 clients with 16 calls in flight each get answered a second, as in `npm run bench`. */
async function capacity(url: string, ms: number): Promise<number> {
  const tally = new Tally()
  const callers = await connect(url, 64, tally)
  const until = performance.now() + ms * 1.2
  const done = callers.map(
    (caller) =>
      new Promise<void>((resolve) => {
        caller.onAnswer = () => {
          if (performance.now() < until) caller.call()
          else if (caller.pending === 0) resolve()
        }
        for (let i = 0; i < 16; i++) caller.call()
      }),
  )
  await Promise.all(done)
  for (const caller of callers) caller.close()
  const { answered } = tally
  return (answered.filter(({ at }) => at > until - ms && at <= until).length / ms) * 1_000
}

/** Makes `perSecond` calls a second for `ms`, whatever comes back. Returns the latest that it was itself, ms. */
async function offer(callers: readonly Caller[], perSecond: number, ms: number): Promise<number> {
  const began = performance.now()
  let made = 0
  let lateMs = 0
  let before = began
  for (let now = began; now < began + ms; now = performance.now()) {
    lateMs = Math.max(lateMs, now - before)
    before = now
    for (const due = ((now - began) / 1_000) * perSecond; made < due; made++)
      callers[Math.floor(Math.random() * callers.length)]?.call()
    await sleep(1)
  }
  return lateMs
}

const sorted = (answered: readonly Answered[]): number[] => answered.map(({ ms }) => ms).sort((a, b) => a - b)

const windowMs = 500

/**
 * After the load has fallen at `from`: when the first of four windows in a row began that each have a p99 within `msMax`, ms from then. The
 * whole time if there are none. A single late window long afterwards is the machine's: the unloaded part has such as well.
 */
function recoveredAfter(answered: readonly Answered[], from: number, until: number, msMax: number): number {
  const inTime: boolean[] = []
  for (let at = from; at + windowMs <= until; at += windowMs) {
    const p99 = quantile(sorted(answered.filter((one) => one.at >= at && one.at < at + windowMs)), 0.99)
    inTime.push(p99 <= msMax)
  }
  const first = inTime.findIndex((_, i) => inTime.slice(i, i + 4).every(Boolean))
  return first === -1 ? until - from : first * windowMs
}

export interface CallsOptions {
  readonly clients: number
  /** Of the overload; the other parts last in proportion. */
  readonly ms: number
  /** Times the throughput found. */
  readonly times: number
}

export async function overloadedCalls(folder: string, { clients, ms, times }: CallsOptions): Promise<Report> {
  // What admission would cost a closed loop is not the question here: as in `npm run bench`.
  const measured = await PopProcess.start(folder, "capacity", { lateMsMax: 60_000 })
  let found: number
  try {
    found = await capacity(measured.url, ms * 0.3)
  } finally {
    await measured.stop()
  }
  const pop = await PopProcess.start(folder, "calls")
  try {
    const warm = new Tally()
    const callers = await connect(pop.url, clients, warm)
    await offer(callers, found * 0.15, ms * 0.1)
    const phase = async (share: number, part: number): Promise<{ tally: Tally; began: number; lateMs: number }> => {
      const tally = new Tally()
      for (const caller of callers) caller.count(tally)
      const began = performance.now()
      const lateMs = await offer(callers, found * share, ms * part)
      return { tally, began, lateMs }
    }
    const calm = await phase(0.15, 0.4)
    const before = await pop.watchMemory()
    const { cpuMs: cpuBefore } = await pop.ask("report")
    const over = await phase(times, 1)
    const peak = pop.peakRss
    const cpuMs = (await pop.ask("report")).cpuMs - cpuBefore
    const after = await phase(0.2, 0.7)
    const ended = performance.now()
    await sleep(1_200)
    const { events } = await pop.ask("report")
    const unanswered = callers.reduce((sum, caller) => sum + caller.pending, 0)
    const belied = callers.reduce((sum, caller) => sum + caller.belied, 0)
    for (const caller of callers) caller.close()

    const unloaded = sorted(calm.tally.answered)
    const p99 = quantile(unloaded, 0.99)
    // What was sent in the time and answered a little later counts for the phase in which it was answered.
    const admitted = sorted(over.tally.answered)
    const steady = sorted(over.tally.answered.filter(({ at }) => at >= over.began + ms / 10))
    const backMs = recoveredAfter(after.tally.answered, after.began, ended, p99 * 1.5)
    const wrong = calm.tally.wrong + over.tally.wrong + after.tally.wrong
    const codes = Object.fromEntries(over.tally.refused)
    const named = [...over.tally.refused.keys()].every((code) => code === "OVERLOADED" || code === "WINDOW")
    return {
      name: "calls",
      figures: {
        capacityPerSecond: Math.round(found),
        offeredPerSecond: Math.round((over.tally.sent / ms) * 1_000),
        admittedPerSecond: Math.round((admitted.length / ms) * 1_000),
        refused: codes,
        unloadedP50Ms: round(quantile(unloaded, 0.5), 2),
        unloadedP99Ms: round(p99, 2),
        admittedP50Ms: round(quantile(admitted, 0.5), 2),
        admittedP99Ms: round(quantile(admitted, 0.99), 2),
        afterFirstTenthP99Ms: round(quantile(steady, 0.99), 2),
        recoveredMs: backMs,
        recoveryP99Ms: round(quantile(sorted(after.tally.answered), 0.99), 2),
        refusedAfter: Object.fromEntries(after.tally.refused),
        // All threads of the POP: below 1, the machine gave it no whole core, or it refused too much.
        popCores: round(cpuMs / ms, 2),
        rssBeforeMiB: inMiB(before),
        rssPeakMiB: inMiB(peak),
        belied,
        overloadEvents: events["node.overloaded"] ?? 0,
        generatorLateMs: round(over.lateMs),
      },
      checks: [
        { what: "every reply is the one that its call has once, in order", must: true, met: wrong === 0 },
        { what: "every call is answered or refused by name", must: true, met: unanswered === 0 && named },
        { what: "the POP lives", must: true, met: !pop.gone },
        { what: "what is past capacity is refused: OVERLOADED", must: false, met: (codes["OVERLOADED"] ?? 0) > 0 },
        { what: "admitted p99 within 3 times the unloaded", must: false, met: quantile(admitted, 0.99) <= 3 * p99 },
        { what: "the same after the first tenth", must: false, met: quantile(steady, 0.99) <= 3 * p99 },
        { what: "recovered within 5 s", must: false, met: backMs <= 5_000 },
        { what: "memory grows by less than 256 MiB", must: true, met: peak - before < 256 * 1_048_576 },
      ],
    }
  } finally {
    await pop.stop()
  }
}
