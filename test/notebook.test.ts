// `npm start` with real processes, as a browser would use it.

import assert from "node:assert/strict"
import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { after, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { createClient } from "@sojourn/client"
import type { App } from "../examples/notebook/src/actors.ts"
import type { World } from "../examples/notebook/src/world.ts"

const program = fileURLToPath(new URL("../examples/notebook/src/main.ts", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "sojourn-notebook-test-"))
after(() => rmSync(folder, { recursive: true, force: true }))

interface Running {
  readonly child: ChildProcess
  /** Resolves with the next line of its output that matches. */
  line(pattern: RegExp): Promise<RegExpExecArray>
  /** Resolves with the page's URL, or rejects with what was printed when the program ended without one. */
  readonly url: Promise<string>
  readonly ended: Promise<{ readonly how: number | string; readonly err: string }>
}

function start(...args: string[]): Running {
  const child = spawn(process.execPath, ["--conditions=sojourn-source", program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  })
  after(() => child.kill("SIGKILL"))
  let err = ""
  child.stderr.on("data", (chunk: Buffer) => (err += String(chunk)))
  const ended = once(child, "close").then(([code, signal]) => ({ how: (signal ?? code) as number | string, err }))
  const lines = createInterface(child.stdout)
  const line = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      lines.on("line", (text) => {
        const found = pattern.exec(text)
        if (found !== null) resolve(found)
      })
      void ended.then(({ how }) => reject(new Error(`npm start ended with ${how}: ${err}`)))
    })
  const url = line(/^Sojourn notebook: (http:\S+)$/).then((found) => found[1] ?? "")
  url.catch(() => undefined)
  return { child, line, url, ended }
}

