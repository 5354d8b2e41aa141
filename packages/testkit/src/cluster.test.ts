import assert from "node:assert/strict"
import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, describe, test } from "node:test"
import { startCluster, type Cluster, type ClusterOptions } from "./cluster.ts"

const folder = mkdtempSync(join(tmpdir(), "sojourn-cluster-"))
after(() => rmSync(folder, { recursive: true, force: true }))

// Stands for a POP: answers each line with its own pid and the line, or with its configuration.
const entry = join(folder, "entry.mjs")
writeFileSync(
  entry,
  `import { createServer } from "node:net"
import { servePop } from ${JSON.stringify(new URL("./cluster-pop.ts", import.meta.url).href)}
servePop(async (config) => {
  if (config.options?.fails === config.id) throw new Error("this one fails")
  const server = createServer((socket) => {
    socket.on("error", () => {})
    socket.on("data", (data) => {
      if (String(data) === "config") socket.write(JSON.stringify(config))
      else if (String(data) === "crash") process.exit(3)
      else socket.write(process.pid + " " + data)
    })
  })
  await new Promise((resolve, reject) => { server.once("error", reject); server.listen(config.port, "127.0.0.1", resolve) })
  const answer = (what) => {
    if (what === "never") return new Promise(() => {})
    if (what === "throw") throw Object.assign(new Error("not that"), { code: "NOT_THAT" })
    return { at: config.id, what }
  }
  return { close: () => (config.options?.stuck ? new Promise(() => {}) : Promise.resolve(server.close())), answer }
})
`,
)

let clusters = 0
const optionsFor = (more: Partial<ClusterOptions> = {}): ClusterOptions => ({
  pops: [
    { id: "bos", region: "us-east" },
    { id: "fra", region: "eu-central" },
    { id: "nrt", region: "ap-northeast" },
  ],
  entry,
  folder: join(folder, `cluster-${(clusters += 1)}`),
  meshRttMs: () => 30,
  clientRttMs: () => 10,
  ...more,
})

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true })
  socket.on("error", () => undefined)
  await once(socket, "connect")
  return socket
}
async function ask(port: number, text: string): Promise<string> {
  const socket = await dial(port)
  socket.write(text)
  const [data] = (await once(socket, "data")) as [Buffer]
  socket.destroy()
  return String(data)
}
const clientPort = (cluster: Cluster, pop: string): number => Number(new URL(cluster.url(pop)).port)

