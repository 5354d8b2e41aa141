// Writes docs/errors.md and docs/limits.md from the tables in the code:
//
//   npx node --conditions=sojourn-source scripts/docs.ts
//
// test/docs.test.ts fails while the files are not what this writes.

import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { CLOSE_CODES, ERRORS, reconnects } from "@sojourn/protocol"
import { format } from "prettier"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))

/** A limit as its source file declares it. One comment may stand above several of them. */
interface Limit {
  readonly name: string
  readonly value: string
  readonly comment: string
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")
}

/** The properties of the object that the file declares under this name, in their order. */
function limitsIn(path: string, constant: string): readonly Limit[] {
  const source = readFileSync(join(root, path), "utf8")
  const tree = ts.createSourceFile(path, source, ts.ScriptTarget.Latest, true)
  const found: Limit[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && node.name.getText() === constant && node.initializer) {
      const literal = ts.isAsExpression(node.initializer) ? node.initializer.expression : node.initializer
      if (!ts.isObjectLiteralExpression(literal)) throw new Error(`${path}: ${constant} is no object literal`)
      for (const property of literal.properties) {
        if (!ts.isPropertyAssignment(property)) throw new Error(`${path}: ${constant} has a part that is no property`)
        const [range] = ts.getLeadingCommentRanges(source, property.getFullStart()) ?? []
        found.push({
          name: property.name.getText(),
          value: property.initializer.getText().replaceAll("_", ","),
          comment: range === undefined ? "" : plain(source.slice(range.pos, range.end)),
        })
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  if (found.length === 0) throw new Error(`${path}: no ${constant} was found`)
  return found
}

function plain(comment: string): string {
  return comment
    .replace(/^\/\*\*?|\*\/$/g, "")
    .replace(/\n\s*\*/g, " ")
    .replace(/\s+/g, " ")
    .trim()
}

/** Limits under one comment share a row: the comment speaks of all of them. */
function limitRows(limits: readonly Limit[]): readonly (readonly string[])[] {
  const rows: { names: string[]; values: string[]; comment: string }[] = []
  for (const { name, value, comment } of limits) {
    const last = rows[rows.length - 1]
    if (comment === "" && last !== undefined) {
      last.names.push(`\`${name}\``)
      last.values.push(value)
    } else rows.push({ names: [`\`${name}\``], values: [value], comment })
  }
  return rows.map(({ names, values, comment }) => [names.join("<br>"), values.join("<br>"), comment])
}

const made = "Made by `scripts/docs.ts` from the code; edit there."

const retryMeans: Record<string, string> = {
  never: "making the same request again does not help; mend it first",
  later: "wait (`retryAfterMs`, else back off), then ask at the same place",
  elsewhere: "attach again at once: the actor, or its activation, is at another place",
}
const outcomeMeans: Record<string, string> = {
  "not-executed": "the request had no effect",
  unknown: "it may have had its effect, or may still have it",
  executed: "it had its effect",
}

function errorsText(): string {
  const codes = Object.entries(ERRORS).map(([code, [retry, outcome, text]]) => [`\`${code}\``, retry, outcome, text])
  const closes = Object.entries(CLOSE_CODES).map(([name, [code, error]]) => [
    String(code),
    `\`${name}\``,
    `\`${error}\``,
    reconnects(code) ? "connects again" : "stops",
  ])
  const words = (means: Record<string, string>): string =>
    table(
      ["value", "meaning"],
      Object.entries(means).map(([value, meaning]) => [`\`${value}\``, meaning]),
    )
  return `# Errors

${made} The tables are \`packages/protocol/src/error-texts.ts\` and \`packages/protocol/src/close-codes.ts\`.

Every error that Sojourn reports is a \`SojournError\` with a \`code\` from the first table. The code is stable; the message
says what failed with which values. \`retry\` and \`outcome\` are defaults: one occurrence may know better, and then its own
\`retry\` and \`outcome\` say so. What an author's action refuses by throwing an \`ActorError\` arrives as \`ACTOR_ERROR\`, with
the author's own code in \`ref\`, and the author's message and \`data\`. Whatever else an action throws arrives as \`INTERNAL\`
with an id in \`ref\` that finds it in the server's log. Wrong options are \`BAD_CONFIG\` where a POP or client is
made, and \`TypeError\` or \`RangeError\` elsewhere.

## Codes

${table(["code", "retry", "outcome", "meaning"], codes)}

## What retry says

${words(retryMeans)}

## What outcome says

${words(outcomeMeans)}

## Close codes

A WebSocket close code tells a client what to do. 4000 to 4499: connect again. 4500 to 4999: stop. A client judges a code
that it does not know by that range alone, and reads every code below 4000 (RFC 6455's own) as the network's: connect again.

${table(["code", "name", "as an error", "the client"], closes)}
`
}

function limitsText(): string {
  const head = ["limit", "default", "what it bounds"]
  return `# Limits

${made} The numbers are in \`packages/core/src/limits.ts\`, \`packages/client/src/limits.ts\` and
\`packages/protocol/src/frames.ts\`.

Everything has a bound, the unit is last in the name, and reaching a bound is a named error ([errors.md](errors.md)). Limits
that share a row share its sentence.

## Of a POP node

\`createPop({ limits: { … } })\` takes any of them. A value that is not a finite number above 0 (a whole one, unless it is a time), or that
contradicts another limit, is refused at start with \`BAD_CONFIG\` naming it.

${table(head, limitRows(limitsIn("packages/core/src/limits.ts", "defaultLimits")))}

## Of a client

\`createClient({ limits: { … } })\` takes any of them. A wrong value is a \`RangeError\` naming it.

${table(head, limitRows(limitsIn("packages/client/src/limits.ts", "defaultLimits")))}

## Of the protocol

The same for everyone who speaks \`sojourn.v1\`; not to be changed.

${table(["limit", "value", "what it bounds"], limitRows(limitsIn("packages/protocol/src/frames.ts", "frameLimits")))}
`
}

/** The generated documents by path, as they must be. */
export async function generatedDocuments(): Promise<ReadonlyMap<string, string>> {
  const texts = { "docs/errors.md": errorsText(), "docs/limits.md": limitsText() }
  const settings = JSON.parse(readFileSync(join(root, ".prettierrc.json"), "utf8")) as object
  const documents = new Map<string, string>()
  for (const [path, text] of Object.entries(texts))
    documents.set(path, await format(text, { ...settings, parser: "markdown" }))
  return documents
}

if (import.meta.main)
  for (const [path, text] of await generatedDocuments()) {
    writeFileSync(join(root, path), text)
    console.log(`wrote ${path}`)
  }
