import { SojournError, type CallBody } from "@sojourn/protocol"
import type { DeactivateReason, ErasedDefinition } from "./actor.ts"
import type { ActorState } from "./actor-state.ts"
import type { StoredAlarm } from "./alarms.ts"
import type { Attached } from "./attach.ts"
import type { Commits, Outcome } from "./commits.ts"
import type { AuthorErrors } from "./author-errors.ts"
import type { ActorPorts } from "./handles.ts"
import type { Limits } from "./limits.ts"
import { serverPrefix } from "./mesh-messages.ts"
import type { Chance, Clock, Undo } from "./ports.ts"
import type { Reader, ReadScope } from "./reader.ts"
import type { Session } from "./sessions.ts"
import { Turn } from "./turn.ts"
import type { Work } from "./work.ts"

export interface TurnPorts {
  readonly clock: Clock
  readonly chance: Chance
  readonly limits: Limits
  readonly pop: string
  readonly pops: ReadonlySet<string>
  readonly actors: ActorPorts
}

/** What turns ask of their activation. */
export interface TurnsOwner {
  /** A turn that had awaited has ended: the next may run. */
  run(): void
  /** An alarm's turn has ended: another may be due. */
  ring(): void
  /** What the activation does not know any more may go on in its memory: it ends when what is appended is durable. */
  retire(error: SojournError): void
  /** The same of `onDeactivate`: it may go on, but not on what is stored. */
  freeze(error: SojournError): void
  drop(error: SojournError): void
}

export interface TurnParts {
  readonly state: ActorState
  readonly reader: Reader
  readonly commits: Commits
  readonly work: Work
  readonly authorErrors: AuthorErrors
}

/**
 * The exclusive turns of one activation, one at a time: a call, an alarm, and at the end `onDeactivate`. Whoever starts one has seen that none
 * is running. A turn of author code that does not await has ended, and is committed or refused, when its method returns.
 *
 * Each has a time in which it must end. Past it nobody knows what it still does, and the draft cannot be taken away from it: a call's turn drops
 * the activation, an alarm's retires it, and of `onDeactivate` nothing is taken.
 */
export class Turns {
  readonly #id: string
  readonly #def: ErasedDefinition
  readonly #state: ActorState
  readonly #reader: Reader
  readonly #commits: Commits
  readonly #work: Work
  readonly #authorErrors: AuthorErrors
  readonly #ports: TurnPorts
  readonly #owner: TurnsOwner
  #running: Turn | undefined
  #runningCall: { readonly sid: string; readonly c: number } | undefined
  /** Of the time that a turn which awaits has. */
  #late: Undo | undefined
  /** `onDeactivate` has been entered since the input was last open. */
  #deactivated = false
  #stopped = false

  constructor(id: string, def: ErasedDefinition, parts: TurnParts, ports: TurnPorts, owner: TurnsOwner) {
    this.#id = id
    this.#def = def
    this.#state = parts.state
    this.#reader = parts.reader
    this.#commits = parts.commits
    this.#work = parts.work
    this.#authorErrors = parts.authorErrors
    this.#ports = ports
    this.#owner = owner
  }

  get running(): boolean {
    return this.#running !== undefined
  }

  /** The call of this session that runs; 0: none. */
  runningCall(sid: string): number {
    return this.#runningCall?.sid === sid ? this.#runningCall.c : 0
  }

