/** A line of the table, and of the JSON: what was measured, then its figures. */
export type Row = Readonly<Record<string, string | number>>

/** Rows under their fields' names: text to the left, numbers to the right. */
export function table(rows: readonly Row[]): string {
  const names = Object.keys(rows[0] ?? {})
  const columns = names.map((name) => {
    const cells = rows.map((row) => String(row[name] ?? ""))
    const width = Math.max(name.length, ...cells.map((cell) => cell.length))
    const isText = rows.some((row) => typeof row[name] === "string")
    return [name, ...cells].map((cell) => (isText ? cell.padEnd(width) : cell.padStart(width)))
  })
  return Array.from({ length: rows.length + 1 }, (_, i) => columns.map((column) => column[i]).join("  ")).join("\n")
}
