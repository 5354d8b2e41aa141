import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError, codec, type Encoded, type ServerFrame } from "@sojourn/protocol"
import fc from "fast-check"
import { charsPerPlace, placesOf } from "./attach.ts"
import { encodeText } from "./encoded-text.ts"
import { defaultLimits } from "./limits.ts"
import {
  chunk,
  createMeshReader,
  encodeLinkFrame,
  encodeMessage,
  packBody,
  unpackBody,
  type MeshInput,
} from "./mesh-codec.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { createMeshWriter } from "./mesh-writer.ts"
import type { Body } from "./store.ts"

const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T, never>(model, { noNullPrototype: true }) as fc.Arbitrary<T>
const name = fc.stringMatching(/^[a-z]{1,8}$/)
const actor = fc.string({ minLength: 1, maxLength: 60, unit: "grapheme" })
const nonce = fc.string({ minLength: 1, maxLength: 30 })
const count = fc.nat()
const bytes = fc.uint8Array({ maxLength: 400 })
const body: fc.Arbitrary<Body> = record({
  snapshot: fc.option(bytes, { nil: undefined }),
  entries: fc.array(bytes, { maxLength: 6 }),
})
const err = fc.constant({ code: "NOT_SERVING", message: "no", retry: "later", outcome: "not-executed" } as const)
const call = fc
  .tuple(
    record({ c: fc.integer({ min: 1 }), a: name, p: record({ v: fc.array(count) }) }),
    fc.option(fc.array(actor, { minLength: 1, maxLength: 16 })),
  )
  .map(([body, chain]) => (chain ? { ...body, chain } : body))
const plain: fc.Arbitrary<MeshMessage> = fc.oneof(
  record({
    t: fc.constant("PULL" as const),
    actor,
    nonce,
    origin: name,
    epoch: count,
    hops: count,
    relay: fc.boolean(),
  }),
  record({
    t: fc.constant("MOVED" as const),
    actor,
    nonce,
    to: name,
    e: count,
    inTransit: fc.boolean(),
    hops: count,
  }),
  record({ t: fc.constant("NONE" as const), actor, nonce }),
  record({ t: fc.constant("REFUSED" as const), actor, nonce, err }),
  record({ t: fc.constantFrom("CONFIRM" as const, "HOMEUPD" as const, "CONFIRM_ACK" as const), actor, e: count }),
  record({
    t: fc.constant("FRAME" as const),
    relay: count,
    dir: fc.constant("in" as const),
    frame: record({ t: fc.constant("ack" as const), ch: count, c: count, r: count }),
  }),
  fc.tuple(count, count, call).map(([relay, ch, body]) => ({
    t: "FRAME" as const,
    relay,
    dir: "in" as const,
    frame: { t: "call" as const, ch, ...body },
  })),
  record({
    t: fc.constant("RELAY_OPEN" as const),
    relay: count,
    actor,
    principal: record({ id: name }),
    attach: record({
      ch: count,
      actor: fc.constant(["cart", "alice"] as const),
      sid: nonce,
      acked: count,
      live: fc.boolean(),
      calls: fc.array(call, { maxLength: 3 }),
    }),
  }),
)
interface Sample {
  message: MeshMessage
  body: Uint8Array | undefined
}
const sample: fc.Arbitrary<Sample> = fc.oneof(
  plain.map((message) => ({ message, body: undefined })),
  fc.tuple(body, actor, count).map(([it, of, e]) => {
    const packed = packBody(it)
    return {
      message: { t: "GRANT" as const, actor: of, e, v: e, h: "", hops: 0, sizes: packed.sizes },
      body: packed.bytes,
    }
  }),
)

function badFrame(error: unknown): boolean {
  return error instanceof SojournError && error.code === "BAD_FRAME"
}

function cut(whole: Uint8Array, stream: number, frameBytes: number): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let at = 1; at < whole.length;) {
    const { frame, next } = chunk(whole, stream, at, frameBytes)
    frames.push(frame)
    at = next
  }
  return frames
}

