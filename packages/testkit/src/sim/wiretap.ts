import { looked, mayUse } from "./app.ts"
import { readMark } from "./marks.ts"
import type { Oracle } from "./oracle.ts"
import { violated } from "./oracle.ts"
import { canonical, plain } from "./stored.ts"
import type { Wire } from "./network.ts"
import type { World } from "./world.ts"

/**
 * Judges every frame that a gateway hands to a client's socket, at that moment:
 *
 * - nothing names a revision that is not durable, and what it says of a revision is what was committed (G2, C31);
 * - an answer is not older than anything acknowledged before its query was made (I4);
 * - one call has one outcome, however often it is sent (G3), and a reply agrees with the turn it reports;
 * - outputs follow each other without a silent gap, and nothing of an attach passes its own frame (G8);
 * - no frame to a principal holds text of an actor that the principal may not use (G5).
 *
 * It reads JSON of its own; it knows the frames from `protocol/frames.ts` as a document.
 */
interface Channel {
  readonly actor: string
  readonly key: string
  readonly sid: string
  readonly live: boolean
  readonly pos: number | undefined
  /** Revision that the frames sent so far reach; unknown until attached. */
  at: number | undefined
  /** An attach on this channel that is not answered yet: until then the earlier one's outputs may still come. */
  next: Channel | undefined
}

interface Call {
  /** "": given up before this tap ever saw it. */
  name: string
  id: unknown
  outcome: string | undefined
  acked: boolean
}

export interface Tapped {
  readonly principal: string
  readonly client: string
  readonly channels: Map<number, Channel>
  /** Actor and session of each attach that the client made, whether or not it has arrived. */
  readonly made: Map<number, readonly [actor: string, sid: string]>
}

type Json = Record<string, unknown>

/** Actions that answer where in the list they wrote. */
const writers = new Set(["add", "slow", "later", "cancel", "pass", "ask"])

export class Wiretap {
  readonly #oracle: Oracle
  readonly #world: World
  readonly #calls = new Map<string, Call>()
  /** Highest revision of each actor that any client was told of, and what that was when each query was made. */
  readonly #told = new Map<string, number>()
  readonly #floors = new Map<string, number>()
  /** Relays lose or reorder frames in this run: it is the client that must notice, and its views are judged for it. */
  frayed: () => boolean = () => false
  replies = 0
  repeated = 0

  constructor(world: World, oracle: Oracle) {
    this.#world = world
    this.#oracle = oracle
  }

  describe(text: string): string {
    const { t, ch, attach, calls, ...rest } = JSON.parse(text) as Json
    const more = JSON.stringify({
      ...rest,
      ...(attach === undefined ? {} : { attach }),
      ...(calls === undefined ? {} : { calls }),
    })
    return `${typeof t === "string" ? t : ""}${typeof ch === "number" ? ` #${ch}` : ""} ${more.length > 240 ? `${more.slice(0, 240)}…` : more}`
  }

  /** A client's frame left the client. */
  made(wire: Wire<string>, text: string): void {
    const frame = JSON.parse(text) as Json
    const tapped = wire.note as Tapped
    if (frame["t"] === "query") {
      const of = tapped.made.get(frame["ch"] as number)
      if (of !== undefined) this.#floor(...of, frame["q"] as number)
    }
    for (const attach of attachesOf(frame)) {
      tapped.made.set(attach["ch"] as number, [actorOf(attach), attach["sid"] as string])
      for (const query of (attach["queries"] as Json[] | undefined) ?? [])
        this.#floor(actorOf(attach), attach["sid"] as string, query["q"] as number)
    }
  }

  #floor(actor: string, sid: string, q: number): void {
    const key = `${actor} ${sid} ${q}`
    if (!this.#floors.has(key)) this.#floors.set(key, this.#told.get(actor) ?? 0)
  }

  /** A client's frame arrived at its gateway. */
  arrived(wire: Wire<string>, text: string): void {
    const frame = JSON.parse(text) as Json
    const { channels } = wire.note as Tapped
    this.#world.count(`client frame: ${String(frame["t"])}`)
    for (const attach of attachesOf(frame)) {
      const channel: Channel = {
        actor: actorOf(attach),
        key: (attach["actor"] as string[])[1] as string,
        sid: attach["sid"] as string,
        live: attach["live"] === true,
        pos: attach["pos"] as number | undefined,
        at: undefined,
        next: undefined,
      }
      const ch = attach["ch"] as number
      const before = channels.get(ch)
      if (before !== undefined && before.actor === channel.actor && before.at !== undefined) before.next = channel
      else channels.set(ch, channel)
      for (const call of (attach["calls"] as Json[] | undefined) ?? []) this.#call(channel, call)
      this.#acked(channel, (attach["acked"] as number | undefined) ?? 0)
    }
    const attached = channels.get(frame["ch"] as number)
    const channel = attached?.next ?? attached
    if (channel === undefined) return
    if (frame["t"] === "call") this.#call(channel, frame)
    if (frame["t"] === "ack") this.#acked(channel, frame["c"] as number)
  }

