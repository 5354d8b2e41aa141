import { closeCodeOf, nestsDeeper, SojournError } from "@sojourn/protocol"
import assert from "node:assert/strict"
import { defaultLimits } from "../packages/core/src/limits.ts"
import {
  chunk,
  createMeshReader,
  encodeLinkFrame,
  encodeMessage,
  type MeshInput,
} from "../packages/core/src/mesh-codec.ts"
import {
  greet,
  homesHash,
  listening,
  meshKeys,
  stepHandshake,
  type HandshakeSelf,
  type HandshakeState,
} from "../packages/core/src/mesh-handshake.ts"
import { createMeshLink, type MeshLink } from "../packages/core/src/mesh-link.ts"
import { parseMeshMessage } from "../packages/core/src/mesh-parse.ts"
import { Transfers } from "../packages/core/src/transfers.ts"
import type { Blob } from "../packages/core/src/mesh-messages.ts"
import type { Pipe } from "../packages/core/src/ports.ts"
import { VirtualClock } from "../packages/core/src/testing/virtual-clock.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentBytes, bentJson, hostileJson, randomBytes } from "./hostile.ts"
import { found, judged } from "./oracle.ts"
import { primitives, validMeshMessage } from "./samples.ts"
import type { Target } from "./target.ts"

/** What peers say to each other: bytes, messages, handshake, links, large bodies. */

const limits = defaultLimits

export const meshMessage: Target = {
  name: "mesh-message",
  share: 12,
  open: () => ({
    run(r, count) {
      const { message, body } = validMeshMessage(r)
      if (r.happens(0.1)) {
        assert.deepEqual(parseMeshMessage(JSON.parse(JSON.stringify(message))), message)
        return count("value")
      }
      const head = r.happens(0.1) ? hostileJson(r) : bentJson(r, message)
      const { outcome, value } = judged(["BAD_FRAME"], () => createMeshReader(limits).read(wholeFrame(head, body)))
      count(outcome === "value" && value === undefined ? "ignored" : outcome)
    },
  }),
}

/** A frame whose framing holds, whatever its head says. */
export function wholeFrame(head: string, body: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = Buffer.from(head)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([Uint8Array.of(2), length, bytes, body])
}

/** Frames of a link: several to a reader, whole and in chunks, some of them bent. */
export const meshFrames: Target = {
  name: "mesh-frames",
  share: 10,
  open: () => ({
    run(r, count) {
      const reader = createMeshReader(limits)
      let bent = false
      for (let i = 1 + r.int(4); i > 0; i--) {
        const { message, body } = validMeshMessage(r)
        const whole = encodeMessage(message, body)
        const frames = r.happens(0.6) ? [whole] : chunked(whole, r.int(5), 1 + r.int(60))
        for (const frame of frames) {
          const given = r.happens(0.35) ? bentBytes(r, frame) : frame
          bent ||= !Buffer.from(given).equals(frame)
          const { outcome, value } = judged(["BAD_FRAME"], () => reader.read(given))
          if (!bent && frame === frames.at(-1)) {
            const input = value as MeshInput | undefined
            if (input?.kind !== "message") found(`an honest ${message.t} was not read`)
            assert.deepEqual(input.message, JSON.parse(JSON.stringify(message)))
            if (body) assert.deepEqual(Buffer.from(input.body ?? []), Buffer.from(body))
          }
          count(outcome)
          // The link is closed.
          if (outcome !== "value") return
        }
      }
    },
  }),
}

function chunked(whole: Uint8Array, stream: number, frameBytes: number): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let at = 1; at < whole.length;) {
    const cut = chunk(whole, stream, at, frameBytes)
    frames.push(cut.frame)
    at = cut.next
  }
  return frames
}

const homes = ["bos", "fra"]
export const meshSecret = "the secret of this mesh"

export function handshakeSelf(pop: string, nonce: string, secret = meshSecret): HandshakeSelf {
  return {
    keys: meshKeys(secret, primitives),
    primitives,
    nonce,
    knows: (id) => homes.includes(id),
    regionOf: (id) => (homes.includes(id) ? `${id}-region` : undefined),
    identity: () => ({
      pop,
      node: `${pop}-1`,
      region: `${pop}-region`,
      homes: homesHash(homes, primitives),
      store: `${pop}-store`,
      // Whatever a bent beat said before, it has not gone back.
      watermark: Number.MAX_SAFE_INTEGER,
    }),
  }
}

