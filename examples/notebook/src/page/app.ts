import { meshLine, type World } from "../world.ts"
import { Device, type DeviceOptions, type Place } from "./device.ts"
import { byId, html, radioGroup } from "./elements.ts"
import { deskPassage, phonePassage } from "./ghost.ts"
import { createGlobe } from "./globe.ts"
import { Journey } from "./journey.ts"
import { createMischief } from "./mischief.ts"
import { addressOfOwn, openNotebook, popsOutside, type Notebook } from "./notebooks.ts"
import { createProof } from "./proof.ts"
import { createTimeline } from "./timeline.ts"

/** The notebook's page. What it is of Sojourn: a client a device, one actor, its live state, and `switchTo`. */

/** Answered once the POPs are ready. */
async function fetchWorld(): Promise<World> {
  return (await (await fetch("/world.json")).json()) as World
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

/** Where one would expect the other device least: the place that is worst served by the POP that serves this one. */
function farFrom(world: World, pop: string): Place | undefined {
  const away = ({ lines }: Place): number => lines[pop]?.rttMs ?? 0
  return world.places.reduce<Place | undefined>((a, b) => (a === undefined || away(b) > away(a) ? b : a), undefined)
}

async function start(): Promise<void> {
  startTheme()
  const world = await fetchWorld()
  const placeOf = (id: string | null): Place | undefined => world.places.find((place) => place.id === id)
  const firstPlace = placeOf(localStorage.getItem("place")) ?? world.places[0]
  if (firstPlace === undefined) throw new Error("no place is configured")

  const opened = openNotebook(world, firstPlace.nearest)
  const outside = popsOutside(opened.kind, world)

  const timeline = createTimeline()
  const globe = createGlobe(byId("globe"), world)
  const proof = createProof()
  const journey = new Journey(
    () => desk.send([]),
    (times) => {
      timeline.show(times)
      show()
    },
  )
  // Once a frame at most, however many calls came back in it.
  let asked = false
  const show = (): void => {
    if (asked) return
    asked = true
    requestAnimationFrame(render)
  }
  const common: Pick<DeviceOptions, "world" | "notebook" | "changed"> = {
    world,
    notebook: opened,
    changed: show,
  }
  const back =
    (name: string) =>
    (awayMs: number, resent: number): void =>
      mischief.say(
        `${name} is connected again after ${(awayMs / 1000).toFixed(1)} s. Calls sent a second time: ${resent.toLocaleString("en")}.`,
      )

  const desk = new Device({
    ...common,
    name: "The desk",
    root: byId("desk"),
    place: firstPlace,
    pop: firstPlace.nearest,
    passage: deskPassage,
    storage: localStorage,
    tap: journey.tap,
    moved: (moved) => {
      journey.moved(moved)
      globe.travel(moved.from, moved.to)
      show()
    },
    back: back("The desk"),
  })
  const mischief = createMischief(world, desk, show)
  if (outside.length > 0)
    mischief.say("By law only POPs in the United States may hold this notebook. The others pass it on.")

  /** All of this page, those that were put away among them. */
  const devices = [desk]
  let phone: Device | undefined
  let leaving: Promise<void> | undefined
  const second = byId("second")

  const openPhone = (): void => {
    const place = placeOf(sessionStorage.getItem("phone")) ?? farFrom(world, desk.pop)
    const frame = byId<HTMLTemplateElement>("phone").content.firstElementChild?.cloneNode(true) as
      HTMLElement | undefined
    if (place === undefined || frame === undefined) return
    byId("devices").append(frame)
    const device = new Device({
      ...common,
      name: "The phone",
      root: frame,
      place,
      pop: place.nearest,
      passage: phonePassage,
      moved: ({ from, to }) => {
        globe.travel(from, to)
        show()
      },
      back: back("The phone"),
    })
    const select = device.part<HTMLSelectElement>("place")
    for (const { id, name } of world.places) select.append(html("option", { value: id }, name))
    select.value = place.id
    select.addEventListener("change", () => {
      const next = placeOf(select.value)
      if (next === undefined) return
      sessionStorage.setItem("phone", next.id)
      device.go(next, next.nearest)
    })
    phone = device
    devices.push(device)
    show()
  }
  const closePhone = async (): Promise<void> => {
    const away = phone
    if (away === undefined) return
    await away.leave()
    byId("devices").lastElementChild?.remove()
    phone = undefined
    show()
  }
  second.addEventListener("click", () => {
    if (leaving !== undefined) return
    if (phone === undefined) openPhone()
    else leaving = closePhone().finally(() => (leaving = undefined))
    second.setAttribute("aria-pressed", String(leaving === undefined))
  })

  const go = (place: Place, to: string): void => {
    const line = place.lines[to]
    if (line === undefined) return
    const from = desk.owner ?? desk.pop
    journey.begin({ from, to, clientRttMs: line.rttMs, meshRttMs: meshLine(world, from, to) })
    desk.go(place, to)
  }
  const choosePlace = radioGroup(byId("places"), (id) => {
    const next = placeOf(id)
    if (next === undefined || next === desk.place) return
    localStorage.setItem("place", id)
    go(next, byId<HTMLInputElement>("follow").checked ? next.nearest : desk.pop)
  })
  // A world without a POP in the United States has no notebook that stays there.
  const lawful = popsOutside("usNotebook", world).length < world.pops.length
  byId("law").hidden = !lawful
  const chooseLaw = radioGroup(byId("law"), (id) => {
    if (id !== opened.kind) location.hash = addressOfOwn(id as Notebook["kind"], world, desk.place.nearest)
  })
  const choosePop = radioGroup(byId("pops"), (id) => {
    if (id !== desk.pop) go(desk.place, id)
  })

  const render = (): void => {
    asked = false
    const { down, cut } = mischief.state
    for (const device of [desk, phone]) device?.show(down)
    chooseLaw(
      [
        { id: "notebook", name: "Goes anywhere" },
        { id: "usNotebook", name: "Stays in the US" },
      ],
      opened.kind,
    )
    choosePlace(world.places, desk.place.id)
    choosePop(
      world.pops.map(({ id, name }) => {
        const rtt = desk.place.lines[id]?.rttMs ?? 0
        const how = outside.includes(id) ? ", by relay" : id === desk.place.nearest ? ", nearest" : ""
        const note = `${rtt < 9.95 ? rtt.toFixed(0) : Math.round(rtt)} ms${how}`
        return { id, name, note: down.includes(id) ? "down" : note }
      }),
      desk.pop,
    )
    globe.show({
      visitors: [desk, phone].flatMap((device) =>
        device === undefined ? [] : [{ place: device.place.id, pop: device.pop, cut: cut.includes(device.place.id) }],
      ),
      owner: desk.owner,
      down,
      outside,
    })
    mischief.show()
    proof(devices)
    document.title = desk.draft.text.split("\n", 1)[0]?.trim().slice(0, 60) || "Sojourn notebook"
  }
  addEventListener("hashchange", () => location.reload())
  show()
}

await start().catch((error: unknown) => {
  const line = byId("desk").querySelector<HTMLElement>('[data-part="state"]')
  if (line === null) return
  line.dataset["kind"] = "failed"
  line.textContent = error instanceof Error ? error.message : String(error)
})
