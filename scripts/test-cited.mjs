// A node:test reporter that leaves one JSON line for each test that cites a behaviour (`C12` in its name or a suite's around it), and one for
// each that failed, cited or not: {"numbers", "name", "file", "ok"}.

export default async function* cited(events) {
  const around = []
  for await (const { type, data } of events) {
    if (type === "test:start") {
      around.length = data.nesting
      around[data.nesting] = data.name
      continue
    }
    if (type !== "test:pass" && type !== "test:fail") continue
    if (data.details?.type === "suite" || data.skip !== undefined || data.todo !== undefined) continue
    const names = [...around.slice(0, data.nesting), data.name]
    const numbers = [...new Set(names.flatMap((name) => name?.match(/\bC[1-9]\d*\b/g) ?? []))]
    const ok = type === "test:pass"
    // A file that could not run is reported as a test of its own name.
    if (numbers.length > 0 || !ok)
      yield `${JSON.stringify({ numbers, name: data.name, file: data.file ?? data.name, ok })}\n`
  }
}
