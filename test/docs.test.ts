// The documents say what the code says: generated ones are up to date, the code map is complete, names and numbers exist.

import assert from "node:assert/strict"
import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type AddressInfo } from "node:net"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { test } from "node:test"
import { CLOSE_CODES, ERRORS, frameLimits, reconnects } from "@sojourn/protocol"
import ts from "typescript"
import { generatedDocuments } from "../scripts/docs.ts"
import { examples, packages, readText, root, sourcesBelow, walk } from "./workspace.ts"

test("docs/errors.md and docs/limits.md are what scripts/docs.ts makes of the code's tables", async () => {
  for (const [path, text] of await generatedDocuments())
    assert.equal(readText(path), text, `${path} is out of date: npx node --conditions=sojourn-source scripts/docs.ts`)
})

/** The rows of the markdown tables in a text, cells trimmed, without heads and rules. */
function rowsOf(text: string): readonly (readonly string[])[] {
  const lines = text.split("\n")
  return lines.flatMap((line, i) => {
    if (!line.startsWith("|") || /^\|[\s:|-]+$/.test(line) || /^\|[\s:|-]+$/.test(lines[i + 1] ?? "")) return []
    return [
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    ]
  })
}

/** The texts in backticks. */
function codeIn(text: string): readonly string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code)
}

/** The part of a document under a heading, up to the next heading of the same or a higher level. */
function section(document: string, heading: string): string {
  const text = readText(document)
  const start = text.indexOf(`\n${heading}\n`)
  assert.ok(start >= 0, `${document} has no heading "${heading}"`)
  const level = heading.split(" ", 1)[0] ?? "#"
  const rest = text.slice(start + heading.length + 2)
  const end = rest.search(new RegExp(`^#{1,${level.length}} `, "m"))
  return end < 0 ? rest : rest.slice(0, end)
}

const architecture = "ARCHITECTURE.md"

