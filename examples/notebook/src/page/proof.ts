import type { Document } from "../document.ts"
import type { Draft } from "../draft.ts"
import type { Ledger } from "../ledger.ts"
import { byId, html } from "./elements.ts"

/** The account of this page's calls against what the notebook's code wrote down, and the page's own text against the notebook's. */
export function createProof(ledger: Ledger, draft: Draft): (document: Document | undefined) => void {
  const box = byId("proof")
  const verdict = byId("verdict")
  const cells = new Map<string, HTMLElement>()
  for (const name of ["calls made", "acknowledged", "applied", "lost", "duplicated", "text compared"]) {
    const value = html("dd", {}, "0")
    cells.set(name, value)
    box.append(html("div", {}, html("dt", {}, name), value))
  }
  const put = (name: string, value: string | number, wrong = false): void => {
    const cell = cells.get(name)
    if (cell === undefined) return
    cell.textContent = typeof value === "number" ? value.toLocaleString("en") : value
    cell.classList.toggle("wrong", wrong)
  }
  return (document) => {
    const settled = ledger.settle(document?.tallies[draft.writer])
    // A reply may come before the state that shows its call: only what stays missing once nothing is under way is lost.
    const lost = draft.pending === 0 && ledger.open === 0 ? settled.lost : 0
    put("calls made", settled.made)
    put("acknowledged", settled.acked)
    put("applied", settled.applied)
    put("lost", lost, lost > 0)
    put("duplicated", settled.duplicated, settled.duplicated > 0)
    put(
      "text compared",
      draft.differences === 0 ? `${draft.comparisons.toLocaleString("en")} ×` : `${draft.differences} differ`,
      draft.differences > 0,
    )
    const well = lost === 0 && settled.duplicated === 0 && settled.inOrder && draft.differences === 0
    if (settled.made === 0) {
      verdict.textContent = "Type something"
      verdict.removeAttribute("data-ok")
      return
    }
    verdict.dataset["ok"] = String(well)
    verdict.textContent = !well
      ? "Something is wrong"
      : ledger.open > 0
        ? `${ledger.open} under way, nothing lost`
        : "Every call applied once, in order; same text"
  }
}
