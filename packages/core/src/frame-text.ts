import type { ServerFrame } from "@sojourn/protocol"
import { EncodedText } from "./encoded-text.ts"
import { eventsText } from "./journal.ts"

/**
 * A frame as text: what `JSON.stringify` makes of it. One output goes to every session that may see it, in frames that differ in channel and
 * predecessor only: what they carry is text already. The order of keys is that in which they are made; some other one is none of this
 * process's own. What came from a peer, and may have more in it, is passed on as it is.
 */
export function frameText(frame: ServerFrame): string {
  if (frame.t === "out") {
    const { ch, r, prev, ev, pt } = frame
    if (!isText(pt ?? ev?.[0]?.[1])) return JSON.stringify(frame)
    const events = ev === undefined ? "" : `,"ev":${eventsText(ev)}`
    const patches = isText(pt) ? `,"pt":${pt.text}` : ""
    return `{"t":"out","ch":${ch},"r":${r},"prev":${prev}${events}${patches}}`
  }
  if (frame.t === "reply" && isText(frame.ok)) {
    const { ch, c, r, ok, relaxed } = frame
    return `{"t":"reply","ch":${ch},"c":${c},"r":${r},"ok":${ok.text}${relaxed ? `,"relaxed":true` : ""}}`
  }
  if (frame.t === "answer" && isText(frame.ok)) {
    const { ch, q, r, ok } = frame
    return `{"t":"answer","ch":${ch},"q":${q},"r":${r},"ok":${ok.text}}`
  }
  return JSON.stringify(frame)
}

function isText(encoded: unknown): encoded is EncodedText {
  return encoded instanceof EncodedText
}
