import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { setup, type CoreEvent } from "@sojourn/core"
import { SojournError } from "@sojourn/protocol"
import { createEventLog } from "./event-log.ts"
import { meshUrl } from "./mesh-dialer.ts"
import { originAllowed } from "./origin.ts"
import { checkDurability, checkOptions, type PopOptions } from "./pop-options.ts"
import { chance, clock, primitives } from "./primitives.ts"

const storage = { kind: "none", open: () => Promise.reject(new Error("not opened here")) }
const app = setup({ actors: {} })
const base: PopOptions<unknown> = { app, id: "bos", region: "us-east", storage }
const peers = [
  { id: "fra", region: "eu-central", url: "ws://127.0.0.1:8081" },
  { id: "nrt", region: "ap-northeast", url: "wss://nrt.example.com/mesh" },
]
const secret = "sixteen characters or more"

describe("a POP's options", () => {
  test("a lone POP is its own home; self among the peers is left out", () => {
    assert.deepEqual(checkOptions(base, undefined).homes, ["bos"])
    const self = { id: "bos", region: "us-east", url: "ws://127.0.0.1:8080" }
    const checked = checkOptions(
      { ...base, mesh: { secret, peers: [self, ...peers], homes: ["bos", "fra"] } },
      undefined,
    )
    assert.deepEqual(checked.peers, peers)
    assert.deepEqual(checked.secrets, [secret])
  })

  const mesh = { secret, peers, homes: ["bos", "fra"] }
  for (const [what, options, message] of [
    ["an id with capitals", { id: "BOS" }, /id must be 1 to 32/],
    ["an empty region", { region: "" }, /region must be/],
    [
      "a residency that no POP is inside",
      { app: { actors: { cart: { residency: ["eu-*", "ap-*"] } } } },
      /residency eu-\*, ap-\* of cart: the configured regions are us-east/,
    ],
    ["an app that setup() did not return", { app: { cart: {} } }, /app must be what setup\(\) returned/],
    // What comes of an environment variable is a text, and "false" would have let in everybody, in production too.
    ["a dev that is a text", { dev: "false" }, /dev must be true or false; got "false"/],
    ["an admin that is a text", { mesh, admin: "yes" }, /admin must be true or false/],
    ["an alone that is a text", { mesh: { ...mesh, alone: "false" } }, /mesh.alone must be true or false/],
    ["a log level that is none", { logLevel: "loud" }, /logLevel must be one of silent, error, warn, info, debug/],
    ["an onEvent that is no function", { onEvent: {} }, /onEvent must be a function/],
    ["a mesh that is nothing", { mesh: null }, /mesh must be an object/],
    ["peers that are no list", { mesh: { ...mesh, peers: { fra: peers[0] } } }, /mesh.peers must be an array/],
    [
      "a peer that is a text",
      { mesh: { ...mesh, peers: ["fra"] } },
      /mesh.peers must be an array of \{ id, region, url \}/,
    ],
    ["homes that are a text", { mesh: { ...mesh, homes: "bos" } }, /mesh.homes must be an array/],
    [
      "another region than its own entry among the peers has",
      { mesh: { ...mesh, peers: [...peers, { id: "bos", region: "us-west", url: "ws://127.0.0.1:8080" }] } },
      /region is us-east, and mesh.peers has us-west for bos/,
    ],
    ["origins that are a text", { origins: "https://app.example.com" }, /origins must be an array of URLs, or "\*"/],
    ["no storage", { storage: undefined }, /storage must be a store to open/],
    ["an authenticate that is no function", { authenticate: "yes" }, /authenticate must be a function/],
    ["a short secret", { mesh: { ...mesh, secret: "short" } }, /16 characters or more/],
    ["a short secret among others", { mesh: { ...mesh, secret: [secret, "short"] } }, /16 characters or more/],
    ["no secret", { mesh: { ...mesh, secret: [] } }, /at least one secret/],
    ["a peer named twice", { mesh: { ...mesh, peers: [...peers, peers[0]] } }, /names fra twice/],
    [
      "a peer with an http url",
      { mesh: { ...mesh, peers: [{ ...peers[0], url: "http://x" }] } },
      /url of peer fra must be/,
    ],
    [
      "a peer's url with a fragment",
      { mesh: { ...mesh, peers: [{ ...peers[0], url: "ws://x/#mesh" }] } },
      /url of peer fra must not have a fragment/,
    ],
    ["a misspelt part of the mesh", { mesh: { secret, peer: peers } }, /mesh has no "peer"; .* secret, peers, homes/],
    ["limits that are nothing", { limits: null }, /limits must be an object/],
    ["limits that are a text", { limits: "many" }, /limits must be an object/],
    ["peers without homes", { mesh: { secret, peers } }, /mesh.homes is required with peers.*\["bos","fra","nrt"\]/],
    ["a home that is no POP", { mesh: { ...mesh, homes: ["bos", "lhr"] } }, /names "lhr", which is neither/],
    ["a home named twice", { mesh: { ...mesh, homes: ["bos", "bos"] } }, /names bos twice/],
    ["a wrong limit", { limits: { idleMs: -1 } }, /limits.idleMs/],
    ["limits that contradict", { limits: { askMsMax: 9_000, locateMsMax: 8_000 } }, /must not exceed/],
    ["an origin without a scheme", { origins: ["example.com"] }, /an origin must be an absolute URL/],
    ["a publicUrl without a host", { publicUrl: "nowhere" }, /publicUrl must be/],
  ] as const)
    test(`${what} is refused as BAD_CONFIG, saying which option and what to give`, () => {
      const given = { ...base, ...options } as unknown as PopOptions<unknown>
      assert.throws(
        () => checkOptions(given, undefined),
        (error: unknown) => {
          assert.ok(error instanceof SojournError)
          assert.equal(error.code, "BAD_CONFIG")
          assert.match(error.message, message)
          assert.ok(!error.message.includes("short"), "a secret is never printed")
          return true
        },
      )
    })

  test("no options at all are refused as BAD_CONFIG", () => {
    assert.throws(() => checkOptions(undefined as never, undefined), { code: "BAD_CONFIG", message: /options/ })
  })

  test("dev refuses to run with NODE_ENV=production", () => {
    assert.throws(() => checkOptions({ ...base, dev: true }, "production"), /does not run with NODE_ENV=production/)
    assert.equal(checkOptions({ ...base, dev: true }, "development").dev, true)
  })

  test("a volatile store is refused outside dev, with the reason and the way out", () => {
    const memory = { ...storage, kind: "memory" }
    assert.throws(() => checkDurability(memory, "volatile", false), /the memory store forgets.*two owners.*lmdb/)
    checkDurability(memory, "volatile", true)
    checkDurability(memory, "flushed", false)
  })
})

