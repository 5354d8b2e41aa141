import type { ErrorCode } from "./errors.ts"

/**
 * WebSocket close codes. 4000–4499: the client reconnects; 4500–4999: it stops. An unknown code is judged by its range alone, so
 * that an old client does the right thing with a new server's code.
 */
export const CLOSE_CODES = {
  GOING_AWAY: [4000, "NOT_SERVING"],
  HEARTBEAT: [4001, "HALF_OPEN"],
  SLOW_READER: [4002, "SLOW_READER"],
  RATE_LIMITED: [4003, "RATE_LIMITED"],
  NOT_SERVING: [4004, "NOT_SERVING"],
  HANDSHAKE_TIMEOUT: [4005, "HANDSHAKE_TIMEOUT"],
  REPLACED: [4006, "SLEPT"],
  BAD_FRAME: [4500, "BAD_FRAME"],
  FRAME_TOO_LARGE: [4501, "FRAME_TOO_LARGE"],
  UNAUTHORIZED: [4502, "UNAUTHORIZED"],
  FOREIGN_ORIGIN: [4503, "FOREIGN_ORIGIN"],
  STORE_LOST: [4504, "STORE_LOST"],
} as const satisfies Record<string, readonly [number, ErrorCode]>

export type CloseName = keyof typeof CLOSE_CODES

/** Whether a client should connect again after this close code. Codes below 4000 (1000–1015 of RFC 6455) are the network's: yes. */
export function reconnects(code: number): boolean {
  return code < 4500 || code > 4999
}

export function closeCodeOf(code: number): CloseName | undefined {
  return (Object.keys(CLOSE_CODES) as CloseName[]).find((name) => CLOSE_CODES[name][0] === code)
}
