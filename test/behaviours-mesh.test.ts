// Every message that POPs exchange on a journey with a hand-off from home, a relay, and a move under attached clients: each one is lost,
// repeated, overtaken and delayed past everything, one a journey. Nothing is lost, applied twice or owned twice by it.
import assert from "node:assert/strict"
import type { MeshMatch, MeshNote } from "@sojourn/testkit"
import { owners, settled } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

const limits = {
  // The owner lets the actor go where the journey says, and not to whoever attaches.
  followQuietMs: 60_000,
  // What was lost is said again before long.
  askMsMax: 150,
  resendMs: 20,
  resendMsMax: 80,
}
/** Some thirty journeys. */
const msMax = 180_000
/** Far fewer than what a resume replays. */
const nudgesMax = 10
const patience = { limits: { attachMsMax: 500 } }

/** `nudge`: whether calls go on until those before them are answered, so that each message has one behind it. */
async function journey(world: World, key: string, nudge: boolean): Promise<void> {
  const [bos, fra, nrt] = world.seats as [Seat, Seat, Seat]
  const actor = `ledger/${key}`
  const alice = world.client("alice", bos, patience)
  const phone = world.client("phone", fra, patience)
  const [near, far] = [alice.ledger.get(key), phone.ledger.get(key)]
  const made: string[] = []
  const seen: string[] = []
  const resumes: string[] = []
  const add = (ledger: typeof near, id: string): Promise<unknown> => {
    made.push(id)
    return ledger.add(id)
  }
  const nudges: Promise<unknown>[] = []
  const answered = async <T>(what: string, asked: Promise<T>): Promise<T> => {
    let open = true
    const answer = asked.finally(() => (open = false))
    answer.catch(() => undefined)
    for (let i = 0; nudge && open && i < nudgesMax; i++) {
      nudges.push(far.query.ids(), add(near, `nudge ${made.length}`))
      // The pace of the mesh.
      await world.tap.read("bos", "fra")
    }
    return within(10_000, what, answer)
  }
  // PULL, GRANT, CONFIRM, HOMEUPD.
  await answered("the first calls", Promise.all([add(near, "near 1"), add(near, "near 2")]))
  // RELAY_ME, RELAY_OPEN, FRAME.
  far.on("added", ({ id }) => seen.push(id))
  far.onResume((how) => resumes.push(how))
  const missed = (await answered("the relay", far.query.ids())).length
  await answered(
    "both call",
    Promise.all([add(far, "far 1"), add(near, "near 3"), add(far, "far 2"), add(far, "far 3")]),
  )
  // OFFER, and the relays follow.
  const [owner] = await owners(world, actor)
  const moved = world.seat(owner ?? "").pop.move(["ledger", key], nrt.id)
  await answered("both call during the move", Promise.all([add(far, "far 4"), add(near, "near 4"), moved]))
  await answered("both call after the move", Promise.all([add(far, "far 5"), add(near, "near 5")]))
  // An output that came before its attach was dropped; the next one shows the gap.
  const end = new Promise<void>((resolve) => {
    far.on("added", ({ id }) => {
      if (id === "end") resolve()
    })
  })
  await answered("the last call", add(near, "end"))
  await answered("its event", end)
  await within(10_000, "every nudge", Promise.all(nudges))
  const ids = await answered("the query", far.query.ids())
  const asked = (all: readonly string[]): string[] => all.filter((id) => !id.startsWith("nudge")).sort()
  assert.deepEqual(asked(ids), asked(made), "each call once")
  assert.equal(new Set(ids).size, ids.length)
  for (const who of ["far", "near"])
    assert.deepEqual(
      ids.filter((id) => id.startsWith(who)),
      [1, 2, 3, 4, 5].map((i) => `${who} ${i}`),
    )
  const upTo = ids.slice(0, ids.indexOf("end") + 1)
  const told = seen.slice(0, seen.indexOf("end") + 1)
  if (resumes.includes("snapshot"))
    assert.deepEqual(
      told,
      upTo.filter((id) => told.includes(id)),
      "in order",
    )
  else {
    assert.ok(
      told.length >= upTo.length - missed,
      `${told.length} of ${upTo.length} events, ${missed} of them before it came`,
    )
    assert.deepEqual(told, upTo.slice(upTo.length - told.length), "every event once, in order")
  }
  await Promise.all([alice.close(), phone.close()])
}

/** What a message is: its type, a relayed frame's own type, and its line. */
function kindOf({ t, from, to, head }: MeshNote): string {
  const frame = head["frame"] as { t: string } | undefined
  return `${t}${frame === undefined ? "" : ` of ${frame.t}`} ${from}>${to}`
}

