import assert from "node:assert/strict"

import { emptyBody, type Fence, type Store } from "@sojourn/core"

import { a, body, bytes, grant, hasCode, owned, write, type OnStore } from "./store-samples.ts"

/** The storage suite: what each ownership operation does to the record and the body. */
export function claims(it: OnStore): void {
  it("a new store is empty, and reading it writes nothing", async (store) => {
    assert.notEqual(store.id, "")
    assert.equal(await store.peek(a), undefined)
    assert.equal(await store.load(a), undefined)
    assert.equal(await store.check(a, { e: 0, f: 1 }), false)
    assert.deepEqual(await store.list({ limit: 10 }), [])
    assert.equal((await store.peers()).size, 0)
    assert.equal(store.watermark(), 0)
  })

  it("an actor comes into being by a claim at its home, and nowhere else", async (store) => {
    assert.deepEqual(await store.claim(a, false), { kind: "elsewhere", record: undefined, body: emptyBody })
    assert.equal(await store.peek(a), undefined)
    const record = { k: "OWNED", e: 0, f: 1, v: 0, h: "" }
    assert.deepEqual(await store.claim(a, true), { kind: "claimed", record, body: emptyBody })
    assert.deepEqual(await store.peek(a), record)
  })

  it("C5 a claim takes the actor with its body and fences every earlier activation", async (store) => {
    const old = await owned(store, a, "one", "two")
    const claim = await store.claim(a, false)
    assert.deepEqual(claim, {
      kind: "claimed",
      record: { k: "OWNED", e: 0, f: 2, v: 2, h: "h2" },
      body: body(undefined, "one", "two"),
    })
    assert.deepEqual(await store.commit(a, old, write("late", "late")), { kind: "fenced", record: claim.record })
    assert.equal(await store.check(a, old), false)
    assert.equal(await store.compact(a, old, bytes("late"), 2), false)
    assert.deepEqual((await store.load(a))?.body, claim.body)
  })
}

export function firstClaims(it: OnStore): void {
  it("an actor that was never used comes into being with its first commit, in one step, at its home alone", async (store) => {
    const first = { seen: undefined, ...write("h1", "1"), due: 500 }
    assert.deepEqual(await store.claim(a, false, first), { kind: "elsewhere", record: undefined, body: emptyBody })
    assert.equal(await store.peek(a), undefined)
    const record = { k: "OWNED", e: 0, f: 1, v: 1, h: "h1", due: 500 }
    assert.deepEqual(await store.claim(a, true, first), { kind: "claimed", record, body: emptyBody })
    assert.deepEqual(await store.load(a), { record, body: body(undefined, "1") })
    assert.deepEqual(await store.claim(a, true, first), { kind: "changed", record, body: emptyBody })
  })

  it("C5 a claim of what was read before takes the actor with its first commit, and fences every earlier activation", async (store) => {
    const old = await owned(store, a, "one", "two")
    const seen = await store.peek(a)
    const claim = await store.claim(a, false, { seen, ...write("h4", "3", "4") })
    const record = { k: "OWNED", e: 0, f: 2, v: 4, h: "h4" }
    assert.deepEqual(claim, { kind: "claimed", record, body: emptyBody })
    assert.deepEqual((await store.load(a))?.body, body(undefined, "one", "two", "3", "4"))
    assert.deepEqual(await store.commit(a, old, write("late", "late")), { kind: "fenced", record })
    assert.deepEqual(await store.commit(a, { e: 0, f: 2, v: 4 }, write("h5", "5")), { kind: "committed", v: 5 })
  })

  it("a claim of what was read before, with no commit, keeps revision and hash", async (store) => {
    await owned(store, a, "one")
    const seen = await store.peek(a)
    const claim = await store.claim(a, true, { seen, entries: [], h: "ignored" })
    assert.deepEqual(claim.record, { k: "OWNED", e: 0, f: 2, v: 1, h: "h1" })
    assert.deepEqual((await store.load(a))?.body, body(undefined, "one"))
  })

  it("a claim of what is not there any more does nothing: another claim, a commit, a grant came between", async (store) => {
    const fence = await owned(store, a, "one")
    const seen = await store.peek(a)
    await store.commit(a, fence, write("h2", "two"))
    const changed = async (): Promise<void> => {
      const now = await store.load(a)
      const watermark = store.watermark()
      const claim = await store.claim(a, true, { seen, ...write("x", "x") })
      assert.deepEqual(claim, { kind: "changed", record: now?.record, body: emptyBody })
      assert.deepEqual(await store.load(a), now)
      assert.equal(store.watermark(), watermark)
    }
    await changed()
    await store.claim(a, true)
    await changed()
    await store.pull(a, true, "fra")
    await changed()
  })
}

