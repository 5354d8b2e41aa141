import assert from "node:assert/strict"
import { test } from "node:test"
import type { SojournError } from "@sojourn/protocol"
import type { Attached } from "./attach.ts"
import type { Session } from "./sessions.ts"
import { Turns, type TurnParts, type TurnPorts, type TurnsOwner } from "./turns.ts"

// Everybody who is attached hears why the activation ended, whoever's session it was.
void test("a call that is not its session's next names that session to the log alone", () => {
  const dropped: SojournError[] = []
  const owner: Partial<TurnsOwner> = { drop: (error) => dropped.push(error) }
  const turns = new Turns("note/k", {} as never, {} as TurnParts, {} as TurnPorts, owner as TurnsOwner)
  const session = { id: "an id that is somebody's", last: 3 } as Session
  turns.call({} as Attached, session, { c: 5, a: "add", p: { v: [] } })
  const [error] = dropped
  assert.equal(error?.code, "INVARIANT")
  assert.ok(!JSON.stringify(error.toWire()).includes(session.id), error.message)
  assert.match(String(error.cause), /somebody's/)
})
