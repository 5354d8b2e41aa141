import { applyPatches, codec, parseClientFrame, type Encoded, type Patch } from "@sojourn/protocol"
import { decodeChecked } from "../packages/core/src/checked-value.ts"
import { defaultLimits } from "../packages/core/src/limits.ts"
import { chunk, createMeshReader, encodeMessage } from "../packages/core/src/mesh-codec.ts"
import { createTickets } from "../packages/core/src/tickets.ts"
import { originAllowed } from "../packages/server/src/origin.ts"
import { primitives } from "./samples.ts"

/**
 * Inputs that a careless parser takes quadratic time over, at two sizes. Eight times the size may take 32 times as long: 8 is linear, 64
 * quadratic, and what is short is no matter either way. Medians, in a script alone: no test depends on time.
 */
export interface Growth {
  readonly name: string
  readonly ratio: number
  readonly ms: number
  readonly ok: boolean
}

const factor = 8
const ratioMax = 32
const shortMs = 20

type Family = readonly [name: string, size: number, make: (n: number) => () => unknown]

const tolerant = (work: () => unknown) => (): void => {
  try {
    work()
  } catch {
    // Its refusal is as much of its work as its answer.
  }
}

export function families(decode: (encoded: Encoded) => unknown): readonly Family[] {
  const setOf = (n: number): Encoded => {
    const items = Array.from({ length: n }, (_, i) => String(i))
    return {
      v: [items],
      m: { values: { 0: ["set"], ...Object.fromEntries(items.map((i) => [`0.${i}`, ["bigint"]])) }, v: 1 },
    }
  }
  return [
    ["frame: nested arrays", 12_000, (n) => tolerant(() => parseClientFrame(`{"t":${"[".repeat(n)}${"]".repeat(n)}}`))],
    ["frame: one key many times", 8_000, (n) => tolerant(() => parseClientFrame(`{${'"t":1,'.repeat(n)}"t":"ping"}`))],
    [
      "frame: many calls",
      120,
      (n) => {
        const calls = Array.from({ length: n }, (_, c) => ({ c: c + 1, a: "x", p: { v: [] } }))
        const text = JSON.stringify({ t: "attach", ch: 1, actor: ["a", "b"], sid: "", acked: 0, calls })
        return tolerant(() => parseClientFrame(text))
      },
    ],
    [
      "encoded: types inside a Set",
      2_000,
      (n) => {
        const encoded = setOf(n)
        return tolerant(() => decode(encoded))
      },
    ],
    [
      "encoded: types of many values",
      2_000,
      (n) => {
        const encoded = JSON.parse(
          JSON.stringify(codec.encode(Array.from({ length: n }, (_, i) => new Date(i)))),
        ) as Encoded
        return tolerant(() => decode(encoded))
      },
    ],
    [
      "encoded: a path of many steps",
      20_000,
      (n) => tolerant(() => decode({ v: [1], m: { values: { [".".repeat(n)]: ["Date"] }, v: 1 } })),
    ],
    [
      "encoded: a tree of many steps",
      400,
      (n) => {
        let tree: unknown = ["Date"]
        for (let i = 0; i < n; i++) tree = { a: tree }
        return tolerant(() => decode({ v: [1], m: { values: tree, v: 1 } }))
      },
    ],
    [
      "encoded: digits of a bigint",
      40_000,
      (n) => {
        const encoded = { v: ["9".repeat(n)], m: { values: { 0: ["bigint"] }, v: 1 } }
        return tolerant(() => decode(encoded))
      },
    ],
    [
      "patches: many into an array",
      2_000,
      (n) => {
        const patches = Array.from({ length: n }, (_, i): Patch => ({ op: "add", path: ["a", i], value: i }))
        return tolerant(() => applyPatches({ a: [] }, patches))
      },
    ],
    [
      "patches: many into a Set",
      1_000,
      (n) => {
        const patches = Array.from({ length: n }, (_, i): Patch => ({ op: "add", path: ["a", i], value: i }))
        return tolerant(() => applyPatches({ a: new Set() }, patches))
      },
    ],
    [
      "mesh: chunks of a byte",
      4_000,
      (n) => {
        const whole = encodeMessage({ t: "CHUNK", actor: "a", blob: "b", at: 0 }, new Uint8Array(n))
        const frames: Uint8Array[] = []
        for (let at = 1; at < whole.length;) {
          const cut = chunk(whole, 1, at, 10)
          frames.push(cut.frame)
          at = cut.next
        }
        return tolerant(() => {
          const reader = createMeshReader(defaultLimits)
          for (const frame of frames) reader.read(frame)
        })
      },
    ],
    [
      "ticket: dots",
      20_000,
      (n) => {
        const tickets = createTickets({
          secrets: ["a secret"],
          primitives,
          clock: { now: () => 0 },
          limits: defaultLimits,
        })
        return tolerant(() => tickets.verify(".".repeat(n)))
      },
    ],
    [
      "origin: a long host",
      4_000,
      (n) =>
        tolerant(() =>
          originAllowed(`http://${"a.".repeat(n)}localhost`, "pop", {
            origins: [],
            publicUrl: undefined,
            loopback: true,
          }),
        ),
    ],
  ]
}

function medianMs(work: () => unknown): number {
  const times = Array.from({ length: 7 }, () => {
    const began = performance.now()
    work()
    return performance.now() - began
  }).sort((a, b) => a - b)
  return times[3] ?? 0
}

export function measure([name, size, make]: Family): Growth {
  const small = make(size)
  const large = make(factor * size)
  for (let i = 0; i < 3; i++) small()
  const before = medianMs(small)
  const ms = medianMs(large)
  const ratio = ms / Math.max(before, 0.001)
  return { name, ratio, ms, ok: ms < shortMs || ratio <= ratioMax }
}

export function growth(decode: (encoded: Encoded) => unknown = decodeChecked): Growth[] {
  return families(decode).map(measure)
}
