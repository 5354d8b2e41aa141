import assert from "node:assert/strict"
import { test } from "node:test"
import { SojournError } from "@sojourn/protocol"
import { actor, setup } from "./actor.ts"
import { Attaches, type AttachPorts } from "./attaches.ts"
import { isSpent } from "./slot.ts"
import { Slots } from "./slots.ts"

// An activation ends an attach when the last of its replies leaves: the slot of an actor whose client did not come back was kept for ever.
void test("an attach that its activation has ended is not kept", () => {
  const note = actor({ state: () => ({}) })
  const homeNow = (home: string) => ({ pop: home, role: true as const })
  const slots = new Slots({ app: setup({ actors: { note } }), pop: "bos", homes: ["bos"], regions: new Map(), homeNow })
  const attaches = new Attaches({ slots, limits: {}, input: () => undefined } as unknown as AttachPorts)
  const att = attaches.attach({
    actor: "note/a",
    who: { id: "ann" },
    mintedAt: 0,
    body: { ch: 1, actor: ["note", "a"], sid: "s", acked: 0, live: false },
    ticket: undefined,
    hint: undefined,
    stay: false,
    localOnly: false,
    out: () => undefined,
    ended: () => undefined,
  })
  const slot = slots.get("note/a")
  assert.ok(slot && !isSpent(slot))
  att.end(new SojournError("CALL_ORDER"))
  assert.ok(isSpent(slot))
})
