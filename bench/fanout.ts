// Fan-out: one client says something 20 times a second, 200 others hear it. Each delivery is timed from the saying to the hearing.
//
// Of ours an action that emits an event, which leaves once its turn is durable; beside it a hand-written server that tells the others at once,
// and one that flushes to LMDB before it does.
import type { ServerFrame } from "@sojourn/protocol"
import { setTimeout as delay } from "node:timers/promises"
import { Measured, round, spread, type Spread } from "./figures.ts"
import type { BenchOptions } from "./options.ts"
import type { BenchServer, ServerKind, Servers } from "./servers.ts"
import type { Row } from "./table.ts"
import { openSocket, Wire } from "./wire.ts"

const subscribers = 200
const everyMs = 50
/** A subscriber acknowledges what it has heard so long after the first of it, a quarter more or less, as the client package does. */
const ackMs = 200

/** `heard` is told of each delivery what was said. */
interface Room {
  say(text: string): void
  close(): Promise<void>
}
type OpenRoom = (url: string, heard: (text: string) => void, name: string) => Promise<Room>

const handWritten: OpenRoom = async (url, heard) => {
  const open = (): ReturnType<typeof openSocket> =>
    openSocket(url, (text) => {
      heard((JSON.parse(text) as { x: string }).x)
    })
  const all = await Promise.all(Array.from({ length: subscribers }, open))
  const speaker = await open()
  let c = 0
  return {
    say: (x) => {
      speaker.send(JSON.stringify({ c: ++c, x }))
    },
    close: async () => {
      for (const ws of [...all, speaker]) ws.terminate()
    },
  }
}

const sojourn: OpenRoom = async (url, heard, name) => {
  const join = async (token: string): Promise<Wire> => {
    const wire = await Wire.open(url)
    const { sessions } = await wire.hello(token)
    await wire.attach(1, ["room", name], sessions[0] as string)
    return wire
  }
  const all = await Promise.all(Array.from({ length: subscribers }, (_, i) => join(`subscriber${i}`)))
  let closed = false
  for (const wire of all) {
    let heardUpTo: number | undefined
    wire.heard = (frame: ServerFrame) => {
      if (frame.t !== "out") throw new Error(`unexpected: ${JSON.stringify(frame)}`)
      for (const [, { v }] of frame.ev ?? []) heard(v as string)
      if (heardUpTo === undefined)
        setTimeout(
          () => {
            if (closed || heardUpTo === undefined) return
            wire.send({ t: "ack", ch: 1, c: 0, r: heardUpTo })
            heardUpTo = undefined
          },
          ackMs * (0.75 + Math.random() / 2),
        )
      heardUpTo = frame.r
    }
  }
  const speaker = await join("speaker")
  speaker.heard = (frame) => {
    if (frame.t === "reply" && frame.err) throw new Error(`${frame.err.code}: ${frame.err.message}`)
    if (frame.t === "reply") speaker.send({ t: "ack", ch: 1, c: frame.c, r: frame.r })
  }
  let c = 0
  return {
    say: (text) => speaker.send({ t: "call", ch: 1, c: ++c, a: "say", p: { v: [text] } }),
    close: async () => {
      closed = true
      await Promise.all([...all, speaker].map((wire) => wire.close()))
    },
  }
}

interface Case {
  readonly server: ServerKind
  readonly name: string
  readonly open: OpenRoom
}

const peer = "room"
const cases: readonly Case[] = [
  { server: peer, name: "hand-written ws", open: handWritten },
  { server: "room-lmdb", name: "hand-written ws + LMDB", open: handWritten },
  { server: "sojourn", name: "Sojourn, event", open: sojourn },
]

/** All that was said is heard by all before it ends. */
async function speak(open: OpenRoom, url: string, ms: number, name: string): Promise<Spread> {
  const took: number[] = []
  const sent: number[] = []
  const times = Math.ceil(ms / everyMs)
  const all = Promise.withResolvers<void>()
  const room = await open(
    url,
    (text) => {
      took.push(performance.now() - (sent[Number(text)] as number))
      if (took.length === times * subscribers) all.resolve()
    },
    name,
  )
  const began = performance.now()
  for (let i = 0; i < times; i++) {
    await delay(Math.max(0, began + i * everyMs - performance.now()))
    sent.push(performance.now())
    room.say(String(i))
  }
  await all.promise
  await room.close()
  return spread(took)
}

export async function benchFanout(servers: Servers, { runs, ms }: BenchOptions): Promise<readonly Row[]> {
  const running = await servers.startAll(cases.map(({ server }) => server))
  const measured = new Measured<keyof Spread>()
  for (let run = 0; run < runs; run++)
    for (const { server, open } of cases) {
      const { url } = running.get(server) as BenchServer
      measured.add(server, { ...(await speak(open, url, ms, `room${run}`)) })
    }
  const hand = measured.of(peer)
  return cases.map(({ server, name }) => {
    const figure = measured.of(server)
    return {
      server: name,
      subscribers,
      perSecond: 1000 / everyMs,
      p50Ms: round(figure.p50, 3),
      p99Ms: round(figure.p99, 3),
      p50OfHandWritten: round(figure.p50 / hand.p50, 2),
      p99OfHandWritten: round(figure.p99 / hand.p99, 2),
    }
  })
}
