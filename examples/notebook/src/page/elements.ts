/** Elements by plain calls: attributes as given, text as text, never HTML from a string. */
type Attributes = Readonly<Record<string, string | number>>

const svgNamespace = "http://www.w3.org/2000/svg"

export function html<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  element.append(...children)
  return element
}

export function svg<K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(svgNamespace, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  element.append(...children)
  return element
}

/** The element of the page with this id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no element #${id}`)
  return element as T
}

export interface Choice {
  readonly id: string
  readonly name: string
  readonly note?: string
}

/** Buttons of which one is chosen, moved between by arrow keys as a radio group is (WAI-ARIA, "radio group"). */
export function radioGroup(
  group: HTMLElement,
  onChoose: (id: string) => void,
): (choices: readonly Choice[], chosen: string) => void {
  const buttons = new Map<string, HTMLButtonElement>()
  group.addEventListener("keydown", (event) => {
    const step =
      event.key === "ArrowRight" || event.key === "ArrowDown"
        ? 1
        : event.key === "ArrowLeft" || event.key === "ArrowUp"
          ? -1
          : 0
    if (step === 0) return
    const all = [...buttons.values()]
    const at = all.findIndex((button) => button === document.activeElement)
    all[(at + step + all.length) % all.length]?.focus()
    event.preventDefault()
  })
  return (choices, chosen) => {
    for (const { id, name, note } of choices) {
      let button = buttons.get(id)
      if (button === undefined) {
        button = html("button", { type: "button", role: "radio" })
        button.addEventListener("click", () => onChoose(id))
        buttons.set(id, button)
        group.append(button)
      }
      button.replaceChildren(name, ...(note === undefined ? [] : [html("small", {}, note)]))
      button.setAttribute("aria-checked", String(id === chosen))
      button.tabIndex = id === chosen ? 0 : -1
    }
  }
}
