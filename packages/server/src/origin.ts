/**
 * Which pages may open a connection. A browser names its page in `Origin` and lets no page change it; other programs send none, and could
 * send any, so this protects a browser's user from foreign pages and nothing else.
 */
export interface OriginPolicy {
  /** Allowed besides the same origin: `https://app.example.com`; `*`: every one. */
  readonly origins: readonly string[] | "*"
  /** Where clients reach this POP, if it is not what `Host` says. */
  readonly publicUrl: string | undefined
  /** Pages on this machine, whatever their port. */
  readonly loopback: boolean
}

const loopbackHost = /^(localhost|.+\.localhost|127(\.\d{1,3}){3}|\[::1\])$/

function parse(url: string): URL | undefined {
  return URL.canParse(url) ? new URL(url) : undefined
}

/** `host`: the request's Host header. Scheme is not compared: a proxy in front may have ended TLS. */
export function originAllowed(origin: string | undefined, host: string | undefined, policy: OriginPolicy): boolean {
  if (origin === undefined || policy.origins === "*") return true
  const page = parse(origin)
  if (page === undefined || page.host === "") return false
  if (host !== undefined && page.host === parse(`${page.protocol}//${host}`)?.host) return true
  if (policy.publicUrl !== undefined && page.host === parse(policy.publicUrl)?.host) return true
  if (policy.loopback && loopbackHost.test(page.hostname)) return true
  return policy.origins.some((allowed) => parse(allowed)?.origin === page.origin)
}
