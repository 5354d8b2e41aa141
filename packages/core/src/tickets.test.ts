import assert from "node:assert/strict"
import { createHmac, hkdfSync } from "node:crypto"
import { describe, test } from "node:test"
import { TICKET_PREFIX, ticketCharsMax, type TicketPayload } from "@sojourn/protocol"
import fc from "fast-check"
import { createSessionIds, expired } from "./session-ids.ts"
import { createTickets } from "./tickets.ts"

const compared: [string, string][] = []
const primitives = {
  hmac: (key: string, text: string) => createHmac("sha256", key).update(text).digest("base64url"),
  derive: (secret: string, use: string) => Buffer.from(hkdfSync("sha256", secret, "", use, 32)).toString("base64url"),
  equal(a: string, b: string) {
    compared.push([a, b])
    return a === b
  },
}
const limits = { clockSkewMsMax: 300_000 }
const day = 86_400_000

function tickets(now = 1_000_000, secrets: readonly string[] = ["first secret of mesh"]) {
  return createTickets({ secrets, primitives, clock: { now: () => now }, limits })
}
const payload: TicketPayload = {
  actor: "cart/алиса ❄ 100%",
  pop: "bos",
  epoch: 3,
  revision: 41,
  principal: "user-7",
  session: "r.0.m",
  exp: 2_000_000,
}

describe("tickets", () => {
  test("give back what was signed, and fit a WebSocket subprotocol name", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 100 }), fc.nat(), (actor, epoch) => {
        const text = tickets().sign({ ...payload, actor, epoch })
        assert.deepEqual(tickets().verify(text), { ...payload, actor, epoch })
        assert.match(TICKET_PREFIX + text, /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/)
      }),
    )
  })

  test("C22 forged, truncated, flipped and foreign ones verify as nothing, without a throw", () => {
    const text = tickets().sign(payload)
    assert.equal(tickets(undefined, ["another secret here"]).verify(text), undefined)
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 1, max: 127 }), (at, flip) => {
        const changed = String.fromCharCode(text.charCodeAt(at) ^ flip)
        assert.equal(tickets().verify(text.slice(0, at) + changed + text.slice(at + 1)), undefined)
        assert.equal(tickets().verify(text.slice(0, at)), undefined)
      }),
    )
    for (const odd of ["", ".", "..", "a.b.c", "x".repeat(ticketCharsMax + 1), undefined, 7, {}])
      assert.equal(tickets().verify(odd as string), undefined)
  })

  test("a well-signed text that is no payload verifies as nothing", () => {
    const [, id] = tickets().sign(payload).split(".") as [string, string]
    const key = primitives.derive("first secret of mesh", "sojourn ticket v1")
    for (const inner of ["[]", "7", "not json", '["a","b",-1,0,"p","s",9999999]', '["a","b",1.5,0,"p","s",9999999]']) {
      const packed = Buffer.from(inner).toString("base64url")
      assert.equal(tickets().verify(`${packed}.${id}.${primitives.hmac(key, `${packed}.${id}`)}`), undefined)
    }
  })

  test("expire, with clocks that differ by clockSkewMsMax still served", () => {
    const text = tickets().sign(payload)
    assert.ok(tickets(2_000_000 + 299_999).verify(text))
    assert.equal(tickets(2_000_000 + 300_000).verify(text), undefined)
  })

  test("verify under every secret while they rotate, and are signed with the first", () => {
    const old = tickets(0, ["old secret of the mesh"]).sign(payload)
    const both = tickets(0, ["new secret of the mesh", "old secret of the mesh"])
    assert.deepEqual(both.verify(old), payload)
    assert.ok(tickets(0, ["new secret of the mesh"]).verify(both.sign(payload)))
    assert.equal(tickets(0, ["new secret of the mesh"]).verify(old), undefined)
  })

  test("a ticket that would be longer than anyone looks at is none", () => {
    assert.equal(tickets().sign({ ...payload, principal: "p".repeat(3_000) }), "")
  })

  test("compare MACs in constant time", () => {
    compared.length = 0
    tickets().verify(tickets().sign(payload))
    assert.equal(compared.length, 1)
  })
})

describe("session ids", () => {
  let now = 1_700_000_000_000
  let last = 0
  const ids = (secrets: readonly string[] = ["first secret of mesh"]) =>
    createSessionIds({ secrets, primitives, clock: { now: () => now }, chance: { id: () => `r.${++last}` }, limits })

  test("are verified at any POP of the mesh for the principal that they were minted for, and nobody else", () => {
    const sid = ids().mint("alice")
    assert.deepEqual(ids().verify(sid, "alice"), { mintedAt: now })
    assert.equal(ids().verify(sid, "bob"), undefined)
    assert.equal(ids(["other secret of mesh"]).verify(sid, "alice"), undefined)
    assert.deepEqual(ids(["new secret of the mesh", "first secret of mesh"]).verify(sid, "alice"), { mintedAt: now })
    assert.notEqual(ids().mint("alice"), sid)
  })

  test("whose time, random part or MAC was changed verify as nothing, without a throw", () => {
    const sid = ids().mint("alice")
    const [random, time, mac] = sid.split(".") as [string, string, string]
    const later = (now + 1_000).toString(36)
    const earlier = (now - 1_000).toString(36)
    for (const odd of [
      `${random}.${later}.${mac}`,
      `${random}.${earlier}.${mac}`,
      `x${random}.${time}.${mac}`,
      `${random}.${time}.`,
      "",
      "..",
      "a.b.c",
    ])
      assert.equal(ids().verify(odd, "alice"), undefined)
    fc.assert(fc.property(fc.string(), (text) => ids().verify(text, "alice") === undefined))
    assert.equal(ids().verify("x".repeat(300), "alice"), undefined)
  })

  test("from the future by more than clocks differ are refused: their record could end before they do", () => {
    const sid = ids().mint("alice")
    now -= 300_000
    assert.ok(ids().verify(sid, "alice"))
    now -= 1
    assert.equal(ids().verify(sid, "alice"), undefined)
  })

  test("open no session once any POP's clock may have dropped the record", () => {
    assert.equal(expired(0, day - 300_001, day, 300_000), false)
    assert.equal(expired(0, day - 300_000, day, 300_000), true)
  })
})
