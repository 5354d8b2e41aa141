import assert from "node:assert/strict"
import { describe, test } from "node:test"
import fc from "fast-check"

import { actorKey, addressId, homeOf, parseAddress } from "./address.ts"

const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected

describe("an actor's address", () => {
  test("an id is name, slash and key, and reads back whatever the key contains", () => {
    for (const key of ["a", "a/b", "/", "a~b", "алиса", "👩‍🚀", "\u0001", "a b", "x".repeat(512), "ж".repeat(256)]) {
      const id = addressId("notebook", key)
      assert.equal(id, `notebook/${key}`)
      assert.deepEqual(parseAddress(id), { name: "notebook", key })
    }
  })

  test("of any text there is an id that reads back, or a named error", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (name, key) => {
        try {
          const id = addressId(name, key)
          assert.deepEqual(parseAddress(id), { name, key })
          assert.equal(new TextDecoder().decode(actorKey(id)), id)
        } catch (error) {
          assert.ok(code("UNKNOWN_ACTOR")(error) || code("BAD_KEY")(error), String(error))
        }
      }),
    )
  })

  test("two different addresses never have one id", () => {
    assert.notEqual(addressId("a", "b/c"), addressId("ab", "/c"))
    assert.throws(() => addressId("a/b", "c"), code("UNKNOWN_ACTOR"))
  })

  // Was "key.includes is not a function", or that there are 0 bytes of it.
  test("a key that is no text is refused by what it is", () => {
    for (const [key, what] of [
      [5, "number"],
      [undefined, "undefined"],
      [null, "null"],
      [["a"], "object"],
    ] as const)
      assert.throws(() => addressId("notebook", key as never), { code: "BAD_KEY", message: new RegExp(`got ${what}$`) })
  })

  test("a class is named by a letter and up to 63 more letters, digits, dashes and underscores", () => {
    for (const name of ["a", "aB9_-", `a${"x".repeat(63)}`]) assert.ok(addressId(name, "k"))
    for (const name of ["", "A", "9", "a b", "a~", "é", "a\n", `a${"x".repeat(64)}`])
      assert.throws(() => addressId(name, "k"), code("UNKNOWN_ACTOR"), JSON.stringify(name))
  })

  test("C39 a key is 1 to 512 bytes of well-formed text without NUL", () => {
    for (const key of ["", "x".repeat(513), "ж".repeat(257), "a\0b", "\ud800", "a\udc00"])
      assert.throws(() => addressId("notebook", key), code("BAD_KEY"), JSON.stringify(key.slice(0, 10)))
  })

  test("a store's key is the id's UTF-8 bytes, and no id that could share them is taken", () => {
    assert.deepEqual(actorKey("n/ж"), new Uint8Array([0x6e, 0x2f, 0xd0, 0xb6]))
    const longest = addressId(`a${"x".repeat(63)}`, "k".repeat(512))
    assert.equal(actorKey(longest).length, 577)
    for (const id of ["", `${longest}k`, "n/\0", "n/\ud800"]) assert.throws(() => actorKey(id), code("BAD_KEY"))
  })
})

describe("an actor's home", () => {
  const homes = ["bos", "fra", "nrt"]
  const pops = new Set([...homes, "nyc"])
  const keys = Array.from({ length: 3_000 }, (_, i) => `user${i}`)

  test("a key that names its home after the last ~ has it, if that is a configured POP", () => {
    assert.equal(homeOf("notebook/alice~nyc", homes, pops), "nyc")
    assert.equal(homeOf("notebook/a~fra~bos", homes, pops), "bos")
    assert.equal(homeOf("notebook/~bos", homes, pops), "bos")
    for (const key of ["alice~", "alice~xyz", "alice~bos ", "a~bos~"])
      assert.throws(() => homeOf(`notebook/${key}`, homes, pops), code("BAD_KEY"), key)
  })

  test("other keys have one of the homes, the same whatever the order of the list and the POPs beside it", () => {
    for (const key of keys.slice(0, 300)) {
      const home = homeOf(`notebook/${key}`, homes, pops)
      assert.ok(homes.includes(home))
      assert.equal(homeOf(`notebook/${key}`, homes.toReversed(), new Set(homes)), home)
    }
  })

  test("keys spread evenly over the homes", () => {
    const count = new Map(homes.map((home) => [home, 0]))
    for (const key of keys) {
      const home = homeOf(`notebook/${key}`, homes, pops)
      count.set(home, (count.get(home) ?? 0) + 1)
    }
    for (const [home, n] of count) assert.ok(Math.abs(n - 1_000) < 150, `${home} is home to ${n} of 3,000`)
  })

  test("which home a key has never changes: these were computed by the first version", () => {
    const known = ["alice", "bob", "a/b", "алиса", "👩‍🚀"].map((key) => homeOf(`notebook/${key}`, homes, pops))
    assert.deepEqual(known, ["bos", "fra", "bos", "nrt", "nrt"])
  })
})
