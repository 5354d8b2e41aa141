import type { Pull } from "./handoff.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import { firstVersion } from "./migrate.ts"

/** A PULL on the mesh: what is absent, or the first version of a schema, is not written. */
export type PullMessage = Extract<MeshMessage, { t: "PULL" }>

export function pullMessage(actor: string, pull: Pull): PullMessage {
  const { session, via, have, version, ...rest } = pull
  return {
    t: "PULL",
    actor,
    ...rest,
    ...(session === undefined ? {} : { session }),
    ...(via === undefined ? {} : { via }),
    ...(have === undefined ? {} : { have }),
    ...(version === firstVersion ? {} : { version }),
  }
}

export function pullOf(m: PullMessage): Pull {
  const { origin, nonce, session, epoch, hops, relay, via, have, version = firstVersion } = m
  return { origin, nonce, session, epoch, hops, relay, via, have, version }
}