test("the code map of ARCHITECTURE.md names files that exist, and every source file of protocol and core", () => {
  const map = section(architecture, "## Code map")
  const parts = map.split(/^### /m).slice(1)
  const mapped = new Map<string, readonly string[]>()
  for (const part of parts) {
    const folder = part.slice(0, part.indexOf("\n"))
    const files = rowsOf(part).flatMap(([first = ""]) => codeIn(first))
    mapped.set(folder, files)
    assert.deepEqual(
      files.filter((file) => !existsSync(join(root, folder, "src", file))),
      [],
      `${folder}: named in the code map, not there`,
    )
  }
  assert.deepEqual([...mapped.keys()].sort(), packages.map(({ folder }) => folder).sort())
  for (const { folder, role, sources } of packages) {
    if (role !== "protocol" && role !== "core") continue
    const missing = sources
      .filter(({ isTest }) => !isTest)
      .map(({ path }) => path.slice(`${folder}/src/`.length))
      .filter((file) => !mapped.get(folder)?.includes(file))
    assert.deepEqual(missing, [], `${folder}: not in the code map`)
  }
})

test("the functions that ARCHITECTURE.md follows a message and a move through are in the files it names", () => {
  const wrong: string[] = []
  let named = 0
  for (const heading of ["## One message, from the socket to the disk and back", "## One move"])
    for (const [, where = "", names = ""] of rowsOf(section(architecture, heading))) {
      const [file] = codeIn(where)
      if (file === undefined || !file.startsWith("packages/")) continue
      const source = readText(file)
      for (const name of codeIn(names)) {
        named++
        const found = new RegExp(`(?<![\\w#])${name}(?!\\w)`).test(source)
        if (!found) wrong.push(`${file}: ${name}`)
      }
    }
  assert.ok(named > 30, `only ${named} names were found in the tables`)
  assert.deepEqual(wrong, [])
})

test("PROTOCOL.md has every close code with what a client does, and every frame type", () => {
  const rows = rowsOf(section("PROTOCOL.md", "## 11. Reconnecting"))
  const written = rows.map(([code = "", name = "", then = ""]) => `${code} ${name.replaceAll("`", "")} ${then}`)
  const expected = Object.entries(CLOSE_CODES).map(
    ([name, [code]]) => `${code} ${name} ${reconnects(code) ? "connects again" : "stops"}`,
  )
  assert.deepEqual(written, expected)

  const frames = [...readText("packages/protocol/src/frames.ts").matchAll(/readonly t: "(\w+)"/g)]
  const text = readText("PROTOCOL.md")
  for (const [, type = ""] of frames)
    assert.ok(text.includes(`"t":"${type}"`) || text.includes(`\`${type}\``), `PROTOCOL.md says nothing of ${type}`)

  const messages = [...readText("packages/core/src/mesh-messages.ts").matchAll(/readonly t: "(\w+)"/g)]
  const mesh = section("PROTOCOL.md", "## 16. Messages")
  for (const [, type = ""] of messages) assert.ok(mesh.includes(`\`${type}\``), `PROTOCOL.md says nothing of ${type}`)
})

test("PROTOCOL.md names every field of every frame, and the protocol's limits as they are", () => {
  const text = readText("PROTOCOL.md")
  const source = readText("packages/protocol/src/frames.ts").split("export const frameLimits")[0] ?? ""
  const fields = new Set([...source.matchAll(/readonly (\w+)\??:/g)].map(([, name = ""]) => name))
  const unnamed = [...fields].filter((name) => !new RegExp(`\`${name}\`|"${name}":`).test(text))
  assert.deepEqual(unnamed, [])
  const said: Record<keyof typeof frameLimits, RegExp> = {
    helloCharsMax: /at most 4,096 characters and comes within/,
    keyBytesMax: /1 to 512 bytes of UTF-8/,
    nameCharsMax: /class: at most 64 characters/,
    sidCharsMax: /`sid`\s*\| string, at most 200/,
    tokenCharsMax: /`token`\s*\| string, at most 4,096/,
    attachesPerHelloMax: /`attach`\s*\| array, at most 32/,
    callsPerAttachMax: /in order, then new ones; at most 1,024/,
    sessionsPerAskMax: /\(1 to 64\)/,
    batchCharsMax: /65,536 characters/,
    batchFramesMax: /1,024 frames/,
  }
  for (const [name, pattern] of Object.entries(said)) {
    assert.match(text, pattern, name)
    const value = frameLimits[name as keyof typeof frameLimits].toLocaleString("en-US")
    assert.ok(String(pattern).includes(value), `${name} is ${value} now`)
  }
})

test("errors that the documents name in code letters exist", () => {
  const known = new Set<string>([...Object.keys(ERRORS), ...Object.keys(CLOSE_CODES)])
  const messages = [...readText("packages/core/src/mesh-messages.ts").matchAll(/readonly t: "(\w+)"/g)]
  for (const [, type = ""] of messages) known.add(type)
  for (const word of ["OWNED", "GRANTED", "PTR", "HELLO", "CHALLENGE", "PROOF", "READY", "BEAT", "ECHO", "NODE_ENV"])
    known.add(word)
  // The design's names for what README.md says is not there yet.
  for (const word of ["OFFER", "PRECOPY"]) known.add(word)
  const documents = ["README.md", architecture, "PROTOCOL.md"].filter((path) => existsSync(join(root, path)))
  const wrong = documents.flatMap((path) =>
    codeIn(readText(path).replace(/^```[\s\S]*?^```/gm, ""))
      .flatMap((code) => /^([A-Z][A-Z_]{2,})$/.exec(code)?.[1] ?? [])
      .filter((code) => !known.has(code))
      .map((code) => `${path}: ${code}`),
  )
  assert.deepEqual(wrong, [])
})

/** Ports that nobody listened on a moment ago; taken together, so that they differ. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"))
  await Promise.all(servers.map((server) => once(server, "listening")))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), "close")))
  return ports
}

test("README.md's example runs, and prints what README.md says", { timeout: 60_000 }, async ({ signal }) => {
  const example = section("README.md", "## The smallest complete example")
  const blocks = [...example.matchAll(/^```ts\n\/\/ ([\w.]+)\n([\s\S]*?)^```/gm)]
  const promised = /^```text\n([\s\S]*?)^```/m.exec(example)?.[1]?.trim().split("\n")
  assert.deepEqual(
    blocks.map(([, name]) => name),
    ["actors.ts", "pop.ts", "client.ts"],
  )
  const data = join(root, ".data")
  mkdirSync(data, { recursive: true })
  const folder = mkdtempSync(join(data, "readme-"))
  const running = new Set<ChildProcess>()
  /** `first`: its first line, or that it ended; `all`: every line, once it has ended. Killed with the test. */
  const start = (...args: readonly string[]): { first: Promise<string>; all: Promise<readonly string[]> } => {
    const child = spawn(process.execPath, ["--conditions=sojourn-source", ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "inherit"],
      killSignal: "SIGKILL",
      signal,
    })
    running.add(child)
    const lines: string[] = []
    const reader = createInterface({ input: child.stdout })
    reader.on("line", (line) => lines.push(line))
    const ended = new Promise<void>((resolve) => {
      child.once("error", () => undefined)
      child.once("close", () => {
        running.delete(child)
        resolve()
      })
    })
    const first = new Promise<string>((resolve) => {
      reader.once("line", resolve)
      void ended.then(() => resolve("it ended"))
    })
    return { first, all: ended.then(() => lines) }
  }
  try {
    const [bos, fra] = await freePorts(2)
    for (const [, name = "", body = ""] of blocks)
      writeFileSync(join(folder, name), body.replaceAll("8081", String(bos)).replaceAll("8082", String(fra)))
    const pops = ["bos", "fra"].map((id) => start("pop.ts", id))
    assert.deepEqual(await Promise.all(pops.map(({ first }) => first)), ["bos serves", "fra serves"])
    assert.deepEqual(await start("client.ts").all, promised)
    // Run again at once, it waited for ever: the cart was in Frankfurt, and stayed there for the client that had just left.
    assert.equal((await start("client.ts").all).at(-1), "things in all: 6")
  } finally {
    const gone = [...running].map((child) => once(child, "close"))
    for (const child of running) child.kill("SIGKILL")
    await Promise.all(gone)
    rmSync(folder, { recursive: true, force: true })
  }
})

