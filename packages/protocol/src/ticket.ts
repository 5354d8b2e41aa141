/**
 * A ticket is the signed form of "I used to be over there", one an actor. Its text is `<payload>.<key id>.<mac>`, payload and mac in
 * base64url, so that it fits a WebSocket subprotocol name (RFC 6455 §4.1, RFC 7230 token). A client treats it as opaque; it
 * changes latency, never correctness and never who may read.
 */
export interface TicketPayload {
  readonly actor: string
  /** The POP that owned the actor when the ticket was made. */
  readonly pop: string
  readonly epoch: number
  /** A revision that was durable when the ticket was made. */
  readonly revision: number
  readonly principal: string
  /** The session that it was made for: the source tells the traveller's own old session from another device's by it. */
  readonly session: string
  /** Expiry, ms since 1970. */
  readonly exp: number
}

/** The subprotocol of sockets, and the prefix of the second one that carries a ticket in the upgrade. */
export const SUBPROTOCOL = "sojourn.v1"
export const TICKET_PREFIX = "sojourn.at."
/** Longest ticket text that is looked at, characters. */
export const ticketCharsMax = 2048
