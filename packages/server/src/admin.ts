import { SojournError } from "@sojourn/protocol"
import type { CoreNode, Primitives } from "@sojourn/core"
import type { AdminDesk } from "./front.ts"

/**
 * What an operator may ask of a running POP over HTTP, with `admin: true`: to forget a destroyed one. The bearer token is derived from the mesh
 * secret, so whoever may configure a POP may ask, and the secret itself does not travel.
 */
export function adminTokens(secrets: readonly string[], primitives: Pick<Primitives, "derive">): string[] {
  return secrets.map((secret) => primitives.derive(secret, "sojourn admin v1"))
}

export function createAdmin(
  node: Pick<CoreNode, "forget">,
  secrets: readonly string[],
  primitives: Pick<Primitives, "derive" | "equal">,
): AdminDesk {
  const tokens = adminTokens(secrets, primitives)
  return async (authorization, body) => {
    let allowed = false
    // Tries every one whatever comes: the time tells nothing of which one fits.
    for (const token of tokens) allowed = primitives.equal(`Bearer ${token}`, authorization ?? "") || allowed
    if (!allowed) return { status: 401, body: { error: "the bearer token is not the one of this mesh's secret" } }
    const asked = parsed(body)
    if (!asked) return { status: 400, body: { error: 'send {"pop": the destroyed POP, "heir": who takes its place}' } }
    try {
      return { status: 200, body: await node.forget(asked.pop, asked.heir) }
    } catch (error) {
      if (!(error instanceof SojournError)) throw error
      return { status: error.retry === "never" ? 400 : 503, body: { error: error.message, code: error.code } }
    }
  }
}

function parsed(body: string): { pop: string; heir: string } | undefined {
  try {
    const { pop, heir } = JSON.parse(body) as Record<string, unknown>
    return typeof pop === "string" && typeof heir === "string" ? { pop, heir } : undefined
  } catch {
    return undefined
  }
}
