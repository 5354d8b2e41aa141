// What an app's own code does while the client tells it something, and what a refusal says of calls: found by a review that set out to break it.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { createClient } from "./client.ts"
import type { ClientOptions, SocketFactory } from "./types.ts"
import { FakeWorld } from "./testing/fake-world.ts"
import { ManualClock } from "./testing/manual-clock.ts"

interface App {
  readonly actors: {
    readonly list: {
      readonly state: () => { readonly list: readonly string[] }
      readonly actions: { push(c: unknown, value: string): number }
      readonly events: { pushed: { readonly payload?: string } }
    }
  }
}

function setUp(options: Partial<ClientOptions> = {}, world = new FakeWorld()) {
  const clock = new ManualClock()
  const client = createClient<App>({
    url: "ws://bos",
    clock,
    chance: { random: () => 0.5, id: () => "c1" },
    page: { hidden: () => false, watch: () => () => undefined },
    socket: world.factory,
    ...options,
  })
  const run = (): Promise<void> => world.run()
  return { world, clock, client, run, advance: (ms: number) => clock.advance(ms, run) }
}

/** How each ended, as soon as it has. */
function outcomes(promises: readonly Promise<unknown>[]): string[] {
  const ended = promises.map(() => "pending")
  for (const [i, promise] of promises.entries())
    promise.then(
      (value) => (ended[i] = `= ${String(value)}`),
      (error: SojournError) => (ended[i] = `${error.code} ${error.outcome}`),
    )
  return ended
}

const open = (world: FakeWorld): string[] => world.sockets.filter((s) => s.isOpen).map((s) => s.url.slice(5, 8))

void describe("a refused attach", () => {
  for (const code of ["SESSION_UNKNOWN", "FORBIDDEN"] as const)
    test(`${code}: a call that an earlier attach sent, and this one had no room for yet, is of unknown outcome and not made again`, async () => {
      const world = new FakeWorld()
      // A buffer as a browser's: it empties at the next turn of the event loop.
      const socket: SocketFactory = (url, protocols, reader) => {
        const port = world.factory(url, protocols, reader)
        let chars = 0
        return {
          ...port,
          send(data) {
            chars += data.length
            setImmediate(() => (chars -= data.length))
            port.send(data)
          },
          buffered: () => chars,
        }
      }
      const { client, run, advance } = setUp({ socket }, world)
      const list = client.list.get("a")
      await Promise.all([list.push("first"), run()])
      await advance(1_000)
      world.socket.held = true
      const calls = outcomes(Array.from({ length: 8 }, (_, i) => list.push(String(i) + "x".repeat(900_000))))
      await advance(200)
      if (code === "FORBIDDEN") world.refuseAttach = () => new SojournError("FORBIDDEN")
      else world.forgotten.add("anyone-1")
      world.socket.cut()
      await advance(5_000)
      const values = world.actor("list/a").applied.map((line) => line.replace(/^.*? push\((.).*$/, "$1"))
      assert.equal(new Set(values).size, values.length, values.join(" "))
      assert.deepEqual(new Set(calls), new Set([`${code} unknown`]))
      await client.close()
    })

  test("for ever is told when it has come about: what a listener then does holds", async () => {
    for (const verb of ["switchTo", "connect"] as const) {
      const { world, client, run, advance } = setUp()
      let told = 0
      client.on("error", () => {
        if (told++ === 0) client[verb]("ws://nyc")
      })
      const list = client.list.get("a")
      await Promise.all([list.push("1"), run()])
      world.socket.cut(4502)
      await advance(5_000)
      assert.equal(client.status, "connected", verb)
      assert.deepEqual(open(world), [verb === "switchTo" ? "nyc" : "bos"])
      await client.close()
    }
  })

  test("of the POP that it was to go to leaves it where it is, also after the next loss (C65)", async () => {
    const { world, client, run, advance } = setUp()
    const list = client.list.get("a")
    await Promise.all([list.push("1"), run()])
    world.stalled = true
    client.switchTo("ws://bad")
    await run()
    world.socket.cut(4502)
    await run()
    world.stalled = false
    world.sockets[0]?.cut(1006)
    const call = outcomes([list.push("2")])
    await advance(5_000)
    assert.deepEqual([client.status, call, open(world)], ["connected", ["= 2"], ["bos"]])
    await client.close()
  })
})

void describe("an app's own code", () => {
  test("that switches over when its token function fails leaves no socket behind", async () => {
    let fails = false
    const token = (): string => {
      if (!fails) return "ann"
      fails = false
      throw new Error("no token")
    }
    const { world, client, run, advance } = setUp({ token })
    client.on("error", () => {
      client.switchTo("ws://nyc")
    })
    await Promise.all([client.list.get("a").push("1"), run()])
    fails = true
    client.switchTo("ws://fra")
    await advance(5_000)
    assert.deepEqual(open(world), ["nyc"])
    const closed = client.close()
    await advance(5_000)
    await closed
    assert.deepEqual(open(world), [])
  })

  test("that listens anew while it is told is told the next time", async () => {
    const { world, client, run } = setUp()
    const list = client.list.get("a")
    let times = 0
    list.on("pushed", () => undefined)
    const listen = (): void => {
      const undo = list.on("pushed", () => {
        if (++times > 100) return
        undo()
        listen()
      })
    }
    listen()
    await run()
    world.commit(world.actor("list/a"), "x")
    await run()
    assert.equal(times, 1)
    await client.close()
  })

  test("that chooses tickets and throws, or chooses none, costs a hint", async () => {
    const choices = [
      () => {
        throw new Error("no ticket")
      },
      () => null as unknown as string,
    ]
    for (const ticketFor of choices) {
      const { client, advance } = setUp({ ticketFor, token: () => Promise.resolve("ann") })
      const call = outcomes([client.list.get("a").push("1")])
      await advance(1_000)
      assert.deepEqual(call, ["= 1"])
      await client.close()
    }
  })
})

void describe("handles", () => {
  test("that had to make room for others are given it again, and are the same", async () => {
    const { client, advance } = setUp({ limits: { actorsMax: 2 } })
    const handles = ["a", "b", "c"].map((key) => client.list.get(key))
    assert.deepEqual(
      ["a", "b", "c"].map((key) => client.list.get(key)),
      handles,
    )
    const calls = outcomes(handles.map((handle) => handle.push("x")))
    await advance(1_000)
    assert.deepEqual(calls, ["= 1", "= 1", "RATE_LIMITED not-executed"])
    client.list.get("a").close()
    const later = outcomes([handles[2]?.push("y") as Promise<number>])
    await advance(1_000)
    assert.deepEqual(later, ["= 1"])
    await client.close()
  })

  test("that were closed with an unanswered call make room as well", async () => {
    const { world, client, run, advance } = setUp({ limits: { actorsMax: 2 } })
    for (const key of ["a", "b"]) {
      const handle = client.list.get(key)
      await Promise.all([handle.push("1"), run()])
      world.socket.held = true
      handle.push("2").catch(() => undefined)
      await run()
      handle.close()
      world.socket.held = false
      await run()
    }
    const call = outcomes([client.list.get("c").push("1")])
    await advance(1_000)
    assert.deepEqual(call, ["= 1"])
    await client.close()
  })
})
