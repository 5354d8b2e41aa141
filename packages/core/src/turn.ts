import { SojournError, type CallBody, type Encoded, type Patch } from "@sojourn/protocol"
import { create } from "mutative"
import type { DeactivateReason, ErasedDefinition } from "./actor.ts"
import { addressId } from "./address.ts"
import { AlarmChanges, type AlarmChange, type AlarmWhen, type Alarms, type StoredAlarm } from "./alarms.ts"
import { assertMayCall, type Chain } from "./chain.ts"
import { decodeChecked } from "./checked-value.ts"
import { encodeText, plain } from "./encoded-text.ts"
import { actorHandles, type ActorCall, type ActorPorts, type AnyActors } from "./handles.ts"
import type { Limits } from "./limits.ts"
import { isServer, type Principal } from "./mesh-messages.ts"
import type { ReadScope } from "./reader.ts"
import { isThenable } from "./thenable.ts"

/**
 * The author's part of one exclusive turn: authorize, validate, run the action on a draft. Nothing outside sees any of it until the
 * activation takes what came of it; a turn that throws, or is given up, is simply not taken.
 *
 * It stays synchronous as long as the author's code does: then turn, install and claim are one write, and calls that arrive together
 * share the next.
 */
export class Turn {
  readonly #def: ErasedDefinition
  readonly #state: unknown
  /** Made when somebody asks: few actions do, and it costs as much as a short turn. */
  #controller: AbortController | undefined
  readonly #emitted: [string, Encoded][] = []
  #finalize: Finalize | undefined
  #over = false
  #moveTo: string | undefined
  /** It is the activation's last. */
  #last = false
  readonly #pops: ReadonlySet<string>
  readonly #alarms: AlarmChanges
  readonly #others: ActorPorts
  /** This turn's actor, behind those whose turns wait for this one. */
  #chain: Chain
  #actors: AnyActors | undefined
  readonly #waitUntil: (promise: PromiseLike<unknown>) => void
  /** Ms since 1970: what its author takes for now. */
  readonly began: number

  /** `pops`: where the action may send the actor. `state`: the committed state that the draft is made of. `fired`: see `ring`. */
  constructor(
    id: string,
    def: ErasedDefinition,
    state: unknown,
    pops: ReadonlySet<string>,
    others: ActorPorts,
    alarms: { readonly set: Alarms; readonly now: number; readonly limits: Limits; readonly fired?: StoredAlarm },
    waitUntil: (promise: PromiseLike<unknown>) => void,
  ) {
    this.#def = def
    this.#waitUntil = waitUntil
    this.#pops = pops
    this.#others = others
    this.#chain = [id]
    this.#state = state
    this.began = alarms.now
    this.#alarms = new AlarmChanges(alarms.set, def.alarms ?? {}, alarms.now, alarms.limits, alarms.fired)
  }

