import type { CoreEvent, EventSink } from "@sojourn/core"
import { pino, type DestinationStream } from "pino"
import type { LogLevel } from "./pop-options.ts"

/**
 * Turns the node's events into structured logs: the event's type is the message, its fields are the record's. An event with an error, or the code of
 * one, is a warning: a client may have been told that the log has it. The ones here are more, or less.
 */
const errors: ReadonlySet<unknown> = new Set([
  "STORE_LOST",
  "INVARIANT",
  "CORRUPT_RECORD",
  "HISTORY_LOST",
  "BAD_CONFIG",
])
const news = /^(pop|node|mesh)\.(up|down|started|stopped|listening|serving|waiting|dial-failed)$/

/** Names of fields that may hold what lets somebody in. Core puts none into events; this is the second lock. */
const private_ = ["token", "secret", "secrets", "ticket", "sid", "session", "authorization", "cookie", "headers"]

function levelOf(event: CoreEvent): "error" | "warn" | "info" | "debug" {
  const code = event["code"] ?? (event["error"] as { code?: unknown } | undefined)?.code
  if (errors.has(code)) return "error"
  if (code !== undefined || event["error"] !== undefined) return "warn"
  return news.test(event.type) ? "info" : "debug"
}

export function createEventLog(
  level: LogLevel,
  who: { readonly pop: string; readonly node: string },
  destination?: DestinationStream,
): EventSink {
  if (level === "silent") return () => undefined
  const settings = {
    level,
    base: null,
    redact: { paths: private_.flatMap((name) => [name, `*.${name}`]), censor: "[private]" },
    serializers: { error: pino.stdSerializers.err },
  }
  const log = (destination ? pino(settings, destination) : pino(settings)).child({ at: who.pop, node: who.node })
  return (event) => {
    const { type, ...fields } = event
    log[levelOf(event)](fields, type)
  }
}
