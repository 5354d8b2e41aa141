import { lmdb } from "@sojourn/storage-lmdb"
import { startCluster, type Cluster } from "@sojourn/testkit"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import type { Account } from "./app.ts"
import { createDisks, type Disks } from "./disks.ts"
import { Faults } from "./faults.ts"
import { faultsOfJudge, judge, type Entry } from "./ledger.ts"
import { pauseMs } from "./limits.ts"
import { chaosOptions, usage, type ChaosOptions } from "./options.ts"
import type { PopExtras } from "./pop.ts"
import { seeded } from "./random.ts"
import { Recoveries, spread, type Spread } from "./recoveries.ts"
import { now, Traveller } from "./traveller.ts"

/**
 * `npm run chaos`: POPs as real processes on LMDB, clients that travel and call, and everything that a day of operation brings, in minutes.
 * In the end a ledger that is kept here, outside of the product, is compared with what the actors hold. Last, when no POP runs any more, each
 * store is opened and every actor must have exactly one owner.
 */
const popNames = ["bos", "fra", "nrt", "syd", "gru", "jnb", "sin", "lhr"]
const places = ["here", "there"] as const
const meshRttMs = 10
const clientRttMs = 4
/** From the end of the last fault until everybody must have been served. */
const settleMsMax = 30_000
/** Of the ledger, for whoever has to find out. */
const ledgerFile = "ledger.jsonl"

/** What POPs log as errors: a broken invariant, a corrupt record, a lost store; or a process's last words. */
const errorLine = /^\{"level":[56]0,|^node:internal/
/** An activation was lost because the disk was full. */
const fullLine = /"msg":"activation\.dropped"|"activation\.dropped"\}$/

class Run {
  readonly #options: ChaosOptions
  readonly #folder: string
  readonly #say: (line: string) => void
  readonly #entries: Entry[] = []
  readonly #story: string[] = []
  readonly #begun = now()
  readonly #random: () => number
  #queries = 0
  readonly #crashes: string[] = []

  constructor(options: ChaosOptions, folder: string, say: (line: string) => void) {
    this.#options = options
    this.#folder = folder
    this.#say = say
    this.#random = seeded(options.seed)
  }

