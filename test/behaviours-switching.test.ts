// A client that goes from POP to POP makes its next connection before it breaks the last one: shown by the order of what it sends and hears.
import assert from "node:assert/strict"
import type { SocketFactory } from "@sojourn/client"
import { framesIn } from "@sojourn/protocol"
import { behaviour, within } from "./behaviours/world.ts"

/** What happened at the client, in order. `socket`: which one, numbered as they were opened. */
type Entry =
  | { readonly what: "made"; readonly id: string }
  | { readonly what: "sent" | "heard"; readonly socket: number; readonly text: string }
  | { readonly what: "opened" | "left" | "ended"; readonly socket: number }

/** The runtime's WebSocket, and an account of everything that passes. */
function accounted(log: Entry[]): SocketFactory {
  let opened = 0
  return (url, protocols, reader) => {
    const ws = new WebSocket(url, protocols)
    const socket = opened++
    ws.onopen = () => {
      log.push({ what: "opened", socket })
      reader.open()
    }
    ws.onmessage = (event: MessageEvent<string>) => {
      for (const text of framesIn(event.data)) log.push({ what: "heard", socket, text })
      reader.message(event.data)
    }
    ws.onclose = (event) => {
      log.push({ what: "ended", socket })
      reader.closed(event.code, event.reason)
    }
    ws.onerror = () => undefined
    return {
      send(text) {
        for (const frame of framesIn(text)) log.push({ what: "sent", socket, text: frame })
        ws.send(text)
      },
      buffered: () => ws.bufferedAmount,
      close(code, reason) {
        log.push({ what: "left", socket })
        ws.close(code, reason)
      },
    }
  }
}

behaviour(
  "C48 C55 C59 a client that goes between three POPs while it calls all the time leaves a POP only after it is attached at the next: no call waits for a connection, none is lost or run twice",
  { pops: [3] },
  async (world) => {
    const key = world.key()
    const log: Entry[] = []
    const alice = world.client("alice", world.here, { socket: accounted(log) })
    const ledger = alice.ledger.get(key)
    const statuses: string[] = []
    let connected = (): void => undefined
    alice.on("status", ({ to }) => {
      statuses.push(to)
      if (to === "connected") connected()
    })
    const heard: string[] = []
    const resumes: string[] = []
    ledger.on("added", ({ id }) => heard.push(id))
    ledger.onResume((how) => resumes.push(how))
    ledger.state.subscribe(() => undefined)
    await within(10_000, "alice is attached", ledger.ready())

    const made: string[] = []
    const answered: string[] = []
    let answers = (): void => undefined
    let over = false
    const call = async (): Promise<void> => {
      while (!over) {
        const id = `t${made.length}`
        made.push(id)
        log.push({ what: "made", id })
        await ledger.add(id)
        answered.push(id)
        answers()
      }
    }
    const callers = [call(), call(), call()]
    const switches = 18
    for (let i = 1; i <= switches; i++) {
      const there = new Promise<void>((resolve) => (connected = resolve))
      alice.switchTo(world.seats[i % 3]?.url as string)
      await within(10_000, `alice is welcomed for the ${i}th time`, there)
      const from = answered.length
      const more = new Promise<void>((resolve) => {
        answers = () => {
          if (answered.length >= from + 5) resolve()
        }
      })
      await within(10_000, `calls are answered after the ${i}th switch`, more)
    }
    over = true
    await within(20_000, "every call", Promise.all(callers))

    assert.deepEqual(await ledger.query.ids(), made, "each once, in the order of the calls")
    assert.deepEqual(answered, made)
    assert.deepEqual(heard, made, "each event once")
    assert.deepEqual(ledger.state.get()?.ids, made)
    assert.deepEqual([...new Set(resumes)], ["new", "replay"])
    assert.equal(alice.stats.gaps, 0)
    assert.deepEqual(statuses.slice(2), Array.from({ length: switches }, () => ["moving", "connected"]).flat())
    assert.equal(alice.stats.connects, 1 + switches)

    for (const id of made) {
      const at = log.findIndex((entry) => entry.what === "made" && entry.id === id)
      const then = log.slice(at + 1).find((entry) => entry.what !== "made")
      const first = log.slice(at + 1).find((entry) => entry.what === "sent" && entry.text.includes(`"${id}"`))
      const waited = log
        .slice(at + 1, log.indexOf(first as Entry))
        .filter(({ what }) => what !== "made" && what !== "sent")
      assert.deepEqual(waited, [], `${id} was made and waited; what came first was ${JSON.stringify(then)}`)
    }
    for (let socket = 1; socket <= switches; socket++) {
      const attached = log.findIndex(
        (entry) => entry.what === "heard" && entry.socket === socket && entry.text.startsWith('{"t":"attached"'),
      )
      const left = log.findIndex((entry) => entry.what === "left" && entry.socket === socket - 1)
      assert.ok(
        attached >= 0 && left > attached,
        `socket ${socket - 1} was left at ${left}, the next attached at ${attached}`,
      )
      const attaching = log.findIndex(
        (entry) => entry.what === "sent" && entry.socket === socket && entry.text.startsWith('{"t":"attach"'),
      )
      const late = log.slice(attaching).filter((entry) => entry.what === "sent" && entry.socket === socket - 1)
      assert.deepEqual(late, [], "nothing is sent on a socket that is being left")
    }
  },
)
