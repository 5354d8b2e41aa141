import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { restState, step, type HandInput, type HandState, type HandView, type Pull } from "./handoff.ts"
import type { OwnershipRecord } from "./record.ts"

/**
 * Golden transcripts: one line an input, the effects it has, and the phase it leaves. A change of the protocol shows as a changed line.
 */
const base: HandView = {
  self: "T",
  home: "H",
  hopsMax: 8,
  belief: undefined,
  nonce: "n",
  known: (pop) => ["T", "S", "H", "U"].includes(pop),
  linked: () => true,
  needsWho: false,
  declines: () => false,
  precopies: () => false,
}

const want = { relay: false, session: "s1", ticket: undefined, hint: undefined }
const pulled: Pull = {
  origin: "U",
  nonce: "u1",
  session: "s2",
  epoch: 0,
  hops: 0,
  relay: false,
  via: undefined,
  have: undefined,
  version: 1,
}

function phaseText(s: HandState): string {
  const p = s.phase
  const where =
    p.at === "asking" ? `asking ${p.ask.pop}` : p.at === "resident" || p.at === "draining" ? `${p.at} ${p.e}` : p.at
  return [where, s.want ? "wanted" : "", s.parked.length > 0 ? `parked ${s.parked.length}` : ""]
    .filter(Boolean)
    .join(", ")
}

function run(inputs: HandInput[], view: Partial<HandView> = {}, from: HandState = restState): string[] {
  let state = from
  return inputs.map((input) => {
    const done = step(state, input, { ...base, ...view })
    state = done.state
    const effects = done.effects.map((e) => {
      if (e.type === "ask") return `ask ${e.ask.pop} by ${e.ask.by}${e.via ? ` via ${e.via}` : ""}`
      if (e.type === "forward")
        return `forward to ${e.to} epoch ${e.pull.epoch}${e.pull.via ? ` via ${e.pull.via}` : ""}`
      if (e.type === "tellMoved") return `tell ${e.pull.origin} MOVED ${e.to} ${e.e}${e.inTransit ? " in transit" : ""}`
      if (e.type === "confirm") return `confirm ${e.e} to ${e.to}`
      if (e.type === "install") return `install ${e.e}${e.activate ? " and activate" : ""}`
      if (e.type === "fail") return `fail ${e.code}`
      if (e.type === "relay") return `relay through ${e.to}`
      if (e.type === "believe") return `believe ${e.pop} ${e.epoch}`
      if (e.type === "announce") return `announce ${e.e}`
      return e.type
    })
    return `${input.type} → [${effects.join("; ")}] ${phaseText(state)}`
  })
}

const owned: OwnershipRecord = { k: "OWNED", e: 3, f: 1, v: 7, h: "x" }
const pointer = (to: string, e: number): OwnershipRecord => ({ k: "PTR", to, e })