  async run(disks: Disks | undefined): Promise<boolean> {
    const { pops, minutes, killsPerMinute, alone } = this.#options
    const ids = popNames.slice(0, pops)
    for (const id of ids) disks?.prepare(id)
    const cluster = await this.#start(ids)
    const travellers = this.#travellers(cluster)
    try {
      this.#say(
        `${ids.length} POPs, ${travellers.length} clients, ${this.#options.rate} calls a second, seed ${this.#options.seed}`,
      )
      await this.#everybodyServed(travellers)
      this.#say(`everybody is served; faults for ${minutes} minutes`)
      for (const traveller of travellers) traveller.start()
      const recoveries = new Recoveries((words) => this.#tell(words))
      const faults = new Faults({
        cluster,
        places,
        disks,
        travellers,
        placeOf: (traveller) => this.#placeOf(travellers.indexOf(traveller)),
        recoveries,
        random: seeded(this.#options.seed + 1),
        killsPerMinute,
        alone,
        say: (line) => this.#tell(line),
      })
      const progress = setInterval(() => {
        const calls = sum(travellers.map((one) => one.calls))
        this.#say(`${this.#at()} ${calls} calls, ${faults.kills} kills, ${sum([...recoveries.counts.values()])} faults`)
      }, 15_000)
      try {
        await faults.run(now() + minutes * 60_000)
      } catch (cause) {
        this.#leave()
        throw cause
      } finally {
        clearInterval(progress)
        for (const traveller of travellers) traveller.stop()
      }
      const unserved = await this.#everybodyServed(travellers)
      const finals = await this.#finals(cluster, travellers)
      await Promise.all(travellers.map((one) => one.close()))
      await cluster.stop()
      return await this.#report({ travellers, faults, recoveries, unserved, finals, disks })
    } finally {
      await Promise.all(travellers.map((one) => one.close()))
      await cluster.stop()
    }
  }

  #start(ids: readonly string[]): Promise<Cluster> {
    const { plant } = this.#options
    return startCluster({
      pops: ids.map((id) => ({ id, region: "eu" })),
      entry: new URL("./pop.ts", import.meta.url),
      folder: this.#folder,
      places,
      meshRttMs: () => meshRttMs,
      clientRttMs: () => clientRttMs,
      jitterMs: 2,
      messages: true,
      // A process of a busy machine may take long to load.
      startMsMax: 60_000,
      // A POP that is started again loads what was compiled before.
      env: { NODE_COMPILE_CACHE: join(this.#folder, "compiled") },
      options: (plant === undefined ? {} : { plant }) satisfies PopExtras,
      onCrash: (pop, how, log) => {
        this.#crashes.push(pop)
        process.stderr.write(`POP ${pop} ended by itself: ${how}\n${log}\n`)
      },
    })
  }

  #placeOf(index: number): string {
    return places[index % places.length] ?? places[0]
  }

  /** Two clients each share an account besides their own. */
  #travellers(cluster: Cluster): Traveller[] {
    const { clients, rate } = this.#options
    const home = (i: number): string => cluster.pops[i % cluster.pops.length] ?? ""
    return Array.from({ length: clients }, (_, i) => {
      const from = Math.floor(this.#random() * cluster.pops.length)
      const route = [...cluster.pops.slice(from), ...cluster.pops.slice(0, from)]
      const pair = Math.floor(i / 2)
      return new Traveller({
        id: `c${i}`,
        own: `own${i}~${home(i)}`,
        shared: `shared${pair}~${home(pair)}`,
        urls: new Map(route.map((pop) => [pop, cluster.url(pop, this.#placeOf(i))])),
        random: seeded(this.#options.seed * 1_000 + i),
        everyMs: (1_000 * clients) / rate,
        note: (entry) => this.#entries.push(entry),
        nextQuery: () => ++this.#queries,
      })
    })
  }

  /** @returns accounts of clients that were not */
  async #everybodyServed(travellers: readonly Traveller[]): Promise<string[]> {
    const until = now() + settleMsMax
    const late: string[] = []
    await Promise.all(
      travellers.flatMap((one) =>
        one.accounts.map(async (key) => {
          if ((await one.served(key, until)) === undefined) late.push(`${one.id} by ${key}`)
        }),
      ),
    )
    return late
  }

  /** Read by clients that had no part in it. */
  async #finals(cluster: Cluster, travellers: readonly Traveller[]): Promise<Map<string, Account>> {
    const keys = [...new Set(travellers.flatMap((one) => one.accounts))]
    const finals = new Map<string, Account>()
    const perReader = 100
    for (let i = 0; i < keys.length; i += perReader) {
      const pop = cluster.pops[(i / perReader) % cluster.pops.length] ?? ""
      const reader = new Traveller({
        id: `reader${i}`,
        own: keys[i] ?? "",
        shared: keys[i] ?? "",
        urls: new Map([[pop, cluster.url(pop)]]),
        random: this.#random,
        everyMs: Infinity,
        note: (entry) => this.#entries.push(entry),
        nextQuery: () => ++this.#queries,
      })
      await Promise.all(
        keys.slice(i, i + perReader).map(async (key) => {
          const until = now() + settleMsMax
          while (!finals.has(key) && now() < until) {
            const state = await reader.query(key)
            if (state !== undefined) finals.set(key, state)
          }
        }),
      )
      await reader.close()
    }
    return finals
  }

  async #report(end: {
    readonly travellers: readonly Traveller[]
    readonly faults: Faults
    readonly recoveries: Recoveries
    readonly unserved: readonly string[]
    readonly finals: ReadonlyMap<string, Account>
    readonly disks: Disks | undefined
  }): Promise<boolean> {
    const { travellers, faults, recoveries, unserved, finals, disks } = end
    const judgement = judge(this.#entries, finals)
    const owners = await this.#owners([...finals.keys()])
    const refusals = new Map<string, number>()
    for (const one of travellers)
      for (const [code, n] of one.refusals) refusals.set(code, (refusals.get(code) ?? 0) + n)
    const failed = travellers.flatMap((one) => one.failures)
    const unnamed = [...refusals.keys()].filter((code) => !/^[A-Z_]+$/.test(code))
    const errors = this.#logged(errorLine)
    const table = recoveries.table()
    for (const line of tableLines(table, recoveries.counts)) this.#say(line)
    const restart = spread(faults.restartMs)
    this.#say(`a process serves ${restart.p50} ms after its start (p50; p99 ${restart.p99}, max ${restart.max})`)
    for (const words of [
      ...judgement.findings,
      ...owners,
      ...unnamed,
      ...errors,
      ...failed,
      ...unserved.map((who) => `not served: ${who}`),
      ...this.#crashes.map((pop) => `ended by itself: ${pop}`),
    ])
      process.stderr.write(`${words}\n`)
    const wrong =
      sum(faultsOfJudge.map((what) => judgement[what])) +
      [unserved, owners, unnamed, errors, failed, this.#crashes].reduce((n, list) => n + list.length, 0)
    const { minutes, seed } = this.#options
    if (wrong > 0 || this.#options.keep) this.#leave()
    process.stdout.write(
      `${JSON.stringify({
        lost: judgement.lost,
        duplicated: judgement.duplicated,
        disordered: judgement.disordered,
        untrue: judgement.untrue,
        stale: judgement.stale,
        unserved: unserved.length,
        owners: owners.length,
        errors: errors.length,
        failed: failed.length,
        crashes: this.#crashes.length,
        kills: faults.kills,
        faults: sum([...recoveries.counts.values()]),
        calls: sum(travellers.map((one) => one.calls)),
        acknowledged: this.#entries.filter((entry) => entry.t === "told" && entry.told === "ok").length,
        travels: sum(travellers.map((one) => one.travels)),
        minutes,
        seed,
        clients: travellers.length,
        alone: this.#options.alone,
        loadAverage: Math.round(loadavg()[1] ?? 0),
        disk: disks?.refusal ?? "none",
        diskRefusals: this.#logged(fullLine).length,
        refusals: Object.fromEntries(refusals),
        byKind: Object.fromEntries(recoveries.counts),
        restartMs: spread(faults.restartMs),
        recoveryMs: Object.fromEntries(table),
      })}\n`,
    )
    return wrong === 0
  }

  /** Where not exactly one POP has the actor. */
  async #owners(keys: readonly string[]): Promise<string[]> {
    const held = new Map<string, { readonly owned: string[]; readonly granted: string[] }>()
    for (const pop of popNames.slice(0, this.#options.pops)) {
      const store = await lmdb(join(this.#folder, pop)).open()
      let after: string | undefined
      for (;;) {
        const page = await store.list({ limit: 500, ...(after === undefined ? {} : { after }) })
        for (const { actor, record } of page) {
          const of = held.get(actor) ?? { owned: [], granted: [] }
          held.set(actor, of)
          if (record.k === "OWNED") of.owned.push(`${pop} ${record.e}`)
          else if (record.k === "GRANTED") of.granted.push(`${pop} ${record.e}`)
        }
        after = page.at(-1)?.actor
        if (page.length < 500) break
      }
      await store.close()
    }
    return keys.flatMap((key) => {
      const { owned, granted } = held.get(`account/${key}`) ?? { owned: [], granted: [] }
      const one = owned.length === 1 || (owned.length === 0 && granted.length === 1)
      return one
        ? []
        : [`${key} is owned at ${owned.join(", ") || "no POP"}, granted at ${granted.join(", ") || "none"}`]
    })
  }

  #logged(what: RegExp): string[] {
    return popNames.slice(0, this.#options.pops).flatMap((pop) =>
      readFileSync(join(this.#folder, `${pop}.log`), "utf8")
        .split("\n")
        .filter((line) => what.test(line))
        .map((line) => `${pop}: ${line.slice(0, 500)}`),
    )
  }

  #at(): string {
    return `${((now() - this.#begun) / 1_000).toFixed(1)} s`
  }

  #tell(line: string): void {
    this.#story.push(`${Math.round(now())} ${line}`)
  }

  #leave(): void {
    writeFileSync(join(this.#folder, "story.txt"), `${this.#story.join("\n")}\n`)
    writeFileSync(join(this.#folder, ledgerFile), this.#entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""))
  }
}

function tableLines(table: ReadonlyMap<string, Spread>, counts: ReadonlyMap<string, number>): string[] {
  const row = (cells: readonly unknown[]): string =>
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(20) : String(cell).padStart(8))).join("")
  return [
    "served again after a fault's end (a kill, a drain: after its beginning), ms",
    row(["fault", "times", "clients", "p50", "p99", "max"]),
    ...[...table].map(([kind, { n, p50, p99, max }]) => row([kind, counts.get(kind), n, p50, p99, max])),
  ]
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0)
}

async function main(): Promise<void> {
  const options = chaosOptions(process.argv.slice(2))
  if (options === undefined) {
    process.stdout.write(`${usage}\n`)
    return
  }
  const say = (line: string): void => {
    if (!options.json) process.stdout.write(`${line}\n`)
  }
  const folder = mkdtempSync(join(tmpdir(), "sojourn-chaos-"))
  const disks = createDisks(folder)
  const usable = "why" in disks ? undefined : disks
  say("why" in disks ? `no disk is filled: ${disks.why}` : `a full disk says ${disks.refusal}`)
  say(`a POP that is paused stands still for ${pauseMs} ms or more, longer than every wait`)
  // The cluster stops its POPs at the first one and sends it again: only then may the disks go.
  let signals = 0
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => {
      if (signals++ > 0) process.exit(1)
    })
  process.on("exit", (code) => {
    usable?.close()
    if (code === 0 && !options.keep) rmSync(folder, { recursive: true, force: true })
    else process.stderr.write(`the POPs' logs and stores, the story and the ledger are left in ${folder}\n`)
  })
  if (!(await new Run(options, folder, say).run(usable))) process.exitCode = 1
}

await main().catch((error: unknown) => {
  const known = error instanceof TypeError || error instanceof RangeError
  process.stderr.write(
    `Sojourn chaos: ${known ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  process.exitCode = 1
})
