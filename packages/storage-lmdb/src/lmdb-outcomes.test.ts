import { emptyBody, type Store } from "@sojourn/core"
import { open } from "lmdb"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test, type TestContext } from "node:test"

import { tableNames, type Table, type TableName, type Tables } from "./actor-rows.ts"
import { Journal } from "./journal.ts"
import { LmdbStore } from "./lmdb-store.ts"

type Failure = "refused" | "done, and not said" | "before the write"

interface Fixture {
  readonly store: Store
  /** What becomes of batches from now on; undefined: they are durable. */
  fails(how: Failure | undefined): void
  /** The same data, as another process would see it. */
  reopened(): Store
}

/** A store whose engine fails as told: refuses a transaction, makes it and says that it failed, or fails while the batch is being made. */
function fixture(t: TestContext): Fixture {
  const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
  const encodings = { encoding: "binary", keyEncoding: "binary" } as const
  const real = open<Uint8Array, Uint8Array>(folder, {
    noSubdir: false,
    overlappingSync: false,
    eventTurnBatching: false,
    maxDbs: tableNames.length,
    ...encodings,
  })
  t.after(async () => {
    await real.close()
    rmSync(folder, { recursive: true })
  })
  let failure: Failure | undefined
  const root = {
    async batch(writes: () => void) {
      if (failure !== "refused") await real.batch(writes)
      if (failure !== undefined) throw new Error(failure)
    },
    resetReadTxn: () => real.resetReadTxn(),
  } as unknown as Tables["root"]
  const named = tableNames.map((name) => [name, real.openDB<Uint8Array, Uint8Array>(name, encodings)])
  const tables = Object.fromEntries(named) as Record<TableName, Table>
  const seal = Object.getOwnPropertyDescriptor(Journal.prototype, "seal")?.value as (this: Journal) => void
  t.mock.method(Journal.prototype, "seal", function (this: Journal) {
    if (failure === "before the write") throw new Error(failure)
    seal.call(this)
  })
  const storeOf = (parts: Tables): Store =>
    new LmdbStore({
      id: "store",
      tables: parts,
      gate: (flush) => flush(),
      commitMsMax: 10_000,
      queueBytesMax: 1_000_000,
      room: () => Infinity,
      release: () => Promise.resolve(),
      closing: (work) => work,
    })
  return {
    store: storeOf({ root, ...tables }),
    fails(how) {
      failure = how
    },
    reopened: () => storeOf({ root: real, ...tables }),
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Adds entries to the actor, which it makes if there is none. */
async function add(store: Store, actor: string, ...texts: readonly string[]): Promise<void> {
  const { record } = await store.claim(actor, true)
  assert.ok(record?.k === "OWNED")
  const { e, f, v } = record
  const answer = await store.commit(actor, { e, f, v }, { entries: texts.map(bytes), h: `${v + texts.length}` })
  assert.equal(answer.kind, "committed")
}

async function held(store: Store): Promise<unknown> {
  const bodies = await Promise.all(
    ["a", "b", "c", "d"].map(async (actor) => {
      const { record, body } = (await store.load(actor)) ?? { record: undefined, body: emptyBody }
      const texts = [body.snapshot ?? [], ...body.entries].map((one) => Buffer.from(one).toString())
      return { actor, record, texts }
    }),
  )
  return { bodies, listed: await store.list({ limit: 9 }), due: await store.due({ before: 1e15, limit: 9 }) }
}

/** A write of every kind. */
function writes(store: Store): Promise<unknown>[] {
  const entries = [bytes("more"), bytes("and more")]
  return [
    store.commit("a", { e: 0, f: 1, v: 2 }, { entries, h: "more", due: 7 }),
    store.compact("b", { e: 0, f: 1 }, bytes("snapshot"), 1),
    store.pull("c", true, "fra"),
    store.claim("d", true),
    store.commit("a", { e: 0, f: 1, v: 4 }, { entries, h: "still more", due: 9 }),
  ]
}

void describe("an LMDB store whose engine fails", () => {
  for (const how of ["refused", "done, and not said", "before the write"] as const)
    test(`C32 where a transaction is ${how}, it goes on from what is on the disk`, async (t) => {
      const { store, fails, reopened } = fixture(t)
      for (const actor of ["a", "b", "c"]) await add(store, actor, "1", "2")
      const before = await held(store)
      fails(how)
      const code = how === "before the write" ? "STORE_UNAVAILABLE" : "UNKNOWN_OUTCOME"
      for (const settled of await Promise.allSettled(writes(store)))
        assert.equal(settled.status === "rejected" && (settled.reason as { code?: string }).code, code)
      fails(undefined)
      const after = await held(store)
      assert.deepEqual(after, await held(reopened()))
      if (how === "done, and not said") assert.notDeepEqual(after, before)
      else {
        assert.deepEqual(after, before)
        const watermark = store.watermark()
        await Promise.all(writes(store))
        assert.equal(store.watermark(), watermark + 5)
      }
      // Also what was applied and not said counts.
      const written = reopened().watermark()
      for (const actor of ["a", "b", "d"]) await add(store, actor, "last")
      assert.deepEqual([store.watermark(), reopened().watermark()], [written + 6, written + 6])
      const last = await held(store)
      assert.notDeepEqual(last, after)
      assert.deepEqual(last, await held(reopened()))
    })
})
