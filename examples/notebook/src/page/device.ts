import { createClient, type Moved, type SojournError } from "@sojourn/client"
import type { App } from "../actors.ts"
import type { Document } from "../document.ts"
import { Draft } from "../draft.ts"
import { Ledger } from "../ledger.ts"
import type { TextPatch } from "../pieces.ts"
import { tappedSocket, type Tap } from "../tap.ts"
import type { World } from "../world.ts"
import type { Notebook } from "./notebooks.ts"
import { createEditor, type Editor } from "./editor.ts"
import { createGhost, type Passage } from "./ghost.ts"

/** Something that a reader holds: a client of its own at a place of its own, a window on the notebook, and an account of its own calls. */
export type Place = World["places"][number]

export interface DeviceOptions {
  readonly name: string
  /** Has the parts `state`, `words`, `ghost` and `text`. */
  readonly root: HTMLElement
  readonly world: World
  readonly place: Place
  readonly pop: string
  readonly notebook: Notebook
  readonly passage: Passage
  readonly storage?: Storage
  readonly tap?: Tap
  /** Something that is shown may have changed. */
  readonly changed: () => void
  readonly moved: (moved: Moved) => void
  /** A lost connection stands again and the first call over it was answered. */
  readonly back: (awayMs: number, resent: number) => void
}

const dayMs = 86_400_000
/** A call this old is said to be under way; a quicker one would only flicker. */
const slowMs = 400

export class Device {
  readonly name: string
  readonly draft = new Draft(`page-${crypto.randomUUID().slice(0, 8)}`)
  readonly ledger = new Ledger()
  place: Place
  /** The POP that it is to be served by. */
  pop: string
  readonly #options: DeviceOptions
  readonly #client
  readonly #notebook
  readonly #editor: Editor
  readonly #ghost
  readonly #area: HTMLTextAreaElement
  readonly #timer: ReturnType<typeof setInterval>
  /** Calls without a reply, oldest first. */
  readonly #madeAt = new Map<number, number>()
  #problem: string | undefined
  #lost: { readonly at: number; readonly resent: number } | undefined
  #leaving: (() => void) | undefined