  #acked(channel: Channel, upTo: number): void {
    for (let c = upTo; c > 0; c--) {
      const call = this.#calls.get(`${channel.actor} ${channel.sid} ${c}`)
      if (call?.acked === true) break
      if (call !== undefined) call.acked = true
    }
  }

  #call(channel: Channel, frame: Json): void {
    const key = `${channel.actor} ${channel.sid} ${frame["c"] as number}`
    const known = this.#calls.get(key)
    const skip = frame["skip"] === true
    const [id] = skip ? [] : (plain(frame["p"]) as unknown[])
    if (known === undefined)
      this.#calls.set(key, { name: skip ? "" : (frame["a"] as string), id, outcome: undefined, acked: false })
    // The call itself may arrive after the news that it was given up, through another gateway.
    else if (known.name === "" && !skip) Object.assign(known, { name: frame["a"], id })
    else if (!skip && known.id !== id)
      violated("G3", `call ${String(frame["c"])} of ${channel.sid} was ${String(known.id)} and is now ${String(id)}`)
  }

  /** An owner's host sends this to a gateway at another POP: the output gate is the owner's, so it is judged here already. */
  relayed(wire: Wire<Uint8Array>, end: 0 | 1, message: Json): void {
    const { t, relay } = message
    // The opener numbers its relays, for as long as the link lives.
    const opened = (wire.note ??= [new Map(), new Map()]) as [Map<unknown, string>, Map<unknown, string>]
    if (t === "RELAY_OPEN") opened[end].set(relay, message["actor"] as string)
    if (t !== "FRAME" || message["dir"] !== "out") return
    const actor = opened[end === 0 ? 1 : 0].get(relay)
    const [from, to] = [wire.ends[end].place, wire.ends[end === 0 ? 1 : 0].place]
    const frame = message["frame"] as Json
    const r = frame["r"]
    if (actor === undefined || typeof r !== "number") return
    const { durable } = this.#oracle.history(actor)
    if (r > durable)
      violated(
        "G2",
        `${from} relays ${String(frame["t"])} of revision ${r} of ${actor} to ${to}; ${durable} is durable`,
      )
  }

  /** A gateway hands this frame to a client's socket. */
  leaves(wire: Wire<string>, text: string): void {
    const tapped = wire.note as Tapped
    for (const [, key] of text.matchAll(/([0-9]+\.[a-z0-9+]+(?:~[a-z]+)?)\|/g))
      if (key !== undefined && !mayUse(key, tapped.principal))
        violated("G5", `a frame to ${tapped.principal} holds text of ${key}: ${text.slice(0, 300)}`)
    const frame = JSON.parse(text) as Json
    const t = String(frame["t"])
    this.#world.count(`server frame: ${t}`)
    const ch = frame["ch"] as number
    let channel = tapped.channels.get(ch)
    const r = frame["r"] as number | undefined
    if (channel === undefined) return
    if (t === "attached" && channel.next !== undefined) tapped.channels.set(ch, (channel = channel.next))
    if (r !== undefined) {
      const { durable } = this.#oracle.history(channel.actor)
      if (r > durable)
        violated(
          "G2",
          `${t} to ${tapped.client} names revision ${r} of ${channel.actor}; ${durable} is durable: ${text.slice(0, 200)}`,
        )
    }
    if (t === "attached") this.#attached(channel, frame)
    if (t === "moved" && frame["stays"] === true) this.#world.count("sessions that kept their attach")
    if (t === "out") this.#out(channel, frame, tapped)
    // Of the attach that this channel has now: a relay's frames keep their order as a socket's do.
    if ((t === "reply" || t === "answer") && channel.at === undefined && !this.frayed())
      violated("G8", `${t} to ${tapped.client} passes its attach's own frame: ${text.slice(0, 200)}`)
    if (t === "reply") this.#reply(channel, frame, text, tapped)
    if (t === "answer") this.#answer(channel, frame, tapped)
    if (r !== undefined) this.#told.set(channel.actor, Math.max(r, this.#told.get(channel.actor) ?? 0))
  }

  #attached(channel: Channel, frame: Json): void {
    const r = frame["r"] as number
    const resumed = frame["resumed"] as string
    this.#world.count(`resumed: ${resumed}`)
    if (frame["move"] !== undefined) this.#world.count("move reports")
    if (frame["state"] !== undefined) {
      const state = plain(frame["state"])
      const committed = this.#oracle.history(channel.actor).revisions[r]?.state
      if (canonical(state) !== canonical(committed))
        violated(
          "G2",
          `attached shows ${canonical(state)} at revision ${r} of ${channel.actor}; committed was ${canonical(committed)}`,
        )
    }
    if (resumed === "replay" && channel.pos === undefined) violated("G8", `a replay for a client without a position`)
    channel.at = resumed === "replay" ? channel.pos : r
    if (resumed !== "replay" && channel.live && frame["state"] === undefined && r > 0)
      violated("G8", `attached live to ${channel.actor} with neither state nor replay`)
  }

  #out(channel: Channel, frame: Json, tapped: Tapped): void {
    const r = frame["r"] as number
    const prev = frame["prev"] as number
    const whole = !this.frayed()
    if (whole && channel.at === undefined) violated("G8", `out before attached on ${channel.actor}`)
    if (r <= prev || (whole && prev !== channel.at))
      violated(
        "G8",
        `out to ${tapped.client} of ${channel.actor} goes from ${prev} to ${r}; the last one reached ${channel.at}`,
      )
    const { revisions } = this.#oracle.history(channel.actor)
    const events = ((frame["ev"] as [string, unknown][] | undefined) ?? []).map(([name, payload]) => [
      name,
      plain(payload),
    ])
    if (canonical(events) !== canonical(revisions[r]?.events))
      violated(
        "G8",
        `out of ${channel.actor} at ${r} has events ${canonical(events)}; committed were ${canonical(revisions[r]?.events)}`,
      )
    if (
      channel.live &&
      canonical(frame["pt"] === undefined ? undefined : plain(frame["pt"])) !== canonical(revisions[r]?.patches)
    )
      violated("G8", `out of ${channel.actor} at ${r} has other patches than the turn`)
    for (const skipped of revisions.slice(prev + 1, r))
      if (skipped.events.length > 0 || (channel.live && skipped.patches !== undefined))
        violated(
          "G8",
          `out to ${tapped.client} of ${channel.actor} goes from ${prev} to ${r} and skips ${skipped.r} silently`,
        )
    channel.at = r
  }

  #reply(channel: Channel, frame: Json, text: string, tapped: Tapped): void {
    const c = frame["c"] as number
    const call = this.#calls.get(`${channel.actor} ${channel.sid} ${c}`)
    if (call === undefined) violated("G3", `a reply to a call that was never made: ${text.slice(0, 200)}`)
    const err = frame["err"] as Json | undefined
    if (err !== undefined && err["retry"] !== "never") return
    if (err?.["code"] === "REPLY_GONE" && call.acked) return
    this.replies++
    const outcome = canonical({ ok: frame["ok"], err })
    if (call.outcome !== undefined) this.repeated++
    // A call that changed nothing is not stored: sent again before its reply came, it runs again; the client takes one.
    if (call.outcome !== undefined && call.outcome !== outcome && call.name !== "idle")
      violated(
        "G3",
        `call ${c} of ${channel.sid} on ${channel.actor} was answered ${call.outcome}, and then ${outcome}`,
      )
    call.outcome = outcome
    const r = frame["r"] as number
    const state = this.#oracle.history(channel.actor).revisions[r]?.state
    const ok = frame["ok"] === undefined ? undefined : plain(frame["ok"])
    const refusal = err?.["code"]
    const refused = call.name === "refuse" || call.name === "fail"
    const fits =
      err !== undefined
        ? refusal === "CALL_SKIPPED" ||
          (refusal === "FORBIDDEN" && !mayUse(channel.key, tapped.principal)) ||
          (call.name === "ask" && refusal === "INTERNAL") ||
          (refused &&
            refusal === (call.name === "refuse" ? "ACTOR_ERROR" : "INTERNAL") &&
            !text.includes("a defect of"))
        : writers.has(call.name)
          ? state?.list[ok as number] !== undefined && readMark(state.list[ok as number] ?? "").id === call.id
          : call.name === "idle"
            ? ok === `${state?.turns ?? 0} ${String(call.id)}`
            : call.name === "shout" && ok === call.id
    if (!fits)
      violated(
        "G3",
        `the reply to ${call.name}(${String(call.id)}) does not agree with revision ${r}: ${text.slice(0, 200)}`,
      )
  }

  #answer(channel: Channel, frame: Json, tapped: Tapped): void {
    if (frame["ok"] === undefined) return
    const r = frame["r"] as number
    const q = frame["q"] as number
    const told = canonical(plain(frame["ok"]))
    const committed = canonical(looked(this.#oracle.history(channel.actor).revisions[r]?.state))
    if (told !== committed)
      violated(
        "G2",
        `an answer to ${tapped.client} says ${told} at revision ${r} of ${channel.actor}; committed was ${committed}`,
      )
    const floor = this.#floors.get(`${channel.actor} ${channel.sid} ${q}`) ?? 0
    if (r < floor)
      violated(
        "G1",
        `an answer to ${tapped.client} is of revision ${r} of ${channel.actor}; ${floor} had been seen before it was asked`,
      )
  }
}

function attachesOf(frame: Json): Json[] {
  if (frame["t"] === "attach") return [frame]
  return frame["t"] === "hello" ? ((frame["attach"] as Json[] | undefined) ?? []) : []
}

function actorOf(attach: Json): string {
  return (attach["actor"] as string[]).join("/")
}
