import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { defaultLimits, type Limits } from "./limits.ts"
import type { Blob, MeshMessage } from "./mesh-messages.ts"
import { primitives } from "./testing/alone.ts"
import { Transfers } from "./transfers.ts"

const actor = "cart/alice"

/** Two ends, and between them a list of what was said: nothing arrives but by the test's hand. */
class Ends {
  readonly said: { readonly to: string; readonly message: MeshMessage; readonly body: Uint8Array | undefined }[] = []
  readonly events: string[] = []
  readonly timers: { at: number; fn: () => void }[] = []
  now = 0
  kept: Uint8Array | undefined
  readonly source: Transfers
  readonly target: Transfers

  constructor(limits: Partial<Limits> = {}) {
    const make = (): Transfers =>
      new Transfers({
        limits: { ...defaultLimits, chunkBytes: 10, chunkWindowBytes: 30, ...limits },
        clock: {
          now: () => this.now,
          mono: () => this.now,
          after: (ms, fn) => {
            const timer = { at: this.now + ms, fn }
            this.timers.push(timer)
            return () => void this.timers.splice(this.timers.indexOf(timer), 1)
          },
        },
        primitives,
        events: ({ type }) => void this.events.push(type),
        room: () => true,
        send: (to, message, body) => this.said.push({ to, message, body: body && new Uint8Array(body) }) > 0,
        progressed: () => undefined,
        again: () => Promise.resolve(this.kept),
      })
    this.source = make()
    this.target = make()
  }

  /** Everything said so far, taken. */
  take(): typeof this.said {
    return this.said.splice(0)
  }

  deliver(said = this.take()): void {
    for (const { to, message, body } of said)
      if (message.t === "CHUNK") this.target.chunk(message.actor, message.blob, message.at, body ?? new Uint8Array(0))
      else if (message.t === "FETCH") this.source.fetch("nrt", message.actor, message.blob, message.missing)
      else assert.fail(`${message.t} to ${to}`)
  }

  wait(ms: number): void {
    this.now += ms
    for (const timer of this.timers.filter(({ at }) => at <= this.now)) {
      this.timers.splice(this.timers.indexOf(timer), 1)
      timer.fn()
    }
  }
}

function bytesOf(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255)
}

function begin(ends: Ends, bytes: Uint8Array): { blob: Blob; got: Uint8Array[] } {
  const blob = ends.source.blob(bytes)
  const got: Uint8Array[] = []
  ends.target.expect(actor, "bos", blob, (whole) => got.push(whole))
  ends.source.push(actor, "nrt", blob, bytes)
  return { blob, got }
}

