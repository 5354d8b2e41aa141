import assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { describe, test } from "node:test"
import type { WebSocket } from "ws"
import { socketPipe } from "./socket.ts"

/** A pipe whose writes to the system are told to `wrote`, each with the frames in it. */
function fixture(wrote: (frames: readonly string[]) => void): (frame: string) => void {
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
  const ws = { send: (frame: string) => socket.write(frame) } as unknown as WebSocket
  const pipe = socketPipe<string>(ws, socket)
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
})
