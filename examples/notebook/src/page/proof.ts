import type { Device } from "./device.ts"
import { byId, html } from "./elements.ts"

/**
 * The account of every device's calls against what the notebook's code wrote down, and every device's own text against the notebook's. A device that
 * was put away still counts.
 */
export function createProof(): (devices: readonly Device[]) => void {
  const box = byId("proof")
  const verdict = byId("verdict")
  const cells = new Map<string, HTMLElement>()
  for (const name of ["calls made", "acknowledged", "applied", "lost", "duplicated", "text compared"]) {
    const value = html("dd", { "data-count": name }, "0")
    cells.set(name, value)
    box.append(html("div", {}, html("dt", {}, name), value))
  }
  const put = (name: string, value: string | number, wrong = false): void => {
    const cell = cells.get(name)
    if (cell === undefined) return
    cell.textContent = typeof value === "number" ? value.toLocaleString("en") : value
    cell.classList.toggle("wrong", wrong)
  }
  return (devices) => {
    const sum = account(devices)
    put("calls made", sum.made)
    put("acknowledged", sum.acked)
    put("applied", sum.applied)
    put("lost", sum.lost, sum.lost > 0)
    put("duplicated", sum.duplicated, sum.duplicated > 0)
    put(
      "text compared",
      sum.differences === 0 ? `${sum.comparisons.toLocaleString("en")} ×` : `${sum.differences} differ`,
      sum.differences > 0,
    )
    if (sum.made === 0) {
      verdict.textContent = "Type something"
      verdict.removeAttribute("data-ok")
      return
    }
    const well = sum.lost === 0 && sum.duplicated === 0 && sum.inOrder && sum.differences === 0
    verdict.dataset["ok"] = String(well)
    verdict.textContent = !well
      ? "Something is wrong"
      : sum.open > 0
        ? `${sum.open.toLocaleString("en")} under way, nothing lost`
        : devices.length > 1
          ? "Every call applied once, in order; same text on both devices"
          : "Every call applied once, in order; same text"
  }
}

function account(devices: readonly Device[]): Record<
  "made" | "acked" | "applied" | "lost" | "duplicated" | "open" | "comparisons" | "differences",
  number
> & {
  inOrder: boolean
} {
  const sum = { made: 0, acked: 0, applied: 0, lost: 0, duplicated: 0, open: 0, comparisons: 0, differences: 0 }
  let inOrder = true
  // The furthest state that any of them was shown: it knows of the edits of one that was put away.
  const newest = devices
    .map(({ document }) => document)
    .reduce((a, b) => (a === undefined || (b !== undefined && b.seq > a.seq) ? b : a), undefined)
  for (const { ledger, draft } of devices) {
    const settled = ledger.settle(newest?.tallies[draft.writer])
    sum.made += settled.made
    sum.acked += settled.acked
    sum.applied += settled.applied
    sum.duplicated += settled.duplicated
    sum.open += ledger.open
    sum.comparisons += draft.comparisons
    sum.differences += draft.differences
    inOrder &&= settled.inOrder
    // A reply may come before the state that shows its call: only what stays missing once nothing is under way is lost.
    if (draft.pending === 0 && ledger.open === 0) sum.lost += settled.lost
  }
  return { ...sum, inOrder }
}
