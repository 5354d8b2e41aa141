import assert from "node:assert/strict"
import { describe, test } from "node:test"
import type { ServerFrame } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import type { CoreNode } from "./node.ts"
import { alone } from "./testing/alone.ts"

/** A bare client: frames that came, and a wait for the next of a kind. */
function connect(node: CoreNode<unknown>): {
  send: (frame: object) => void
  next: <T extends ServerFrame["t"]>(t: T) => Promise<Extract<ServerFrame, { t: T }>>
} {
  const came: ServerFrame[] = []
  let wake = (): void => undefined
  const reader = node.acceptClient(
    {
      send: (data) => {
        came.push(JSON.parse(data) as ServerFrame)
        wake()
      },
      buffered: () => 0,
      close: () => undefined,
    },
    { url: "/v1/connect", headers: {}, ip: "127.0.0.1" },
  )
  return {
    send: (frame) => {
      reader.message(JSON.stringify(frame))
    },
    async next(t) {
      for (;;) {
        const i = came.findIndex((frame) => frame.t === t)
        if (i >= 0) return came.splice(i, 1)[0] as never
        await new Promise<void>((resolve) => (wake = resolve))
      }
    },
  }
}

describe("a client that attaches again", () => {
  // Pins a defect: the running call was not counted as queued, so the same call was queued behind itself.
  test("while its call runs gets that call's one reply, and nothing is dropped (C49)", async () => {
    let runs = 0
    const begun = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const slow = actor({
      state: () => ({ n: 0 }),
      actions: {
        async wait(c) {
          runs++
          begun.resolve()
          await release.promise
          return ++c.state.n
        },
      },
    })
    const { node, events } = await alone(setup({ actors: { slow } }))
    const attach = (sid: string): object => ({
      ch: 1,
      actor: ["slow", "k"],
      sid,
      acked: 0,
      live: false,
      calls: [{ c: 1, a: "wait", p: { v: [] } }],
    })
    const first = connect(node)
    first.send({ t: "hello", client: "one", token: "ann" })
    const sid = (await first.next("welcome")).sessions[0] as string
    first.send({ t: "attach", ...attach(sid) })
    await begun.promise

    const second = connect(node)
    second.send({ t: "hello", client: "two", token: "ann", attach: [attach(sid)] })
    await second.next("attached")
    release.resolve()
    const reply = await second.next("reply")
    assert.deepEqual([reply.c, reply.ok], [1, { v: 1 }])
    second.send({ t: "call", ch: 1, c: 2, a: "wait", p: { v: [] } })
    assert.deepEqual((await second.next("reply")).ok, { v: 2 })
    assert.equal(runs, 2)
    assert.deepEqual(
      events.filter(({ type }) => type === "activation.dropped"),
      [],
    )
  })
})
