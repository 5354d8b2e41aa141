import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { Session, type Request } from "./session.ts"

function request(name: string, kind: Request["kind"] = "call", deadline = 100): Request {
  const waiter = Promise.withResolvers<unknown>()
  waiter.promise.catch(() => {})
  return { kind, name, body: `"a":"${name}"`, n: 0, after: 0, sends: 0, since: 0, deadline, waiter, release: undefined }
}

function drain(session: Session): string[] {
  const sent: string[] = []
  for (let r = session.take(Infinity); r; r = session.take(Infinity)) sent.push(`${r.name}${r.n}`)
  return sent
}

describe("a client's session", () => {
  test("numbers a call when it is first sent, so one given up before leaves no hole", () => {
    const session = new Session(256)
    const [a, b, c] = [request("a"), request("b"), request("c")]
    for (const r of [a, b, c]) session.push(r)
    session.giveUp(b, () => new SojournError("CALL_ABORTED"))
    assert.deepEqual(drain(session), ["a1", "c2"])
  })

  test("C48 sends everything unanswered again, in order, before anything new", () => {
    const session = new Session(256)
    for (const name of ["a", "b", "c"]) session.push(request(name))
    drain(session)
    session.push(request("d"))
    session.replied(1)
    session.rewind()
    assert.deepEqual(drain(session), ["b2", "c3", "d4"])
  })

  test("fills a number that was answered out of order on re-send, so that the server sees no hole", () => {
    const session = new Session(256)
    for (const name of ["a", "b", "c"]) session.push(request(name))
    drain(session)
    session.replied(2)
    assert.equal(session.acked, 0)
    session.rewind()
    assert.deepEqual(drain(session), ["a1", "2", "c3"])
    session.replied(1)
    assert.equal(session.acked, 2)
  })

  test("C49 a reply that comes again finds nobody", () => {
    const session = new Session(256)
    session.push(request("a"))
    drain(session)
    assert.equal(session.replied(1)?.name, "a")
    assert.equal(session.replied(1), undefined)
  })

  test("C51 a call given up after it was sent goes again as skip until a reply has come", () => {
    const session = new Session(256)
    session.push(request("a", "call", 10))
    session.push(request("b", "call", 50))
    drain(session)
    const earliest = session.expire(20, (_, sent) => new SojournError(sent ? "CALL_TIMEOUT" : "CALL_NOT_SENT"))
    assert.equal(earliest, 50)
    session.rewind()
    const again = session.take(Infinity)
    assert.match(again?.body ?? "", /"skip":true/)
    assert.equal(again?.n, 1)
  })

  test("never goes further than the window beyond what the server was told is acknowledged", () => {
    const session = new Session(3)
    for (const name of "abcdef") session.push(request(name))
    assert.deepEqual(drain(session), ["a1", "b2", "c3"])
    session.replied(1)
    assert.deepEqual(drain(session), [])
    session.told = session.acked
    assert.deepEqual(drain(session), ["d4"])
  })

  test("a query follows the calls made before it and is asked again", () => {
    const session = new Session(256)
    session.push(request("a"))
    session.push(request("q", "query"))
    session.push(request("b"))
    session.take(Infinity)
    const query = session.take(Infinity)
    assert.equal(query?.after, 1)
    drain(session)
    session.rewind()
    assert.deepEqual(drain(session), ["a1", "b2", "q1"])
    session.answered(1)
    session.rewind()
    assert.deepEqual(drain(session), ["a1", "b2"])
  })

  test("after its session was forgotten, what may have been applied is lost and the rest starts from 1", () => {
    const session = new Session(256)
    const [a, b, c, q] = [request("a"), request("b"), request("c"), request("q", "query")]
    session.sid = "s"
    session.push(a)
    session.push(q)
    drain(session)
    session.rewind()
    session.push(b)
    drain(session)
    session.push(c)
    // a was sent twice; b only in the attach that is refused.
    const lost = session.restart(true)
    assert.deepEqual(
      lost.map((r) => r.name),
      ["a"],
    )
    assert.equal(session.sid, undefined)
    session.rewind()
    assert.deepEqual(drain(session), ["b1", "q2", "c2"])
  })

  test("sends nothing that has no room, and takes it up there", () => {
    const session = new Session(256)
    session.push(request("a"))
    session.push({ ...request("long"), body: "x".repeat(500) })
    assert.equal(session.take(200)?.name, "a")
    assert.equal(session.take(200), undefined)
    assert.equal(session.take(1000)?.n, 2)
  })
})
