import assert from "node:assert/strict"
import { SojournError, type ClientFrame } from "@sojourn/protocol"
import { createClient } from "../client.ts"
import type { ClientOptions, Moved, Status } from "../types.ts"
import { FakeWorld } from "./fake-world.ts"
import { ManualClock } from "./manual-clock.ts"

interface ListState {
  readonly list: readonly string[]
}
export interface ListApp {
  readonly actors: {
    readonly list: {
      readonly state: () => ListState
      readonly actions: { push(c: unknown, value: string): number; refuse(c: unknown): void }
      readonly queries: { size(c: unknown): number }
      readonly events: { pushed: { readonly payload?: string } }
    }
  }
}

/** A client of a fake world, on a clock that is moved by hand. */
export function setUp(options: Partial<ClientOptions> = {}) {
  const world = new FakeWorld()
  const clock = new ManualClock()
  let hidden = false
  let look = (): void => {}
  let watched = 0
  const client = createClient<ListApp>({
    url: "ws://bos",
    clock,
    chance: { random: () => 0.5, id: () => "c1" },
    socket: world.factory,
    page: {
      hidden: () => hidden,
      watch: (changed) => {
        look = changed
        watched++
        return () => watched--
      },
    },
    ...options,
  })
  const statuses: Status[] = []
  const errors: SojournError[] = []
  const moves: Moved[] = []
  client.on("status", ({ to }) => statuses.push(to))
  client.on("error", (error) => errors.push(error))
  client.on("moved", (moved) => moves.push(moved))
  const run = (): Promise<void> => world.run()
  return {
    world,
    clock,
    client,
    statuses,
    errors,
    moves,
    run,
    advance: (ms: number) => clock.advance(ms, run),
    show(visible: boolean) {
      hidden = !visible
      look()
    },
    watched: () => watched,
    applied: (key = "a") => world.actor(`list/${key}`).applied.map((line) => line.replace(/^.*? /, "")),
    kinds: (socket = world.socket) => socket.frames.map((frame) => frame.t),
  }
}

/** How a promise ended, once `run` has delivered everything. */
export function watch(promise: Promise<unknown>): { how: () => string; error: () => SojournError } {
  let ended = "pending"
  let failure: unknown
  promise.then(
    (value) => (ended = `= ${String(value)}`),
    (error: unknown) => {
      failure = error
      ended = error instanceof SojournError ? `${error.code} ${error.outcome}` : String(error)
    },
  )
  return {
    how: () => ended,
    error: () => (failure instanceof SojournError ? failure : assert.fail(`ended ${ended}`)),
  }
}

/** The numbers of the calls in these frames. */
export const callsOf = (frames: readonly ClientFrame[]): number[] =>
  frames.flatMap((f) => (f.t === "call" ? [f.c] : f.t === "attach" ? (f.calls ?? []).map((call) => call.c) : []))
