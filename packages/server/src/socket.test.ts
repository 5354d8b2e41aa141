import assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { describe, test } from "node:test"
import type { Pipe } from "@sojourn/core"
import type { WebSocket } from "ws"
import { socketPipe } from "./socket.ts"

/** Its writes to the system are told to `wrote`, each with the messages in it. */
function pipeOf(wrote: (messages: readonly string[]) => void): Pipe<string> {
  const socket = new Duplex({
    write(frame: Buffer, _encoding, done) {
      wrote([String(frame)])
      done()
    },
    writev(chunks, done) {
      wrote(chunks.map(({ chunk }) => String(chunk)))
      done()
    },
  })
  socket.on("error", () => undefined)
  const ws = {
    send: (message: string) => socket.write(message),
    get bufferedAmount() {
      return socket.writableLength
    },
  } as unknown as WebSocket
  return socketPipe<string>(ws, socket)
}

function fixture(wrote: (messages: readonly string[]) => void): (frame: string) => void {
  const pipe = pipeOf(wrote)
  return (frame) => {
    pipe.send(frame)
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

void describe("what is sent on a socket", () => {
  test("within one turn of the event loop goes to the system in one write", async () => {
    const writes: (readonly string[])[] = []
    const send = fixture((frames) => writes.push(frames))
    for (const frame of ["a", "b", "c"]) send(frame)
    assert.deepEqual(writes, [])
    await turn()
    send("d")
    await turn()
    assert.deepEqual(writes, [["a", "b", "c"], ["d"]])
  })

  test("goes in one message where the client takes that, and counts as waiting until then", async () => {
    const writes: (readonly string[])[] = []
    const pipe = pipeOf((messages) => writes.push(messages))
    pipe.send("welcome")
    pipe.batch?.(100)
    for (const frame of ["a", "b", "x".repeat(200), "c", "d"]) pipe.send(frame)
    assert.ok(pipe.buffered() > 200, String(pipe.buffered()))
    assert.deepEqual(writes, [])
    await turn()
    assert.deepEqual(writes, [["welcome", "a\nb", "x".repeat(200), "c\nd"]])
    assert.equal(pipe.buffered(), 0)
    pipe.send("e")
    assert.ok(pipe.buffered() > 0, "what is gathered waits as well")
    await turn()
    assert.deepEqual(writes.slice(1), [["e"]])
  })

  test("does not wait for what is sent on many others", async () => {
    const writes: string[] = []
    const sockets = Array.from({ length: 20 }, (_, i) => fixture((frames) => writes.push(`${i}: ${frames.join(" ")}`)))
    for (const [i, send] of sockets.entries()) {
      send("out")
      send("reply")
      assert.ok(i + 1 - writes.length <= 8, `${writes.length} of ${i + 1} have left`)
    }
    await turn()
    assert.deepEqual(
      writes,
      sockets.map((_, i) => `${i}: out reply`),
    )
  })

  test("takes two writes a turn at the most, however many are sent to in turns", async () => {
    const writes = Array.from({ length: 20 }, () => [] as (readonly string[])[])
    const sockets = writes.map((of) => fixture((frames) => of.push(frames)))
    const rounds = Array.from({ length: 50 }, (_, i) => String(i))
    for (const frame of rounds) for (const send of sockets) send(frame)
    await turn()
    for (const of of writes) {
      assert.deepEqual(of.flat(), rounds)
      assert.ok(of.length <= 2, `${of.length} writes`)
    }
  })

  test("leaves also where the socket of somebody else throws", async () => {
    const writes: string[] = []
    const broken = fixture(() => {
      throw new Error("broken")
    })
    const sockets = [0, 1].map((i) => fixture((frames) => writes.push(`${i}: ${frames.join(" ")}`)))
    broken("a")
    for (const send of sockets) send("b")
    await turn()
    for (const send of sockets) send("c")
    await turn()
    assert.deepEqual(writes, ["0: b", "1: b", "0: c", "1: c"])
  })
})