describe("a large body in chunks", () => {
  // Found by the fuzzer: the whole was a RangeError, and what lay here had no bound.
  test("a chunk of another length than was announced is refused, although its hash is the announced one", () => {
    const ends = new Ends()
    const parts = [new Uint8Array(10), new Uint8Array(11), new Uint8Array(5)]
    const chunks = parts.map((part) => primitives.digest(part))
    const blob = { id: primitives.digest(`25 ${chunks.join(" ")}`), bytes: 25, size: 10, chunks }
    ends.target.expect(actor, "bos", blob, () => assert.fail("it is never whole"))
    parts.forEach((part, at) => ends.target.chunk(actor, blob.id, at, part))
    assert.deepEqual(ends.events, ["transfer.chunk-refused"])
    assert.equal(ends.target.complete(actor, blob.id), undefined)
    ends.target.chunk(actor, blob.id, 1, new Uint8Array(0))
    assert.equal(ends.events.length, 2)
  })

  for (const size of [1, 10, 11, 30, 31, 1_000])
    test(`${size} bytes arrive once and whole, a window at a time`, () => {
      const ends = new Ends()
      const bytes = bytesOf(size)
      const { got } = begin(ends, bytes)
      let most = 0
      for (let rounds = 0; ends.said.length > 0; rounds++) {
        assert.ok(rounds < 1_000)
        most = Math.max(most, ends.said.length)
        ends.deliver()
      }
      assert.deepEqual(got, [bytes])
      assert.ok(most <= 4, `${most} messages at once`)
    })

  test("chunks in reverse, twice, and after the end make the same bytes, once", () => {
    const ends = new Ends({ chunkWindowBytes: 1_000 })
    const bytes = bytesOf(95)
    const { got } = begin(ends, bytes)
    const said = ends.take()
    assert.equal(said.length, 10)
    ends.deliver([...said].reverse())
    ends.deliver(said)
    assert.deepEqual(got, [bytes])
    assert.deepEqual(ends.take(), [])
  })

  test("two POPs that ask for one actor's body in turn both get on, until the actor has gone", () => {
    const ends = new Ends()
    const bodies = { nrt: bytesOf(200), fra: bytesOf(150) }
    const got = { nrt: new Set<number>(), fra: new Set<number>() }
    const blobs = { nrt: ends.source.blob(bodies.nrt), fra: ends.source.blob(bodies.fra) }
    const take = (): void => {
      for (const { to, message } of ends.take()) if (message.t === "CHUNK") got[to as "nrt" | "fra"].add(message.at)
    }
    for (const to of ["nrt", "fra"] as const) ends.source.push(actor, to, blobs[to], bodies[to])
    take()
    for (let i = 3; i < 20; i++)
      for (const to of ["nrt", "fra"] as const) {
        if (i < blobs[to].chunks.length) ends.source.fetch(to, actor, blobs[to].id, [i])
        take()
      }
    assert.equal(got.nrt.size, 20)
    assert.equal(got.fra.size, 15)
    ends.source.sent(actor)
    for (const to of ["nrt", "fra"] as const) ends.source.fetch(to, actor, blobs[to].id, [0])
    assert.deepEqual(ends.take(), [])
  })

  test("announced again when it is complete, it is there at once", () => {
    const ends = new Ends({ chunkWindowBytes: 1_000 })
    const bytes = bytesOf(95)
    const { blob } = begin(ends, bytes)
    ends.deliver()
    const got: Uint8Array[] = []
    ends.target.expect(actor, "bos", blob, (whole) => got.push(whole))
    assert.deepEqual(got, [bytes])
    assert.deepEqual(ends.take(), [])
  })

  test("a chunk that was swapped for another, or damaged, is refused and asked for again", () => {
    const ends = new Ends({ chunkWindowBytes: 1_000 })
    const bytes = bytesOf(40)
    const { got } = begin(ends, bytes)
    const said = ends.take()
    const [a, b] = said
    assert.ok(a?.body && b?.body)
    ends.deliver([{ ...a, body: b.body }, { ...b, body: a.body }, ...said.slice(2)])
    const damaged = new Uint8Array(a.body)
    damaged[3] = (damaged[3] ?? 0) ^ 1
    ends.deliver([{ ...a, body: damaged }])
    assert.deepEqual(got, [])
    assert.equal(ends.events.filter((type) => type === "transfer.chunk-refused").length, 3)
    const asked = ends.take()
    assert.deepEqual(
      asked.map(({ message }) => message.t === "FETCH" && message.missing),
      [[0, 1]],
    )
    ends.deliver(asked)
    ends.deliver()
    assert.deepEqual(got, [bytes])
  })

  test("a transfer whose link broke goes on with what is missing when the link is back", () => {
    const ends = new Ends({ chunkWindowBytes: 1_000 })
    const bytes = bytesOf(100)
    const { got } = begin(ends, bytes)
    ends.deliver(ends.take().slice(0, 6))
    ends.target.linkUp("bos")
    const asked = ends.take()
    assert.deepEqual(
      asked.map(({ message }) => message.t === "FETCH" && message.missing),
      [[6, 7, 8, 9]],
    )
    ends.deliver(asked)
    ends.deliver()
    assert.deepEqual(got, [bytes])
  })

  test("a source that was restarted serves the rest from its store", async () => {
    const ends = new Ends({ chunkWindowBytes: 1_000 })
    const bytes = bytesOf(100)
    const { got } = begin(ends, bytes)
    ends.deliver(ends.take().slice(0, 6))
    ends.source.stop()
    ends.kept = bytes
    ends.target.linkUp("bos")
    ends.deliver()
    await Promise.resolve()
    await Promise.resolve()
    ends.deliver()
    assert.deepEqual(got, [bytes])
  })

  test("chunks go to the POP that the body is for, and to no other", async () => {
    const ends = new Ends()
    const { blob } = begin(ends, bytesOf(100))
    ends.take()
    ends.source.fetch("gru", actor, blob.id, [1])
    ends.source.fetch("nrt", actor, "another blob", [1])
    await Promise.resolve()
    assert.deepEqual(ends.take(), [])
  })

  test("an announcement that contradicts itself, or is too large, is refused", () => {
    const ends = new Ends({ meshMessageBytesMax: 90 })
    const blob = ends.source.blob(bytesOf(60))
    for (const wrong of [
      { ...blob, bytes: 61 },
      { ...blob, id: `${blob.id}x` },
      { ...blob, chunks: blob.chunks.slice(1) },
      ends.source.blob(bytesOf(91)),
    ])
      assert.throws(() => ends.target.expect(actor, "bos", wrong, () => assert.fail()), { code: "BAD_FRAME" })
  })

  test("what is on its way is bounded: what began first is forgotten first, and nothing without progress is kept for long", () => {
    const ends = new Ends({ stagedBytesMax: 100 })
    const a = ends.source.blob(bytesOf(60))
    const b = ends.source.blob(bytesOf(61))
    ends.target.expect("cart/a", "bos", a, () => assert.fail())
    ends.target.expect("cart/b", "bos", b, () => assert.fail())
    assert.deepEqual(ends.events, ["transfer.pushed-out"])
    for (let i = 0; i < 20; i++) ends.wait(1_000)
    assert.deepEqual(ends.events, ["transfer.pushed-out", "transfer.stalled"])
    assert.equal(ends.timers.length, 0)
  })
})
