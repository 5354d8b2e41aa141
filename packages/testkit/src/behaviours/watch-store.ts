import { SojournError, type Store } from "@sojourn/core"

/**
 * A store with seams. It changes nothing of the store below it; a test sees each operation begin and end, and holds one at either of two
 * points: `before` it reaches the engine, or `after` the engine has done it durably and before the caller hears of it. From there it lets
 * the operation go on (`pass`), fails it, or ends the whole process as far as the store is concerned (`die`): the two points are what
 * makes an unknown outcome, since the caller of a failed operation cannot tell them apart.
 */
export const storeOps = [
  "claim",
  "commit",
  "check",
  "pull",
  "install",
  "stage",
  "confirm",
  "learn",
  "load",
  "peek",
  "compact",
  "list",
  "due",
  "peers",
  "rememberPeer",
  "revive",
  "forgotten",
  "forget",
] as const
export type StoreOp = (typeof storeOps)[number]

export type StorePoint = "before" | "after"

export interface StoreStep {
  readonly op: StoreOp
  /** Undefined for operations on no actor. */
  readonly actor: string | undefined
  readonly args: readonly unknown[]
}

export interface StoreMatch {
  readonly op: StoreOp | readonly StoreOp[]
  /** Absent: any. */
  readonly actor?: string
  readonly at: StorePoint
  /** Absent: the next one only. */
  readonly every?: boolean
}

/** Operations that are caught at a point. `reached` resolves with the first one. */
export interface StoreHold {
  readonly reached: Promise<StoreStep>
  /** Caught so far. */
  readonly caught: readonly StoreStep[]
  /** Lets what is caught go on, and catches nothing more. */
  pass(): void
  /** Rejects what is caught, and catches nothing more. The engine has executed it if it was caught `after`. */
  fail(error: unknown): void
}

export interface WatchedStore extends Store {
  /** Every operation in the order in which it was called. */
  readonly steps: readonly StoreStep[]
  /** Called so far, of this kind and actor. */
  count(op: StoreOp, actor?: string): number
  /** Journal entries of each commit of this actor so far, oldest first: how many turns shared a write. */
  writes(actor: string): readonly number[]
  hold(match: StoreMatch): StoreHold
  /** Resolves with the next such operation as it is called. */
  begun(op: StoreOp, actor?: string): Promise<StoreStep>
  /** Resolves when no operation is under way. */
  idle(): Promise<void>
  /** The process is gone: nothing reaches the engine from now on, nothing that is under way is answered but by a rejection. */
  die(): void
  /** Resolves when the store is told to close. */
  readonly closing: Promise<void>
  /** The store below. */
  readonly inner: Store
}

interface Held extends StoreHold {
  readonly match: StoreMatch
  take(step: StoreStep): Promise<void>
}

