// A POP that closes while it is used: its clients go elsewhere, its actors with them, and nobody notices.
import assert from "node:assert/strict"
import { createClient, type Client } from "@sojourn/client"
import { startCluster } from "@sojourn/testkit"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import type { App } from "./behaviours/app.ts"
import { quickClient } from "./behaviours/limits.ts"
import { behaviour, until, within } from "./behaviours/world.ts"

behaviour(
  "C70 a POP that closes hands its clients and its actors on: no call fails, nobody is left behind",
  { pops: [3], limits: { goAwaySpreadMs: 400 } },
  async (world) => {
    const [bos, fra, nrt] = world.seats
    assert.ok(bos && fra && nrt)
    const users = Array.from({ length: 12 }, (_, i) => `user${i}`)
    const clients = users.map((who) => world.client(who, bos, { url: [bos.url, fra.url, nrt.url] }))
    const keys = users.map((who) => `${who}~bos`)
    // One at another POP uses an actor here by relay, and a watcher of everybody's is attached to all.
    const shared = "shared~bos"
    const failed: unknown[] = []
    const made: string[][] = users.map(() => [])
    let calling = true
    const use = async (client: Client<App>, i: number): Promise<void> => {
      for (let n = 0; calling; n++) {
        const id = `${users[i]} ${n}`
        made[i]?.push(id)
        await Promise.all([client.ledger.get(keys[i] as string).add(id), client.ledger.get(shared).add(id)]).catch(
          (error: unknown) => failed.push(error),
        )
      }
    }
    const work = clients.map(use)
    // One that stays whatever it is told: what it uses goes to where others can reach it.
    const stays = await world.session("stays", bos)
    await stays.attach(["ledger", "resident~bos"])
    stays.call(1, "add", "a")
    await stays.reply(1)
    const remote = world.client("remote", nrt)
    await remote.ledger.get(shared).add("remote before")
    await within(
      10_000,
      "everybody has called",
      Promise.all(clients.map((client, i) => client.ledger.get(keys[i] as string).query.ids())),
    )
    await within(20_000, "the POP closes", bos.pop.close())
    await remote.ledger.get(shared).add("remote after")
    // All are served elsewhere, while bos is down.
    const after = made.map((ids) => ids.length)
    await within(
      20_000,
      "everybody calls on",
      Promise.all(clients.map((client, i) => client.ledger.get(keys[i] as string).query.ids())),
    )
    calling = false
    await within(20_000, "the last calls", Promise.all(work))
    assert.deepEqual(failed, [])
    for (const [i, client] of clients.entries()) {
      assert.notEqual(client.pop, "bos")
      assert.deepEqual(await client.ledger.get(keys[i] as string).query.ids(), made[i])
      assert.ok((made[i]?.length ?? 0) >= (after[i] ?? 0))
    }
    const all = await remote.ledger.get(shared).query.ids()
    assert.deepEqual([...all].sort(), [...made.flat(), "remote before", "remote after"].sort())
    for (const ids of made)
      assert.deepEqual(
        all.filter((id) => ids.includes(id)),
        ids,
      )
    for (const actor of [...keys, shared, "resident~bos"]) {
      let owners = 0
      for (const seat of [fra, nrt]) if ((await seat.record(`ledger/${actor}`))?.k === "OWNED") owners++
      assert.equal(owners, 1, actor)
    }
  },
)

behaviour(
  "C70 POPs that close together do not wait for each other to take their actors",
  { pops: [3], limits: { goAwaySpreadMs: 10, moveMsMax: 60_000, closeMsMax: 60_000 } },
  async (world) => {
    // In use at each of them, by sessions that do not leave.
    for (const seat of world.seats) {
      const session = await world.session("stays", seat)
      await session.attach(["ledger", `used~${seat.id}`])
      session.call(1, "add", "a")
      await session.reply(1)
    }
    await within(20_000, "all have closed", Promise.all(world.seats.map((seat) => seat.close())))
  },
)

behaviour(
  "C70 a POP that closes with nobody elsewhere lets running turns end, and its clients come back to it",
  { pops: [1], limits: { goAwaySpreadMs: 100 } },
  async (world) => {
    const ledger = world.client("alice").ledger.get("k")
    await ledger.add("before")
    let open = (): void => undefined
    world.probe.gate = () => new Promise((resolve) => (open = resolve))
    const running = ledger.slow("running")
    const waiting = ledger.add("waiting")
    await within(
      5_000,
      "the turn runs",
      until(() => world.probe.ran.includes("slow running")),
    )
    const closed = world.here.close()
    open()
    await within(10_000, "the POP closes", closed)
    world.here.proxy.cut()
    world.probe.gate = undefined
    await world.start("bos")
    await within(10_000, "the calls", Promise.all([running, waiting]))
    assert.deepEqual(await ledger.query.ids(), ["before", "running", "waiting"])
    assert.equal(world.probe.ran.filter((what) => what === "slow running").length, 1)
  },
)

test(
  "C70 SIGTERM drains a process: it ends by itself with 0, no call fails (lmdb, 3 processes)",
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "sojourn-drain-"))
    const ended = Promise.withResolvers<unknown>()
    const cluster = await startCluster({
      pops: ["bos", "fra", "nrt"].map((id) => ({ id, region: "eu" })),
      entry: new URL("./behaviours/pop-process.ts", import.meta.url),
      folder,
      meshRttMs: () => 0,
      clientRttMs: () => 0,
      options: { goAwaySpreadMs: 300 },
      onCrash: (pop, how) => ended.resolve([pop, how]),
    })
    const urls = ["bos", "fra", "nrt"].map((id) => cluster.url(id))
    const clients = Array.from({ length: 8 }, (_, i) =>
      createClient<App>({ url: urls, token: `user${i}`, limits: quickClient }),
    )
    try {
      let calling = true
      const failed: unknown[] = []
      const work = clients.map(async (client, i) => {
        const made: string[] = []
        while (calling) {
          made.push(`${made.length}`)
          await client.ledger
            .get(`user${i}~bos`)
            .add(made.at(-1) as string)
            .catch((error: unknown) => failed.push(error))
        }
        return made
      })
      await Promise.all(clients.map((client, i) => client.ledger.get(`user${i}~bos`).query.ids()))
      process.kill(cluster.pid("bos") as number, "SIGTERM")
      assert.deepEqual(await within(20_000, "the process ends", ended.promise), ["bos", "exit code 0"])
      await within(
        20_000,
        "everybody is served elsewhere",
        Promise.all(clients.map((client, i) => client.ledger.get(`user${i}~bos`).query.ids())),
      )
      calling = false
      const made = await within(20_000, "the last calls", Promise.all(work))
      assert.deepEqual(failed, [])
      for (const [i, client] of clients.entries())
        assert.deepEqual(await client.ledger.get(`user${i}~bos`).query.ids(), made[i])
    } finally {
      await Promise.all(clients.map((client) => client.close()))
      await cluster.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  },
)