describe("the mesh codec", () => {
  // Found by the fuzzer: relaying such a frame to its client was a RangeError.
  test("a message or link frame that nests too deeply closes the link, whatever is in it", () => {
    const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
    const badFrame = { code: "BAD_FRAME" }
    const link = Buffer.concat([Uint8Array.of(1), Buffer.from(`{"t":"BEAT","at":1,"w":1,"x":${deep}}`)])
    assert.throws(() => createMeshReader(defaultLimits).read(link), badFrame)
    const head = Buffer.from(
      `{"t":"FRAME","relay":1,"dir":"out","frame":{"t":"attached","ch":1,"state":{"v":${deep}}}}`,
    )
    const length = Buffer.alloc(4)
    length.writeUInt32BE(head.length)
    const message = Buffer.concat([Uint8Array.of(2), length, head])
    assert.throws(() => createMeshReader(defaultLimits).read(message), badFrame)
  })

  test("gives back a body's parts as they were, a missing snapshot and empty entries included", () => {
    fc.assert(
      fc.property(body, (it) => {
        const packed = packBody(it)
        const back = unpackBody(packed.sizes, packed.bytes)
        assert.deepEqual(back, it)
      }),
    )
  })

  test("gives back every message, whole or in interleaved chunks of any size", () => {
    fc.assert(
      fc.property(
        fc.array(sample, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 10, max: 200 }),
        (samples, size) => {
          const reader = createMeshReader(defaultLimits)
          const queues = samples.map((s, i) => {
            const whole = encodeMessage(s.message, s.body)
            return i % 2 === 0 ? cut(whole, i + 1, size) : [whole]
          })
          const got: MeshInput[] = []
          for (let round = 0; queues.some((queue) => queue.length > 0); round++) {
            const frame = queues[round % queues.length]?.shift()
            const input = frame && reader.read(frame)
            if (input) got.push(input)
          }
          assert.equal(got.length, samples.length)
          for (const s of samples)
            assert.ok(
              got.some((input) => {
                try {
                  assert.deepEqual(input, { kind: "message", ...s })
                  return true
                } catch {
                  return false
                }
              }),
            )
        },
      ),
    )
  })

  test("a relayed output that is text already is the same on the link", () => {
    const event = { text: "a", at: new Date(5) }
    const message = (encode: (value: unknown) => Encoded): MeshMessage => {
      const frame: ServerFrame = { t: "out", ch: 1, r: 3, prev: 2, ev: [["said", encode(event)]] }
      return { t: "FRAME", relay: 7, dir: "out", frame }
    }
    assert.deepEqual(encodeMessage(message(encodeText)), encodeMessage(message(codec.encode)))
  })

  test("C69 answers truncated, flipped and random frames with a message or BAD_FRAME, never otherwise", () => {
    fc.assert(
      fc.property(
        sample,
        fc.integer({ min: 10, max: 200 }),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 7 })), { maxLength: 4 }),
        fc.nat(),
        fc.uint8Array({ maxLength: 64 }),
        (s, size, flips, keep, noise) => {
          const whole = encodeMessage(s.message, s.body)
          for (const frames of [[whole], cut(whole, 7, size), [noise]]) {
            const reader = createMeshReader(defaultLimits)
            for (const frame of frames) {
              const copy = frame.slice(0, flips.length === 0 ? keep % (frame.length + 1) : frame.length)
              for (const [at, bit] of flips) if (copy.length > 0) (copy[at % copy.length] as number) ^= 1 << bit
              try {
                reader.read(copy)
              } catch (error) {
                if (!badFrame(error)) throw error
              }
            }
          }
        },
      ),
      { numRuns: 400 },
    )
  })

  test("refuses a length over meshMessageBytesMax before anything is allocated for it", () => {
    const first = new Uint8Array(20)
    first[0] = 3
    new DataView(first.buffer).setUint32(1, 1)
    new DataView(first.buffer).setUint32(5, 0xffff_ffff)
    assert.throws(() => createMeshReader(defaultLimits).read(first), badFrame)
  })

  test("holds no more memory for a chunked message than twice what has come", () => {
    const limits = { ...defaultLimits, meshStreamsMax: 8 }
    const reader = createMeshReader(limits)
    const before = process.memoryUsage().arrayBuffers
    for (let stream = 1; stream <= 8; stream++) {
      const first = new Uint8Array(1_000)
      first[0] = 3
      new DataView(first.buffer).setUint32(1, stream)
      new DataView(first.buffer).setUint32(5, limits.meshMessageBytesMax)
      assert.equal(reader.read(first), undefined)
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000)
  })

  test("refuses more chunked messages at once than meshStreamsMax", () => {
    const reader = createMeshReader({ meshMessageBytesMax: 1_000, meshStreamsMax: 2 })
    const whole = encodeMessage({ t: "NONE", actor: "a".repeat(100), nonce: "n" })
    for (const stream of [1, 2]) reader.read(cut(whole, stream, 20)[0] as Uint8Array)
    assert.throws(() => reader.read(cut(whole, 3, 20)[0] as Uint8Array), badFrame)
  })

  test("ignores a message type of a later version and refuses a known one with a wrong field", () => {
    const reader = createMeshReader(defaultLimits)
    const odd = (json: object): Uint8Array => encodeMessage(json as MeshMessage)
    assert.equal(reader.read(odd({ t: "FROM_A_LATER_VERSION", actor: "cart/a" })), undefined)
    assert.throws(() => reader.read(odd({ t: "CONFIRM", actor: "cart/a", e: -1 })), badFrame)
    assert.throws(() => reader.read(odd({ t: "CONFIRM", actor: 7, e: 1 })), badFrame)
    assert.throws(() => reader.read(odd({ t: "FRAME", relay: 1, dir: "in", frame: { t: "call", ch: "x" } })), badFrame)
    assert.throws(
      () => reader.read(odd({ t: "GRANT", actor: "a/b", e: 1, v: 1, h: "", hops: 0, sizes: [5] })),
      badFrame,
    )
    const blob = { id: "x", bytes: 3, size: 0, chunks: ["y"] }
    assert.throws(() => reader.read(odd({ t: "PRECOPY", actor: "a/b", nonce: "n", e: 1, v: 1, blob })), badFrame)
    assert.throws(() => reader.read(odd({ t: "FETCH", actor: "a/b", blob: "x", missing: [-1] })), badFrame)
    assert.throws(() => reader.read(encodeMessage({ t: "CONFIRM", actor: "a/b", e: 1 }, new Uint8Array(3))), badFrame)
  })

  test("refuses a call whose chain is not of its form, in a frame and in an attach", () => {
    const reader = createMeshReader(defaultLimits)
    const read = (chain: unknown): unknown[] => {
      const call = { c: 1, a: "add", p: { v: [] }, chain }
      const attach = { ch: 0, actor: ["cart", "a"], sid: "s", acked: 0, live: false, calls: [call] }
      return [
        { t: "FRAME", relay: 1, dir: "in", frame: { t: "call", ch: 1, ...call } },
        { t: "RELAY_OPEN", relay: 1, actor: "cart/a", principal: { id: "server:bos" }, attach },
      ].map((message) => {
        try {
          const input = reader.read(encodeMessage(message as MeshMessage))
          return input?.kind === "message" && JSON.parse(JSON.stringify(input.message))
        } catch (error) {
          if (badFrame(error)) return "refused"
          throw error
        }
      })
    }
    const long = Array.from({ length: 16 }, (_, i) => `cart/${i}`)
    const both = read(long) as { frame?: unknown; attach?: { calls: unknown[] } }[]
    for (const got of [both[0]?.frame, both[1]?.attach?.calls[0]])
      assert.deepEqual((got as { chain?: unknown }).chain, long)
    const hostile = [
      [...long, "cart/16"],
      [],
      "cart/a",
      { length: 1, 0: "cart/a" },
      [7],
      [""],
      ["x".repeat(1_025)],
      [null],
      null,
      1,
      true,
    ]
    for (const chain of hostile) assert.deepEqual(read(chain), ["refused", "refused"], JSON.stringify(chain))
  })

  test("copies a grant's body out of the pipe's buffer", () => {
    const { sizes, bytes: packed } = packBody({ snapshot: new Uint8Array([1, 2, 3]), entries: [] })
    const frame = encodeMessage({ t: "GRANT", actor: "a/b", e: 1, v: 1, h: "", hops: 0, sizes }, packed)
    const input = createMeshReader(defaultLimits).read(frame)
    frame.fill(0)
    assert.ok(input?.kind === "message")
    assert.deepEqual(input.body, new Uint8Array([1, 2, 3]))
  })

  test("carries the link's own frames as JSON objects only", () => {
    const reader = createMeshReader(defaultLimits)
    assert.deepEqual(reader.read(encodeLinkFrame({ t: "BEAT" })), { kind: "link", json: { t: "BEAT" } })
    assert.throws(() => reader.read(encodeLinkFrame([])), badFrame)
  })
})

