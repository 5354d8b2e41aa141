// `npm run build`: every package's dist, in the order of their dependencies. Works offline and without git; turbo's
// telemetry and update check are off.
import { join } from "node:path"
import { bootstrap, root } from "./bootstrap.mjs"
import { runChild } from "./child.mjs"
import { reportSetupErrors } from "./program.mjs"

await reportSetupErrors(async () => {
  await bootstrap()
  const env = { ...process.env, TURBO_TELEMETRY_DISABLED: "1", TURBO_NO_UPDATE_NOTIFIER: "1" }
  const turbo = join(root, "node_modules", "turbo", "bin", "turbo")
  const result = await runChild(process.execPath, [turbo, "run", "build", ...process.argv.slice(2)], { cwd: root, env })
  process.exitCode = result.code
})
