import type { ServerFrame } from "@sojourn/protocol"
import { textOf } from "./encoded-text.ts"
import { eventsText } from "./journal.ts"

/**
 * A frame as text: what `JSON.stringify` makes of it. One output goes to every session that may see it, in frames that differ in channel and
 * predecessor only: what they carry is text already. The order of keys is that in which they are made; some other one is none of this process's own.
 */
export function frameText(frame: ServerFrame): string {
  if (frame.t === "out") {
    const { ch, r, prev, ev, pt } = frame
    const events = ev === undefined ? "" : `,"ev":${eventsText(ev)}`
    const patches = pt === undefined ? "" : `,"pt":${textOf(pt)}`
    return `{"t":"out","ch":${ch},"r":${r},"prev":${prev}${events}${patches}}`
  }
  if (frame.t === "reply" && frame.ok !== undefined && frame.relaxed === undefined) {
    const { ch, c, r, ok } = frame
    return `{"t":"reply","ch":${ch},"c":${c},"r":${r},"ok":${textOf(ok)}}`
  }
  return JSON.stringify(frame)
}