/** A pipe that takes one frame whenever the test says so. */
function slowPipe() {
  const waiting: { frame: Uint8Array; done: (() => void) | undefined }[] = []
  const reader = createMeshReader(defaultLimits)
  const got: MeshInput[] = []
  return {
    waiting,
    got,
    pipe: {
      send: (frame: Uint8Array, done?: () => void) => void waiting.push({ frame, done }),
      buffered: () => waiting.reduce((sum, { frame }) => sum + frame.length, 0),
    },
    take: (): boolean => {
      const next = waiting.shift()
      if (!next) return false
      const input = reader.read(next.frame)
      if (input) got.push(input)
      next.done?.()
      return true
    },
  }
}

function grant(actorId: string, size: number): [MeshMessage, Uint8Array] {
  const { sizes, bytes: packed } = packBody({ snapshot: new Uint8Array(size).fill(7), entries: [] })
  return [{ t: "GRANT", actor: actorId, e: 1, v: 1, h: "", hops: 0, sizes }, packed]
}
const names = (got: MeshInput[]): string[] =>
  got.map((input) =>
    input.kind === "link" ? "link" : "actor" in input.message ? input.message.actor : input.message.t,
  )
const frame = (ch: number, size = 0): MeshMessage => ({
  t: "FRAME",
  relay: 1,
  dir: "out",
  frame: { t: "answer", ch, q: 0, r: 0, ok: { v: "x".repeat(size) } },
})