describe("the origin policy", () => {
  const policy = { origins: ["https://app.example.com"], publicUrl: "wss://bos.example.com", loopback: false }
  for (const [origin, host, allowed] of [
    [undefined, "bos.example.com", true],
    ["https://pop.example.com", "pop.example.com", true],
    ["https://pop.example.com", "pop.example.com:443", true],
    ["https://pop.example.com:8443", "pop.example.com", false],
    ["https://bos.example.com", "10.0.0.1:8080", true],
    ["https://app.example.com", "x", true],
    ["http://app.example.com", "x", false],
    ["https://app.example.com.evil.example", "x", false],
    ["null", "x", false],
    ["http://localhost:3000", "x", false],
  ] as const)
    test(`C68 ${origin ?? "no origin"} at ${host} is ${allowed ? "allowed" : "refused"}`, () => {
      assert.equal(originAllowed(origin, host, policy), allowed)
    })

  test("dev allows this machine's pages on any port, and no other page", () => {
    const dev = { origins: [], publicUrl: undefined, loopback: true }
    for (const origin of ["http://localhost:3000", "http://127.0.0.1:9", "http://[::1]:8080", "http://a.localhost"])
      assert.equal(originAllowed(origin, "x", dev), true, origin)
    for (const origin of ["https://evil.example", "http://127.0.0.1.evil.example", "http://localhost.evil.example"])
      assert.equal(originAllowed(origin, "x", dev), false, origin)
    assert.equal(originAllowed("https://evil.example", "x", { ...dev, origins: "*" }), true)
  })
})

