import {
  memoryDisk,
  memoryStore,
  type Body,
  type Fence,
  type OwnershipRecord,
  type Store,
  type Write,
} from "@sojourn/core"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test } from "node:test"

import { lmdb } from "./index.ts"

/** Mulberry32: the same for the same seed. */
function chanceOf(seed: number): () => number {
  let s = seed
  return () => {
    s = (s + 0x6d2b79f5) | 0
    let t = Math.imul(s ^ (s >>> 15), 1 | s)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const longest = `${"k".repeat(64)}/${"ж".repeat(256)}`
/** Some begin like others, or differ past U+FFFF. */
const actors = ["n/a", "n/a:b", "n:a/b", "n/a/", "n/aа", "n/\u{10ffff}", "n/\uffff", longest, longest.slice(0, -1)]
const pops = ["fra", "nrt", "gru"]

type Call = (store: Store) => Promise<unknown>

/** Calls that are mostly right for what is stored, of every operation of an actor. */
class Calls {
  readonly #random: () => number
  readonly #disk: ReturnType<typeof memoryDisk>

  constructor(random: () => number, disk: ReturnType<typeof memoryDisk>) {
    this.#random = random
    this.#disk = disk
  }

  below(n: number): number {
    return Math.floor(this.#random() * n)
  }

  happens(share: number): boolean {
    return this.#random() < share
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T
  }

  next(): Call {
    const actor = this.pick(actors)
    const pop = this.pick(pops)
    const record = this.#disk.actors.get(actor)?.record
    const home = actors.indexOf(actor) % 2 === 0 && this.pick([true, true, 4])
    const fence = this.#fence(record)
    const { e, f, v } = fence
    switch (this.below(16)) {
      case 0:
        return (store) => store.claim(actor, home)
      case 1: {
        const seen = record?.k === "OWNED" ? { ...record, f } : record
        const first = { seen, ...this.#write(0) }
        return (store) => store.claim(actor, home, first)
      }
      case 2:
      case 3: {
        const write = this.#write(1)
        return (store) => store.commit(actor, fence, write)
      }
      case 4:
        return (store) => store.check(actor, fence)
      case 5: {
        const compacted = this.happens(0.5) ? { fence, snapshot: this.#bytes() } : undefined
        const [most, ahead] = [this.pick([Infinity, 100, 6_000]), this.pick([undefined, v, 3])]
        return (store) => store.pull(actor, home, pop, compacted, most, ahead)
      }
      case 6:
      case 7: {
        const grant = this.#grant(actor, pop, e)
        const first = this.happens(0.5) ? this.#write(0) : undefined
        return (store) => store.install(actor, home, grant, first)
      }
      case 8:
      case 9: {
        const snapshot = this.happens(0.8) ? this.#bytes() : undefined
        const at = this.below(6)
        return (store) => store.stage(actor, snapshot, at)
      }
      case 10: {
        const from = record?.k === "GRANTED" && this.happens(0.8) ? record.to : pop
        return (store) => store.confirm(actor, from, e)
      }
      case 11: {
        const told = this.happens(0.3)
        return (store) => store.learn(actor, pop, e + 1, told)
      }
      case 12: {
        const [seen, above] = [record && { k: record.k, e: record.e }, this.pick([0, 2, 2])]
        return (store) => store.revive(actor, seen, (record?.e ?? 0) + above)
      }
      case 13: {
        const [snapshot, upTo] = [this.#bytes(), Math.max(0, v - this.below(4))]
        return (store) => store.compact(actor, fence, snapshot, upTo)
      }
      case 14:
        return this.happens(0.05)
          ? (store) => store.forget("gru", { heir: "nrt", inherited: false })
          : (store) => store.rememberPeer(pop, { store: "s", watermark: v })
      default:
        return (store) => store.load(actor)
    }
  }

  /** What reads across actors. */
  scans(): Call[] {
    const [limit, k] = [1 + this.below(6), this.pick([undefined, "OWNED", "GRANTED", "PTR"] as const)]
    const after = this.happens(0.5) ? this.pick(actors) : undefined
    const before = this.pick([-1, 0, 4.5, 5, 6, 1e12, Number.MAX_SAFE_INTEGER, Infinity])
    const last = this.happens(0.5) ? { actor: this.pick(actors), due: this.pick([0, 5, 1e12]) } : undefined
    return [
      (store) => store.list({ limit, ...(k && { k }), ...(after === undefined ? {} : { after }) }),
      (store) => store.due({ before, limit, ...(last && { after: last }) }),
      (store) => store.peers(),
      (store) => store.forgotten(),
      ...actors.map(
        (actor): Call =>
          (store) =>
            store.load(actor),
      ),
    ]
  }

  #fence(record: OwnershipRecord | undefined): Fence {
    const near = (x: number): number => Math.max(0, x + (this.happens(0.85) ? 0 : this.below(5) - 2))
    const [f, v] = [record?.k === "OWNED" ? record.f : 1, record && record.k !== "PTR" ? record.v : 0]
    return { e: near(record?.e ?? 0), f: near(f), v: near(v) }
  }

  #bytes(): Uint8Array {
    return new Uint8Array(this.pick([0, 1, 5, 200, 900, 2_500, 5_000])).fill(this.below(256))
  }

  #entries(least: number): Uint8Array[] {
    return Array.from({ length: least + this.below(4) }, () => this.#bytes())
  }

  #write(least: number): Write {
    const due = this.pick([undefined, undefined, null, 0, 5, 6, 1e12, 8.64e15])
    return { entries: this.#entries(least), h: this.pick(["", "p", "q"]), ...(due === undefined ? {} : { due }) }
  }

  #grant(actor: string, from: string, e: number): Parameters<Store["install"]>[2] {
    const entries = this.#entries(0)
    const staged = this.#disk.staged.get(actor)?.revision
    const body: Body = { snapshot: this.happens(0.7) ? this.#bytes() : undefined, entries }
    const head = { e: e + this.below(3), h: "g", from, ...(this.happens(0.3) ? { due: this.pick([0, 5, 1e12]) } : {}) }
    if (staged === undefined || this.happens(0.3)) return { ...head, v: entries.length + this.below(5), body }
    return { ...head, v: staged + entries.length, body, staged: staged + this.pick([0, 0, 0, 1]) }
  }
}

async function answers(store: Store, calls: readonly Call[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(calls.map((call) => call(store)))
  return settled.map((one) => {
    if (one.status === "rejected") return { rejects: (one.reason as { code?: string }).code ?? String(one.reason) }
    return one.value instanceof Map ? new Map([...one.value].toSorted()) : one.value
  })
}

describe("an LMDB store and the memory store", () => {
  for (let seed = 1; seed <= 6; seed++)
    test(`give the same answers, whatever is asked of them in a batch, and after opening again (seed ${seed})`, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), "sojourn-lmdb-"))
      t.after(() => rmSync(folder, { recursive: true }))
      const disk = memoryDisk()
      const calls = new Calls(chanceOf(seed), disk)
      let [store, memory] = [await lmdb(folder).open(), memoryStore({ disk })]
      t.after(() => store.close())
      for (let step = 0; step < 100; step++) {
        const batch = Array.from({ length: 1 + calls.below(8) }, () => calls.next())
        assert.deepEqual(await answers(store, batch), await answers(memory, batch), `step ${step}`)
        assert.equal(store.watermark(), memory.watermark())
        if (calls.happens(0.06)) {
          await store.close()
          ;[store, memory] = [await lmdb(folder).open(), memoryStore({ disk })]
        }
        if (calls.happens(0.2)) {
          const scans = calls.scans()
          assert.deepEqual(await answers(store, scans), await answers(memory, scans), `after step ${step}`)
        }
      }
    })
})
