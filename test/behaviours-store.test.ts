// C39 through whole POPs: what an actor's state and key may be, many actors at once, and a store that is opened while it closes. The
// stores alone are held to the same by the conformance suite of testkit (packages/*/src/*conformance.test.ts).
import assert from "node:assert/strict"
import { behaviour, within } from "./behaviours/world.ts"

behaviour("C39 state of any kind comes back as it was: empty, binary, huge, deep and odd values", {}, async (world) => {
  const { here } = world
  const binary = new Uint8Array(70_000)
  for (let i = 0; i < binary.length; i++) binary[i] = i & 0xff
  let deep: unknown = "bottom"
  for (let i = 0; i < 50; i++) deep = { deep }
  const values: Readonly<Record<string, unknown>> = {
    undefined,
    null: null,
    "an empty object": {},
    "an empty string": "",
    zeros: [0, -0, 1e308, 5e-324],
    binary,
    "no bytes": new Uint8Array(0),
    "much text": "x".repeat(900_000),
    deep,
    text: '\u0000\u0001\u2028 \ud83d\ude00 \u0416\u0443\u043a "quoted" \\ {hash}',
    date: new Date(1_700_000_000_000),
    map: new Map<unknown, unknown>([
      ["a", 1],
      [2, new Set([3])],
    ]),
    "names that every object has": { toString: 3, hasOwnProperty: 2, "": 4 },
    bigint: 12345678901234567890n,
  }
  const keys = new Map(Object.keys(values).map((name) => [name, world.key()]))
  const alice = world.client("alice")
  for (const [name, value] of Object.entries(values)) {
    const ledger = alice.ledger.get(keys.get(name) as string)
    await within(10_000, name, ledger.put(value))
    assert.deepEqual(await ledger.query.blob(), value, name)
  }
  await alice.close()
  await here.crash()
  await world.start(here.id)
  const bob = world.client("bob")
  for (const [name, value] of Object.entries(values))
    assert.deepEqual(await bob.ledger.get(keys.get(name) as string).query.blob(), value, `${name}, after a restart`)
  if (world.seats.length === 1) return
  const carol = world.client("carol", world.seat("fra"))
  for (const [name, value] of Object.entries(values)) {
    const ledger = carol.ledger.get(keys.get(name) as string)
    assert.deepEqual(await ledger.query.blob(), value, `${name}, after a move`)
    assert.equal(ledger.pop, "fra", name)
  }
})

behaviour("C39 a key is any well-formed text of 1 to 512 bytes, and no two keys meet", {}, async (world) => {
  const { here, home } = world
  const tail = `~${home.id}`
  const room = 512 - Buffer.byteLength(tail)
  const names = [
    "a",
    "a/b",
    "a//b",
    "a:b",
    "a b",
    "a\nb",
    "a.b",
    "..",
    "{a}",
    "a~b",
    "ledger/a",
    "a/",
    "/a",
    "%2F",
    "A",
    "\u0416\u0443\u043a",
    "\ud83d\ude00",
    "e\u0301",
    "\u00e9",
    "__proto__",
    "x".repeat(room),
    "x".repeat(room - 1),
    "\u0416".repeat(Math.floor(room / 2)),
  ]
  const clients = world.client("alice")
  for (const [i, name] of names.entries())
    assert.equal((await clients.ledger.get(name + tail).add(`only ${i}`)).n, 1, JSON.stringify(name))
  await clients.close()
  await here.crash()
  await world.start(here.id)
  const bob = world.client("bob")
  for (const [i, name] of names.entries())
    assert.deepEqual(await bob.ledger.get(name + tail).query.ids(), [`only ${i}`], JSON.stringify(name))
  for (const bad of ["x".repeat(513), "\u0416".repeat(257), "\ud800", "a\u0000b", "a~atlantis"])
    await assert.rejects(bob.ledger.get(bad).add("never"), { code: "BAD_KEY" }, JSON.stringify(bad.slice(0, 20)))
})

behaviour("C39 many actors at once do not disturb each other", {}, async (world) => {
  const keys = Array.from({ length: 60 }, () => world.key())
  const clients = [world.client("alice"), world.client("bob")] as const
  const calls = keys.flatMap((key, i) =>
    Array.from({ length: 5 }, (_, k) => clients[k % 2 === 0 ? 0 : 1].ledger.get(key).add(`${i}.${k}`)),
  )
  await within(20_000, "all calls", Promise.all(calls))
  await world.here.crash()
  await world.start(world.here.id)
  for (const [i, key] of keys.entries()) {
    const ids = await clients[0].ledger.get(key).query.ids()
    assert.deepEqual(
      [...ids].sort(),
      [0, 1, 2, 3, 4].map((k) => `${i}.${k}`),
    )
  }
})

behaviour(
  "C39 a POP opened while its store still closes finds everything, and takes over at once",
  {},
  async (world) => {
    const key = world.key()
    const { here } = world
    const alice = world.client("alice").ledger.get(key)
    const ids: string[] = []
    const calls: Promise<unknown>[] = []
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 10; i++) {
        ids.push(`${round}.${i}`)
        calls.push(alice.add(ids.at(-1) as string))
      }
      await calls.at(-5)
      const closing = here.close()
      await here.store.closing
      await Promise.all([closing, world.start(here.id)])
    }
    await within(20_000, "all calls", Promise.all(calls))
    assert.deepEqual(await alice.query.ids(), ids)
  },
)