export function commits(it: OnStore): void {
  it("C33 a group of entries is one step: all of them and the record, in order", async (store) => {
    const fence = await owned(store, a)
    assert.deepEqual(await store.commit(a, fence, write("h3", "1", "2", "3")), { kind: "committed", v: 3 })
    assert.deepEqual(await store.load(a), {
      record: { k: "OWNED", e: 0, f: 1, v: 3, h: "h3" },
      body: body(undefined, "1", "2", "3"),
    })
    await assert.rejects(store.commit(a, { ...fence, v: 3 }, write("h3")), RangeError)
  })

  it("a commit that had been applied is recognized by its revision and hash, and is not applied again", async (store) => {
    const fence = await owned(store, a)
    const sent = write("h2", "1", "2")
    await store.commit(a, fence, sent)
    const watermark = store.watermark()
    assert.deepEqual(await store.commit(a, fence, sent), { kind: "already", v: 2 })
    const other = await store.commit(a, fence, write("other", "1", "2"))
    assert.equal(other.kind, "fenced")
    await store.commit(a, { ...fence, v: 2 }, write("h3", "3"))
    assert.equal((await store.commit(a, fence, sent)).kind, "fenced")
    assert.deepEqual((await store.load(a))?.body, body(undefined, "1", "2", "3"))
    assert.equal(store.watermark(), watermark + 1)
  })

  it("C35 a lower or higher epoch, fence or revision is refused on commit, check and compaction", async (store) => {
    await store.install(a, false, grant(3, 5, "g", body("s")), write("g"))
    await store.claim(a, false)
    const right: Fence = { e: 3, f: 2, v: 5 }
    const before = await store.load(a)
    for (const wrong of [
      { ...right, e: 2 },
      { ...right, e: 4 },
      { ...right, f: 1 },
      { ...right, f: 3 },
    ]) {
      assert.deepEqual(await store.commit(a, wrong, write("x", "x")), { kind: "fenced", record: before?.record })
      assert.equal(await store.check(a, wrong), false, JSON.stringify(wrong))
      assert.equal(await store.compact(a, wrong, bytes("x"), 5), false)
    }
    for (const v of [0, 4, 6])
      assert.equal((await store.commit(a, { ...right, v }, write("x", "x"))).kind, "fenced", `revision ${v}`)
    assert.deepEqual(await store.load(a), before)
    assert.equal(await store.check(a, right), true)
    assert.equal((await store.commit(a, right, write("h6", "6"))).kind, "committed")
  })

  it("C35 nothing is committed, checked or compacted where the actor is sealed, gone or unknown", async (store) => {
    const fence = await owned(store, a, "one")
    const refused = async (): Promise<void> => {
      assert.equal((await store.commit(a, fence, write("x", "x"))).kind, "fenced")
      assert.equal((await store.commit(a, { ...fence, e: 1 }, write("x", "x"))).kind, "fenced")
      assert.equal(await store.check(a, fence), false)
      assert.equal(await store.compact(a, fence, bytes("x"), 1), false)
    }
    await store.pull(a, true, "fra")
    await refused()
    await store.confirm(a, "fra", 1)
    await refused()
    assert.deepEqual(await store.commit("notebook/none", fence, write("x", "x")), { kind: "fenced", record: undefined })
    assert.equal(await store.compact("notebook/none", fence, bytes("x"), 0), false)
    assert.equal(await store.load("notebook/none"), undefined)
  })

  it("a compaction replaces snapshot and covered entries, and leaves those that arrived meanwhile", async (store) => {
    const fence = await owned(store, a, "1", "2", "3")
    const compacting = store.compact(a, fence, bytes("s2"), 2)
    const committing = store.commit(a, fence, write("h4", "4"))
    assert.equal(await compacting, true)
    assert.equal((await committing).kind, "committed")
    assert.deepEqual(await store.load(a), {
      record: { k: "OWNED", e: 0, f: 1, v: 4, h: "h4" },
      body: body("s2", "3", "4"),
    })
    assert.equal(await store.compact(a, fence, bytes("s4"), 4), true)
    assert.deepEqual((await store.load(a))?.body, body("s4"))
    assert.equal(await store.compact(a, fence, bytes("again"), 4), true)
    assert.deepEqual((await store.load(a))?.body, body("again"))
    await store.commit(a, { ...fence, v: 4 }, write("h5", "5"))
    assert.deepEqual((await store.claim(a, true)).body, body("again", "5"))
  })

  it("a snapshot of a revision that is not committed, or older than the stored one, is refused", async (store) => {
    const fence = await owned(store, a, "1", "2", "3")
    await store.compact(a, fence, bytes("s2"), 2)
    await assert.rejects(store.compact(a, fence, bytes("s1"), 1), RangeError)
    await assert.rejects(store.compact(a, fence, bytes("s4"), 4), RangeError)
    assert.deepEqual((await store.load(a))?.body, body("s2", "3"))
  })
}

