import { moveSteps, type MoveStep, type StepPoint } from "@sojourn/testkit"

/**
 * Where a traveller goes, and what is done to them on the way; all by one seed, so that a run can be asked for again. (Processes and timers
 * are real: the same seed makes the same choices, not the same interleaving.)
 */
export type HintKind = "right" | "stale" | "missing" | "forged"
export const hintKinds: readonly HintKind[] = ["right", "stale", "missing", "forged"]

/** By car down the coast, a flight, and back: from the first POP, one leg an entry. */
export const grandTour: readonly string[] = ["bos", "pvd", "hvn", "nyc", "nrt", "nyc", "hvn", "pvd", "bos"]

export interface Leg {
  readonly from: string
  readonly to: string
  readonly hint: HintKind
  /** The actor goes first, under the open sockets; else the traveller does, and the actor comes after. */
  readonly live: boolean
  /** On a live leg: the traveller goes after the actor, when the stay is over. */
  readonly follows: boolean
  readonly kill: Kill | undefined
}

/** Whose process dies. `gateway`: where the traveller's socket is, or was before the leg; `other`: neither source nor target. */
export const victims = ["source", "target", "home", "gateway"] as const
export type Victim = (typeof victims)[number] | "other"

/**
 * One POP dies, and comes back after `downMs`: while the traveller stays (`dwell`), so long after the move began (`move`), or at a step
 * of the move, which is then held until the POP is dead.
 */
export interface Kill {
  readonly who: Victim
  readonly when: "dwell" | "move" | "step"
  /** Share of the leg's stay, or of three round trips after the switch. */
  readonly at: number
  readonly step: MoveStep
  readonly point: StepPoint
  readonly downMs: number
}

export function killName({ who, when, step, point }: Kill): string {
  return `${who} ${when === "step" ? `${point} ${step}` : `in ${when}`}`
}

export interface ItineraryOptions {
  readonly pops: readonly string[]
  /** Absent: the grand tour. */
  readonly legs?: number | undefined
  readonly hint: HintKind | "mixed"
  readonly kill: boolean
  /** `some`: two legs of three are live, and the traveller follows on every other one; `all`: every leg, and always. Default none. */
  readonly live?: "some" | "all" | undefined
  readonly random: () => number
}

export function planItinerary({ pops, legs, hint, kill, live, random }: ItineraryOptions): Leg[] {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const stops = [...grandTour]
  if (legs !== undefined) {
    if (pops.length < 2) throw new RangeError("a journey needs at least two POPs")
    stops.length = 1
    stops[0] = pops[0] as string
    while (stops.length <= legs) stops.push(pick(pops.filter((pop) => pop !== stops[stops.length - 1])))
  }
  const deaths = deckOfDeaths(random)
  return stops.slice(1).map((to, i) => {
    const some = live === "some" && random() < 2 / 3
    return {
      from: stops[i] as string,
      to,
      hint: hint === "mixed" ? pick(hintKinds) : hint,
      live: some || live === "all",
      follows: live === "all" || (some && random() < 0.5),
      kill: kill && random() < 0.8 ? planKill(random, pick, deaths) : undefined,
    }
  })
}

type Death = readonly [who: Victim, step: MoveStep, point: StepPoint]

/** Every process at every step, before and after it, in random order, and from the start again when all were dealt. */
function* deckOfDeaths(random: () => number): Generator<Death, never> {
  const all = victims.flatMap((who) =>
    (Object.keys(moveSteps) as MoveStep[]).flatMap((step) =>
      (["before", "after"] as const).map((point): Death => [who, step, point]),
    ),
  )
  for (;;) {
    for (let i = all.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1))
      ;[all[i], all[j]] = [all[j] as Death, all[i] as Death]
    }
    yield* all
  }
}

function planKill(random: () => number, pick: <T>(from: readonly T[]) => T, deaths: Generator<Death, never>): Kill {
  const [who, step, point] = deaths.next().value
  const when = pick(["step", "step", "step", "move", "dwell"] as const)
  return {
    who: when === "step" ? who : pick([...victims, "other"] as const),
    when,
    at: random(),
    step,
    point,
    downMs: Math.round(random() ** 2 * 600),
  }
}

/** Mulberry32 (github.com/bryc/code, PRNGs): 32 bits of state are plenty for choosing. */
export function seeded(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * Something that is no right ticket: bits changed, another POP named inside, made up, or with a URL in it. What a forger without the mesh's
 * secret could send. All have characters that a subprotocol may have.
 */
export function forge(ticket: string | undefined, pops: readonly string[], random: () => number): string {
  const parts = (ticket ?? "").split(".")
  const kind = ticket === undefined ? 2 : Math.floor(random() * 4)
  if (kind === 0) return mutateOne(ticket as string, random)
  if (kind === 1) {
    const payload = encode(
      JSON.stringify({ pop: pops[Math.floor(random() * pops.length)], epoch: 1_000_000, revision: 1_000_000 }),
    )
    return [payload, ...parts.slice(1)].join(".")
  }
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
  const noise = (length: number): string =>
    Array.from({ length }, () => letters[Math.floor(random() * letters.length)]).join("")
  if (kind === 2) return `${noise(80)}.k1.${noise(43)}`
  return [
    encode(JSON.stringify({ actor: "traveller/x", pop: "ws://127.0.0.1:9/", exp: 9e15 })),
    ...parts.slice(1),
  ].join(".")
}

function mutateOne(ticket: string, random: () => number): string {
  const at = Math.floor(random() * ticket.length)
  const other = ticket[at] === "A" ? "B" : "A"
  return ticket.slice(0, at) + other + ticket.slice(at + 1)
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64url")
}
