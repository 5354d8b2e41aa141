import type { Model } from "./explore.ts"

/**
 * What happens to one actor when a POP is destroyed and forgotten (docs/handoff.md, "Forgetting a destroyed POP"): mode P with permanent
 * tombstones, and `forget` on top. Ownership, bodies and signed tickets; no sessions, no processes (`record.test.ts` and the simulation have those).
 *
 * POPs are numbers. The last one, X, is the one that is forgotten. It is never stopped in this model: it goes on as an owner, a grantee and a source
 * for ever, which covers every moment at which it may have been destroyed, what it had sent before, and its return under the old id.
 *
 * The network: whatever was sent can be delivered, at any later time, any number of times.
 *
 * `forget` has three steps, driven by a coordinator that keeps nothing: it may stop anywhere and begin again, any number of times, and
 * what it ordered earlier may still arrive.
 *   1. refuse   each POP durably refuses X: its grants, confirms and home updates are ignored, and nothing is granted to it
 *   2. revive   once all have: the records are surveyed, POP by POP while the others go on. If the highest epoch m among them points to X, the
 *               newest surviving copy (the GRANTED of the highest epoch), or without one the empty actor at its home, becomes
 *               OWNED(m + 2), by an order that names the record that it replaces. A home that knows less than the survey is told
 *   3. inherit  where X was the home: its heir takes the role once it has a record of every actor that has one anywhere. What it creates
 *               then begins at epoch 2
 * Every revived record carries `cut`: tickets of an earlier epoch that know a later revision than `cut.v` are of lost history.
 */
export interface Bounds {
  readonly pops: number
  /** Home of the actor: X is `pops - 1`. */
  readonly home: number
  readonly epochMax: number
  readonly commitsMax: number
}

/** A rule left out. Each must lead to a counterexample, or it is not needed. */
export type Mutant =
  /** The survey begins before every POP has refused. */
  | "no-wait"
  /** A POP forgets in a crash that it refuses. */
  | "refusal-not-durable"
  /** Revived at one above the highest epoch. */
  | "plus-one"
  /** A POP reverts its grant to X by its own record, without a survey. */
  | "own-record-alone"
  /** An order does not name the record that it replaces. */
  | "order-unconditional"
  /** The heir takes the role before it has been told of every actor. */
  | "heir-at-once"
  /** What the heir creates begins at epoch 0, like any actor. */
  | "heir-from-zero"
  /** Nothing is written about what was lost. */
  | "no-cut"
  /** The home is not told where the actor was revived. */
  | "home-not-told"
  /** The home is told of grants that may not be installed. */
  | "told-of-grants"

export const mutants: readonly Mutant[] = [
  "no-wait",
  "refusal-not-durable",
  "plus-one",
  "own-record-alone",
  "order-unconditional",
  "heir-at-once",
  "heir-from-zero",
  "no-cut",
  "home-not-told",
  "told-of-grants",
]

/** `h[i]` is the epoch in which revision i + 1 was committed: two histories are the same as far as these agree. */
type Body = { readonly h: readonly number[]; readonly cut: Cut }
/** `e` 0: nothing was lost. */
type Cut = { readonly e: number; readonly v: number }
type Rec =
  | { readonly k: "OWNED"; readonly e: number; readonly b: Body }
  | { readonly k: "GRANTED"; readonly e: number; readonly to: number; readonly b: Body }
  | { readonly k: "PTR"; readonly e: number; readonly to: number }
type Held = Rec | null
/** What an order names of the record that it replaces. */
type Seen = readonly [k: string, e: number] | null

type Message =
  | { readonly t: "GRANT"; readonly from: number; readonly to: number; readonly e: number; readonly b: Body }
  | { readonly t: "CONFIRM" | "HOMEUPD"; readonly from: number; readonly to: number; readonly e: number }
  | { readonly t: "REVIVE"; readonly to: number; readonly seen: Seen; readonly e: number }
  | { readonly t: "TELL"; readonly to: number; readonly e: number; readonly at: number }
  | { readonly t: "INHERIT"; readonly to: number }

