// The last step of a build: tells the worker's loader how large its program is, and lists what a visit without a network needs.
//
//   node finish.mjs FOLDER
//
// trunk calls it as a hook, with the folder in TRUNK_STAGING_DIR.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";

const folder = process.argv[2] ?? process.env.TRUNK_STAGING_DIR;
if (!folder) {
  console.error("finish.mjs: no folder given; run: node finish.mjs FOLDER");
  process.exit(2);
}

// trunk leaves the line that asked it for the page's program.
const page = join(folder, "index.html");
writeFileSync(page, readFileSync(page, "utf8").replace(/<link data-trunk[^>]*>\n/g, ""));

const files = readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name)).split(sep).join("/"))
  .filter((name) => name !== "sw.js" && name !== "precache.js")
  .sort();
const digest = createHash("sha256");
for (const name of files) digest.update(name).update("\0").update(readFileSync(join(folder, name)));

// Networks and samples are megabytes that not every visit needs; their list and the default run's teacher are.
const manifest = JSON.parse(readFileSync(join(folder, "weights", "manifest.json"), "utf8"));
const always = (name) =>
  !(name.startsWith("weights/") || name.startsWith("samples/")) || name === "weights/manifest.json" || name === manifest.teacher;
const version = digest.digest("hex").slice(0, 16);
const loader = join(folder, "worker-loader.js");
const build = `const build = { bytes: ${statSync(join(folder, "worker_bg.wasm")).size}, version: "${version}" };`;
writeFileSync(loader, readFileSync(loader, "utf8").replace(/^const build = .*$/m, build));
const precache = { version, files: ["./", ...files.filter(always)] };
writeFileSync(join(folder, "precache.js"), `self.precache = ${JSON.stringify(precache, null, 1)};\n`);
