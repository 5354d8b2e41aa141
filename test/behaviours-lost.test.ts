// Stores that were lost, with processes of the operating system on LMDB: a folder that is not the one that peers remember is refused, and a POP
// that is destroyed is forgotten by `sojourn-admin`.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { afterEach, beforeEach, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { createClient, type Client, type TicketHint } from "@sojourn/client"
import { startCluster, type Cluster } from "@sojourn/testkit"
import type { App } from "./behaviours/app.ts"
import { quickClient } from "./behaviours/limits.ts"
import { deathFile, type Death } from "./behaviours/pop-process.ts"
import { within } from "./behaviours/world.ts"

const secret = "a secret of more than sixteen characters"
const admin = fileURLToPath(new URL("../packages/server/src/sojourn-admin.ts", import.meta.url))
const timeout = 90_000

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function sojournAdmin(args: readonly string[], meshSecret = secret): Promise<Ran> {
  const child = spawn(process.execPath, ["--conditions=sojourn-source", admin, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, SOJOURN_MESH_SECRET: meshSecret },
  })
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: await ended, out, err }
}

let folder: string
let cluster: Cluster
let clients: Client<App>[]
let gone: PromiseWithResolvers<void>

async function start(...pops: string[]): Promise<void> {
  cluster = await startCluster({
    pops: pops.map((id) => ({ id, region: "eu" })),
    entry: new URL("./behaviours/pop-process.ts", import.meta.url),
    folder,
    secret,
    meshRttMs: () => 0,
    clientRttMs: () => 0,
    options: { followQuietMs: 1, forgetStepMsMax: 3_000 },
    onCrash: () => gone.resolve(),
  })
}

function client(pop: string, tickets: readonly TicketHint[] = []): Client<App> {
  const made = createClient<App>({ url: cluster.url(pop), token: "ann", limits: quickClient })
  made.setTickets(tickets)
  clients.push(made)
  return made
}

