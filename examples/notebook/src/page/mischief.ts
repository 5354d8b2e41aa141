import type { Mischief, TroubleState } from "../trouble.ts"
import type { World } from "../world.ts"
import type { Device } from "./device.ts"
import { byId, html } from "./elements.ts"

/** The buttons that make trouble, and what is out of order now, which other windows may have done as well. */
export interface MischiefPanel {
  readonly state: TroubleState
  /** A line about what happens, for whoever watches. */
  say(text: string): void
  show(): void
}

const cutMs = 5_000

export function createMischief(world: World, device: Device, changed: () => void): MischiefPanel {
  const told = byId("told")
  let state: TroubleState = { down: [], cut: [] }
  const say = (text: string): void => {
    told.textContent = text
  }
  const make = async (mischief: Mischief, before: string, after?: string): Promise<void> => {
    say(before)
    try {
      const answer = await fetch("/trouble", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(mischief),
      })
      if (!answer.ok) say(`That did not work: ${await answer.text()}`)
      else if (after !== undefined) say(after)
    } catch {
      say("That did not work: npm start does not answer.")
    }
  }

  byId("cut").addEventListener("click", () => {
    const { id, name } = device.place
    void make(
      { what: "cut", place: id, ms: cutMs },
      `Every line out of ${name} is cut for ${cutMs / 1000} s. Keep writing.`,
    )
  })
  byId("half-open").addEventListener("click", () => {
    const { id, name } = device.place
    void make(
      { what: "half-open", place: id },
      `The connections out of ${name} are dead, and neither end is told: the heartbeat has to find out.`,
    )
  })
  byId("forget").addEventListener("click", () => {
    device.forgetTicket()
    say("The ticket is forgotten: on the next way, the new POP has to ask the notebook's home.")
  })

  const kills = new Map<string, HTMLButtonElement>()
  for (const { id, name } of world.pops) {
    const button = html("button", { type: "button", "data-kill": id })
    button.addEventListener("click", () => {
      if (state.down.includes(id))
        void make(
          { what: "start", pop: id },
          `${name} starts again. It serves once it has heard another POP.`,
          `${name} is back.`,
        )
      else
        void make(
          { what: "kill", pop: id },
          `SIGKILL for the POP in ${name}.`,
          `${name} is dead. What it had acknowledged is on its disk; start it again.`,
        )
    })
    kills.set(id, button)
    byId("kill").append(button)
  }

  const panel: MischiefPanel = {
    get state() {
      return state
    },
    say,
    show() {
      for (const { id, name } of world.pops) {
        const button = kills.get(id)
        const down = state.down.includes(id)
        if (button === undefined || button.dataset["down"] === String(down)) continue
        button.dataset["down"] = String(down)
        button.textContent = down ? `↻ ${name}` : name
        button.setAttribute("aria-label", down ? `Start the POP in ${name} again` : `Kill the POP in ${name}`)
      }
      byId("cut").setAttribute("aria-pressed", String(state.cut.includes(device.place.id)))
    },
  }
  const events = new EventSource("/trouble")
  events.addEventListener("message", (event: MessageEvent<string>) => {
    state = JSON.parse(event.data) as TroubleState
    changed()
  })
  return panel
}