/** What a client holds: the epoch and the history of the moment at which it was signed. */
type Ticket = { readonly e: number; readonly h: readonly number[] }

export interface World {
  readonly recs: readonly Held[]
  readonly refuses: readonly boolean[]
  /** The heir has taken X's role as the home. */
  readonly inherited: boolean
  readonly sent: readonly Message[]
  readonly tickets: readonly Ticket[]
  readonly born: readonly number[]
  readonly twice: number
  /** Records read by the survey that is under way; undefined entries are not read yet. */
  readonly survey: readonly (readonly [Held] | null)[] | null
}

const empty: Body = { h: [], cut: { e: 0, v: 0 } }

export function forgetModel(bounds: Bounds, mutant?: Mutant): Model<World> {
  const { pops, home, epochMax, commitsMax } = bounds
  const x = pops - 1
  const all = Array.from({ length: pops }, (_, p) => p)
  const survivors = all.filter((p) => p !== x)
  /** Who stands for X as a home: an operator's choice, here the first survivor. */
  const heir = 0

  const homeNow = (w: World): number => (home === x && w.inherited ? heir : home)
  /** The record as its POP acts on it: a home that has none owns the actor, empty. */
  const held = (w: World, p: number): Held => {
    const own = w.recs[p] as Held
    if (own) return own
    if (p === home) return { k: "OWNED", e: 0, b: empty }
    if (p !== homeNow(w)) return null
    return mutant === "heir-from-zero"
      ? { k: "OWNED", e: 0, b: empty }
      : { k: "OWNED", e: 2, b: { h: [], cut: { e: 2, v: 0 } } }
  }
  const refused = (w: World, at: number, from: number): boolean => from === x && at !== x && w.refuses[at] === true
  const put = (w: World, p: number, rec: Rec): World => ({ ...w, recs: w.recs.map((r, q) => (q === p ? rec : r)) })
  const send = (w: World, ...messages: Message[]): World => ({ ...w, sent: merged(w.sent, messages) })
  const sign = (w: World, e: number, b: Body): World => ({ ...w, tickets: merged(w.tickets, [{ e, h: b.h }]) })
  const bear = (w: World, e: number): World =>
    w.born.includes(e) ? { ...w, twice: e } : { ...w, born: [...w.born, e].sort((a, b) => a - b) }

  const commit = (w: World, p: number): World | undefined => {
    const rec = held(w, p)
    if (rec?.k !== "OWNED" || rec.b.h.length >= commitsMax) return undefined
    const b = { ...rec.b, h: [...rec.b.h, rec.e] }
    return sign(put(w, p, { ...rec, b }), rec.e, b)
  }

  const pull = (w: World, p: number, to: number): World | undefined => {
    if (refused(w, p, to)) return undefined
    const rec = held(w, p)
    if (rec?.k !== "OWNED" || rec.e >= epochMax) return undefined
    const e = rec.e + 1
    // Whoever was attached gets a ticket for the grantee, signed before anybody knows whether it will ever install.
    return sign(send(put(w, p, { k: "GRANTED", e, to, b: rec.b }), { t: "GRANT", from: p, to, e, b: rec.b }), e, rec.b)
  }

  const revive = (w: World, p: number, e: number): World => {
    const rec = w.recs[p]
    const b = rec?.k === "GRANTED" ? rec.b : empty
    const cut = mutant === "no-cut" ? b.cut : { e, v: b.h.length }
    return bear(put(w, p, { k: "OWNED", e, b: { h: b.h, cut } }), e)
  }

  const deliver = (w: World, m: Message): World | undefined => {
    const rec = w.recs[m.to] as Held
    if ("from" in m && refused(w, m.to, m.from)) return undefined
    switch (m.t) {
      case "GRANT": {
        const epoch = held(w, m.to)?.e ?? -1
        if (m.e <= epoch) return undefined
        const installed = bear(put(w, m.to, { k: "OWNED", e: m.e, b: m.b }), m.e)
        const told: Message[] = [{ t: "CONFIRM", from: m.to, to: m.from, e: m.e }]
        const tellHome = homeNow(w)
        if (tellHome !== m.to) told.push({ t: "HOMEUPD", from: m.to, to: tellHome, e: m.e })
        return send(installed, ...told)
      }
      case "CONFIRM":
        return rec?.k === "GRANTED" && rec.to === m.from && rec.e === m.e
          ? put(w, m.to, { k: "PTR", e: m.e, to: m.from })
          : undefined
      case "HOMEUPD":
        return learn(w, m.to, m.from, m.e, false)
      case "TELL":
        return learn(w, m.to, m.at, m.e, true)
      case "REVIVE":
        return mutant === "order-unconditional" || same(seenOf(rec), m.seen) ? revive(w, m.to, m.e) : undefined
      case "INHERIT":
        return w.inherited ? undefined : { ...w, inherited: true }
    }
  }

  const learn = (w: World, p: number, to: number, e: number, told: boolean): World | undefined => {
    const rec = w.recs[p] as Held
    const takes =
      rec === null
        ? told && p !== home && !(p === homeNow(w))
        : (rec.k === "PTR" && e > rec.e) || (rec.k === "GRANTED" && e >= rec.e)
    return takes ? put(w, p, { k: "PTR", e, to }) : undefined
  }

  /** What the coordinator does once it has read every survivor's record. */
  const conclude = (w: World): World => {
    const read = survivors.map((p) => [p, (w.survey?.[p] as readonly [Held])[0]] as const)
    const known = read.flatMap(([p, rec]) => (rec ? [{ p, rec }] : []))
    const done = { ...w, survey: null }
    const top = known.reduce<(typeof known)[number] | undefined>(
      (best, one) => (!best || one.rec.e > best.rec.e ? one : best),
      undefined,
    )
    const stand = home === x ? heir : home
    if (!top) return home === x ? send(done, { t: "INHERIT", to: heir }) : done
    const at = top.rec.k === "OWNED" ? top.p : top.rec.to
    if (at === x) {
      const copies = known.filter(({ rec }) => rec.k === "GRANTED").sort((a, b) => b.rec.e - a.rec.e)
      const target = copies[0]?.p ?? stand
      const e = top.rec.e + (mutant === "plus-one" ? 1 : 2)
      return send(done, { t: "REVIVE", to: target, seen: seenOf(read.find(([p]) => p === target)?.[1] ?? null), e })
    }
    const standing = read.find(([p]) => p === stand)?.[1] ?? null
    // A home without a record is the owner of an actor that has never left it, and then nobody else has a record.
    // Only of what is installed: a pointer past a grant that is under way would make the home ignore the grant, or drop its own copy.
    const under = top.rec.k === "GRANTED" && mutant !== "told-of-grants"
    const [e, owner] = under ? [top.rec.e - 1, top.p] : [top.rec.e, at]
    if ((standing?.e ?? -1) < e && owner !== stand && mutant !== "home-not-told")
      return send(done, { t: "TELL", to: stand, e, at: owner })
    return home === x ? send(done, { t: "INHERIT", to: heir }) : done
  }

  const tokens = (w: World): number[] =>
    survivors.flatMap((p) => {
      const rec = held(w, p)
      if (rec?.k === "OWNED") return [rec.e]
      if (rec?.k === "GRANTED" && rec.to !== x && (held(w, rec.to)?.e ?? -1) < rec.e) return [rec.e]
      return []
    })

  const finds = (w: World, from: number): boolean => {
    let at = from
    let last = -1
    let usedHome = false
    for (let hop = 0; hop < 4 * pops; hop++) {
      const rec = held(w, at)
      if (rec?.k === "OWNED") return true
      if (rec && rec.to !== x && rec.e > last) {
        last = rec.e
        at = rec.to
        if (rec.k === "GRANTED" && (held(w, at)?.e ?? -1) < rec.e) return true
        continue
      }
      if (usedHome || homeNow(w) === x) return false
      usedHome = true
      last = -1
      at = homeNow(w)
    }
    return false
  }

  const everyoneRefuses = (w: World): boolean => survivors.every((p) => w.refuses[p])

  return {
    initial: {
      recs: all.map(() => null),
      refuses: all.map(() => false),
      inherited: false,
      sent: [],
      tickets: [],
      born: [],
      twice: -1,
      survey: null,
    },

    *next(w) {
      for (const p of all) {
        const committed = commit(w, p)
        if (committed) yield [`${p} commits`, committed]
        for (const to of all) {
          const pulled = to === p ? undefined : pull(w, p, to)
          if (pulled) yield [`${p} seals for ${to}`, pulled]
        }
      }
      for (const m of w.sent) {
        const delivered = deliver(w, m)
        if (delivered) yield [`${m.t} ${m.t === "INHERIT" ? "" : m.e} reaches ${m.to}`, delivered]
      }
      for (const p of survivors) {
        if (!w.refuses[p]) yield [`${p} refuses ${x}`, { ...w, refuses: w.refuses.map((r, q) => r || q === p) }]
        else if (mutant === "refusal-not-durable")
          yield [`${p} crashes`, { ...w, refuses: w.refuses.map((r, q) => r && q !== p) }]
        const rec = w.recs[p]
        if (mutant === "own-record-alone" && everyoneRefuses(w) && rec?.k === "GRANTED" && rec.to === x)
          yield [`${p} reverts its grant`, revive(w, p, rec.e + 1)]
      }
      if (w.survey === null) {
        const may = mutant === "no-wait" ? w.refuses.some(Boolean) : everyoneRefuses(w)
        if (may) yield ["a survey begins", { ...w, survey: all.map(() => null) }]
        if (mutant === "heir-at-once" && home === x && everyoneRefuses(w) && !w.inherited)
          yield ["the heir takes over", { ...w, inherited: true }]
      } else {
        for (const p of survivors)
          if (w.survey[p] === null)
            yield [
              `the survey reads ${p}`,
              { ...w, survey: w.survey.map((s, q) => (q === p ? [w.recs[p] ?? null] : s)) },
            ]
        if (survivors.every((p) => w.survey?.[p])) yield ["the survey concludes", conclude(w)]
      }
    },

    violation(w) {
      const owners = tokens(w)
      if (owners.length > 1) return `two owners among the survivors: epochs ${owners.join(" and ")}`
      if (w.twice >= 0) return `epoch ${w.twice} came into being twice`
      if (everyoneRefuses(w))
        for (const p of survivors) {
          const rec = held(w, p)
          if (rec?.k !== "OWNED") continue
          // An answer to a ticket is exact: HISTORY_LOST if and only if what it knows is not in the owner's history.
          for (const ticket of w.tickets) {
            const lost = ticket.h.some((e, i) => rec.b.h[i] !== e)
            const told = ticket.e < rec.b.cut.e && ticket.h.length > rec.b.cut.v
            if (lost && !told && ticket.h.length <= rec.b.h.length)
              return `a client that knows revision ${ticket.h.length} of epoch ${ticket.e} is served a history without it`
            if (!lost && told) return `a client of epoch ${ticket.e} is told of a loss that did not happen`
          }
        }
      return undefined
    },

    live: (w) => everyoneRefuses(w) && tokens(w).length === 1 && survivors.every((p) => finds(w, p)),
  }
}

function seenOf(rec: Held): Seen {
  return rec && [rec.k, rec.e]
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** A set, in one order, so that states that hold the same are the same. */
function merged<T>(known: readonly T[], more: readonly T[]): readonly T[] {
  const texts = new Map([...known, ...more].map((one) => [JSON.stringify(one), one]))
  return [...texts.keys()].sort().map((text) => texts.get(text) as T)
}
