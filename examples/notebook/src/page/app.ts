import { createClient, type SojournError } from "@sojourn/client"
import type { App } from "../actors.ts"
import { Draft } from "../draft.ts"
import { Ledger } from "../ledger.ts"
import type { TextPatch } from "../pieces.ts"
import { tappedSocket } from "../tap.ts"
import { meshLine, type World } from "../world.ts"
import { createEditor } from "./editor.ts"
import { byId, radioGroup } from "./elements.ts"
import { createGhost } from "./ghost.ts"
import { createGlobe } from "./globe.ts"
import { Journey } from "./journey.ts"
import { createProof } from "./proof.ts"
import { createTimeline } from "./timeline.ts"

/** The notebook's page. What it is of Sojourn: one client, one actor, its live state, and `switchTo`. */
const dayMs = 86_400_000
/** A call this old is said to be under way; a quicker one would only flicker. */
const slowMs = 400

/** Answered once the POPs are ready. */
async function fetchWorld(): Promise<World> {
  return (await (await fetch("/world.json")).json()) as World
}

/** This browser's notebook, or the one that the address names. A new one is at home at the nearest POP: no way to go for its first page. */
function notebookKey(nearest: string): string {
  const named = decodeURIComponent(location.hash.slice(1))
  const key = named || localStorage.getItem("notebook") || `${crypto.randomUUID().slice(0, 8)}~${nearest}`
  localStorage.setItem("notebook", key)
  if (!named) history.replaceState(null, "", `#${key}`)
  return key
}

function startTheme(): void {
  const root = document.documentElement
  const kept = localStorage.getItem("theme")
  if (kept !== null) root.dataset["theme"] = kept
  byId("theme").addEventListener("click", () => {
    const dark =
      root.dataset["theme"] === "dark" ||
      (root.dataset["theme"] === undefined && matchMedia("(prefers-color-scheme: dark)").matches)
    root.dataset["theme"] = dark ? "light" : "dark"
    localStorage.setItem("theme", root.dataset["theme"])
  })
}

async function start(): Promise<void> {
  startTheme()
  const world = await fetchWorld()
  const area = byId<HTMLTextAreaElement>("text")
  const writer = `page-${crypto.randomUUID().slice(0, 8)}`
  const draft = new Draft(writer)
  const ledger = new Ledger()
  const nameOf = (pop: string | undefined): string => world.pops.find(({ id }) => id === pop)?.name ?? "…"

  const [firstPlace] = world.places
  if (firstPlace === undefined) throw new Error("no place is configured")
  let place = world.places.find(({ id }) => id === localStorage.getItem("place")) ?? firstPlace
  let pop = place.nearest
  let problem: string | undefined
  /** Calls without a reply, oldest first. */
  const madeAt = new Map<number, number>()

  const timeline = createTimeline()
  const globe = createGlobe(byId("globe"), world)
  const journey = new Journey(
    () => send([]),
    (times) => {
      timeline.show(times)
      show()
    },
  )
  const client = createClient<App>({
    url: place.lines[pop]?.url ?? "",
    token: "reader",
    storage: localStorage,
    // What is written offline waits for as long as the page is open.
    limits: { callMs: dayMs, queueCallsMax: 20_000, retryMsMax: 3_000 },
    socket: tappedSocket(journey.tap),
  })
  const notebook = client.notebook.get(notebookKey(pop))
  const proof = createProof(ledger, draft)

  const send = (patches: readonly TextPatch[]): void => {
    const n = ledger.make()
    const edit = draft.type(n, patches)
    madeAt.set(n, performance.now())
    notebook.edit(writer, n, edit.base, patches).then(
      () => {
        ledger.ack(n)
        madeAt.delete(n)
        show()
      },
      (error: SojournError) => {
        ledger.refuse()
        madeAt.delete(n)
        problem = error.message
        editor.refuse(n)
        show()
      },
    )
    show()
  }
  const editor = createEditor(area, draft, send)
  const ghost = createGhost(editor)

  const status = (): [kind: string, text: string] => {
    if (problem !== undefined) return ["failed", problem]
    const { status } = client
    if (status === "failed" || status === "closed") return ["failed", "The POP refused this page. Reload it."]
    if (status === "moving") return ["moving", `Moving to ${nameOf(pop)}…`]
    if (area.disabled || status === "connecting" || status === "idle") return ["connecting", "Opening…"]
    if (status !== "connected")
      return ["connecting", ledger.open === 0 ? "Offline. Keep writing" : `Offline. ${ledger.open} edits wait`]
    const [oldest] = madeAt.values()
    if (oldest !== undefined && performance.now() - oldest > slowMs) return ["saving", "Saving…"]
    return ["saved", `Saved in ${nameOf(notebook.pop ?? pop)}`]
  }

  const choosePlace = radioGroup(byId("places"), (id) => {
    const next = world.places.find((one) => one.id === id)
    if (next === undefined || next === place) return
    place = next
    localStorage.setItem("place", id)
    go(byId<HTMLInputElement>("follow").checked ? place.nearest : pop)
  })
  const choosePop = radioGroup(byId("pops"), (id) => {
    if (id !== pop) go(id)
  })

  const go = (to: string): void => {
    const line = place.lines[to]
    if (line === undefined) return
    const from = notebook.pop ?? pop
    pop = to
    journey.begin({ from, to, clientRttMs: line.rttMs, meshRttMs: meshLine(world, from, to) })
    client.switchTo(line.url)
    show()
  }

  // Once a frame at most, however many calls came back in it.
  let asked = false
  const show = (): void => {
    if (asked) return
    asked = true
    requestAnimationFrame(render)
  }
  const render = (): void => {
    asked = false
    const [kind, text] = status()
    const line = byId("state")
    line.dataset["kind"] = kind
    const label = line.querySelector("span")
    if (label !== null && label.textContent !== text) label.textContent = text
    choosePlace(world.places, place.id)
    choosePop(
      world.pops.map(({ id, name }) => {
        const rtt = place.lines[id]?.rttMs ?? 0
        return {
          id,
          name,
          note: `${rtt < 9.95 ? rtt.toFixed(0) : Math.round(rtt)} ms${id === place.nearest ? ", nearest" : ""}`,
        }
      }),
      pop,
    )
    globe.show(place.id, pop, notebook.pop)
    proof(notebook.state.get())
    const words = draft.text.trim() === "" ? 0 : draft.text.trim().split(/\s+/).length
    byId("words").textContent = `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}`
    byId("where").textContent = notebook.pop === undefined ? "" : `This notebook is in ${nameOf(notebook.pop)}`
    document.title = draft.text.split("\n", 1)[0]?.trim().slice(0, 60) || "Sojourn notebook"
  }

  // What is slow changes the line without any event.
  setInterval(() => madeAt.size > 0 && show(), slowMs)
  client.on("status", show)
  client.on("error", (error) => {
    if (error.retry === "never") problem = error.message
    show()
  })
  client.on("moved", (moved) => {
    journey.moved(moved)
    globe.travel(moved.from, moved.to)
    show()
  })
  notebook.state.subscribe((state) => {
    editor.receive(state)
    if (area.disabled) {
      area.disabled = false
      area.focus()
      area.setSelectionRange(area.value.length, area.value.length)
    }
    show()
  })
  byId("ghost").addEventListener("click", () => byId("ghost").setAttribute("aria-pressed", String(ghost.toggle())))
  addEventListener("hashchange", () => location.reload())
  show()
}

await start().catch((error: unknown) => {
  const line = byId("state")
  line.dataset["kind"] = "failed"
  line.textContent = error instanceof Error ? error.message : String(error)
})