export function seals(it: OnStore): void {
  it("a pull seals the actor for good, and repeats the same grant to the same POP", async (store) => {
    const fence = await owned(store, a, "1", "2")
    await store.compact(a, fence, bytes("s1"), 1)
    const sealed = {
      kind: "grant",
      record: { k: "GRANTED", e: 1, to: "fra", v: 2, h: "h2" },
      body: body("s1", "2"),
    }
    assert.deepEqual(await store.pull(a, true, "fra"), sealed)
    const watermark = store.watermark()
    assert.deepEqual(await store.pull(a, true, "fra"), sealed)
    assert.deepEqual(await store.pull(a, false, "fra"), sealed)
    assert.deepEqual(await store.pull(a, true, "nrt"), { kind: "moved", to: "fra", e: 1, inTransit: true })
    assert.deepEqual(await store.claim(a, true), { kind: "elsewhere", record: sealed.record, body: emptyBody })
    assert.deepEqual(await store.load(a), { record: sealed.record, body: sealed.body })
    assert.equal(store.watermark(), watermark, "a repeated answer writes nothing")
  })

  it("a pull may bring a snapshot: of the record's own fence and revision it replaces the body, of any other it is ignored (C35)", async (store) => {
    const fence = await owned(store, a, "1", "2")
    const whole = { fence, snapshot: bytes("s2") }
    for (const other of [
      { ...fence, e: 1 },
      { ...fence, f: fence.f + 1 },
      { ...fence, v: fence.v - 1 },
    ]) {
      const id = `${a}${JSON.stringify(other)}`
      await owned(store, id, "1", "2")
      const pulled = await store.pull(id, true, "fra", { ...whole, fence: other })
      assert.ok(pulled.kind === "grant")
      assert.deepEqual(pulled.body, body(undefined, "1", "2"))
    }
    const pulled = await store.pull(a, true, "fra", whole)
    assert.ok(pulled.kind === "grant")
    assert.deepEqual(pulled.body, body("s2"))
    assert.deepEqual((await store.load(a))?.body, body("s2"))
    assert.deepEqual(await store.pull(a, true, "fra", { ...whole, snapshot: bytes("late") }), pulled)
  })

  it("a pull of an unknown actor grants an empty one at its home, and knows nothing elsewhere", async (store) => {
    assert.deepEqual(await store.pull(a, false, "fra"), { kind: "none" })
    assert.equal(await store.peek(a), undefined)
    assert.deepEqual(await store.pull(a, true, "fra"), {
      kind: "grant",
      record: { k: "GRANTED", e: 1, to: "fra", v: 0, h: "" },
      body: emptyBody,
    })
    assert.equal((await store.claim(a, true)).kind, "elsewhere")
  })

  it("the body stays with a grant until its own confirm, whatever other confirms come", async (store) => {
    await owned(store, a, "1")
    assert.deepEqual(await store.confirm(a, "fra", 1), { acked: true }, "not granted: nothing to confirm")
    await store.pull(a, true, "fra")
    assert.deepEqual(await store.confirm(a, "nrt", 1), { acked: true })
    assert.deepEqual(await store.confirm(a, "fra", 0), { acked: true })
    assert.deepEqual(await store.confirm(a, "fra", 2), { acked: false })
    const repeated = await store.pull(a, true, "fra")
    assert.ok(repeated.kind === "grant")
    assert.deepEqual(repeated.body, body(undefined, "1"))
  })

  it("C28 after the confirm nothing of the state can be read, also after reopening", async (store, fixture) => {
    const fence = await owned(store, a, "secret1", "secret2")
    await store.compact(a, fence, bytes("secret"), 1)
    await store.pull(a, true, "fra")
    assert.deepEqual(await store.confirm(a, "fra", 1), { acked: true })
    const gone = async (now: Store): Promise<void> => {
      const record = { k: "PTR", e: 1, to: "fra" }
      assert.deepEqual(await now.load(a), { record, body: emptyBody })
      assert.deepEqual(await now.pull(a, true, "fra"), { kind: "moved", to: "fra", e: 1, inTransit: false })
      assert.deepEqual(await now.claim(a, true), { kind: "elsewhere", record, body: emptyBody })
      assert.deepEqual(await now.list({ limit: 10 }), [{ actor: a, record }])
      assert.deepEqual(await now.confirm(a, "fra", 1), { acked: true })
    }
    await gone(store)
    const reopened = await fixture.reopen()
    await gone(reopened)
    await reopened.install(a, true, grant(2, 7, "h", body("new")), undefined)
    assert.deepEqual((await reopened.claim(a, true)).body, body("new"), "nothing of the old body comes back")
  })

  it("what is learned is merged by the higher epoch, and stands for the confirm", async (store) => {
    assert.deepEqual(await store.learn(a, "fra", 3), { e: 0 })
    assert.equal(await store.peek(a), undefined)
    await owned(store, a, "1")
    assert.deepEqual(await store.learn(a, "fra", 3), { e: 0 }, "an owner is told nothing by a pointer")
    assert.equal((await store.peek(a))?.k, "OWNED")
    await store.pull(a, true, "fra")
    assert.deepEqual(await store.learn(a, "nrt", 0), { e: 1 })
    assert.deepEqual((await store.load(a))?.body, body(undefined, "1"))
    assert.deepEqual(await store.learn(a, "fra", 1), { e: 1 })
    assert.deepEqual(await store.load(a), { record: { k: "PTR", e: 1, to: "fra" }, body: emptyBody })
    assert.deepEqual(await store.learn(a, "nrt", 4), { e: 4 })
    assert.deepEqual(await store.learn(a, "hvn", 4), { e: 4 })
    assert.deepEqual(await store.learn(a, "hvn", 2), { e: 4 })
    assert.deepEqual(await store.peek(a), { k: "PTR", e: 4, to: "nrt" })
  })

  it("a higher epoch that is learned over a grant drops its body", async (store) => {
    await owned(store, a, "1")
    await store.pull(a, true, "fra")
    assert.deepEqual(await store.learn(a, "nrt", 5), { e: 5 })
    assert.deepEqual(await store.load(a), { record: { k: "PTR", e: 5, to: "nrt" }, body: emptyBody })
  })
}

