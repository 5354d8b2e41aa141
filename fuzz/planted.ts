import { parseClientFrame } from "@sojourn/protocol"
import { bentJson } from "./hostile.ts"
import { judged } from "./oracle.ts"
import { validFrame } from "./samples.ts"
import type { Target } from "./target.ts"

/** Defects made on purpose: `npm run fuzz -- --target planted-parser` must find one, or the fuzzer finds nothing anywhere. */

/** It trusts the form of a field that nobody has checked. */
export const plantedParser: Target = {
  name: "planted-parser",
  share: 1,
  open: () => ({
    run(r, count) {
      const text = bentJson(r, validFrame(r))
      const { outcome } = judged(["BAD_FRAME"], () => {
        const frame = parseClientFrame(text)
        return frame && (JSON.parse(text) as { p?: { v: unknown[] } }).p?.v.map(String)
      })
      count(outcome)
    },
  }),
}

/** It lets go of a promise that fails. */
export const plantedRejection: Target = {
  name: "planted-rejection",
  share: 1,
  open: () => ({
    async run(r, count) {
      if (r.happens(0.1)) void Promise.reject(new Error("left alone"))
      await new Promise((resolve) => setImmediate(resolve))
      count("value")
    },
  }),
}
