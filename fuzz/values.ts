import type { Random } from "../packages/testkit/src/sim/random.ts"

/** Random values of every type that the codec carries. `state`: only what may lie in an actor's state. */
export function randomValue(r: Random, depth = 0): unknown {
  const kind = r.int(depth >= 4 ? 12 : 17)
  switch (kind) {
    case 0:
      return r.pick([null, true, false, undefined])
    case 1:
      return r.pick([0, -0, 1, -1, 0.1, NaN, Infinity, -Infinity, Number.MAX_SAFE_INTEGER, 5e-324])
    case 2:
      return r.int(1_000)
    case 3:
      return BigInt(r.int(1_000_000)) ** BigInt(r.int(9)) * (r.happens(0.5) ? 1n : -1n)
    case 4:
      return new Date(r.int(2_000_000_000) * 1_000)
    case 5:
      return randomTypedArray(r)
    case 6:
      return r.happens(0.5) ? new URL(`https://example.com/${r.int(99)}?a=b#c`) : /a.b\/[c-d]+/giu
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
      return randomText(r)
    case 12:
      return new Map(Array.from({ length: r.int(4) }, () => [randomKey(r, depth), randomValue(r, depth + 1)]))
    case 13:
      return new Set(Array.from({ length: r.int(4) }, () => randomValue(r, depth + 1)))
    case 14:
      return Array.from({ length: r.int(5) }, () => randomValue(r, depth + 1))
    default:
      return Object.fromEntries(Array.from({ length: r.int(5) }, () => [randomName(r), randomValue(r, depth + 1)]))
  }
}

function randomKey(r: Random, depth: number): unknown {
  return r.happens(0.7) ? randomText(r) : randomValue(r, depth + 2)
}

/** Names that a path of superjson must escape. */
function randomName(r: Random): string {
  return r.pick(["a", "b", "c", "a.b", "a\\", "\\.", ".", "", "0", "1", "v", "m", "length", "Привет", "a/b"])
}

function randomText(r: Random): string {
  return r.pick(["", "x", "plain", "line\nline", 'quo"te', "\\", "\u2028", "😀", "__proto__", "NaN", "-0", "/a/g"])
}

function randomTypedArray(r: Random): unknown {
  const numbers = Array.from({ length: r.int(5) }, () => r.int(200))
  const made = [
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
  ] as const
  return r.pick(made).from(numbers)
}
