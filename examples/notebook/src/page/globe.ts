import { geoAzimuthalEquidistant, geoGraticule10, geoInterpolate, geoPath, type GeoPermissibleObjects } from "d3-geo"
import { feature } from "topojson-client"
import land from "world-atlas/land-110m.json" with { type: "json" }
import { meshLine, type World } from "../world.ts"
import { svg } from "./elements.ts"

export interface Scene {
  /** The devices: where each is, the POP that serves it, and whether its place has no line now. */
  readonly visitors: readonly { readonly place: string; readonly pop: string; readonly cut: boolean }[]
  readonly owner: string | undefined
  readonly down: readonly string[]
  /** POPs that the law keeps the notebook from. */
  readonly outside: readonly string[]
}

/** POPs, the lines between them with their round trips, and where the devices and the notebook are. */
export interface Globe {
  show(scene: Scene): void
  /** Draws the way that the notebook takes. */
  travel(from: string, to: string): void
}

const width = 376
const height = 206
type Point = readonly [number, number]

export function createGlobe(box: HTMLElement, world: World): Globe {
  const points = [...world.pops, ...world.places].map(({ lon, lat }): [number, number] => [lon, lat])
  const [lon0, lat0] = middle(points)
  const projection = geoAzimuthalEquidistant()
    .rotate([-lon0, -lat0])
    .clipAngle(100)
    .fitExtent(
      [
        [46, 30],
        [width - 46, height - 30],
      ],
      { type: "MultiPoint", coordinates: points },
    )
    .clipExtent([
      [0, 0],
      [width, height],
    ])
  const path = geoPath(projection)
  const draw = (object: GeoPermissibleObjects): string => path(object) ?? ""
  const at = (lon: number, lat: number): Point => projection([lon, lat]) ?? [0, 0]
  const line = (a: World["pops"][number] | World["places"][number], b: World["pops"][number]): string =>
    draw({
      type: "LineString",
      coordinates: [
        [a.lon, a.lat],
        [b.lon, b.lat],
      ],
    })
  const popOf = new Map(world.pops.map((pop) => [pop.id, pop]))

  const lands = feature(
    land as unknown as Parameters<typeof feature>[0],
    land.objects.land as unknown as Parameters<typeof feature>[1],
  ) as GeoPermissibleObjects
  const moving = svg("g")
  const marks = svg("g")
  const lines = svg("g")
  for (const a of world.pops)
    for (const b of world.pops) {
      if (a.id >= b.id) continue
      const [x, y] = at(...geoInterpolate([a.lon, a.lat], [b.lon, b.lat])(0.5))
      lines.append(
        svg("path", { class: "line", d: line(a, b) }),
        svg(
          "text",
          { class: "rtt", x, y: y - 4, "text-anchor": "middle" },
          `${Math.round(meshLine(world, a.id, b.id))} ms`,
        ),
      )
    }
  box.replaceChildren(
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Map of the POPs and where you are" },
      svg("clipPath", { id: "globe-edge" }, svg("rect", { width, height, rx: 8 })),
      svg(
        "g",
        { "clip-path": "url(#globe-edge)" },
        svg("rect", { class: "sea", width, height }),
        svg("path", { class: "land", d: draw(lands) }),
        svg("path", { class: "grid", d: draw(geoGraticule10()) }),
        lines,
        moving,
        marks,
      ),
    ),
  )

  return {
    show({ visitors, owner, down, outside }) {
      marks.replaceChildren()
      for (const [i, { place: placeId, pop: popId, cut }] of visitors.entries()) {
        const place = world.places.find(({ id }) => id === placeId)
        const pop = popOf.get(popId)
        if (place === undefined || pop === undefined) continue
        const dead = cut || down.includes(popId)
        marks.append(svg("path", { class: `access device-${i + 1}${dead ? " dead" : ""}`, d: line(place, pop) }))
        // Served by another POP than the one that has the notebook: what is written goes on from there.
        const home = owner === undefined || owner === popId ? undefined : popOf.get(owner)
        if (home !== undefined) marks.append(svg("path", { class: `relay device-${i + 1}`, d: line(pop, home) }))
      }
      for (const each of world.pops) {
        const [cx, cy] = at(each.lon, each.lat)
        const dead = down.includes(each.id)
        if (each.id === owner) marks.append(svg("circle", { class: dead ? "halo dead" : "halo", cx, cy, r: 13 }))
        const kind = dead
          ? "pop dead"
          : each.id === owner
            ? "pop owner"
            : outside.includes(each.id)
              ? "pop outside"
              : "pop"
        marks.append(
          svg("circle", { class: kind, cx, cy, r: 5.5 }),
          svg("text", { x: cx, y: cy + 22, "text-anchor": "middle" }, dead ? `${each.id} is down` : each.id),
        )
        if (dead) marks.append(svg("path", { class: "cross", d: `M${cx - 4} ${cy - 4}l8 8m0 -8l-8 8` }))
      }
      for (const [i, { place: placeId }] of visitors.entries()) {
        const place = world.places.find(({ id }) => id === placeId)
        const together = visitors.findIndex((other) => other.place === placeId) < i
        if (place === undefined) continue
        const [cx, cy] = at(place.lon, place.lat)
        const near = world.pops.map((each) => at(each.lon, each.lat)).find(([x, y]) => Math.hypot(x - cx, y - cy) < 34)
        // Beside a POP's mark, away from it; in the POP's own city above it.
        const side = near === undefined || Math.hypot(near[0] - cx, near[1] - cy) < 7 ? 0 : cx < near[0] ? -1 : 1
        marks.append(svg("circle", { class: `you device-${i + 1}`, cx: together ? cx + 7 : cx, cy, r: 4.2 }))
        if (together) continue
        marks.append(
          svg(
            "text",
            {
              x: side === 0 ? clamp(cx, 34, width - 34) : cx + side * 9,
              y: side !== 0 ? cy + 4 : cy > 30 ? cy - 11 : cy + 36,
              "text-anchor": side === 0 ? "middle" : side < 0 ? "end" : "start",
            },
            place.name,
          ),
        )
      }
    },
    travel(from, to) {
      const a = popOf.get(from)
      const b = popOf.get(to)
      if (a === undefined || b === undefined) return
      const trip = svg("path", { class: "trip", d: line(a, b), pathLength: 1, "stroke-dasharray": "1 1" })
      moving.replaceChildren(trip)
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return
      trip.animate(
        [
          { strokeDashoffset: 1, opacity: 1 },
          { strokeDashoffset: 0, opacity: 1, offset: 0.35 },
          { strokeDashoffset: 0, opacity: 1, offset: 0.75 },
          { strokeDashoffset: 0, opacity: 0 },
        ],
        { duration: 2600, easing: "ease-out", fill: "forwards" },
      )
    },
  }
}

/** The direction of the mean of all points: a good centre for a projection. */
function middle(points: readonly Point[]): Point {
  const rad = Math.PI / 180
  let [x, y, z] = [0, 0, 0]
  for (const [lon, lat] of points) {
    x += Math.cos(lat * rad) * Math.cos(lon * rad)
    y += Math.cos(lat * rad) * Math.sin(lon * rad)
    z += Math.sin(lat * rad)
  }
  return [Math.atan2(y, x) / rad, Math.atan2(z, Math.hypot(x, y)) / rad]
}

function clamp(x: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, x))
}