describe("npm start", () => {
  test("serves the notebook on one URL; it follows its reader, and survives an interrupt", async () => {
    const data = join(folder, "data")
    const first = start("--port", "0", "--data", data)
    const url = await first.url
    const page = await fetch(url)
    assert.match(page.headers.get("content-security-policy") ?? "", /default-src 'none'/)
    assert.match(await page.text(), /<textarea/)
    for (const asset of ["/app.js", "/style.css", "/icon.svg"]) assert.equal((await fetch(url + asset)).status, 200)
    assert.equal((await fetch(`${url}/../package.json`)).status, 404)

    const world = (await (await fetch(`${url}/world.json`)).json()) as World
    const boston = world.places.find(({ id }) => id === "boston")!
    const tokyo = world.places.find(({ id }) => id === "tokyo")!
    assert.deepEqual([boston.nearest, tokyo.nearest], ["bos", "nrt"])
    {
      await using client = createClient<App>({ url: boston.lines["bos"]!.url, token: "reader" })
      const notebook = client.notebook.get("kept~bos")
      await notebook.edit("w", 1, 0, [[0, 0, "written in Boston"]])
      const moved = new Promise((resolve) => client.on("moved", ({ from, to }) => resolve([from, to])))
      client.switchTo(tokyo.lines["nrt"]!.url)
      await notebook.edit("w", 2, 0, [[17, 0, ", ended in Tokyo"]])
      assert.deepEqual(await moved, ["bos", "nrt"])
    }

    const second = start("--port", "0", "--data", data)
    const refused = await second.ended
    assert.equal(refused.how, 1)
    assert.match(refused.err, /POP \w+ did not start: the store in .* is open already/)

    first.child.kill("SIGINT")
    assert.equal((await first.ended).how, "SIGINT")
    // Had a POP lived on, its folder would be in use.
    const third = start("--port", "0", "--data", data)
    const again = (await (await fetch(`${await third.url}/world.json`)).json()) as World
    {
      const place = again.places.find(({ id }) => id === "tokyo")!
      await using client = createClient<App>({ url: place.lines["nrt"]!.url, token: "reader" })
      const report = await client.notebook.get("kept~bos").query.report("w")
      assert.equal(report.text, "written in Boston, ended in Tokyo")
      assert.deepEqual(report.tally?.runs, [[1, 2]])
    }
    third.child.kill("SIGTERM")
    assert.equal((await third.ended).how, "SIGTERM")
  })

  test(
    "a POP that is killed from outside comes back with what it had acknowledged (C61)",
    { skip: !existsSync("/proc/self/task") && "finds the POPs' processes in /proc" },
    async () => {
      const running = start("--port", "0", "--data", join(folder, "killed"))
      const world = (await (await fetch(`${await running.url}/world.json`)).json()) as World
      const place = world.places[0]!
      await using client = createClient<App>({ url: place.lines[place.nearest]!.url, token: "reader" })
      const notebook = client.notebook.get(`killed~${place.nearest}`)
      await notebook.edit("w", 1, 0, [[0, 0, "before"]])
      const { pid } = running.child
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number)
      const pops = children.filter((child) => readFileSync(`/proc/${child}/cmdline`, "utf8").includes("pop.ts"))
      assert.equal(pops.length, 3)
      // Which one is which POP only their output tells: all of them, then.
      const back = world.pops.map(({ id }) => running.line(new RegExp(`^POP ${id} is back`)))
      for (const pop of pops) process.kill(pop, "SIGKILL")
      const edit = notebook.edit("w", 2, 0, [[6, 0, " and after"]])
      await Promise.all(back)
      await edit
      const report = await notebook.query.report("w")
      assert.deepEqual([report.text, report.tally?.runs], ["before and after", [[1, 2]]])
      running.child.kill("SIGINT")
      await running.ended
    },
  )

  test("what makes trouble listens to the page alone, and does what it says", async () => {
    const running = start("--port", "0", "--data", join(folder, "trouble"))
    const url = await running.url
    const { host } = new URL(url)
    const post = (json: unknown, headers: Record<string, string>): Promise<number> =>
      new Promise((resolve, reject) => {
        const asked = request(`${url}/trouble`, { method: "POST", headers }, (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        })
        asked.on("error", reject)
        asked.end(JSON.stringify(json))
      })
    const kill = { what: "kill", pop: "nrt" }
    assert.equal(await post(kill, {}), 403)
    assert.equal(await post(kill, { origin: "http://elsewhere.example" }), 403)
    assert.equal(await post(kill, { origin: `http://elsewhere.example:${running.child.pid}`, host }), 403)
    assert.equal(await post(kill, { origin: "http://elsewhere.example", host: "elsewhere.example" }), 403)
    const own = { origin: `http://${host}` }
    assert.equal(await post({ what: "kill", pop: "nowhere" }, own), 400)
    assert.equal(await post({ what: "cut", place: "tokyo", ms: 1e9 }, own), 400)
    assert.equal(await post({ padding: "x".repeat(5000) }, own), 400)

    const heard = await fetch(`${url}/trouble`)
    const stream = heard.body!.pipeThrough(new TextDecoderStream()).getReader()
    const told = async (): Promise<unknown> => {
      let text = ""
      while (!text.endsWith("\n\n")) text += (await stream.read()).value ?? assert.fail(`the stream ended: ${text}`)
      return JSON.parse(text.slice(text.lastIndexOf("data: ") + 6))
    }
    assert.deepEqual(await told(), { down: [], cut: [] })
    assert.equal(await post(kill, own), 204)
    assert.deepEqual(await told(), { down: ["nrt"], cut: [] })
    assert.equal(await post({ what: "start", pop: "nrt" }, own), 204)
    assert.deepEqual(await told(), { down: [], cut: [] })
    await stream.cancel()
    running.child.kill("SIGINT")
    await running.ended
  })

  test("a busy port is said at once, with the way out", async () => {
    const taken = createServer()
    taken.listen(0, "127.0.0.1")
    await once(taken, "listening")
    const { port } = taken.address() as AddressInfo
    const { how, err } = await start("--port", String(port), "--data", join(folder, "busy")).ended
    taken.close()
    assert.equal(how, 2)
    assert.equal(
      err,
      `Sojourn: port ${port} is in use by another program. Stop that one, or choose another port: npm start -- --port ${port + 1}\n`,
    )
  })

  test("a configuration that is wrong is named", async () => {
    const config = join(folder, "world.json")
    writeFileSync(config, JSON.stringify({ pops: [{ id: "a", name: "A", region: "r", lat: 500, lon: 0 }], places: [] }))
    const { how, err } = await start("--port", "0", "--config", config).ended
    assert.equal(how, 1)
    assert.match(err, /world\.json: pops\[0\]\.lat must be a number from -90 to 90/)
  })
})
