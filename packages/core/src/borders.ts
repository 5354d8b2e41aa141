import { SojournError } from "@sojourn/protocol"
import { parseAddress } from "./address.ts"
import type { Pull } from "./handoff.ts"
import { checkResidency, insideResidency, mayHold, type Needs, type Residency } from "./residency.ts"
import type { Slot } from "./slot.ts"
import { isThenable } from "./thenable.ts"

/** `residency.ts`, asked by a host that knows in which region every POP lies: who may be served, pull or bring into being which actor. */
export class Borders {
  readonly #pop: string
  readonly #regions: ReadonlyMap<string, string>

  constructor(pop: string, regions: ReadonlyMap<string, string>) {
    this.#pop = pop
    this.#regions = regions
  }

  /** The actor may go to who asks for it. */
  mayGo(needs: Needs, { origin, version }: Pull): boolean {
    return mayHold(needs, { region: this.#regions.get(origin), version })
  }

  inside(residency: Residency | undefined, pop: string): boolean {
    return insideResidency(residency, this.#regions.get(pop))
  }

  /** Clients at `pop` may be served by relay, or the actor may be there itself. */
  assertMayRelay(slot: Slot, residency: Residency | undefined, pop: string): void {
    if (slot.def.relay !== "deny" || this.inside(residency, pop)) return
    throw new SojournError(
      "RESIDENCY_DENIED",
      `${slot.id} is not served at POP ${pop}, in ${String(this.#regions.get(pop))}: its residency is ${(residency ?? []).join(", ")} and its relay is "deny"`,
    )
  }

  /** The residency of an actor that is coming into being here. Throws RESIDENCY_DENIED where this POP is outside: nothing is stored. */
  genesis(slot: Slot): Residency | undefined {
    const declared = slot.def.residency
    let residency: Residency | undefined
    if (typeof declared !== "function") residency = declared
    else {
      const first = [...slot.attached.values()].find(({ status }) => status === "waiting")
      if (!first)
        throw new SojournError("NOT_FOUND_YET", `${slot.id} comes into being when a client attaches`, {
          retryAfterMs: 250,
        })
      const globs: unknown = declared(parseAddress(slot.id).key, first.who)
      // Refused below; a rejection that nobody hears would end the process.
      if (isThenable(globs)) void Promise.resolve(globs).catch(() => undefined)
      checkResidency(slot.id, globs)
      residency = [...globs]
    }
    this.assertInside(slot, residency)
    return residency
  }

  assertInside(slot: Slot, residency: Residency | undefined): void {
    const pop = this.#pop
    if (this.inside(residency, pop)) return
    throw new SojournError(
      "RESIDENCY_DENIED",
      `${slot.id} may not be at POP ${pop}, in ${String(this.#regions.get(pop))}: its residency is ${(residency ?? []).join(", ")}. ` +
        `A new one needs a key that names a POP inside as its home: use create() there, or a key that ends in "~" and that POP's id`,
      { details: { actor: slot.id, residency } },
    )
  }
}
