import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { greatCircleKm, lineRttMs } from "./cluster-rtt.ts"

const boston = { lat: 42.3601, lon: -71.0589 }
const tokyo = { lat: 35.6762, lon: 139.6503 }
const frankfurt = { lat: 50.1109, lon: 8.6821 }

describe("lineRttMs", () => {
  test("distances agree with the published ones to a half percent", () => {
    for (const [a, b, km] of [
      [boston, frankfurt, 5894],
      [boston, tokyo, 10796],
      [{ lat: 0, lon: 0 }, { lat: 0, lon: 180 }, 20015],
      [{ lat: 90, lon: 0 }, { lat: 0, lon: 55 }, 10008],
    ] as const) {
      const got = greatCircleKm(a, b)
      assert.ok(Math.abs(got - km) / km < 0.005, `${got} km, not ${km}`)
    }
  })

  test("a round trip is twice the way at two thirds of light speed, times 1.4", () => {
    const degreeKm = greatCircleKm({ lat: 0, lon: 0 }, { lat: 0, lon: 1 })
    assert.ok(Math.abs(lineRttMs({ lat: 0, lon: 0 }, { lat: 0, lon: 1 }) - (2 * degreeKm * 1.4) / 199.861638667) < 1e-9)
    assert.ok(Math.abs(lineRttMs(boston, frankfurt) - 82.6) < 0.5)
    assert.ok(Math.abs(lineRttMs(boston, tokyo) - 151.2) < 0.7)
  })

  test("is the same both ways and 0 to itself", () => {
    assert.equal(lineRttMs(boston, tokyo), lineRttMs(tokyo, boston))
    assert.equal(lineRttMs(boston, boston), 0)
  })
})
