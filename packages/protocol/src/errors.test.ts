import assert from "node:assert/strict"
import { test } from "node:test"
import { ERRORS, SojournError, type ErrorCode } from "./index.ts"

test("an error raised without a message says what its code means, and every code has a meaning", () => {
  for (const [code, [retry, outcome, text]] of Object.entries(ERRORS)) {
    const error = new SojournError(code as ErrorCode)
    assert.deepEqual([error.message, error.retry, error.outcome], [text, retry, outcome])
    assert.match(text, /^[a-z].{10}/, code)
  }
})

test("an error crosses the wire whole, and nothing else of it does", () => {
  const sent = new SojournError("RATE_LIMITED", "slower", {
    outcome: "unknown",
    retryAfterMs: 5,
    ref: "r",
    data: { n: 1 },
    details: { secret: 1 },
    cause: new Error("secret"),
  })
  const wire = JSON.parse(JSON.stringify({ ...sent.toWire(), details: { forged: 1 }, cause: "forged" })) as never
  const got = SojournError.fromWire(wire)
  assert.deepEqual(got.toWire(), sent.toWire())
  assert.deepEqual([got.details, "cause" in got], [{}, false])
})

test("a code that is not known is read as INTERNAL, with what else was said", () => {
  for (const code of ["LATER_VERSIONS", "toString", "__proto__"]) {
    const error = SojournError.fromWire({ code, message: "new", retry: "later", outcome: "unknown" } as never)
    assert.deepEqual([error.code, error.message, error.retry, error.outcome], ["INTERNAL", "new", "later", "unknown"])
  }
})
