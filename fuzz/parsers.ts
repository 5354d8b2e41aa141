import {
  applyPatches,
  codec,
  frameLimits,
  framesIn,
  parseClientFrame,
  type Encoded,
  type ErrorCode,
  type Patch,
  type TicketPayload,
} from "@sojourn/protocol"
import { create } from "mutative"
import assert from "node:assert/strict"
import { LiveState } from "../packages/client/src/live-state.ts"
import { actorKey, addressId, homeOf, parseAddress } from "../packages/core/src/address.ts"
import { defaultLimits } from "../packages/core/src/limits.ts"
import { createSessionIds } from "../packages/core/src/session-ids.ts"
import { createTickets } from "../packages/core/src/tickets.ts"
import type { Random } from "../packages/testkit/src/sim/random.ts"
import { bentJson, bentText, hostileJson, sharpKeys } from "./hostile.ts"
import { assertGenuine, found, judged } from "./oracle.ts"
import { primitives, validFrame } from "./samples.ts"
import type { Target } from "./target.ts"
import { randomValue } from "./values.ts"

/** What a client says, and the codecs of what it sends and gets. */

const badFrame: readonly ErrorCode[] = ["BAD_FRAME"]

export const clientFrame: Target = {
  name: "client-frame",
  share: 16,
  open: () => ({
    run(r, count) {
      const frame = validFrame(r)
      const kind = r.int(10)
      if (kind === 0) {
        assert.deepEqual(parseClientFrame(JSON.stringify(frame)), frame)
        return count("value")
      }
      const source = kind === 1 ? bentText(r, JSON.stringify(frame)) : kind === 2 ? hostileJson(r) : bentJson(r, frame)
      const { outcome, value } = judged(badFrame, () => parseClientFrame(source))
      if (typeof value === "object" && value !== null)
        for (const key of Object.keys(value)) if (key === "__proto__") found("a frame with a key __proto__")
      count(outcome === "value" && value === undefined ? "ignored" : outcome)
    },
  }),
}

/** A message of one frame or several, apart: each is what it was, or all are refused. */
export const clientMessage: Target = {
  name: "client-message",
  share: 5,
  open: () => ({
    run(r, count) {
      const sources = Array.from({ length: 1 + r.int(r.happens(0.05) ? 1_500 : 6) }, () =>
        r.happens(0.1) ? "" : r.happens(0.02) ? "x".repeat(r.int(100_000)) : JSON.stringify(validFrame(r)),
      )
      const source = r.happens(0.2) ? bentText(r, sources.join("\n")) : sources.join("\n")
      const { outcome, value } = judged(badFrame, () => framesIn(source))
      const several = source.includes("\n")
      const { batchCharsMax, batchFramesMax } = frameLimits
      const tooMany = several && (source.length > batchCharsMax || source.split("\n").length > batchFramesMax)
      if ((outcome !== "value") !== tooMany) found(`${outcome} for ${source.length} characters`)
      if (Array.isArray(value) && value.join("\n") !== source) found("frames that are not the message's")
      count(outcome)
    },
  }),
}

/** Encoded values as a client may send them, and the same of an honest one: decode(encode(x)) is x, also through JSON. */
export function encodedTarget(decode: (encoded: Encoded) => unknown): Target {
  return {
    name: "encoded",
    share: 20,
    open: () => ({
      run(r, count) {
        const value = randomValue(r)
        const encoded = codec.encode(value)
        if (r.happens(0.2)) {
          const wire = JSON.parse(JSON.stringify(encoded)) as Encoded
          assert.deepEqual(decode(wire), value)
          return count("round trip")
        }
        const source = r.happens(0.4) ? abusedJson(r) : bentJson(r, encoded)
        let given: unknown
        try {
          given = JSON.parse(source)
        } catch {
          return count("no JSON")
        }
        // What `parseClientFrame` lets through.
        if (typeof given !== "object" || given === null || !("v" in given)) return count("no encoded value")
        const result = judged(["BAD_INPUT"], () => decode(given))
        assertGenuine(result.value, source.length)
        count(result.outcome)
      },
    }),
  }
}

const types: readonly unknown[] = [
  "undefined",
  "bigint",
  "Date",
  "Error",
  "regexp",
  "set",
  "map",
  "number",
  "URL",
  "__proto__",
  "constructor",
  ["typed-array", "Uint8Array"],
  ["typed-array", "Float64Array"],
  ["typed-array", "constructor"],
  ["typed-array", "toString"],
  ["class", "Date"],
  ["custom", "x"],
  ["symbol", "iterator"],
  [],
  null,
  7,
]

/** superjson's description of types, of values that it does not fit. */
export function abusedJson(r: Random): string {
  const value = r.pick<unknown>([
    [[1, 2, 3], { a: [[1, 2]] }, "x"],
    [1e9],
    ["9".repeat(300)],
    [
      [
        [0, [1]],
        [1, [2]],
      ],
    ],
    { a: { b: { c: [1, 2] } } },
    [null],
    "text",
    4e9,
  ])
  const path = (): string =>
    Array.from({ length: 1 + r.int(3) }, () =>
      r.pick(["0", "1", "a", "b", "c", "4294967294", "-1", "1e3", "length", "", "\\", "a\\.b", ...sharpKeys]),
    ).join(".")
  const tree = (depth: number): unknown => {
    const type = r.pick(types)
    if (depth > 2 || r.happens(0.4)) return [type]
    const children = Object.fromEntries(Array.from({ length: 1 + r.int(3) }, () => [path(), tree(depth + 1)]))
    return r.happens(0.5) ? children : [type, children]
  }
  const m = { values: r.happens(0.1) ? null : tree(0), ...(r.happens(0.8) ? { v: r.pick([1, 0, 2, "1", null]) } : {}) }
  return r.happens(0.3) ? bentJson(r, { v: value, m }, 1) : JSON.stringify({ v: value, m })
}

