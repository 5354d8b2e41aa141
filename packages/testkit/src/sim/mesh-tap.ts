/**
 * What the simulator reads of a mesh frame, of the layout described in `core/mesh-codec.ts`, with none of its code: enough to count
 * messages by type, to tell a whole message from a chunk, and to tell a story.
 */
const decoder = new TextDecoder()

export interface MeshHead {
  readonly t?: string
  readonly [field: string]: unknown
}

function head(bytes: Uint8Array): MeshHead {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1)
  return JSON.parse(decoder.decode(bytes.subarray(5, 5 + length))) as MeshHead
}

/** The head of a whole message; undefined for a chunk or a frame of the link's own. */
export function meshHead(bytes: Uint8Array): MeshHead | undefined {
  return bytes[0] === 2 ? head(bytes) : undefined
}

export function meshDescribe(bytes: Uint8Array): string {
  if (bytes[0] === 1) return `link ${decoder.decode(bytes.subarray(1)).slice(0, 60)}`
  if (bytes[0] !== 2) return `chunk of ${bytes.length} bytes`
  const { t, ...rest } = head(bytes)
  const text = JSON.stringify(rest)
  return `${String(t)} ${text.length > 200 ? `${text.slice(0, 200)}…` : text}`
}
