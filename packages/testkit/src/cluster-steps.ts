import type { Store, StoreOpener } from "@sojourn/core"
import { WebSocket } from "ws"

/**
 * The steps of a move, as one POP's process takes them, for whoever wants to kill something at exactly one. A step that is watched for is
 * held when it is met: nothing follows it until it is let go. So whichever process is to die there, this one or another, dies at that step.
 *
 * It reads the heads of mesh frames by the layout in core's `mesh-codec.ts`, with none of its code, as they are given to the sockets.
 */
export const moveSteps = {
  precopy: { at: "source", message: "PRECOPY" },
  pull: { at: "target", message: "PULL" },
  seal: { at: "source", op: "pull" },
  grant: { at: "source", message: "GRANT" },
  install: { at: "target", op: "install" },
  confirm: { at: "target", message: "CONFIRM" },
  release: { at: "source", op: "confirm" },
  homeupd: { at: "target", message: "HOMEUPD" },
  learn: { at: "home", op: "learn" },
} as const satisfies Record<
  string,
  { readonly at: "source" | "target" | "home"; readonly message?: string; readonly op?: keyof Store }
>
export type MoveStep = keyof typeof moveSteps
export type StepPoint = "before" | "after"

export interface StepWatch {
  readonly actor: string
  readonly step: MoveStep
  readonly point: StepPoint
}

export interface StepHold {
  /** Resolves to true when the step was met, and is held; to false when it was let go before that. */
  readonly met: Promise<boolean>
  /** Lets it go on. Not met yet: it will not be. */
  go(): void
}

export interface MoveStepper {
  storage(inner: StoreOpener): StoreOpener
  /** One at a time: a watch that is open is given up for a new one. */
  watch(what: StepWatch): StepHold
}

interface Held extends StepHold {
  readonly what: StepWatch
  reached(): void
  readonly gone: Promise<void>
}

/** Once a process: it stands before every socket that `ws` makes in it. */
export function createMoveStepper(): MoveStepper {
  let open: Held | undefined
  const caught = (point: StepPoint, actor: unknown, key: "message" | "op", name: unknown): Held | undefined => {
    if (open === undefined || open.what.point !== point || open.what.actor !== actor) return undefined
    const step: { readonly message?: string; readonly op?: string } = moveSteps[open.what.step]
    if (step[key] !== name) return undefined
    const held = open
    open = undefined
    held.reached()
    return held
  }

  const inStore = (store: Store): Store =>
    new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== "function") return value
        const run = value.bind(target) as (...args: unknown[]) => unknown
        if (!Object.values(moveSteps).some((step) => "op" in step && step.op === name)) return run
        return async (...args: unknown[]) => {
          const before = caught("before", args[0], "op", name)
          // Not held: the engine sees the call at once, so that calls keep the order in which they were made.
          if (before) await before.gone
          const answer = await run(...args)
          const after = caught("after", args[0], "op", name)
          if (after) await after.gone
          return answer
        }
      },
    })

  standBefore((head, hold) => {
    const before = caught("before", head["actor"], "message", head["t"])
    if (before) return hold("before", before.gone)
    const after = caught("after", head["actor"], "message", head["t"])
    if (after) hold("after", after.gone)
  })

  return {
    storage: (inner) => ({ kind: inner.kind, open: async () => inStore(await inner.open()) }),
    watch(what) {
      open?.go()
      const met = Promise.withResolvers<boolean>()
      const gone = Promise.withResolvers<void>()
      const held: Held = {
        what,
        met: met.promise,
        reached: () => met.resolve(true),
        gone: gone.promise,
        go() {
          if (open === held) open = undefined
          met.resolve(false)
          gone.resolve()
        },
      }
      open = held
      return held
    },
  }
}

type Hold = (point: StepPoint, until: Promise<void>) => void

/** Every frame that this process gives to a socket passes here. What follows a held frame on its socket waits behind it. */
function standBefore(look: (head: Readonly<Record<string, unknown>>, hold: Hold) => void): void {
  const send = WebSocket.prototype.send as (this: WebSocket, ...args: unknown[]) => void
  const waiting = new WeakMap<WebSocket, unknown[][]>()
  WebSocket.prototype.send = function (this: WebSocket, ...args: unknown[]): void {
    const queue = waiting.get(this)
    if (queue) {
      queue.push(args)
      return
    }
    const head = headOf(args[0])
    let held: { readonly point: StepPoint; readonly until: Promise<void> } | undefined
    if (head) look(head, (point, until) => (held = { point, until }))
    if (held?.point !== "before") send.apply(this, args)
    if (held === undefined) return
    waiting.set(this, held.point === "before" ? [args] : [])
    void held.until.then(() => {
      const behind = waiting.get(this) ?? []
      waiting.delete(this)
      for (const one of behind) this.send(...(one as Parameters<WebSocket["send"]>))
    })
  } as WebSocket["send"]
}

const decoder = new TextDecoder()

/** The message that a frame is or begins; undefined for the middle of one, for what is the link's own, and for clients' frames. */
function headOf(frame: unknown): Readonly<Record<string, unknown>> | undefined {
  if (!(frame instanceof Uint8Array) || (frame[0] !== 2 && frame[0] !== 3)) return undefined
  const at = frame[0] === 2 ? 1 : 9
  const length = new DataView(frame.buffer, frame.byteOffset, frame.byteLength).getUint32(at)
  // The head of a message that was cut within it.
  if (frame.length < at + 4 + length) return undefined
  return JSON.parse(decoder.decode(frame.subarray(at + 4, at + 4 + length))) as Record<string, unknown>
}
