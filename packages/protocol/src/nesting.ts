/**
 * Deepest nesting of a frame's or message's JSON. `JSON.parse` takes any, and what comes after it recurses: validation, superjson,
 * `JSON.stringify` of a relayed frame. A value that the codec encodes takes at most two levels for each of its own (a Map's).
 */
export const jsonDepthMax = 512

/** Whether parsed JSON nests deeper. Never recurses further than that. */
export function nestsDeeper(json: unknown, max = jsonDepthMax): boolean {
  if (typeof json !== "object" || json === null) return false
  if (max === 0) return true
  if (Array.isArray(json)) {
    for (const item of json) if (nestsDeeper(item, max - 1)) return true
  } else for (const key in json) if (nestsDeeper((json as Record<string, unknown>)[key], max - 1)) return true
  return false
}
