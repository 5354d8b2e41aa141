// The same as behaviours-crash.test.ts with processes of the operating system on LMDB, killed by SIGKILL: by themselves at an exact step,
// or by the test at any instant under load.
import assert from "node:assert/strict"
import { createClient, type Client } from "@sojourn/client"
import { connectRaw, startCluster, type Cluster, type RawClient, type StoreOp, type StorePoint } from "@sojourn/testkit"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, test } from "node:test"
import type { App } from "./behaviours/app.ts"
import { quickClient } from "./behaviours/limits.ts"
import { deathFile, type Death } from "./behaviours/pop-process.ts"
import { callBody, Session, within } from "./behaviours/world.ts"

const entry = new URL("./behaviours/pop-process.ts", import.meta.url)
const names = ["bos", "fra", "nrt"]
/** From the restart to the last reply, on a busy machine. */
const recoveryMsMax = 15_000
const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

class Processes {
  readonly folder = mkdtempSync(join(tmpdir(), "sojourn-kill-"))
  #cluster: Cluster | undefined
  #gone = new Map<string, () => void>()
  #clients: Client<App>[] = []
  #raws: RawClient[] = []

  get cluster(): Cluster {
    if (!this.#cluster) throw new Error("the cluster was not started")
    return this.#cluster
  }

  async start(pops: number, options?: object): Promise<void> {
    this.#cluster = await startCluster({
      pops: names.slice(0, pops).map((id) => ({ id, region: "eu" })),
      entry,
      folder: this.folder,
      meshRttMs: () => 0,
      clientRttMs: () => 0,
      ...(options ? { options } : {}),
      onCrash: (pop) => this.#gone.get(pop)?.(),
    })
  }

  /** Arms the POP; resolves when its process has killed itself there. */
  dies(pop: string, op: StoreOp, actor: string, at: StorePoint): Promise<void> {
    const gone = new Promise<void>((resolve) => this.#gone.set(pop, resolve))
    writeFileSync(deathFile(join(this.folder, pop)), JSON.stringify({ op, actor, at } satisfies Death))
    return within(10_000, `${pop} dies ${at} ${op}`, gone)
  }

  client(who: string, pop: string): Client<App> {
    const client = createClient<App>({ url: this.cluster.url(pop), token: who, limits: quickClient })
    this.#clients.push(client)
    return client
  }

  async session(who: string, pop: string): Promise<Session> {
    const raw = await connectRaw({ url: this.cluster.url(pop) })
    this.#raws.push(raw)
    raw.send({ t: "hello", client: "raw", token: who })
    const welcome = await within(5_000, `${pop} welcomes ${who}`, raw.find("welcome"))
    return new Session(raw, welcome.sessions[0] as string)
  }

  async leave(): Promise<void> {
    for (const raw of this.#raws.splice(0)) raw.cut()
    await Promise.all(this.#clients.splice(0).map((client) => client.close()))
  }

  async stop(): Promise<void> {
    await this.leave()
    await this.#cluster?.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const timeout = 60_000

describe("processes killed at the steps of a move", () => {
  const here = new Processes()
  before(() => here.start(3))
  after(() => here.stop())

  const points: readonly (readonly [
    who: string,
    pop: string,
    op: StoreOp,
    at: StorePoint,
    also: string | undefined,
  ])[] = [
    ["the source", "bos", "pull", "before", undefined],
    ["the source", "bos", "pull", "after", undefined],
    ["source and target", "bos", "pull", "after", "fra"],
    ["the target", "fra", "install", "before", undefined],
    ["target and source", "fra", "install", "before", "bos"],
    ["the target", "fra", "install", "after", undefined],
    ["target and source", "fra", "install", "after", "bos"],
    ["the source", "bos", "confirm", "before", undefined],
    ["the source", "bos", "confirm", "after", undefined],
    ["the home", "nrt", "learn", "before", undefined],
  ]
  for (const [i, [who, pop, op, at, also]] of points.entries())
    test(
      `C19 ${who} killed by SIGKILL ${at} the ${op} loses and doubles nothing (lmdb, 3 processes)`,
      { timeout },
      async () => {
        const { cluster } = here
        const key = `move${i}~nrt`
        const alice = here.client("alice", "bos")
        const ledger = alice.ledger.get(key)
        for (const id of ["a", "b", "c"]) await ledger.add(id)
        // A second actor, at rest, passes through the same deaths.
        const bystander = here.client("bob", "bos").ledger.get(`rest${i}~bos`)
        await bystander.add("x")
        const dead = here.dies(pop, op, `ledger/${key}`, at)
        alice.switchTo(cluster.url("fra"))
        const calls = ["d", "e"].map((id) => ledger.add(id))
        await dead
        if (also !== undefined) await cluster.kill(also)
        await Promise.all([pop, ...(also === undefined ? [] : [also])].map((one) => cluster.restart(one)))
        const replies = await within(recoveryMsMax, "the calls are answered", Promise.all(calls))
        assert.deepEqual(
          replies.map(({ n }) => n),
          [4, 5],
        )
        assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d", "e"])
        const carol = here.client("carol", "nrt").ledger.get(key)
        assert.equal((await within(recoveryMsMax, "served at home too", carol.add("f"))).n, 6)
        assert.deepEqual(await within(recoveryMsMax, "the bystander", bystander.query.ids()), ["x"])
        await here.leave()
      },
    )
})

for (const pops of [1, 3])
  describe(`processes killed before a reply and under clients (lmdb, ${pops} process${pops === 1 ? "" : "es"})`, () => {
    const here = new Processes()
    const home = names[pops - 1] as string
    before(() => here.start(pops, { tailEntriesMax: 4 }))
    after(() => here.stop())

    for (const op of pops === 1 ? (["commit"] as const) : (["commit", "install"] as const))
      test(
        `C50 killed by SIGKILL after the ${op} is durable and before the reply: the call sent again gets the original reply (lmdb, ${pops})`,
        {
          timeout,
        },
        async () => {
          const { cluster } = here
          const at = op === "commit" ? "bos" : "fra"
          const key = `reply-${op}~${home}`
          const alice = here.client("alice", "bos")
          const ledger = alice.ledger.get(key)
          const first = await ledger.add("a")
          const dead = here.dies(at, op, `ledger/${key}`, "after")
          if (op === "install") alice.switchTo(cluster.url(at))
          const call = ledger.add("b")
          await dead
          await cluster.restart(at)
          const reply = await within(recoveryMsMax, "the reply", call)
          assert.equal(reply.n, 2)
          assert.notEqual(reply.chance, first.chance)
          assert.deepEqual(await ledger.query.ids(), ["a", "b"])
          // The same session asks once more, frame by frame, from the stored reply.
          const raw = await here.session("bob", at)
          const { r } = await raw.attach(ledgerOf(key))
          assert.equal(r, 3, "the initial state and two turns")
          await here.leave()
        },
      )

    test(
      `C50 the reply of a call that was committed before a SIGKILL is the same whenever it is asked for (lmdb, ${pops})`,
      {
        timeout,
      },
      async () => {
        const { cluster } = here
        const key = `same~${home}`
        const alice = await here.session("alice", "bos")
        await alice.attach(ledgerOf(key))
        alice.call(1, "add", "a")
        const { ok, r } = await alice.reply(1)
        await cluster.kill("bos")
        await cluster.restart("bos")
        const again = await here.session("alice", "bos")
        again.raw.send({
          t: "attach",
          ch: 1,
          actor: ledgerOf(key),
          sid: alice.sid,
          acked: 0,
          live: false,
          calls: [callBody(1, "add", "a"), callBody(2, "add", "b")],
        })
        const repeated = await again.reply(1)
        assert.deepEqual([repeated.ok, repeated.r], [ok, r])
        assert.equal(((await again.reply(2)).ok?.v as { n: number }).n, 2)
        await here.leave()
      },
    )

    test(
      `C61 killed by SIGKILL at any instant under load, clients resume: every call applied once, every event seen or told of (lmdb, ${pops})`,
      {
        timeout,
      },
      async () => {
        const { cluster } = here
        const key = `load~${home}`
        const clients = Array.from({ length: 8 }, (_, i) => {
          const ledger = here.client(`user${i}`, "bos").ledger.get(key)
          const resumes: string[] = []
          ledger.onResume((how) => resumes.push(how))
          return { ledger, resumes }
        })
        await Promise.all(clients.map(({ ledger }) => ledger.ready()))
        const ids: string[] = []
        const calls: Promise<{ n: number }>[] = []
        for (let round = 0; round < 2; round++) {
          const begun = calls.length
          for (let k = 0; k < 10; k++)
            for (const [i, { ledger }] of clients.entries()) {
              const id = `${i}:${round}:${k}`
              ids.push(id)
              calls.push(ledger.add(id))
            }
          // Some are answered, the others are wherever they are.
          await Promise.race(calls.slice(begun + 20))
          await cluster.kill("bos")
          await cluster.restart("bos")
        }
        const replies = await within(recoveryMsMax, "every call", Promise.all(calls))
        assert.deepEqual(
          replies.map(({ n }) => n).sort((a, b) => a - b),
          ids.map((_, i) => i + 1),
        )
        const applied = (await clients[0]?.ledger.query.ids()) ?? []
        assert.deepEqual([...applied].sort(), [...ids].sort())
        for (const [i] of clients.entries())
          assert.deepEqual(
            applied.filter((id) => id.startsWith(`${i}:`)),
            ids.filter((id) => id.startsWith(`${i}:`)),
            "in the order of each session",
          )
        for (const { resumes } of clients) assert.ok(resumes.length >= 2, resumes.join())
        await here.leave()
      },
    )

    for (const gateway of pops === 3 ? ["bos", "nrt"] : [])
      test(
        `C61 clients of ${gateway}, killed for good, resume through another POP (lmdb, 3)`,
        { timeout },
        async () => {
          const { cluster } = here
          const key = `elsewhere-${gateway}~nrt`
          const alice = here.client("alice", gateway)
          const ledger = alice.ledger.get(key)
          const left = new Promise<void>((resolve) => {
            alice.on("moved", ({ to }) => {
              if (to === "fra") resolve()
            })
          })
          await ledger.add("a")
          // The actor leaves under her open socket, so that this POP's death takes her way to it and not the actor.
          const owner = here.client("owner", "fra").ledger.get(key)
          await owner.add("b")
          await owner.go("fra")
          await within(10_000, "the actor has left", left)
          await owner.add("c")
          assert.deepEqual(await ledger.query.ids(), ["a", "b", "c"])
          assert.deepEqual([ledger.pop, owner.pop], ["fra", "fra"], "served by relay")
          await cluster.kill(gateway)
          try {
            const call = ledger.add("d")
            alice.switchTo(cluster.url("fra"))
            assert.equal((await within(recoveryMsMax, "served elsewhere", call)).n, 4)
            assert.deepEqual(await ledger.query.ids(), ["a", "b", "c", "d"])
          } finally {
            await cluster.restart(gateway)
          }
          await here.leave()
        },
      )

    test(
      `C60 after a SIGKILL a resume within the window replays, and past it there is a snapshot and the flag (lmdb, ${pops})`,
      {
        timeout,
      },
      async () => {
        const { cluster } = here
        const key = `window~${home}`
        const watcher = await here.session("watcher", "bos")
        const { r } = await watcher.attach(ledgerOf(key), { live: true })
        watcher.raw.cut()
        const caller = here.client("caller", "bos").ledger.get(key)
        for (const id of ["a", "b", "c", "d"]) await caller.add(id)
        await cluster.kill("bos")
        await cluster.restart("bos")
        for (const [pos, how] of [
          [r, "replay"],
          [r - 1, "snapshot"],
        ] as const) {
          const back = await here.session("watcher", "bos")
          back.raw.send({ t: "attach", ch: 1, actor: ledgerOf(key), sid: watcher.sid, acked: 0, live: true, pos })
          const attached = await within(recoveryMsMax, "attached", back.raw.find("attached"))
          assert.deepEqual([attached.resumed, attached.state === undefined], [how, how === "replay"])
          if (how === "replay") {
            await back.nth("out", 4)
            assert.deepEqual(
              back.raw.all("out").map(({ ev }) => (ev?.[0]?.[1].v as { id: string }).id),
              ["a", "b", "c", "d"],
            )
          } else assert.deepEqual((attached.state?.v as { ids: string[] }).ids, ["a", "b", "c", "d"])
          back.raw.cut()
        }
        await here.leave()
      },
    )
  })
