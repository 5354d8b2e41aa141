import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { defaultLimits, withLimits } from "./limits.ts"

describe("limits", () => {
  // Pins a defect: chunks of 1000.5 bytes were announced, and each announcement cost the link.
  test("what counts something is a whole number, what is a time may be any", () => {
    for (const name of ["chunkBytes", "mailboxMax", "framesPerSecondMax"] as const)
      assert.throws(() => withLimits({ [name]: 1_000.5 }), new RegExp(`limits\\.${name} must be a whole number`))
    assert.equal(withLimits({ followQuietMs: 0.5, resendMsMax: 5_000.5, meshDialMsMin: 0.1 }).followQuietMs, 0.5)
  })

  // Pins a defect: a body was sealed that no message could carry, and was nowhere from then on.
  test("a mesh message has room for whatever is to go in one, and for what it says beside that", () => {
    const { meshMessageBytesMax: max } = defaultLimits
    for (const [name, value] of [
      ["snapshotBytesMax", max],
      ["chunkBytes", max - 1_000],
      ["inlineBytesMax", max],
      ["outputCharsMax", max / 2],
      ["frameCharsMax", max / 2],
    ] as const)
      assert.throws(
        () => withLimits({ [name]: value }),
        new RegExp(`meshMessageBytesMax \\(${max}\\) must have room for limits\\.${name}`),
      )
  })

  // Pins a defect: every session was expired when it was minted, and nobody could attach anywhere.
  test("a session outlives what clocks may differ by", () => {
    const { clockSkewMsMax } = defaultLimits
    assert.throws(() => withLimits({ sessionTtlMs: clockSkewMsMax }), /limits\.sessionTtlMs \(300000\) must exceed/)
    withLimits({ sessionTtlMs: clockSkewMsMax + 1 })
    withLimits({ sessionTtlMs: 60_000, clockSkewMsMax: 5_000 })
  })
})
