import { homeOf, addressId } from "@sojourn/core"
import { median, type Cluster } from "@sojourn/testkit"
import { forge, seeded, type HintKind, type Leg } from "./itinerary.ts"
import { Devices, type DeviceOutcome } from "./travel-devices.ts"
import { delay, Kills, type Cast } from "./travel-kills.ts"
import type { Lines } from "./travel-lines.ts"
import type { TravelOptions } from "./travel-options.ts"
import type { Order } from "./travel-pop.ts"
import { tableHead, tableRow, type LegResult } from "./travel-report.ts"
import { Traveller, type Arrival, type Outcome } from "./traveller.ts"
import { typing } from "./typist.ts"

/** One journey: the typist's legs, one after the other, with what other devices and the killer do meanwhile, and the account in the end. */
export interface JourneyOptions {
  readonly cluster: Cluster
  readonly travel: TravelOptions
  readonly actor: readonly [name: string, key: string]
  /** The name under which the actor counts the typist's calls. */
  readonly writer: string
  readonly lines: Lines
  readonly url: (pop: string) => string
  readonly start: string
  /** POPs that the actor may not go to. */
  readonly outside: readonly string[]
  readonly say: (line: string) => void
}

type Went = Pick<LegResult, "live" | "firstReplyMs" | "moved" | "given" | "pauseMs">

export interface JourneyEnd {
  readonly results: readonly LegResult[]
  readonly outcome: Outcome
  readonly moves: Traveller["moves"]
  readonly devices: readonly DeviceOutcome[]
  readonly kills: Kills
  /** The typist's text is right, and that of every device is it. */
  readonly textMatches: boolean
  /** Nothing was lost, repeated, reordered, refused or differs, of any device. */
  readonly ok: boolean
}

const staySeconds = 1
const firstReplyMsMax = 60_000
/** Calls made so long before a move say what is usual. */
const usualMs = 1_000

export class Journey {
  readonly #o: JourneyOptions
  readonly #random: () => number
  readonly #traveller: Traveller
  readonly #devices: Devices
  readonly #kills: Kills
  readonly #home: string
  readonly #results: LegResult[] = []
  /** Tickets of earlier places, oldest first. */
  readonly #oldTickets: string[] = []
  #hint: HintKind = "right"
  /** Where the typist's socket is, or was sent. */
  #at: string

