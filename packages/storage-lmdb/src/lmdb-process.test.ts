import assert from "node:assert/strict"
import { spawn, spawnSync, type ChildProcess } from "node:child_process"
import type { Store } from "@sojourn/core"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { describe, test, type TestContext } from "node:test"
import { fileURLToPath } from "node:url"

import { lmdb } from "./index.ts"

/**
 * What this file does when the tests below start it as a process of its own: opens the store, says `open` and does its work. Every line that it prints was true when it was printed.
 *
 * - `hold`: keeps the store open until it is killed.
 * - `commit`: commits to 20 actors side by side, for ever, and prints `actor revision` once each commit is acknowledged.
 * - `fill`: commits 64 KiB entries one after another and prints how each ended, for ever.
 */
async function asChild(folder: string, work: string): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  const store = await lmdb(folder)
    .open()
    .catch((error: unknown) => {
      say(`refused ${codeOf(error)} ${String((error as { details?: { pid?: number } }).details?.pid)}`)
      process.exit(1)
    })
  say("open")
  if (work === "commit") {
    for (let i = 0; i < 20; i++)
      void commitForEver(store, `notebook/k${i}`, 600, (line) => say(`notebook/k${i} ${line}`))
  } else if (work === "fill") void commitForEver(store, "notebook/full", 65_536, say)
  else setInterval(() => undefined, 1_000)
}

async function commitForEver(
  store: Store,
  actor: string,
  entryBytes: number,
  said: (line: string) => void,
): Promise<never> {
  for (;;) {
    const claim = await store.claim(actor, true).catch((error: unknown) => said(`claim ${codeOf(error)}`))
    if (claim?.record?.k !== "OWNED") continue
    const { e, f } = claim.record
    let { v } = claim.record
    said(`claimed ${v}`)
    for (let ok = true; ok;) {
      const entry = Buffer.alloc(entryBytes, `${v + 1};`)
      const answer = await store
        .commit(actor, { e, f, v }, { entries: [entry], h: `h${v + 1}` })
        .catch((error: unknown) => said(`commit ${codeOf(error)}`))
      ok = answer?.kind === "committed"
      if (answer?.kind === "committed") said(`committed ${(v = answer.v)}`)
    }
  }
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? String(error)
}

interface Child {
  readonly process: ChildProcess
  readonly lines: AsyncIterator<string>
  /** The next line, or undefined once there are no more. */
  next(): Promise<string | undefined>
}

const program = fileURLToPath(import.meta.url)

/** `before`: a shell command that is run in the same shell first, for its limits. */
function start(t: TestContext, folder: string, work: string, before = ":"): Child {
  const line = `${before} && exec "$0" "$@"`
  const child = spawn(
    "bash",
    ["-c", line, process.execPath, "--conditions=sojourn-source", program, "child", folder, work],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  )
  t.after(() => child.kill("SIGKILL"))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<string | undefined> => {
    const { done, value } = await lines.next()
    return done === true ? undefined : value
  }
  return { process: child, lines, next }
}