describe("a mesh link's sending order", () => {
  test("a small message sent after one of 8 MiB arrives after at most one chunk of it", () => {
    const { pipe, got, take } = slowPipe()
    const writer = createMeshWriter(pipe, defaultLimits)
    assert.equal(writer.send(...grant("big", 8_388_608)), "queued")
    for (let i = 0; i < 10; i++) take()
    writer.send({ t: "CONFIRM", actor: "small", e: 1 })
    writer.send(frame(1))
    take()
    take()
    take()
    assert.deepEqual(names(got), ["small", "FRAME"])
    while (take());
    assert.deepEqual(names(got), ["small", "FRAME", "big"])
    const [, , big] = got
    assert.equal(big?.kind === "message" && big.body?.length, 8_388_608)
    assert.equal(writer.waiting(), 0)
  })

  test("a grant that fits one frame does not wait for a large one", () => {
    const { pipe, got, take } = slowPipe()
    const writer = createMeshWriter(pipe, defaultLimits)
    writer.send(...grant("big", 1_000_000))
    writer.send(...grant("small", 10_000))
    while (take());
    assert.deepEqual(names(got), ["small", "big"])
  })

  test("no more than one chunk is in the pipe at once, and large grants share the link", () => {
    const { pipe, got, take, waiting } = slowPipe()
    const writer = createMeshWriter(pipe, defaultLimits)
    for (const id of ["a", "b", "c"]) writer.send(...grant(id, id === "a" ? 3_000_000 : 300_000))
    for (;;) {
      assert.ok(waiting.length <= 1)
      if (!take()) break
    }
    assert.deepEqual(names(got), ["b", "c", "a"])
  })

  test("a reader accepts whatever number of large messages a writer interleaves", () => {
    const { pipe, got, take } = slowPipe()
    const writer = createMeshWriter(pipe, defaultLimits)
    for (let i = 0; i < 30; i++) writer.send(...grant(`g${i}`, 70_000 + ((i * 37) % 11) * 60_000))
    writer.send(frame(0, 500_000))
    while (take());
    assert.equal(got.length, 31)
  })

  test("frames of relayed sessions keep their order behind a large one, and bulk still gets through", () => {
    const { pipe, got, take } = slowPipe()
    const writer = createMeshWriter(pipe, defaultLimits)
    writer.send(...grant("big", 400_000))
    for (let ch = 0; ch < 40; ch++) writer.send(frame(ch, ch % 3 === 0 ? 300_000 : 10))
    while (take());
    const order = got.flatMap((input) =>
      input.kind === "message" && input.message.t === "FRAME" && "ch" in input.message.frame
        ? [input.message.frame.ch]
        : [],
    )
    assert.deepEqual(order, [...Array(40).keys()])
    assert.ok(names(got).indexOf("big") < 20, "bulk takes its turns")
  })

  test("a pipe that takes everything at once is not recursed into", () => {
    const limits = { ...defaultLimits, meshChunkBytes: 64 }
    let frames = 0
    const writer = createMeshWriter(
      {
        send: (_, done) => {
          frames++
          done?.()
        },
        buffered: () => 0,
      },
      limits,
    )
    assert.equal(writer.send(...grant("big", 4_000_000)), "queued")
    assert.ok(frames > 50_000)
  })

  test("says so when more than meshQueueBytesMax would wait, and when a message is too large", () => {
    const { pipe } = slowPipe()
    const writer = createMeshWriter(pipe, {
      ...defaultLimits,
      meshQueueBytesMax: 300_000,
      meshMessageBytesMax: 200_000,
    })
    assert.equal(writer.send(...grant("a", 250_000)), "too-large")
    assert.equal(writer.send(...grant("b", 150_000)), "queued")
    assert.equal(writer.send(...grant("c", 150_000)), "full")
    assert.ok(writer.waiting() <= 300_000)
  })
})

test("a long frame that was relayed counts for several where it waits, as it does at its gateway", () => {
  const reader = createMeshReader(defaultLimits)
  const counted = (chars: number): number => {
    const frame = { t: "query", ch: 1, q: 1, after: 0, n: "look", p: { v: ["x".repeat(chars)] } } as const
    const input = reader.read(encodeMessage({ t: "FRAME", relay: 1, dir: "in", frame }))
    assert.ok(input?.kind === "message" && input.message.t === "FRAME")
    return placesOf(input.message.frame)
  }
  assert.deepEqual([counted(10), counted(3 * charsPerPlace)], [1, 4])
})