test("every behaviour that docs/behaviours.md says this version holds is cited by a test, and every cited one is in it", () => {
  const rows = rowsOf(readText("docs/behaviours.md"))
  const cells = rows.map(([number = ""]) => number).filter((cell) => /^(\*\*)?C\d/.test(cell))
  const excused = rows.flatMap(([first = "", numbers = ""]) => (cells.includes(first) ? [] : numbers.split(", ")))
  const listed = new Set(cells.map((cell) => cell.replaceAll("*", "")))
  const held = cells.filter((cell) => cell.startsWith("**")).map((cell) => cell.replaceAll("*", ""))
  const sources = [...packages, ...examples].flatMap(({ role, sources }) =>
    sources.filter(({ isTest }) => isTest || role === "testkit"),
  )
  const cited = new Set<string>()
  // In names and labels, which are strings: a comment proves nothing.
  for (const { tree } of [...sources, ...sourcesBelow("test")])
    walk(tree, (node) => {
      if (!ts.isStringLiteralLike(node) && !ts.isTemplateHead(node)) return
      for (const [number] of node.text.matchAll(/\bC[1-9]\d?\b/g)) cited.add(number)
    })
  assert.deepEqual(
    held.filter((number) => !cited.has(number)),
    [],
    "no test cites these",
  )
  assert.deepEqual(
    [...cited].filter((number) => !listed.has(number)),
    [],
    "docs/behaviours.md does not list these",
  )
  assert.deepEqual(
    [...listed].filter((number) => cited.has(number) === excused.includes(number)),
    [],
    "docs/behaviours.md gives a reason for exactly those that no test cites",
  )
})
