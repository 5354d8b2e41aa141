// A node:test reporter that leaves one JSON object for scripts/test.mjs: what ran, and what ran nothing.
//
// node:test counts a file that registers no test as one passed test; the caller sees through that with the names of the
// files that have a summary of their own (`filesWithTests`) or failed as a whole (`filesFailed`).

export default async function* counts(events) {
  const filesWithTests = []
  const filesFailed = []
  let total
  for await (const { type, data } of events) {
    if (type === "test:fail" && data.nesting === 0 && data.file !== undefined) filesFailed.push(data.file)
    if (type !== "test:summary") continue
    if (data.file === undefined) total = data.counts
    else filesWithTests.push(data.file)
  }
  if (total !== undefined) yield JSON.stringify({ total, filesWithTests, filesFailed })
}
