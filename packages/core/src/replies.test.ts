// What rides along with an entry, and what a client that cannot be told more is told before: found by a review that set out to break it.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { AttachBody, CallBody, ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { defaultLimits, type Limits } from "./limits.ts"
import { memoryDisk, memoryStore } from "./memory-store.ts"
import { bareHost } from "./testing/bare-host.ts"

const app = setup({
  actors: {
    big: actor({
      state: () => ({ n: 0, pad: "" }),
      actions: {
        read: (_c, chars: number) => "x".repeat(chars),
        write: (c) => ++c.state.n,
        grow(c, chars: number) {
          c.state.pad = "y".repeat(chars)
          return 1
        },
      },
      queries: { long: (_c, chars: number) => "x".repeat(chars) },
    }),
  },
})

/** A turn of the event loop: the store is memory, and the host waits for nothing else. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const call = (c: number, a: string, ...args: unknown[]): CallBody => ({ c, a, p: { v: args } })

function fixture(limits: Partial<Limits>) {
  const disk = memoryDisk("disk")
  const start = () => bareHost("bos", app, memoryStore({ disk }), { limits: { ...defaultLimits, ...limits } })
  let host = start()
  return {
    async attach(calls: readonly CallBody[], more: Partial<AttachBody> = {}) {
      const told: ServerFrame[] = []
      host.attach({
        actor: "big/k",
        who: { id: "ann" },
        mintedAt: 1_700_000_000_000,
        body: { ch: 1, actor: ["big", "k"], sid: "s1", acked: 0, live: false, calls, ...more },
        ticket: undefined,
        hint: undefined,
        stay: false,
        localOnly: false,
        out: (frame) => told.push(frame),
        ended: () => undefined,
      })
      await turn()
      return told.flatMap((frame) =>
        frame.t === "reply" || frame.t === "answer"
          ? [[frame.t === "reply" ? frame.c : frame.q, frame.err?.code ?? String(frame.ok?.v).slice(0, 5)]]
          : frame.t === "detached"
            ? [[frame.t, frame.err.code]]
            : [],
      )
    },
    restart() {
      host = start()
    },
  }
}

void describe("replies", () => {
  test("of calls that changed nothing do not make the next that does too large", async () => {
    const { attach } = fixture({ outputCharsMax: 1_000 })
    const calls = [1, 2, 3].map((c) => call(c, "read", 700))
    assert.deepEqual(await attach([...calls, call(4, "write")]), [
      [1, "xxxxx"],
      [2, "xxxxx"],
      [3, "xxxxx"],
      [4, "1"],
    ])
  })

  test("that ride along with a refusal are there after a restart", async () => {
    const { attach, restart } = fixture({ outputCharsMax: 1_000 })
    const calls = [call(1, "read", 5), call(2, "read", 6), call(3, "grow", 2_000), call(4, "write")]
    const told = [
      [1, "xxxxx"],
      [2, "xxxxx"],
      [3, "REPLY_TOO_LARGE"],
      [4, "1"],
    ]
    assert.deepEqual(await attach(calls), told)
    restart()
    assert.deepEqual(await attach(calls), told)
  })

  test("and answers that are too large are refused, also where nothing was changed", async () => {
    const { attach } = fixture({ outputCharsMax: 1_000 })
    const queries = [{ q: 1, after: 0, n: "long", p: { v: [2_000] } }]
    assert.deepEqual(await attach([call(1, "read", 2_000), call(2, "write")], { queries }), [
      [1, "REPLY_TOO_LARGE"],
      [2, "1"],
      [1, "REPLY_TOO_LARGE"],
    ])
  })

  test("that there are leave before the attach of a session with too many unacknowledged ones is ended", async () => {
    const { attach } = fixture({ repliesPerSessionMax: 4 })
    const calls = Array.from({ length: 12 }, (_, i) => call(i + 1, "write"))
    const replies = (from: number, to: number) => calls.slice(from, to).map(({ c }) => [c, String(c)])
    assert.deepEqual(await attach(calls), [...replies(0, 4), ["detached", "CALL_ORDER"]])
    assert.deepEqual(await attach(calls.slice(4), { acked: 4 }), [...replies(4, 8), ["detached", "CALL_ORDER"]])
    assert.deepEqual(await attach(calls.slice(8), { acked: 8 }), replies(8, 12))
  })
})
