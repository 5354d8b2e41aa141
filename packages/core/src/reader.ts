import type { ErasedDefinition } from "./actor.ts"
import type { ActorState } from "./actor-state.ts"
import { parseAddress } from "./address.ts"
import type { AuthorErrors } from "./author-errors.ts"
import { isServer, type Principal } from "./mesh-messages.ts"
import { isThenable } from "./thenable.ts"
import type { Chance, Clock } from "./ports.ts"

export interface ReaderPorts {
  readonly clock: Clock
  readonly chance: Chance
  readonly pop: string
}

/** What author code that only reads is given. No member needs a `this`. */
export interface ReadScope {
  readonly state: unknown
  readonly key: string
  readonly pop: string
  readonly epoch: number
  readonly who: Principal
  readonly now: () => number
  readonly random: () => number
}

/** What author code that only reads sees of an actor (`authorize`, queries, and an action besides its draft), and who may see what. */
export class Reader {
  readonly #key: string
  readonly #def: ErasedDefinition
  readonly #state: ActorState
  readonly #owner: { readonly epoch: number }
  readonly #authorErrors: AuthorErrors
  readonly #ports: ReaderPorts
  readonly #random: () => number

  constructor(
    id: string,
    def: ErasedDefinition,
    state: ActorState,
    owner: { readonly epoch: number },
    authorErrors: AuthorErrors,
    ports: ReaderPorts,
  ) {
    this.#key = parseAddress(id).key
    this.#def = def
    this.#state = state
    this.#owner = owner
    this.#authorErrors = authorErrors
    this.#ports = ports
    this.#random = () => ports.chance.random()
  }

  context(who: Principal, now = this.#ports.clock.now()): ReadScope {
    const { pop } = this.#ports
    return {
      state: this.#state.value,
      key: this.#key,
      pop,
      epoch: this.#owner.epoch,
      who,
      now: () => now,
      random: this.#random,
    }
  }

  /** What cannot wait for an answer asks here: an `authorize` that is async, or throws, allows nothing. `what`: an event's name, or `state`. */
  allowedNow(who: Principal, what: string): boolean {
    if (!this.#def.authorize || isServer(who)) return true
    try {
      const allowed: unknown = this.#def.authorize(this.context(who), who, what)
      if (isThenable(allowed))
        Promise.resolve(allowed).catch((cause: unknown) => {
          this.#authorErrors.report("authorize.failed", cause)
        })
      return allowed === true
    } catch (cause) {
      this.#authorErrors.report("authorize.failed", cause)
      return false
    }
  }
}
