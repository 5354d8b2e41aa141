/** What an author's code returns may be a promise of another library, or of another realm: `await` takes those as well. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function"
}
