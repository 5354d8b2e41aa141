/**
 * What the simulated application writes into an actor's list: one text for each effect, from which it can be judged what had the effect.
 * Each begins with the actor's own key, so that a text in the wrong hands shows (G5).
 *
 *   key|client|n                          a call, by who made it and its number
 *   key|client|n-m                        a call that cancelled the alarm of that client's call m
 *   key|client|n>to:index[:attempt]       what call n did at actor `to` (the first part of its key), and where it stands in that one's list
 *   key|client|n!                         the alarm that call n set has rung
 *   key|<from|client|n[|attempt]          what call n of actor `from` did here
 */
export interface Mark {
  readonly kind: "call" | "cancel" | "passed" | "rang" | "relayed"
  /** Of the call behind it: `key|client|n`; for `relayed` it is without the key, which belongs to `from`. */
  readonly id: string
  readonly client: string
  /** First part of the other actor's key. */
  readonly other?: string
  readonly index?: number
  readonly attempt?: string
  /** For `cancel`: the call that set the alarm. */
  readonly of?: string
}

const own = /^([^|]*\|([^|<]*)\|\d+)(?:(!)|-(\d+)|>(\w+):(\d+)(?::(\w+))?)?$/
const foreign = /^[^|]*\|<(\w+)\|([^|]*)\|(\d+)(?:\|(\w+))?$/

export function readMark(text: string): Mark {
  const relayed = foreign.exec(text)
  if (relayed) {
    const [, other = "", client = "", n = "", attempt] = relayed
    return { kind: "relayed", id: `${client}|${n}`, client, other, ...(attempt === undefined ? {} : { attempt }) }
  }
  const [, id, client = "", rang, of, other, index, attempt] = own.exec(text) ?? []
  if (id === undefined) throw new Error(`the simulated application wrote what cannot be read: ${text}`)
  if (rang !== undefined) return { kind: "rang", id, client }
  if (of !== undefined) return { kind: "cancel", id, client, of: `${id.slice(0, id.lastIndexOf("|"))}|${of}` }
  if (other !== undefined)
    return { kind: "passed", id, client, other, index: Number(index), ...(attempt === undefined ? {} : { attempt }) }
  return { kind: "call", id, client }
}

export const cancelMark = (id: string, of: number): string => `${id}-${of}`
export const rangMark = (id: string): string => `${id}!`
export const passedMark = (id: string, to: string, index: number, attempt?: string): string =>
  `${id}>${shortOf(to)}:${index}${attempt === undefined ? "" : `:${attempt}`}`

/** What the call `id` of one actor writes at the actor with the key `to`. */
export function relayedMark(id: string, to: string, attempt?: string): string {
  const [key = "", client = "", n = ""] = id.split("|")
  return `${to}|<${shortOf(key)}|${client}|${n}${attempt === undefined ? "" : `|${attempt}`}`
}

/** First part of a key: unique in a run. */
export function shortOf(key: string): string {
  return key.slice(0, key.indexOf("."))
}
