import { open, type RootDatabase } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import { GroupCommit, type FlushGate } from "./group-commit.ts"
import { WriteBatch } from "./write-batch.ts"

type Root = RootDatabase<Uint8Array, Uint8Array>

const value = Buffer.from("value")

interface Fixture {
  readonly commits: GroupCommit
  /** Submits an operation that writes `key`, then throws if told to. */
  write(key: string, thenThrows?: boolean, rows?: number): Promise<string>
  /** Writes of each batch whose flush ended. */
  readonly flushed: number[]
  /** What each batch that failed was said to have come to. */
  readonly failed: string[]
  has(key: string): boolean
}

function fixture(
  t: TestContext,
  gate: FlushGate = (flush) => flush(),
  room = () => Infinity,
  begin = (): void => undefined,
  written = Promise.resolve(),
): Fixture {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  const root: Root = open(folder, {
    noSubdir: false,
    overlappingSync: false,
    eventTurnBatching: false,
    encoding: "binary",
    keyEncoding: "binary",
  })
  t.after(async () => {
    await root.close()
    rmSync(folder, { recursive: true })
  })
  const flushed: number[] = []
  const failed: string[] = []
  const batch = new WriteBatch(root, { values: root })
  const commits = new GroupCommit({
    gate,
    commitMsMax: 10_000,
    queueBytesMax: 1_000_000,
    room,
    begin: () => begin(),
    seal: () => undefined,
    write: async () => {
      await batch.write()
      await written
    },
    flushed: (writes) => {
      batch.clear()
      flushed.push(writes)
    },
    failed: (outcome) => {
      batch.clear()
      failed.push(outcome)
    },
  })
  return {
    commits,
    flushed,
    failed,
    has: (key) => root.get(Buffer.from(key)) !== undefined,
    write(key, thenThrows = false, rows = 1) {
      let wrote = false
      const run = (): string => {
        wrote = true
        batch.tables.values.put(Buffer.from(key), value)
        if (thenThrows) throw new Error("after the write")
        return key
      }
      return commits.submit(key, value.length, run, () => wrote, { rows })
    },
  }
}