describe("the event log", () => {
  function logged(level: "debug" | "info", events: CoreEvent[]): Record<string, unknown>[] {
    const lines: string[] = []
    const log = createEventLog(level, { pop: "bos", node: "n1" }, { write: (line) => void lines.push(line) })
    for (const event of events) log(event)
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  test("gives each event a level by what it says", () => {
    const lines = logged("debug", [
      { type: "mesh.up", pop: "fra" },
      { type: "mesh.refused", code: "MESH_REFUSED", pop: "fra" },
      { type: "store.lost", error: new SojournError("STORE_LOST") },
      { type: "turn.ended", actor: "cart/a" },
    ])
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg]),
      [
        [30, "mesh.up"],
        [40, "mesh.refused"],
        [50, "store.lost"],
        [20, "turn.ended"],
      ],
    )
    assert.equal(lines[0]?.["at"], "bos")
    assert.equal(logged("info", [{ type: "turn.ended" }]).length, 0)
  })

  // Found while adding hooks: without a code of its own it was for "debug", and the id that a caller was given found nothing.
  test("has what user code threw, under the id that its caller was told, at the default level", () => {
    const [line] = logged("info", [{ type: "turn.threw", actor: "cart/a", error: new Error("no disk"), ref: "r1" }])
    assert.deepEqual([line?.["level"], line?.["ref"]], [40, "r1"])
    assert.match(JSON.stringify(line?.["error"]), /no disk/)
  })

  // With `wss:` and a certificate that nobody trusts, or a name that does not resolve, a POP waited for its peers without a word of why.
  test("has why a peer cannot be dialed at the default level", () => {
    const failed = { type: "mesh.dial-failed", pop: "fra", closeCode: 1006, reason: "self-signed certificate" }
    const [line] = logged("info", [failed])
    assert.deepEqual([line?.["level"], line?.["pop"], line?.["reason"]], [30, "fra", "self-signed certificate"])
  })

  test("C68 never writes a token, a ticket or a secret, at the top or one level down", () => {
    const [line] = logged("debug", [
      { type: "x", token: "t0p", ticket: "t0p", request: { headers: { cookie: "t0p" }, token: "t0p" }, secret: "t0p" },
    ])
    assert.ok(!JSON.stringify(line).includes("t0p"))
  })
})

describe("the primitives", () => {
  test("agree with published vectors", () => {
    // RFC 4231, test case 2; FIPS 180-4 "abc"; CRC-32 check value of "123456789".
    const mac = Buffer.from("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "hex")
    assert.equal(primitives.hmac("Jefe", "what do ya want for nothing?"), mac.toString("base64url"))
    const abc = Buffer.from("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "hex")
    assert.equal(primitives.digest("abc"), abc.toString("base64url"))
    assert.equal(primitives.checksum(new TextEncoder().encode("123456789")), 0xcbf43926)
    assert.notEqual(primitives.derive("s", "a"), primitives.derive("s", "b"))
    assert.ok(primitives.equal("ab", "ab") && !primitives.equal("ab", "ac") && !primitives.equal("ab", "abc"))
  })

  test("give fresh ids of URL-safe characters and a clock whose timers can be undone", () => {
    assert.match(chance.id(), /^[\w-]{21}$/)
    assert.notEqual(chance.id(), chance.id())
    clock.after(0, () => assert.fail("it was undone"))()
    assert.ok(clock.mono() > 0)
  })
})

test("a peer's url leads to the mesh path unless it has a path of its own", () => {
  assert.equal(meshUrl("ws://127.0.0.1:8080"), "ws://127.0.0.1:8080/v1/mesh")
  assert.equal(meshUrl("wss://nrt.example.com/inner/mesh"), "wss://nrt.example.com/inner/mesh")
})