export function installs(it: OnStore): void {
  it("an install takes a grant as its owner, once", async (store) => {
    const arrived = grant(2, 9, "h9", body("s7", "8", "9"))
    assert.deepEqual(await store.install(a, false, arrived, undefined), {
      kind: "installed",
      record: { k: "OWNED", e: 2, f: 0, v: 9, h: "h9" },
    })
    const claim = await store.claim(a, false)
    assert.deepEqual(claim.body, arrived.body)
    assert.deepEqual(claim.record, { k: "OWNED", e: 2, f: 1, v: 9, h: "h9" })
    for (const late of [arrived, grant(1, 3, "old", body("old"))])
      assert.deepEqual(await store.install(a, false, late, write("x", "x")), { kind: "ignored", record: claim.record })
    assert.deepEqual(await store.load(a), { record: claim.record, body: arrived.body })
  })

  it("an install is one step with the claim and the first commit", async (store) => {
    const installed = await store.install(a, false, grant(1, 2, "h2", body("s1", "2")), write("h4", "3", "4"))
    assert.deepEqual(installed, { kind: "installed", record: { k: "OWNED", e: 1, f: 1, v: 4, h: "h4" } })
    assert.deepEqual((await store.load(a))?.body, body("s1", "2", "3", "4"))
    assert.deepEqual(await store.commit(a, { e: 1, f: 1, v: 4 }, write("h5", "5")), { kind: "committed", v: 5 })
    assert.equal(await store.compact(a, { e: 1, f: 1 }, bytes("s3"), 3), true)
    assert.deepEqual((await store.load(a))?.body, body("s3", "4", "5"))
  })

  it("an install that claims without a first commit keeps the grant's hash", async (store) => {
    const installed = await store.install(a, false, grant(1, 2, "h2", body("s2")), { entries: [], h: "ignored" })
    assert.deepEqual(installed.record, { k: "OWNED", e: 1, f: 1, v: 2, h: "h2" })
  })

  it("C10 an install goes only upward over a tombstone or an own grant, also at the home", async (store) => {
    await owned(store, a, "old")
    await store.pull(a, true, "fra")
    const again = await store.install(a, true, grant(1, 0, "x", body("x")), undefined)
    assert.equal(again.kind, "ignored", "the epoch that was granted away")
    assert.equal((await store.install(a, true, grant(2, 4, "h4", body("s4")), undefined)).kind, "installed")
    assert.deepEqual((await store.load(a))?.body, body("s4"), "nothing of the granted body is left")
    await store.pull(a, true, "fra")
    await store.confirm(a, "fra", 3)
    assert.equal((await store.install(a, true, grant(3, 4, "h4", body("s4")), undefined)).kind, "ignored")
    assert.deepEqual(await store.load(a), { record: { k: "PTR", e: 3, to: "fra" }, body: emptyBody })
    assert.equal((await store.install(a, true, grant(4, 4, "h4", body("s4")), undefined)).kind, "installed")
  })

  it("a grant that proves two histories is refused and changes nothing", async (store) => {
    const lost = hasCode("INVARIANT", "not-executed")
    await assert.rejects(store.install(a, true, grant(1, 1, "h", body("s")), undefined), lost)
    assert.equal(await store.peek(a), undefined)
    await owned(store, a, "1")
    const before = await store.load(a)
    await assert.rejects(store.install(a, true, grant(5, 1, "h", body("s")), undefined), lost)
    assert.deepEqual(await store.load(a), before)
    assert.equal((await store.commit(a, { e: 0, f: 1, v: 1 }, write("h2", "2"))).kind, "committed")
  })

  it("a grant with more entries than revisions is refused by itself", async (store) => {
    const others = store.claim("notebook/bob", true)
    const wrong = store.install(a, false, grant(1, 1, "h1", body(undefined, "1", "1", "1")), undefined)
    await assert.rejects(wrong, RangeError)
    assert.equal((await others).kind, "claimed")
    assert.equal(await store.peek(a), undefined)
  })

  it("a grant carries the body of any shape from pull to install and back", async (store) => {
    for (const [i, parts] of [emptyBody, body("s"), body(undefined, "1"), body("", "", "2"), body("s", "")].entries()) {
      const actor = `notebook/shape${i}`
      const v = parts.entries.length + 3
      await store.install(actor, false, grant(1, v, "h", parts), undefined)
      const pulled = await store.pull(actor, false, "fra")
      assert.ok(pulled.kind === "grant")
      assert.deepEqual(pulled.body, parts)
      assert.equal(pulled.record.v, v)
    }
  })
}

