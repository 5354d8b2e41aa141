// Random sequences of everything that users and operators do, against a model of a few lines: whatever POPs, moves, sleep and crashes lie
// between a client and its actor, the actor is a counter with a list.
import assert from "node:assert/strict"
import type { Client } from "@sojourn/client"
import { SojournError } from "@sojourn/protocol"
import type { App } from "./behaviours/app.ts"
import { owners } from "./behaviours/settled.ts"
import { behaviour, within, type Seat, type World } from "./behaviours/world.ts"

const ledgerOf = (key: string): readonly ["ledger", string] => ["ledger", key]

/** What an actor is to its users. */
interface Model {
  n: number
  ids: string[]
  blob: unknown
}

/** The same numbers from the same seed. */
function seeded(seed: number): (below: number) => number {
  let x = seed
  return (below) => {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((x / 2 ** 32) * below)
  }
}

const blobs: readonly unknown[] = [
  null,
  "ж",
  { a: [1, { b: new Map([["k", new Set([1, 2])]]) }] },
  new Date(5),
  new Uint8Array([1, 2, 3]),
  123n,
]

class Play {
  readonly world: World
  readonly pick: (below: number) => number
  readonly models = new Map<string, Model>()
  readonly clients: Client<App>[]
  readonly story: string[] = []
  #ids = 0

  constructor(world: World, seed: number) {
    this.world = world
    this.pick = seeded(seed)
    // Every home, and some actors of one.
    for (const seat of world.seats)
      for (const i of [1, 2]) this.models.set(`m${i}s${seed}~${seat.id}`, { n: 0, ids: [], blob: undefined })
    this.clients = [1, 2, 3].map((i) => world.client(`user${i}`, this.#any(world.seats)))
  }

  #any<T>(list: readonly T[]): T {
    return list[this.pick(list.length)] as T
  }

  /** One operation of one user on one actor, and what the model says of it. */
  async #one(client: Client<App>, key: string, model: Model): Promise<void> {
    const ledger = client.ledger.get(key)
    switch (this.pick(8)) {
      case 0:
      case 1:
      case 2: {
        const id = `id${++this.#ids}`
        this.story.push(`add ${id} to ${key}`)
        model.n++
        model.ids.push(id)
        assert.equal((await ledger.add(id)).n, model.n)
        return
      }
      case 3: {
        const blob = this.#any(blobs)
        this.story.push(`put ${String(blob)} into ${key}`)
        model.blob = blob
        await ledger.put(blob)
        return
      }
      case 4:
        this.story.push(`${key} refuses`)
        await assert.rejects(
          ledger.refuse(),
          (error: SojournError) => error.code === "ACTOR_ERROR" && error.ref === "out-of-stock",
        )
        return
      case 5:
        this.story.push(`${key} throws`)
        await assert.rejects(ledger.boom(), (error: SojournError) => error.code === "INTERNAL")
        return
      case 6:
        this.story.push(`nop of ${key}`)
        assert.equal(await ledger.nop(), model.n)
        return
      default:
        this.story.push(`all of ${key}`)
        assert.deepEqual(await ledger.query.whole(), model)
    }
  }

  /** Calls of one user that are under way together; they are applied in their order. */
  async #burst(client: Client<App>, key: string, model: Model): Promise<() => Promise<void>> {
    const ledger = client.ledger.get(key)
    const from = model.n
    const ids = Array.from({ length: 1 + this.pick(4) }, () => `id${++this.#ids}`)
    this.story.push(`add ${ids.join(", ")} to ${key} at once`)
    model.n += ids.length
    model.ids.push(...ids)
    const replies = Promise.all(ids.map((id) => ledger.add(id)))
    replies.catch(() => undefined)
    return async () =>
      assert.deepEqual(
        (await within(15_000, "the replies", replies)).map(({ n }) => n),
        ids.map((_, i) => from + 1 + i),
      )
  }

  async #upheaval(key: string): Promise<void> {
    const { world } = this
    const seat = this.#any(world.seats)
    const [a, b] = [seat, world.seats[(world.seats.indexOf(seat) + 1) % world.seats.length] as Seat]
    switch (this.pick(6)) {
      case 0:
        this.story.push(`${a.id} crashes`)
        await a.crash()
        await world.start(a.id)
        return
      case 1: {
        const to = this.#any(world.seats)
        this.story.push(`a user goes to ${to.id}`)
        this.#any(this.clients).switchTo(to.url)
        return
      }
      case 2: {
        if (a === b) return
        this.story.push(`the line of ${a.id} and ${b.id} breaks`)
        world.tap.cut(a.id, b.id)
        return
      }
      case 3:
        this.story.push(`clients of ${a.id} are cut off`)
        a.proxy.cut()
        return
      case 4: {
        const [owner] = await owners(world, `ledger/${key}`)
        const to = this.#any(world.seats)
        if (owner === undefined || owner === to.id) return
        this.story.push(`${owner} moves ${key} to ${to.id}`)
        // It may have gone by itself meanwhile, or to another: the move is then refused by name.
        await within(15_000, "the move", world.seat(owner).pop.move(ledgerOf(key), to.id)).catch((error: unknown) => {
          assert.ok(error instanceof SojournError && ["MOVED", "POP_UNREACHABLE"].includes(error.code), String(error))
        })
        return
      }
      default: {
        this.story.push(`${key} is left alone until it has slept`)
        const slept = (): number =>
          world.seats.reduce((sum, one) => sum + one.events.of("actor.slept", `ledger/${key}`).length, 0)
        const before = slept()
        await (this.clients[0] as Client<App>).ledger.get(key).nop()
        await within(
          10_000,
          `${key} sleeps`,
          new Promise<void>((resolve) => {
            const look = (): void => {
              if (slept() > before) resolve()
              else setImmediate(look)
            }
            look()
          }),
        )
      }
    }
  }

  async run(steps: number): Promise<void> {
    const keys = [...this.models.keys()]
    for (let i = 0; i < steps; i++) {
      const key = this.#any(keys)
      const model = this.models.get(key) as Model
      const client = this.#any(this.clients)
      if (this.pick(3) > 0) await within(15_000, "an operation", this.#one(client, key, model))
      else {
        const answered = await this.#burst(client, key, model)
        await this.#upheaval(key)
        await answered()
      }
    }
    for (const [key, model] of this.models) {
      const reader = this.#any(this.clients).ledger.get(key)
      assert.deepEqual(await within(15_000, "the end", reader.query.whole()), model)
      if (model.n > 0) assert.equal((await owners(this.world, `ledger/${key}`)).length, 1)
    }
  }
}

for (const seed of [1, 2, 3])
  behaviour(
    `random operations, moves, cuts, sleep and crashes agree with a model of the actor, seed ${seed} (C40)`,
    { limits: { idleMs: 60 } },
    async (world) => {
      const play = new Play(world, seed)
      try {
        await play.run(60)
      } catch (error) {
        throw new Error(`${error instanceof Error ? error.message : String(error)}\nafter:\n${play.story.join("\n")}`, {
          cause: error,
        })
      }
    },
  )