async function codesOf(operations: readonly Promise<unknown>[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(operations)
  return settled.map((one) =>
    one.status === "fulfilled" ? one.value : (one.reason as { code?: string; outcome?: string }).code,
  )
}

void describe("group commit", () => {
  test("C33 what is submitted together shares one transaction and one flush", async (t) => {
    const { write, flushed } = fixture(t)
    assert.deepEqual(await codesOf(["a", "b", "c"].map((key) => write(key))), ["a", "b", "c"])
    assert.deepEqual(flushed, [3])
  })

  test("an operation that throws after a write takes the whole batch back: nothing of it is there, and it is said", async (t) => {
    const { write, flushed, failed, has } = fixture(t)
    const settled = await codesOf([write("a"), write("b", true), write("c")])
    assert.deepEqual(failed, ["rolled-back"])
    assert.deepEqual(settled, ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
    assert.deepEqual([has("a"), has("b"), has("c"), flushed], [false, false, false, []])
    assert.equal(await write("d"), "d")
    assert.deepEqual([has("a"), has("d")], [false, true])
  })

  test("a gate that throws, or ends without flushing, leaves nothing hanging and nothing acknowledged", async (t) => {
    let gate: FlushGate = () => {
      throw new Error("a wrong gate")
    }
    const { write, failed, has } = fixture(t, (flush) => gate(flush))
    assert.deepEqual(await codesOf([write("a")]), ["UNKNOWN_OUTCOME"])
    assert.deepEqual(failed, ["unknown"])
    gate = async () => undefined
    assert.deepEqual(await codesOf([write("a")]), ["UNKNOWN_OUTCOME"])
    assert.equal(has("a"), false)
    // What it flushes when it has answered takes nothing that came since.
    const late = Promise.withResolvers<void>()
    let flushes: () => Promise<void> = () => Promise.resolve()
    gate = (flush) => {
      flushes = flush
      return Promise.reject(new Error("given up"))
    }
    assert.deepEqual(await codesOf([write("a")]), ["UNKNOWN_OUTCOME"])
    gate = async (flush) => {
      await flushes()
      assert.equal(has("b"), false)
      late.resolve()
      await flush()
    }
    const written = write("b")
    await late.promise
    assert.equal(await written, "b")
    gate = (flush) => flush()
    assert.equal(await write("a"), "a")
  })

  test("C6 a gate that gives up on a flush that is under way: the outcome is unknown until it has ended, which is said again", async (t) => {
    const begun = Promise.withResolvers<void>()
    let gate: FlushGate = async (flush) => {
      flushing = flush()
      await begun.promise
      throw new Error("given up")
    }
    let flushing = Promise.resolve()
    const { write, failed } = fixture(t, (flush) => gate(flush), undefined, begun.resolve)
    assert.deepEqual(await codesOf([write("a")]), ["UNKNOWN_OUTCOME"])
    await flushing
    assert.deepEqual(failed, ["unknown", "unknown"])
    gate = (flush) => flush()
    assert.equal(await write("b"), "b")
  })

  test("C6 where a gate gives up on a flush that is under way, the next batch does not begin before that has ended", async (t) => {
    const [begun, given, ended] = Array.from({ length: 3 }, () => Promise.withResolvers<void>())
    const steps: string[] = []
    let gives = true
    const { commits, write } = fixture(
      t,
      async (flush) => {
        const flushing = flush()
        if (!gives) return flushing
        gives = false
        await begun?.promise
        given?.resolve()
        throw new Error("given up")
      },
      undefined,
      () => {
        steps.push("begins")
        begun?.resolve()
      },
      ended?.promise.then(() => void steps.push("ended")),
    )
    const first = write("a")
    await given?.promise
    assert.deepEqual(await codesOf([first]), ["UNKNOWN_OUTCOME"])
    // What is read meanwhile waits for its end.
    assert.equal(commits.busy("any"), true)
    const second = write("b")
    for (let turns = 0; turns < 50; turns++) await new Promise(setImmediate)
    ended?.resolve()
    assert.equal(await second, "b")
    assert.equal(commits.busy("any"), false)
    assert.deepEqual(steps, ["begins", "ended", "begins"])
  })

  test("C31 a gate that ends before its flush, or keeps its failure to itself, acknowledges nothing by that", async (t) => {
    const slow = Promise.withResolvers<void>()
    let gate: FlushGate = (flush) => {
      void flush()
      return Promise.resolve()
    }
    const { write, flushed, has } = fixture(t, (flush) => gate(flush), undefined, undefined, slow.promise)
    let acknowledged = false
    const early = write("a").then(() => (acknowledged = true))
    for (let turns = 0; turns < 50; turns++) await new Promise(setImmediate)
    assert.deepEqual([acknowledged, flushed], [false, []])
    slow.resolve()
    await early
    gate = (flush) => flush().catch(() => undefined)
    assert.deepEqual(await codesOf([write("b"), write("c", true)]), ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
    assert.equal(has("b"), false)
  })

  test("a gate that flushes twice, or tries again, has one flush: each operation gets its own answer", async (t) => {
    let second: Promise<string> | undefined
    let gate: FlushGate = async (flush) => {
      gate = (later) => later()
      await flush()
      second = write("b")
      await flush()
    }
    const { write, failed } = fixture(t, (flush) => gate(flush))
    assert.equal(await write("a"), "a")
    assert.equal(await second, "b")
    gate = (flush) => flush().catch(flush)
    assert.deepEqual(await codesOf([write("c"), write("d", true)]), ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
    assert.deepEqual(failed, ["rolled-back"])
  })

  test("C37 where its beginning fails, nothing of a batch is executed, and the next one begins again", async (t) => {
    let damaged = true
    const { write, failed, has } = fixture(t, undefined, undefined, () => {
      if (damaged) throw new Error("cannot be read")
    })
    assert.deepEqual(await codesOf([write("a"), write("b")]), ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
    assert.deepEqual([has("a"), failed], [false, ["rolled-back"]])
    damaged = false
    assert.equal(await write("a"), "a")
  })

  test("each batch begins after the flush of the one before, and takes what has come until its transaction runs", async (t) => {
    const steps: string[] = []
    const [begun, flushedFirst, held] = Array.from({ length: 3 }, () => Promise.withResolvers<void>())
    const { write, flushed } = fixture(t, async (flush) => {
      const first = steps.push("begin") === 1
      if (first) begun?.resolve()
      // What is written now is written before the transaction runs.
      await flush()
      if (first) {
        flushedFirst?.resolve()
        await held?.promise
      }
      steps.push("end")
    })
    const writes = [write("a")]
    await begun?.promise
    writes.push(write("b"), write("c"))
    await flushedFirst?.promise
    writes.push(write("d"), write("e"))
    held?.resolve()
    await Promise.all(writes)
    assert.deepEqual(steps, ["begin", "end", "begin", "end"])
    assert.deepEqual(flushed, [3, 2])
  })

  test("a batch ends where its rows are more than one may have, and an operation that has more on its own goes alone", async (t) => {
    const { write, flushed } = fixture(t)
    await Promise.all([100, 100, 100, 5_000, 1, 1].map((rows, i) => write(`k${i}`, false, rows)))
    assert.deepEqual(flushed, [2, 1, 1, 2])
  })

  test("C74 where the disk has no room for it, what would write is refused before it begins, and what reads is answered", async (t) => {
    let room = 100_000
    const { commits, write, has } = fixture(t, undefined, () => room)
    const read = commits.submit(
      "a",
      0,
      () => "read",
      () => false,
      { writes: false },
    )
    assert.deepEqual(await codesOf([write("a"), read, write("b")]), ["STORE_UNAVAILABLE", "read", "STORE_UNAVAILABLE"])
    await assert.rejects(write("a"), { outcome: "not-executed", message: /the disk is full: 100000 bytes are left/ })
    assert.equal(has("a"), false)
    assert.equal(commits.busy(undefined), false)
    room = 10_000_000
    assert.equal(await write("a"), "a")
  })

  test("the number of operations that wait is bounded", async (t) => {
    const go = Promise.withResolvers<void>()
    const { commits } = fixture(t, async (flush) => {
      await go.promise
      await flush()
    })
    const submit = (): Promise<unknown> =>
      commits.submit(
        "a",
        0,
        () => undefined,
        () => false,
      )
    const waiting = Array.from({ length: 65_536 }, submit)
    assert.throws(submit, (error) => (error as { code?: string }).code === "STORE_UNAVAILABLE")
    go.resolve()
    await Promise.all(waiting)
    assert.equal(commits.busy(undefined), false)
  })
})