  /** Runs the handler of a due alarm, which the turn takes away. */
  ring(alarm: StoredAlarm, context: ReadScope): unknown {
    const handler = own(this.#def.alarms, alarm.n)
    if (!handler)
      throw new SojournError(
        "UNKNOWN_ACTION",
        `there is no alarm ${JSON.stringify(alarm.n)}; it was set when there was`,
      )
    return this.#act(handler, alarm.p === undefined ? [] : [decodeChecked(plain(alarm.p))], context)
  }

  /** Runs `onDeactivate`. */
  deactivate(
    handler: NonNullable<ErasedDefinition["onDeactivate"]>,
    reason: DeactivateReason,
    context: ReadScope,
  ): unknown {
    this.#last = true
    return this.#act((c) => handler(c, reason), [], context)
  }

  /** The action's result, or a promise of it. `context` is what a reader sees; `who` is in it too. Throws what the author throws. */
  run(call: CallBody, who: Principal, context: ReadScope): unknown {
    if (call.skip) throw new SojournError("CALL_SKIPPED")
    if (call.chain) this.#chain = [...call.chain, ...this.#chain]
    const { authorize } = this.#def
    const allowed: unknown = authorize && !isServer(who) ? authorize(context, who, call.a) : true
    const admit = (yes: unknown): unknown => {
      if (yes !== true) throw new SojournError("FORBIDDEN", `${who.id} may not call ${call.a}`)
      return this.#validate(call, context)
    }
    return isThenable(allowed) ? Promise.resolve(allowed).then(admit) : admit(allowed)
  }

  /** The state after the turn, the patches that lead there, the events it emitted, where it wants to go, its alarms. Called once, at the end of a turn that held. */
  take(): {
    readonly next: unknown
    readonly patches: readonly Patch[]
    readonly emitted: readonly [string, Encoded][]
    readonly moveTo: string | undefined
    readonly alarms: readonly AlarmChange[]
  } {
    const [next, patches] = this.#finalize?.() ?? [this.#state, []]
    return { next, patches, emitted: this.#emitted, moveTo: this.#moveTo, alarms: this.#alarms.take() }
  }

  /** It threw: its draft, which the author's code may still hold, is good for nothing any more. */
  discard(): void {
    try {
      this.#finalize?.()
    } catch {
      // Nor is what came of it.
    }
  }

  abort(reason: unknown): void {
    this.#over = true
    this.#abortable().abort(reason)
  }

  #abortable(): AbortController {
    return (this.#controller ??= new AbortController())
  }

  #validate(call: CallBody, context: ReadScope): unknown {
    const action = own(this.#def.actions, call.a)
    if (!action) throw new SojournError("UNKNOWN_ACTION", `there is no action ${JSON.stringify(call.a)}`)
    const args = decodeChecked(call.p)
    if (!Array.isArray(args)) throw new SojournError("BAD_INPUT", "a call's arguments must be an array")
    const schema = own(this.#def.input, call.a)
    if (!schema) return this.#act(action, args, context)
    const take = (result: { issues?: readonly { message: string }[] | undefined; value?: unknown }): unknown => {
      if (result.issues) {
        const said = result.issues.map(({ message }) => message).join("; ")
        throw new SojournError("BAD_INPUT", said.slice(0, 500))
      }
      if (!Array.isArray(result.value))
        throw new TypeError(`the schema of ${call.a} must return an array: an action's input is its list of arguments`)
      return this.#act(action, result.value, context)
    }
    const result = schema["~standard"].validate(args)
    return isThenable(result) ? Promise.resolve(result).then(take) : take(result)
  }

  /**
   * What the author asks of another actor. Once the turn has ended nobody waits for it, so it stands in no chain; given up, it is to leave
   * nothing, so it calls nobody any more.
   */
  async #call(call: ActorCall): Promise<unknown> {
    if (this.#controller?.signal.aborted) throw this.#controller.signal.reason
    if (this.#over) return this.#others.call(call, [])
    assertMayCall(addressId(...call.actor), this.#chain)
    return this.#others.call(call, this.#chain)
  }

  #act(action: (c: unknown, ...args: unknown[]) => unknown, args: unknown[], reader: ReadScope): unknown {
    // Given up while it was asked whether it may: by now the call may have run in another activation, or at another POP.
    if (this.#controller?.signal.aborted) throw this.#controller.signal.reason
    const [draft, done] = create(this.#state as object, { enablePatches: true }) as unknown as [unknown, Finalize]
    this.#finalize = done
    const context = new ActionScope(draft, reader, {
      signal: () => this.#abortable().signal,
      actors: () => (this.#actors ??= actorHandles(this.#others, (call) => heard(this.#call(call)))),
      broadcast: (name, payload) => {
        if (this.#over) throw new TypeError("broadcast after its turn has ended")
        if (!own(this.#def.events, name)) throw new TypeError(`there is no event ${named(name)}`)
        this.#emitted.push([name, encodeText(payload)])
      },
      moveTo: (pop) => {
        if (this.#over) throw new TypeError("moveTo after its turn has ended")
        if (this.#last) throw new TypeError("moveTo in onDeactivate: where the actor goes is decided")
        if (!this.#pops.has(pop)) throw new RangeError(`there is no POP ${named(pop)} to move to`)
        this.#moveTo = pop
      },
      waitUntil: (promise) => {
        if (this.#over) throw new TypeError("waitUntil after its turn has ended")
        if (this.#last) throw new TypeError("waitUntil in onDeactivate: await it there, the activation ends")
        this.#waitUntil(promise)
      },
      set: (name, when, payload, { id = "" } = {}) => {
        if (this.#over) throw new TypeError("alarms.set after its turn has ended")
        this.#alarms.set(name, when, payload, id)
      },
      cancel: (name, id = "") => {
        if (this.#over) throw new TypeError("alarms.cancel after its turn has ended")
        return this.#alarms.cancel(name, id)
      },
    })
    let result: unknown
    let waits = false
    try {
      result = action(context, ...args)
      waits = isThenable(result)
    } finally {
      this.#over ||= !waits
    }
    if (!waits) return result
    return Promise.resolve(result).finally(() => {
      this.#over = true
    })
  }
}

/** The author's part of a draft has ended: the state that it leaves, and the patches that lead there. */
type Finalize = () => readonly [next: unknown, patches: readonly Patch[], inverse: unknown]

interface TurnTools {
  signal(): AbortSignal
  actors(): AnyActors
  broadcast(name: string, payload?: unknown): void
  moveTo(pop: string): void
  waitUntil(promise: PromiseLike<unknown>): void
  set(name: string, when: AlarmWhen, payload?: unknown, options?: { readonly id?: string }): void
  cancel(name: string, id?: string): boolean
}

/**
 * What an action is given: properties of its own, none of which needs a `this`, and what is made when it is asked for. Those accessors are the
 * class's: in a literal each turn would have accessors and so a hidden class of its own, which the engine keeps until its next full
 * collection, and the turn with it. Each property is assigned by its name: copied from an object they would cost as much as a short turn.
 */
class ActionScope {
  readonly state: unknown
  readonly key: string
  readonly pop: string
  readonly epoch: number
  readonly who: Principal
  readonly now: () => number
  readonly random: () => number
  readonly broadcast: TurnTools["broadcast"]
  readonly moveTo: TurnTools["moveTo"]
  readonly waitUntil: TurnTools["waitUntil"]
  readonly alarms: Pick<TurnTools, "set" | "cancel">
  readonly #tools: TurnTools

  constructor(draft: unknown, { key, pop, epoch, who, now, random }: ReadScope, tools: TurnTools) {
    this.state = draft
    this.key = key
    this.pop = pop
    this.epoch = epoch
    this.who = who
    this.now = now
    this.random = random
    this.broadcast = tools.broadcast
    this.moveTo = tools.moveTo
    this.waitUntil = tools.waitUntil
    this.alarms = { set: tools.set, cancel: tools.cancel }
    this.#tools = tools
    // `c.state = …` would be accepted and do nothing.
    Object.freeze(this)
  }

  get signal(): AbortSignal {
    return this.#tools.signal()
  }

  get actors(): AnyActors {
    return this.#tools.actors()
  }
}

/** Nobody need wait for it: a rejection that nobody hears would end the process. Whoever waits for it gets it all the same. */
function heard<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}

/** What an action passed on from its caller may be anything: a bigint has no JSON, an object with a `toString` of its own no text. */
export function named(what: unknown): string {
  return typeof what === "string" ? JSON.stringify(what) : `named by a value of type ${typeof what}`
}

/** Own properties only: nothing of a prototype is ever an action, a query or an event. */
export function own<T>(table: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  // A name may be what a caller sent: `["said"]` is a key as well, and no name that could be stored.
  return table && typeof name === "string" && Object.hasOwn(table, name) ? table[name] : undefined
}
