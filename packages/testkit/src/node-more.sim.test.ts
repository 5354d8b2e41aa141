import { test } from "node:test"
import { survive } from "./sim/survive.ts"

test("C19, C20, C24, C41: the same for seeds 101 to 200", (t) => survive(t, 101, 100))