describe("the hand-off's decisions", () => {
  test("a warm arrival by its ticket asks that POP alone, installs, confirms and tells home (C21)", () => {
    const ticket = { pop: "S", epoch: 3 }
    assert.deepEqual(
      run([
        { type: "need", want: { ...want, ticket } },
        { type: "record", record: undefined },
        { type: "grant", from: "S", e: 4 },
        { type: "installed", e: 4 },
      ]),
      [
        "need → [peek] opening, wanted",
        "record → [ask S by ticket] asking S, wanted",
        "grant → [install 4 and activate] installing, wanted",
        "installed → [confirm 4 to S; announce 4; admit] resident 4",
      ],
    )
  })

  test("an actor that cannot be written as it comes is not fetched again for who waited, and was told (C21)", () => {
    assert.deepEqual(
      run([
        { type: "need", want: { ...want, ticket: { pop: "S", epoch: 3 } } },
        { type: "record", record: undefined },
        { type: "grant", from: "S", e: 4 },
        { type: "dropped" },
        { type: "grant", from: "S", e: 4 },
      ]).slice(3),
      ["dropped → [] rest", "grant → [install 4] installing"],
    )
  })

  test("an actor that is here is claimed, also a new one at its home; elsewhere nothing is created", () => {
    const inputs: HandInput[] = [
      { type: "need", want },
      { type: "record", record: owned },
      { type: "claimed", e: 3 },
    ]
    assert.deepEqual(run(inputs), [
      "need → [peek] opening, wanted",
      "record → [claim] opening, wanted",
      "claimed → [admit; announce 3] resident 3",
    ])
    const fresh: HandInput[] = [
      { type: "need", want },
      { type: "record", record: undefined },
    ]
    assert.equal(run(fresh, { home: "T" })[1], "record → [claim] opening, wanted")
    assert.equal(run(fresh)[1], "record → [ask H by home] asking H, wanted")
  })

  test("the highest epoch of own pointer, belief and ticket is asked first; an unsigned hint only where there is none (C22)", () => {
    const asked = (
      ticket: number | undefined,
      own: number | undefined,
      belief: number | undefined,
      hint?: string,
    ): string =>
      run(
        [
          {
            type: "need",
            want: { ...want, ticket: ticket === undefined ? undefined : { pop: "S", epoch: ticket }, hint },
          },
          { type: "record", record: own === undefined ? undefined : pointer("U", own) },
        ],
        { belief: belief === undefined ? undefined : { pop: "H", epoch: belief } },
      )[1] ?? ""
    assert.match(asked(5, 4, 3), /ask S by ticket/)
    assert.match(asked(4, 5, 3), /ask U by pointer/)
    assert.match(asked(4, 5, 6), /ask H by pointer/)
    assert.match(asked(undefined, undefined, undefined, "S"), /ask S by hint/)
    assert.match(asked(undefined, undefined, undefined, "nowhere"), /ask H by home/)
    assert.match(asked(undefined, undefined, undefined, "T"), /ask H by home/)
  })

  test("an owner lets its last turn end before it seals, and only then grants", () => {
    const resident: HandState = { phase: { at: "resident", e: 3 }, want: undefined, parked: [] }
    assert.deepEqual(
      run(
        [{ type: "pull", pull: pulled }, { type: "drained" }, { type: "sealed", answer: { kind: "grant" } }],
        {},
        resident,
      ),
      ["pull → [drain] draining 3", "drained → [seal] sealing", "sealed → [grant] rest"],
    )
  })

  test("an owner whose other session calls declines: RELAY_ME, and it stays resident", () => {
    const resident: HandState = { phase: { at: "resident", e: 3 }, want: undefined, parked: [] }
    assert.deepEqual(run([{ type: "pull", pull: pulled }], { declines: () => true }, resident), [
      "pull → [tellRelay] resident 3",
    ])
  })

  test("a POP that only has a pointer forwards, never to an epoch at or below the asker's (C11)", () => {
    const asked = (epoch: number): string =>
      run([
        { type: "pull", pull: { ...pulled, epoch } },
        { type: "sealed", answer: { kind: "moved", to: "S", e: 5, inTransit: false } },
      ])[1] ?? ""
    assert.match(asked(4), /\[forward to S epoch 5\]/)
    assert.match(asked(5), /\[tell U MOVED S 5\]/)
    assert.match(asked(6), /\[tell U MOVED S 5\]/)
  })

  test("a PULL never travels past hopsMax, nor back to its origin", () => {
    const answer = { kind: "moved", to: "S", e: 5, inTransit: false } as const
    const far = run([
      { type: "pull", pull: { ...pulled, hops: 8 } },
      { type: "sealed", answer },
    ])[1]
    assert.match(far ?? "", /tell U MOVED S 5/)
    const back = run([
      { type: "pull", pull: { ...pulled, origin: "S" } },
      { type: "sealed", answer },
    ])[1]
    assert.match(back ?? "", /tell S MOVED S 5/)
  })

  test("whoever asks is not told that it has the actor itself: it may have crashed before the install that was heard of", () => {
    const asked = (answer: Extract<HandInput, { type: "pointed" }>["answer"]): string =>
      run(
        [
          { type: "pull", pull: pulled },
          { type: "sealed", answer },
        ],
        { belief: { pop: "U", epoch: 5 } },
      )[1] ?? ""
    assert.match(asked({ kind: "moved", to: "S", e: 3, inTransit: false }), /\[forward to S epoch 3\]/)
    assert.match(asked({ kind: "none" }), /\[tellNone\]/)
  })

  test("a grantee that has not installed yet fetches from the granter first, then serves the PULL that was forwarded to it", () => {
    assert.deepEqual(
      run([
        { type: "pull", pull: { ...pulled, epoch: 5, via: "S" } },
        { type: "sealed", answer: { kind: "moved", to: "S", e: 3, inTransit: false } },
        { type: "grant", from: "S", e: 5 },
        { type: "installed", e: 5 },
        { type: "sealed", answer: { kind: "grant" } },
      ]),
      [
        "pull → [seal] sealing",
        "sealed → [ask S by pointer] asking S, parked 1",
        "grant → [install 5] installing, parked 1",
        "installed → [confirm 5 to S; announce 5; seal] sealing",
        "sealed → [grant] rest",
      ],
    )
  })

  test("a PULL for what may not go there is declined without a seal, and the actor stays at rest", () => {
    assert.deepEqual(
      run([
        { type: "pull", pull: pulled },
        { type: "sealed", answer: { kind: "declined", e: 3 } },
      ]),
      ["pull → [seal] sealing", "sealed → [tellRelay] rest"],
    )
  })

  test("only a client brings an actor into being whose residency depends on who it is; others are told to relay to here", () => {
    const view = { self: "H", needsWho: true }
    const asked: HandInput = { type: "pull", pull: { ...pulled, relay: true } }
    const record = (of: OwnershipRecord | undefined): HandInput => ({ type: "record", record: of })
    const unused: OwnershipRecord = { k: "OWNED", e: 0, f: 1, v: 0, h: "" }
    const opened = "pull → [peek] opening, parked 1"
    assert.deepEqual(run([asked, record(undefined)], view), [opened, "record → [tellRelay] rest"])
    assert.deepEqual(run([asked, record(unused)], view), [opened, "record → [tellRelay] rest"])
    assert.deepEqual(run([asked, record({ ...unused, v: 1 })], view), [opened, "record → [claim] opening, parked 1"])
    assert.deepEqual(run([asked, record(undefined)], { self: "H" }), [opened, "record → [claim] opening, parked 1"])
    assert.deepEqual(run([{ type: "need", want }, record(undefined)], view), [
      "need → [peek] opening, wanted",
      "record → [claim] opening, wanted",
    ])
  })

  test("a source in transit forwards with itself as via, and sends its grant again", () => {
    assert.deepEqual(
      run([
        { type: "pull", pull: pulled },
        { type: "sealed", answer: { kind: "moved", to: "S", e: 4, inTransit: true } },
      ]),
      ["pull → [seal] sealing", "sealed → [regrant; forward to S epoch 4 via T] rest"],
    )
  })

  test("an unasked grant is installed without an activation, a repeated one is confirmed again", () => {
    assert.deepEqual(
      run([
        { type: "grant", from: "S", e: 4 },
        { type: "ignored", e: 4 },
      ]),
      ["grant → [install 4] installing", "ignored → [confirm 4 to S] rest"],
    )
    const resident: HandState = { phase: { at: "resident", e: 6 }, want: undefined, parked: [] }
    assert.deepEqual(run([{ type: "grant", from: "S", e: 4 }], {}, resident), ["grant → [confirm 4 to S] resident 6"])
  })

  test("MOVED without a higher epoch is no progress: home is asked once, then the search fails with a retryable error (C10, C23)", () => {
    const moved = (e: number): HandInput => ({
      type: "moved",
      nonce: "n",
      from: "S",
      to: "U",
      e,
      inTransit: false,
      hops: 0,
    })
    assert.deepEqual(
      run([
        { type: "need", want: { ...want, ticket: { pop: "S", epoch: 5 } } },
        { type: "record", record: undefined },
        moved(5),
        { type: "silence", nonce: "n" },
      ]),
      [
        "need → [peek] opening, wanted",
        "record → [ask S by ticket] asking S, wanted",
        "moved → [believe U 5; ask H by home] asking H, wanted",
        "silence → [fail POP_UNREACHABLE] rest",
      ],
    )
  })

  test("answers to questions that nobody waits for change nothing but beliefs (C10)", () => {
    assert.deepEqual(
      run([
        { type: "none", nonce: "old" },
        { type: "refused", nonce: "old", err: { code: "INTERNAL", message: "", retry: "never", outcome: "unknown" } },
        { type: "relayMe", nonce: "old", from: "S", e: 9, hops: 0 },
        { type: "silence", nonce: "old" },
        { type: "drained" },
        { type: "sealed", answer: { kind: "grant" } },
        { type: "installed", e: 9 },
      ]),
      [
        "none → [] rest",
        "refused → [] rest",
        "relayMe → [believe S 9] rest",
        "silence → [] rest",
        "drained → [] rest",
        "sealed → [] rest",
        "installed → [] rest",
      ],
    )
  })

  test("a PULL that comes while asking is answered from the store, so two POPs that ask each other do not wait for each other", () => {
    const asking = run([
      { type: "need", want: { ...want, ticket: { pop: "U", epoch: 5 } } },
      { type: "record", record: undefined },
      { type: "pull", pull: pulled },
    ])
    assert.equal(asking[2], "pull → [answer] asking U, wanted")
  })

  test("PULLs that come while the record is written wait, one for each POP, and are answered by what came of it", () => {
    const installing: HandState = {
      phase: { at: "installing", e: 4, from: "S", activate: true },
      want,
      parked: [],
    }
    assert.deepEqual(
      run(
        [
          { type: "pull", pull: pulled },
          { type: "pull", pull: pulled },
          { type: "installed", e: 4 },
        ],
        {},
        installing,
      ),
      [
        "pull → [] installing, wanted, parked 1",
        "pull → [] installing, wanted, parked 1",
        "installed → [confirm 4 to S; announce 4; admit; drain] draining 4",
      ],
    )
  })

  test("a store that fails while sealing leaves nothing decided: whoever waits is told, the record will tell (C16)", () => {
    const err = { code: "STORE_UNAVAILABLE", message: "", retry: "later", outcome: "unknown" } as const
    assert.deepEqual(
      run([
        { type: "pull", pull: pulled },
        { type: "failed", err },
      ]),
      ["pull → [seal] sealing", "failed → [fail STORE_UNAVAILABLE; tellRefused] rest"],
    )
  })
})
