import assert from "node:assert/strict"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { describe, test } from "node:test"
import type { Store, StoreOpener } from "@sojourn/core"
import { WebSocket, WebSocketServer } from "ws"
import { createMoveStepper } from "./cluster-steps.ts"

const steps = createMoveStepper()

/** A message as a mesh link sends it: whole, or as the first chunk of one with a large body. */
function frame(head: object, kind: 2 | 3): Buffer {
  const json = Buffer.from(JSON.stringify(head))
  const at = kind === 2 ? 1 : 9
  const bytes = Buffer.alloc(at + 4 + json.length + 7)
  bytes[0] = kind
  bytes.writeUInt32BE(json.length, at)
  json.copy(bytes, at + 4)
  return bytes
}

async function line(): Promise<{ socket: WebSocket; heard: string[]; flushed: () => Promise<void>; end: () => void }> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  await once(server, "listening")
  const heard: string[] = []
  server.on("connection", (far) => {
    far.on("message", (data: Buffer) => heard.push(/"t":"(\w+)"/.exec(data.toString("latin1"))?.[1] ?? String(data)))
  })
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  await once(socket, "open")
  return {
    socket,
    heard,
    flushed: async () => {
      const pong = once(socket, "pong")
      socket.ping()
      await pong
    },
    end: () => {
      socket.terminate()
      server.close()
    },
  }
}

describe("steps of a move", () => {
  for (const kind of [2, 3] as const)
    test(`a message is held before it is sent, and what follows it on the line waits behind it (frames of kind ${kind})`, async () => {
      const { socket, heard, flushed, end } = await line()
      const hold = steps.watch({ actor: "a/x", step: "grant", point: "before" })
      socket.send(frame({ t: "GRANT", actor: "a/other" }, kind))
      socket.send(frame({ t: "GRANT", actor: "a/x" }, kind))
      socket.send(frame({ t: "CONFIRM", actor: "a/x" }, kind))
      assert.equal(await hold.met, true)
      await flushed()
      assert.deepEqual(heard, ["GRANT"])
      hold.go()
      await new Promise(setImmediate)
      await flushed()
      assert.deepEqual(heard, ["GRANT", "GRANT", "CONFIRM"])
      end()
    })

  test("a message is sent and what follows it is held after it", async () => {
    const { socket, heard, flushed, end } = await line()
    const hold = steps.watch({ actor: "a/x", step: "confirm", point: "after" })
    socket.send(frame({ t: "CONFIRM", actor: "a/x" }, 2))
    socket.send("text of a client")
    assert.equal(await hold.met, true)
    await flushed()
    assert.deepEqual(heard, ["CONFIRM"])
    hold.go()
    await new Promise(setImmediate)
    await flushed()
    assert.deepEqual(heard, ["CONFIRM", "text of a client"])
    end()
  })

  test("an operation of the store is held before it reaches the engine, or after it was done; other actors' go on", async () => {
    const done: string[] = []
    const inner = {
      install: (actor: string) => {
        done.push(actor)
        return Promise.resolve({ kind: "installed" })
      },
    }
    const opener = { kind: "memory", open: () => Promise.resolve(inner as unknown as Store) } as unknown as StoreOpener
    const store = await steps.storage(opener).open()
    const install = (actor: string): Promise<unknown> => (store.install as (actor: string) => Promise<unknown>)(actor)
    for (const [point, seen] of [
      ["before", []],
      ["after", ["a/x"]],
    ] as const) {
      done.length = 0
      const hold = steps.watch({ actor: "a/x", step: "install", point })
      const held = install("a/x")
      assert.equal(await hold.met, true)
      assert.deepEqual(done, seen)
      await install("a/y")
      hold.go()
      assert.deepEqual(await held, { kind: "installed" })
    }
  })

  test("a step that is given up is not met", async () => {
    const first = steps.watch({ actor: "a/x", step: "seal", point: "before" })
    const second = steps.watch({ actor: "a/x", step: "learn", point: "before" })
    assert.equal(await first.met, false)
    second.go()
    assert.equal(await second.met, false)
  })
})
