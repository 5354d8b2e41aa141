import { byId, html, svg } from "./elements.ts"
import type { LegTimes } from "./journey.ts"

/** The last move as bars over one axis of milliseconds, and the moves before it in a list. */
export interface Timeline {
  show(times: LegTimes): void
}

const width = 376
const labelWidth = 74
const rowHeight = 25
const historyMax = 5

interface Row {
  readonly name: string
  readonly kind: "wait" | "far" | "disk" | "all"
  readonly from: number
  readonly to: number
  readonly note: string
}

export function createTimeline(): Timeline {
  const box = byId("timeline")
  const sum = byId("move-sum")
  const history = byId("history")
  const past: Past[] = []
  return {
    show(times) {
      const floorMs = times.clientRttMs + times.meshRttMs
      const replyMs = times.replyMs - times.helloMs
      const way = wayOf(times)
      sum.textContent = `${way}: ${ms(replyMs)} to the first reply`
      box.replaceChildren(chart(times))
      past.unshift({ way, replyMs, floorMs })
      past.length = Math.min(past.length, historyMax)
      const longest = Math.max(...past.map((one) => Math.max(one.replyMs, one.floorMs)))
      history.replaceChildren(...past.map((one) => entry(one, 100 / longest)))
    },
  }
}

/** Another place may have the same POP, and the owner may keep the notebook and serve by relay. */
function wayOf({ from, to, moved }: LegTimes): string {
  if (from === to) return `still ${to}`
  return moved === undefined ? `${from} by ${to}` : `${from} → ${to}`
}

interface Past {
  readonly way: string
  readonly replyMs: number
  readonly floorMs: number
}

/** One line of the list; all are drawn to one scale. */
function entry({ way, replyMs, floorMs }: Past, scale: number): HTMLLIElement {
  const bar = svg(
    "svg",
    { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "all", width: replyMs * scale, height: 6 }),
    svg("line", { class: "floor", x1: floorMs * scale, x2: floorMs * scale, y1: 0, y2: 6 }),
  )
  return html(
    "li",
    {},
    way,
    html("span", { class: "mini" }, bar),
    html("span", { class: "ms" }, `${ms(replyMs)}, floor ${ms(floorMs)}`),
  )
}

/**
 * The POP's own durations are placed by where the page knows them to lie: a ticket's PULL leaves when the upgrade arrives, half a round trip
 * before `hello` is sent; without one, when `hello` arrives.
 */
function rows(times: LegTimes): Row[] {
  const { helloMs, replyMs, clientRttMs, moved } = times
  const report = moved?.report
  const list: Row[] = [
    {
      name: report?.early === true ? "ticket" : "connect",
      kind: "wait",
      from: 0,
      to: helloMs,
      note: report === undefined ? "connected" : report.early ? "fetch begins in the upgrade" : `asked by ${report.by}`,
    },
  ]
  if (report !== undefined) {
    const began = Math.max(0, helloMs + (report.early ? -clientRttMs / 2 : clientRttMs / 2))
    const fetched = began + report.fetchMs
    list.push(
      { name: "fetch", kind: "far", from: began, to: fetched, note: `${ms(report.fetchMs)}, ${bytes(report.bytes)}` },
      { name: "durable", kind: "disk", from: fetched, to: fetched + report.durableMs, note: ms(report.durableMs) },
    )
  }
  list.push({ name: "first reply", kind: "all", from: helloMs, to: replyMs, note: ms(replyMs - helloMs) })
  return list
}

function chart(times: LegTimes): SVGSVGElement {
  const list = rows(times)
  const floorAt = times.helloMs + times.clientRttMs + times.meshRttMs
  const end = Math.max(...list.map((row) => row.to), floorAt) * 1.03
  const x = (at: number): number => labelWidth + ((width - labelWidth) * at) / end
  const height = list.length * rowHeight + 20
  const box = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": list.map((row) => `${row.name}: ${row.note}`).join("; "),
  })
  for (const [i, row] of list.entries()) {
    const y = i * rowHeight
    const start = x(row.from)
    const length = Math.max(2, x(row.to) - start)
    const inside = length > row.note.length * 6.2 + 12
    const before = !inside && start + length + row.note.length * 6.2 > width
    box.append(
      svg("text", { class: "soft", x: 0, y: y + 15 }, row.name),
      svg("rect", { class: "track", x: labelWidth, y: y + 4, width: width - labelWidth, height: 15, rx: 3 }),
      svg("rect", { class: row.kind, x: start, y: y + 4, width: length, height: 15, rx: 3 }),
      svg(
        "text",
        {
          class: inside ? `on-${row.kind}` : "beside",
          x: inside ? start + 7 : before ? start - 6 : start + length + 6,
          y: y + 15.5,
          "text-anchor": before ? "end" : "start",
        },
        row.note,
      ),
    )
  }
  const floorX = x(floorAt)
  const right = floorX > width - 130
  box.append(
    svg("line", { class: "floor", x1: floorX, x2: floorX, y1: rowHeight, y2: height - 16 }),
    svg(
      "text",
      { class: "floor-label", x: right ? floorX + 2 : floorX, y: height - 4, "text-anchor": right ? "end" : "middle" },
      `floor ${ms(floorAt - times.helloMs)} after hello`,
    ),
  )
  return box
}

function ms(value: number): string {
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`
}

function bytes(value: number): string {
  return value < 1000
    ? `${value} B`
    : value < 999_500
      ? `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} kB`
      : `${(value / 1e6).toFixed(1)} MB`
}