  constructor(options: JourneyOptions) {
    const { travel, actor, writer, cluster, start, url } = options
    this.#o = options
    this.#random = seeded(travel.seed ^ 0x5f3759df)
    this.#at = start
    const id = addressId(...actor)
    this.#home = homeOf(id, cluster.pops, new Set(cluster.pops))
    this.#kills = new Kills(cluster, id)
    this.#traveller = new Traveller({
      url: url(start),
      actor,
      writer,
      edits: travel.trace ? travel.trace.keystrokes.values() : typing(seeded(travel.seed)),
      start: travel.trace?.start ?? "",
      live: travel.stateBytes === 0,
      ticketFor: (ticket) => this.#ticketFor(ticket),
    })
    this.#devices = new Devices(travel.devices, { actor, pops: cluster.pops, url, seed: travel.seed, start })
  }

  #ticketFor(ticket: string | undefined): string | undefined {
    switch (this.#hint) {
      case "right":
        return ticket
      case "missing":
        return undefined
      case "stale":
        return this.#oldTickets[0] ?? ticket
      case "forged":
        return forge(ticket, this.#o.cluster.pops, this.#random)
    }
  }

  /** Runs all legs, then compares. */
  async run(legs: readonly Leg[]): Promise<JourneyEnd> {
    const { stateBytes, trace, rate } = this.#o.travel
    await this.#traveller.load(stateBytes)
    const perStay = trace
      ? Math.ceil(trace.keystrokes.length / (legs.length + 1))
      : Math.max(1, Math.round(rate * staySeconds))
    this.#o.say(tableHead())
    await this.#devices.ready()
    await this.#stay(perStay, undefined)
    // The way from the actor's home to the first POP is no leg.
    this.#traveller.moves.length = 0
    for (const [i, leg] of legs.entries()) {
      const result = await this.#leg(leg, perStay)
      this.#results.push(result)
      this.#o.say(tableRow(i + 1, result))
    }
    while (trace && !this.#traveller.exhausted) await this.#stay(perStay, undefined)
    await this.#traveller.quiet()
    await this.#kills.mended
    return this.#settle()
  }

  async #leg(leg: Leg, perStay: number): Promise<LegResult> {
    const before = this.#traveller.ledger.acked
    const { ticket, owner: from = leg.from } = this.#traveller
    const { kill } = leg
    const cast = this.#cast(leg, from)
    if (kill?.when === "step") await this.#kills.watch(kill, cast)
    const stayMs = (1000 * perStay) / this.#o.travel.rate
    const meanwhile = this.#devices.leg(stayMs)
    const live = (leg.live || this.#at === leg.to) && !this.#o.outside.includes(leg.to)
    const gateway = this.#at
    const went = live ? await this.#sendAhead(leg, cast, perStay, stayMs) : await this.#goAhead(leg, cast, perStay)
    await meanwhile
    await this.#kills.unwatch()
    if (ticket !== undefined && this.#traveller.owner !== from) this.#oldTickets.push(ticket)
    if (this.#oldTickets.length > 2) this.#oldTickets.shift()
    this.#traveller.waits.length = 0
    const { lines } = this.#o
    const clientRttMs = lines.client(this.#at)
    const meshRttMs = lines.mesh(from, leg.to)
    return {
      leg,
      clientRttMs,
      meshRttMs,
      ...went,
      floorMs: clientRttMs + meshRttMs,
      servedAtSource: gateway === from,
      calls: this.#traveller.ledger.acked - before,
    }
  }

  #cast(leg: Leg, source: string): Cast {
    const { to: target } = leg
    const others = this.#o.cluster.pops.filter((pop) => pop !== source && pop !== target)
    return {
      source,
      target,
      home: this.#home,
      gateway: this.#at,
      other: others[Math.floor(this.#random() * others.length)] ?? source,
    }
  }

  /** The typist goes; the actor comes after, or serves by relay where another device used it lately. */
  async #goAhead(leg: Leg, cast: Cast, perStay: number): Promise<Went> {
    const arrival = this.#switch(leg)
    if (leg.kill?.when === "move") this.#killInMove(leg, cast)
    const firstReplyMs = await this.#firstReply(arrival, leg)
    await this.#stay(perStay, leg, cast)
    return { live: false, firstReplyMs, moved: arrival.moved, given: false, pauseMs: undefined }
  }

  /** The owner moves the actor while the typist calls over its open socket; then the typist follows, or does not. */
  async #sendAhead(leg: Leg, cast: Cast, perStay: number, stayMs: number): Promise<Went> {
    const staying = this.#stay(perStay, leg, cast)
    await delay(stayMs / 3)
    if (leg.kill?.when === "move") this.#killInMove(leg, cast)
    const window = await this.#move(leg, cast)
    const answered = this.#traveller.answered()
    await staying
    await this.#kills.up
    if (leg.kill === undefined) await answered
    const pauseMs = window && leg.kill === undefined ? this.#pause(window) : undefined
    if (leg.follows && this.#at !== leg.to && !this.#traveller.exhausted) await this.#firstReply(this.#switch(leg), leg)
    return { live: true, firstReplyMs: undefined, moved: undefined, given: window !== undefined, pauseMs }
  }

  #switch(leg: Leg): Arrival {
    this.#hint = leg.hint
    this.#at = leg.to
    return this.#traveller.switchTo(this.#o.url(leg.to))
  }

  async #firstReply(arrival: Arrival, leg: Leg): Promise<number> {
    const repliedAt = await this.#within(arrival.firstReply, `no reply after going to ${leg.to}`)
    return repliedAt - (arrival.helloAt ?? Number.NaN)
  }

  #killInMove({ kill, from, to }: Leg, cast: Cast): void {
    if (kill) this.#kills.after(kill.at * 3 * this.#o.lines.mesh(from, to), kill, cast)
  }

  /**
   * Asks the owner to move the actor, whoever it is, and again where somebody died of it. Resolves when it is durable at the leg's end;
   * undefined: it was there already.
   */
  async #move(leg: Leg, cast: Cast): Promise<{ from: number; to: number } | undefined> {
    const { cluster, actor } = this.#o
    const giveUpAt = performance.now() + firstReplyMsMax
    let began: number | undefined
    for (;;) {
      let again = false
      for (const pop of new Set([cast.source, ...cluster.pops])) {
        if (pop === leg.to) continue
        const askedAt = performance.now()
        try {
          await cluster.ask(pop, { t: "move", actor, to: leg.to } satisfies Order)
          return { from: began ?? askedAt, to: performance.now() }
        } catch (error) {
          if ((error as { code?: string }).code === "MOVED") continue
          // It was the owner, or is dead: in both cases the move may have begun.
          began ??= askedAt
          again = true
        }
      }
      if (!again) return began === undefined ? undefined : { from: began, to: performance.now() }
      if (performance.now() > giveUpAt)
        throw new Error(`${actor.join("/")} did not move to ${leg.to} in ${firstReplyMsMax} ms`)
      await this.#kills.up
    }
  }

  /** The longest time that a call waited whose answer the move was in the way of, minus the usual. */
  #pause(move: { readonly from: number; readonly to: number }): number | undefined {
    const { waits } = this.#traveller
    const usual = median(
      waits.filter(({ madeAt, ms }) => madeAt >= move.from - usualMs && madeAt + ms < move.from).map(({ ms }) => ms),
    )
    const during = waits.filter(({ madeAt, ms }) => madeAt <= move.to && madeAt + ms >= move.from).map(({ ms }) => ms)
    if (during.length === 0 || Number.isNaN(usual)) return undefined
    return Math.max(...during) - usual
  }

  /** Calls at the rate until so many were made here; a kill planned for the stay happens on the way. */
  async #stay(calls: number, leg: Leg | undefined, cast?: Cast): Promise<void> {
    const { rate } = this.#o.travel
    const killAt = leg?.kill?.when === "dwell" ? Math.floor(leg.kill.at * calls) : -1
    const began = performance.now()
    let made = 0
    let skipped = 0
    while (made < calls && !this.#traveller.exhausted) {
      const due = Math.min(calls, Math.floor(((performance.now() - began) * rate) / 1000) + 1 - skipped)
      while (made < due) {
        if (made === killAt && leg?.kill && cast) this.#kills.after(0, leg.kill, cast)
        if (!this.#traveller.call()) {
          // Too many are open: the beats that are missed meanwhile are not made up for in one burst.
          if (!this.#traveller.exhausted) skipped += due - made
          break
        }
        made += 1
      }
      const nextMs = began + ((made + skipped) * 1000) / rate - performance.now()
      await delay(Math.min(1000, Math.max(1, nextMs)))
    }
  }

  #within<T>(what: Promise<T>, or: string): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => reject(new Error(`${or} within ${firstReplyMsMax} ms`)), firstReplyMsMax)
    // A POP that does not come back would leave the traveller waiting for no known reason.
    this.#kills.mended.catch(reject)
    return Promise.race([what, promise]).finally(() => clearTimeout(timer))
  }

  async #settle(): Promise<JourneyEnd> {
    const { trace } = this.#o.travel
    const outcome = await this.#traveller.outcome()
    const devices = await this.#devices.settle(outcome.text)
    const textMatches =
      outcome.textMatches &&
      outcome.liveMatches &&
      (trace === undefined || outcome.text === trace.end) &&
      devices.every((device) => device.textMatches)
    if (!outcome.liveMatches) process.stderr.write("the live state is not the actor's state\n")
    for (const { device, textMatches: matches } of devices)
      if (!matches) process.stderr.write(`device ${device} does not have the typist's text\n`)
    const accounts = [outcome, ...devices.map((device) => device.outcome)]
    for (const { failures, inOrder } of accounts) {
      for (const [code, count] of failures) process.stderr.write(`${count} calls failed with ${code}\n`)
      if (!inOrder) process.stderr.write("calls were not applied in the order in which they were made\n")
    }
    return {
      results: this.#results,
      outcome,
      moves: this.#traveller.moves,
      devices,
      kills: this.#kills,
      textMatches,
      ok: textMatches && accounts.every((one) => one.lost === 0 && one.duplicated === 0 && one.inOrder),
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#traveller.close(), this.#devices.close()])
  }
}
