import { SojournError, type Encoded, type QueryBody, type WireError } from "@sojourn/protocol"
import type { ErasedDefinition } from "./actor.ts"
import type { Attached } from "./attach.ts"
import { decodeChecked } from "./checked-value.ts"
import { encodeText } from "./encoded-text.ts"
import type { AuthorErrors } from "./author-errors.ts"
import { isServer } from "./mesh-messages.ts"
import type { Outputs } from "./outputs.ts"
import type { Reader } from "./reader.ts"
import type { Session } from "./sessions.ts"
import { isThenable } from "./thenable.ts"
import { own } from "./turn.ts"

export interface QueryParts {
  readonly journal: { readonly revision: number }
  readonly reader: Reader
  readonly outputs: Outputs
  readonly authorErrors: AuthorErrors
}

export interface QueriesOwner {
  /** An answer came late: nobody else may ask for the proof that it waits for. */
  pump(): void
}

/**
 * Queries of one activation. A query has its turn in the mailbox, so it sees what the calls before it made of the state; one that awaits
 * holds nobody up. Its answer is a read at the revision that it began at: it leaves when that is durable and the ownership is proved.
 */
export class Queries {
  readonly #def: ErasedDefinition
  readonly #journal: { readonly revision: number }
  readonly #reader: Reader
  readonly #outputs: Outputs
  readonly #authorErrors: AuthorErrors
  readonly #owner: QueriesOwner

  constructor(def: ErasedDefinition, parts: QueryParts, owner: QueriesOwner) {
    this.#def = def
    this.#journal = parts.journal
    this.#reader = parts.reader
    this.#outputs = parts.outputs
    this.#authorErrors = parts.authorErrors
    this.#owner = owner
  }

  answer(att: Attached, session: Session, query: QueryBody): void {
    if (query.after > session.last) {
      att.end(
        new SojournError("CALL_ORDER", `a query that follows call ${query.after} came after call ${session.last}`),
      )
      return
    }
    const { revision } = this.#journal
    const give = (part: { ok: Encoded } | { err: WireError }): void => {
      this.#outputs.holdRead(att, revision, () => {
        this.#outputs.send(att, { t: "answer", ch: att.ch, q: query.q, r: revision, ...part })
      })
    }
    const fail = (error: unknown): void => {
      give({ err: this.#authorErrors.wireError(error, query.n) })
    }
    const done = (value: unknown): void => {
      try {
        const ok = encodeText(value)
        this.#outputs.assertFits("the query's answer", ok)
        give({ ok })
      } catch (error) {
        fail(error)
      }
    }
    try {
      const result = this.#ask(att, query)
      if (isThenable(result))
        void Promise.resolve(result)
          .then(done, fail)
          .finally(() => {
            this.#owner.pump()
          })
      else done(result)
    } catch (error) {
      fail(error)
    }
  }

  /** The query's result, or a promise of it. Throws what the author throws. */
  #ask({ who }: Attached, query: QueryBody): unknown {
    const run = own(this.#def.queries, query.n)
    if (!run) throw new SojournError("UNKNOWN_ACTION", `there is no query ${JSON.stringify(query.n)}`)
    const context = this.#reader.context(who)
    const ask = (allowed: unknown): unknown => {
      if (allowed !== true) throw new SojournError("FORBIDDEN", `${who.id} may not ask ${query.n}`)
      const args = decodeChecked(query.p)
      if (!Array.isArray(args)) throw new SojournError("BAD_INPUT", "a query's arguments must be an array")
      return run(context, ...(args as unknown[]))
    }
    const allowed: unknown = this.#def.authorize && !isServer(who) ? this.#def.authorize(context, who, query.n) : true
    return isThenable(allowed) ? Promise.resolve(allowed).then(ask) : ask(allowed)
  }
}
