// Runs the browser tests: every *.test.mjs of this folder.
//
//   node tests/browser/run.mjs [FILTER]
//
// Needs a built page (web/setup, then trunk build in web/), Chromium in PATH, and the native programs that the tests hold
// the page against: POTSTILL and POTSTILL_WORKER name them, else they are looked for in cargo's target folder.
import { readdirSync } from "node:fs";
import { runTests } from "./harness.mjs";

for (const file of readdirSync(new URL(".", import.meta.url)).sort())
  if (file.endsWith(".test.mjs")) await import(`./${file}`);
process.exit((await runTests(process.argv[2])) ? 0 : 1);
