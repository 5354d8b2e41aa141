// The notebook in a real Chromium, as its reader has it: `npm start` with real processes, and what the page itself says.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { after, before, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { createClient } from "@sojourn/client"
import { chromium, type Browser, type Page } from "playwright-core"
import type { App } from "../examples/notebook/src/actors.ts"
import type { World } from "../examples/notebook/src/world.ts"

const program = fileURLToPath(new URL("../examples/notebook/src/main.ts", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "sojourn-browser-test-"))
/** What any one step may take before it counts as never. */
const stepMsMax = 30_000

let url = ""
let browser: Browser
let stop = async (): Promise<void> => undefined

before(async () => {
  const child = spawn(
    process.execPath,
    ["--conditions=sojourn-source", program, "--port", "0", "--data", join(folder, "data")],
    { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
  )
  const ended = once(child, "close")
  const printed = new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on("line", (line) => {
      const found = /^Sojourn notebook: (http:\S+)$/.exec(line)
      if (found?.[1] !== undefined) resolve(found[1])
    })
    void ended.then(([code]) => reject(new Error(`npm start ended with ${String(code)}`)))
  })
  stop = async () => {
    child.kill("SIGTERM")
    await ended
  }
  url = await printed
  browser = await chromium.launch({
    executablePath: process.env["SOJOURN_CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  })
})
after(async () => {
  await (browser as Browser | undefined)?.close()
  await stop()
  rmSync(folder, { recursive: true, force: true })
})

/** Opens the notebook as somebody whose browser knows nothing yet, and waits until it can be written in. */
async function open(address: string, size = { width: 1280, height: 800 }): Promise<Page> {
  const context = await browser.newContext({ viewport: size })
  const page = await context.newPage()
  page.setDefaultTimeout(stepMsMax)
  await page.goto(address)
  await page.waitForSelector("#text:enabled")
  return page
}

/** Resolves once the text of what `selector` finds matches. */
async function shows(page: Page, selector: string, pattern: RegExp): Promise<void> {
  const found = page.locator(selector)
  try {
    await found.filter({ hasText: pattern }).waitFor()
  } catch (cause) {
    const shown = await found.allTextContents()
    throw new Error(`${selector} never showed ${String(pattern)}; it shows ${JSON.stringify(shown)}`, { cause })
  }
}

const deskState = "#desk [data-part=state] span"
const count = async (page: Page, name: string): Promise<string> =>
  (await page.locator(`#proof [data-count="${name}"]`).textContent()) ?? ""

describe("the notebook in a browser", () => {
  test("travels, loses its line twice and its POP once, and is written in on three devices: nothing lost, nothing twice, one text (C24, C55, C59, C61)", async () => {
    const page = await open(url)
    await page.fill("#text", "Letters from the road")
    await page.click("#desk [data-part=ghost]")

    for (const city of ["Frankfurt", "Tokyo", "Boston"]) {
      await page.getByRole("radio", { name: city, exact: true }).click()
      await shows(page, deskState, new RegExp(`^Saved in ${city}$`))
    }
    await shows(page, "#history li:nth-child(1)", /^nrt → bos/)
    await shows(page, "#history li:nth-child(2)", /^fra → nrt/)
    await shows(page, "#history li:nth-child(3)", /^bos → fra/)

    await page.click("#cut")
    await shows(page, deskState, /^Offline\. \d+ edits wait$/)
    await shows(page, "#told", /^The desk is connected again/)

    await page.click("#half-open")
    await shows(page, "#told", /neither end is told/)
    await shows(page, "#told", /^The desk is connected again.*second time: [1-9]/)

    await page.click("#second")
    await page.click(".phone [data-part=ghost]")
    // Both write: the owner keeps the notebook, and the phone is served through its own POP.
    await shows(page, ".phone [data-part=state] span", /^Saved in Boston via Tokyo$/)
    const other = await open(page.url())
    await other.getByRole("radio", { name: "Paris", exact: true }).click()
    await other.click("#text")
    await other.keyboard.type("And from Paris. ")

    await page.click('[data-kill="bos"]')
    await shows(page, deskState, /^Boston is down\. \d+ edits wait$/)
    await shows(page, ".phone [data-part=state] span", /^Boston is down/)
    await shows(page, "#pops", /Boston\s*down/)
    await other.keyboard.type("Still from Paris. ")
    await shows(page, "#told", /^Boston is dead/)
    await page.click('[data-kill="bos"]')
    await shows(page, deskState, /^Saved in Boston$/)

    for (const device of ["#desk", ".phone"]) await page.click(`${device} [data-part=ghost]`)
    await shows(page, "#verdict", /^Every call applied once, in order; same text on both devices$/)
    await shows(other, "#verdict", /^Every call applied once, in order; same text$/)
    for (const each of [page, other]) {
      const made = await count(each, "calls made")
      assert.notEqual(made, "0")
      for (const name of ["acknowledged", "applied"]) assert.equal(await count(each, name), made, name)
      for (const name of ["lost", "duplicated"]) assert.equal(await count(each, name), "0", name)
    }

    const text = await actorsText(page)
    for (const part of ["Letters from the road", "And from Paris. ", "Still from Paris. "])
      assert.equal(text.split(part).length, 2, `${JSON.stringify(part)} in ${JSON.stringify(text)}`)
    for (const [each, selector] of [
      [page, "#text"],
      [page, ".phone textarea"],
      [other, "#text"],
    ] as const)
      await each.waitForFunction(
        ([where, wanted]) => document.querySelector<HTMLTextAreaElement>(where)?.value === wanted,
        [selector, text] as const,
      )
    await Promise.all([page, other].map((each) => each.context().close()))
  })

  test("without its ticket the notebook is found through its home", async () => {
    const page = await open(`${url}/#forgotten~fra`)
    await page.fill("#text", "Where was it?")
    await shows(page, deskState, /^Saved in Boston$/)
    await page.click("#forget")
    await page.getByRole("radio", { name: "Tokyo", exact: true }).click()
    await shows(page, "#history li", /^bos → nrt/)
    await shows(page, "#timeline", /asked by home/)
    assert.equal(await page.inputValue("#text"), "Where was it?")
    await page.context().close()
  })

  test("a notebook that stays in the US is served in Tokyo by relay, and no file there has a word of it (C25)", async () => {
    const page = await open(`${url}/#bordered~bos`)
    const free = "This one goes anywhere. "
    const bound = "This one stays in the US. "
    await page.fill("#text", free)
    await page.getByRole("radio", { name: "Tokyo", exact: true }).click()
    await shows(page, deskState, /^Saved in Tokyo$/)
    await page.getByRole("radio", { name: "Boston", exact: true }).click()
    await shows(page, deskState, /^Saved in Boston$/)

    await page.getByRole("radio", { name: "Stays in the US" }).click()
    await page.waitForURL(/#us:/)
    await page.waitForSelector("#text:enabled")
    assert.equal(await page.inputValue("#text"), "", "it is another notebook")
    await page.fill("#text", bound)
    await shows(page, deskState, /^Saved in Boston$/)
    await page.getByRole("radio", { name: "Tokyo", exact: true }).click()
    await shows(page, deskState, /^Saved in Boston via Tokyo$/)
    await page.click("#text")
    await page.keyboard.press("End")
    await page.keyboard.type(bound)
    await shows(page, "#verdict", /^Every call applied once, in order; same text$/)
    assert.equal(await page.inputValue("#text"), bound + bound)
    // The same search finds what was allowed to be there.
    assert.ok(holds("nrt", free), "the search does not find what the POP in Tokyo held")
    assert.ok(holds("bos", bound))
    assert.ok(!holds("nrt", bound), "the POP in Tokyo has what may not leave the US")
    assert.ok(!holds("fra", bound), "the POP in Frankfurt has what may not leave the US")
    await page.context().close()
  })

  test("on a small screen nothing is wider than the screen, and the keyboard reaches everything", async () => {
    const page = await open(`${url}/#small~bos`, { width: 360, height: 740 })
    await page.focus("#second")
    await page.keyboard.press("Enter")
    await page.waitForSelector(".phone textarea:enabled")
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360)
    const reached = new Set<string>()
    await page.focus("#second")
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab")
      reached.add(
        await page.evaluate(() => {
          const element = document.activeElement as HTMLElement
          return element.id || element.dataset["part"] || element.dataset["kill"] || element.parentElement?.id || ""
        }),
      )
    }
    for (const control of ["text", "place", "ghost", "cut", "half-open", "forget", "nrt", "follow", "places", "pops"])
      assert.ok(reached.has(control), `the Tab key does not reach ${control}: ${[...reached].join(", ")}`)
    await page.focus("#places [aria-checked=true]")
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Space")
    await shows(page, deskState, /^Saved in Tokyo$/)
    await page.context().close()
  })
})

/** Whether any file of this POP has the text in it. */
function holds(pop: string, text: string): boolean {
  const home = join(folder, "data", pop)
  const files = readdirSync(home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  assert.ok(files.length > 0)
  return files.some((file) => readFileSync(join(file.parentPath, file.name)).includes(text))
}

/** The text as the actor has it, asked by a client that is no browser. */
async function actorsText(page: Page): Promise<string> {
  const world = (await (await fetch(`${url}/world.json`)).json()) as World
  const place = world.places[0]!
  await using client = createClient<App>({ url: place.lines[place.nearest]!.url, token: "reader" })
  const key = decodeURIComponent(new URL(page.url()).hash.slice(1))
  return (await client.notebook.get(key).query.report("nobody")).text
}