/** A handshake between two sides where frames are bent on the way: nobody is taken for a peer on a frame that is not the one sent. */
export const meshHandshake: Target = {
  name: "mesh-handshake",
  share: 7,
  open: () => ({
    run(r, count) {
      const right = r.happens(0.8)
      const dialer = handshakeSelf("fra", `n${r.int(99)}`, right ? undefined : "another secret than the mesh's")
      const acceptor = handshakeSelf("bos", `m${r.int(99)}`)
      const first = greet(dialer, "bos")
      let states: { [side: string]: HandshakeState } = { fra: first.state, bos: listening }
      let frame: object | undefined = first.send
      let to = "bos"
      let honest = right
      for (let i = 0; i < 6 && frame; i++) {
        let given: unknown = JSON.parse(JSON.stringify(frame))
        if (r.happens(0.35)) {
          try {
            given = JSON.parse(r.happens(0.2) ? hostileJson(r) : bentJson(r, frame, 1))
          } catch {
            return count("no JSON")
          }
          if (typeof given !== "object" || given === null || Array.isArray(given)) return count("no link frame")
          // A field that nobody reads, or one given twice with its own value, changes nothing.
          honest &&= meaning(given) === meaning(frame)
        }
        const step = stepHandshake(
          states[to] ?? listening,
          given as Record<string, unknown>,
          to === "bos" ? acceptor : dialer,
        )
        states = { ...states, [to]: step.state }
        count(step.state.k === "refused" ? step.state.refusal.code : step.state.k)
        // READY proves nothing and is believed by a dialer that has proved its peer.
        if (!honest && step.state.k === "ready" && to === "bos")
          found("a peer was proved by frames that it did not send")
        if (step.state.k === "refused") return
        frame = step.send
        to = to === "bos" ? "fra" : "bos"
      }
    },
  }),
}

/** The fields that are under the MACs. */
function meaning(frame: object): string {
  const {
    t,
    version,
    to,
    nonce,
    mac,
    pop,
    node,
    region,
    homes: list,
    store,
    watermark,
    remembered,
  } = frame as Record<string, unknown>
  const { store: known, watermark: mark } = (remembered ?? {}) as Record<string, unknown>
  const read = [t, version, to, nonce, mac, pop, node, region, list, store, watermark, known, mark]
  return nestsDeeper(read) ? "too deep to be any" : JSON.stringify(read)
}

interface OpenLink {
  readonly link: MeshLink
  readonly sent: Uint8Array[]
  closed: readonly [number, string] | undefined
  ready: boolean
}

function openLink(pop: string, dial: string | undefined, clock: VirtualClock): OpenLink {
  const open: OpenLink = { link: undefined as unknown as MeshLink, sent: [], closed: undefined, ready: false }
  const link = createMeshLink({
    clock,
    limits,
    self: handshakeSelf(pop, `nonce of ${pop}`),
    dial,
    events(event) {
      if (event.type === "mesh.handler-failed") found(`the handler of a message threw: ${String(event["error"])}`)
    },
    watermark: () => 1,
    onReady: () => {
      open.ready = true
    },
    onRefused: () => undefined,
    onMessage: () => undefined,
    onWatermark: (w) => {
      if (!Number.isSafeInteger(w)) found(`a watermark ${String(w)}`)
    },
    onClosed: (code, reason) => {
      open.closed = [code, reason]
    },
  })
  const pipe: Pipe<Uint8Array> = {
    send: (data, done) => {
      open.sent.push(new Uint8Array(data))
      done?.()
    },
    buffered: () => 0,
    close: () => undefined,
  }
  Object.assign(open, { link })
  link.open(pipe)
  return open
}

/** A link before, in and after its handshake: it goes on, or it is closed with a code of the table. */
export const meshLink: Target = {
  name: "mesh-link",
  share: 7,
  open: () => ({
    run(r, count) {
      const clock = new VirtualClock()
      const acceptor = openLink("bos", undefined, clock)
      const dialer = openLink("fra", "bos", clock)
      const greetFirst = r.happens(0.7)
      for (let i = 0; greetFirst && i < 4 && !acceptor.ready; i++) {
        for (const frame of dialer.sent.splice(0)) acceptor.link.reader.message(frame)
        for (const frame of acceptor.sent.splice(0)) dialer.link.reader.message(frame)
      }
      if (greetFirst && !acceptor.ready) found("two honest sides did not agree")
      for (let i = 1 + r.int(6); i > 0 && !acceptor.closed; i--) {
        acceptor.link.reader.message(linkFrame(r))
        count(acceptor.closed ? closed(acceptor.closed) : "goes on")
      }
      if (!greetFirst && acceptor.ready) found("a link is ready without a handshake")
      acceptor.link.close("GOING_AWAY", "end")
      dialer.link.close("GOING_AWAY", "end")
    },
  }),
}