/** Snapshots that come ahead of a grant. */
export function stages(it: OnStore): void {
  const head = { e: 2, v: 5, h: "h5" }

  it("C28 what is staged is no body: no record, no reading and no listing shows it", async (store) => {
    assert.equal(await store.stage(a, bytes("ahead"), 3), true)
    assert.equal(await store.peek(a), undefined)
    assert.equal(await store.load(a), undefined)
    assert.deepEqual(await store.list({ limit: 10 }), [])
    assert.deepEqual(await store.pull(a, false, "fra"), { kind: "none" })
    assert.equal((await store.claim(a, true)).body.snapshot, undefined)
  })

  it("an install takes the staged snapshot, with the entries that came after it", async (store, fixture) => {
    await store.stage(a, bytes("older"), 2)
    await store.stage(a, bytes("ahead"), 3)
    const first = { entries: [bytes("six")], h: "h6" }
    const installed = await store.install(
      a,
      false,
      { ...head, body: body(undefined, "four", "five"), staged: 3 },
      first,
    )
    assert.deepEqual(installed, { kind: "installed", record: { k: "OWNED", e: 2, f: 1, v: 6, h: "h6" } })
    const whole = body("ahead", "four", "five", "six")
    assert.deepEqual((await store.load(a))?.body, whole)
    const again = await fixture.reopen()
    assert.deepEqual((await again.load(a))?.body, whole)
    assert.equal(await again.compact(a, { e: 2, f: 1 }, bytes("compacted"), 6), true)
    assert.deepEqual((await again.load(a))?.body, body("compacted"))
    const pulled = await again.pull(a, false, "fra")
    assert.deepEqual(pulled.kind === "grant" && pulled.body, body("compacted"))
    assert.equal((await again.confirm(a, "fra", 3)).acked, true)
    assert.deepEqual((await again.load(a))?.body, emptyBody)
  })

  it("a pull leaves out the snapshot that is ahead already, and only that one", async (store, fixture) => {
    await store.install(a, false, { ...head, body: body("snapshot", "four", "five") }, undefined)
    const entries = body(undefined, "four", "five")
    for (const [ahead, sent] of [
      [2, body("snapshot", "four", "five")],
      [3, entries],
    ] as const) {
      const pulled = await store.pull(a, false, "fra", undefined, Infinity, ahead)
      assert.deepEqual(pulled.kind === "grant" && pulled.body, sent)
    }
    const again = await fixture.reopen()
    assert.deepEqual((await again.load(a))?.body, body("snapshot", "four", "five"), "what is stored is whole")
    const repeated = await again.pull(a, false, "fra")
    assert.deepEqual(repeated.kind === "grant" && repeated.body, body("snapshot", "four", "five"))
    await again.install("notebook/bob", false, { ...head, v: 3, body: body("snapshot") }, undefined)
    assert.equal((await again.pull("notebook/bob", false, "fra", undefined, 1)).kind, "too-large")
    const alone = await again.pull("notebook/bob", false, "fra", undefined, 1, 3)
    assert.deepEqual(alone.kind === "grant" && alone.body, emptyBody)
  })

  it("an install whose staged snapshot is not there, or another, is refused and changes nothing", async (store) => {
    const grant = { ...head, body: body(undefined, "four", "five"), staged: 3 }
    await assert.rejects(store.install(a, false, grant, undefined), hasCode("STORE_UNAVAILABLE"))
    await store.stage(a, bytes("older"), 2)
    await assert.rejects(store.install(a, false, grant, undefined), hasCode("STORE_UNAVAILABLE"))
    assert.equal(await store.peek(a), undefined)
  })

  it("an install that comes again is ignored, whatever became of the staged snapshot, and nobody else has that", async (store) => {
    const grant = { ...head, body: emptyBody, staged: 5 }
    await store.stage(a, bytes("ahead"), 5)
    const { record } = await store.install(a, false, grant, { entries: [], h: "" })
    assert.deepEqual(await store.install(a, false, grant, undefined), { kind: "ignored", record })
    const sealed = await store.pull(a, false, "fra")
    const other = { ...grant, e: 9, h: "other" }
    await assert.rejects(store.install(a, false, other, undefined), hasCode("STORE_UNAVAILABLE"))
    assert.deepEqual(await store.pull(a, false, "fra"), sealed)
  })

  it("nothing is staged where a body lies, so a sealed one, adopted from a staged one, stays whole", async (store) => {
    await store.stage(a, bytes("ahead"), 5)
    await store.install(a, false, { ...head, body: emptyBody, staged: 5 }, undefined)
    assert.equal(await store.stage(a, bytes("other"), 9), false)
    const sealed = await store.pull(a, false, "fra")
    assert.equal(await store.stage(a, bytes("other"), 9), false)
    assert.equal(await store.stage(a, undefined, 0), false)
    assert.deepEqual(await store.pull(a, false, "fra"), sealed)
    assert.deepEqual(sealed.kind === "grant" && sealed.body, body("ahead"))
    await store.confirm(a, "fra", 3)
    assert.equal(await store.stage(a, bytes("other"), 9), true)
  })

  it("C28 a staged snapshot that was dropped, or whose store was opened again, is gone", async (store, fixture) => {
    const grant = { ...head, body: emptyBody, staged: 5 }
    await store.stage(a, bytes("ahead"), 5)
    assert.equal(await store.stage(a, undefined, 0), true)
    await assert.rejects(store.install(a, false, grant, undefined), hasCode("STORE_UNAVAILABLE"))
    await store.stage(a, bytes("ahead"), 5)
    const again = await fixture.reopen()
    await assert.rejects(again.install(a, false, grant, undefined), hasCode("STORE_UNAVAILABLE"))
  })

  it("an install with a body of its own drops what was staged", async (store) => {
    await store.stage(a, bytes("ahead"), 3)
    await store.install(a, false, { ...head, body: body("whole") }, undefined)
    assert.deepEqual((await store.load(a))?.body, body("whole"))
  })

  it("a snapshot that is written drops what was staged before the actor came to be here", async (store) => {
    const fence = { e: 4, f: 1, v: 0 }
    await store.learn(a, "fra", 2, true)
    await store.stage(a, bytes("ahead"), 5)
    await store.revive(a, { k: "PTR", e: 2 }, 4)
    await store.claim(a, false)
    await store.pull(a, false, "fra", { fence, snapshot: bytes("whole") })
    const later = { e: 6, v: 5, h: "h5", body: emptyBody, staged: 5 }
    await assert.rejects(store.install(a, false, later, undefined), hasCode("STORE_UNAVAILABLE"))
  })
}