  call(att: Attached, session: Session, call: CallBody): void {
    if (call.c !== session.last + 1) {
      this.#owner.drop(
        // Whose it is goes to the log, as the cause: the message goes to whoever is attached.
        new SojournError("INVARIANT", `call ${call.c} of a session would run after its call ${session.last}`, {
          cause: new Error(`session ${session.id}`),
        }),
      )
      return
    }
    const turn = this.#newTurn(call.a)
    this.#runningCall = { sid: session.id, c: call.c }
    this.#run(
      turn,
      call.a,
      () => turn.run(call, att.who, this.#reader.context(att.who, turn.began)),
      (outcome) => {
        this.#runningCall = undefined
        this.#commits.endCall(att, session, call, turn, outcome)
      },
    )
  }

  /** The alarm that is due, if it still is: an action may have taken it away or set it to another time meanwhile. */
  alarm(): void {
    const alarm = this.#state.dueAlarm(this.#ports.clock.now())
    if (!alarm) return
    const turn = this.#newTurn(alarm.n, alarm)
    this.#run(
      turn,
      alarm.n,
      () => turn.ring(alarm, this.#ownContext(turn)),
      (outcome) => {
        this.#commits.endAlarm(alarm, turn, outcome)
        this.#owner.ring()
      },
      (error) => {
        this.#alarmGivenUp(alarm, error)
      },
    )
  }

  /**
   * A handler that does not end is put off like one that fails: run again at once, it would keep every call from its turn for ever. Then the
   * activation goes, for it does not know what the handler still does.
   */
  #alarmGivenUp(alarm: StoredAlarm, error: SojournError): void {
    this.#commits.alarmFailed(alarm, error)
    this.#running?.abort(error)
    this.#running = undefined
    this.#commits.putOff(alarm)
    this.#owner.retire(error)
  }

  /** The last turn of an activation that is given back in an orderly way. Nothing else can run: its input is closed, all it wrote is durable. */
  deactivate(why: DeactivateReason): void {
    const { onDeactivate } = this.#def
    if (!onDeactivate || this.#deactivated) return
    this.#deactivated = true
    const { limits } = this.#ports
    const turn = this.#newTurn("onDeactivate")
    const failed = (error: unknown): void => {
      this.#authorErrors.report("deactivate.failed", error, { reason: why, ref: this.#ports.chance.id() })
    }
    this.#run(
      turn,
      "onDeactivate",
      () => turn.deactivate(onDeactivate, why, this.#ownContext(turn)),
      (outcome) => {
        this.#commits.endDeactivation(turn, outcome, failed)
      },
      (error) => {
        failed(error)
        turn.abort(error)
        this.#running = undefined
        this.#owner.freeze(error)
      },
      limits.deactivateMsMax <= limits.drainMsMax ? "deactivateMsMax" : "drainMsMax",
    )
  }

  /** The activation goes on after all: it will end again. */
  reopened(): void {
    this.#deactivated = false
  }

  /** Tells the running turn, if there is one, that nothing of it will be taken. The activation is dropped next. */
  abort(error: SojournError): void {
    this.#running?.abort(error)
  }

  /** The activation is over: what still runs is not listened to. */
  stop(error: SojournError): void {
    this.#stopped = true
    this.#late?.()
    this.#running?.abort(error)
  }

  /** In a turn that no client asked for, the POP acts. */
  #ownContext(turn: Turn): ReadScope {
    return this.#reader.context({ id: `${serverPrefix}${this.#ports.pop}` }, turn.began)
  }

  /** `what` runs in it: the name under which its work is reported. */
  #newTurn(what: string, fired?: StoredAlarm): Turn {
    const { pops, clock, limits, actors } = this.#ports
    return new Turn(
      this.#id,
      this.#def,
      this.#state.value,
      pops,
      actors,
      { set: this.#state.alarms, now: clock.now(), limits, ...(fired && { fired }) },
      (promise) => {
        this.#work.add(promise, what)
      },
    )
  }

  /** `ended` is told how the turn came out, `late` instead that it did not end in its time; absent: that drops the activation. */
  #run(
    turn: Turn,
    what: string,
    run: () => unknown,
    ended: (outcome: Outcome) => void,
    late?: (error: SojournError) => void,
    bound: "turnMsMax" | "deactivateMsMax" | "drainMsMax" = "turnMsMax",
  ): void {
    this.#running = turn
    let result: unknown
    try {
      result = run()
    } catch (error) {
      this.#finish(turn, ended, { failed: true, error, value: undefined })
      return
    }
    if (result instanceof Promise) this.#await(turn, what, result, ended, late, bound)
    else this.#finish(turn, ended, { failed: false, value: result, error: undefined })
  }

  #finish(turn: Turn, ended: (outcome: Outcome) => void, outcome: Outcome): void {
    if (this.#stopped || this.#running !== turn) return
    this.#running = undefined
    try {
      if (outcome.failed) turn.discard()
      ended(outcome)
    } catch (cause) {
      // Nobody knows what of it is in memory.
      this.#owner.drop(cause instanceof SojournError ? cause : new SojournError("INVARIANT", undefined, { cause }))
    }
  }

  #await(
    turn: Turn,
    what: string,
    result: Promise<unknown>,
    ended: (outcome: Outcome) => void,
    late: ((error: SojournError) => void) | undefined,
    bound: "turnMsMax" | "deactivateMsMax" | "drainMsMax",
  ): void {
    const { clock, limits } = this.#ports
    const undo = (this.#late = clock.after(limits[bound], () => {
      const error = new SojournError(
        "UNKNOWN_OUTCOME",
        `the turn ${what} of ${this.#id} did not end within limits.${bound} (${limits[bound]} ms)`,
      )
      if (late) late(error)
      else this.#owner.drop(error)
    }))
    const settled = (outcome: Outcome): void => {
      undo()
      this.#finish(turn, ended, outcome)
      this.#owner.run()
    }
    result.then(
      (value: unknown) => {
        settled({ failed: false, value, error: undefined })
      },
      (error: unknown) => {
        settled({ failed: true, value: undefined, error })
      },
    )
  }
}
