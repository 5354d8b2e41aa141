import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { test } from "node:test"
import { promisify } from "node:util"

const run = async (code: string): Promise<string> => {
  const args = ["--conditions=sojourn-source", "--input-type=module", "--eval", code]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: import.meta.dirname, timeout: 20_000 })
  return stdout.trim()
}
const index = JSON.stringify(new URL("./index.ts", import.meta.url).href)

test("C67 importing the client, and making one, touches no global of a browser", async () => {
  const output = await run(`
    const touched = []
    for (const name of ["window", "self", "document", "navigator", "location", "localStorage", "WebSocket", "performance", "crypto", "addEventListener"])
      Object.defineProperty(globalThis, name, { configurable: true, get() { touched.push(name); return undefined } })
    const { createClient } = await import(${index})
    const client = createClient({ url: "ws://nowhere" })
    client.actor("list", "a")
    await client.close()
    console.log("touched", touched.join())
  `)
  assert.equal(output, "touched")
})

test("without a WebSocket the calls reject by name", async () => {
  const output = await run(`
    delete globalThis.WebSocket
    const { createClient } = await import(${index})
    const client = createClient({ url: "ws://127.0.0.1:1" })
    await client.actor("list", "a").call.push(1).catch((error) => console.log(error.code, error.outcome, client.status))
  `)
  assert.equal(output, "BAD_CONFIG not-executed failed")
})

test("C66 Node exits after close(), in the middle of connecting, with Node's own WebSocket", async () => {
  const output = await run(`
    const { createClient } = await import(${index})
    const client = createClient({ url: "ws://127.0.0.1:1" })
    const call = client.actor("list", "a").call.push(1)
    await new Promise((resolve) => client.on("status", ({ to }) => to === "reconnecting" && resolve()))
    await client.close()
    await call.catch((error) => console.log(error.code, error.outcome))
  `)
  assert.equal(output, "CLIENT_CLOSED not-executed")
})