async function kill(child: Child): Promise<void> {
  const gone = once(child.process, "exit")
  child.process.kill("SIGKILL")
  await gone
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

const inUse = (pid: number | undefined) => (error: unknown) => {
  const { code, details, message } = error as { code?: string; details?: { pid?: number }; message: string }
  assert.equal(code, "STORE_IN_USE")
  assert.equal(details?.pid, pid)
  assert.match(message, new RegExp(`process ${pid}\\b`))
  return true
}

const canLift = spawnSync("prlimit", ["--version"]).status === 0

const [, , role, ...childArguments] = process.argv
if (role === "child") await asChild(childArguments[0] ?? "", childArguments[1] ?? "")
else void describe("an LMDB store among processes", amongProcesses)

function amongProcesses(): void {
  test("a second process is refused while the first lives, also while it is stopped, and not after a kill", async (t) => {
    const folder = folderFor(t)
    const holder = start(t, folder, "hold")
    assert.equal(await holder.next(), "open")
    await assert.rejects(lmdb(folder).open(), inUse(holder.process.pid))
    holder.process.kill("SIGSTOP")
    await assert.rejects(lmdb(folder).open(), inUse(holder.process.pid))
    await kill(holder)
    const store = await lmdb(folder).open()
    const second = start(t, folder, "hold")
    assert.equal(await second.next(), `refused STORE_IN_USE ${process.pid}`)
    await store.close()
    const third = start(t, folder, "hold")
    assert.equal(await third.next(), "open")
  })

  test("of many processes that open a folder at once at most one has it", async (t) => {
    const folder = folderFor(t)
    const killed = start(t, folder, "hold")
    await killed.next()
    await kill(killed)
    const contenders = Array.from({ length: 6 }, () => start(t, folder, "hold"))
    const said = await Promise.all(contenders.map((contender) => contender.next()))
    assert.ok(said.filter((line) => line === "open").length <= 1, said.join())
    for (const line of said) assert.match(line ?? "", /^open$|^refused STORE_IN_USE/)
  })

  for (const after of [1, 40, 400, 2_000])
    test(`C36 C5 after kill -9 at ${after} acknowledged commits every one of them is there, and a claim works at once`, async (t) => {
      const folder = folderFor(t)
      const writer = start(t, folder, "commit")
      assert.equal(await writer.next(), "open")
      const acknowledged = new Map<string, number>()
      const note = (line: string): boolean => {
        const [actor = "", what, v] = line.split(" ")
        assert.match(String(what), /^(claimed|committed)$/)
        acknowledged.set(actor, Number(v))
        return what === "committed"
      }
      for (let commits = 0; commits < after;) if (note((await writer.next()) ?? assert.fail("it ended"))) commits++
      const dead = kill(writer)
      // What it still said before it died counts as well; a line cut short by the kill was not said.
      for (let line = await writer.next(); line !== undefined; line = await writer.next())
        if (/^\S+ (claimed|committed) \d+$/.test(line)) note(line)
      await dead
      const store = await lmdb(folder).open()
      t.after(() => store.close())
      assert.ok(acknowledged.size > 0)
      for (const [actor, v] of acknowledged) {
        const claim = await store.claim(actor, true)
        assert.ok(claim.record?.k === "OWNED" && claim.kind === "claimed")
        assert.ok(claim.record.v >= v, `${actor} had acknowledged ${v} and is at ${claim.record.v}`)
        assert.equal(claim.record.h, claim.record.v === 0 ? "" : `h${claim.record.v}`)
        assert.equal(claim.body.entries.length, claim.record.v)
        for (const [i, entry] of claim.body.entries.entries())
          assert.ok(
            Buffer.from(entry)
              .toString()
              .startsWith(`${i + 1};`),
            `entry ${i + 1} of ${actor}`,
          )
        const { e, f } = claim.record
        const committed = await store.commit(
          actor,
          { e, f, v: claim.record.v },
          { entries: [Buffer.from("x")], h: "x" },
        )
        assert.equal(committed.kind, "committed")
      }
    })

  const skip = canLift ? false : "there is no prlimit to lift the limit with"
  test(
    "C74 a full disk is a named error, loses nothing acknowledged, and is over when there is space again",
    { skip },
    async (t) => {
      const folder = folderFor(t)
      // A limit on the size of files fails writes as a full disk does (EFBIG for ENOSPC), and can be lifted from outside.
      const writer = start(t, folder, "fill", "ulimit -S -f 4000")
      assert.equal(await writer.next(), "open")
      let acknowledged = 0
      const until = async (wanted: RegExp): Promise<string> => {
        for (;;) {
          const line = (await writer.next()) ?? assert.fail("it ended")
          const v = /^(?:committed|claimed) (\d+)/.exec(line)?.[1]
          if (v !== undefined) {
            assert.ok(Number(v) >= acknowledged, `${line} after ${acknowledged} had been acknowledged`)
            acknowledged = Number(v)
          }
          if (wanted.test(line)) return line
        }
      }
      assert.match(await until(/^(commit|claim) /), / (UNKNOWN_OUTCOME|STORE_UNAVAILABLE)$/)
      assert.match(await until(/^(commit|claim) /), / (UNKNOWN_OUTCOME|STORE_UNAVAILABLE)$/)
      const full = acknowledged
      const lifting = spawn("prlimit", [`--pid=${writer.process.pid}`, "--fsize=unlimited:unlimited"], {
        stdio: "ignore",
      })
      const [status] = (await once(lifting, "exit")) as [number | null]
      assert.equal(status, 0)
      await until(new RegExp(`^committed ${full + 5}$`))
      await kill(writer)
      const store = await lmdb(folder).open()
      t.after(() => store.close())
      const claim = await store.claim("notebook/full", true)
      assert.ok(claim.record?.k === "OWNED" && claim.record.v >= acknowledged)
      assert.equal(claim.body.entries.length, claim.record.v)
    },
  )
}