/** What an action of a client of its own answers. */
async function add(pop: string, key: string, id: string, tickets?: readonly TicketHint[]): Promise<number> {
  const { n } = await within(20_000, `${id} is added at ${pop}`, client(pop, tickets).ledger.get(key).add(id))
  return n
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sojourn-lost-"))
  clients = []
  gone = Promise.withResolvers()
})
afterEach(async () => {
  await Promise.all(clients.map((one) => one.close()))
  await cluster.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe("a folder that is not the one that peers remember", () => {
  const told = /STORE_LOST|must not serve.*new POP id.*sojourn-admin forget fra/s

  test(
    "a wiped folder, and one of another POP, are refused, and the message says what to do (C29)",
    { timeout },
    async () => {
      await start("bos", "fra", "nrt")
      await add("fra", "x~fra", "1")
      await cluster.kill("fra")
      cpSync(join(folder, "fra"), join(folder, "right"), { recursive: true })
      rmSync(join(folder, "fra"), { recursive: true })
      await assert.rejects(cluster.restart("fra"), told)

      rmSync(join(folder, "fra"), { recursive: true })
      await cluster.kill("nrt")
      cpSync(join(folder, "nrt"), join(folder, "fra"), { recursive: true })
      await cluster.restart("nrt")
      await assert.rejects(cluster.restart("fra"), told)

      // Nothing was spoilt by the attempts: the right folder serves.
      rmSync(join(folder, "fra"), { recursive: true })
      cpSync(join(folder, "right"), join(folder, "fra"), { recursive: true })
      await cluster.restart("fra")
      assert.equal(await add("fra", "x~fra", "2"), 2)
    },
  )

  test("a folder restored from a copy that was taken earlier is refused (C29)", { timeout }, async () => {
    await start("bos", "fra")
    await add("fra", "x~fra", "1")
    await cluster.kill("fra")
    cpSync(join(folder, "fra"), join(folder, "copy"), { recursive: true })
    await cluster.restart("fra")
    await add("fra", "x~fra", "2")
    await cluster.kill("fra")
    // As the link comes up its peer hears how far this store has come.
    await cluster.restart("fra")
    await cluster.kill("fra")
    rmSync(join(folder, "fra"), { recursive: true })
    cpSync(join(folder, "copy"), join(folder, "fra"), { recursive: true })
    await assert.rejects(cluster.restart("fra"), told)
  })
})

describe("a destroyed POP that is forgotten", () => {
  const forget = (...more: string[]): Promise<Ran> =>
    sojournAdmin(["forget", "fra", "--heir", "bos", "--url", `http://127.0.0.1:${cluster.port("nrt")}`, ...more])

  test(
    "what it owned, what was granted to it and what it was the home of is served again; what was lost is said (C29)",
    { timeout },
    async () => {
      await start("bos", "fra", "nrt")
      // Owner of an actor of another home, which it alone has; and of its own.
      const ann = client("fra")
      await add("bos", "owned~bos", "1")
      assert.equal((await ann.ledger.get("owned~bos").add("2")).n, 2)
      assert.equal((await ann.ledger.get("alone~fra").add("1")).n, 1)
      const tickets = ann.tickets()
      // The home of an actor that is elsewhere.
      assert.equal(await add("nrt", "away~fra", "1"), 1)
      // Grantee: it dies as it is about to install.
      assert.equal(await add("bos", "granted~bos", "1"), 1)
      const death: Death = { op: "install", actor: "ledger/granted~bos", at: "before" }
      writeFileSync(deathFile(join(folder, "fra")), JSON.stringify(death))
      const late = client("fra").ledger.get("granted~bos").add("2")
      late.catch(() => undefined)
      await within(20_000, "fra dies", gone.promise)
      cpSync(join(folder, "fra"), join(folder, "copy"), { recursive: true })
      rmSync(join(folder, "fra"), { recursive: true })

      const refused = await sojournAdmin(
        ["forget", "fra", "--heir", "bos", "--url", `http://127.0.0.1:${cluster.port("nrt")}`],
        "another secret of sixteen characters",
      )
      assert.equal(refused.code, 1)
      assert.match(refused.err, /401/)
      const senseless = await sojournAdmin([
        "forget",
        "fra",
        "--heir",
        "fra",
        "--url",
        `http://127.0.0.1:${cluster.port("nrt")}`,
      ])
      assert.equal(senseless.code, 1)
      assert.match(senseless.err, /BAD_CONFIG/)

      // Not without everybody: nothing is revived while one of them has not refused.
      await cluster.kill("bos")
      const partial = await forget()
      assert.equal(partial.code, 1, partial.err)
      assert.match(partial.out, /bos: NOT REACHED/)
      assert.match(partial.out, /nrt: refuses fra/)
      assert.match(partial.out, /actors revived: 0/)
      await cluster.restart("bos")
      const whole = await forget()
      assert.equal(whole.code, 0, `${whole.out}${whole.err}`)
      assert.match(whole.out, /actors revived: 2, .*bos is home for fra: yes/)
      const again = await forget()
      assert.equal(again.code, 0, again.err)
      assert.match(again.out, /actors revived: 0, homes told: 0/)

      // The grant that it never installed: nothing is lost.
      assert.equal(await add("nrt", "granted~bos", "3"), 2)
      // Found without its home, and with a home that is the heir.
      assert.equal(await add("bos", "away~fra", "2"), 2)
      assert.equal(await add("nrt", "new~fra", "1"), 1)
      // Only it had these. Who knows more is told; the others begin anew, for whoever has seen nothing of it.
      for (const key of ["owned~bos", "alone~fra"]) {
        const knowing = client("nrt", tickets).ledger.get(key).add("3")
        await assert.rejects(within(20_000, `${key} is refused`, knowing), { code: "HISTORY_LOST" })
        assert.equal(await add("bos", key, "4"), 1)
        for (const id of ["5", "6", "7"]) await add("nrt", key, id)
        // Also when the new history has grown past what was known.
        const still = client("bos", tickets).ledger.get(key).add("8")
        await assert.rejects(within(20_000, `${key} is refused again`, still), { code: "HISTORY_LOST" })
      }

      // The old POP does not come back, neither empty nor as it was.
      const told = /forgotten as destroyed/
      await assert.rejects(cluster.restart("fra"), told)
      rmSync(join(folder, "fra"), { recursive: true })
      cpSync(join(folder, "copy"), join(folder, "fra"), { recursive: true })
      await assert.rejects(cluster.restart("fra"), told)
    },
  )
})