  constructor(options: DeviceOptions) {
    this.#options = options
    this.name = options.name
    this.place = options.place
    this.pop = options.pop
    this.#area = this.part<HTMLTextAreaElement>("text")
    this.#client = createClient<App>({
      url: this.#line(),
      token: "reader",
      // What is written offline waits for as long as the page is open.
      limits: { callMs: dayMs, queueCallsMax: 20_000, retryMsMax: 2_000 },
      ...(options.storage === undefined ? {} : { storage: options.storage }),
      ...(options.tap === undefined ? {} : { socket: tappedSocket(options.tap) }),
    })
    this.#notebook = this.#client[options.notebook.kind].get(options.notebook.key)
    this.#editor = createEditor(this.#area, this.draft, (patches) => this.send(patches))
    this.#ghost = createGhost(this.#editor, options.passage)
    const button = this.part<HTMLButtonElement>("ghost")
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(this.#ghost.toggle())))
    this.#client.on("status", ({ from, to }) => {
      if (from === "connected" && to !== "moving") this.#lost ??= { at: performance.now(), resent: this.resent }
      // A line that was given up on purpose was not lost.
      if (to === "moving") this.#lost = undefined
      this.changed()
    })
    this.#client.on("error", (error) => {
      if (error.retry === "never") this.#problem = error.message
      this.changed()
    })
    this.#client.on("moved", options.moved)
    this.#notebook.state.subscribe((state) => {
      this.#editor.receive(state)
      if (this.#area.disabled && this.#leaving === undefined) this.#open()
      this.changed()
    })
    // What is slow changes the line without any event.
    this.#timer = setInterval(() => this.#madeAt.size > 0 && this.changed(), slowMs)
  }

  /** The POP that owns the notebook, as last told. */
  get owner(): string | undefined {
    return this.#notebook.pop
  }

  get document(): Document | undefined {
    return this.#notebook.state.get()
  }

  get resent(): number {
    return this.#client.stats.resent
  }

  part<T extends HTMLElement = HTMLElement>(name: string): T {
    const found = this.#options.root.querySelector<T>(`[data-part="${name}"]`)
    if (found === null) throw new Error(`the device has no part ${name}`)
    return found
  }

  send(patches: readonly TextPatch[]): void {
    const n = this.ledger.make()
    const edit = this.draft.type(n, patches)
    this.#madeAt.set(n, performance.now())
    this.#notebook.edit(this.draft.writer, n, edit.base, patches).then(
      () => {
        this.ledger.ack(n)
        this.#answered(n)
      },
      (error: SojournError) => {
        this.ledger.refuse()
        this.#problem = error.message
        this.#editor.refuse(n)
        this.#answered(n)
      },
    )
    this.changed()
  }

  go(place: Place, pop: string): void {
    this.place = place
    this.pop = pop
    this.#client.switchTo(this.#line())
    this.changed()
  }

  /** The next way to another POP begins without a hint. */
  forgetTicket(): void {
    this.#client.forgetTickets()
  }

  /** Writes no more, and resolves once everything that was written is answered and the client closed. */
  async leave(): Promise<void> {
    this.#ghost.stop()
    this.#area.disabled = true
    await new Promise<void>((resolve) => {
      this.#leaving = resolve
      this.#left()
    })
    clearInterval(this.#timer)
    await this.#client.close()
  }

  show(down: readonly string[]): void {
    const [kind, text] = this.#status(down)
    const line = this.part("state")
    line.dataset["kind"] = kind
    const label = line.querySelector("span")
    if (label !== null && label.textContent !== text) label.textContent = text
    const words = this.draft.text.trim() === "" ? 0 : this.draft.text.trim().split(/\s+/).length
    this.part("words").textContent = `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}`
  }

  changed(): void {
    this.#options.changed()
  }

  #line(): string {
    return this.place.lines[this.pop]?.url ?? ""
  }

  #answered(n: number): void {
    this.#madeAt.delete(n)
    const lost = this.#lost
    if (lost !== undefined && this.#client.status === "connected") {
      this.#lost = undefined
      this.#options.back(performance.now() - lost.at, this.resent - lost.resent)
    }
    this.#left()
    this.changed()
  }

  #left(): void {
    if (this.ledger.open === 0) this.#leaving?.()
  }

  #open(): void {
    this.#area.disabled = false
    if (document.activeElement !== null && document.activeElement !== document.body) return
    this.#area.focus({ preventScroll: true })
    this.#area.setSelectionRange(this.#area.value.length, this.#area.value.length)
  }

  #status(down: readonly string[]): [kind: string, text: string] {
    const { open } = this.ledger
    const nameOf = (id: string | undefined): string =>
      this.#options.world.pops.find((pop) => pop.id === id)?.name ?? "…"
    const waiting =
      open === 0 ? "Keep writing" : `${open.toLocaleString("en")} ${open === 1 ? "edit waits" : "edits wait"}`
    if (this.#problem !== undefined) return ["failed", this.#problem]
    const { status } = this.#client
    const owner = this.owner ?? this.pop
    if (status === "failed" || status === "closed") return ["failed", "The POP refused this page. Reload it."]
    if (this.#leaving !== undefined) return ["saving", "Saving the last words…"]
    const missing = down.find((pop) => pop === this.pop || pop === owner)
    if (missing !== undefined) return ["connecting", `${nameOf(missing)} is down. ${waiting}`]
    if (status === "moving") return ["moving", `Moving to ${nameOf(this.pop)}…`]
    if (this.#area.disabled || status === "connecting" || status === "idle") return ["connecting", "Opening…"]
    if (status !== "connected") return ["connecting", `Offline. ${waiting}`]
    const [oldest] = this.#madeAt.values()
    if (oldest !== undefined && performance.now() - oldest > slowMs) return ["saving", `Saving… ${waiting}`]
    return ["saved", `Saved in ${nameOf(owner)}${owner === this.pop ? "" : ` via ${nameOf(this.pop)}`}`]
  }
}
