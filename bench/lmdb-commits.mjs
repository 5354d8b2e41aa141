// Durable commits on the LMDB store: how many a second, and how long one takes.
//
//   npx node --conditions=sojourn-source bench/lmdb-commits.mjs [--in-flight 1000] [--seconds 5] [--bytes 1024] [--compact-every 512]
//
// Each of `in-flight` actors commits one entry at a time. The folder is made in the working directory, because that is a disk where the
// temporary folder may not be one.

import { lmdb } from "@sojourn/storage-lmdb"
import { mkdtempSync, rmSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { parseArgs } from "node:util"

const { values } = parseArgs({
  options: {
    "in-flight": { type: "string", default: "1000" },
    seconds: { type: "string", default: "5" },
    bytes: { type: "string", default: "1024" },
    "compact-every": { type: "string", default: "512" },
  },
})
const inFlight = Number(values["in-flight"])
const seconds = Number(values.seconds)
const bytes = Number(values.bytes)
const compactEvery = Number(values["compact-every"])

const folder = mkdtempSync(".bench-lmdb-")
const store = await lmdb(folder).open()
const entry = new Uint8Array(bytes).fill(7)
const actors = Array.from({ length: inFlight }, (_, i) => `notebook/user${i}`)
await Promise.all(actors.map((actor) => store.claim(actor, true)))

const loop = monitorEventLoopDelay({ resolution: 1 })
loop.enable()
const took = []
const began = performance.now()
const cpu = process.cpuUsage()
await Promise.all(
  actors.map(async (actor) => {
    for (let v = 0; performance.now() - began < seconds * 1000; v++) {
      const called = performance.now()
      const answer = await store.commit(actor, { e: 0, f: 1, v }, { entries: [entry], h: `revision${v}` })
      if (answer.kind !== "committed") throw new Error(`${actor}: ${JSON.stringify(answer)}`)
      took.push(performance.now() - called)
      if ((v + 1) % compactEvery === 0) await store.compact(actor, { e: 0, f: 1 }, entry, v + 1)
    }
  }),
)
const elapsed = (performance.now() - began) / 1000
const used = process.cpuUsage(cpu)
loop.disable()
took.sort((a, b) => a - b)
const at = (share) => Number(took[Math.floor(took.length * share)]?.toFixed(2))

let checks = 0
const checking = performance.now()
while (performance.now() - checking < 500) {
  await store.check(actors[0], { e: 0, f: 1 })
  checks++
}
console.log(
  JSON.stringify({
    inFlight,
    bytes,
    commitsPerSecond: Math.round(took.length / elapsed),
    commitMs: { p50: at(0.5), p99: at(0.99) },
    loopDelayMsP99: Number((loop.percentile(99) / 1e6).toFixed(1)),
    cpuMicrosPerCommit: Number(((used.user + used.system) / took.length).toFixed(1)),
    checkMicros: Number((500_000 / checks).toFixed(1)),
  }),
)
await store.close()
rmSync(folder, { recursive: true })
