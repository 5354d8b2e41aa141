import { decodeChecked } from "../packages/core/src/checked-value.ts"
import { adminTarget, httpTarget, originTarget } from "./door.ts"
import { meshFrames, meshHandshake, meshLink, meshMessage, transfersTarget } from "./mesh.ts"
import { nodeClient, nodeMesh } from "./node.ts"
import { popTarget } from "./pop.ts"
import { serverFrameTarget } from "./sdk.ts"
import {
  addressTarget,
  clientFrame,
  clientMessage,
  encodedTarget,
  patchesTarget,
  sessionIdTarget,
  ticketTarget,
} from "./parsers.ts"
import { journalRowTarget, journalTarget, storedValueTarget } from "./stored.ts"
import type { Target } from "./target.ts"

/** Every parser, codec and stored form. */
export const parsers: readonly Target[] = [
  clientFrame,
  clientMessage,
  encodedTarget(decodeChecked),
  patchesTarget,
  serverFrameTarget,
  ticketTarget,
  sessionIdTarget,
  addressTarget,
  originTarget,
  adminTarget,
  httpTarget,
  meshMessage,
  meshFrames,
  meshHandshake,
  meshLink,
  transfersTarget,
  journalTarget,
  journalRowTarget,
  storedValueTarget,
]

/** Whole nodes, their transport in memory. */
export const nodes: readonly Target[] = [nodeClient, nodeMesh]

export const targets: readonly Target[] = [...parsers, ...nodes, popTarget]
