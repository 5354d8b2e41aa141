import { ERRORS, SojournError, type ErrorCode } from "@sojourn/protocol"

/** What must not come of any input, found: the message says what, the runner adds the command that replays it. */
export class Finding extends Error {}

/** Code of the named error, or "value". */
export type Outcome = ErrorCode | "value"

/** Runs `work`: it ends in a value, or in a named error with one of these codes. Anything else is a finding. */
export function judged(codes: readonly ErrorCode[], work: () => unknown): { outcome: Outcome; value: unknown } {
  try {
    return { outcome: "value", value: work() }
  } catch (error) {
    return { outcome: namedOf(error, codes), value: undefined }
  }
}

export function namedOf(error: unknown, codes: readonly ErrorCode[]): ErrorCode {
  if (error instanceof Finding) throw error
  if (error instanceof SojournError && Object.hasOwn(ERRORS, error.code) && codes.includes(error.code))
    return error.code
  const said = error instanceof Error ? (error.stack ?? error.message) : String(error)
  throw new Finding(`not a named error of ${codes.join(", ")}: ${said.slice(0, 2_000)}`)
}

export function found(what: string): never {
  throw new Finding(what)
}

const shared: readonly object[] = [
  Object,
  Array,
  Function,
  Map,
  Set,
  Date,
  String,
  Number,
  Boolean,
  RegExp,
  Promise,
  Error,
  Uint8Array,
].flatMap((c) => [c, c.prototype as object])
const ownKeys = shared.map((one) => Reflect.ownKeys(one).length)
const prototypes = shared.map((one) => Object.getPrototypeOf(one) as unknown)

/** Nothing was added to what all objects share, and nothing of it has another prototype. */
export function assertUnpolluted(): void {
  for (const [i, one] of shared.entries()) {
    if (Reflect.ownKeys(one).length !== ownKeys[i])
      found(`a shared object has other keys than before: ${Reflect.ownKeys(one).map(String).join(", ")}`)
    if (Object.getPrototypeOf(one) !== prototypes[i]) found("a shared object has another prototype than before")
  }
  if ((Object.prototype as { polluted?: unknown }).polluted !== undefined) found("Object.prototype is polluted")
}

const genuine = new Set<unknown>([
  Object.prototype,
  Array.prototype,
  Map.prototype,
  Set.prototype,
  Date.prototype,
  RegExp.prototype,
  URL.prototype,
  Error.prototype,
  null,
  ...[
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
  ].map((c) => c.prototype as unknown),
])

/**
 * What was decoded has genuine prototypes and no `__proto__` of its own, and is no larger than what it came from: a few characters must
 * not become an array of four thousand million places. `ownKey`: `__proto__` may be a key, which is no prototype.
 */
export function assertGenuine(value: unknown, chars: number, ownKey = false): void {
  let size = 0
  const most = 256 + 16 * chars
  const seen = new Set<object>()
  const stack: unknown[] = [value]
  while (stack.length > 0) {
    const one = stack.pop()
    if (typeof one !== "object" || one === null || seen.has(one)) continue
    seen.add(one)
    if (!genuine.has(Object.getPrototypeOf(one))) found(`a decoded object has a prototype of its own making`)
    if (!ownKey && Object.hasOwn(one, "__proto__")) found("a decoded object has a key __proto__")
    size += ArrayBuffer.isView(one) ? one.byteLength : Array.isArray(one) ? one.length : 1
    if (size > most) found(`${chars} characters decode to a value of more than ${most} places`)
    if (ArrayBuffer.isView(one)) continue
    if (one instanceof Map) for (const [key, part] of one) stack.push(key, part)
    else if (one instanceof Set) for (const part of one) stack.push(part)
    else for (const part of Object.values(one)) stack.push(part)
  }
}