/** Makes the journey once for each message that the undisturbed one has, of a kind's repetitions the first two (of frames one), with this done to it; what `fault` returns ends it. */
async function disturb(
  world: World,
  what: string,
  nudge: boolean,
  fault: (world: World, match: MeshMatch) => () => void | Promise<void>,
): Promise<void> {
  const from = world.tap.notes.length
  await journey(world, "undisturbed~nrt", false)
  await settled(world, "ledger/undisturbed~nrt")
  const targets = new Map<string, { kind: string; nth: number; t: string }>()
  for (const note of world.tap.notes.slice(from)) {
    const kind = kindOf(note)
    for (const nth of note.t === "FRAME" ? [0] : [0, 1]) {
      const name = `${kind}, number ${nth + 1}`
      if (targets.has(name)) continue
      targets.set(name, { kind, nth, t: note.t })
      break
    }
  }
  const types = new Set([...targets.values()].map(({ t }) => t))
  for (const t of ["PULL", "GRANT", "CONFIRM", "HOMEUPD", "RELAY_ME", "RELAY_OPEN", "FRAME", "OFFER"])
    assert.ok(types.has(t), `the journey has no ${t}`)
  for (const [name, { kind, nth }] of targets) {
    const key = `${what} ${name}~nrt`
    const actor = `ledger/${key}`
    let n = 0
    let it: MeshNote | undefined
    const end = fault(world, (note) => {
      if ((note.actor !== undefined && note.actor !== actor) || kindOf(note) !== kind || n++ !== nth) return false
      it = note
      return true
    })
    try {
      await journey(world, key, nudge)
      await end()
      await settled(world, actor)
      const owner = await owners(world, actor)
      assert.equal(owner.length, 1, `one owner, not ${owner.join(" and ")}`)
      // Whoever comes next finds all of it.
      const reader = world.client("reader", world.seat("fra"), patience)
      const ids = await within(10_000, "a reader", reader.ledger.get(key).query.ids())
      assert.equal(new Set(ids).size, ids.length)
      assert.ok(ids.length >= 10)
      await reader.close()
    } catch (error) {
      throw new Error(
        `${what}: ${name}${it ? "" : " (it did not come)"}: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      )
    }
  }
}

behaviour(
  "every mesh message is lost, one a journey: each call is applied once, and there is one owner (C20)",
  { pops: [3], limits, msMax, together: true },
  (world) =>
    disturb(world, "lost", false, ({ tap }, match) => {
      // What a link loses it loses by ending: a frame of a relay is lost with all behind it.
      return tap.drop((note) => {
        if (!match(note)) return false
        if (note.t === "FRAME") tap.cut(note.from, note.to)
        return true
      })
    }),
)

behaviour(
  "every mesh message is repeated, one a journey: each call is applied once, and there is one owner (C20)",
  { pops: [3], limits, msMax, together: true },
  (world) =>
    disturb(world, "repeated", false, ({ tap }, match) => {
      // In its place, so that nothing overtakes it.
      return tap.drop((note) => {
        if (!match(note)) return false
        for (let i = 0; i < 3; i++) tap.inject(note.from, note.to, note.frame)
        return true
      })
    }),
)

behaviour(
  "every mesh message is overtaken by the one behind it, one a journey: each call is applied once, and there is one owner (C20)",
  { pops: [3], limits, msMax, together: true },
  (world) =>
    disturb(world, "overtaken", true, ({ tap }, match) => {
      // At once: the one behind may be in the same packet.
      const caught = tap.catch((note) => {
        if (!match(note)) return false
        void tap.seen((behind) => behind.from === note.from && behind.to === note.to).then(() => caught.pass())
        return true
      })
      return () => {
        caught.pass()
      }
    }),
)

behaviour(
  "every mesh message is delayed past everything, one a journey: each call is applied once, and there is one owner (C20)",
  { pops: [3], limits, msMax, together: true },
  (world) =>
    disturb(world, "delayed", false, ({ tap }, match) => {
      let late: MeshNote | undefined
      const undo = tap.drop((note) => {
        if (!match(note)) return false
        late = note
        if (note.t === "FRAME") tap.cut(note.from, note.to)
        return true
      })
      return async () => {
        undo()
        if (!late) return
        // Nobody on the journey need have used the link since it was cut: what is late comes on the one dialed after it.
        await within(10_000, `the link from ${late.from} to ${late.to}`, tap.read(late.from, late.to))
        tap.inject(late.from, late.to, late.frame)
      }
    }),
)