export function watchStore(inner: Store): WatchedStore {
  const steps: StoreStep[] = []
  const holds = new Set<Held>()
  const quiet = new Set<() => void>()
  const watchers = new Set<(step: StoreStep) => void>()
  let underWay = 0
  const death = Promise.withResolvers<never>()
  death.promise.catch(() => undefined)
  const closing = Promise.withResolvers<void>()
  let dead = false

  const hold = (match: StoreMatch): Held => {
    const ops = [match.op].flat() as readonly StoreOp[]
    const reached = Promise.withResolvers<StoreStep>()
    const verdict = Promise.withResolvers<void>()
    verdict.promise.catch(() => undefined)
    const caught: StoreStep[] = []
    const held: Held = {
      match: { ...match, op: ops },
      reached: reached.promise,
      caught,
      take(step) {
        caught.push(step)
        reached.resolve(step)
        if (match.every !== true) holds.delete(held)
        return verdict.promise
      },
      pass() {
        holds.delete(held)
        verdict.resolve()
      },
      fail(error) {
        holds.delete(held)
        verdict.reject(error)
      },
    }
    holds.add(held)
    return held
  }

  const point = async (at: StorePoint, step: StoreStep): Promise<void> => {
    for (const held of holds) {
      const { match } = held
      if (match.at !== at || !match.op.includes(step.op)) continue
      if (match.actor !== undefined && match.actor !== step.actor) continue
      await Promise.race([held.take(step), death.promise])
      return
    }
  }

  const through = <T>(step: StoreStep, run: () => Promise<T>): Promise<T> => {
    if (dead) return Promise.reject(gone())
    steps.push(step)
    for (const watch of watchers) watch(step)
    underWay++
    const caughtBefore = [...holds].some(
      ({ match }) =>
        match.at === "before" &&
        match.op.includes(step.op) &&
        (match.actor === undefined || match.actor === step.actor),
    )
    // Not held: the engine sees the call at once, so that calls keep the order in which they were made.
    const done = caughtBefore ? point("before", step).then(() => (dead ? death.promise : run())) : run()
    return Promise.race([done.then((answer) => point("after", step).then(() => answer)), death.promise]).finally(() => {
      if (--underWay > 0) return
      for (const tell of quiet) tell()
      quiet.clear()
    })
  }
  const onActor =
    <A extends [actor: string, ...rest: unknown[]], T>(op: StoreOp, run: (...args: A) => Promise<T>) =>
    (...args: A): Promise<T> =>
      through({ op, actor: args[0], args }, () => run(...args))

  return {
    inner,
    steps,
    count: (op, actor) =>
      steps.filter((step) => step.op === op && (actor === undefined || step.actor === actor)).length,
    writes: (actor) =>
      steps
        .filter((step) => step.op === "commit" && step.actor === actor)
        .map(({ args }) => (args[2] as { entries: readonly unknown[] }).entries.length),
    hold,
    begun: (op, actor) =>
      new Promise((resolve) => {
        const watch = (step: StoreStep): void => {
          if (step.op !== op || (actor !== undefined && step.actor !== actor)) return
          watchers.delete(watch)
          resolve(step)
        }
        watchers.add(watch)
      }),
    idle: () => (underWay === 0 ? Promise.resolve() : new Promise((resolve) => quiet.add(resolve))),
    die() {
      dead = true
      death.reject(gone())
    },
    id: inner.id,
    durability: inner.durability,
    watermark: () => inner.watermark(),
    claim: onActor("claim", (...args) => inner.claim(...args)),
    commit: onActor("commit", (...args) => inner.commit(...args)),
    check: onActor("check", (...args) => inner.check(...args)),
    pull: onActor("pull", (...args) => inner.pull(...args)),
    install: onActor("install", (...args) => inner.install(...args)),
    stage: onActor("stage", (...args) => inner.stage(...args)),
    confirm: onActor("confirm", (...args) => inner.confirm(...args)),
    learn: onActor("learn", (...args) => inner.learn(...args)),
    load: onActor("load", (...args) => inner.load(...args)),
    peek: onActor("peek", (...args) => inner.peek(...args)),
    compact: onActor("compact", (...args) => inner.compact(...args)),
    list: (options) => through({ op: "list", actor: undefined, args: [options] }, () => inner.list(options)),
    due: (options) => through({ op: "due", actor: undefined, args: [options] }, () => inner.due(options)),
    peers: () => through({ op: "peers", actor: undefined, args: [] }, () => inner.peers()),
    rememberPeer: (...args) =>
      through({ op: "rememberPeer", actor: undefined, args }, () => inner.rememberPeer(...args)),
    revive: onActor("revive", (...args) => inner.revive(...args)),
    forgotten: () => through({ op: "forgotten", actor: undefined, args: [] }, () => inner.forgotten()),
    forget: (...args) => through({ op: "forget", actor: undefined, args }, () => inner.forget(...args)),
    closing: closing.promise,
    close: () => {
      closing.resolve()
      return inner.close()
    },
  }
}

function gone(): SojournError {
  return new SojournError("STORE_UNAVAILABLE", "this process has died", { outcome: "unknown" })
}
