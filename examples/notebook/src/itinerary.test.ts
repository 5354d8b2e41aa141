import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { clientRttMs, meshRttMs, nearestPop, parseAtlas, placeAt, readAtlas } from "./atlas.ts"
import { moveSteps } from "@sojourn/testkit"
import {
  forge,
  grandTour,
  hintKinds,
  killName,
  planItinerary,
  seeded,
  victims,
  type ItineraryOptions,
} from "./itinerary.ts"

const pops = ["bos", "pvd", "hvn", "nyc", "nrt"]
const plan = (more: Partial<ItineraryOptions> = {}, seed = 1): ReturnType<typeof planItinerary> =>
  planItinerary({ pops, hint: "right", kill: false, random: seeded(seed), ...more })

describe("planItinerary", () => {
  test("goes down the coast by car, flies to Tokyo and comes back, when no number of legs is asked", () => {
    const legs = plan()
    assert.deepEqual([legs[0]?.from, ...legs.map((leg) => leg.to)], grandTour)
    assert.ok(legs.every((leg) => leg.hint === "right" && leg.kill === undefined))
  })

  test("makes as many legs as asked, each from where the last one ended to another POP", () => {
    const legs = plan({ legs: 200 })
    assert.equal(legs.length, 200)
    for (const [i, leg] of legs.entries()) {
      assert.notEqual(leg.from, leg.to)
      if (i > 0) assert.equal(leg.from, legs[i - 1]?.to)
    }
    assert.deepEqual(new Set(legs.map((leg) => leg.to)), new Set(pops))
  })

  test("mixed hints and kills are of every kind, and the same seed plans the same", () => {
    const legs = plan({ legs: 200, hint: "mixed", kill: true })
    assert.deepEqual(new Set(legs.map((leg) => leg.hint)), new Set(hintKinds))
    const kinds = new Set(legs.flatMap(({ kill }) => (kill === undefined ? [] : [`${kill.who} ${kill.when}`])))
    assert.equal(kinds.size, 14)
    assert.deepEqual(legs, plan({ legs: 200, hint: "mixed", kill: true }))
    assert.notDeepEqual(legs, plan({ legs: 200, hint: "mixed", kill: true }, 2))
  })

  test("kills at steps are of every process at every step", () => {
    const names = plan({ legs: 2_000, kill: true }).flatMap(({ kill }) =>
      kill?.when === "step" ? [killName(kill)] : [],
    )
    const pairs = victims.length * Object.keys(moveSteps).length * 2
    assert.equal(new Set(names).size, pairs)
  })

  test("live legs are asked for: some of them, the traveller following on some, or all", () => {
    assert.ok(plan({ legs: 50 }).every(({ live, follows }) => !live && !follows))
    assert.ok(plan({ legs: 50, live: "all" }).every(({ live, follows }) => live && follows))
    const kinds = new Set(plan({ legs: 50, live: "some" }).map(({ live, follows }) => `${live} ${follows}`))
    assert.deepEqual([...kinds].sort(), ["false false", "true false", "true true"])
  })
})

describe("forge", () => {
  test("never gives the right ticket, and always something that a subprotocol name may carry", () => {
    const random = seeded(7)
    for (let i = 0; i < 500; i++) {
      const forged = forge("eyJhIjoxfQ.k1.c2lnbmF0dXJl", pops, random)
      assert.notEqual(forged, "eyJhIjoxfQ.k1.c2lnbmF0dXJl")
      assert.match(forged, /^[A-Za-z0-9._-]+$/)
    }
    assert.match(forge(undefined, pops, random), /^[A-Za-z0-9._-]+$/)
  })
})

describe("the configured worlds", () => {
  for (const name of ["pops.json", "travel.json"])
    test(`${name} reads, and every POP is the nearest one to a place`, () => {
      const atlas = readAtlas(new URL(`../${name}`, import.meta.url))
      for (const pop of atlas.pops) {
        assert.equal(nearestPop(atlas, placeAt(atlas, pop.id).id).id, pop.id)
        assert.equal(meshRttMs(atlas, pop.id, pop.id), 0)
      }
    })

  test("a client's round trip is the line's and the last mile's", () => {
    const atlas = readAtlas(new URL("../pops.json", import.meta.url))
    assert.equal(clientRttMs(atlas, "bos", "boston"), atlas.lastMileMs)
    assert.ok(Math.abs(meshRttMs(atlas, "bos", "fra") - 82.6) < 0.5)
    assert.ok(Math.abs(clientRttMs(atlas, "fra", "boston") - meshRttMs(atlas, "bos", "fra") - atlas.lastMileMs) < 1e-9)
  })

  test("what is wrong in a configuration is named", () => {
    const pop = { id: "a", name: "A", region: "r", lat: 0, lon: 0 }
    assert.throws(() => parseAtlas({ pops: [], places: [] }), /pops must be a list that is not empty/)
    assert.throws(
      () => parseAtlas({ pops: [{ ...pop, lat: 100 }], places: [] }),
      /pops\[0\]\.lat must be a number from -90 to 90/,
    )
    assert.throws(() => parseAtlas({ pops: [pop, pop], places: [] }), /two entries with the id "a"/)
    assert.throws(() => readAtlas("/nowhere/pops.json"), /\/nowhere\/pops\.json cannot be read/)
  })
})