interface State {
  list: unknown[]
  map: Map<string, unknown>
  set: Set<unknown>
  fields: Record<string, unknown>
}

function changed(r: Random, state: State): [State, readonly Patch[]] {
  const [next, patches] = create(
    state,
    (draft) => {
      for (let i = r.int(4); i >= 0; i--) {
        const value = r.int(50)
        switch (r.int(7)) {
          case 0:
            draft.list.push(value, { deep: [value] })
            break
          case 1:
            draft.list.splice(r.int(draft.list.length + 1), r.int(3), value)
            break
          case 2:
            draft.map.set(String(r.int(5)), { value })
            break
          case 3:
            draft.map.delete(String(r.int(5)))
            break
          case 4:
            draft.set.add(value)
            break
          case 5:
            for (const one of draft.set) if (r.happens(0.4)) draft.set.delete(one)
            break
          default:
            draft.fields[r.pick(["a", "b", "c"])] = { list: [value] }
        }
      }
    },
    { enablePatches: true },
  )
  return [next, patches]
}

export const patchesTarget: Target = {
  name: "patches",
  share: 8,
  open: () => ({
    run(r, count) {
      let state: State = {
        list: [1, [2]],
        map: new Map([["0", { value: 1 }]]),
        set: new Set([1, 2, 3]),
        fields: { a: {} },
      }
      state = changed(r, state)[0]
      const [next, patches] = changed(r, state)
      const encoded = JSON.parse(JSON.stringify(codec.encode(patches))) as Encoded
      assert.deepEqual(applyPatches(state, codec.decode(encoded) as readonly Patch[]), next)
      count("round trip")
      const source = bentJson(r, patches)
      let given: unknown
      try {
        given = JSON.parse(source)
      } catch {
        return count("no JSON")
      }
      const before = JSON.stringify([state.list, state.fields, [...state.map], [...state.set]])
      const live = new LiveState(() => undefined)
      live.set(state, 0)
      // Where it throws the client has a gap, and asks for a snapshot.
      try {
        live.apply(given as readonly Patch[], 1)
        count("value")
      } catch {
        count("gap")
      }
      assertGenuine(live.value, before.length + source.length, true)
      assert.equal(JSON.stringify([state.list, state.fields, [...state.map], [...state.set]]), before)
    },
  }),
}

const clock = { now: () => 1_000_000 }
const secrets = ["a secret of sixteen", "an older one of sixteen"]

export const ticketTarget: Target = {
  name: "ticket",
  share: 6,
  open() {
    const tickets = createTickets({ secrets, primitives, clock, limits: defaultLimits })
    const foreign = createTickets({ secrets: ["somebody else's secret"], primitives, clock, limits: defaultLimits })
    return {
      run(r, count) {
        const payload: TicketPayload = {
          actor: `note/${r.int(99)}`,
          pop: "bos",
          epoch: r.int(9),
          revision: r.int(9),
          principal: r.pick(["ann", "é\u2028", "x".repeat(r.int(300))]),
          session: "s",
          exp: 2_000_000,
        }
        const text = tickets.sign(payload)
        assert.deepEqual(tickets.verify(text), payload)
        if (foreign.verify(text) !== undefined) found("another mesh's ticket verified")
        const bent = r.happens(0.1) ? hostileJson(r) : bentText(r, text)
        if (bent !== text && tickets.verify(bent) !== undefined) found("a ticket that nobody signed verified")
        count(bent === text ? "value" : "refused")
      },
    }
  },
}

export const sessionIdTarget: Target = {
  name: "session-id",
  share: 4,
  open() {
    let id = 0
    const chance = { id: () => `id${id++ % 100}` }
    const ids = createSessionIds({ secrets, primitives, clock, chance, limits: defaultLimits })
    return {
      run(r, count) {
        const sid = ids.mint("ann")
        assert.equal(ids.verify(sid, "ann")?.mintedAt, clock.now())
        if (ids.verify(sid, "bob") !== undefined) found("a session id verified for another principal")
        const bent = bentText(r, sid)
        if (bent !== sid && ids.verify(bent, "ann") !== undefined) found("a session id that nobody minted verified")
        count(bent === sid ? "value" : "refused")
      },
    }
  },
}

export const addressTarget: Target = {
  name: "address",
  share: 5,
  open() {
    const homes = ["bos", "fra", "nrt"]
    const pops = new Set(homes)
    return {
      run(r, count) {
        const name = r.happens(0.7) ? r.pick(["note", "cart", "a-b_c"]) : bentText(r, "note")
        const key = r.happens(0.3) ? r.pick(["alice", "a/b", "a~bos", "Привет"]) : bentText(r, "alice/x~bos")
        const { outcome, value } = judged(["UNKNOWN_ACTOR", "BAD_KEY"], () => addressId(name, key))
        if (outcome !== "value") return count(outcome)
        const id = value as string
        assert.deepEqual(parseAddress(id), { name, key })
        assert.equal(Buffer.from(actorKey(id)).toString(), id)
        const home = judged(["BAD_KEY"], () => homeOf(id, homes, pops))
        if (home.outcome === "value" && !pops.has(home.value as string))
          found(`the home ${String(home.value)} is no POP`)
        count(home.outcome)
      },
    }
  },
}
