import { Traveller } from "./traveller.ts"
import { idling } from "./typist.ts"

/**
 * Processes that have just started run their first moves 15 to 40 ms more slowly, until the engine has compiled them. So before anybody looks
 * or measures, a traveller of its own goes round: POPs as they are a few seconds into their life.
 */
const laps = 4
const callsPerStop = 25

/** `urls`: where a client next to each POP reaches it. */
export async function warmUp(urls: readonly string[]): Promise<void> {
  const [first] = urls
  if (first === undefined) return
  const traveller = new Traveller({
    url: first,
    actor: ["traveller", "warm-up"],
    edits: idling(),
    writer: "traveller",
    start: "",
    live: true,
    ticketFor: (ticket) => ticket,
  })
  for (let lap = 0; lap < laps; lap++)
    for (const url of urls) {
      await traveller.switchTo(url).firstReply
      for (let i = 0; i < callsPerStop; i++) traveller.call()
      await traveller.quiet()
    }
  await traveller.close()
}