describe("startCluster", () => {
  test("runs every POP as its own process behind its own lines", async () => {
    await using cluster = await startCluster(optionsFor({ options: { hello: 1 } }))
    const pids = await Promise.all(
      cluster.pops.map(async (pop) => (await ask(clientPort(cluster, pop), "x")).split(" ")[0]),
    )
    assert.deepEqual(
      pids,
      cluster.pops.map((pop) => String(cluster.pid(pop))),
    )
    assert.equal(new Set(pids).size, 3)
    const config = JSON.parse(await ask(clientPort(cluster, "fra"), "config")) as {
      folder: string
      mesh: { secret: string }
    }
    assert.deepEqual(config, {
      id: "fra",
      region: "eu-central",
      port: cluster.port("fra"),
      folder: config.folder,
      mesh: {
        secret: config.mesh.secret,
        homes: ["bos", "fra", "nrt"],
        peers: [
          { id: "bos", region: "us-east", url: `ws://127.0.0.1:${cluster.meshProxy("bos", "fra").port}` },
          { id: "nrt", region: "ap-northeast", url: `ws://127.0.0.1:${cluster.meshProxy("nrt", "fra").port}` },
        ],
      },
      options: { hello: 1 },
    })
    // A pair's line leads to the POP that sorts higher: the lower one dials.
    assert.equal((await ask(cluster.meshProxy("fra", "bos").port, "x")).split(" ")[0], String(cluster.pid("fra")))
  })

  test("a POP is drained by SIGTERM: its process ends by itself, or is killed when it takes too long", async () => {
    await using cluster = await startCluster(optionsFor())
    assert.equal(await cluster.drain("bos"), 0)
    assert.equal(cluster.running("bos"), false)
    await assert.rejects(cluster.drain("bos"), /POP bos is not running/)
    await cluster.restart("bos")
    await ask(clientPort(cluster, "bos"), "x")
    await using stuck = await startCluster(optionsFor({ options: { stuck: true }, stopMsMax: 200 }))
    assert.equal(await stuck.drain("bos"), null)
  })

  test("a POP that is paused answers nothing and keeps its sockets, and answers when it is resumed", async () => {
    await using cluster = await startCluster(optionsFor())
    const socket = await dial(clientPort(cluster, "bos"))
    socket.write("x")
    await once(socket, "data")
    cluster.pause("bos")
    let heard = 0
    for (const event of ["data", "close"]) socket.on(event, () => (heard += 1))
    socket.write("y")
    // Three times the way there and back, and a whole process in between.
    for (let i = 0; i < 3; i++) await ask(clientPort(cluster, "fra"), "x")
    assert.equal(heard, 0)
    const answered = once(socket, "data")
    cluster.resume("bos")
    assert.match(String(((await answered) as [Buffer])[0]), /y$/)
    socket.destroy()
  })

  test("a killed POP resets its clients, and comes back at the same place", async () => {
    await using cluster = await startCluster(optionsFor())
    const port = clientPort(cluster, "nrt")
    const before = (await ask(port, "x")).split(" ")[0]
    const socket = await dial(port)
    socket.write("x")
    await once(socket, "data")
    const closed = once(socket, "close")
    await cluster.kill("nrt")
    await closed
    assert.equal(cluster.running("nrt"), false)
    assert.equal(cluster.pid("nrt"), undefined)
    const refused = connect({ port, host: "127.0.0.1" })
    assert.equal(((await once(refused, "error")) as [NodeJS.ErrnoException])[0].code, "ECONNRESET")
    await cluster.restart("nrt")
    const now = (await ask(port, "x")).split(" ")[0]
    assert.equal(now, String(cluster.pid("nrt")))
    assert.notEqual(now, before)
    await assert.rejects(cluster.restart("nrt"), /is running/)
  })

  test("a POP that does not start fails the cluster with its own words and leaves no process", async () => {
    await assert.rejects(
      startCluster(optionsFor({ options: { fails: "fra" } })),
      /POP fra did not start: this one fails/,
    )
    await assert.rejects(startCluster(optionsFor({ entry: join(folder, "missing.mjs") })), /did not start/)
  })

  // Those made before it stayed open, and kept the process from ending.
  test("a line that cannot be fails the cluster and leaves no other line open", async () => {
    const lines = (): number => process.getActiveResourcesInfo().filter((what) => what === "TCPServerWrap").length
    const before = lines()
    for (const wrong of [
      { meshRttMs: (a: string, b: string) => (a + b === "franrt" ? NaN : 30) },
      { clientRttMs: (pop: string) => (pop === "nrt" ? -1 : 10) },
    ])
      await assert.rejects(startCluster(optionsFor(wrong)), /rttMs must be a number of at least 0/)
    // A handle counts until the event loop has come round.
    while (lines() > before) await new Promise((resolve) => setImmediate(resolve))
  })

  test("a POP that ends by itself is reported with how it ended", async () => {
    const crashed = Promise.withResolvers<[string, string]>()
    await using cluster = await startCluster(optionsFor({ onCrash: (pop, how) => crashed.resolve([pop, how]) }))
    const socket = await dial(clientPort(cluster, "bos"))
    socket.write("crash")
    assert.deepEqual(await crashed.promise, ["bos", "exit code 3"])
  })

  test("a POP's module is asked: its answer comes, its error with the code, and its end when it dies before it answered", async () => {
    await using cluster = await startCluster(optionsFor())
    assert.deepEqual(await cluster.ask("fra", { x: 1 }), { at: "fra", what: { x: 1 } })
    await assert.rejects(cluster.ask("fra", "throw"), { message: "not that", code: "NOT_THAT" })
    const never = assert.rejects(cluster.ask("fra", "never"), /POP fra ended before it answered/)
    await cluster.kill("fra")
    await never
    await assert.rejects(cluster.ask("fra", "x"), /POP fra is not running/)
  })

  const ends: [string, (parent: ChildProcess) => void, NodeJS.Signals | number][] = [
    ["is interrupted", (parent) => parent.kill("SIGINT"), "SIGINT"],
    ["is terminated", (parent) => parent.kill("SIGTERM"), "SIGTERM"],
    ["is killed", (parent) => parent.kill("SIGKILL"), "SIGKILL"],
    ["exits", (parent) => parent.stdin?.end("exit"), 7],
    ["throws", (parent) => parent.stdin?.end("throw"), 1],
  ]
  for (const [what, end, how] of ends)
    test(`every POP ends when the process that started them ${what}`, async () => {
      const script = join(folder, "parent.mjs")
      const { meshRttMs: _m, clientRttMs: _c, ...plain } = optionsFor()
      writeFileSync(
        script,
        `import { startCluster } from ${JSON.stringify(new URL("./cluster.ts", import.meta.url).href)}
const cluster = await startCluster({ ...${JSON.stringify(plain)}, meshRttMs: () => 0, clientRttMs: () => 0 })
process.stdin.on("data", (data) => { if (String(data) === "exit") process.exit(7); throw new Error("a defect") })
console.log(JSON.stringify(cluster.pops.map((pop) => cluster.port(pop))))`,
      )
      const parent = spawn(process.execPath, ["--conditions=sojourn-source", script], {
        stdio: ["pipe", "pipe", "ignore"],
        env: { ...process.env, NODE_TEST_CONTEXT: undefined },
      })
      const ended = once(parent, "exit")
      const [line] = (await once(parent.stdout, "data")) as [Buffer]
      const sockets = await Promise.all((JSON.parse(String(line)) as number[]).map(dial))
      // Ended or reset, as the system likes: a process that is killed before it has accepted a connection resets it.
      const closed = sockets.map((socket) => {
        socket.resume()
        socket.on("error", () => undefined)
        return new Promise((resolve) => socket.once("close", resolve))
      })
      end(parent)
      await Promise.all(closed)
      const [code, signal] = (await ended) as [number | null, NodeJS.Signals | null]
      assert.equal(signal ?? code, how)
    })
})