export function linkFrame(r: Random): Uint8Array {
  const beat = { t: r.pick(["BEAT", "ECHO"]), at: r.int(999), w: r.int(9) }
  switch (r.int(6)) {
    case 0:
      return randomBytes(r, r.int(60))
    case 1:
      return encodeLinkFrame(beat)
    case 2:
      return Buffer.concat([Uint8Array.of(1), Buffer.from(bentJson(r, beat))])
    case 3:
      return Buffer.concat([Uint8Array.of(1), Buffer.from(hostileJson(r))])
    default: {
      const { message, body } = validMeshMessage(r)
      const whole = encodeMessage(message, body)
      return r.happens(0.7) ? bentBytes(r, whole) : whole
    }
  }
}

function closed([code, reason]: readonly [number, string]): string {
  const name = closeCodeOf(code)
  if (name === undefined) found(`a link was closed with ${code} ${reason}, which is in no table`)
  return `closed ${name}`
}

/** Announced bodies and their chunks, some of them lies. What is handed over is what the announcement names, and memory stays bounded. */
export const transfersTarget: Target = {
  name: "transfers",
  share: 5,
  open: () => ({
    run(r, count) {
      const clock = new VirtualClock()
      const small = { ...limits, chunkBytes: 8, chunkWindowBytes: 32, stagedBytesMax: 256, meshMessageBytesMax: 512 }
      const transfers = new Transfers({
        clock,
        limits: small,
        primitives,
        events: () => undefined,
        send: () => true,
        room: () => true,
        progressed: () => undefined,
        again: () => Promise.resolve(undefined),
      })
      const bytes = randomBytes(r, r.int(60))
      const honest = transfers.blob(bytes)
      let blob: Blob = honest
      if (r.happens(0.5)) {
        const lied = lieAbout(r, honest, bytes)
        if (lied === undefined) return count("not of its form")
        blob = lied
      }
      let got: Uint8Array | undefined
      const { outcome } = judged(["BAD_FRAME"], () => {
        transfers.expect("a", "fra", blob, (whole) => (got = whole))
      })
      count(outcome)
      if (outcome !== "value") return
      for (let i = 0; i < blob.chunks.length + 3; i++) {
        const at = r.happens(0.8) ? i : r.int(99)
        const part = bytes.subarray(at * honest.size, (at + 1) * honest.size)
        const given = r.happens(0.2) ? bentBytes(r, part) : blob === honest ? part : partOf(blob, at)
        const result = judged([], () => transfers.chunk("a", blob.id, at, given)).outcome
        count(result)
      }
      if (got) {
        assert.equal(got.length, blob.bytes)
        if (blob === honest) assert.deepEqual(Buffer.from(got), bytes)
      }
      transfers.stop()
    },
  }),
}

/** The bytes behind the hashes of an announcement that lies about their lengths. */
const lies = new WeakMap<Blob, readonly Uint8Array[]>()
const partOf = (blob: Blob, at: number): Uint8Array => lies.get(blob)?.[at] ?? new Uint8Array(0)

/** Undefined: `parseMeshMessage` would not let it through. */
function lieAbout(r: Random, honest: Blob, bytes: Uint8Array): Blob | undefined {
  if (r.happens(0.4)) {
    const given = JSON.parse(JSON.stringify(honest)) as Record<string, unknown>
    const key = r.pick(["id", "bytes", "size", "chunks"])
    given[key] = r.pick<unknown>([0, 1, 7, 1e9, Number.MAX_SAFE_INTEGER, "x", [], ["x"], null, -1, 0.5])
    const message = { t: "PRECOPY", actor: "note/a", nonce: "n", e: 1, v: 1, blob: given }
    try {
      const read = parseMeshMessage(message)
      return read?.t === "PRECOPY" ? read.blob : undefined
    } catch (error) {
      if (error instanceof SojournError) return undefined
      throw error
    }
  }
  // True hashes of chunks that are not of the announced length, under a true name.
  const parts = honest.chunks.map((_, i) => randomBytes(r, r.pick([0, 1, 7, 8, 9, 200]) + i))
  const chunks = parts.map((part) => primitives.digest(part))
  const blob: Blob = { ...honest, chunks, id: primitives.digest(`${bytes.length} ${chunks.join(" ")}`) }
  lies.set(blob, parts)
  return blob
}
